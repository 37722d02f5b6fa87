//! Delivering a report: first whole into the outbox, then to the coordinator, until it is accepted or refused
//! for good.

use std::fs::File;

use protocol::{
    Code,
    client::{ClientError, LeasedClient},
    inside::{HeldLease, HeldReport, Outbox},
    report::{Report, Stage},
};
use tokio::time::Instant;

use crate::{lease::Backoff, outbox};

/// Writes the report where the launcher finds it if this sandbox dies now. A disk that is full is said, and costs
/// no report: it is sent from memory.
pub fn hold(outbox: &Outbox, lease: &HeldLease, report: &Report) {
    let held = HeldReport { lease: lease.clone(), report: report.clone() };
    if let Err(error) = outbox::write_whole(&outbox.report(), &held) {
        tracing::warn!("the report is not in the outbox, and lost if this sandbox dies now: {error}");
    }
}

/// Uploads the artifacts and posts the result, repeating each until it is answered. Then nothing is left for the
/// launcher to do. A refusal is an answer: the coordinator keeps what it wants of it as evidence.
pub async fn deliver(outbox: &Outbox, lease: &HeldLease, report: &mut Report, client: &LeasedClient) {
    let began = Instant::now();
    upload(outbox, report, client).await;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.stages.push(Stage { name: "upload".to_owned(), ms });
    // Again, so that whoever posts it posts the same.
    hold(outbox, lease, report);
    match until_answered(async || client.result(report).await).await {
        Ok(accepted) => tracing::info!("{} is {}", lease.task, accepted.state),
        Err(error) => tracing::warn!("the report of {} was refused: {error}", lease.task),
    }
    let marked = File::create(outbox.delivered()).and_then(|file| file.sync_all());
    if let Err(error) = marked {
        tracing::warn!("the launcher will send the report again: {error}");
    }
}

/// An artifact that is refused is not named in the report.
async fn upload(outbox: &Outbox, report: &mut Report, client: &LeasedClient) {
    let mut stored = Vec::new();
    for artifact in std::mem::take(&mut report.artifacts) {
        let file = outbox.artifacts().join(&artifact.name);
        match until_answered(async || client.put_artifact(&artifact, &file).await).await {
            Ok(()) => stored.push(artifact),
            Err(error) => {
                tracing::warn!("the artifact {} was not taken: {error}", artifact.name);
                if error.code() == Some(Code::LeaseLost) {
                    break;
                }
            }
        }
    }
    report.artifacts = stored;
}

async fn until_answered<T>(call: impl AsyncFn() -> Result<T, ClientError>) -> Result<T, ClientError> {
    let mut backoff = Backoff::new();
    loop {
        match call().await {
            Err(error) if error.is_passing() => backoff.wait().await,
            answer => return answer,
        }
    }
}
