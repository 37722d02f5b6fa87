//! One task of its own, its output in small bounds, and all that its stream must say.

use std::{collections::BTreeMap, io::Write as _, path::PathBuf, sync::Arc};

use coordinator::{
    Clock,
    output::{Bounds, Follower, Outputs},
    queue::{LeaseRequest, Queue, Reported},
    tokens::{Claim, Tokens},
};
use protocol::{
    Event, EventBody, TaskState, event::NewEvents, folders::Folders, report::Outcome, submit::NewTask,
};
use tokio_util::sync::CancellationToken;

use crate::house::{folders, id, named, output, queue, report, seed, submit};

/// So small that a few events go over them.
const SMALL: Bounds = Bounds { head: 2_000, segment: 600, segments: 3 };

/// One task whose worker writes, and all that its stream must say.
pub(super) struct Stand {
    _base: tempfile::TempDir,
    pub(super) folders: Folders,
    runtime: tokio::runtime::Runtime,
    open: Option<(Arc<Queue>, Arc<Outputs>)>,
    claim: Claim,
    /// Output events of the attempt.
    sent: u64,
    /// All events, in their order; of output, the bytes of its line too.
    pub(super) expected: Vec<(Said, u64)>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    State(TaskState),
    Output(String),
}

pub(super) const TASK: &str = "t";
/// What is said after damage.
pub(super) const END: &str = "the end";

impl Stand {
    pub(super) fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let folders = folders(base.path());
        std::fs::create_dir_all(folders.output()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build();
        let claim = Claim { attempt: 0, serial: 0 };
        let (expected, runtime) = (Vec::new(), runtime.unwrap());
        let mut stand = Self { _base: base, folders, runtime, open: None, claim, sent: 0, expected };
        stand.reopen();
        let (queues, _) = stand.open.clone().unwrap();
        stand.runtime.block_on(async {
            seed(&queues).await;
            submit(&queues, vec![NewTask { max_attempts: Some(20), ..named(TASK) }]).await;
        });
        stand.expected.push((Said::State(TaskState::Ready), 0));
        stand.begin_attempt();
        stand
    }

    /// As after a crash: nothing but the files knows anything.
    pub(super) fn reopen(&mut self) {
        if let Some((queues, _)) = self.open.take() {
            queues.close();
        }
        let tokens = Tokens::open(&self.folders.data.join("coordinator.secret")).unwrap();
        let outputs = Outputs::bounded(self.folders.output(), SMALL);
        let database = self.folders.coordinator_db();
        let queues = Queue::open(&database, tokens, outputs.clone(), Arc::default(), 0, Clock::start());
        self.open = Some((queues.unwrap().0, outputs));
    }

    /// Leaves what a crash in the middle of a write leaves.
    pub(super) fn crash(&mut self) {
        let end = self.folders.output().join(format!("{TASK}+end"));
        let number = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.split_once('-').map_or(0, |(bytes, _)| bytes.parse().unwrap())
        };
        if let Some(newest) = self.files().into_keys().max_by_key(number) {
            let torn = b"0123abcd {\"l\":3,\"o\":";
            std::fs::OpenOptions::new().append(true).open(newest).unwrap().write_all(torn).unwrap();
        }
        if end.exists() {
            let lines = self.expected.iter().filter(|(_, size)| *size > 0).count();
            let bytes: u64 = self.expected.iter().map(|(_, size)| size).sum();
            std::fs::write(end.join(format!("{bytes}-{lines}")), "").unwrap();
            let runs = std::fs::OpenOptions::new().append(true).open(end.join("runs"));
            runs.unwrap().write_all(b"0123abcd {").unwrap();
        }
        self.reopen();
    }

    pub(super) fn begin_attempt(&mut self) {
        let (queues, _) = self.open.clone().unwrap();
        let (clock, stop) = (Clock::start(), CancellationToken::new());
        let (claim, id) = self.runtime.block_on(async {
            let worker = queues.add_worker(queue("q"), "w".to_owned(), clock.now()).await.unwrap();
            let request = LeaseRequest { worker, queue: queue("q"), request: uuid::Uuid::new_v4() };
            let leased = queues.lease(&request, std::time::Duration::ZERO, clock, &stop).await;
            let lease = leased.unwrap().unwrap().lease;
            let claim = queues.tokens().claim(&id(TASK), lease.attempt, lease.token.expose());
            queues.start(&id(TASK), claim, clock.now()).await.unwrap();
            (claim, id(TASK))
        });
        assert!(queues.runs(&id, claim));
        (self.claim, self.sent) = (claim, 0);
        self.expected.extend([TaskState::Leased, TaskState::Running].map(|state| (Said::State(state), 0)));
    }

    /// The attempt ends as lost, and the next one begins; or the task ends.
    pub(super) fn end_attempt(&mut self, outcome: Outcome) {
        let (queues, _) = self.open.clone().unwrap();
        let reported = Reported { id: id(TASK), claim: self.claim, report: report(outcome), usage: None };
        self.runtime.block_on(async {
            let now = Clock::start().now();
            let state = queues.finish(reported, now).await.unwrap().state;
            self.expected.push((Said::State(state), 0));
            if state == TaskState::Scheduled {
                queues.reap(now + std::time::Duration::from_secs(1_000)).await.unwrap();
                self.expected.push((Said::State(TaskState::Ready), 0));
            }
        });
    }

    pub(super) fn append(&mut self, sizes: &[usize], repeated: u64) {
        let (queues, outputs) = self.open.clone().unwrap();
        let first = self.sent.saturating_sub(repeated);
        let earlier = self.expected.iter().rev().filter_map(|(said, _)| match said {
            Said::Output(text) => Some(output(text)),
            Said::State(_) => None,
        });
        let again = usize::try_from(self.sent - first).unwrap();
        let mut events: Vec<_> = earlier.take(again).collect();
        events.reverse();
        for size in sizes {
            let lifecycle = self.expected.iter().filter(|(said, _)| matches!(said, Said::State(_))).count();
            let line = self.expected.len() - lifecycle + 1;
            self.sent += 1;
            let text = format!("{line}:{}", "x".repeat(*size));
            let event = output(&text);
            let numbers = serde_json::json!({"l": lifecycle, "o": line, "a": self.claim.attempt, "i": self.sent, "e": event});
            self.expected.push((Said::Output(text), numbers.to_string().len() as u64 + 10));
            events.push(event);
        }
        let stored = outputs.append(&queues, &id(TASK), self.claim, NewEvents { first, events });
        assert_eq!(stored.unwrap().stored, self.sent);
    }

    pub(super) fn follow(&self, after: u64) -> Follower {
        let (queues, outputs) = self.open.clone().unwrap();
        outputs.follow(&queues, &id(TASK), after, false).unwrap()
    }

    pub(super) fn read(&self, after: u64) -> Vec<Event> {
        let mut found = Vec::new();
        let mut reader = self.follow(after);
        while let Some((events, next)) = self.step(reader) {
            found.extend(events);
            reader = next;
        }
        found
    }

    pub(super) fn step(&self, reader: Follower) -> Option<(Vec<Event>, Follower)> {
        self.runtime.block_on(reader.next(&CancellationToken::new()))
    }

    /// Every event once and as it was, or in exactly one hole that says how much it is. What was dropped, in bytes.
    pub(super) fn check(&self, after: u64, found: &[Event]) -> u64 {
        let (mut last, mut gone) = (after, 0);
        for event in found {
            let text = format!("{event:?} after {last}, from {after}, of {}", self.expected.len());
            assert!(event.seq > last, "{text}");
            let passed = usize::try_from(last).unwrap()..usize::try_from(event.seq).unwrap();
            match &event.event.body {
                EventBody::Dropped { bytes } => {
                    let lost = &self.expected[passed];
                    assert!(lost.iter().all(|(said, _)| matches!(said, Said::Output(_))), "{text}");
                    let size: u64 = lost.iter().map(|(_, size)| size).sum();
                    // Who comes into the middle of a hole is told of all of it.
                    assert!(
                        *bytes == size || (last == after && after > 0 && *bytes > size),
                        "{text}, {size}"
                    );
                    gone += bytes;
                }
                EventBody::State { state, .. } => {
                    assert_eq!(passed.len(), 1, "{text}");
                    assert_eq!(self.expected[passed.start].0, Said::State(*state), "{text}");
                }
                EventBody::Output { text: said, .. } => {
                    assert_eq!(passed.len(), 1, "{text}");
                    assert_eq!(self.expected[passed.start].0, Said::Output(said.clone()), "{text}");
                }
                _ => panic!("{text}"),
            }
            last = event.seq;
        }
        assert_eq!(last.max(after), after.max(self.expected.len() as u64), "all of it is told");
        gone
    }

    /// No word is served that was not said, and none under another number. How many errors are told, and whether
    /// [`END`] is there.
    pub(super) fn check_damaged(&self) -> (u64, bool) {
        let (mut last, mut errors, mut end) = (0, 0, false);
        for event in self.read(0) {
            assert!(event.seq > last, "{event:?} after {last}");
            last = event.seq;
            match event.event.body {
                EventBody::Output { text, .. } if text == END => end = true,
                EventBody::Output { text, .. } => {
                    let said = &self.expected[usize::try_from(event.seq).unwrap() - 1].0;
                    assert_eq!(said, &Said::Output(text));
                }
                EventBody::Error { message } => {
                    errors += 1;
                    assert!(message.contains("damaged"), "{message}");
                }
                _ => {}
            }
        }
        (errors, end)
    }

    /// The worker has one event more. It may be told to go on from before what it knows to be stored, never after.
    pub(super) fn go_on(&self) {
        let (queues, outputs) = self.open.clone().unwrap();
        let mut first = self.sent;
        loop {
            let again = NewEvents { first, events: vec![output(END)] };
            let stored = outputs.append(&queues, &id(TASK), self.claim, again).unwrap().stored;
            if stored == first + 1 {
                return;
            }
            assert!(stored < first, "{stored}, not {first}");
            first = stored;
        }
    }

    /// Sizes of the files of output that are there.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, u64> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.folders.output()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name() != "runs" {
                    found.insert(entry.path(), entry.metadata().unwrap().len());
                }
            }
        }
        found
    }

    pub(super) fn check_bounds(&self) {
        let files = self.files();
        let head = self.folders.output().join(TASK);
        let (mut kept, mut dropped) = (0, 0);
        for (path, size) in &files {
            // A line larger than a segment has one for itself.
            let most = if *path == head { SMALL.head } else { SMALL.segment.max(1_200) };
            assert!(*size <= most, "{}: {size}", path.display());
            kept += size;
        }
        assert!(files.len() <= 1 + SMALL.segments, "{files:?}");
        for event in self.read(0) {
            if let EventBody::Dropped { bytes } = event.event.body {
                dropped += bytes;
            }
        }
        assert_eq!(kept + dropped, self.expected.iter().map(|(_, size)| size).sum::<u64>());
    }
}
