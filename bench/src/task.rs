//! The price of code-workers: one recorded task through it, and the same agent CLI bare in the same sandbox.
//!
//! Bare means: an `exec` task runs the CLI itself, and the model that plays the turns runs inside beside it, so
//! that queue, checkout, gateway, ledger, commit and upload have no part in what is counted.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use e2e::{Agent, Place};

use crate::{load::Sample, table::Row};

const AGENTS: [Agent; 3] = [Agent::Opencode, Agent::Claude, Agent::Codex];

/// Both systems take turns, round by round.
pub(crate) fn run(rounds: usize) -> Vec<Row> {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recorded-model/sample");
    let read = |name: &str| fs::read_to_string(sample.join(name)).expect("the sample is in the tree");
    let mut place =
        Place::with_agents(&read("turns.toml")).expect("set CODE_WORKERS_AGENTS (see CONTRIBUTING.md)");
    let repo = place.repo(
        "sample",
        &[
            ("slug.sh", &read("repository/slug.sh")),
            ("test.sh", &read("repository/test.sh")),
            ("bare.sh", include_str!("bare.sh")),
            ("turns.toml", &read("turns.toml")),
        ],
    );
    fs::copy(place.program("code-workers-recorded-model"), repo.join("model")).expect("the program is built");
    place.git(&repo, &["add", "-A"]);
    place.git(&repo, &["-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "the model"]);
    place.launch(&["sample", "--parallel", "2"]);
    let mut rows = Vec::new();
    for agent in AGENTS {
        let (mut bare, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            bare.push(bare_run(&place, agent));
            ours.push(task_run(&place, agent));
        }
        let (bare, ours) = (Sample::new(bare, Duration::MAX), Sample::new(ours, Duration::MAX));
        let ratio = ours.percentile(50) / bare.percentile(50);
        rows.push(row("bare", agent, &bare, None));
        rows.push(row("code-workers", agent, &ours, Some(("ratio", ratio))));
    }
    rows
}

fn row(system: &str, agent: Agent, times: &Sample, ratio: Option<(&'static str, f64)>) -> Row {
    Row {
        system: system.to_owned(),
        case: agent.name().to_owned(),
        clients: 1,
        rounds: times.times.len(),
        p50_ms: Some(times.percentile(50)),
        more: [("max_ms", times.percentile(100))].into_iter().chain(ratio).collect(),
        ..Row::default()
    }
}

fn bare_run(place: &Place, agent: Agent) -> Duration {
    let ran = place.cli(&["send", "--wait", "--exec", "sample", "--", "bash", "bare.sh", agent.name()]);
    let line = ran.out.lines().find_map(|line| line.strip_prefix("bare_ms="));
    let ms = line.and_then(|ms| ms.parse().ok());
    Duration::from_millis(ms.unwrap_or_else(|| panic!("{} did not run bare: {ran:?}", agent.name())))
}

fn task_run(place: &Place, agent: Agent) -> Duration {
    let began = Instant::now();
    let ran = place.cli(&["send", "--wait", "--agent", agent.name(), "sample", "Make ./test.sh pass."]);
    assert_eq!(ran.code, 0, "{ran:?}");
    began.elapsed()
}
