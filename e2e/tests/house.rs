//! The house's own rules: which room may know which, and how large a file may be.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::DependencyKind;

/// Each room, and the rooms that it may depend on. Nothing depends on a program.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("relay", &[]),
    ("sandbox", &[]),
    ("repository", &[]),
    ("recorded-model", &[]),
    ("gateway", &["protocol"]),
    ("worker", &["protocol"]),
    ("coordinator", &["protocol", "repository"]),
    ("launcher", &["protocol", "sandbox"]),
    ("cli", &["protocol", "repository"]),
    ("bench", &["e2e"]),
    ("attack", &["protocol"]),
    ("e2e", &["protocol", "sandbox"]),
];

/// The rooms with a server; others may have one in their tests.
const SERVERS: &[&str] = &["coordinator", "gateway", "recorded-model", "bench"];

/// Lines that no hand-written file passes.
const FILE_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn every_arrow_points_the_right_way() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .unwrap();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        DIRECTIONS.iter().map(|(room, on)| (*room, on.iter().copied().collect())).collect();
    let rooms: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(rooms, allowed.keys().copied().collect(), "the rooms of the workspace");
    for package in &metadata.packages {
        let room = package.name.as_str();
        let on: BTreeSet<&str> =
            package.dependencies.iter().map(|d| d.name.as_str()).filter(|d| rooms.contains(d)).collect();
        let wrong: Vec<_> = on.difference(&allowed[room]).collect();
        assert!(wrong.is_empty(), "{room} may not depend on {wrong:?}");
        let listens =
            package.dependencies.iter().any(|d| d.name == "axum" && d.kind == DependencyKind::Normal);
        assert_eq!(listens, SERVERS.contains(&room), "{room}: which rooms have a server");
    }
}

#[test]
fn no_file_is_over_its_size() {
    let listed = Command::new("git")
        .args(["-c", "safe.directory=*", "ls-files", "--", "*.rs", "*.sh", "*.js", "*.css", "*.html"])
        .current_dir(root())
        .output()
        .unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    assert!(files.lines().count() > 50, "git lists the tree: {}", String::from_utf8_lossy(&listed.stderr));
    let long: Vec<String> = files
        .lines()
        .filter_map(|file| {
            let lines = std::fs::read_to_string(root().join(file)).ok()?.lines().count();
            (lines > FILE_LINES).then(|| format!("{file}: {lines}"))
        })
        .collect();
    assert!(long.is_empty(), "over {FILE_LINES} lines, so each is two things: {long:?}");
}

#[test]
fn the_documents_name_every_setting_and_every_code() {
    let read = |name: &str| std::fs::read_to_string(root().join("docs").join(name)).unwrap();
    let configuration = read("configuration.md");
    for key in protocol::settings::Key::ALL {
        for name in key.env.iter().chain(key.file.iter()) {
            assert!(configuration.contains(&format!("`{name}`")), "docs/configuration.md lacks {name}");
        }
    }
    let prose = read("protocol.md");
    for code in protocol::Code::ALL {
        let name = serde_json::to_value(code).unwrap();
        let name = name.as_str().unwrap();
        assert!(prose.contains(&format!("`{name}`")), "docs/protocol.md lacks the code {name}");
    }
}
