//! The worker's verbs on the queue: lease, start, heartbeat, and giving back.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use protocol::{
    Code, Problem, QueueName, TaskId, WorkerId,
    lease::{Assignment, Beat, Lease, Leased},
    limits,
    task::Work,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Queue,
    read::body,
    row::{Row, Stand},
    sql,
    store::StoreError,
    submit::branch_of,
    transition::{Command, after},
    tx::{Tx, refused, row, unknown_task},
};
use crate::{clock::Clock, crash_point::crash_point, tokens::Claim};

/// A waiter looks again after this time even when no bell has rung; each task that comes to be ready rings one.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Who asks for a task.
#[derive(Debug, Clone)]
pub struct LeaseRequest {
    /// The worker.
    pub worker: WorkerId,
    /// Its queue.
    pub queue: QueueName,
    /// Known again when it is repeated.
    pub request: Uuid,
}

/// What a look brought.
struct Taken {
    row: Row,
    leased: Leased,
    /// It was leased just now, and not to an earlier copy of the request.
    fresh: bool,
}

impl Queue {
    /// A task for this worker, now or within `wait`; `None` when none came, or the program stops.
    ///
    /// # Errors
    /// The store's.
    pub async fn lease(
        self: &Arc<Self>,
        request: &LeaseRequest,
        wait: Duration,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Result<Option<Leased>, StoreError> {
        let end = Instant::now() + wait;
        let bell = self.wake.ready(&request.queue);
        loop {
            // Registered first, so that a task that comes between the look and the sleep ends the sleep.
            let mut rung = std::pin::pin!(bell.notified());
            rung.as_mut().enable();
            if let Some(leased) = self.lease_if_ready(request, clock).await? {
                return Ok(Some(leased));
            }
            let next_look = end.min(Instant::now() + LOOK_AGAIN);
            tokio::select! {
                () = rung => {}
                () = sleep_until(next_look) => if next_look == end { return Ok(None) },
                () = stop.cancelled() => return Ok(None),
            }
        }
    }

    /// Looks once. Runs on when the caller goes, and gives back what nobody is there to take.
    async fn lease_if_ready(
        self: &Arc<Self>,
        request: &LeaseRequest,
        clock: Clock,
    ) -> Result<Option<Leased>, StoreError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let (queue, request) = (self.clone(), request.clone());
        tokio::spawn(async move {
            let found = queue.take_next(&request, clock.now()).await;
            if let Ok(Some(_)) = &found {
                crash_point("lease.committed");
            }
            // The bell that woke it was for a task: who takes none passes it on. One ring too many is one look too
            // many.
            if !matches!(found, Ok(Some(Taken { fresh: true, .. }) | None)) {
                queue.wake.ready(&request.queue).notify_one();
            }
            let unwanted = match found {
                // Another copy of the request may have been answered already.
                Ok(Some(taken)) => {
                    reply.send(Ok(Some(taken.leased))).err().map(|_| taken.row).filter(|_| taken.fresh)
                }
                Ok(None) => reply.send(Ok(None)).ok().and(None),
                Err(error) => reply.send(Err(error)).ok().and(None),
            };
            if let Some(row) = unwanted {
                let reason = "worker_gone: it hung up before it had the lease";
                // Else it lapses by itself.
                let _ = queue.give_back(&row.id, row.claim(), reason, Duration::ZERO, clock.now()).await;
            }
        });
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    async fn take_next(&self, request: &LeaseRequest, now: Timestamp) -> Result<Option<Taken>, StoreError> {
        let (request, control) = (request.clone(), self.control.clone());
        let found = self
            .store
            .write(move |tx| {
                let again = (request.request.to_string(), request.worker.as_str());
                if let Some(standing) = tx.one(sql::ROW_OF_REQUEST, again, row)? {
                    let work = work_of(tx, &standing)?;
                    return Ok(Some((standing, work, false)));
                }
                // Its sandbox may have died while it waited.
                let ended = |row: &rusqlite::Row<'_>| row.get::<_, Option<i64>>(1);
                if tx.one(sql::WORKER, [request.worker.as_str()], ended)? != Some(None) {
                    return Err(worker_has_ended(&request.worker).into());
                }
                let Some((ready, work)) = next_ready(tx, &request.queue, now)? else {
                    control.has_none(&request.queue);
                    return Ok(None);
                };
                if !control.lets_go(tx, &ready)? {
                    return Ok(None);
                }
                let command = Command::Lease { worker: request.worker, request: request.request };
                Ok(Some((tx.apply(&ready, &command, now)?, work, true)))
            })
            .await?;
        let Some((row, work, fresh)) = found else { return Ok(None) };
        let leased = self.leased(&row, work)?;
        Ok(Some(Taken { row, leased, fresh }))
    }

    fn leased(&self, row: &Row, work: Work) -> Result<Leased, StoreError> {
        let expires_at = match row.stand {
            Stand::Leased { start_before, .. } => start_before,
            _ => self.live.expires_at(&row.id, row.claim()).unwrap_or_default(),
        };
        Ok(Leased {
            task: Assignment {
                id: row.id.clone(),
                queue: row.queue.clone(),
                work,
                base_commit: row.base_commit.clone().unwrap_or_default(),
                branch: branch_of(&row.id)?,
                timeout_s: row.timeout.as_secs(),
            },
            lease: Lease {
                token: self.tokens.of_lease(&row.id, row.claim()),
                attempt: row.attempt,
                expires_at,
                heartbeat_s: limits::HEARTBEAT.as_secs(),
                lease_s: limits::LEASE.as_secs(),
            },
        })
    }

    /// Gives a leased task back, since it cannot be started now. Nobody takes it for the time of `pause`.
    ///
    /// # Errors
    /// `unknown_task`, `lease_lost`, and the store's.
    pub async fn give_back(
        self: &Arc<Self>,
        id: &TaskId,
        claim: Claim,
        reason: &str,
        pause: Duration,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // Before anything else, for the caller may go while it waits.
        if let Some(queue) = self.live.queue(id) {
            let bell = self.wake.ready(&queue);
            tokio::spawn(async move {
                tokio::time::sleep(pause).await;
                bell.notify_one();
            });
        }
        let command = Command::GiveBack { claim, reason: reason.to_owned(), not_before: after(now, pause) };
        self.command(id.clone(), command, now).await.map(|_| ())
    }

    /// Starts a leased task. Repeated, it changes nothing. The lease's new end.
    ///
    /// # Errors
    /// `unknown_task`, `lease_lost`, and the store's.
    pub async fn start(&self, id: &TaskId, claim: Claim, now: Timestamp) -> Result<Timestamp, StoreError> {
        let task = id.clone();
        self.store
            .write(move |tx| {
                let task = tx.row(&task)?;
                let started = tx.apply(&task, &Command::Start(claim), now)?;
                if started.agent {
                    tx.execute(sql::KEEP_KEY, (started.n, started.attempt))?;
                }
                Ok(())
            })
            .await?;
        match self.live.hear(id, claim, now) {
            Some(heard) => Ok(heard.expires_at),
            None => Err(self.lost(id).into()),
        }
    }

    /// Hears a worker, and answers with its orders: at once when there are some, else when one comes, or after
    /// `wait`.
    ///
    /// # Errors
    /// `unknown_task`, `lease_lost`.
    pub async fn heartbeat(
        &self,
        id: &TaskId,
        claim: Claim,
        after: u64,
        wait: Duration,
        now: Timestamp,
        stop: &CancellationToken,
    ) -> Result<Beat, Problem> {
        let heard = self.live.hear(id, claim, now).ok_or_else(|| self.lost(id))?;
        let end = Instant::now() + wait;
        loop {
            let mut changed = std::pin::pin!(heard.changed.notified());
            changed.as_mut().enable();
            let had = self.live.orders(id, claim).ok_or_else(|| self.lost(id))?;
            let orders = if had > after { self.orders(id, after)? } else { Vec::new() };
            let over = Instant::now() >= end || stop.is_cancelled();
            if over || !orders.is_empty() {
                return Ok(Beat { expires_at: heard.expires_at, orders });
            }
            tokio::select! {
                () = changed => {}
                () = sleep_until(end) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// The problem of a lease that does not stand.
    pub(crate) fn lost(&self, id: &TaskId) -> Problem {
        match self.row(id) {
            Ok(Some(task)) => refused(&task, super::transition::Refusal::LeaseLost),
            Ok(None) => unknown_task(id),
            Err(error) => error.into(),
        }
    }

    /// Whether the task is in the worker's queue.
    ///
    /// # Errors
    /// `unknown_task`, `wrong_queue`, and the store's.
    pub fn require_queue(&self, id: &TaskId, queue: &QueueName) -> Result<(), Problem> {
        let of_task = match self.live.queue(id) {
            Some(live) => live,
            None => self.row(id)?.ok_or_else(|| unknown_task(id))?.queue,
        };
        if of_task == *queue {
            return Ok(());
        }
        Err(Problem::new(
            Code::WrongQueue,
            format!("this worker's token is for queue {queue}, and task {id} is in another"),
        ))
    }
}

/// The problem of a worker whose token opens nothing any more.
pub(crate) fn worker_has_ended(worker: &WorkerId) -> Problem {
    Problem::new(Code::WrongKey, format!("worker {worker} has ended; register a new one"))
}

/// The next task with its work; read before anything is written. One that is damaged is told of and passed over.
fn next_ready(tx: &Tx<'_>, queue: &QueueName, now: Timestamp) -> Result<Option<(Row, Work)>, StoreError> {
    let wanted = (queue.as_str(), now.as_millisecond());
    let whole = |row: Row| work_of(tx, &row).map(|work| (row, work));
    match tx.one(sql::NEXT_READY, wanted, row).and_then(|row| row.map(whole).transpose()) {
        Err(StoreError::Damaged(why)) => tracing::error!(%queue, why, "a task is passed over"),
        found => return found,
    }
    for id in tx.all(sql::READY_IDS, wanted, |row| row.get::<_, String>(0))? {
        match tx.one(sql::ROW, [&id], row).and_then(|row| row.map(whole).transpose()) {
            Err(StoreError::Damaged(_)) => {}
            found => return found,
        }
    }
    Ok(None)
}

fn work_of(tx: &Tx<'_>, row: &Row) -> Result<Work, StoreError> {
    let work = tx.one(sql::BODY, [row.n], |columns| body(columns, 0))?;
    let work: Option<Work> = work.and_then(|work| serde_json::from_str(&work).ok());
    work.ok_or_else(|| StoreError::Damaged(format!("task {} has no body", row.id)))
}
