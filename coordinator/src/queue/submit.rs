//! Taking tasks in.

use jiff::Timestamp;
use protocol::{
    Code, Problem, QueueName, Task, TaskId, Usd,
    queue::QueueMode,
    submit::Submission,
    task::{Priority, Work},
};
use rusqlite::params;
use sha2::{Digest as _, Sha256};

use super::{
    Queue,
    control::settings,
    read::{as_task, made},
    row::{Approval, Row, Stand},
    sql,
    store::StoreError,
    sum::{Made, of_text},
    tx::{Columns, Tx, parsed},
};

/// Who makes tasks, so far.
const OWNER: &str = "owner";

/// How much earlier, or later, than its acceptance a task stands in its queue, in milliseconds. So an older task
/// of a lower priority comes before a newer one of a higher: none starves.
const fn head_start(priority: Priority) -> i64 {
    const HOUR: i64 = 3_600_000;
    match priority {
        Priority::Critical => 6 * HOUR,
        Priority::High => HOUR,
        Priority::Normal => 0,
        Priority::Low => -HOUR,
    }
}

/// A task to be taken in.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// What was sent, checked.
    pub submission: Submission,
    /// Its id: the sender's, or one made for it.
    pub id: TaskId,
    /// SHA-256 of what was sent.
    pub digest: [u8; 32],
}

impl Incoming {
    /// A checked submission; `sent` is its canonical form.
    #[must_use]
    pub fn new(submission: Submission, sent: &[u8]) -> Self {
        let id = submission.id.clone().unwrap_or_else(TaskId::generate);
        Self { submission, id, digest: Sha256::digest(sent).into() }
    }
}

/// Whether a task is new.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// It is; as it was written.
    New(Box<Task>),
    /// It was sent before.
    Before,
}

impl Queue {
    /// Takes all of them in, or none.
    ///
    /// # Errors
    /// `unknown_repository`, `task_id_taken`, `unique_key_taken`, `queue_draining`, and the store's.
    pub async fn submit(
        &self,
        tasks: Vec<Incoming>,
        default_budget: Usd,
        now: Timestamp,
    ) -> Result<Vec<Taken>, StoreError> {
        let written = self
            .store
            .write(move |tx| {
                if tasks.len() > 1 {
                    tx.guard()?;
                }
                let take = |task| take_in(tx, task, default_budget, now);
                tasks.into_iter().map(take).collect::<Result<Vec<_>, StoreError>>()
            })
            .await?;
        // The writer's thread has better things to do than this.
        let as_taken = |written| match written {
            None => Ok(Taken::Before),
            Some((row, made, work)) => Ok(Taken::New(Box::new(as_task(row, made, work)?))),
        };
        written.into_iter().map(as_taken).collect()
    }
}

/// What was written; `None` for a task that was sent before.
fn take_in(
    tx: &mut Tx<'_>,
    task: Incoming,
    default_budget: Usd,
    now: Timestamp,
) -> Result<Option<(Row, Made, Work)>, StoreError> {
    if is_known(tx, &task.id, &task.digest)? {
        return Ok(None);
    }
    let Submission { queue, work, base, priority, max_attempts, timeout, .. } = task.submission;
    let commit = match base.as_deref().and_then(full_commit) {
        Some(commit) => tx.one(sql::KNOWN_COMMIT, (queue.as_str(), &commit), |_| Ok(()))?.map(|()| commit),
        None => None,
    };
    let agent = matches!(work, Work::Agent { .. });
    let made = Made {
        id: task.id.clone(),
        submitted: task.digest,
        principal: OWNER.to_owned(),
        base_requested: base,
        priority: word(priority)?,
        rank: now.as_millisecond() - head_start(priority),
        budget: agent.then(|| task.submission.budget.unwrap_or(default_budget)),
        created_at: now.as_millisecond(),
        unique_key: task.submission.unique_key,
        retry_of: None,
    };
    let row = Row {
        n: 0,
        id: task.id.clone(),
        queue,
        agent,
        max_attempts,
        timeout,
        attempt: 0,
        serial: now.as_millisecond().cast_unsigned(),
        stand: Stand::Held,
        reason: None,
        worker: None,
        base_commit: commit,
        started_at: None,
        since: now,
        not_before: task.submission.not_before,
        approval: if task.submission.approval { Approval::Awaited } else { Approval::NotAsked },
        orders: 0,
        events: 1,
    };
    let body = serde_json::to_string(&work).map_err(|error| StoreError::Storage(error.to_string()))?;
    let row = insert(tx, row, &made, body, now)?;
    Ok(Some((row, made, work)))
}

/// Whether there is this very task already.
///
/// # Errors
/// `task_id_taken` by a task with another body.
pub(super) fn is_known(tx: &Tx<'_>, id: &TaskId, digest: &[u8; 32]) -> Result<bool, StoreError> {
    let Some(known) = tx.one(sql::MADE, [id.as_str()], |row| made(row, 0))? else { return Ok(false) };
    if known.submitted == *digest {
        return Ok(true);
    }
    let why = format!("there is a task {id} with another body; choose another id");
    Err(Problem::new(Code::TaskIdTaken, why).with_state(tx.row(id)?.state()).into())
}

/// Writes a new task and its first event. Where it stands is found by the rules; `work` is JSON.
///
/// # Errors
/// `unknown_repository`, `queue_draining`, `unique_key_taken`, and the store's.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    mut row: Row,
    made: &Made,
    work: String,
    now: Timestamp,
) -> Result<Row, StoreError> {
    branch_of(&row.id)?;
    let queue = &row.queue;
    let control = settings(tx, queue)?.ok_or_else(|| unknown_repository(queue))?;
    if control.mode == QueueMode::Draining {
        let why =
            format!("queue {queue} takes no new tasks in; `code-workers resume {queue}` opens it again");
        return Err(Problem::new(Code::QueueDraining, why).into());
    }
    if let Some(key) = &made.unique_key
        && let Some(holder) =
            tx.one(sql::KEY_HOLDER, (queue.as_str(), key), |row| parsed::<TaskId>(row, 0))?
    {
        let why = format!("task {holder} has the key {key:?} and has not ended; wait for it, or cancel it");
        return Err(Problem::new(Code::UniqueKeyTaken, why).with_task(holder).into());
    }
    (row.stand, row.reason) = row.unleased(now);
    tx.execute(
        sql::INSERT_TASK,
        params![
            row.id.as_str(),
            queue.as_str(),
            made.submitted.as_slice(),
            made.principal,
            row.agent,
            made.base_requested,
            row.base_commit,
            made.priority,
            made.rank,
            row.max_attempts,
            row.timeout.as_secs().cast_signed(),
            made.budget.map(|sum| sum.nanos().cast_signed()),
            made.created_at,
            row.state().as_str(),
            row.reason,
            Columns::of(&row.stand).due.map(Timestamp::as_millisecond),
            row.not_before.map(Timestamp::as_millisecond),
            made.unique_key,
            row.approval.as_column(),
            made.retry_of.as_ref().map(TaskId::as_str),
            row.sum(),
            made.sum(),
        ],
    )?;
    row.n = tx.inserted();
    let sum = of_text(&work);
    tx.execute(sql::INSERT_BODY, (row.n, work, sum))?;
    tx.begin(row.clone(), now)?;
    Ok(row)
}

/// A full commit id in lower case, where the text is one.
pub(crate) fn full_commit(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    lower.parse::<repository::CommitId>().is_ok().then_some(lower)
}

/// The branch that a task's result comes back on.
pub(super) fn branch_of(task: &TaskId) -> Result<String, StoreError> {
    let id = task.as_str().parse().map_err(|error: repository::InvalidName| {
        StoreError::from(Problem::new(Code::Invalid, format!("id: {error}")))
    })?;
    Ok(repository::branch_of(&id))
}

fn word(priority: Priority) -> Result<String, StoreError> {
    match serde_json::to_value(priority) {
        Ok(serde_json::Value::String(word)) => Ok(word),
        other => Err(StoreError::Storage(format!("a priority became {other:?}"))),
    }
}

/// The problem of a repository that is not there.
pub(crate) fn unknown_repository(name: &QueueName) -> Problem {
    Problem::new(
        Code::UnknownRepository,
        format!("there is no repository {name}; `code-workers repo add {name} PATH-OR-URL` registers one"),
    )
}
