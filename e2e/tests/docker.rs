//! Sandboxes in Docker, under gVisor.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, process::Command};

use e2e::{Image, Place, Process};
use rustix::process::{Pid, Signal, kill_process};

fn with_repository() -> Place {
    let place = Place::with_model("[[turn]]\ntext = 'said by the model'");
    let agent = (".code-workers/agent", include_str!("asking_agent.sh"));
    place.repo("sample", &[("hello.txt", "it is here\n"), agent]);
    place
}

fn place_with(image: &Image) -> Place {
    let mut place = with_repository();
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
    place.cli(&["send", "--wait", "--id", "a", "--agent", "command", "sample", "go"]).ok();
    assert!(place.cli(&["diff", "a"]).ok().contains("said by the model"));
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

/// A network of Docker's that goes with its holder.
struct Network(String);

impl Network {
    fn make(kind: &[&str]) -> Self {
        let name = format!("code-workers-test-{}-{}", std::process::id(), kind.len());
        docker(&[&["network", "create"], kind, &[&name]].concat());
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["network", "rm", &self.0]).output();
    }
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The runtime of these is gVisor too, with the network stack of the container's own namespace instead of gVisor's,
/// since gVisor's cannot be had under Docker on every machine.
#[test]
fn on_a_network_the_doors_are_containers_that_go_with_the_sandbox() {
    let Some(image) = Image::with_runtime("runsc-host") else { return };
    let internal = Network::make(&["--internal"]);
    let open = Network::make(&[]);
    let mut place = with_repository();
    place.configure("[docker]\nruntime = 'runsc-host'\n");
    let arguments = |network: &Network| {
        let docker = ["--sandbox", "docker", "--image", image.name(), "--network", &network.0];
        ["sample"].iter().chain(&docker).map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut refused = vec!["run-worker".to_owned()];
    refused.extend(arguments(&open));
    let ran = place.cli(&refused.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(ran.code == 1 && ran.err.contains("is not internal"), "{ran:?}");
    let line = arguments(&internal);
    let launcher = place.launch(&line.iter().map(String::as_str).collect::<Vec<_>>());
    launcher.wait_for("can see and call one another");
    launcher.wait_for("1 sandbox waits");
    let labelled = ["ps", "--filter", "label=ai-fortress.shim.alias=skia", "--filter"];
    let on_it = format!("network={}", internal.0);
    assert_eq!(docker(&[&labelled[..], &[&on_it, "--quiet"]].concat()).lines().count(), 1);
    let script = "id -u; ls /run/code-workers/doors";
    let ran = place.cli(&["send", "--wait", "--exec", "sample", "--", "bash", "-c", script]);
    assert!(ran.code == 1 && ran.out == "1001\n", "it has no door of its own: {ran:?}");
    let sent = place.cli(&["send", "--wait", "--id", "a", "--agent", "command", "sample", "go"]);
    assert_eq!(sent.code, 0, "{sent:?}");
    assert!(place.cli(&["diff", "a"]).ok().contains("said by the model"));
    let launcher = place.launchers().last_mut().unwrap();
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.wait(), 0);
    assert!(image.containers().is_empty(), "{:?}", image.containers());
}
