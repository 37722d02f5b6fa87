//! The modes that are programs of their own. Root is needed to become another user.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests")]

use std::{
    os::unix::fs::MetadataExt as _,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Users that nobody else has; not those of `tests/attempt`.
const ALONE: u32 = 62_001;
const OTHER: u32 = 62_002;
const PLAIN: u32 = 62_003;

fn worker() -> Command {
    Command::new(env!("CARGO_BIN_EXE_code-workers-worker"))
}

fn as_user(uid: u32, command: &[&str]) -> Command {
    let mut worker = worker();
    let uid = uid.to_string();
    worker.args(["as-user", "--uid", &uid, "--gid", &uid, "--"]).args(command);
    worker
}

fn kill_user(uid: u32) -> Output {
    let uid = uid.to_string();
    worker().args(["kill-user", "--uid", &uid, "--gid", &uid]).output().unwrap()
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "this test needs root, and CI must run it");
    if !root {
        eprintln!("skipped: becoming another user needs root");
    }
    root
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn as_user_leaves_no_way_back() {
    if !is_root() {
        return;
    }
    let (program, uid) = (env!("CARGO_BIN_EXE_code-workers-worker"), PLAIN.to_string());
    let mut with_groups = Command::new("setpriv");
    with_groups.args(["--groups=4,24", program, "as-user", "--uid", &uid, "--gid", &uid]);
    let status = text(&with_groups.args(["--", "cat", "/proc/self/status"]).output().unwrap().stdout);
    let field = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let four = [PLAIN.to_string().as_str(); 4].join(" ");
    assert_eq!((field("Uid:"), field("Gid:")), (four.clone(), four));
    assert_eq!(field("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
}

#[test]
fn as_user_hands_on_arguments_and_exit_code_and_tells_a_missing_program() {
    if !is_root() {
        return;
    }
    let output = as_user(PLAIN, &["sh", "-c", "printf %s \"$1\"; exit 9", "sh", "--uid=0 \"x\"\n"]).output();
    let output = output.unwrap();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(9), "--uid=0 \"x\"\n"));
    assert_eq!(as_user(PLAIN, &["/no/such/program"]).output().unwrap().status.code(), Some(127));
    assert_eq!(as_user(PLAIN, &["/etc/passwd"]).output().unwrap().status.code(), Some(126));
}

#[test]
fn no_mode_acts_as_root() {
    for mode in
        [&["as-user", "--uid", "0", "--gid", "1", "--", "id"][..], &["kill-user", "--uid", "0", "--gid", "1"]]
    {
        let output = worker().args(mode).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{mode:?}");
    }
}

#[test]
fn kill_user_ends_all_of_a_user_and_nobody_else() {
    if !is_root() {
        return;
    }
    let spawn = |uid, command: &[&str]| {
        as_user(uid, command).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut other = spawn(OTHER, &["sleep", "1000"]);
    // Says so when all are there: one with a session of its own, one that ignores all that can be ignored.
    let script = "setsid sleep 1000 & (trap '' TERM HUP INT; exec sleep 1000) & echo there; wait";
    let mut all = spawn(ALONE, &["bash", "-c", script]);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(all.stdout.take().unwrap()), &mut line).unwrap();
    assert_eq!(line, "there\n");
    let killed = kill_user(ALONE);
    assert!(killed.status.success(), "{}", text(&killed.stderr));
    assert!(!all.wait().unwrap().success());
    let left = Command::new("ps").args(["-o", "stat=", "-u", &ALONE.to_string()]).output().unwrap();
    assert!(text(&left.stdout).lines().all(|stat| stat.starts_with('Z')), "{}", text(&left.stdout));
    assert!(other.try_wait().unwrap().is_none(), "another user's process was ended");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(kill_user(ALONE).status.success(), "a user with no process");
}

#[test]
fn init_ends_as_the_worker_does_and_the_worker_tells_bad_configuration() {
    // Outside of a sandbox there are neither relays nor a configuration.
    let output = worker().arg("init").env_clear().output().unwrap();
    assert_eq!(output.status.code(), Some(64), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("/run/code-workers/config/worker.json"));
    assert_eq!(worker().arg("no-such-mode").output().unwrap().status.code(), Some(64));
}

/// Files of a process that its own user may not look into belong to root.
#[test]
fn a_workers_memory_and_descriptors_are_closed_to_its_own_user() {
    if !is_root() {
        return;
    }
    let (program, uid) = (env!("CARGO_BIN_EXE_code-workers-worker"), PLAIN.to_string());
    let mut plain = Command::new("setpriv");
    plain.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", program, "fortress", "--part", "work"]);
    // It waits for what it is told.
    let mut worker =
        plain.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let folder = format!("/proc/{}/fd", worker.id());
    let of_root = || std::fs::metadata(&folder).unwrap().uid() == 0;
    // Not setpriv any more, whose files belong to root too.
    let is_worker = || {
        let line = std::fs::read(format!("/proc/{}/cmdline", worker.id())).unwrap();
        line.starts_with(program.as_bytes())
    };
    let until = Instant::now() + Duration::from_secs(20);
    while !(is_worker() && of_root()) && Instant::now() < until {
        std::thread::yield_now();
    }
    let looked = Command::new("setpriv")
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "ls", &folder])
        .stderr(Stdio::null())
        .status();
    assert!(!looked.unwrap().success() && of_root());
    drop(worker.stdin.take());
    assert_eq!(worker.wait().unwrap().code(), Some(64));
}
