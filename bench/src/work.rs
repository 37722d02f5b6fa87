//! What programs take inside a sandbox, beside the same bare on the host and in Docker with runsc, whose `/work` is a
//! folder of the host.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use e2e::{Image, Place};

use crate::{cold::row, table::Row};

/// Files of the large repository.
const FILES: usize = 50_000;
/// `work.sh CASE ROUNDS`: prints `us=MICROSECONDS` for each round.
const SCRIPT: &str = include_str!("work.sh");
const CASES: [&str; 3] = ["git status", "cargo build", "npm test"];

/// A row for each case and place. `rounds` are those after the first, which is not counted.
pub(crate) fn run(rounds: usize) -> Vec<Row> {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    let rust = sysroot();
    place.configure(&format!("[repo.work]\ncaches = ['{rust}:/caches/rust']"));
    let repo = repository(&place);
    let image = Image::with_docker();
    let mut rows = Vec::new();
    for case in CASES {
        // One for each case, so that what the one left is not in the other's way.
        place.launch(&["work", "--once"]).wait_for("1 sandbox waits");
        let rounds = rounds.to_string();
        let sent = ["send", "--wait", "--exec", "work", "--", "sh", "work.sh", case, &rounds];
        rows.push(row("code-workers", case, times(&place.cli(&sent).ok())));
        rows.push(row("bare", case, times(&bare(&repo, &rust, case, &rounds))));
        if let Some(image) = &image {
            rows.push(row("docker", case, times(&in_docker(image.name(), &repo, &rust, case, &rounds))));
        }
    }
    rows
}

fn repository(place: &Place) -> std::path::PathBuf {
    let files: Vec<_> = (0..FILES).map(|n| (format!("many/{}/{n}.txt", n % 500), format!("{n}\n"))).collect();
    let modules: Vec<_> = (0..20).map(|n| (format!("src/m{n}.rs"), MODULE.to_owned())).collect();
    let main: String = (0..20).map(|n| format!("mod m{n};\n")).chain(["fn main() {}\n".to_owned()]).collect();
    let tests = (0..5).map(|n| (format!("test/{n}.test.js"), TEST.to_owned()));
    let mut all: Vec<_> = files.into_iter().chain(modules).chain(tests).collect();
    all.push(("src/main.rs".to_owned(), main));
    let plain = |(path, text): &(&str, &str)| ((*path).to_owned(), (*text).to_owned());
    let few = [
        ("Cargo.toml", "[package]\nname = 'small'\nversion = '0.1.0'\nedition = '2024'\n"),
        (
            "package.json",
            r#"{"name": "small", "version": "0.1.0", "scripts": {"test": "node --test test/"}}"#,
        ),
        (".gitignore", "target\n"),
        ("work.sh", SCRIPT),
    ];
    all.extend(few.iter().map(plain));
    let all: Vec<_> = all.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    place.repo("work", &all)
}

const MODULE: &str = "#![allow(dead_code)]\nuse std::collections::BTreeMap;\n#[derive(Debug, Clone, PartialEq)]\n\
                      pub struct Thing { a: u32, b: String, c: BTreeMap<String, Vec<u8>> }\n\
                      pub fn sum(all: &[Thing]) -> u32 { all.iter().map(|thing| thing.a).sum() }\n";
const TEST: &str = "const test = require('node:test'); const assert = require('node:assert');\n\
                    for (let n = 0; n < 20; n++) test('adds ' + n, () => assert.strictEqual(n + 1, 1 + n));\n";

/// The toolchain's folder.
fn sysroot() -> String {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().expect("rustc is installed");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn times(out: &str) -> Vec<Duration> {
    let us = out.lines().filter_map(|line| line.strip_prefix("us=")?.parse().ok());
    let times: Vec<_> = us.map(Duration::from_micros).collect();
    assert!(!times.is_empty(), "no times in {out:?}");
    times
}

fn bare(repo: &Path, rust: &str, case: &str, rounds: &str) -> String {
    let home = tempfile::tempdir().expect("a folder");
    let copy = home.path().join("work");
    copy_of(repo, &copy);
    let mut command = Command::new("sh");
    command.current_dir(&copy).args(["work.sh", case, rounds]).env("RUST", rust).env("HOME", home.path());
    said(&mut command)
}

fn in_docker(image: &str, repo: &Path, rust: &str, case: &str, rounds: &str) -> String {
    let home = tempfile::tempdir().expect("a folder");
    let copy = home.path().join("work");
    copy_of(repo, &copy);
    let mut command = Command::new("docker");
    command.args(["run", "--rm", "--runtime=runsc", "--network=none", "--workdir=/work", "--env=HOME=/tmp"]);
    let mounts = [
        format!("{}:/work", copy.display()),
        format!("{rust}:/caches/rust:ro"),
        "/usr:/usr:ro".to_owned(),
        "/usr/lib:/lib:ro".to_owned(),
        "/etc/alternatives:/etc/alternatives:ro".to_owned(),
    ];
    command.args(mounts.map(|mount| format!("--volume={mount}")));
    said(command.args([image, "sh", "work.sh", case, rounds]))
}

fn copy_of(repo: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(repo).arg(to).status();
    assert!(copied.is_ok_and(|copied| copied.success()), "the repository cannot be copied");
    fs::read_dir(to).expect("the copy is there");
}

fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the program is installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
