-- Times are milliseconds since 1970, money nano-dollars. What can be derived is not stored.

CREATE TABLE repos (
    name       TEXT PRIMARY KEY,
    source     TEXT NOT NULL,            -- as git takes it, perhaps with a credential
    shown      TEXT NOT NULL,            -- as people may see it
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Commits that a mirror is known to have: a task on one of them needs no git process.
CREATE TABLE commits (
    queue      TEXT NOT NULL,
    commit_id  TEXT NOT NULL,
    PRIMARY KEY (queue, commit_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE workers (
    id         TEXT PRIMARY KEY,
    queue      TEXT NOT NULL,
    name       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    ended_at   INTEGER,
    exit_code  INTEGER,
    reason     TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    n              INTEGER PRIMARY KEY,  -- the order of acceptance
    id             TEXT NOT NULL UNIQUE,
    queue          TEXT NOT NULL,
    submitted      BLOB NOT NULL,        -- SHA-256 of what was sent: the same id with the same body is one task
    principal      TEXT NOT NULL,
    agent          INTEGER NOT NULL,     -- 1: needs a virtual key
    base_requested TEXT,
    base_commit    TEXT,
    branch         TEXT NOT NULL,
    priority       TEXT NOT NULL,
    rank           INTEGER NOT NULL,     -- created_at, moved by the priority: lower is earlier
    max_attempts   INTEGER NOT NULL,
    timeout_s      INTEGER NOT NULL,
    budget         INTEGER,
    retry_of       TEXT,
    created_at     INTEGER NOT NULL,
    state          TEXT NOT NULL,
    reason         TEXT,
    attempt        INTEGER NOT NULL,
    serial         INTEGER NOT NULL,     -- leases so far; with the attempt it makes the lease's token
    worker         TEXT,
    request        TEXT,                 -- the lease request that is answered by the standing lease
    due            INTEGER,              -- scheduled, ready: not before; leased: start before; running: end before
    cancelling     INTEGER NOT NULL,
    started_at     INTEGER,
    finished_at    INTEGER,
    usage          TEXT                  -- the gateway's ledger, as JSON
) STRICT;

CREATE INDEX tasks_of_queue ON tasks (queue);
CREATE INDEX tasks_ready    ON tasks (queue, rank, n) WHERE state = 'ready';
CREATE INDEX tasks_due      ON tasks (due) WHERE state = 'scheduled';
CREATE INDEX tasks_held     ON tasks (queue) WHERE state = 'held';
CREATE INDEX tasks_live     ON tasks (worker) WHERE state IN ('leased', 'running');
CREATE INDEX tasks_request  ON tasks (request) WHERE request IS NOT NULL;
CREATE INDEX tasks_unwell   ON tasks (state) WHERE state IN ('failed', 'timed_out', 'cancelled', 'lost');

-- Apart from the row that every step rewrites, since a prompt may be long.
CREATE TABLE bodies (
    task INTEGER PRIMARY KEY,
    work TEXT NOT NULL
) STRICT;

-- Lifecycle events. Agent output is in files, never here.
CREATE TABLE events (
    task    INTEGER NOT NULL,
    n       INTEGER NOT NULL,            -- from 1, without gaps
    at      INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    state   TEXT NOT NULL,
    reason  TEXT,
    PRIMARY KEY (task, n)
) STRICT, WITHOUT ROWID;

-- Every report that came with a genuine lease. `answer` is the state that it was answered with; NULL: the
-- lease was lost, the report changed nothing, and is kept as evidence.
CREATE TABLE reports (
    n       INTEGER PRIMARY KEY,
    task    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    serial  INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    at      INTEGER NOT NULL,
    answer  TEXT,
    body    TEXT NOT NULL,
    UNIQUE (task, attempt, serial, hash)
) STRICT;

-- Artifacts that were uploaded and are not yet in their final place.
CREATE TABLE uploads (
    task    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    name    TEXT NOT NULL,
    size    INTEGER NOT NULL,
    sha256  TEXT NOT NULL,
    PRIMARY KEY (task, attempt, name)
) STRICT, WITHOUT ROWID;

-- Attempts that got a virtual key which is not yet revoked and accounted for.
CREATE TABLE keys (
    task    INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    PRIMARY KEY (task, attempt)
) STRICT, WITHOUT ROWID;
