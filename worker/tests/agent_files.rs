//! The agent files that are shipped, against lines that the real CLIs wrote.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::path::{Path, PathBuf};

use protocol::EventBody;
use worker::agent_file::{AgentFile, Finding, load};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../agents")
}

fn shipped(name: &str) -> AgentFile {
    load(Path::new("/nonexistent"), &name.parse().unwrap()).unwrap()
}

/// What the lines of `tests/lines/AGENT-CASE.jsonl` stand for.
fn findings(agent: &str, case: &str) -> Vec<Finding> {
    let path = format!("{}/tests/lines/{agent}-{case}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let (reading, text) = (shipped(agent).reading(), std::fs::read_to_string(path).unwrap());
    let of_line = |line: &str| {
        reading.findings(line.as_bytes()).unwrap_or_else(|| panic!("{agent} has no rule for {line}"))
    };
    text.lines().flat_map(of_line).collect()
}

/// The events in short.
fn shape(findings: &[Finding]) -> Vec<String> {
    let short = |finding: &Finding| match &finding.body {
        EventBody::Text { text } => format!("text {text}"),
        EventBody::ToolUse { name, .. } => format!("use {name}"),
        EventBody::ToolResult { is_error, .. } => {
            format!("result {}", if *is_error { "bad" } else { "good" })
        }
        EventBody::Usage { input_tokens, output_tokens } => format!("usage {input_tokens} {output_tokens}"),
        EventBody::Error { .. } if finding.failure.is_some() => "failure".to_owned(),
        EventBody::Error { .. } => "error".to_owned(),
        other => format!("{other:?}"),
    };
    findings.iter().map(short).collect()
}

#[test]
fn every_file_is_good_and_names_how_to_install_its_agent() {
    for name in ["opencode", "claude", "codex", "command"] {
        let install = shipped(name).install;
        assert!(install.npm.is_some() != install.hint.is_some(), "{name}");
        if let Some((_, version)) = install.npm.as_deref().and_then(|package| package.rsplit_once('@')) {
            assert!(version.split('.').count() == 3, "{name} is not pinned: {version}");
        }
    }
}

#[test]
fn every_cli_can_go_on_with_a_conversation() {
    for (name, word) in [("opencode", "--continue"), ("claude", "--continue"), ("codex", "resume")] {
        let go_on = shipped(name).go_on.unwrap();
        assert!(go_on.iter().any(|argument| argument == word), "{name}: {go_on:?}");
    }
    assert!(shipped("command").go_on.is_none(), "a program of the repository's own has no such word");
}

#[test]
fn an_agent_that_is_not_there_is_answered_with_those_that_are() {
    let error = load(&folder(), &"nobody".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("nobody") && error.contains("claude, codex, command, opencode"), "{error}");
}

#[test]
fn a_file_of_the_users_own_stands_before_the_built_in_one() {
    let own = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(folder().join("codex.toml")).unwrap();
    std::fs::write(own.path().join("codex.toml"), text.replace("\"codex\"", "\"my-codex\"")).unwrap();
    assert_eq!(load(own.path(), &"codex".parse().unwrap()).unwrap().program, "my-codex");
}

#[test]
fn opencode_is_understood() {
    let done = shape(&findings("opencode", "done"));
    let expected = [
        "text I will write the file.",
        "use write",
        "result good",
        "usage 1200 80",
        "text The file is there.",
        "usage 1400 12",
    ];
    assert_eq!(done, expected);
    assert_eq!(shape(&findings("opencode", "refused")), ["failure"]);
}

#[test]
fn claude_is_understood() {
    let done = shape(&findings("claude", "done"));
    let expected = [
        "text I will write the file.",
        "use Write",
        "result good",
        "text The file is there.",
        "usage 2600 92",
    ];
    assert_eq!(done, expected);
    let other = br#"{"type":"assistant","message":{"content":[{"type":"of tomorrow","text":"x"}]}}"#;
    assert_eq!(shipped("claude").reading().findings(other), Some(Vec::new()));
    // The line says subtype "success".
    let refused = findings("claude", "refused");
    assert_eq!(shape(&refused).last().unwrap(), "failure");
}

#[test]
fn codex_is_understood_and_an_unknown_model_is_no_failure() {
    let done = shape(&findings("codex", "done"));
    let expected = [
        "error",
        "text I will write the file.",
        "use command_execution",
        "result good",
        "text The file is there.",
        "usage 2600 92",
    ];
    assert_eq!(done, expected);
    let refused = shape(&findings("codex", "refused"));
    assert_eq!(refused.last().unwrap(), "failure");
    assert_eq!(refused.iter().filter(|event| *event == "failure").count(), 1);
}

#[test]
fn what_no_rule_is_for_and_what_is_no_json_is_left_to_be_shown_as_it_is() {
    let reading = shipped("codex").reading();
    for line in ["WARNING: proceeding", r#"{"type":"of.tomorrow"}"#, "[1]", "{", ""] {
        assert_eq!(reading.findings(line.as_bytes()), None, "{line}");
    }
    assert!(shipped("command").reading().findings(b"{}").is_none());
}

#[test]
fn a_file_with_faults_is_refused_with_all_of_them() {
    let good = std::fs::read_to_string(folder().join("codex.toml")).unwrap();
    assert!(AgentFile::parse(&good).is_ok());
    let faults = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        AgentFile::parse(&good.replacen(from, to, 1)).unwrap_err().join("; ")
    };
    assert!(faults("program =", "colour = 1\nprogram =").contains("colour"));
    assert!(faults("emit = { text", "emits = 1\nemit = { text").contains("emits"));
    assert!(faults("{ text = \"/item/text\" }", "{ txet = \"/item/text\" }").contains("txet"));
    assert!(faults("\"/item/text\"", "\"item\"").contains("JSON pointer"));
    assert!(faults("providers = [\"openai\"]", "providers = [\"other\"]").contains("model.default"));
    let further = faults("\"--last\", \"--json\", \"-\"]", "\"{prompt}\", \"{key}\"]");
    assert!(
        further.contains("{prompt} stands in continue") && further.contains("continue[3]: {key}"),
        "{further}"
    );
    let two = faults("\"-\"]", "\"{prompt}\", \"{key}\"]");
    assert!(two.contains("{prompt}") && two.contains("{key}"), "{two}");
    assert!(faults(".codex/config.toml", "../x").contains("below HOME"));
}
