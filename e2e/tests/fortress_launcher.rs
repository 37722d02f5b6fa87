//! `--sandbox fortress`, with a stand-in for the fortress's launcher: it writes down what it was told, and starts the
//! worker in a gVisor sandbox of `runsc do`. (The fortress itself is another project's.)
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use e2e::{Place, REAL_KEY};
use rustix::process::Signal;

/// Writes the stand-in: what it was told goes to a file a line, and so does its environment.
fn stand_in(place: &Place) -> PathBuf {
    let (agent, home) = (place.home().join("agent"), place.home().display().to_string());
    let script = format!(
        "#!/bin/bash\n\
         printf '%s\\n' \"$@\" > {home}/told\n\
         env > {home}/environment\n\
         shift 3\n\
         while [ $# -gt 0 ]; do variables+=(\"$2\"); shift 2; done\n\
         exec runsc --root {home}/runsc --network=none --host-uds=open --ignore-cgroups do --quiet \\\n\
           env -i PATH=/usr/local/bin:/usr/bin:/bin COORDINATOR_URL=unix://{}/worker.sock \"${{variables[@]}}\" \\\n\
           {} fortress\n",
        place.run_folder().display(),
        place.program("code-workers-worker").display(),
    );
    fs::write(&agent, script).unwrap();
    fs::set_permissions(&agent, Permissions::from_mode(0o755)).unwrap();
    agent
}

#[test]
fn the_fortress_is_given_a_token_that_dies_with_the_launch() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("hello.txt", "it is here\n")]);
    let arguments = ["sample", "--sandbox", "fortress", "--image", "worker:1"];
    place.configure("[fortress]\nagent = '/not/there'\n");
    let ran = place.cli(&[&["run-worker"], &arguments[..]].concat());
    assert!(ran.code == 1 && ran.err.contains("/not/there"), "{ran:?}");
    let agent = stand_in(&place);
    place.configure(&format!("[fortress]\nagent = '{}'\n", agent.display()));
    place.set("OPENCODE_API_KEY", "sk-of-the-fortress");
    let launcher = place.launch(&arguments);
    launcher.wait_for("the walls, the limits and the network are the fortress's own");
    launcher.wait_for("1 sandbox waits for sample (fortress ");
    for _ in 0..2 {
        let ran = place.cli(&["send", "--wait", "--exec", "sample", "--", "cat", "hello.txt"]);
        assert!(ran.code == 0 && ran.out.contains("it is here"), "{ran:?}");
    }
    let told = fs::read_to_string(place.home().join("told")).unwrap();
    let token = told.lines().find_map(|line| line.strip_prefix("FORTRESS_API_KEY=")).unwrap().to_owned();
    let wanted = format!(
        "sample\n--image\nworker:1\n--env\nREPO_NAME=sample\n--env\nFORTRESS_API_KEY={token}\n--env\n\
         OPENCODE_API_KEY=sk-of-the-fortress\n"
    );
    assert_eq!(told, wanted);
    let owner = fs::read_to_string(place.home().join(".config/code-workers/.env")).unwrap();
    assert!(!owner.contains(&token), "it is not the owner's key");
    let environment = fs::read_to_string(place.home().join("environment")).unwrap();
    assert!(!environment.contains(REAL_KEY) && !environment.contains("FORTRESS_API_KEY"), "{environment}");
    let launcher = place.launchers().last_mut().unwrap();
    launcher.signal(Signal::TERM);
    assert_eq!(launcher.wait(), 0, "{}", launcher.told());
    assert_eq!(fs::read_dir(place.run_folder().join("sandboxes")).unwrap().count(), 0);
    assert_eq!(asked_with(&place, &token), 403, "the token has died with the launch");
}

/// What the worker's door answers to this token.
fn asked_with(place: &Place, token: &str) -> u16 {
    let socket = place.run_folder().join("worker.sock");
    let url = "http://door/tasks/lease/sample?request_id=00000000-0000-4000-8000-000000000000&wait=0";
    let output = std::process::Command::new("curl")
        .args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--unix-socket"])
        .arg(socket)
        .args([
            "--header",
            &format!("Authorization: Bearer {token}"),
            "--header",
            "Code-Workers-Protocol: 1",
            url,
        ])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().parse().unwrap()
}
