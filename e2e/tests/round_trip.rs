//! A task goes all the way round: queue, sandbox, agent, metered key, branch.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use e2e::{Agent, Place};

fn sample_turns() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recorded-model/sample/turns.toml");
    fs::read_to_string(file).unwrap()
}

#[test]
fn an_exec_task_comes_back_with_its_exit_code_and_output() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("hello.txt", "it is here\n")]);
    place.launch(&["sample"]);
    let ran = place.cli(&["send", "--wait", "--exec", "sample", "--", "sh", "-c", "id -u; cat hello.txt"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("1001\n") && ran.out.contains("it is here"), "{ran:?}");
    let ran = place.cli(&["send", "--wait", "--id", "seven", "--exec", "sample", "--", "sh", "-c", "exit 7"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    let task = place.task("seven");
    assert_eq!((&task["state"], &task["result"]["exit_code"]), (&"failed".into(), &7.into()), "{task}");
}

#[test]
fn a_plain_user_has_sandboxes_too() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return; // then the other scenarios are a plain user's
    }
    let mut place = Place::new();
    place.as_plain_user();
    place.model("[[turn]]\ntext = 'unused'");
    place.up();
    place.repo("sample", &[("hello.txt", "it is here\n")]);
    place.launch(&["sample"]);
    let ran = place.cli(&["send", "--wait", "--exec", "sample", "--", "sh", "-c", "id -u; cat hello.txt"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("1001\n") && ran.out.contains("it is here"), "{ran:?}");
}

/// Every agent mends the sample repository; the branch applies, and its test passes in another sandbox.
fn an_agent_mends_the_sample(agent: Agent) {
    let Some(mut place) = Place::with_agents(&sample_turns()) else { return };
    let repo = place.sample();
    place.launch(&["sample", "--parallel", "1"]);
    let before = place.cli(&["send", "--wait", "--exec", "sample", "--", "./test.sh"]);
    assert_eq!(before.code, 1, "the sample's test fails before: {before:?}");
    let prompt = "Make ./test.sh pass.";
    let sent = place.cli(&["send", "--wait", "--id", "mend", "--agent", agent.name(), "sample", prompt]);
    let task = place.task("mend");
    assert_eq!(sent.code, 0, "{sent:?}\n{task:#}");
    assert_eq!(task["result"]["diff"]["files"], 1, "{task:#}");
    let spent: f64 = task["usage"]["spent_usd"].as_str().unwrap().parse().unwrap();
    assert!(spent > 0.0, "the gateway's ledger has the cost: {task:#}");
    let after =
        place.cli(&["send", "--wait", "--base", "code-workers/mend", "--exec", "sample", "--", "./test.sh"]);
    assert_eq!(after.code, 0, "the result's test passes in a fresh sandbox: {after:?}");
    assert!(place.cli(&["diff", "mend"]).ok().contains("+++ b/slug.sh"));
    let head = place.git(&repo, &["rev-parse", "HEAD"]);
    place.cli(&["apply", "mend", "--into", repo.to_str().unwrap()]).ok();
    assert_eq!(place.git(&repo, &["rev-parse", "HEAD"]), head, "apply leaves the work tree alone");
    assert_eq!(place.git(&repo, &["diff", "--name-only", "main", "code-workers/mend"]), "slug.sh\n");
    let asked = place.model_log();
    assert!(!asked.is_empty());
    let kinds: Vec<_> = place
        .cli(&["logs", "--json", "mend"])
        .ok()
        .lines()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["kind"].as_str().unwrap().to_owned()
        })
        .collect();
    for kind in ["state", "stage", "text", "tool_use", "tool_result", "usage"] {
        assert!(kinds.iter().any(|k| k == kind), "{kind} in {kinds:?}");
    }
}

#[test]
fn opencode_mends_the_sample() {
    an_agent_mends_the_sample(Agent::Opencode);
}

#[test]
fn claude_mends_the_sample() {
    an_agent_mends_the_sample(Agent::Claude);
}

#[test]
fn codex_mends_the_sample() {
    an_agent_mends_the_sample(Agent::Codex);
}
