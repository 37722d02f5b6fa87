//! Artifacts: whole or not at all, checked, and in their place at the end.

use futures_util::StreamExt as _;
use protocol::{
    Code, Problem, TaskState, headers, limits,
    report::{Outcome, Report},
    task::Artifact,
    worker::WorkerEnd,
};
use sha2::{Digest as _, Sha256};

use crate::{
    house::{House, code, held, id, named, report},
    time::Bench,
};

fn artifact(name: &str, bytes: &[u8]) -> Artifact {
    Artifact { name: name.to_owned(), size: bytes.len() as u64, sha256: hex::encode(Sha256::digest(bytes)) }
}

async fn put(house: &House, lease: &protocol::client::LeasedClient, name: &str, bytes: &[u8]) -> Artifact {
    let file = house.base().join("upload");
    std::fs::write(&file, bytes).unwrap();
    let artifact = artifact(name, bytes);
    lease.put_artifact(&artifact, &file).await.unwrap();
    artifact
}

#[tokio::test]
async fn they_are_where_the_report_says() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let big = vec![7; 3_000_000];
    put(&house, &lease, "bundle", b"old").await;
    let bundle = put(&house, &lease, "bundle", &big).await;
    let log = put(&house, &lease, "log", b"").await;
    put(&house, &lease, "unnamed", b"x").await;
    let name = "bundle".to_owned().try_into().unwrap();
    assert_eq!(code(house.owner.artifact(&id("t"), &name).await), Code::UnknownArtifact, "not yet");

    let artifacts = vec![bundle.clone(), log.clone()];
    let done = Report { artifacts: artifacts.clone(), ..report(Outcome::Succeeded) };
    lease.result(&done).await.unwrap();
    assert_eq!(house.task("t").await.artifacts, artifacts);
    let answer = house.owner.artifact(&id("t"), &name).await.unwrap();
    assert_eq!(answer.headers()[headers::SHA256], bundle.sha256.as_str());
    assert_eq!(answer.bytes().await.unwrap(), big);
    let folder = house.folders.artifacts(&id("t"));
    let mut left: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["bundle", "log"]);
    assert_eq!(std::fs::read(folder.join("bundle")).unwrap(), big);
    let unnamed = "unnamed".to_owned().try_into().unwrap();
    assert_eq!(code(house.owner.artifact(&id("t"), &unnamed).await), Code::UnknownArtifact);
}

#[tokio::test]
async fn a_report_that_says_otherwise_is_refused_and_may_be_mended() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let stored = put(&house, &lease, "log", b"abc").await;
    for wrong in [
        artifact("missing", b"abc"),
        Artifact { size: 4, ..stored.clone() },
        Artifact { sha256: "0".repeat(64), ..stored.clone() },
    ] {
        let lie = Report { artifacts: vec![wrong], ..report(Outcome::Succeeded) };
        assert_eq!(code(lease.result(&lie).await), Code::Invalid);
        assert_eq!(house.state("t").await, TaskState::Running);
    }
    let truth = Report { artifacts: vec![stored], ..report(Outcome::Succeeded) };
    assert_eq!(lease.result(&truth).await.unwrap().state, TaskState::Succeeded);
}

#[tokio::test]
async fn what_is_not_what_was_announced_is_not_kept() {
    let house = House::open().await;
    let (worker, lease) = house.started("t").await;
    let file = house.base().join("upload");
    std::fs::write(&file, b"abc").unwrap();
    let wrong = Artifact { sha256: "0".repeat(64), ..artifact("log", b"abc") };
    assert_eq!(code(lease.put_artifact(&wrong, &file).await), Code::Invalid);
    let attempt = house.folders.artifacts(&id("t")).join(".attempt-1");
    assert_eq!(std::fs::read_dir(attempt).unwrap().count(), 0, "no leftovers");

    let tokens = coordinator::tokens::Tokens::open(&house.folders.data.join("coordinator.secret")).unwrap();
    let claim = coordinator::tokens::Claim { attempt: 1, serial: 1 };
    let token = tokens.of_lease(&id("t"), claim);
    let put = |name: &str, sha256: &str, size: Option<u64>| {
        let request = house.door().put(format!("http://x/tasks/t/artifacts/{name}"));
        let request = request.bearer_auth(worker.token.expose());
        let request = request.header(headers::LEASE, token.expose()).header(headers::ATTEMPT, 1);
        let request = request.header(headers::SHA256, sha256);
        match size {
            Some(size) => request.header("content-length", size),
            None => request.body("abc"),
        }
    };
    let good = artifact("log", b"abc").sha256;
    for (name, sha256) in [
        ("..", &good),
        (".hidden", &good),
        ("a%2fb", &good),
        ("log", &"A".repeat(64)),
        ("log", &"0".to_owned()),
    ] {
        let status = put(name, sha256, None).send().await.unwrap().status();
        assert!(status.is_client_error(), "{name} {sha256}: {status}");
    }
    let over = put("log", &good, Some(limits::ARTIFACT_BYTES + 1)).send().await;
    assert!(over.is_err() || over.unwrap().status() == 413);
}

#[tokio::test]
async fn a_task_may_have_so_many_and_no_more() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    for n in 0..limits::TASK_ARTIFACTS {
        put(&house, &lease, &format!("a{n}"), b"x").await;
    }
    put(&house, &lease, "a0", b"again").await;
    let file = house.base().join("upload");
    std::fs::write(&file, b"x").unwrap();
    let one_more = lease.put_artifact(&artifact("more", b"x"), &file).await;
    assert_eq!(code(one_more), Code::TooLarge);
    let attempt = house.folders.artifacts(&id("t")).join(".attempt-1");
    assert_eq!(std::fs::read_dir(attempt).unwrap().count(), limits::TASK_ARTIFACTS);
}

#[tokio::test]
async fn an_upload_that_is_refused_leaves_what_was_there() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let log = put(&house, &lease, "log", b"old").await;
    put(&house, &lease, "big", b"x").await;
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    let nearly_all = (limits::TASK_ARTIFACT_BYTES - 5).cast_signed();
    database.execute("UPDATE uploads SET size = ?1 WHERE name = 'big'", [nearly_all]).unwrap();
    drop(database);
    let file = house.base().join("upload");
    std::fs::write(&file, b"sixsix").unwrap();
    assert_eq!(code(lease.put_artifact(&artifact("log", b"sixsix"), &file).await), Code::TooLarge);
    let attempt = house.folders.artifacts(&id("t")).join(".attempt-1");
    assert_eq!(std::fs::read(attempt.join("log")).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(attempt).unwrap().count(), 2);
    lease.result(&Report { artifacts: vec![log], ..report(Outcome::Succeeded) }).await.unwrap();
}

#[tokio::test]
async fn an_upload_has_no_more_than_its_room_and_leaves_nothing_when_it_is_dropped() {
    let base = tempfile::tempdir().unwrap();
    let folders = crate::house::folders(base.path());
    let artifacts = coordinator::artifacts::Artifacts::new(folders.clone());
    let task = id("t");
    let attempt = folders.artifacts(&task).join(".attempt-1");
    let files = || std::fs::read_dir(&attempt).map_or(0, Iterator::count);
    let announced = |size| coordinator::artifacts::Announced {
        name: "log".to_owned().try_into().unwrap(),
        sha256: artifact("log", b"abc").sha256,
        size,
    };
    let chunks = || futures_util::stream::iter([Ok("ab".into()), Ok("c".into())]);
    for (size, room) in [(Some(3), 2), (None, 2)] {
        let over = artifacts.receive(&task, 1, &announced(size), room, chunks()).await;
        assert_eq!((over.unwrap_err().code, files()), (Code::TooLarge, 0));
    }
    let received = artifacts.receive(&task, 1, &announced(None), 3, chunks()).await.unwrap();
    assert_eq!(files(), 1);
    drop(received);
    assert_eq!(files(), 0);

    let announced = announced(None);
    let slow = chunks().chain(futures_util::stream::pending());
    tokio::select! {
        _ = artifacts.receive(&task, 1, &announced, 3, slow) => panic!("it has no end"),
        () = crate::house::until(|| files() == 1) => {}
    }
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn a_lost_attempt_leaves_nothing_behind() {
    let house = House::open().await;
    let (worker, stale) = house.started("t").await;
    put(&house, &stale, "log", b"of the first attempt").await;
    let end = WorkerEnd { exit: None, reason: "oom".to_owned() };
    house.owner.end_worker(&worker.id, &end).await.unwrap();
    let next = house.worker("q").await;
    let leased = next.lease_by(uuid::Uuid::new_v4(), 15).await.unwrap().unwrap();
    let lease = next.with(&leased);
    lease.start().await.unwrap();
    let file = house.base().join("upload");
    let late = next.client.with_lease(protocol::inside::HeldLease { attempt: 1, ..held(&leased) });
    assert_eq!(code(late.put_artifact(&artifact("log", b"x"), &file).await), Code::LeaseLost);
    let log = put(&house, &lease, "log", b"of the second").await;
    lease.result(&Report { artifacts: vec![log], ..report(Outcome::Succeeded) }).await.unwrap();
    let folder = house.folders.artifacts(&id("t"));
    assert_eq!(std::fs::read(folder.join("log")).unwrap(), b"of the second");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn what_a_crash_left_to_do_is_done_at_the_next_start() {
    let house = House::open().await;
    let (_, lease) = house.started("t").await;
    let log = put(&house, &lease, "log", b"abc").await;
    lease.result(&Report { artifacts: vec![log.clone()], ..report(Outcome::Succeeded) }).await.unwrap();
    let mut house = house;
    house.stop().await;
    // As if it had died between the commit and the move.
    let folder = house.folders.artifacts(&id("t"));
    std::fs::create_dir(folder.join(".attempt-1")).unwrap();
    std::fs::rename(folder.join("log"), folder.join(".attempt-1/log")).unwrap();
    let database = rusqlite::Connection::open(house.folders.coordinator_db()).unwrap();
    let n: i64 = database.query_row("SELECT n FROM tasks WHERE id = 't'", [], |row| row.get(0)).unwrap();
    let row = (n, 1, "log", 3, &log.sha256);
    database.execute("INSERT INTO uploads VALUES (?1, ?2, ?3, ?4, ?5)", row).unwrap();
    drop(database);
    let house = house.restart().await;
    let name = "log".to_owned().try_into().unwrap();
    let got = house.owner.artifact(&id("t"), &name).await.unwrap();
    assert_eq!(got.bytes().await.unwrap(), "abc");
    crate::house::until(|| folder.join("log").is_file() && !folder.join(".attempt-1").exists()).await;
    house.submit(named("u")).await;
}

#[tokio::test]
async fn a_task_may_have_so_many_bytes_and_no_more() {
    let bench = Bench::open().await;
    let claim = bench.run(named("t")).await;
    let note = async |name: &str, size: u64| {
        let artifact = Artifact { size, ..artifact(name, b"") };
        bench.queue.note_upload(id("t"), claim, artifact, || Ok(())).await.map_err(Problem::from)
    };
    note("a", limits::TASK_ARTIFACT_BYTES - 10).await.unwrap();
    assert_eq!(note("b", 11).await.unwrap_err().code, Code::TooLarge);
    note("b", 10).await.unwrap();
    note("a", 5).await.unwrap();
}
