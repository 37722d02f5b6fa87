//! The store that is asked: SQLite's. Another one is another struct with these four functions: open, execute, view,
//! crash.

mod view;
mod words;

use std::{collections::HashMap, fs, path::Path, sync::Arc, time::Duration};

use coordinator::{
    Clock,
    output::Outputs,
    queue::{Command as Rule, Incoming, LeaseRequest, Queue, Registered, Reported, StoreError, Taken, after},
    tokens::{Claim, Tokens},
};
use futures_util::future::join_all;
use jiff::Timestamp;
use protocol::{
    Problem, Usd, WorkerId,
    lease::OrderKind,
    queue::ChangeQueue,
    repo::Repo,
    submit::NewTask,
    task::{Cancel, Message},
    worker::WorkerEnd,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::words::{COMMIT, KNOWN, incoming, name, number, report, task, text, usage};
use crate::{
    commands::{Answer, Command, MAX_RUNNING, Named, Order, QUEUES, WORKERS},
    span::lease_clock,
};

/// A queue in a folder of its own.
pub(crate) struct System {
    runtime: tokio::runtime::Runtime,
    folder: tempfile::TempDir,
    queue: Arc<Queue>,
    begin: Timestamp,
    workers: Vec<WorkerId>,
    /// What each lease request brought last: an attempt, and a token.
    won: HashMap<u8, (u32, String)>,
    /// Every different token that there was.
    tokens: Vec<String>,
}

impl System {
    /// With its queues, its workers, and no task.
    pub(crate) fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let folder = folder();
        let begin = Clock::start().now();
        let queue = runtime.block_on(async { open(folder.path(), begin) });
        let workers = runtime.block_on(seed(&queue, begin));
        Self { runtime, folder, queue, begin, workers, won: HashMap::new(), tokens: Vec::new() }
    }

    /// Asks, at a time.
    pub(crate) fn execute(&mut self, command: &Command, now: u64) -> Answer {
        match command {
            Command::Crash => self.crash(now),
            Command::Advance(_) => {}
            Command::Lease { worker, request } => return self.lease(*worker, *request, now),
            Command::Together(all) => {
                let all = join_all(all.iter().map(|command| self.ask(command, now)));
                return Answer::All(self.runtime.block_on(all).into_iter().map(answer).collect());
            }
            other => return answer(self.runtime.block_on(self.ask(other, now))),
        }
        Answer::Done
    }

    async fn ask(&self, command: &Command, seconds: u64) -> Result<Answer, StoreError> {
        let (queue, now) = (&self.queue, self.time(seconds));
        match *command {
            Command::Submit(ref drafts) => {
                let tasks = drafts.iter().map(|draft| incoming(draft, self.begin)).collect();
                let taken = queue.submit(tasks, Usd::ZERO, now).await?;
                return Ok(Answer::Taken(
                    taken.into_iter().map(|taken| matches!(taken, Taken::New(_))).collect(),
                ));
            }
            Command::Repeat { of, id } => queue.repeat(task(of), task(id), now).await.map(|_| ())?,
            Command::Pin(id) => queue.pin(task(id), COMMIT.to_owned(), now).await?,
            Command::RefuseSource(id) => {
                let reason = "no_base: there is none".to_owned();
                queue.command(task(id), Rule::RefuseSource { reason }, now).await.map(|_| ())?;
            }
            Command::Approve(id) => queue.command(task(id), Rule::Approve, now).await.map(|_| ())?,
            Command::Cancel(id) => queue.cancel(&task(id), Cancel::default(), now).await?,
            Command::Message { task: of, id } => {
                let message = Message { text: text(id), id: id.map(|id| Uuid::from_u128(id.into())) };
                return queue.message(&task(of), message, now).await.map(Answer::Told);
            }
            Command::Start(lease) => {
                queue.start(&task(lease.task), self.claim(lease), now).await.map(|_| ())?;
            }
            Command::Heartbeat { lease, after } => return self.heartbeat(lease, after, now).await,
            Command::GiveBack { lease, pause } => {
                let pause = Duration::from_secs(pause);
                // Its pause is waited for by the clock that the lease verb reads.
                let now = self.time(lease_clock(seconds));
                queue.give_back(&task(lease.task), self.claim(lease), "back: later", pause, now).await?;
            }
            Command::Finish { lease, outcome, words, ledger } => {
                let (id, claim, report) = (task(lease.task), self.claim(lease), report(outcome, words));
                let reported = Reported { id, claim, report, usage: usage(ledger) };
                return queue.finish(reported, now).await.map(|accepted| Answer::Accepted(accepted.state));
            }
            Command::EndWorker(worker) => {
                let end = WorkerEnd { exit: None, reason: "gone".to_owned() };
                queue.end_worker(&self.workers[usize::from(worker)], end, now).await?;
            }
            Command::Change { queue: of, mode, max_running } => {
                let status = queue.change(&name(of), ChangeQueue { mode, max_running }).await?;
                return Ok(Answer::Queue(status.mode, status.max_running));
            }
            Command::Settle(ledger) => {
                for (id, attempt) in queue.unsettled_keys()? {
                    if let Some(usage) = usage(ledger) {
                        queue.settle(id, attempt, usage).await?;
                    }
                }
            }
            Command::Forget { older } => {
                let before = now - jiff::SignedDuration::from_secs(older.cast_signed());
                let tasks = queue.forgettable(before)?;
                queue.forget(tasks).await?;
                queue.forget_workers(before).await?;
            }
            Command::Reap => queue.reap(now).await.map(|_| ())?,
            Command::Lease { .. } | Command::Advance(_) | Command::Crash | Command::Together(_) => {
                unreachable!()
            }
        }
        Ok(Answer::Done)
    }

    fn lease(&mut self, worker: u8, request: u8, now: u64) -> Answer {
        let asked = LeaseRequest {
            worker: self.workers[usize::from(worker)].clone(),
            queue: name(worker % QUEUES),
            request: Uuid::from_u128(request.into()),
        };
        let stop = CancellationToken::new();
        let leased = self.queue.lease(&asked, Duration::ZERO, stands(self.time(now)), &stop);
        let leased = match self.runtime.block_on(leased) {
            Ok(Some(leased)) => leased,
            Ok(None) => return Answer::NoTask,
            Err(error) => return answer(Err(error)),
        };
        let token = leased.lease.token.expose().to_owned();
        let attempt = leased.lease.attempt;
        let known = self.tokens.iter().position(|known| *known == token).unwrap_or_else(|| {
            self.tokens.push(token.clone());
            self.tokens.len() - 1
        });
        self.won.insert(request, (attempt, token));
        Answer::Leased { task: number(leased.task.id.as_str()), attempt, token: known + 1 }
    }

    async fn heartbeat(&self, lease: Named, after: u64, now: Timestamp) -> Result<Answer, StoreError> {
        let (id, claim, stop) = (task(lease.task), self.claim(lease), CancellationToken::new());
        let beat = self.queue.heartbeat(&id, claim, after, Duration::ZERO, now, &stop).await?;
        let orders = beat.orders.into_iter().map(|order| match order.kind {
            OrderKind::Cancel { .. } => (order.seq, Order::Cancel),
            OrderKind::Message { text } => (order.seq, Order::Message(text.strip_prefix('m').map(number))),
        });
        Ok(Answer::Orders(orders.collect()))
    }

    /// What the door makes of a token.
    fn claim(&self, lease: Named) -> Claim {
        let (attempt, token) = self.won.get(&lease.request).map_or((1, "cwl-1-00"), |(n, token)| (*n, token));
        self.queue.tokens().claim(&task(lease.task), attempt, token)
    }

    fn time(&self, now: u64) -> Timestamp {
        after(self.begin, Duration::from_secs(now))
    }

    /// What a machine finds that lost its power now: the files as they lie on the disk. The old program lives until
    /// then, so that nothing is tidied up by its end.
    fn crash(&mut self, now: u64) {
        let folder = folder();
        let mut files: Vec<_> =
            fs::read_dir(self.folder.path()).unwrap().map(|file| file.unwrap().path()).collect();
        // The database may be newer than what is beside it, and never older.
        files.sort_by_key(|path| path.file_name().unwrap().to_string_lossy().starts_with("coordinator.db"));
        for path in files.iter().filter(|path| path.is_file() && !path.ends_with("coordinator.db-shm")) {
            fs::copy(path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        let now = self.time(now);
        self.queue = self.runtime.block_on(async { open(folder.path(), now) });
        self.folder = folder;
    }
}

fn answer(asked: Result<Answer, StoreError>) -> Answer {
    asked.unwrap_or_else(|error| {
        let Problem { code, state, .. } = error.into();
        Answer::Refused(code, state)
    })
}

/// A clock that stands until an hour has passed.
fn stands(now: Timestamp) -> Clock {
    Clock::at(now, std::time::Instant::now() + Duration::from_secs(3_600))
}

/// In memory, where there is such a place: thousands of flushes would be all that a test waits for.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn open(folder: &Path, now: Timestamp) -> Arc<Queue> {
    fs::create_dir_all(folder.join("output")).unwrap();
    let tokens = Tokens::open(&folder.join("coordinator.secret")).unwrap();
    let (database, outputs) = (folder.join("coordinator.db"), Outputs::new(folder.join("output")));
    Queue::open(&database, tokens, outputs, Arc::default(), MAX_RUNNING, stands(now)).unwrap().0
}

/// Each mirror gets its commit by a task that is then forgotten.
async fn seed(queue: &Queue, now: Timestamp) -> Vec<WorkerId> {
    for of in 0..QUEUES {
        let repo = Repo { name: name(of), source: "/srv/x".to_owned(), created_at: now };
        queue.add_repo(Registered { source: repo.source.clone(), repo }).await.unwrap();
        let new = NewTask {
            id: Some("seed".to_owned()),
            queue: name(of).to_string(),
            prompt: Some("do".to_owned()),
            ..NewTask::default()
        };
        let seed = Incoming::new(new.check().unwrap(), b"seed");
        let id = seed.id.clone();
        queue.submit(vec![seed], Usd::ZERO, now).await.unwrap();
        queue.pin(id.clone(), KNOWN.to_owned(), now).await.unwrap();
        queue.cancel(&id, Cancel::default(), now).await.unwrap();
        queue.forget(vec![id]).await.unwrap();
    }
    let mut workers = Vec::new();
    for worker in 0..WORKERS {
        workers.push(queue.add_worker(name(worker % QUEUES), "test".to_owned(), now).await.unwrap());
    }
    workers
}
