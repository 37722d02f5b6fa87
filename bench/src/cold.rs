//! Cold starts, until the sandbox is made and its first program may run: by the launcher, with everything that it does
//! around it; the same bundle with `runsc run` by hand; a container of `docker run --runtime=runsc`.

use std::{
    fs,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use e2e::{Image, Place};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{load::Sample, table::Row};

/// All take turns, round by round.
pub(crate) fn run(rounds: usize) -> Vec<Row> {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a.txt", "a\n")]);
    let image = Image::with_docker();
    let (mut ours, mut by_hand, mut docker) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        place.launch(&["sample", "--once"]).wait_for("1 sandbox waits");
        let ended = SystemTime::now();
        let folder = only(&place.run_folder().join("sandboxes"));
        let made =
            fs::metadata(&folder).and_then(|found| found.created()).expect("the time of a folder's birth");
        ours.push(ended.duration_since(made).expect("made before it waits"));
        by_hand.push(run_by_hand(&only_bundle(&folder)));
        place.cli(&["send", "--wait", "--exec", "sample", "--", "true"]).ok();
        docker.extend(image.as_ref().map(|image| run_in_docker(image.name())));
    }
    let rows = [("code-workers", ours), ("runsc run", by_hand), ("docker run", docker)];
    rows.map(|(system, times)| row(system, "cold start", times)).into()
}

/// Times of one system in one case.
pub(crate) fn row(system: &str, case: &str, times: Vec<Duration>) -> Row {
    let sample = Sample::new(times, Duration::MAX);
    Row {
        system: system.to_owned(),
        case: case.to_owned(),
        clients: 1,
        rounds: sample.times.len(),
        p50_ms: Some(sample.percentile(50)),
        p99_ms: Some(sample.percentile(99)),
        ..Row::default()
    }
}

fn only(folder: &Path) -> std::path::PathBuf {
    let mut entries =
        fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let first = entries.next().expect("one is there");
    assert!(entries.next().is_none(), "only one is to be there");
    first
}

/// The folder with `config.json` in a sandbox's folder.
fn only_bundle(folder: &Path) -> std::path::PathBuf {
    let bundle = folder.join("sandbox");
    assert!(bundle.join("config.json").exists(), "{} is no bundle", bundle.display());
    bundle
}

/// The same document, but for the place where `/work` is kept, with the same flags.
fn run_by_hand(bundle: &Path) -> Duration {
    let copy = tempfile::tempdir().expect("a folder");
    let store = copy.path().join("store");
    fs::create_dir(&store).expect("a folder for /work");
    let kept = fs::read_link(bundle.join("store")).expect("the launcher links to the store");
    let text = fs::read_to_string(bundle.join("config.json")).expect("the launcher wrote it");
    let text = text.replace(kept.to_str().expect("a plain path"), store.to_str().expect("a plain path"));
    fs::write(copy.path().join("config.json"), text).expect("a document");
    let pid = copy.path().join("pid");
    mknodat(CWD, &pid, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    let state = copy.path().join("state");
    let runsc = || {
        let mut command = Command::new("runsc");
        command.arg("--root").arg(&state).args(["--network=none", "--ignore-cgroups", "--host-uds=open"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    };
    let began = Instant::now();
    let mut sandbox = runsc()
        .args(["run", "--bundle"])
        .arg(copy.path())
        .arg("--pid-file")
        .arg(&pid)
        .arg("by-hand")
        .spawn()
        .expect("runsc is installed");
    let mut said = [0];
    fs::File::open(&pid).and_then(|mut pipe| pipe.read_exact(&mut said)).expect("runsc says its process id");
    let took = began.elapsed();
    let killed = runsc().args(["kill", "by-hand", "KILL"]).status().expect("runsc is installed");
    assert!(killed.success(), "the sandbox by hand could not be ended");
    sandbox.wait().expect("it ends");
    took
}

fn run_in_docker(image: &str) -> Duration {
    let began = Instant::now();
    let run = Command::new("docker")
        .args([
            "run",
            "--detach",
            "--rm",
            "--runtime=runsc",
            "--network=none",
            "--read-only",
            image,
            "sleep",
            "600",
        ])
        .output()
        .expect("docker is installed");
    let took = began.elapsed();
    assert!(run.status.success(), "{run:?}");
    let id = String::from_utf8_lossy(&run.stdout).trim().to_owned();
    let gone = Command::new("docker").args(["rm", "--force", &id]).stdout(Stdio::null()).status();
    assert!(gone.is_ok_and(|gone| gone.success()), "the container stays");
    took
}
