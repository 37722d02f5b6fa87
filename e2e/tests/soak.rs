//! Many tasks, one after the other, and whatever is killed: nothing is left of them but their results.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a panic is how a test fails, and a soak says its figures"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use e2e::Place;
use rustix::process::Signal;

/// Sandboxes at once.
const PARALLEL: usize = 4;

/// The processes that name this place in their arguments or their environment, but those that are its servers.
fn processes(place: &Place) -> Vec<(u32, String)> {
    let home = place.home().to_str().unwrap().as_bytes();
    let holds = |text: &[u8]| text.windows(home.len()).any(|part| part == home);
    let found = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
        let read = |what: &str| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        let line = read("cmdline");
        let shown = String::from_utf8_lossy(&line).replace('\0', " ");
        // One that is only waited for any more has neither.
        (pid != std::process::id() && (holds(&line) || holds(&read("environ")))).then_some((pid, shown))
    });
    found.collect()
}

fn of_sandboxes(place: &Place) -> Vec<(u32, String)> {
    let servers = ["code-workers-coordinator", "code-workers-gateway", "code-workers-recorded-model"];
    let is_server =
        |line: &str| servers.iter().any(|name| line.contains(name)) || line.contains("code-workers up");
    processes(place).into_iter().filter(|(_, line)| !is_server(line)).collect()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Folders below the cgroup trees with one of these names in theirs.
fn cgroups(folder: &Path, workers: &BTreeSet<String>) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .flat_map(|entry| {
            let name = entry.file_name().into_string().unwrap_or_default();
            let own = name.strip_prefix("code-workers-").is_some_and(|worker| workers.contains(worker));
            own.then(|| entry.path()).into_iter().chain(cgroups(&entry.path(), workers)).collect::<Vec<_>>()
        })
        .collect()
}

/// Everything of any sandbox that this place ever had is gone.
fn assert_nothing_is_left(place: &Place, workers: &BTreeSet<String>) {
    assert_eq!(of_sandboxes(place), [], "processes");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(place.home().to_str().unwrap()), "{mounts}");
    assert_eq!(cgroups(Path::new("/sys/fs/cgroup"), workers), [] as [PathBuf; 0], "cgroups");
    assert_eq!(names(&place.run_folder().join("sandboxes")), BTreeSet::new(), "folders, doors and outboxes");
    assert_eq!(names(&place.data().join("sandboxes")), BTreeSet::new(), "stores of /work");
    let run = names(&place.run_folder());
    assert!(!run.iter().any(|name| name.starts_with("probe-")), "{run:?}");
}

/// Open files and KiB of memory of a process.
fn use_of(pid: u32) -> (usize, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = memory.trim().trim_end_matches(" kB").parse().unwrap();
    (fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(), memory)
}

/// Sends so many tasks from as many senders as there are sandboxes; each is waited for.
fn send(place: &Place, tasks: usize) {
    let commands = |share: usize| -> Vec<Command> {
        let mine = (share..tasks).step_by(PARALLEL);
        mine.map(|_| {
            let mut command = place.command("code-workers");
            command.args(["send", "--wait", "--exec", "sample", "--", "true"]);
            command.stdin(Stdio::null()).stdout(Stdio::null());
            command
        })
        .collect()
    };
    let senders: Vec<_> = (0..PARALLEL)
        .map(|share| {
            let commands = commands(share);
            thread::spawn(move || {
                for mut command in commands {
                    assert!(command.status().unwrap().success());
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

/// Every worker that had a task.
fn workers(launcher_told: &str) -> BTreeSet<String> {
    let taken = launcher_told.lines().filter_map(|line| line.split_once(": taken by "));
    taken.map(|(_, worker)| worker.trim().to_owned()).collect()
}

fn servers(place: &Place) -> Vec<(String, u32)> {
    let wanted = ["code-workers-coordinator", "code-workers-gateway", "code-workers-launcher"];
    let found = processes(place).into_iter().filter_map(|(pid, line)| {
        let program = line.split(' ').next()?.rsplit('/').next()?.to_owned();
        wanted.contains(&program.as_str()).then_some((program, pid))
    });
    found.collect()
}

fn soak(tasks: usize) {
    let mut place = Place::new();
    place.model("[[turn]]\ntext = 'unused'");
    place.up();
    place.repo("sample", &[("a.txt", "a\n")]);
    place.launch(&["sample", "--parallel", &PARALLEL.to_string()]).wait_for("4 sandboxes wait");
    // What is made once is made.
    send(&place, 2 * PARALLEL);
    let before: Vec<_> = servers(&place).into_iter().map(|(name, pid)| (name, pid, use_of(pid))).collect();
    assert_eq!(before.len(), 3, "{before:?}");
    let began = Instant::now();
    send(&place, tasks);
    let took = began.elapsed();
    for (name, pid, (files, memory)) in before {
        let (files_now, memory_now) = use_of(pid);
        eprintln!("{name}: {files} -> {files_now} files, {memory} -> {memory_now} KiB");
        // Four sandboxes more or less are under way at each moment.
        assert!(files_now <= files + 6 * PARALLEL, "{name} keeps files open: {files} -> {files_now}");
        let most = memory + 8 * 1024 + 8 * tasks as u64;
        assert!(memory_now <= most, "{name} keeps memory: {memory} -> {memory_now} KiB");
    }
    let launcher = place.launchers().first_mut().unwrap();
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.wait(), 0, "{}", launcher.told());
    let told = launcher.told();
    let workers = workers(&told);
    assert_eq!(workers.len(), tasks + 2 * PARALLEL, "one sandbox, one task");
    eprintln!(
        "{tasks} tasks in {:.0} s, {:.2} a second",
        took.as_secs_f64(),
        tasks as f64 / took.as_secs_f64()
    );
    assert_nothing_is_left(&place, &workers);
}

#[test]
fn nothing_is_left_after_forty_tasks() {
    soak(40);
}

/// `cargo nextest run --workspace --run-ignored only -E 'binary(soak)' --no-capture`
#[test]
#[ignore = "takes many minutes"]
fn nothing_is_left_after_a_thousand_tasks() {
    soak(1_000);
}

#[test]
fn what_a_killed_launcher_and_its_keepers_leave_is_swept_by_the_next() {
    let mut place = Place::new();
    place.model("[[turn]]\ntext = 'unused'");
    place.up();
    place.repo("sample", &[("a.txt", "a\n")]);
    place.launch(&["sample", "--parallel", "2"]).wait_for("2 sandboxes wait");
    let sandboxes = place.run_folder().join("sandboxes");
    let workers = names(&sandboxes);
    assert_eq!(workers.len(), 2);
    // All at once: each would do the other's work.
    let keepers = of_sandboxes(&place).into_iter();
    let keepers =
        keepers.filter(|(_, line)| line.contains("code-workers-launcher") || line.contains("--keep"));
    let pids: Vec<_> = keepers.map(|(pid, _)| pid.to_string()).collect();
    assert_eq!(pids.len(), 3);
    assert!(Command::new("kill").arg("-9").args(pids).status().unwrap().success());
    assert_eq!(names(&sandboxes), workers, "nobody is there to clear them away");
    assert!(of_sandboxes(&place).iter().any(|(_, line)| line.starts_with("runsc-sandbox")), "they run on");
    place.launch(&["sample"]).wait_for("1 sandbox waits");
    let until = Instant::now() + Duration::from_secs(60);
    while names(&sandboxes).intersection(&workers).next().is_some() {
        assert!(Instant::now() < until, "{:?} are still there", names(&sandboxes));
        thread::yield_now();
    }
    let launcher = place.launchers().last_mut().unwrap();
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.wait(), 0, "{}", launcher.told());
    assert_nothing_is_left(&place, &workers);
}
