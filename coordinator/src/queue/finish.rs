//! How attempts end by what somebody says: results, cancellations, workers that are gone.

use jiff::Timestamp;
use protocol::{
    Code, Problem, TaskId, TaskState, Usd, WorkerId,
    keys::KeyUsage,
    report::{Accepted, Report},
    task::Artifact,
    worker::WorkerEnd,
};
use sha2::{Digest as _, Sha256};

use super::{
    Queue,
    read::usage as usage_of,
    row::Row,
    sql,
    store::StoreError,
    sum::of_text,
    transition::Command,
    tx::{Tx, row, text_value},
};
use crate::tokens::Claim;

/// Reports of lost leases that are kept for one task.
const EVIDENCE: i64 = 20;

/// A report that came, with the lease that it names.
#[derive(Debug, Clone)]
pub struct Reported {
    /// The task.
    pub id: TaskId,
    /// The lease.
    pub claim: Claim,
    /// The report.
    pub report: Report,
    /// What the gateway's ledger says, where its key was revoked just now.
    pub usage: Option<KeyUsage>,
}

impl Queue {
    /// Takes a worker's report. The same report with the same lease is answered alike, however often it comes. A
    /// report whose lease is lost is kept, and changes nothing.
    ///
    /// # Errors
    /// `unknown_task`, `lease_lost`, `wrong_state` (not started), `invalid` (artifacts that are not stored as the
    /// report says), and the store's.
    pub async fn finish(&self, reported: Reported, now: Timestamp) -> Result<Accepted, StoreError> {
        // The inner error is of an operation that is kept: its evidence is on disk.
        let outcome = self.store.write(move |tx| finish(tx, &reported, now)).await?;
        outcome.map_err(Into::into)
    }

    /// Whether a report with this lease would be taken: the lease stands, and runs.
    #[must_use]
    pub fn runs(&self, id: &TaskId, claim: Claim) -> bool {
        self.live.expires_at(id, claim).is_some()
    }

    /// Whether the task of this lease runs an agent; `None` where the lease does not stand.
    #[must_use]
    pub fn is_agents(&self, id: &TaskId, claim: Claim) -> Option<bool> {
        self.live.is_agents(id, claim)
    }

    /// One command to one task, by the rules.
    ///
    /// # Errors
    /// `unknown_task`, `lease_lost`, `wrong_state`, and the store's.
    pub async fn command(&self, id: TaskId, command: Command, now: Timestamp) -> Result<Row, StoreError> {
        self.store
            .write(move |tx| {
                let task = tx.row(&id)?;
                tx.apply(&task, &command, now)
            })
            .await
    }

    /// A worker's sandbox is gone: its token opens nothing any more, and its lease ends. Repeated, it changes
    /// nothing.
    ///
    /// # Errors
    /// `unknown_worker`, and the store's.
    pub async fn end_worker(
        &self,
        worker: &WorkerId,
        end: WorkerEnd,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let id = worker.clone();
        self.store
            .write(move |tx| {
                if tx.one(sql::WORKER, [id.as_str()], |_| Ok(()))?.is_none() {
                    return Err(unknown_worker(&id).into());
                }
                tx.guard()?;
                tx.execute(
                    sql::END_WORKER,
                    (id.as_str(), now.as_millisecond(), end.exit, end.reason.as_str()),
                )?;
                let reason = if end.reason.is_empty() { "worker_gone" } else { end.reason.as_str() };
                let command = Command::WorkerGone { worker: id.clone(), reason: reason.to_owned() };
                for task in tx.all(sql::LIVE_OF_WORKER, [id.as_str()], row)? {
                    tx.apply(&task, &command, now)?;
                }
                Ok(())
            })
            .await?;
        self.workers.forget(worker);
        Ok(())
    }
}

fn finish(
    tx: &mut Tx<'_>,
    reported: &Reported,
    now: Timestamp,
) -> Result<Result<Accepted, Problem>, StoreError> {
    let Reported { id, claim, report, usage } = reported;
    let task = tx.row(id)?;
    let body = serde_json::to_string(report).map_err(|error| StoreError::Storage(error.to_string()))?;
    let hash = Sha256::digest(body.as_bytes()).to_vec();
    let (attempt, serial) = (claim.attempt, claim.serial.cast_signed());
    let known = (task.n, attempt, serial, &hash);
    let answered = tx.one(sql::ANSWERED, known, |row| {
        row.get::<_, Option<String>>(0)?.map(|_| text_value(row, 0)).transpose()
    })?;
    if let Some(Some(state)) = answered {
        return Ok(Ok(Accepted { state }));
    }
    let command = Command::Finish { claim: *claim, outcome: report.outcome, reason: report.reason.clone() };
    let keep = |tx: &Tx<'_>, answer: Option<TaskState>| {
        let answer = answer.map(TaskState::as_str);
        tx.execute(sql::KEEP_REPORT, (task.n, attempt, serial, &hash, now.as_millisecond(), answer, &body))
    };
    if !report.artifacts.is_empty() || usage.is_some() {
        tx.guard()?;
    }
    match tx.apply(&task, &command, now) {
        Ok(ended) => {
            for artifact in &report.artifacts {
                require_upload(tx, &task, artifact)?;
            }
            keep(tx, Some(ended.state()))?;
            if let Some(usage) = usage {
                settle(tx, task.n, attempt, usage)?;
            }
            Ok(Ok(Accepted { state: ended.state() }))
        }
        Err(StoreError::Refused(problem)) => {
            let evidence = tx.one(sql::EVIDENCE_COUNT, [task.n], |row| row.get::<_, i64>(0))?;
            // A serial of 0 stands for a token that was not made here.
            if problem.code == Code::LeaseLost && serial > 0 && evidence < Some(EVIDENCE) {
                keep(tx, None)?;
            }
            Ok(Err(*problem))
        }
        Err(error) => Err(error),
    }
}

fn require_upload(tx: &Tx<'_>, task: &Row, artifact: &Artifact) -> Result<(), StoreError> {
    let read =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, String>(1)?));
    let stored = tx.one(sql::UPLOAD, (task.n, task.attempt, &artifact.name), read)?;
    let name = &artifact.name;
    let fault = match stored {
        Some((size, sha256)) if size == artifact.size && sha256 == artifact.sha256 => return Ok(()),
        Some((size, sha256)) => {
            format!("is stored with {size} bytes and SHA-256 {sha256}, and the report says otherwise")
        }
        None => "is not stored for this attempt: upload it first".to_owned(),
    };
    Err(Problem::new(Code::Invalid, format!("artifacts: {name:?} {fault}")).into())
}

/// Writes down what an attempt's key has used; that there is nothing left to ask only when nothing is held, for
/// what is under way will still be charged.
pub(super) fn settle(tx: &Tx<'_>, task: i64, attempt: u32, usage: &KeyUsage) -> Result<(), StoreError> {
    let known = tx.one(sql::USAGE, [task], |row| usage_of(row, 0))?;
    // The ledger only grows; an answer that came late says less.
    if known.flatten().is_none_or(|known| known.requests <= usage.requests) {
        let usage = serde_json::to_string(usage).map_err(|error| StoreError::Storage(error.to_string()))?;
        let sum = of_text(&usage);
        tx.execute(sql::SET_USAGE, (task, usage, sum))?;
    }
    if usage.held_usd == Usd::ZERO {
        tx.execute(sql::FORGET_KEY, (task, attempt))?;
    }
    Ok(())
}

/// The problem of a worker that is not there.
pub(crate) fn unknown_worker(id: &WorkerId) -> Problem {
    Problem::new(Code::UnknownWorker, format!("there is no worker {id}; `POST /workers` registers one"))
}
