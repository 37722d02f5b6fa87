//! What comes back of what an agent did to its tree.

use std::fs;

use protocol::report::{DiffStat, Outcome};

use crate::place::{Place, git, text};

#[tokio::test]
async fn what_is_uncommitted_is_committed_and_artifacts_are_not() {
    let script = "cat > prompt.txt; echo two >> README.md; rm src/a.txt; mkdir -p .artifacts/deep\n\
        echo report > .artifacts/deep/report.txt; ln -s /etc/passwd .artifacts/link; mkfifo .artifacts/pipe\n\
        echo \"$ANTHROPIC_API_KEY\" > .artifacts/key; head -c 100000 /dev/urandom > binary; echo done";
    let Some(place) = Place::with_agent(script) else { return };
    let prompt = "--fix \"it's\" $HOME \\ é\nsecond line";
    let outcome = place.agent(prompt).await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::Succeeded, "{}", outcome.log);
    assert_eq!(outcome.made.message.as_deref(), Some("done\n"));
    let received = place.received(&outcome);
    assert_eq!(fs::read_to_string(received.join("prompt.txt")).unwrap(), prompt);
    assert_eq!(fs::read_to_string(received.join("README.md")).unwrap(), "one\ntwo\n");
    assert!(!received.join("src/a.txt").exists() && !received.join(".artifacts").exists());
    let log = text(&git(&received, &["log", "--format=%an <%ae>|%s", "-1"]));
    assert_eq!(log, "code-workers <code-workers@localhost>|--fix \"it's\" $HOME \\ é");
    assert_eq!(outcome.made.diff.files, 4);
    assert_eq!(fs::read_to_string(outcome.file("deep_report.txt")).unwrap(), "report\n");
    assert_eq!(fs::read_to_string(outcome.file("key")).unwrap(), "sk-cw-test\n");
    assert!(!outcome.has("link") && !outcome.has("pipe"), "{:?}", outcome.artifacts);
}

#[tokio::test]
async fn the_patch_says_the_same_as_the_bundle() {
    let script =
        "head -c 5000 /dev/urandom > binary; chmod +x README.md; ln -s README.md link; echo x > 'ö \"q\"'";
    let Some(place) = Place::with_agent(script) else { return };
    let outcome = place.agent("go").await;
    let bundled = git(&place.received(&outcome), &["rev-parse", "HEAD^{tree}"]);
    // A clone that has none of the result's objects.
    let fresh = place.places.mirror.with_file_name("fresh");
    git(&place.places.mirror, &["clone", "--quiet", ".", fresh.to_str().unwrap()]);
    git(&fresh, &["apply", "--index", outcome.file("patch").to_str().unwrap()]);
    assert_eq!(text(&git(&fresh, &["write-tree"])), text(&bundled));
}

#[tokio::test]
async fn an_agent_that_changes_nothing_succeeds_without_a_branch() {
    let Some(place) = Place::with_agent("touch README.md; git checkout -q -b other") else { return };
    let outcome = place.agent("go").await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::Succeeded);
    assert_eq!((&outcome.made.head, outcome.made.diff), (&None, DiffStat::default()));
    assert!(!outcome.has("bundle") && !outcome.has("patch"));
}

#[tokio::test]
async fn commits_of_the_agents_come_back_from_wherever_it_left_head() {
    for leave in ["true", "git checkout -q -b elsewhere", "git checkout -q --detach"] {
        let script =
            format!("{leave}; echo 1 > one; git add one; git commit -qm first; echo 2 > two; git add two");
        let Some(place) = Place::with_agent(&script) else { return };
        let outcome = place.agent("go").await;
        let received = place.received(&outcome);
        let subjects = text(&git(&received, &["log", "--format=%s", &format!("{}..", place.base)]));
        assert_eq!(subjects, "go\nfirst", "{leave}: {}", outcome.log);
    }
}

#[tokio::test]
async fn a_history_of_its_own_comes_back_as_one_commit_on_the_base() {
    let script = "git checkout -q --orphan fresh; echo 1 > one; git add -A; git commit -qm fresh";
    let Some(place) = Place::with_agent(script) else { return };
    let outcome = place.agent("go").await;
    let received = place.received(&outcome);
    assert_eq!(text(&git(&received, &["rev-parse", "HEAD^"])), place.base);
    assert!(received.join("one").exists() && received.join("README.md").exists());
}

#[tokio::test]
async fn a_repository_that_is_gone_or_broken_costs_no_work() {
    for harm in [
        "rm -rf .git",
        "rm -rf .git; git init -q .; git commit -q --allow-empty -m mine",
        "rm -rf .git; ln -s /nowhere .git",
        "rm -rf .git/objects; echo junk > .git/HEAD",
        "rm -f .git/objects/info/alternates",
        "echo junk > .git/index",
        "touch .git/index.lock",
        "echo '[core' > .git/config",
        "mkdir -p .git/refs/heads/code-workers/task-1.lock",
        "rm -rf ~/* ~/.[a-z]*; chmod 000 .git",
    ] {
        let Some(place) = Place::with_agent(&format!("echo new > new.txt; rm src/a.txt; {harm}")) else {
            return;
        };
        let outcome = place.agent("go").await;
        assert_eq!(outcome.made.verdict.outcome, Outcome::Succeeded, "{harm}: {}", outcome.log);
        let received = place.received(&outcome);
        assert_eq!(fs::read_to_string(received.join("new.txt")).unwrap(), "new\n", "{harm}");
        assert!(!received.join("src/a.txt").exists() && received.join("README.md").exists(), "{harm}");
        assert_eq!(text(&git(&received, &["rev-parse", "HEAD^"])), place.base, "{harm}");
    }
}

#[tokio::test]
async fn a_lock_that_was_left_costs_no_commit() {
    for harm in ["touch .git/index.lock", "echo junk > .git/index"] {
        let script = format!("git rm -q src/a.txt; git commit -qm first; echo 2 > two; {harm}");
        let Some(place) = Place::with_agent(&script) else { return };
        let outcome = place.agent("go").await;
        let received = place.received(&outcome);
        let subjects = text(&git(&received, &["log", "--format=%s", &format!("{}..", place.base)]));
        assert_eq!(subjects, "go\nfirst", "{harm}: {}", outcome.log);
    }
}

#[tokio::test]
async fn configuration_of_the_agents_runs_nothing_that_holds_up_the_commit() {
    let script = "echo new > new.txt\n\
        mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch /tmp/hook-ran-$PPID; exit 1\\n' > .git/hooks/pre-commit\n\
        chmod +x .git/hooks/pre-commit; cp .git/hooks/pre-commit .git/hooks/reference-transaction\n\
        git config core.fsmonitor 'sleep 1000'; git config commit.gpgSign true; git config gpg.program /bin/false\n\
        git config diff.external /bin/false; git config core.hooksPath .git/hooks";
    let Some(place) = Place::with_agent(script) else { return };
    let outcome = place.agent("go").await;
    assert!(place.received(&outcome).join("new.txt").exists());
    assert!(outcome.has("patch"), "{}", outcome.log);
    assert!(!outcome.log.contains("cannot be used"), "{}", outcome.log);
}

#[tokio::test]
async fn files_that_cannot_be_added_do_not_keep_the_others_back() {
    let script = "echo new > new.txt; echo s > secret; chmod 000 secret; mkfifo pipe; git init -q nested";
    let Some(place) = Place::with_agent(script) else { return };
    let outcome = place.agent("go").await;
    let received = place.received(&outcome);
    assert!(received.join("new.txt").exists() && !received.join("secret").exists());
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_named_with_the_remedy() {
    let Some(place) = Place::new() else { return };
    let outcome = place.agent("go").await;
    assert_eq!(outcome.made.verdict.outcome, Outcome::Failed);
    assert!(
        outcome.reason().starts_with("agent_missing: ") && outcome.reason().contains(".code-workers/agent")
    );
}
