//! The scripts of the top folder: any prompt arrives as it is, and the key is shown to nobody.

use std::{fs, process::Stdio, time::Duration};

use crate::support::{Home, KEY, script, within};
use protocol::{Task, task::Work};
use tokio::io::{AsyncBufReadExt, BufReader};

const HOSTILE: &[&str] = &[
    "it's \"quoted\" and `ticked` $(touch broken) ${HOME} $1 \\ \\n %s %d !! *",
    "-",
    "--wait",
    "-d @/etc/passwd",
    "@/etc/passwd",
    "first\nsecond\r\n\n\tthird\n\n",
    "é 漢 🦀 \u{202e}\u{1b}[2J",
    "a&b=c?d#e+f;g|h>i<j",
    "url = \"http://x\"\nheader = \"y\"",
];

async fn prompt_of(home: &Home, id: &str) -> String {
    let task: Task = home.owner().task(&id.trim().parse().unwrap(), Duration::ZERO).await.unwrap();
    let Work::Agent { prompt, .. } = task.work else { panic!("{id} is no agent task") };
    prompt
}

#[tokio::test]
async fn any_prompt_arrives_as_it_is() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    for prompt in HOSTILE {
        let sent = home.script("send_task.sh", &["sample", "-"], prompt.as_bytes()).await.ok();
        assert_eq!(prompt_of(&home, &sent).await, *prompt, "on stdin");
        if *prompt != "-" {
            let sent = home.script("send_task.sh", &["sample", prompt], b"unread").await.ok();
            assert_eq!(prompt_of(&home, &sent).await, *prompt, "as an argument");
        }
    }
    assert!(!home.path().join("broken").exists());
    let longest = "é".repeat(protocol::limits::PROMPT_BYTES / 2);
    let sent = home.script("send_task.sh", &["sample", "-"], longest.as_bytes()).await.ok();
    assert_eq!(prompt_of(&home, &sent).await, longest);
}

#[tokio::test]
async fn the_contract_of_exit_codes() {
    let mut home = Home::new();
    let gone = home.script("send_task.sh", &["sample", "x"], b"").await;
    assert_eq!(gone.code, Some(5), "{gone:?}");
    assert!(gone.err.contains("not reachable") && gone.err.contains("code-workers up"), "{gone:?}");
    assert_eq!(home.script("poll_task.sh", &["x"], b"").await.code, Some(5));

    let _up = home.up().await;
    home.repo("sample").await;
    let too_long = "x".repeat(protocol::limits::PROMPT_BYTES + 1);
    for (arguments, stdin) in [
        (&["unknown", "x"][..], ""),
        (&["a b", "x"], ""),
        (&["../x", "x"], ""),
        (&["é", "x"], ""),
        (&["sample", ""], ""),
        (&["sample", "-"], ""),
        (&["sample", "-"], "a\0b"),
        (&["sample", "-"], &too_long),
        (&["--id", "lease", "sample", "x"], ""),
        (&["--id", "a&queue=sample", "sample", "x"], ""),
    ] {
        let ran = home.script("send_task.sh", arguments, stdin.as_bytes()).await;
        assert_eq!(ran.code, Some(6), "{arguments:?}: {ran:?}");
        assert_eq!(ran.out, "", "{arguments:?}");
        assert!(ran.err.starts_with("send_task.sh: ") && ran.err.len() > 30, "{ran:?}");
    }
    for arguments in [&[][..], &["sample"], &["sample", "a", "b"], &["--nonsense", "a", "b"], &["--id"]] {
        assert_eq!(home.script("send_task.sh", arguments, b"").await.code, Some(2), "{arguments:?}");
    }
    assert_eq!(home.script("poll_task.sh", &[], b"").await.code, Some(2));
    assert_eq!(home.script("poll_task.sh", &["none"], b"").await.code, Some(6));
    assert_eq!(home.script("poll_task.sh", &["../repos"], b"").await.code, Some(6));

    for _ in 0..2 {
        assert_eq!(home.script("send_task.sh", &["--id", "one", "sample", "x"], b"").await.ok(), "one\n");
    }
    assert_eq!(home.script("send_task.sh", &["--id", "one", "sample", "y"], b"").await.code, Some(6));
    let polled = home.script("poll_task.sh", &["one"], b"").await;
    assert_eq!(polled.code, Some(7), "{polled:?}");
    assert!(polled.out.contains("id: one\n"), "{polled:?}");
    home.cli(&["cancel", "one"]).await.ok();
    assert_eq!(home.script("poll_task.sh", &["one"], b"").await.code, Some(4));
    assert_eq!(
        home.script("send_task.sh", &["--wait", "--id", "one", "sample", "x"], b"").await.code,
        Some(4)
    );

    home.set("FORTRESS_API_KEY", "another");
    let wrong = home.script("poll_task.sh", &["one"], b"").await;
    assert_eq!(wrong.code, Some(6), "{wrong:?}");
    assert!(wrong.err.contains("FORTRESS_API_KEY"), "{wrong:?}");
}

/// The key has marks that curl's configuration and the shell would both mangle, were they let.
#[tokio::test]
async fn the_key_is_in_no_argument_list() {
    let home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    let mut send = home.command(script("send_task.sh"));
    let mut send = send.args(["--wait", "--id", "t", "sample", "x"]).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(send.stdout.take().unwrap()).lines();
    assert_eq!(within(lines.next_line()).await.unwrap().unwrap(), "t");
    let waiting = |command: &String| command.contains("/tasks/t?wait=");
    let commands = within(async {
        loop {
            let commands = all_commands();
            if commands.iter().any(waiting) {
                return commands;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let part = KEY.split('\\').next().unwrap();
    let shown: Vec<_> = commands.iter().filter(|command| command.contains(part)).collect();
    assert!(shown.is_empty(), "{shown:?}");
    home.cli(&["cancel", "t"]).await.ok();
    assert_eq!(within(send.wait()).await.unwrap().code(), Some(4));
}

fn all_commands() -> Vec<String> {
    let read = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).ok();
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter_map(read);
    all.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).collect()
}

#[tokio::test]
async fn they_reach_the_coordinator_over_tcp_too() {
    let mut home = Home::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    home.set("COORDINATOR_BIND", &format!("127.0.0.1:{port}"));
    home.env.remove("COORDINATOR_URL");
    let _up = home.up().await;
    home.repo("sample").await;
    assert_eq!(home.script("send_task.sh", &["--id", "t", "sample", "x"], b"").await.ok(), "t\n");
    home.set("COORDINATOR_URL", "https://127.0.0.1");
    assert_eq!(home.script("poll_task.sh", &["t"], b"").await.code, Some(2));
}

#[test]
fn what_both_share_is_the_same() {
    let shared = |name: &str| {
        let text = fs::read_to_string(script(name)).unwrap();
        let begin = text.find("#--- the same in ").unwrap();
        let end = text[begin..].find("\n#-----------").unwrap();
        text[begin..begin + end].to_owned()
    };
    assert_eq!(shared("send_task.sh"), shared("poll_task.sh"));
}
