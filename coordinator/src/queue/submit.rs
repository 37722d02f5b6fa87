//! Taking tasks in.

use jiff::Timestamp;
use protocol::{
    Code, Problem, QueueName, TaskId, TaskState, Usd,
    submit::Submission,
    task::{Priority, Work},
};
use sha2::{Digest as _, Sha256};

use super::{
    Queue, sql,
    store::StoreError,
    transition::{Row, Stand},
    tx::{Tx, text_value},
};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It is.
    New,
    /// It was sent before.
    Before,
}

impl Queue {
    /// Takes all of them in, or none.
    ///
    /// # Errors
    /// `unknown_repository`, `task_id_taken`, and the store's.
    pub async fn submit(
        &self,
        tasks: Vec<Incoming>,
        default_budget: Usd,
        now: Timestamp,
    ) -> Result<Vec<Taken>, StoreError> {
        self.store
            .write(move |tx| tasks.iter().map(|task| take_in(tx, task, default_budget, now)).collect())
            .await
    }
}

fn take_in(
    tx: &mut Tx<'_>,
    task: &Incoming,
    default_budget: Usd,
    now: Timestamp,
) -> Result<Taken, StoreError> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, text_value::<TaskState>(row, 1)?));
    if let Some((digest, state)) = tx.one(sql::SUBMITTED, [task.id.as_str()], read)? {
        if digest == task.digest {
            return Ok(Taken::Before);
        }
        let why = format!("there is a task {} with another body; choose another id", task.id);
        return Err(Problem::new(Code::TaskIdTaken, why).with_state(state).into());
    }
    let Submission { queue, work, base, priority, max_attempts, timeout, .. } = &task.submission;
    if tx.one(sql::REPO, [queue.as_str()], |_| Ok(()))?.is_none() {
        return Err(unknown_repository(queue).into());
    }
    let commit = base.as_deref().and_then(full_commit);
    let commit = match commit {
        Some(commit) => tx.one(sql::KNOWN_COMMIT, (queue.as_str(), &commit), |_| Ok(()))?.map(|()| commit),
        None => None,
    };
    let stand = if commit.is_some() { Stand::Ready { not_before: None } } else { Stand::Held };
    let agent = matches!(work, Work::Agent { .. });
    let budget = agent.then(|| task.submission.budget.unwrap_or(default_budget));
    let reason = commit.is_none().then_some("source");
    tx.execute(
        sql::INSERT_TASK,
        (
            task.id.as_str(),
            queue.as_str(),
            task.digest.as_slice(),
            "owner",
            agent,
            base,
            &commit,
            branch_of(&task.id)?,
            word(priority)?,
            now.as_millisecond() - head_start(*priority),
            max_attempts,
            timeout.as_secs().cast_signed(),
            budget.map(|sum| sum.nanos().cast_signed()),
            now.as_millisecond(),
            stand.state().as_str(),
            reason,
        ),
    )?;
    let n = tx.inserted();
    let work = serde_json::to_string(work).map_err(|error| StoreError::Storage(error.to_string()))?;
    tx.execute(sql::INSERT_BODY, (n, work))?;
    let row = Row {
        n,
        id: task.id.clone(),
        queue: queue.clone(),
        agent,
        max_attempts: *max_attempts,
        timeout: *timeout,
        attempt: 0,
        serial: 0,
        stand,
        reason: reason.map(str::to_owned),
        worker: None,
        base_commit: commit,
        started_at: None,
    };
    tx.begin(&row, now)?;
    Ok(Taken::New)
}

/// A full commit id in lower case, where the text is one.
pub(crate) fn full_commit(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    lower.parse::<repository::CommitId>().is_ok().then_some(lower)
}

fn branch_of(task: &TaskId) -> Result<String, StoreError> {
    let id = task.as_str().parse().map_err(|error: repository::InvalidName| {
        StoreError::from(Problem::new(Code::Invalid, format!("id: {error}")))
    })?;
    Ok(repository::branch_of(&id))
}

fn word(priority: &Priority) -> Result<String, StoreError> {
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
