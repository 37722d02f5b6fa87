//! Whatever the network does to what workers and the coordinator say to one another, every task ends, once.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use e2e::{Passed, Place, Plan, Process, Trouble, Unruly, Verb};
use futures_util::StreamExt as _;
use http::StatusCode;
use protocol::{
    Event, EventBody, Secret, Task, TaskState,
    client::{Endpoint, OwnerClient},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;

const KEY: &str = "the-owners-key-of-this-scenario";

/// An agent that does what its prompt says, in a shell, and what it is told later too.
const SCRIPTED: &str = r#"
program = "./agent.sh"
args = ["{prompt}"]
continue = ["{prompt}"]
prompt = "argument"

[model]
default = "anthropic/claude-sonnet-4-5"
providers = ["anthropic"]
form = "name"

[install]
hint = "it stands in the repository"
"#;

/// A place that is up, with a repository whose agent is a script, and its owner.
struct House {
    place: Place,
    owner: OwnerClient,
    runtime: Runtime,
}

impl House {
    fn open() -> Self {
        let mut place = Place::new();
        place.set("FORTRESS_API_KEY", KEY);
        place.set("CODE_WORKERS_DRAIN_S", "1");
        place.agent_file("scripted", SCRIPTED);
        place.model("[[turn]]\ntext = 'unused'");
        place.up();
        place.repo("sample", &[("agent.sh", "#!/bin/bash\neval \"$1\"\n"), ("a.txt", "a\n")]);
        let socket = place.run_folder().join("owner.sock");
        let owner = OwnerClient::new(Endpoint::Unix(socket), Secret::new(KEY)).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { place, owner, runtime }
    }

    /// Between the workers and the coordinator.
    fn network(&self, plan: Plan) -> Unruly {
        Unruly::at(&self.place.run_folder().join("worker.sock"), plan)
    }

    fn launch(&mut self, parallel: &str) {
        self.place.launch(&["sample", "--agent", "scripted", "--parallel", parallel]);
    }

    fn send(&self, id: &str, work: &Value) {
        let mut task = json!({"id": id, "queue": "sample"});
        task.as_object_mut().unwrap().extend(work.as_object().unwrap().clone());
        let task = serde_json::from_value(task).unwrap();
        self.runtime.block_on(self.owner.submit(&task, Duration::ZERO)).unwrap();
    }

    /// The task, when it has ended.
    fn ended(&self, id: &str) -> Task {
        let wait = Duration::from_secs(50);
        let task = self.runtime.block_on(self.owner.task(&id.parse().unwrap(), wait)).unwrap();
        assert!(task.state.is_terminal(), "{task:#?}\n{:#?}", self.events(id));
        task
    }

    fn events(&self, id: &str) -> Vec<Event> {
        let id = id.parse().unwrap();
        self.runtime.block_on(async {
            let events = self.owner.events(&id, 0, false).await.unwrap();
            events.map(Result::unwrap).collect().await
        })
    }

    fn artifact(&self, id: &str, name: &str) -> Vec<u8> {
        let (id, name) = (id.parse().unwrap(), name.parse().unwrap());
        self.runtime.block_on(async {
            let answer = self.owner.artifact(&id, &name).await.unwrap();
            answer.bytes().await.unwrap().to_vec()
        })
    }

    /// The task succeeded with its first attempt, its stream is whole, and its artifacts are what the result says.
    fn succeeded_once(&self, id: &str) -> Task {
        let task = self.ended(id);
        assert_eq!((task.state, task.attempt), (TaskState::Succeeded, 1), "{task:#?}");
        let events = self.events(id);
        assert!(events.iter().map(|event| event.seq).eq(1..=events.len() as u64), "{events:#?}");
        let states = |wanted| {
            let is = |event: &&Event| matches!(&event.event.body, EventBody::State { state, .. } if *state == wanted);
            events.iter().filter(is).count()
        };
        assert_eq!((states(TaskState::Running), states(TaskState::Succeeded)), (1, 1), "{events:#?}");
        for artifact in &task.result.as_ref().unwrap().artifacts {
            let bytes = self.artifact(id, &artifact.name);
            assert_eq!(hex::encode(Sha256::digest(&bytes)), artifact.sha256, "{}", artifact.name);
        }
        task
    }
}

/// What the agent printed, in the order of the stream.
fn printed(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match &event.event.body {
            EventBody::Output { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

/// Whoever asked the same was answered alike, and no lease was given to two.
fn answered_alike(passed: &[Passed]) {
    let mut answers: BTreeMap<(String, String), (StatusCode, Value)> = BTreeMap::new();
    let mut leases = Leases::default();
    for passed in passed {
        // A copy may come when the run, and so its start, is over, or when its worker has ended and opens nothing.
        let late = match passed.verb {
            Verb::Start => passed.status != StatusCode::OK,
            _ => passed.status == StatusCode::FORBIDDEN || passed.answer.is_empty(),
        };
        leases.follow(passed, late);
        if late || !matches!(passed.verb, Verb::Start | Verb::Result) {
            continue;
        }
        let mut answer: Value = serde_json::from_slice(&passed.answer).unwrap();
        answer.as_object_mut().unwrap().remove("expires_at");
        let answer = (passed.status, answer);
        let of = (passed.path(), passed.header("code-workers-lease").to_owned());
        let first = answers.entry(of).or_insert_with(|| answer.clone());
        assert_eq!(*first, answer, "{}", passed.path());
    }
    for (token, path) in leases.replaced {
        assert!(leases.over.contains(&token), "{path} was answered with two leases");
    }
}

/// Who has which lease.
#[derive(Default)]
struct Leases {
    /// By token, the request that brought it.
    holders: BTreeMap<String, String>,
    /// By request, the token that it brought.
    brought: BTreeMap<String, String>,
    /// Tokens of requests that brought another later.
    replaced: Vec<(String, String)>,
    /// Tokens of leases that came to an end.
    over: BTreeSet<String>,
}

impl Leases {
    fn follow(&mut self, passed: &Passed, late: bool) {
        match passed.verb {
            Verb::Lease if !late => {
                let answer: Value = serde_json::from_slice(&passed.answer).unwrap();
                let token = answer["lease"]["token"].as_str().unwrap().to_owned();
                let holder = self.holders.entry(token.clone()).or_insert_with(|| passed.path());
                assert_eq!(*holder, passed.path(), "one lease for two: {answer:#}");
                if let Some(before) = self.brought.insert(passed.path(), token.clone()) {
                    self.replaced.extend((before != token).then(|| (before, passed.path())));
                }
            }
            Verb::Result | Verb::Release => self.end(passed),
            Verb::Start if late => self.end(passed),
            _ => {}
        }
    }

    fn end(&mut self, passed: &Passed) {
        self.over.insert(passed.header("code-workers-lease").to_owned());
    }
}

/// Everything that has ever arrived arrives again: nothing changes, and a result is answered as before or, where its
/// worker has ended, refused.
fn nothing_changes_when_all_comes_again(house: &House, network: &Unruly, tasks: &[String]) {
    let all = |what: &dyn Fn(&String) -> String| tasks.iter().map(what).collect::<Vec<_>>();
    let now =
        || (all(&|id| format!("{:#?}", house.ended(id))), all(&|id| format!("{:#?}", house.events(id))));
    let before = now();
    for (before, after) in network.repeat_all() {
        let alike = (after.status, &after.answer) == (before.status, &before.answer);
        let refused = [403, 409].contains(&after.status.as_u16());
        assert!(
            refused || alike && before.verb == Verb::Result || before.verb == Verb::Lease,
            "{}: {after:#?}",
            before.path()
        );
    }
    assert_eq!(now(), before);
}

/// Eight lines in four parts, so that they come in more than one request.
fn lines(id: &str) -> Vec<String> {
    (0..8).map(|number| format!("{id} says {number}")).collect()
}

fn script(id: &str) -> String {
    let say = format!("for i in 0 2 4 6; do echo {id} says $i; echo {id} says $((i + 1)); sleep 0.1; done");
    format!("echo {id} >> {id}.txt; mkdir -p /work/.artifacts; echo {id} > /work/.artifacts/{id}.txt; {say}")
}

const TASKS: usize = 10;

#[test]
fn whatever_the_network_does_every_task_ends_once() {
    let mut house = House::open();
    let verbs = [Verb::Lease, Verb::Start, Verb::Heartbeat, Verb::Events, Verb::Artifact, Verb::Result];
    // These tasks are too short for a heartbeat to be answered.
    let network =
        house.network(Plan::new(&verbs, |verb, trouble| verb != Verb::Heartbeat || !trouble.needs_answer()));
    let launchers = [Verb::Register, Verb::End];
    let launchers =
        Unruly::at(&house.place.run_folder().join("owner.sock"), Plan::new(&launchers, |_, _| true));
    let tasks: Vec<_> = (0..TASKS).map(|number| format!("task-{number}")).collect();
    for id in &tasks[..TASKS - 2] {
        house.send(id, &json!({"prompt": script(id)}));
    }
    for id in &tasks[TASKS - 2..] {
        house.send(id, &json!({"kind": "exec", "argv": ["bash", "-c", script(id)]}));
    }
    house.launch("3");
    for id in &tasks {
        let task = house.succeeded_once(id);
        assert_eq!(printed(&house.events(id)), lines(id), "{:#?}", house.events(id));
        let result = task.result.unwrap();
        assert!(result.artifacts.iter().any(|artifact| artifact.name == format!("{id}.txt")), "{result:#?}");
        assert_eq!(house.artifact(id, &format!("{id}.txt")), format!("{id}\n").as_bytes());
    }
    let repository = house.place.home().join("repos/sample");
    for id in &tasks[..TASKS - 2] {
        house.place.cli(&["apply", id, "--into", repository.to_str().unwrap()]).ok();
        let show = |what: &[&str]| house.place.git(&repository, what);
        let branch = format!("code-workers/{id}");
        assert_eq!(show(&["diff", "--name-only", "main", &branch]), format!("{id}.txt\n"));
        assert_eq!(show(&["show", &format!("{branch}:{id}.txt")]), format!("{id}\n"));
        assert_eq!(show(&["rev-list", "--count", &format!("main..{branch}")]), "1\n");
    }
    network.wait_until_done();
    assert!(launchers.done().len() > 10, "{:#?}", launchers.done());
    answered_alike(&network.passed());
    nothing_changes_when_all_comes_again(&house, &network, &tasks);
}

/// Orders come with the answers of heartbeats: there the network does its worst.
#[test]
fn whatever_the_network_does_orders_are_carried_out_once_and_in_order() {
    let mut house = House::open();
    let network = house.network(Plan::new(&[Verb::Heartbeat], |_, trouble| trouble != Trouble::BreakWait));
    let talks = ["talk", "talk-too"];
    for id in talks {
        house.send(id, &json!({"prompt": "echo begun; sleep 10"}));
    }
    house.send("stop", &json!({"kind": "exec", "argv": ["bash", "-c", "echo begun; sleep 1000"]}));
    house.launch("3");
    let told: Vec<_> = (1..=5).map(|number| format!("echo {number} >> told.txt")).collect();
    for id in talks {
        house.place.start_cli(&["logs", "-f", id]).wait_for("begun");
        for text in &told {
            let message = serde_json::from_value(json!({"text": text})).unwrap();
            house.runtime.block_on(house.owner.message(&id.parse().unwrap(), &message)).unwrap();
        }
    }
    house.place.start_cli(&["logs", "-f", "stop"]).wait_for("begun");
    house.place.cli(&["cancel", "stop"]).ok();
    let stopped = house.ended("stop");
    assert_eq!((stopped.state, stopped.attempt), (TaskState::Cancelled, 1), "{stopped:#?}");
    let repository = house.place.home().join("repos/sample");
    for id in talks {
        house.succeeded_once(id);
        let events = house.events(id);
        let heard = events.iter().filter_map(|event| match &event.event.body {
            EventBody::Message { seq, text } => Some((*seq, text.clone())),
            _ => None,
        });
        assert!(heard.eq((1..).zip(told.clone())), "{events:#?}");
        house.place.cli(&["apply", id, "--into", repository.to_str().unwrap()]).ok();
        let file = house.place.git(&repository, &["show", &format!("code-workers/{id}:told.txt")]);
        assert_eq!(file, "1\n2\n3\n4\n5\n");
    }
    network.wait_until_done();
}

/// No start ever arrives, until the launcher is told to stop: then what was leased goes back, and no attempt is burnt.
#[test]
fn whatever_the_network_does_a_lease_that_is_not_started_goes_back_and_is_done_once() {
    let mut house = House::open();
    let network = house.network(Plan::new(&[Verb::Release], |_, trouble| trouble != Trouble::DelayAnswer));
    network.close_to(Some(Verb::Start));
    let tasks = ["one", "two"].map(str::to_owned);
    for id in &tasks {
        house.send(id, &json!({"kind": "exec", "argv": ["bash", "-c", script(id)]}));
    }
    house.launch("2");
    for id in &tasks {
        network.wait_for(Verb::Start, id);
    }
    house.place.launchers()[0].signal(Signal::TERM);
    assert_eq!(house.place.launchers()[0].wait(), 0);
    assert!(network.done().keys().any(|(verb, _)| *verb == Verb::Release), "{:#?}", network.done());
    network.close_to(None);
    house.launch("2");
    for id in &tasks {
        house.succeeded_once(id);
        assert_eq!(printed(&house.events(id)), lines(id), "{:#?}", house.events(id));
    }
}

/// The clock that counts from the machine's start, a day ahead in a time namespace. It is the one that leases are
/// measured by; the wall's clock cannot be set for one program alone, and is set in the coordinator's own tests.
#[test]
fn a_coordinator_whose_clock_jumps_between_two_runs_ends_no_lease() {
    let ahead = ["-T", "--monotonic", "86400", "--boottime", "86400"];
    let there = Command::new("unshare").args(ahead).arg("true").output();
    if !there.is_ok_and(|there| there.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "there are no time namespaces here");
        eprintln!("skipped: there are no time namespaces here");
        return;
    }
    let mut house = House::open();
    house.send("long", &json!({"kind": "exec", "argv": ["bash", "-c", "echo begun; sleep 4; echo ended"]}));
    house.launch("2");
    house.place.start_cli(&["logs", "-f", "long"]).wait_for("begun");
    house.place.down();
    let plain = house.place.command("code-workers");
    let mut command = Command::new("unshare");
    command.args(ahead).arg("--").arg(plain.get_program()).arg("up").env_clear();
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut up = Process::start("up", command.current_dir(house.place.home()));
    up.wait_for("ready");
    house.send("later", &json!({"kind": "exec", "argv": ["bash", "-c", "echo begun; sleep 4; echo ended"]}));
    house.succeeded_once("long");
    house.place.start_cli(&["logs", "-f", "later"]).wait_for("begun");
    drop(up);
    house.place.up();
    for id in ["long", "later"] {
        house.succeeded_once(id);
        assert_eq!(printed(&house.events(id)), ["begun", "ended"]);
    }
}
