//! What one look found, and how all of them are told.

use std::fmt::Write as _;

use serde::Serialize;

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Ok,
    /// Tasks run, but less well or less safely than they could.
    Warning,
    /// No task can run.
    Failed,
    /// Not looked at; `found` says why.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) status: Status,
    /// What is there, or what is not.
    pub(super) found: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), remedy: None }
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, status: Status::Skipped, found: why.into(), remedy: None }
    }

    pub(super) fn warning(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, found: found.into(), remedy: Some(remedy.into()) }
    }

    pub(super) fn failed(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Failed, found: found.into(), remedy: Some(remedy.into()) }
    }
}

/// All checks, in the order in which they were made.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) checks: Vec<Check>,
}

impl Report {
    /// Whether a task can run, as far as was looked.
    pub(super) fn is_well(&self) -> bool {
        self.count(Status::Failed) == 0
    }

    fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    /// A line for each, its remedy on the next, and a sum.
    pub(super) fn text(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let mut text = String::new();
        for Check { name, status, found, remedy } in &self.checks {
            let word = match status {
                Status::Ok => "ok",
                Status::Warning => "warning",
                Status::Failed => "FAILED",
                Status::Skipped => "-",
            };
            // Writing to a string does not fail.
            let _ = writeln!(text, "{word:<8} {name:<width$}  {}", indented(found, width));
            if let Some(remedy) = remedy {
                let _ = writeln!(text, "{:<8} {:<width$}  => {}", "", "", indented(remedy, width + 3));
            }
        }
        let [ok, warnings, failed] =
            [Status::Ok, Status::Warning, Status::Failed].map(|status| self.count(status));
        let _ = write!(text, "{ok} ok, {warnings} with a warning, {failed} failed");
        text
    }
}

/// Further lines begin below the first.
fn indented(text: &str, width: usize) -> String {
    let gap = format!("\n{:indent$}", "", indent = 8 + 1 + width + 2);
    crate::terminal::clean(text.trim_end()).replace('\n', &gap)
}

#[cfg(test)]
mod tests {
    use super::{Check, Report};

    #[test]
    fn a_report_says_what_was_found_and_what_to_do() {
        let report = Report {
            checks: vec![
                Check::ok("git", "git version 2.47"),
                Check::failed("owner's key", "two\nlines", "set it"),
                Check::warning("disk", "little", "make room"),
                Check::skipped("task", "not asked for"),
            ],
        };
        assert!(!report.is_well());
        assert_eq!(
            report.text(),
            "ok       git          git version 2.47\n\
             FAILED   owner's key  two\n                      lines\n                      => set it\n\
             warning  disk         little\n                      => make room\n\
             -        task         not asked for\n\
             1 ok, 1 with a warning, 1 failed"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["checks"][1]["status"], "failed");
        assert_eq!(json["checks"][0].get("remedy"), None);
        assert!(Report { checks: report.checks[2..].to_vec() }.is_well());
    }
}
