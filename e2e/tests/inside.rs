//! What the agent can see and reach from inside: the doors, its own work, and nothing else.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use e2e::{Place, REAL_KEY};
use serde_json::{Value, json};

#[test]
fn an_agent_has_its_work_and_two_doors_and_nothing_else() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("probe.py", include_str!("inside.py"))]);
    place.launch(&["sample"]);
    let owner = std::fs::read_to_string(place.home().join(".config/code-workers/.env")).unwrap();
    let owner = owner.trim().split_once('=').unwrap().1.trim_matches(['"', '\'']).to_owned();
    // Worker tokens begin with `cwt-`; the probe's own argument is split so that it does not find itself.
    let sent = place.cli(&[
        "send",
        "--wait",
        "--id",
        "probe",
        "--exec",
        "sample",
        "--",
        "./probe.py",
        REAL_KEY,
        &owner,
        "cwt-w-",
    ]);
    assert_eq!(sent.code, 0, "{sent:?}");
    let task = place.task("probe");
    let seen: Value = serde_json::from_str(task["result"]["message"].as_str().unwrap().trim()).unwrap();
    let wanted = json!({
        "uid": 1001,
        "tcp_out": "EHOSTUNREACH",
        "tcp6_out": "EHOSTUNREACH",
        "vsock": "EAFNOSUPPORT",
        "raw": "EPERM",
        "interfaces": ["lo"],
        "config": "EACCES",
        "outbox": "EACCES",
        "kill_init": "EPERM",
        "setuid": "EPERM",
        "homes": [],
        "root_home": "ENOENT",
        "coordinator_door": "no error",
        "gateway_door": "no error",
        "leaks": [],
        "keys_in_environment": [],
    });
    for write in ["write_usr", "write_mirror"] {
        assert!(["EROFS", "EACCES"].contains(&seen[write].as_str().unwrap()), "{write} in {seen:#}");
    }
    for (name, want) in wanted.as_object().unwrap() {
        assert_eq!(&seen[name], want, "{name} in {seen:#}");
    }
}

/// A server that answers and closes: its end comes right behind its last bytes, through the relay outside, a socket
/// of the host, and the relay inside.
#[test]
fn the_end_of_an_answer_comes_through_both_doors() {
    let mut place = Place::with_model("[[turn]]\ntext = 'unused'");
    place.repo("sample", &[("a", "a\n")]);
    place.launch(&["sample"]);
    let script = r"for number in 1 2 3 4 5 6 7 8 9 10; do for door in authproxy/4000 skia/7222; do
        exec 3<>/dev/tcp/$door
        printf 'GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
        timeout 10 cat <&3 >/tmp/answer && echo ended || { echo $door hangs; exit 1; }
        exec 3<&-
    done; done";
    let ran = place.cli(&["send", "--wait", "--exec", "sample", "--", "bash", "-c", script]);
    assert_eq!((ran.code, ran.out.matches("ended").count()), (0, 20), "{ran:?}");
}
