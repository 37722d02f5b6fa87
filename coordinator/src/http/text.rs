//! Answers in lines, for clients that have a shell and nothing else.

use protocol::{Problem, Task, Usd, task::TaskPage};

/// The media type.
pub(super) const MEDIA_TYPE: &str = "text/plain; charset=utf-8";

/// A task: lines of `name: value`, then an empty line and the agent's last words. Names that have no value are
/// left out; `state` is always first.
pub(super) fn task(task: &Task) -> String {
    let mut text = Lines::default();
    text.line("state", task.state.as_str());
    text.line("id", task.id.as_str());
    text.line("queue", task.queue.as_str());
    text.optional("reason", task.reason.as_deref());
    let report = task.result.as_ref();
    text.optional(
        "exit_code",
        report.and_then(|report| report.exit_code).map(|code| code.to_string()).as_deref(),
    );
    text.line("attempt", &task.attempt.to_string());
    text.line("branch", &task.branch);
    text.optional("base", task.base.commit.as_deref());
    text.optional("head", report.and_then(|report| report.head.as_deref()));
    let cost = task.usage.as_ref().map(|usage| usage.spent_usd).map(|sum: Usd| sum.to_string());
    text.optional("cost_usd", cost.as_deref());
    let removed = task.usage.as_ref().filter(|usage| !usage.removed.is_empty());
    let removed =
        removed.map(|usage| usage.removed.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
    text.optional("removed", removed.as_deref());
    let words = report.and_then(|report| report.message.as_deref());
    let mut text = text.0;
    text.push('\n');
    if let Some(words) = words {
        text.push_str(words);
        if !words.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// Tasks: one a line, `state id queue`.
pub(super) fn page(page: &TaskPage) -> String {
    let line = |task: &Task| format!("{} {} {}\n", task.state, task.id, task.queue);
    page.tasks.iter().map(line).collect()
}

/// A problem: `error: …`, `code: …`, and `state: …` where there is one.
pub(super) fn problem(problem: &Problem) -> String {
    let mut text = Lines::default();
    text.line("error", &problem.detail);
    let code = serde_json::to_value(problem.code).ok();
    text.optional("code", code.as_ref().and_then(serde_json::Value::as_str));
    text.optional("state", problem.state.map(protocol::TaskState::as_str));
    text.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    /// One line, whatever the value holds.
    fn line(&mut self, name: &str, value: &str) {
        self.0.push_str(name);
        self.0.push_str(": ");
        self.0.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        self.0.push('\n');
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.line(name, value);
        }
    }
}
