//! The agent CLIs that sandboxes are given.

use std::fs;

use protocol::folders::Folders;

use super::check::Check;

/// The agents that are installed with npm, and the files that pin them.
const FILES: [(&str, &str); 3] = [
    ("opencode", include_str!("../../../../agents/opencode.toml")),
    ("claude", include_str!("../../../../agents/claude.toml")),
    ("codex", include_str!("../../../../agents/codex.toml")),
];

/// One check: one agent is enough, and each that is missing is named with its command.
pub(super) fn look(folders: &Folders) -> Vec<Check> {
    let (there, missing): (Vec<_>, Vec<_>) = FILES
        .iter()
        .filter_map(|(name, file)| Some((*name, package(file)?)))
        .map(|(name, package)| (name, package, installed(folders, name)))
        .partition(|(_, _, installed)| installed.is_some());
    let old = there.iter().filter(|(_, package, installed)| installed.as_deref() != Some(*package));
    let old: Vec<_> = old.map(|(name, package, _)| (*name, *package)).collect();
    let missing: Vec<_> = missing.into_iter().map(|(name, package, _)| (name, package)).collect();
    let found: Vec<&str> = there.iter().map(|(_, package, _)| *package).collect();
    let mut checks = vec![if found.is_empty() {
        Check::warning(
            "agents",
            "no agent CLI is installed: only `--agent command` and exec tasks run",
            npm(folders, &missing),
        )
    } else {
        let without: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
        let rest = if without.is_empty() { String::new() } else { format!(" (not {})", without.join(", ")) };
        Check::ok("agents", format!("{}{rest}", found.join(", ")))
    }];
    if !old.is_empty() {
        let names: Vec<_> = old.iter().map(|(name, _)| *name).collect();
        let found = format!("{}: not the version that was tried with this release", names.join(", "));
        checks.push(Check::warning("agents", found, npm(folders, &old)));
    }
    checks
}

/// The pinned package of an agent file.
fn package(file: &str) -> Option<&str> {
    let line = file.lines().find_map(|line| line.trim().strip_prefix("npm"))?;
    line.trim_start().strip_prefix('=')?.trim().strip_prefix('"')?.strip_suffix('"')
}

/// The package that stands in the agent's folder.
fn installed(folders: &Folders, name: &str) -> Option<String> {
    let mark = fs::read_to_string(folders.agents().join(name).join(".installed")).ok()?;
    Some(mark.trim().to_owned())
}

fn npm(folders: &Folders, agents: &[(&str, &str)]) -> String {
    let line = |(name, package): &(&str, &str)| {
        let folder = folders.agents().join(name);
        let folder = folder.display();
        format!("npm install --prefix {folder} {package} && echo {package} > {folder}/.installed")
    };
    agents.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::{super::check::Status, FILES, look, package};
    use protocol::folders::Folders;
    use std::fs;

    #[test]
    fn every_agent_that_npm_brings_is_pinned() {
        for (name, file) in FILES {
            let package = package(file).expect(name);
            assert!(package.rsplit_once('@').is_some_and(|(_, version)| version.contains('.')), "{package}");
        }
    }

    #[test]
    fn one_agent_is_enough_and_an_old_one_is_told() {
        let place = tempfile::tempdir().unwrap();
        let folders = Folders {
            config: place.path().join("c"),
            data: place.path().join("d"),
            run: place.path().join("r"),
        };
        let none = look(&folders);
        assert_eq!(none[0].status, Status::Warning);
        assert_eq!(none[0].remedy.as_ref().unwrap().lines().count(), 3);
        let folder = folders.agents().join("claude");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(".installed"), package(FILES[1].1).unwrap()).unwrap();
        let one = look(&folders);
        assert_eq!((one.len(), one[0].status), (1, Status::Ok));
        assert!(one[0].found.contains("not opencode, codex"), "{one:?}");
        fs::write(folder.join(".installed"), "old@1.0").unwrap();
        assert_eq!(look(&folders)[1].status, Status::Warning);
    }
}
