//! Sandboxes: the launcher starts one that does nothing, and says what can be had here.

use std::{path::Path, process::Stdio};

use serde::Deserialize;
use tokio::process::Command;

use super::check::Check;
use crate::programs;

/// What the launcher says.
#[derive(Debug, Deserialize)]
struct Probed {
    found: String,
    warnings: Vec<String>,
}

pub(super) async fn look(config: Option<&Path>, has_key: bool) -> Vec<Check> {
    let Ok(launcher) = programs::find("code-workers-launcher") else {
        return vec![Check::skipped("sandbox", "the launcher's program is missing")];
    };
    let mut command = Command::new(launcher);
    command.arg("--probe").stdin(Stdio::null());
    if let Some(file) = config {
        command.arg("--config").arg(file);
    }
    if !has_key {
        // It is not used, and its want is told elsewhere.
        command.env("FORTRESS_API_KEY", "none");
    }
    match command.output().await {
        Ok(output) if output.status.success() => judge(&output.stdout),
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            let remedy = "apt-get install runsc (on Debian 12 from bookworm-backports), or https://gvisor.dev/docs/user_guide/install";
            vec![Check::failed("sandbox", why, remedy)]
        }
        Err(error) => vec![Check::failed("sandbox", error.to_string(), "install the programs together")],
    }
}

fn judge(answer: &[u8]) -> Vec<Check> {
    let probed: Probed = match serde_json::from_slice(answer) {
        Ok(probed) => probed,
        Err(error) => {
            let found = format!("the launcher's answer is not understood: {error}");
            return vec![Check::failed("sandbox", found, "install the programs together")];
        }
    };
    let warning = |warning: String| {
        // What it is, and in parentheses what helps.
        let (found, remedy) = match warning.split_once(" (") {
            Some((found, remedy)) => (found.to_owned(), remedy.trim_end_matches(')').to_owned()),
            None => (warning, "docs/security.md says what holds then".to_owned()),
        };
        Check::warning("sandbox limits", found, remedy)
    };
    let ok = Check::ok("sandbox", probed.found);
    std::iter::once(ok).chain(probed.warnings.into_iter().map(warning)).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, judge};

    #[test]
    fn each_warning_is_told_with_its_remedy() {
        let checks = judge(br#"{"found":"runsc 1","warnings":["no cgroup (run as root)","slow"]}"#);
        let status: Vec<_> = checks.iter().map(|check| check.status).collect();
        assert_eq!(status, [Status::Ok, Status::Warning, Status::Warning]);
        assert_eq!(checks[1].remedy.as_deref(), Some("run as root"));
        assert_eq!(judge(b"x")[0].status, Status::Failed);
    }
}
