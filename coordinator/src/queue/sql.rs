//! All SQL there is, beside `migrations/`. A second store means a second file like this one.

/// What a connection is set to. `synchronous=FULL` flushes the WAL at every commit: what was acknowledged is on
/// disk.
pub(super) const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
    PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -65536; \
    PRAGMA temp_store = MEMORY;";
/// For the connections that only read.
pub(super) const READER: &str = "PRAGMA query_only = ON; PRAGMA cache_size = -16384;";

/// Numbered from 1; never changed once released.
pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("../../migrations/0001.sql"), include_str!("../../migrations/0002.sql")];

pub(super) const SAVEPOINT: &str = "SAVEPOINT operation";
pub(super) const RELEASE: &str = "RELEASE operation";
pub(super) const UNDO: &str = "ROLLBACK TO operation; RELEASE operation";

/// The columns of a row, 23 of them.
macro_rules! row_columns {
    () => {
        "n, id, queue, agent, max_attempts, timeout_s, attempt, serial, state, reason, worker, base_commit, \
         started_at, request, due, cancelling, finished_at, since, not_before, approval, orders, events, \
         tasks.sum"
    };
}

/// The columns of what never changes, 11 of them.
macro_rules! made_columns {
    () => {
        "id, submitted, principal, base_requested, priority, rank, budget, created_at, unique_key, retry_of, \
         made_sum"
    };
}

macro_rules! row {
    ($rest:literal) => {
        concat!("SELECT ", row_columns!(), " FROM tasks ", $rest)
    };
}

pub(super) const ROW: &str = row!("WHERE id = ?1");
pub(super) const ROW_OF_REQUEST: &str =
    row!("WHERE worker = ?2 AND state IN ('leased', 'running') AND request = ?1");
pub(super) const NEXT_READY: &str =
    row!("WHERE queue = ?1 AND state = 'ready' AND (due IS NULL OR due <= ?2) ORDER BY rank, n LIMIT 1");
pub(super) const READY_IDS: &str = "SELECT id FROM tasks WHERE queue = ?1 AND state = 'ready' \
    AND (due IS NULL OR due <= ?2) ORDER BY rank, n LIMIT 1000";
pub(super) const LIVE: &str = row!("WHERE state IN ('leased', 'running')");
pub(super) const LIVE_OF_WORKER: &str = row!("WHERE worker = ?1 AND state IN ('leased', 'running')");
pub(super) const DUE: &str =
    "SELECT id FROM tasks WHERE state = 'scheduled' AND due <= ?1 ORDER BY due LIMIT 1000";
pub(super) const DUE_AFTER: &str = "SELECT id FROM tasks WHERE state = 'scheduled' AND due > ?1 AND attempt > 0 \
    UNION ALL SELECT id FROM tasks WHERE state = 'ready' AND due > ?1";
pub(super) const HELD: &str =
    row!("WHERE queue = ?1 AND state = 'held' AND base_commit IS NULL ORDER BY n LIMIT 1000");
pub(super) const HELD_QUEUES: &str =
    "SELECT DISTINCT queue FROM tasks WHERE state = 'held' AND base_commit IS NULL";

/// Guarded: repeats the state, the attempt and the serial that the rules were asked about.
pub(super) const STEP: &str = "UPDATE tasks SET state = ?1, reason = ?2, attempt = ?3, serial = ?4, \
    worker = ?5, base_commit = ?6, started_at = ?7, request = ?8, due = ?9, cancelling = ?10, finished_at = ?11, \
    since = ?12, approval = ?13, orders = ?14, events = ?15, sum = ?16 \
    WHERE n = ?17 AND state = ?18 AND attempt = ?19 AND serial = ?20 AND orders = ?21 AND events = ?22";
pub(super) const EVENT: &str =
    "INSERT INTO events (task, n, at, attempt, state, reason, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const EVENTS: &str = "SELECT n, at, attempt, state, reason, task, sum FROM events \
    WHERE task = ?1 AND n > ?2 AND n <= ?3 ORDER BY n";
pub(super) const EVENT_COUNT: &str = "SELECT COALESCE(MAX(n), 0) FROM events WHERE task = ?1";

pub(super) const MADE: &str = concat!("SELECT ", made_columns!(), " FROM tasks WHERE id = ?1");
pub(super) const INSERT_TASK: &str = "INSERT INTO tasks (id, queue, submitted, principal, agent, \
    base_requested, base_commit, priority, rank, max_attempts, timeout_s, budget, created_at, state, \
    reason, due, not_before, unique_key, approval, retry_of, since, sum, made_sum, events, attempt, serial, \
    cancelling) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?13, ?21, \
    ?22, 1, 0, ?13, 0)";
pub(super) const SEAL_ROW: &str = "UPDATE tasks SET sum = ?2 WHERE n = ?1";
pub(super) const SEAL_MADE: &str = "UPDATE tasks SET made_sum = ?2, usage_sum = ?3 WHERE n = ?1";
pub(super) const KEY_HOLDER: &str =
    "SELECT id FROM tasks WHERE queue = ?1 AND unique_key = ?2 AND finished_at IS NULL";
pub(super) const KEEP_ORDER: &str =
    "INSERT INTO orders (task, seq, at, message, body, sum) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const ORDERS: &str = "SELECT seq, body, orders.sum FROM orders JOIN tasks ON tasks.n = orders.task \
    WHERE id = ?1 AND seq > ?2 ORDER BY seq LIMIT 20";
pub(super) const ORDER_OF_MESSAGE: &str = "SELECT seq FROM orders WHERE task = ?1 AND message = ?2";

/// No row: there is no such queue.
pub(super) const QUEUE_CONTROL: &str = "SELECT queues.mode, queues.max_running FROM repos \
    LEFT JOIN queues ON queues.name = repos.name WHERE repos.name = ?1";
pub(super) const SET_QUEUE: &str =
    "INSERT OR REPLACE INTO queues (name, mode, max_running) VALUES (?1, ?2, ?3)";
pub(super) const FORGET_QUEUE: &str = "DELETE FROM queues WHERE name = ?1";
pub(super) const LIVE_COUNT: &str = "SELECT COUNT(*) FROM tasks WHERE state IN ('leased', 'running')";
pub(super) const LIVE_COUNT_OF_QUEUE: &str =
    "SELECT COUNT(*) FROM tasks WHERE state IN ('leased', 'running') AND queue = ?1";
pub(super) const QUEUES: &str = "SELECT repos.name, queues.mode, queues.max_running FROM repos \
    LEFT JOIN queues ON queues.name = repos.name ORDER BY repos.name";
/// Each state on its own, as a literal, so that its partial index applies.
pub(super) const DEPTHS: &str = "SELECT queue, state, COUNT(*) FROM tasks WHERE state = 'held' GROUP BY queue \
    UNION ALL SELECT queue, state, COUNT(*) FROM tasks WHERE state = 'ready' GROUP BY queue \
    UNION ALL SELECT queue, state, COUNT(*) FROM tasks WHERE state = 'scheduled' GROUP BY queue \
    UNION ALL SELECT queue, state, COUNT(*) FROM tasks WHERE state IN ('leased', 'running') \
    GROUP BY queue, state";
pub(super) const INSERT_BODY: &str = "INSERT INTO bodies (task, work, sum) VALUES (?1, ?2, ?3)";
pub(super) const BODY: &str = "SELECT work, sum FROM bodies WHERE task = ?1";

pub(super) const COMMIT_MARK: &str = "UPDATE mark SET commits = commits + 1 RETURNING commits";
pub(super) const MARK: &str = "SELECT commits FROM mark";
/// Damage of the file's structure and of its indexes; the content of rows has its own checksums.
pub(super) const CHECK: &str = "PRAGMA integrity_check(1)";

pub(super) const ALL_ROWS: &str = row!("WHERE n > ?1 ORDER BY n LIMIT 1000");
pub(super) const UNSEALED_EVENTS: &str =
    "SELECT task, n, at, attempt, state, reason FROM events WHERE task = ?1";
pub(super) const SEAL_EVENT: &str = "UPDATE events SET sum = ?3 WHERE task = ?1 AND n = ?2";
pub(super) const SEAL_BODY: &str = "UPDATE bodies SET sum = ?2 WHERE task = ?1";
pub(super) const UNSEALED_ORDERS: &str = "SELECT seq, body FROM orders WHERE task = ?1";
pub(super) const SEAL_ORDER: &str = "UPDATE orders SET sum = ?3 WHERE task = ?1 AND seq = ?2";

/// The columns of the row, of what never changes, of the body, and of the usage.
macro_rules! task {
    ($rest:literal) => {
        concat!(
            "SELECT ",
            row_columns!(),
            ", ",
            made_columns!(),
            ", work, bodies.sum, usage, usage_sum FROM tasks JOIN bodies ON bodies.task = tasks.n ",
            $rest
        )
    };
}

pub(super) const TASK: &str = task!("WHERE id = ?1");
/// Followed by conditions, and by [`PAGE_END`]. A state stands in them as a literal, so that the partial
/// indexes apply.
pub(super) const PAGE: &str = task!("WHERE n < ?1");
pub(super) const PAGE_QUEUE: &str = " AND queue = ?2";
pub(super) const PAGE_END: &str = " ORDER BY n DESC LIMIT ?3";

pub(super) const REPORT: &str = "SELECT body, hash FROM reports WHERE task = ?1 AND attempt = ?2 \
    AND answer IS NOT NULL ORDER BY n DESC LIMIT 1";
pub(super) const ANSWERED: &str =
    "SELECT answer FROM reports WHERE task = ?1 AND attempt = ?2 AND serial = ?3 AND hash = ?4";
pub(super) const KEEP_REPORT: &str = "INSERT OR IGNORE INTO reports \
    (task, attempt, serial, hash, at, answer, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const EVIDENCE_COUNT: &str = "SELECT COUNT(*) FROM reports WHERE task = ?1 AND answer IS NULL";

pub(super) const UPLOAD: &str =
    "SELECT size, sha256 FROM uploads WHERE task = ?1 AND attempt = ?2 AND name = ?3";
pub(super) const UPLOADED: &str =
    "SELECT COUNT(*), COALESCE(SUM(size), 0) FROM uploads WHERE task = ?1 AND attempt = ?2 AND name <> ?3";
pub(super) const KEEP_UPLOAD: &str =
    "INSERT OR REPLACE INTO uploads (task, attempt, name, size, sha256) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const UPLOADS_OF_ENDED: &str = "SELECT DISTINCT tasks.id FROM uploads \
    JOIN tasks ON tasks.n = uploads.task WHERE tasks.finished_at IS NOT NULL LIMIT 1000";
pub(super) const FORGET_UPLOADS: &str =
    "DELETE FROM uploads WHERE task = (SELECT n FROM tasks WHERE id = ?1 AND finished_at IS NOT NULL)";

/// Another task may wait to start from its result.
macro_rules! unwanted {
    ($rest:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM tasks AS waiting WHERE waiting.state = 'held' \
             AND replace(waiting.base_requested, '%2E', '.') = 'code-workers/' || tasks.id) ",
            $rest
        )
    };
}

pub(super) const ENDED_BETWEEN: &str = concat!(
    "SELECT finished_at, n, id FROM tasks WHERE finished_at IS NOT NULL AND (finished_at, n) > (?1, ?2) \
     AND finished_at <= ?3 AND ",
    unwanted!("ORDER BY finished_at, n LIMIT 500")
);
pub(super) const SWEPT: &str = "SELECT upto FROM swept WHERE kind = ?1";
pub(super) const SET_SWEPT: &str = "INSERT OR REPLACE INTO swept (kind, upto) VALUES (?1, ?2)";
pub(super) const FORGETTABLE: &str = concat!(
    "SELECT id FROM tasks WHERE finished_at <= ?1 \
     AND NOT EXISTS (SELECT 1 FROM uploads WHERE uploads.task = tasks.n) \
     AND NOT EXISTS (SELECT 1 FROM keys WHERE keys.task = tasks.n) AND ",
    unwanted!("LIMIT 200")
);
pub(super) const ENDED: &str = "SELECT n FROM tasks WHERE id = ?1 AND finished_at IS NOT NULL";
/// Each takes the task's number.
pub(super) const FORGET: [&str; 5] = [
    "DELETE FROM bodies WHERE task = ?1",
    "DELETE FROM events WHERE task = ?1",
    "DELETE FROM orders WHERE task = ?1",
    "DELETE FROM reports WHERE task = ?1",
    "DELETE FROM tasks WHERE n = ?1",
];
pub(super) const FORGET_WORKERS: &str = "DELETE FROM workers WHERE ended_at <= ?1";

pub(super) const KEEP_KEY: &str = "INSERT OR IGNORE INTO keys (task, attempt) VALUES (?1, ?2)";
pub(super) const KEYS_OF_ENDED: &str = "SELECT tasks.id, keys.attempt FROM keys \
    JOIN tasks ON tasks.n = keys.task WHERE NOT (tasks.state = 'running' AND tasks.attempt = keys.attempt) \
    LIMIT 1000";
pub(super) const FORGET_KEY: &str = "DELETE FROM keys WHERE task = ?1 AND attempt = ?2";
pub(super) const USAGE: &str = "SELECT usage, usage_sum FROM tasks WHERE n = ?1";
pub(super) const SET_USAGE: &str = "UPDATE tasks SET usage = ?2, usage_sum = ?3 WHERE n = ?1";

pub(super) const REPO: &str = "SELECT name, source, shown, created_at FROM repos WHERE name = ?1";
pub(super) const REPOS: &str = "SELECT name, source, shown, created_at FROM repos ORDER BY name";
pub(super) const ADD_REPO: &str =
    "INSERT INTO repos (name, source, shown, created_at) VALUES (?1, ?2, ?3, ?4)";
pub(super) const REMOVE_REPO: &str = "DELETE FROM repos WHERE name = ?1";
pub(super) const FORGET_COMMITS: &str = "DELETE FROM commits WHERE queue = ?1";
pub(super) const UNFINISHED: &str =
    "SELECT id FROM tasks WHERE queue = ?1 AND finished_at IS NULL ORDER BY n DESC LIMIT 1";
pub(super) const KNOWN_COMMIT: &str = "SELECT 1 FROM commits WHERE queue = ?1 AND commit_id = ?2";
pub(super) const KEEP_COMMIT: &str = "INSERT OR IGNORE INTO commits (queue, commit_id) VALUES (?1, ?2)";

pub(super) const WORKER: &str = "SELECT queue, ended_at FROM workers WHERE id = ?1";
pub(super) const ADD_WORKER: &str =
    "INSERT INTO workers (id, queue, name, created_at) VALUES (?1, ?2, ?3, ?4)";
pub(super) const END_WORKER: &str =
    "UPDATE workers SET ended_at = ?2, exit_code = ?3, reason = ?4 WHERE id = ?1 AND ended_at IS NULL";
