//! Answers that are lost on their way: what was asked is asked again, and done once.

use std::path::PathBuf;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

use crate::{
    support::{Home, within},
    worker::take,
};

/// A way to the coordinator that loses the first answer.
fn lossy(home: &mut Home) -> JoinHandle<()> {
    let (door, way): (PathBuf, PathBuf) =
        (home.data().join("run/owner.sock"), home.path().join("lossy.sock"));
    let listener = UnixListener::bind(&way).unwrap();
    home.set("COORDINATOR_URL", &format!("unix://{}", way.display()));
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut coordinator = UnixStream::connect(&door).await.unwrap();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            tokio::select! {
                asked = first.read(&mut buffer) => {
                    let bytes = &buffer[..asked.unwrap()];
                    coordinator.write_all(bytes).await.unwrap();
                }
                // It has answered, so it has acted.
                () = async { coordinator.readable().await.unwrap() } => break,
            }
        }
        drop((first, coordinator));
        let (mut second, _) = listener.accept().await.unwrap();
        let mut coordinator = UnixStream::connect(&door).await.unwrap();
        copy_bidirectional(&mut second, &mut coordinator).await.unwrap();
    })
}

#[tokio::test]
async fn a_retry_whose_answer_is_lost_makes_one_task() {
    let mut home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    home.cli(&["send", "--id", "t", "sample", "x"]).await.ok();
    home.cli(&["cancel", "t"]).await.ok();
    let direct = home.env["COORDINATOR_URL"].clone();
    let way = lossy(&mut home);
    let retried = home.cli(&["retry", "t"]).await;
    assert!(retried.err.contains("trying on"), "{retried:?}");
    let id = retried.ok();
    within(way).await.unwrap();
    home.set("COORDINATOR_URL", &direct);
    let listed = home.cli(&["list"]).await.ok();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    assert!(listed.starts_with(id.trim_end()), "{listed}");
}

#[tokio::test]
async fn a_message_whose_answer_is_lost_is_one_message() {
    let mut home = Home::new();
    let _up = home.up().await;
    home.repo("sample").await;
    home.cli(&["send", "--id", "t", "sample", "x"]).await.ok();
    let _task = take(&home).await;
    let direct = home.env["COORDINATOR_URL"].clone();
    let way = lossy(&mut home);
    let first = home.cli(&["message", "t", "x"]).await;
    assert!(first.err.contains("trying on"), "{first:?}");
    assert!(first.ok().starts_with("t: message 1 "));
    within(way).await.unwrap();
    home.set("COORDINATOR_URL", &direct);
    let second = home.cli(&["message", "t", "x"]).await.ok();
    assert!(second.starts_with("t: message 2 "), "{second}");
}
