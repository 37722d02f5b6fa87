//! Units of systemd and the shim of a fortress, where they are installed.

use std::process::Stdio;

use tokio::process::Command;

use super::check::Check;

/// Units of this user.
const USER_UNITS: [&str; 2] = ["code-workers-coordinator.service", "code-workers-gateway.service"];
/// Units of the system: the host's side of a fortress.
const SYSTEM_UNITS: [&str; 2] =
    ["code-workers-coordinator-relay.service", "code-workers-gateway-relay.service"];
/// The label of a shim's container.
const SHIM: &str = "label=ai-fortress.shim.alias=skia";

pub(super) async fn look() -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, scope, units) in
        [("services", "--user", &USER_UNITS), ("vsock relays", "--system", &SYSTEM_UNITS)]
    {
        if let Some(check) = units_of(name, scope, units).await {
            checks.push(check);
        }
    }
    checks.extend(shim().await);
    checks
}

/// `None` where systemd is not there, or has none of them.
async fn units_of(name: &'static str, scope: &str, units: &[&str]) -> Option<Check> {
    let arguments = [scope, "show", "--property=Id,LoadState,ActiveState,NRestarts"];
    let output = ask("systemctl", arguments.iter().chain(units)).await?;
    judge(name, scope, &output)
}

/// What stands in `systemctl show`: blocks of `Name=value` lines, one a unit.
fn judge(name: &'static str, scope: &str, shown: &str) -> Option<Check> {
    let units: Vec<Vec<(&str, &str)>> = shown
        .split("\n\n")
        .map(|block| block.lines().filter_map(|line| line.split_once('=')).collect())
        .collect();
    let value = |unit: &[(&str, &str)], name: &str| -> String {
        unit.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()).unwrap_or_default()
    };
    let installed: Vec<_> = units.iter().filter(|unit| value(unit, "LoadState") == "loaded").collect();
    if installed.is_empty() {
        return None;
    }
    let dead: Vec<_> = installed.iter().filter(|unit| value(unit, "ActiveState") != "active").collect();
    let told = |unit: &Vec<(&str, &str)>| format!("{} is {}", value(unit, "Id"), value(unit, "ActiveState"));
    if dead.is_empty() {
        return Some(Check::ok(name, format!("{} of systemd are active", installed.len())));
    }
    let names: Vec<_> = dead.iter().map(|unit| value(unit, "Id")).collect();
    let found: Vec<_> = dead.iter().map(|unit| told(unit)).collect();
    let remedy = format!(
        "systemctl {scope} start {0}; journalctl {scope} -u {1} says why one ended",
        names.join(" "),
        names.first().map(String::as_str).unwrap_or_default()
    );
    Some(Check::failed(name, found.join(", "), remedy))
}

/// The shim's container, where Docker runs.
async fn shim() -> Option<Check> {
    let listed =
        ask("docker", &["ps", "--all", "--filter", SHIM, "--format", "{{.Names}}: {{.Status}}"]).await?;
    let line = listed.lines().next()?;
    Some(if line.contains(": Up") {
        Check::ok("shim", format!("container {line}"))
    } else {
        let remedy = "docker start it; sandboxes cannot connect to skia:7222 without it";
        Check::failed("shim", format!("container {line}"), remedy)
    })
}

/// A program's output, where it is there and succeeds.
async fn ask<'a>(program: &str, arguments: impl IntoIterator<Item = &'a &'a str>) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().await.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, judge};

    #[test]
    fn only_installed_units_count() {
        let unit = |id: &str, load: &str, active: &str| {
            format!("NRestarts=0\nId={id}\nLoadState={load}\nActiveState={active}\n")
        };
        let none = unit("a", "not-found", "inactive");
        assert_eq!(judge("x", "--user", &none), None);
        let well = format!("{none}\n{}", unit("b", "loaded", "active"));
        assert_eq!(judge("x", "--user", &well).unwrap().status, Status::Ok);
        let dead = format!("{well}\n{}", unit("c", "loaded", "failed"));
        let check = judge("x", "--user", &dead).unwrap();
        assert_eq!((check.status, check.found.as_str()), (Status::Failed, "c is failed"));
    }
}
