//! The worker's side, done by the test: no sandbox is there.

use std::{fs, path::Path};

use protocol::{
    client::LeasedClient,
    inside::HeldLease,
    lease::{LeaseQuery, Leased},
    report::{Outcome, Report},
    task::Artifact,
};
use sha2::{Digest, Sha256};

use crate::support::{Home, within};

/// What [`started`] tasks run.
pub(crate) const SCRIPT: &str = "echo hi";

/// Sends an `exec` task, and takes and starts it as its worker does.
pub(crate) async fn started(home: &Home, id: &str) -> LeasedClient {
    home.cli(&["send", "--id", id, "--exec", "sample", "--", "sh", "-c", SCRIPT]).await.ok();
    take(home).await
}

/// Waits for a task, and starts it.
pub(crate) async fn take(home: &Home) -> LeasedClient {
    let worker = home.worker("sample").await;
    let query = LeaseQuery { request_id: uuid::Uuid::new_v4(), wait: 50 };
    let Leased { task, lease } =
        within(worker.lease(&"sample".parse().unwrap(), &query)).await.unwrap().unwrap();
    let task = worker.with_lease(HeldLease { task: task.id, token: lease.token, attempt: lease.attempt });
    task.start().await.unwrap();
    task
}

pub(crate) fn report(outcome: Outcome, message: &str, artifacts: Vec<Artifact>) -> Report {
    Report {
        reason: (outcome != Outcome::Succeeded).then(|| "because: it did not".to_owned()),
        exit_code: Some(if outcome == Outcome::Succeeded { 0 } else { 3 }),
        message: Some(message.to_owned()),
        artifacts,
        ..Report::new(outcome)
    }
}

pub(crate) async fn upload(task: &LeasedClient, name: &str, file: &Path) -> Artifact {
    let bytes = fs::read(file).unwrap();
    let sha256 = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let artifact = Artifact { name: name.to_owned(), size: bytes.len() as u64, sha256 };
    task.put_artifact(&artifact, file).await.unwrap();
    artifact
}
