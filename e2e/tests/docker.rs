//! Sandboxes in Docker, under gVisor.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, process::Command};

use e2e::{Image, Place, Process};
use rustix::process::{Pid, Signal, kill_process};

fn place_with(image: &Image) -> Place {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("hello.txt", "it is here\n")]);
    launch(&mut place, image).wait_for("1 sandbox waits for sample (Docker with runsc");
    place
}

fn launch<'a>(place: &'a mut Place, image: &Image) -> &'a mut Process {
    place.launch(&["sample", "--sandbox", "docker", "--image", image.name()])
}

#[test]
fn a_task_comes_back_from_a_container_of_which_nothing_is_left() {
    let Some(image) = Image::with_docker() else { return };
    let mut place = place_with(&image);
    // The root is read-only, and the only interface is `lo`.
    let script = "id -u; cat hello.txt; sed -n 's,^none / 9p \\(r[ow]\\).*,\\1,p' /proc/mounts; \
                  sed -n 's/:.*//p' /proc/net/dev";
    let ran = place.cli(&["send", "--wait", "--id", "t", "--exec", "sample", "--", "sh", "-c", script]).ok();
    assert!(ran.split_whitespace().eq(["1001", "it", "is", "here", "ro", "lo"]), "{ran}");
    // An idle one is there already; it ends on SIGTERM, and all of it goes.
    let launcher = place.launchers().last_mut().unwrap();
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.wait(), 0);
    assert!(image.containers().is_empty(), "{:?}", image.containers());
    assert_eq!(fs::read_dir(place.run_folder().join("sandboxes")).unwrap().count(), 0);
}

/// The keeper's process of the one sandbox there is.
fn keeper(place: &Place) -> Pid {
    let sandboxes = place.run_folder().join("sandboxes");
    let names = |pid: &str| {
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = command.split(|byte| *byte == 0);
        arguments.any(|argument| argument == b"--keep")
            && String::from_utf8_lossy(&command).contains(sandboxes.to_str().unwrap())
    };
    let mut pids =
        fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    Pid::from_raw(pids.find(|pid| names(pid)).unwrap().parse().unwrap()).unwrap()
}

#[test]
fn containers_whose_launcher_and_keeper_were_killed_are_swept_by_the_next() {
    let Some(image) = Image::with_docker() else { return };
    let mut place = place_with(&image);
    let send =
        ["send", "--wait", "--id", "long", "--exec", "sample", "--", "sh", "-c", "echo begun; sleep 2"];
    let mut sent = place.start_cli(&send);
    sent.wait_for("is sent");
    let mut logs = place.start_cli(&["logs", "-f", "long"]);
    logs.wait_for("begun");
    let keeper = keeper(&place);
    let launcher = place.launchers().last_mut().unwrap();
    launcher.signal(Signal::KILL);
    assert_eq!(launcher.wait(), 137);
    kill_process(keeper, Signal::KILL).unwrap();
    let abandoned = image.containers();
    assert_eq!(abandoned.len(), 1, "{abandoned:?}");
    launch(&mut place, &image);
    assert_eq!(sent.wait(), 0, "{}", sent.told());
    assert_eq!(place.task("long")["attempt"], 2, "it was lost with its keeper");
    assert!(!image.containers().contains(&abandoned[0]));
}

#[test]
fn a_killed_container_is_told_and_its_task_tried_again() {
    let Some(image) = Image::with_docker() else { return };
    let place = place_with(&image);
    let send =
        ["send", "--wait", "--id", "long", "--exec", "sample", "--", "sh", "-c", "echo begun; sleep 2"];
    let mut sent = place.start_cli(&send);
    sent.wait_for("is sent");
    let mut logs = place.start_cli(&["logs", "-f", "long"]);
    logs.wait_for("begun");
    let containers = image.containers();
    assert!(Command::new("docker").args(["kill", &containers[0]]).output().unwrap().status.success());
    assert_eq!(sent.wait(), 0, "{}", sent.told());
    let task = place.task("long");
    assert_eq!(task["attempt"], 2, "{task:#}");
    assert!(place.cli(&["logs", "long"]).ok().contains("killed"));
}

#[test]
fn an_image_or_a_runtime_that_is_not_there_is_told_and_nothing_else_is_taken() {
    let Some(image) = Image::with_docker() else { return };
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("hello.txt", "it is here\n")]);
    let refused = |place: &Place, image: &str| {
        let ran = place.cli(&["run-worker", "sample", "--sandbox", "docker", "--image", image]);
        assert_eq!(ran.code, 1, "{ran:?}");
        ran.err
    };
    let told = refused(&place, "code-workers-test:not-there");
    assert!(told.contains("no image") && told.contains("not-there"), "{told}");
    place.configure("[docker]\nruntime = 'runc'\n");
    let told = refused(&place, image.name());
    assert!(told.contains("no gVisor runtime \"runc\"") && told.contains("daemon.json"), "{told}");
    place.set("PATH", "/nowhere");
    let told = refused(&place, image.name());
    assert!(told.contains("cannot ask Docker"), "{told}");
    place.configure("");
    let ran = place.cli(&["run-worker", "sample", "--sandbox", "docker"]);
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(ran.err.contains("--image NAME"), "{ran:?}");
}
