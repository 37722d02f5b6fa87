//! `up`: keys, restarts, and that nothing is left behind.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::support::{Home, Up, kill};
use rustix::process::Signal;

#[tokio::test]
async fn the_first_start_makes_a_key_that_opens_and_is_not_told() {
    let home = Home::without_key();
    let refused = home.cli(&["list"]).await;
    assert_eq!(refused.code, Some(6), "{refused:?}");
    assert!(refused.err.contains("code-workers up"), "{refused:?}");

    let mut up = home.up().await;
    home.cli(&["list"]).await.ok();
    let file = home.config().join(".env");
    let text = fs::read_to_string(&file).unwrap();
    let key = text.trim().strip_prefix("FORTRESS_API_KEY=").unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    kill(up.pid(), Signal::TERM);
    assert!(up.wait_for_all_to_end().await.success());
    assert!(!up.said.concat().contains(key), "the key is told: {:#?}", up.said);

    let _again = home.up().await;
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test]
async fn a_server_that_is_killed_comes_back() {
    let home = Home::new();
    let mut up = home.up().await;
    for program in ["code-workers-coordinator", "code-workers-gateway"] {
        let [pid] = up.children(program)[..] else { panic!("one {program}") };
        kill(pid, Signal::KILL);
        let line = up.wait_for_line("restarting").await;
        assert!(line.contains(program), "{line}");
    }
    // Waits for the coordinator, as `logs` of a task that is not there has nothing to show.
    let told = home.cli(&["logs", "-f", "none"]).await;
    assert_eq!(told.code, Some(6), "{told:?}");
    kill(up.pid(), Signal::INT);
    assert!(up.wait_for_all_to_end().await.success());
}

#[tokio::test]
async fn nothing_outlives_up_not_even_kill_9() {
    let home = Home::new();
    let mut up = home.up().await;
    assert_eq!(up.children("code-workers-").len(), 2);
    kill(up.pid(), Signal::KILL);
    up.wait_for_all_to_end().await;
}

#[tokio::test]
async fn a_bad_configuration_is_told_whole_and_ends_with_64() {
    let mut home = Home::new();
    fs::write(home.config().join("config.toml"), "nonsense = 1\ncoordinator.bind = 'x'\n").unwrap();
    home.env.remove("COORDINATOR_BIND");
    let ran = home.cli(&["up"]).await;
    assert_eq!(ran.code, Some(64), "{ran:?}");
    assert!(ran.err.contains("nonsense") && ran.err.contains("coordinator.bind"), "{ran:?}");

    fs::write(home.config().join("config.toml"), "").unwrap();
    home.set("COORDINATOR_BIND", "0.0.0.0:0");
    let mut up = Up::start(&home);
    assert_eq!(up.wait_for_all_to_end().await.code(), Some(64), "{:#?}", up.said);
    assert!(up.said.concat().contains("loopback"), "{:#?}", up.said);
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut home = Home::new();
    home.set("GATEWAY_BIND", &taken.local_addr().unwrap().to_string());
    let ran = home.cli(&["up"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("in use") && ran.err.contains("GATEWAY_BIND"), "{ran:?}");
}

#[tokio::test]
async fn a_second_up_says_so_and_leaves_the_first_alone() {
    let home = Home::new();
    let _up = home.up().await;
    let second = home.cli(&["up"]).await;
    assert_eq!((second.code, second.out.as_str()), (Some(1), ""), "{second:?}");
    assert!(second.err.contains("up already"), "{second:?}");
    home.cli(&["list"]).await.ok();
}
