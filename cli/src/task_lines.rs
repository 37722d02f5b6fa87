//! A task in the words of `poll`, `send --wait` and `list`.

use std::fmt::Write;

use jiff::Timestamp;
use protocol::{Task, TaskState, task::Work};

use crate::terminal::{clean, first_line};

/// `name: value` lines: where the task stands, why, and what came of it.
pub(crate) fn status(task: &Task) -> String {
    let mut lines = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = writeln!(lines, "{name}: {value}");
    };
    line("id", &task.id);
    line("repository", &task.queue);
    line("state", &task.state);
    if let Some(reason) = &task.reason {
        line("reason", &first_line(reason, 500));
    }
    if !task.state.is_terminal() {
        line("since", &format_args!("{:.0}", task.since));
    }
    if let Some(time) = task.not_before {
        line("not_before", &time);
    }
    if let Some(key) = &task.unique_key {
        line("unique_key", &key);
    }
    if let Some(old) = &task.retry_of {
        line("retry_of", &old);
    }
    if task.attempt > 1 {
        line("attempt", &format_args!("{} of {}", task.attempt, task.max_attempts));
    }
    if let (Some(started), Some(finished)) = (task.started_at, task.finished_at) {
        line("seconds", &format_args!("{:.1}", finished.duration_since(started).as_secs_f64()));
    }
    if let Some(result) = &task.result {
        if let Some(code) = result.exit_code {
            line("exit_code", &code);
        }
        if !result.limits.is_empty() {
            let names: Vec<_> = result.limits.iter().map(|limit| limit.as_str()).collect();
            line("limits", &names.join(", "));
        }
        if result.head.is_some() {
            let diff = result.diff;
            line("branch", &task.branch);
            line("changes", &format_args!("{} files, +{} -{}", diff.files, diff.insertions, diff.deletions));
        }
    }
    if let Some(usage) = &task.usage {
        line("tokens", &format_args!("{} in, {} out", usage.input_tokens, usage.output_tokens));
        line("cost", &format_args!("${}", usage.spent_usd));
        if !usage.removed.is_empty() {
            let removed: Vec<_> =
                usage.removed.iter().map(|(name, count)| format!("{name} ({count})")).collect();
            // An agent chose the names.
            line("removed", &clean(&removed.join(", ")));
        }
    }
    lines
}

/// The agent's last words, or an `exec` task's output, without trailing blank space.
pub(crate) fn last_words(task: &Task) -> Option<&str> {
    let words = task.result.as_ref()?.message.as_deref()?.trim_end();
    (!words.is_empty()).then_some(words)
}

/// One line of a list: id, repository, state, how long it stands so, and what it is about; of one that is held,
/// what for.
pub(crate) fn row(task: &Task, now: Timestamp) -> String {
    let about = match &task.work {
        Work::Agent { prompt, .. } => first_line(prompt, 60),
        Work::Exec { argv } => first_line(&format!("$ {}", argv.join(" ")), 60),
    };
    let held = match (task.state, &task.reason) {
        (TaskState::Held, Some(reason)) => format!("({}) ", first_line(reason, 30)),
        _ => String::new(),
    };
    format!(
        "{}  {}  {:<9}  {:>4}  {held}{about}",
        task.id,
        task.queue,
        task.state.as_str(),
        age(task.since, now)
    )
}

/// The largest whole unit: `5s`, `3m`, `7h`, `12d`.
fn age(then: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(then.as_second()).max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::{age, last_words, row, status};
    use jiff::Timestamp;
    use protocol::{Task, TaskState};
    use serde_json::json;

    fn task() -> Task {
        serde_json::from_value(json!({
            "id": "t1", "queue": "sample", "state": "failed", "reason": "agent_failed: it\u{1b}[2J gave up",
            "kind": "agent", "prompt": "fix it\nplease", "base": {}, "branch": "code-workers/t1",
            "priority": "normal", "attempt": 2, "max_attempts": 3, "timeout_s": 60, "principal": "owner",
            "created_at": "2026-01-01T00:00:00Z", "since": "2026-01-01T00:00:02.5Z", "started_at": "2026-01-01T00:00:01Z",
            "finished_at": "2026-01-01T00:00:02.5Z",
            "result": {"outcome": "failed", "exit_code": 3, "limits": ["disk", "memory"], "head": "a", "message": "bye\n\n",
                       "diff": {"files": 1, "insertions": 2, "deletions": 3}},
            "usage": {"spent_usd": "0.5", "requests": 1, "input_tokens": 10, "output_tokens": 20},
        }))
        .unwrap()
    }

    #[test]
    fn a_status_says_what_came_of_it() {
        let wanted = "id: t1\nrepository: sample\nstate: failed\nreason: agent_failed: it\u{fffd}[2J gave up\n\
                      attempt: 2 of 3\nseconds: 1.5\nexit_code: 3\nlimits: memory, disk\nbranch: code-workers/t1\n\
                      changes: 1 files, +2 -3\ntokens: 10 in, 20 out\ncost: $0.50\n";
        assert_eq!(status(&task()), wanted);
        assert_eq!(last_words(&task()), Some("bye"));
    }

    #[test]
    fn a_status_says_what_a_task_waits_for() {
        let waiting = Task {
            state: TaskState::Scheduled,
            reason: None,
            not_before: Some("2026-01-02T00:00:00Z".parse().unwrap()),
            unique_key: Some("nightly".to_owned()),
            retry_of: Some("t0".parse().unwrap()),
            ..task()
        };
        let wanted = "state: scheduled\nsince: 2026-01-01T00:00:02Z\nnot_before: 2026-01-02T00:00:00Z\n\
                      unique_key: nightly\nretry_of: t0\nattempt: ";
        assert!(status(&waiting).contains(wanted), "{}", status(&waiting));
    }

    #[test]
    fn a_row_is_one_line() {
        let now: Timestamp = "2026-01-01T00:02:00Z".parse().unwrap();
        assert_eq!(row(&task(), now), "t1  sample  failed       1m  fix it…");
        let held = Task { state: TaskState::Held, reason: Some("approval".to_owned()), ..task() };
        assert_eq!(row(&held, now), "t1  sample  held         1m  (approval) fix it…");
        assert_eq!(age(now, now), "0s");
        assert_eq!(age(Timestamp::UNIX_EPOCH, "1970-01-03T01:00:00Z".parse().unwrap()), "2d");
    }
}
