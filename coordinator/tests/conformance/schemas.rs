//! Databases that earlier versions wrote: `tests/schemas/N` is one of schema N, made by the last version that had it,
//! with the tasks below. Before a migration is released, the database of the schema before it is put there.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use coordinator::{
    Clock,
    output::Outputs,
    queue::{LeaseRequest, Queue, Reported},
    tokens::{Claim, Tokens},
};
use jiff::Timestamp;
use protocol::{
    TaskState::{self, Cancelled, Failed, Leased, Ready, Running, Scheduled, Succeeded},
    WorkerId,
    lease::OrderKind,
    report::{Outcome, Report},
    task::{Priority, Work},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What stands in each of them: id, state, attempt, the reason's word, the states that its events tell of.
const TASKS: [(&str, TaskState, u32, Option<&str>, usize); 9] = [
    ("known", Succeeded, 1, None, 5),
    ("bad", Failed, 0, Some("base_unresolvable"), 2),
    ("failed", Failed, 1, Some("exit"), 4),
    ("tried", Scheduled, 1, Some("oom"), 4),
    ("running", Running, 1, None, 3),
    ("cancelling", Running, 1, None, 3),
    ("leased", Leased, 1, None, 2),
    ("gone", Cancelled, 0, None, 2),
    ("agent", Ready, 0, None, 1),
];

/// A copy of one of them, opened by the present code.
struct Old {
    queue: Arc<Queue>,
    folder: tempfile::TempDir,
    /// Later than all that happened in it, and than its opening.
    now: Timestamp,
}

/// The folders by schema, the oldest first.
fn schemas() -> Vec<(i64, PathBuf)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/schemas");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut found: Vec<_> = entries
        .map(|entry| {
            (entry.file_name().to_str().unwrap().parse().expect("a folder is a number"), entry.path())
        })
        .collect();
    found.sort();
    found
}

fn version(database: &std::path::Path) -> i64 {
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
}

fn open(folder: &std::path::Path) -> Arc<Queue> {
    fs::create_dir_all(folder.join("output")).unwrap();
    let tokens = Tokens::open(&folder.join("coordinator.secret")).unwrap();
    let outputs = Outputs::new(folder.join("output"));
    let database = folder.join("coordinator.db");
    Queue::open(&database, tokens, outputs, Arc::default(), 0, Clock::start()).unwrap().0
}

impl Old {
    fn open(schema: i64, path: &std::path::Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(path).unwrap().map(|file| file.unwrap()) {
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        assert_eq!(version(&folder.path().join("coordinator.db")), schema, "{}", path.display());
        let queue = open(folder.path());
        let since = TASKS.map(|(name, ..)| queue.task(&name.parse().unwrap()).unwrap().unwrap().since);
        let last = since.into_iter().max().unwrap().max(Clock::start().now());
        Self { queue, folder, now: last + Duration::from_secs(600) }
    }

    fn task(&self, name: &str) -> protocol::Task {
        self.queue.task(&name.parse().unwrap()).unwrap().unwrap()
    }

    /// The lease that a worker of then still holds, from the token that its secret gives.
    fn claim(&self, name: &str) -> Claim {
        let secret = Tokens::open(&self.folder.path().join("coordinator.secret")).unwrap();
        let token = secret.of_lease(&name.parse().unwrap(), Claim { attempt: 1, serial: 1 });
        self.queue.tokens().claim(&name.parse().unwrap(), 1, token.expose())
    }

    async fn finish(&self, name: &str, outcome: Outcome) -> TaskState {
        let (id, claim) = (name.parse().unwrap(), self.claim(name));
        let reported = Reported { id, claim, report: report(outcome), usage: None };
        self.queue.finish(reported, self.now).await.unwrap().state
    }

    async fn lease(&self, worker: &WorkerId) -> Option<protocol::lease::Leased> {
        let request = Uuid::new_v4();
        let request = LeaseRequest { worker: worker.clone(), queue: "sample".parse().unwrap(), request };
        self.queue.lease(&request, Duration::ZERO, Clock::start(), &CancellationToken::new()).await.unwrap()
    }
}

fn report(outcome: Outcome) -> Report {
    Report { exit_code: Some(0), message: Some("later".to_owned()), ..Report::new(outcome) }
}

#[tokio::test]
async fn every_task_of_an_earlier_schema_stands_as_it_stood() {
    for (schema, path) in schemas() {
        let old = Old::open(schema, &path);
        let here = old.folder.path();
        for queue in [old.queue.clone(), {
            old.queue.close();
            open(here)
        }] {
            for (name, state, attempt, reason, events) in TASKS {
                let task = queue.task(&name.parse().unwrap()).unwrap().unwrap();
                let word = task.reason.as_deref().map(|reason| reason.split(':').next().unwrap());
                assert_eq!(
                    (task.state, task.attempt, word),
                    (state, attempt, reason),
                    "{name} of schema {schema}"
                );
                let (row, count) = queue.row_and_events(&task.id).unwrap().unwrap();
                let told = queue.lifecycle(&task.id, row.n, 0, i64::MAX.cast_unsigned()).unwrap();
                assert!(told.iter().map(|event| event.seq).eq(1..=events as u64), "{name}: {told:?}");
                assert_eq!(
                    (count, told.last().unwrap().event.at),
                    (events as u64, task.since),
                    "{name}: {told:?}"
                );
            }
            assert_eq!(queue.page(&protocol::task::TaskFilter::default()).unwrap().tasks.len(), TASKS.len());
        }
        let queue = open(here);
        let known = queue.task(&"known".parse().unwrap()).unwrap().unwrap();
        assert_eq!(known.result.unwrap().message.as_deref(), Some("done"));
        assert_eq!(known.base.requested.as_deref(), Some("main"));
        let agent = queue.task(&"agent".parse().unwrap()).unwrap().unwrap();
        let Work::Agent { prompt, .. } = &agent.work else { panic!("{agent:?}") };
        assert_eq!((prompt.as_str(), agent.priority), ("say hello", Priority::Low));
        assert_eq!(agent.budget_usd, Some("1.50".parse().unwrap()));
        assert_eq!(agent.branch, "code-workers/agent");
    }
}

#[tokio::test]
async fn the_work_of_an_earlier_schema_goes_on() {
    for (schema, path) in schemas() {
        let old = Old::open(schema, &path);
        let (queue, now) = (&old.queue, old.now);
        // Those that ran still do, with the tokens of then.
        let id = "cancelling".parse().unwrap();
        let stop = CancellationToken::new();
        let beat =
            queue.heartbeat(&id, old.claim("cancelling"), 0, Duration::ZERO, now, &stop).await.unwrap();
        let orders: Vec<_> = beat.orders.into_iter().map(|order| (order.seq, order.kind)).collect();
        assert_eq!(orders, [(1, OrderKind::Cancel { grace_s: 10 })], "schema {schema}");
        assert_eq!(old.finish("cancelling", Outcome::Cancelled).await, Cancelled);
        assert_eq!(old.finish("running", Outcome::Succeeded).await, Succeeded);
        queue.start(&"leased".parse().unwrap(), old.claim("leased"), now).await.unwrap();
        let worker = old.task("leased").worker.unwrap();
        assert_eq!(old.finish("leased", Outcome::Failed).await, Failed);
        // What was ready and what waited for its next attempt is leased, the older of the higher priority first.
        queue.reap(now).await.unwrap();
        for (name, attempt) in [("tried", 2), ("agent", 1)] {
            let leased = old.lease(&worker).await.expect(name);
            assert_eq!((leased.task.id.as_str(), leased.lease.attempt), (name, attempt));
            assert_eq!(Some(leased.task.base_commit), old.task(name).base.commit);
        }
        assert!(old.lease(&worker).await.is_none());
        // Its mirror is known to have the commit still.
        let known = old.task("known").base.commit.unwrap();
        let new = protocol::submit::NewTask {
            id: Some("new".to_owned()),
            queue: "sample".to_owned(),
            prompt: Some("go on".to_owned()),
            base: Some(known),
            ..Default::default()
        };
        let new = coordinator::queue::Incoming::new(new.check().unwrap(), b"new");
        queue.submit(vec![new], protocol::Usd::ZERO, now).await.unwrap();
        assert_eq!(old.task("new").state, Ready);
    }
}

#[tokio::test]
async fn no_released_schema_was_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).close();
    let present = version(&folder.path().join("coordinator.db"));
    let kept: Vec<i64> = schemas().into_iter().map(|(schema, _)| schema).collect();
    let wanted: Vec<i64> = (1..present).collect();
    assert_eq!(
        kept, wanted,
        "this version writes schema {present}: put a database of each one before into tests/schemas"
    );
}
