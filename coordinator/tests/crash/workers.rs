//! Workers at the worker's door: some carry their tasks out, some vanish, some come too late.

use std::{io::Write as _, sync::Arc, time::Duration};

use fastrand::Rng;
use jiff::Timestamp;
use protocol::{
    Code, EventBody, NewEvent, WorkerId,
    client::{ClientError, Endpoint, LeasedClient, OwnerClient, WorkerClient},
    event::NewEvents,
    inside::HeldLease,
    lease::{Heartbeat, LeaseQuery, Leased, OrderKind, Release},
    report::{Outcome, Report},
    task::{Artifact, Work},
    worker::{NewWorker, Registered, WorkerEnd},
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    history::{Fact, LeaseName, line},
    place::{QUEUES, queue},
    world::{Stale, World},
};

/// How an attempt went, as far as its worker is concerned.
#[derive(PartialEq)]
enum Worker {
    Lives,
    IsGone,
}

/// One worker after another on one place, until all tasks have ended.
pub(crate) async fn worker(world: Arc<World>, number: u64) {
    let mut seat = Seat {
        owner: world.owner(),
        dice: world.dice("worker", number),
        queue: QUEUES[usize::from(number % 3 == 2)],
        world,
    };
    while !seat.world.done.is_cancelled() {
        seat.one_worker().await;
    }
}

struct Seat {
    world: Arc<World>,
    owner: OwnerClient,
    dice: Rng,
    queue: &'static str,
}

/// A lease that a worker holds.
struct Attempt {
    worker: WorkerId,
    client: LeasedClient,
    lease: LeaseName,
    agent: bool,
    /// Its events so far.
    lines: u64,
    /// The last order that it has heard.
    heard: u64,
    cancelled: bool,
}

/// The lease is over.
struct Over;

impl Seat {
    async fn one_worker(&mut self) {
        let new = NewWorker { queue: queue(self.queue), name: "crash".to_owned() };
        let (asked, registered) = self.world.ask(|| self.owner.register_worker(&new)).await;
        let registered = match registered {
            Ok(registered) => registered,
            Err(error) => return self.world.odd(asked, "register", &error),
        };
        let door = Endpoint::Unix(self.world.folders.worker_socket());
        let client = WorkerClient::new(door, registered.token.clone()).unwrap();
        for _ in 0..self.dice.u32(2..12) {
            if self.world.done.is_cancelled() {
                break;
            }
            self.come_too_late().await;
            let query = LeaseQuery { request_id: Uuid::from_u128(self.dice.u128(..)), wait: 1 };
            let name = queue(self.queue);
            let (asked, leased) = self.world.ask(|| client.lease(&name, &query)).await;
            match leased {
                Ok(None) => {}
                Ok(Some(leased)) => {
                    let attempt = self.hold(asked, &registered, &client, &leased);
                    if self.carry_out(attempt).await == Worker::IsGone {
                        return;
                    }
                }
                Err(error) => self.world.odd(asked, "lease", &error),
            }
        }
        self.end(&registered.worker_id, 0, "").await;
    }

    fn hold(&self, asked: u64, worker: &Registered, client: &WorkerClient, leased: &Leased) -> Attempt {
        let token = leased.lease.token.clone();
        let serial = token.expose().split('-').nth(1).unwrap().parse().unwrap();
        let (task, attempt) = (leased.task.id.clone(), leased.lease.attempt);
        let client = client.with_lease(HeldLease { task: task.clone(), token, attempt });
        let lease = LeaseName { task, serial, attempt };
        let worker = worker.worker_id.clone();
        let fact = Fact::Leased { lease: lease.clone(), at: Timestamp::now() };
        self.world.recorder.note(asked, fact);
        let agent = matches!(leased.task.work, Work::Agent { .. });
        Attempt { worker, client, lease, agent, lines: 0, heard: 0, cancelled: false }
    }

    /// As its launcher does when a sandbox is gone.
    async fn end(&self, worker: &WorkerId, exit: i32, reason: &str) {
        let end = WorkerEnd { exit: Some(exit), reason: reason.to_owned() };
        let (asked, ended) = self.world.ask(|| self.owner.end_worker(worker, &end)).await;
        if let Err(error) = ended {
            self.world.odd(asked, "end a worker", &error);
        }
    }

    async fn vanish(&self, attempt: &Attempt) -> Worker {
        self.end(&attempt.worker, 137, "killed").await;
        Worker::IsGone
    }

    fn keep_as_stale(&self, attempt: &Attempt) {
        let stale = Stale { client: attempt.client.clone(), lease: attempt.lease.clone() };
        self.world.stale.lock().unwrap().push(stale);
    }

    async fn carry_out(&mut self, mut attempt: Attempt) -> Worker {
        match self.dice.u32(0..100) {
            0..4 => return self.vanish(&attempt).await,
            4..10 => {
                let release = Release { reason: "crash test".to_owned() };
                let _ = self.call(&attempt, "release", async || attempt.client.release(&release).await).await;
                self.keep_as_stale(&attempt);
                return Worker::Lives;
            }
            _ => {}
        }
        if self.call(&attempt, "start", async || attempt.client.start().await).await.is_err() {
            return Worker::Lives;
        }
        let task = &attempt.lease.task;
        if attempt.agent {
            self.world.known.lock().unwrap().running.push(task.clone());
        }
        let ended = self.run(&mut attempt).await;
        self.world.known.lock().unwrap().running.retain(|running| *running != attempt.lease.task);
        match ended {
            Ok(worker) => worker,
            Err(Over) => Worker::Lives,
        }
    }

    async fn run(&mut self, attempt: &mut Attempt) -> Result<Worker, Over> {
        // An agent has time to be told something.
        for _ in 0..self.dice.u32(0..5) + 3 * u32::from(attempt.agent) {
            self.say(attempt).await?;
            self.beat(attempt).await?;
            if self.dice.u32(0..100) < 4 {
                return Ok(self.vanish(attempt).await);
            }
        }
        let mut artifacts = Vec::new();
        if self.dice.u32(0..3) == 0 {
            for name in ["patch", "log"].into_iter().take(self.dice.usize(1..3)) {
                artifacts.push(self.upload(attempt, name).await?);
            }
        }
        self.report(attempt, artifacts).await;
        Ok(Worker::Lives)
    }

    /// A call with the lease; the lease is over where it is refused.
    async fn call<T>(
        &self,
        attempt: &Attempt,
        verb: &'static str,
        call: impl AsyncFn() -> Result<T, ClientError>,
    ) -> Result<(u64, T), Over> {
        let (asked, answer) = self.world.ask(&call).await;
        match answer {
            Ok(answer) => {
                self.world.recorder.note(asked, Fact::Taken { lease: attempt.lease.clone(), verb });
                Ok((asked, answer))
            }
            Err(error) => {
                if error.code() != Some(Code::LeaseLost) {
                    self.world.odd(asked, &format!("{verb} {:?}", attempt.lease), &error);
                }
                Err(Over)
            }
        }
    }

    async fn say(&mut self, attempt: &mut Attempt) -> Result<(), Over> {
        let upto = attempt.lines + self.dice.u64(1..12);
        // Now and then it sends again what it has sent before.
        let mut first =
            if self.dice.u32(0..4) == 0 { self.dice.u64(0..=attempt.lines) } else { attempt.lines };
        while first < upto {
            let events = (first..upto).map(|place| NewEvent {
                at: Timestamp::UNIX_EPOCH,
                body: EventBody::Text { text: line(&attempt.lease, place) },
                raw: None,
            });
            let batch = NewEvents { first, events: events.collect() };
            let sent = self.call(attempt, "events", async || attempt.client.events(&batch).await).await?;
            let (asked, lines) = (sent.0, sent.1.stored);
            self.world.recorder.note(asked, Fact::Stored { lease: attempt.lease.clone(), lines });
            if lines <= first {
                break;
            }
            first = lines;
        }
        attempt.lines = first;
        Ok(())
    }

    async fn beat(&mut self, attempt: &mut Attempt) -> Result<(), Over> {
        let after = attempt.heard;
        let beat = Heartbeat { after };
        let wait = Duration::from_secs(u64::from(self.dice.u32(0..8) <= u32::from(attempt.agent)));
        let beating = async || attempt.client.heartbeat(&beat, wait).await;
        let (asked, beat) = self.call(attempt, "heartbeat", beating).await?;
        attempt.heard = beat.orders.last().map_or(after, |order| order.seq);
        attempt.cancelled |= beat.orders.iter().any(|order| matches!(order.kind, OrderKind::Cancel { .. }));
        let fact = Fact::Beat { lease: attempt.lease.clone(), after, orders: beat.orders };
        self.world.recorder.note(asked, fact);
        Ok(())
    }

    async fn upload(&mut self, attempt: &Attempt, name: &str) -> Result<Artifact, Over> {
        let size = self.dice.usize(0..20_000);
        let content: Vec<u8> = std::iter::repeat_with(|| self.dice.u8(..)).take(size).collect();
        let sha256 = hex::encode(Sha256::digest(&content));
        let mut file = tempfile::NamedTempFile::new_in(&self.world.scratch).unwrap();
        file.write_all(&content).unwrap();
        let artifact = Artifact { name: name.to_owned(), size: content.len() as u64, sha256 };
        let put = async || attempt.client.put_artifact(&artifact, file.path()).await;
        self.call(attempt, "artifact", put).await?;
        Ok(artifact)
    }

    async fn report(&mut self, attempt: &Attempt, artifacts: Vec<Artifact>) {
        let outcome = match self.dice.u32(0..100) {
            _ if attempt.cancelled => Outcome::Cancelled,
            0..70 => Outcome::Succeeded,
            70..80 => Outcome::Failed,
            80..84 => Outcome::TimedOut,
            _ => Outcome::Lost,
        };
        let report =
            Report { message: Some(line(&attempt.lease, attempt.lines)), ..report(outcome, artifacts) };
        let other = Report { message: Some("another".to_owned()), ..report.clone() };
        self.send(attempt, &report).await;
        match self.dice.u32(0..6) {
            0 => self.send(attempt, &report).await,
            1 => self.send(attempt, &other).await,
            _ => {}
        }
        if outcome == Outcome::Lost {
            self.keep_as_stale(attempt);
        }
    }

    async fn send(&self, attempt: &Attempt, report: &Report) {
        let sending = async || attempt.client.result(report).await;
        if let Ok((asked, accepted)) = self.call(attempt, "result", sending).await {
            let (lease, report) = (attempt.lease.clone(), report.clone());
            self.world.recorder.note(asked, Fact::Result { lease, report, state: accepted.state });
        }
    }

    /// A worker that does not know that its lease is over.
    async fn come_too_late(&mut self) {
        let stale = {
            let mut stale = self.world.stale.lock().unwrap();
            if stale.is_empty() || self.dice.u32(0..3) > 0 {
                return;
            }
            let place = self.dice.usize(0..stale.len());
            stale.swap_remove(place)
        };
        let report =
            Report { message: Some("too late".to_owned()), ..report(Outcome::Succeeded, Vec::new()) };
        let (asked, answer) = self.world.ask(|| stale.client.result(&report)).await;
        match answer {
            Ok(accepted) => {
                let fact = Fact::Result { lease: stale.lease, report, state: accepted.state };
                self.world.recorder.note(asked, fact);
            }
            Err(error) if matches!(error.code(), Some(Code::LeaseLost | Code::WrongKey)) => {}
            Err(error) => self.world.odd(asked, "a late result", &error),
        }
    }
}

fn report(outcome: Outcome, artifacts: Vec<Artifact>) -> Report {
    Report { exit_code: Some(0), artifacts, ..Report::new(outcome) }
}
