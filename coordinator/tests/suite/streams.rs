//! Events: one order, wherever they are kept, and whenever they are read.

mod bounds;
mod stand;

use std::{path::PathBuf, sync::Mutex};

use futures_util::StreamExt as _;
use protocol::{Code, Event, EventBody, TaskState, event::NewEvents, limits, report::Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::house::{House, KEY, batch, code, id, named, output, report, soon, until};

fn text(event: &Event) -> String {
    match &event.event.body {
        EventBody::State { state, .. } => format!("{}:{state}", event.seq),
        EventBody::Output { text, .. } => format!("{}:{text}", event.seq),
        EventBody::Dropped { bytes } => format!("{}:dropped {bytes}", event.seq),
        other => panic!("{other:?}"),
    }
}

fn texts(events: &[Event]) -> Vec<String> {
    events.iter().map(text).collect()
}

#[tokio::test]
async fn output_and_life_are_one_stream() {
    let house = House::open().await;
    house.submit(named("t")).await;
    let mut live = house.owner.events(&id("t"), 0, true).await.unwrap();
    let mut seen = vec![soon(live.next()).await.unwrap().unwrap()];
    let worker = house.worker("q").await;
    let lease = worker.with(&worker.lease().await.unwrap());
    lease.start().await.unwrap();
    assert_eq!(lease.events(&batch(0, &["a", "b"])).await.unwrap().stored, 2);
    for _ in 0..4 {
        seen.push(soon(live.next()).await.unwrap().unwrap());
    }
    // Repeated and overlapping batches store nothing twice; a gap is told.
    assert_eq!(lease.events(&batch(0, &["a", "b"])).await.unwrap().stored, 2);
    assert_eq!(lease.events(&batch(1, &["b", "c"])).await.unwrap().stored, 3);
    assert_eq!(lease.events(&batch(7, &["x"])).await.unwrap().stored, 3);
    assert_eq!(lease.result(&report(Outcome::Lost)).await.unwrap().state, TaskState::Scheduled);
    assert_eq!(code(lease.events(&batch(3, &["too late"])).await), Code::LeaseLost);

    let next = house.worker("q").await;
    let lease = next.with(&next.lease_by(uuid::Uuid::new_v4(), 15).await.unwrap().unwrap());
    assert_eq!(code(lease.events(&batch(0, &["too early"])).await), Code::LeaseLost);
    lease.start().await.unwrap();
    // Each attempt counts its own.
    assert_eq!(lease.events(&batch(0, &["d"])).await.unwrap().stored, 1);
    lease.result(&report(Outcome::Succeeded)).await.unwrap();

    let expected = [
        "1:ready",
        "2:leased",
        "3:running",
        "4:a",
        "5:b",
        "6:c",
        "7:scheduled",
        "8:ready",
        "9:leased",
        "10:running",
        "11:d",
        "12:succeeded",
    ];
    while let Some(event) = soon(live.next()).await {
        seen.push(event.unwrap());
    }
    assert_eq!(texts(&seen), expected, "as it came");
    assert_eq!(texts(&house.events("t", 0, 100).await), expected, "afterwards");
    assert_eq!(
        seen.iter().map(|event| event.attempt).collect::<Vec<_>>(),
        [0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2]
    );
    for after in 0..=12_u64 {
        let at = usize::try_from(after).unwrap();
        assert_eq!(texts(&house.events("t", after, 100).await), expected[at..]);
    }
    let house = house.restart().await;
    assert_eq!(texts(&house.events("t", 0, 100).await), expected, "after a restart");
}

#[tokio::test]
async fn the_stream_is_server_sent_events() {
    let house = House::open().await;
    house.submit(named("t")).await;
    house.owner.cancel(&id("t"), &protocol::task::Cancel::default()).await.unwrap();
    let get = |path: &str| house.http().get(house.url(path)).bearer_auth(KEY);
    let answer = get("/tasks/t/events").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let text = soon(answer.text()).await.unwrap();
    assert!(text.starts_with("id: 1\nevent: state\ndata: {"), "{text}");
    let after = soon(get("/tasks/t/events?after=1").send().await.unwrap().text()).await.unwrap();
    assert!(after.starts_with("id: 2\n"), "{after}");
    let both = get("/tasks/t/events?after=0").header("last-event-id", "1").send().await.unwrap();
    assert_eq!(soon(both.text()).await.unwrap(), after);
    for path in ["/tasks/t/events?after=x", "/tasks/t/events"] {
        let refused = get(path).header("last-event-id", "x").send().await.unwrap();
        assert_eq!(refused.status(), 422);
    }
    assert_eq!(get("/tasks/none/events").send().await.unwrap().status(), 404);
}

#[tokio::test]
async fn readers_that_come_while_lines_are_written_see_the_same() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let mut readers = Vec::new();
    for round in 0..20_u64 {
        let stream = house.owner.events(&id("t"), 0, true).await.unwrap();
        readers.push(tokio::spawn(async move { stream.map(Result::unwrap).collect::<Vec<_>>().await }));
        let lines: Vec<String> = (0..50).map(|n| format!("{}", round * 50 + n)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        lease.events(&batch(round * 50, &lines)).await.unwrap();
    }
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    let expected = texts(&house.events("t", 0, 2_000).await);
    assert_eq!(expected.len(), 4 + 1_000);
    for reader in readers {
        assert_eq!(texts(&soon(reader).await.unwrap()), expected);
    }
}

#[tokio::test]
async fn a_file_of_the_first_version_is_read_and_gone_on_from() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    // Lines that bear no checksum and no number of their own, up to the limit that the first version had.
    let filler = output(&"x".repeat(limits::OUTPUT_LINE_BYTES));
    let filler = serde_json::json!({"l": 3, "a": 1, "i": 1, "e": filler}).to_string() + "\n";
    let lines = limits::TASK_OUTPUT_BYTES / filler.len() as u64;
    let text: String = (1..=lines).map(|n| filler.replacen("\"i\":1", &format!("\"i\":{n}"), 1)).collect();
    let path = house.folders.output().join("t");
    tokio::fs::write(&path, &text).await.unwrap();
    assert_eq!(house.events("t", 3 + lines - 1, 1).await[0].seq, 3 + lines);
    assert_eq!(lease.events(&batch(lines - 1, &["x", "y", "z"])).await.unwrap().stored, lines + 2);
    let house = house.restart().await;
    assert_eq!(
        texts(&house.events("t", 3 + lines, 2).await),
        [format!("{}:y", lines + 4), format!("{}:z", lines + 5)]
    );
    assert_eq!(path.metadata().unwrap().len(), text.len() as u64, "the head is closed");
}

#[tokio::test]
async fn a_line_over_its_limit_is_cut_and_said() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let long = "é".repeat(limits::OUTPUT_LINE_BYTES);
    lease.events(&batch(0, &[&long])).await.unwrap();
    let mut raw = output("short");
    raw.raw = Some("r".repeat(limits::OUTPUT_LINE_BYTES + 1));
    assert_eq!(lease.events(&NewEvents { first: 1, events: vec![raw] }).await.unwrap().stored, 2);
    let events = house.events("t", 3, 4).await;
    let EventBody::Output { text: kept, .. } = &events[0].event.body else { panic!("{:?}", events[0]) };
    assert_eq!(kept.len(), limits::OUTPUT_LINE_BYTES);
    assert_eq!(text(&events[1]), format!("5:dropped {}", limits::OUTPUT_LINE_BYTES));
    assert_eq!((text(&events[2]).as_str(), &events[2].event.raw), ("6:short", &None));
    assert_eq!(text(&events[3]), format!("7:dropped {}", limits::OUTPUT_LINE_BYTES + 1));
}

#[tokio::test]
async fn a_reader_that_never_reads_delays_nothing() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let mut stuck = tokio::net::TcpStream::connect(house.address).await.unwrap();
    let request = format!(
        "GET /tasks/t/events HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n",
        house.address
    );
    stuck.write_all(request.as_bytes()).await.unwrap();
    // Its stream has begun. From here on it reads nothing, and there comes more than sockets hold.
    soon(stuck.readable()).await.unwrap();
    let long = "x".repeat(limits::OUTPUT_LINE_BYTES);
    for round in 0..10_u64 {
        let stored = soon(lease.events(&batch(round * 10, &[long.as_str(); 10]))).await.unwrap().stored;
        assert_eq!(stored, round * 10 + 10);
    }
    soon(lease.result(&report(Outcome::Succeeded))).await.unwrap();
    assert_eq!(texts(&house.events("t", 103, 100).await), ["104:succeeded"], "others read on");
    let mut all = Vec::new();
    soon(stuck.read_to_end(&mut all)).await.unwrap();
    let all = String::from_utf8(all).unwrap();
    let ids: Vec<u64> = all.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect();
    assert_eq!(ids, (1..=104).collect::<Vec<_>>(), "nothing is lost to it");
}

/// The task's state in the database each time that output was flushed. One test a process, so nothing else is here.
static FLUSHED: Mutex<Vec<String>> = Mutex::new(Vec::new());
static DATABASE: Mutex<Option<PathBuf>> = Mutex::new(None);

fn note_flushes(house: &House) {
    *DATABASE.lock().unwrap() = Some(house.folders.coordinator_db());
    coordinator::crash_point::on_crash_points(|point| {
        if point == "output.flushed" {
            let database = rusqlite::Connection::open(DATABASE.lock().unwrap().as_ref().unwrap()).unwrap();
            let state = database.query_row("SELECT state FROM tasks WHERE id = 't'", [], |row| row.get(0));
            FLUSHED.lock().unwrap().push(state.unwrap());
        }
    });
}

#[tokio::test]
async fn output_is_on_disk_before_its_result() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    note_flushes(&house);
    lease.events(&batch(0, &["a"])).await.unwrap();
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(*FLUSHED.lock().unwrap(), ["running"]);
}

#[tokio::test]
async fn output_is_on_disk_soon_though_its_task_runs_on() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    note_flushes(&house);
    lease.events(&batch(0, &["a"])).await.unwrap();
    until(|| !FLUSHED.lock().unwrap().is_empty()).await;
}

#[tokio::test]
async fn batches_have_limits_and_states_are_not_a_workers_to_say() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let many = vec!["x"; limits::EVENTS_PER_REQUEST];
    assert_eq!(lease.events(&batch(0, &many)).await.unwrap().stored, 1_000);
    assert_eq!(code(lease.events(&batch(1_000, &vec!["x"; 1_001])).await), Code::TooLarge);
    let mut state = output("");
    state.body = EventBody::State { state: TaskState::Succeeded, reason: None };
    let lie = NewEvents { first: 1_000, events: vec![state] };
    assert_eq!(code(lease.events(&lie).await), Code::Invalid);
    assert_eq!(lease.events(&batch(1_000, &[])).await.unwrap().stored, 1_000);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_taken_away() {
    let house = House::open().await;
    let (worker, lease) = house.started("t").await;
    lease.events(&batch(0, &["a", "b"])).await.unwrap();
    let token = worker.token.clone();
    let mut house = house;
    house.stop().await;
    let path = house.folders.output().join("t");
    let mut file = tokio::fs::OpenOptions::new().append(true).open(&path).await.unwrap();
    file.write_all(b"{\"l\":3,\"a\":1,\"i\":3,\"e\":{\"at\":").await.unwrap();
    file.flush().await.unwrap();
    let house = house.restart().await;
    assert_eq!(texts(&house.events("t", 3, 2).await), ["4:a", "5:b"]);
    let tokens = coordinator::tokens::Tokens::open(&house.folders.data.join("coordinator.secret")).unwrap();
    let claim = house.first_claim("t").await;
    let held =
        protocol::inside::HeldLease { task: id("t"), token: tokens.of_lease(&id("t"), claim), attempt: 1 };
    let endpoint = protocol::client::Endpoint::Unix(house.folders.worker_socket());
    let lease = protocol::client::WorkerClient::new(endpoint, token).unwrap().with_lease(held);
    assert_eq!(lease.events(&batch(2, &["c"])).await.unwrap().stored, 3);
    lease.result(&report(Outcome::Succeeded)).await.unwrap();
    assert_eq!(texts(&house.events("t", 3, 100).await), ["4:a", "5:b", "6:c", "7:succeeded"]);
}
