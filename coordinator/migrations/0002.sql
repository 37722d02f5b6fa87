-- Owners' orders, approval, times, unique keys, queues that pause and drain, retention.

ALTER TABLE tasks ADD COLUMN since      INTEGER NOT NULL DEFAULT 0;  -- when it came into its state
ALTER TABLE tasks ADD COLUMN not_before INTEGER;                     -- as its sender asked
ALTER TABLE tasks ADD COLUMN unique_key TEXT;
ALTER TABLE tasks ADD COLUMN approval   TEXT;                        -- NULL: not asked for; awaited; given
ALTER TABLE tasks ADD COLUMN orders     INTEGER NOT NULL DEFAULT 0;  -- how many it has had
ALTER TABLE tasks ADD COLUMN events     INTEGER NOT NULL DEFAULT 0;  -- how many there are: the next one's number

UPDATE tasks SET since = COALESCE((SELECT MAX(at) FROM events WHERE events.task = tasks.n), created_at),
    events = (SELECT COUNT(*) FROM events WHERE events.task = tasks.n);

-- A worker has one lease at most: it is found by its worker.
DROP INDEX tasks_request;

-- tasks.serial counts on from the millisecond of acceptance from now on, so that an id that is used again, after its
-- first task was forgotten, brings other tokens.

-- Checksums: SQLite keeps none. Those of rows that are there are written by the program, after this file.
ALTER TABLE tasks  ADD COLUMN sum       INTEGER NOT NULL DEFAULT 0;  -- of what the rules decide by
ALTER TABLE tasks  ADD COLUMN made_sum  INTEGER NOT NULL DEFAULT 0;  -- of what never changes
ALTER TABLE tasks  ADD COLUMN usage_sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bodies ADD COLUMN sum       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN sum       INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks  DROP COLUMN branch;                               -- follows from the id

-- How many commits there were; `coordinator.mark` beside the database says how many there must be.
CREATE TABLE mark (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    commits INTEGER NOT NULL
) STRICT;
INSERT INTO mark VALUES (1, 0);

CREATE UNIQUE INDEX tasks_unique ON tasks (queue, unique_key) WHERE unique_key IS NOT NULL AND finished_at IS NULL;
CREATE INDEX tasks_finished      ON tasks (finished_at) WHERE finished_at IS NOT NULL;

-- What running tasks were told, from 1, without gaps. Kept for the attempts to come.
CREATE TABLE orders (
    task    INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    message TEXT,                        -- the sender's id of a message: the same one is one order
    body    TEXT NOT NULL,
    sum     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (task, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX orders_message ON orders (task, message) WHERE message IS NOT NULL;

INSERT INTO orders (task, seq, at, body)
    SELECT n, 1, since, '{"kind":"cancel","grace_s":10}' FROM tasks WHERE cancelling = 1;
UPDATE tasks SET orders = 1 WHERE cancelling = 1;

-- What owners have changed about queues; one that has no row is open and has no limit.
CREATE TABLE queues (
    name        TEXT PRIMARY KEY,
    mode        TEXT NOT NULL,
    max_running INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Up to which end of a task the files of this kind are removed.
CREATE TABLE swept (
    kind TEXT PRIMARY KEY,
    upto INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
