//! The tasks around the launcher's loop: one makes a sandbox, one attends to its keeper, and both tell the loop.

use std::time::Duration;

use protocol::WorkerId;
use protocol::client::ClientError;
use sandbox::Runtime;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::mpsc;

use crate::finish::{finish, nobody_knows};
use crate::folder::{SandboxFolder, Watch};
use crate::lines::News;
use crate::settings::{Config, Home};
use crate::start::{Kept, NotKept, start};

/// How often a coordinator that is away is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What the loop hears.
pub(crate) enum Happened {
    Started(Box<Result<Kept, NotKept>>),
    /// Draining began before it was made.
    NotStarted,
    /// The coordinator is away; it is asked again.
    Unreachable(ClientError),
    News(WorkerId, News),
    /// The keeper is gone, and with it all of its sandbox, or else why not.
    KeeperGone(WorkerId, Result<(), String>),
}

/// Makes one sandbox, as soon as the coordinator is there.
pub(crate) async fn start_when_reachable(
    config: &Config,
    runtime: &Runtime,
    sender: &mpsc::Sender<Happened>,
) -> Result<Kept, NotKept> {
    loop {
        match start(config, runtime).await {
            Err(NotKept::Unreachable(error)) => {
                let _ = sender.send(Happened::Unreachable(error)).await;
                tokio::time::sleep(ASK_AGAIN).await;
            }
            kept => return kept,
        }
    }
}

/// Passes on what a keeper says, and does its work when it dies.
pub(crate) async fn attend(
    worker: WorkerId,
    folder: SandboxFolder,
    mut keeper: Child,
    watch: Watch,
    home: Home,
    sender: mpsc::Sender<Happened>,
) {
    let mut watch = Some(watch);
    if let Some(out) = keeper.stdout.take() {
        let mut lines = BufReader::new(out).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            // Its first word: it watches for itself.
            watch = None;
            if let Ok(news) = serde_json::from_str(&line) {
                let _ = sender.send(Happened::News(worker.clone(), news)).await;
            }
        }
    }
    let status = keeper.wait().await;
    drop(watch);
    let left = match status {
        Ok(status) if status.success() => Ok(()),
        _ => clear_away(&folder, &home).await,
    };
    let _ = sender.send(Happened::KeeperGone(worker, left)).await;
}

async fn clear_away(folder: &SandboxFolder, home: &Home) -> Result<(), String> {
    let log = std::fs::read_to_string(folder.keeper_log()).unwrap_or_default();
    let said = log.lines().last().unwrap_or("it said nothing").to_owned();
    match folder.take_over() {
        Ok(Some(_watch)) => {
            finish(folder, home, &nobody_knows()).await.map_err(|error| format!("{error} ({said})"))
        }
        // Somebody else clears it away, or it is gone.
        _ => Ok(()),
    }
}
