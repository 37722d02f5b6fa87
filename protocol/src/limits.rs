//! Every limit on the wire, as a number with a name. Bytes, seconds or counts, as each line says.

use std::time::Duration;

/// The version that a worker names in [`crate::headers::PROTOCOL`].
pub const PROTOCOL_VERSION: u32 = 1;

/// Bytes of a JSON body on any route but an artifact's.
pub const BODY_BYTES: usize = 4 * 1024 * 1024;
/// Tasks in one `POST /tasks`.
pub const TASKS_PER_REQUEST: usize = 1_000;
/// Bytes of a prompt: one argument of a program ends at 131,071, inside gVisor too.
pub const PROMPT_BYTES: usize = 120 * 1024;
/// Bytes of the whole argument vector of an `exec` task.
pub const ARGV_BYTES: usize = 120 * 1024;
/// Entries of the argument vector of an `exec` task.
pub const ARGV_ENTRIES: usize = 1_024;
/// Characters of a task's id.
pub const TASK_ID_CHARS: usize = 128;
/// Characters of the name of a queue, a repository, an agent or a worker.
pub const NAME_CHARS: usize = 64;
/// Characters of a model's name or of a base.
pub const REFERENCE_CHARS: usize = 256;
/// Bytes of one artifact.
pub const ARTIFACT_BYTES: u64 = 256 * 1024 * 1024;
/// Bytes of all artifacts of one task.
pub const TASK_ARTIFACT_BYTES: u64 = 1024 * 1024 * 1024;
/// Artifacts of one task.
pub const TASK_ARTIFACTS: usize = 100;
/// Bytes of bundles of bases that the coordinator keeps, for workers that ask for the same one later.
pub const BASES_KEPT_BYTES: u64 = 1024 * 1024 * 1024;
/// Bytes of an attempt's log, unless its launcher says otherwise; the rest is dropped, and said so.
pub const LOG_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of agent output kept on a task's event stream; of more, the middle is dropped, and said so.
pub const TASK_OUTPUT_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of an attempt's events that wait in the outbox for the coordinator; of more, the middle is dropped, and said
/// so.
pub const UNSENT_EVENTS_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of one line of agent output; the rest of a longer one is dropped, and said so.
pub const OUTPUT_LINE_BYTES: usize = 256 * 1024;
/// Events in one `POST /tasks/{id}/events`.
pub const EVENTS_PER_REQUEST: usize = 1_000;
/// Bytes of the log's end that travels in a result.
pub const LOG_TAIL_BYTES: usize = 16 * 1024;
/// Bytes of the agent's last words in a result.
pub const MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of a result's reason.
pub const REASON_BYTES: usize = 2 * 1024;
/// Hex digits of a result's head: a SHA-256 in the longest repositories' ids.
pub const HEAD_CHARS: usize = 64;
/// Stages in a result; a name of one has at most [`NAME_CHARS`].
pub const STAGES: usize = 32;
/// Bytes of all headers of one request.
pub const HEADER_BYTES: usize = 32 * 1024;
/// Long-polls that may wait at once.
pub const WAITERS: usize = 16_384;
/// Messages that one task takes.
pub const TASK_MESSAGES: u64 = 100;
/// Bytes of the coordinator's disk that are left for what is under way, or a twentieth of a small disk: below it no new
/// work is taken.
pub const DISK_RESERVE: u64 = 256 * 1024 * 1024;
/// Names of things taken out of a task's requests that are counted each.
pub const REMOVED_NAMES: usize = 32;
/// Rows in one page of `GET /tasks`.
pub const PAGE_ROWS: u32 = 500;

/// Longest wait of a lease request.
pub const LEASE_WAIT: Duration = Duration::from_secs(50);
/// Longest wait of a heartbeat.
pub const HEARTBEAT_WAIT: Duration = Duration::from_secs(10);
/// Longest wait of `GET /tasks/{id}?wait=` and of `POST /tasks?wait=`.
pub const TASK_WAIT: Duration = Duration::from_secs(50);
/// Longest wait of `GET /notices?wait=`.
pub const NOTICES_WAIT: Duration = Duration::from_secs(50);
/// A lease that is not started within this time goes back to its queue, with no attempt burnt.
pub const START_WITHIN: Duration = Duration::from_secs(30);
/// A started lease lives this long after its last heartbeat.
pub const LEASE: Duration = Duration::from_secs(45);
/// How often a worker beats: a third of [`LEASE`].
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// A worker that has not been heard stops its agent this long before [`LEASE`] is over.
pub const LEASE_MARGIN: Duration = Duration::from_secs(10);
/// Attempts of one task, unless it says otherwise.
pub const MAX_ATTEMPTS: u32 = 3;
/// Longest that a request for a base's bundle waits until it is made; a large one takes several.
pub const BASE_WAIT: Duration = Duration::from_secs(20);
/// Most attempts that a task may ask for.
pub const MAX_ATTEMPTS_CAP: u32 = 20;
/// Run time of one attempt, unless the task says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(3_600);
/// Longest run time that a task may ask for.
pub const TIMEOUT_CAP: Duration = Duration::from_secs(24 * 3_600);
/// A sandbox that has its task for this long above the task's run time hangs, and is ended. The coordinator has
/// given its lease up by then: a worker that lives reports well before.
pub const SANDBOX_MARGIN: Duration = Duration::from_secs(900);
/// How long an agent has between SIGTERM and SIGKILL, unless its owner says otherwise.
pub const KILL_GRACE: Duration = Duration::from_secs(10);
/// Longest such time that an owner may ask for.
pub const KILL_GRACE_CAP: Duration = Duration::from_secs(60);
