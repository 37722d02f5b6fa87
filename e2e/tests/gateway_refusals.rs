//! What the real agent CLIs do when the gateway refuses them: they end at once, the task says why, and nothing is
//! paid for twice.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::panic,
    reason = "a panic is how a test fails, and how long an agent took is told"
)]

use std::time::Duration;

use e2e::{Agent, Place};
use jiff::Timestamp;
use protocol::{
    client::{AdminClient, Endpoint},
    keys::{KeyLimits, MintKey},
};
use serde_json::Value;

/// How long an agent may go on when it has been refused.
const AT_ONCE: Duration = Duration::from_secs(5);
/// How long it may try again where it is told to come later, which is after a second each time.
const SOON: Duration = Duration::from_secs(20);
/// A provider that has too much to do.
const BUSY: &str = "[[turn]]\nstatus = 429\nerror = 'rate limited'\nretry_after = 1";

/// The first turn costs 1.803 USD and a little, at each agent's default model.
fn turns(agent: Agent) -> String {
    let output = match agent {
        Agent::Claude | Agent::Opencode => 120_000, // 15 USD a million
        Agent::Codex => 180_200,                    // 10 USD a million
    };
    format!(
        r#"
        [[turn]]
        text = "The first turn."
        usage = {{ input = 1000, output = {output} }}
        [[turn.tool]]
        name = "bash"
        input = {{ command = "echo one > first.txt; case $(git branch --show-current) in *revoked|*expired) sleep 3;; esac", description = "The first turn" }}
        [[turn.tool.or]]
        name = "Bash"
        input = {{ command = "echo one > first.txt; case $(git branch --show-current) in *revoked|*expired) sleep 3;; esac", description = "The first turn" }}
        [[turn.tool.or]]
        name = "exec_command"
        input = {{ cmd = "echo one > first.txt; case $(git branch --show-current) in *revoked|*expired) sleep 3;; esac" }}

        [[turn]]
        text = "Nobody was refused."
        "#
    )
}

/// A place, its launcher, and the agent that is refused in it.
struct Refused {
    place: Place,
    agent: Agent,
}

impl Refused {
    fn set(agent: Agent) -> Option<Self> {
        let mut place = Place::with_agents(&turns(agent))?;
        place.repo("sample", &[("a.txt", "a\n")]);
        place.launch(&["sample"]);
        Some(Self { place, agent })
    }

    /// Sends a task with this budget, does something meanwhile, and looks at how it ends when the gateway has said
    /// `word` to its agent.
    fn ends(&mut self, id: &str, budget: &str, meanwhile: impl FnOnce(&Place), word: &str, reason: &str) {
        let before = self.place.up_process().lines();
        let asked = asked(&self.place);
        let agent = self.agent.name();
        let send = ["send", "--wait", "--id", id, "--budget", budget, "--agent", agent, "sample", "Go on."];
        let mut sent = self.place.start_cli(&send);
        sent.wait_for("is sent");
        meanwhile(&self.place);
        let code = sent.wait();
        let task = self.place.task(id);
        let logs = self.place.cli(&["logs", id]).out;
        assert_eq!((code, &task["state"]), (1, &"failed".into()), "{task:#}\n{logs}");
        let told = task["reason"].as_str().unwrap();
        assert!(told.starts_with(&format!("{reason}: ")), "{told}\n{logs}");
        let line = self.place.up_process().wait_for_after(before, word);
        let after = ended(&task).duration_since(time_of(&line));
        eprintln!("{agent}: {id}: the task has failed {:.1} s after {word:?}", after.as_secs_f64());
        assert!(after.unsigned_abs() <= AT_ONCE, "{after:?} after {line}\n{logs}");
        assert_eq!(
            asked + 1,
            self::asked(&self.place),
            "the model was asked once: {:#?}",
            self.place.model_log()
        );
    }
}

fn ended(task: &Value) -> Timestamp {
    task["finished_at"].as_str().unwrap().parse().unwrap()
}

/// The first word of a line that is a time.
fn time_of(line: &str) -> Timestamp {
    line.split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no time in {line:?}"))
}

/// Requests that had the model say something.
fn asked(place: &Place) -> usize {
    let routes = ["/v1/messages", "/v1/responses", "/v1/chat/completions"];
    place.model_log().iter().filter(|request| routes.iter().any(|route| request["route"] == *route)).count()
}

/// Has the gateway's admin door do something to a task's key while its first turn's tool runs.
fn at_the_door<T>(place: &Place, id: &str, act: impl AsyncFnOnce(AdminClient) -> T) -> T {
    place.start_cli(&["logs", "-f", id]).wait_for("The first turn.");
    let door: Endpoint =
        format!("unix://{}", place.run_folder().join("gateway-admin.sock").display()).parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(act(AdminClient::new(door).unwrap()))
}

fn revoke(place: &Place, id: &str) {
    at_the_door(place, id, async |door| door.revoke(&id.parse().unwrap(), 1).await.unwrap());
}

/// Mints the key again, as one whose time is over.
fn expire(place: &Place, id: &str) {
    let born = place.task(id)["created_at"].as_str().unwrap().parse().unwrap();
    let key = MintKey {
        task: id.parse().unwrap(),
        born: Some(born),
        attempt: 1,
        first: None,
        queue: "sample".parse().unwrap(),
        budget_usd: "40".parse().unwrap(),
        expires_at: Timestamp::now(),
        limits: KeyLimits::default(),
    };
    at_the_door(place, id, async |door| door.mint(&key).await.unwrap());
}

fn an_agent_obeys(agent: Agent) {
    let Some(mut refused) = Refused::set(agent) else { return };
    // The first turn is affordable, and the second is not. (opencode tries again where an error's text has a 504.)
    refused.ends("spent", "1.80504", |_| {}, "budget_spent: ", "budget_spent");
    // The first turn passes the budget in the middle of its stream.
    refused.ends("cut", "1.5004", |_| {}, "has passed its budget", "budget_spent");
    refused.ends("revoked", "40", |place| revoke(place, "revoked"), "was revoked", "key_revoked");
    // Each task of opencode's is seven seconds of its own start.
    if !matches!(agent, Agent::Opencode) {
        refused.ends("expired", "40", |place| expire(place, "expired"), "has expired", "key_revoked");
    }
}

/// What a provider says of its rates passes, and a few attempts are all.
fn an_agent_gives_up(agent: Agent) {
    let Some(mut place) = Place::with_agents(BUSY) else { return };
    place.repo("sample", &[("a.txt", "a\n")]);
    place.launch(&["sample"]);
    let send = ["send", "--wait", "--id", "busy", "--agent", agent.name(), "sample", "Go on."];
    assert_eq!(place.cli(&send).code, 1);
    let task = place.task("busy");
    let reason = task["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("agent_failed: ") && (reason.contains("rate limited") || reason.contains("429")),
        "{task:#}"
    );
    let line = place.up_process().wait_for_after(0, "the upstream refused");
    let after = ended(&task).duration_since(time_of(&line));
    eprintln!("{}: {} requests in {:.1} s", agent.name(), asked(&place), after.as_secs_f64());
    assert!(after.unsigned_abs() <= SOON, "{after:?}\n{}", place.cli(&["logs", "busy"]).out);
}

#[test]
fn claude_ends_when_it_is_refused() {
    an_agent_obeys(Agent::Claude);
}

#[test]
fn opencode_ends_when_it_is_refused() {
    an_agent_obeys(Agent::Opencode);
}

#[test]
fn codex_ends_when_it_is_refused() {
    an_agent_obeys(Agent::Codex);
}

#[test]
fn claude_does_not_try_for_ever() {
    an_agent_gives_up(Agent::Claude);
}

#[test]
fn opencode_does_not_try_for_ever() {
    an_agent_gives_up(Agent::Opencode);
}

#[test]
fn codex_does_not_try_for_ever() {
    an_agent_gives_up(Agent::Codex);
}
