//! Images: what they pin, and that the worker and the relay run in one that has nothing else.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, path::Path, process::Command};

use e2e::{Place, Process};
use rustix::process::Signal;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name)).unwrap()
}

/// Instructions of a Dockerfile, each on one line.
fn instructions(name: &str) -> Vec<String> {
    let text = read(name).replace("\\\n", " ");
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
}

/// Arguments of one kind of instruction.
fn all<'a>(instructions: &'a [String], kind: &str) -> Vec<&'a str> {
    instructions.iter().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).map(str::trim).collect()
}

fn is_version(text: &str) -> bool {
    text.split('.').count() >= 2 && text.starts_with(|c: char| c.is_ascii_digit())
}

#[test]
fn what_an_image_is_made_of_is_pinned_and_its_user_is_not_root() {
    for name in ["Dockerfile.worker", "Dockerfile.python"] {
        let instructions = instructions(name);
        for from in all(&instructions, "FROM") {
            assert!(from.split_once(':').is_some_and(|(_, tag)| is_version(tag)), "{name}: {from}");
        }
        for run in all(&instructions, "RUN") {
            for (installer, sign) in [("npm install", '@'), ("pip install", '=')] {
                let Some((_, packages)) = run.split_once(installer) else { continue };
                let packages = packages.split("&&").next().unwrap().split_whitespace();
                for package in packages.filter(|word| !word.starts_with("--")) {
                    let version = package.rsplit_once(sign).map(|(_, version)| version);
                    assert!(version.is_some_and(is_version), "{name}: {package}");
                }
            }
        }
        let user = all(&instructions, "USER").last().copied().unwrap_or("root").to_owned();
        assert!(
            instructions.iter().any(|line| line.contains(&format!("--shell /bin/bash {user}"))),
            "{name}: {user}"
        );
    }
}

#[test]
fn the_workers_image_has_the_agents_of_the_agent_files_and_the_toolchain_of_the_project() {
    let image = read("Dockerfile.worker");
    for agent in ["claude", "opencode"] {
        let file = read(&format!("agents/{agent}.toml"));
        let package =
            file.lines().find_map(|line| line.strip_prefix("npm = \"")).unwrap().trim_end_matches('"');
        assert!(image.split_whitespace().any(|word| word == package), "Dockerfile.worker has no {package}");
    }
    let manifest = read("Cargo.toml");
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")).unwrap();
    let rust = format!("toolchain install {}.", rust.trim_end_matches('"'));
    assert!(image.contains(&rust), "Dockerfile.worker: {rust}");
    let entry = all(&instructions("Dockerfile.worker"), "ENTRYPOINT").join("");
    assert_eq!(entry, r#"["/opt/code-workers/bin/code-workers-worker", "fortress"]"#);
}

/// A gVisor sandbox whose root is this folder.
fn sandboxed(place: &Place, root: &Path) -> Command {
    let mut command = Command::new("runsc");
    command.arg("--root").arg(place.home().join("runsc"));
    command.args(["--network=none", "--ignore-cgroups", "do", "--quiet", "--cwd", "/", "--root"]).arg(root);
    command
}

/// A root with nothing in it but the two programs.
fn empty_root(place: &Place) -> std::path::PathBuf {
    let root = place.home().join("root");
    fs::create_dir(&root).unwrap();
    for program in ["code-workers-worker", "code-workers-relay"] {
        fs::copy(place.program(program), root.join(program)).unwrap();
    }
    root
}

#[test]
fn the_worker_and_the_relay_need_nothing_of_an_image() {
    let place = Place::new();
    let root = empty_root(&place);
    for program in ["/code-workers-worker", "/code-workers-relay"] {
        let said = sandboxed(&place, &root).args([program, "--version"]).output().unwrap();
        assert!(said.status.success(), "{program}: {}", String::from_utf8_lossy(&said.stderr));
        assert!(said.stdout.starts_with(&program.as_bytes()[1..]));
    }
}

#[test]
fn a_worker_finds_its_coordinator_by_the_names_of_the_image() {
    let place = Place::new();
    let root = empty_root(&place);
    fs::create_dir(root.join("etc")).unwrap();
    fs::create_dir(root.join("tmp")).unwrap();
    fs::write(root.join("etc/hosts"), "127.0.0.1 skia\n").unwrap();
    let mut command = sandboxed(&place, &root);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs([("REPO_NAME", "p"), ("FORTRESS_API_KEY", "t")]);
    command.args(["/code-workers-worker", "fortress"]);
    let mut worker = Process::start("worker", &mut command);
    worker.wait_for("http://skia:7222 is not reachable: Connection refused");
    worker.signal(Signal::TERM);
    assert_eq!(worker.wait(), 0, "{}", worker.told());
}
