//! Delivering a report: first whole into the outbox, then to the coordinator, until it is accepted or refused
//! for good.

use std::collections::BTreeSet;

use protocol::{
    Code,
    client::LeasedClient,
    inside::{HeldLease, HeldReport, Outbox},
    limits,
    report::{Limit, Report, Stage},
    task::Artifact,
};
use tokio::time::Instant;

use crate::{attempt::Made, lease::until_answered, outbox, verdict::Verdict};

/// Writes the report, where there is an heir, where the launcher finds it if this sandbox dies now. A disk that is full is said, and costs
/// no report: it is sent from memory.
pub fn hold(heir: Option<&Outbox>, lease: &HeldLease, report: &Report) {
    let Some(outbox) = heir else { return };
    let held = HeldReport { lease: lease.clone(), report: report.clone() };
    if let Err(error) = outbox::write_whole(&outbox.report(), &held) {
        tracing::warn!("the report is not in the outbox, and lost if this sandbox dies now: {error}");
    }
}

/// Uploads the artifacts, repeating each until it is answered.
pub async fn upload(outbox: &Outbox, report: &mut Report, client: &LeasedClient) {
    let began = Instant::now();
    upload_all(outbox, report, client).await;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    report.stages.push(Stage { name: "upload".to_owned(), ms });
}

/// Posts the result, until it is answered. Then nothing is left for the launcher to do. A refusal is an answer: the
/// coordinator keeps what it wants of it as evidence.
pub async fn deliver(heir: Option<&Outbox>, lease: &HeldLease, report: &Report, client: &LeasedClient) {
    match until_answered(async || client.result(report).await).await {
        Ok(accepted) => tracing::info!("{} is {}", lease.task, accepted.state),
        Err(error) => tracing::warn!("the report of {} was refused: {error}", lease.task),
    }
    let Some(outbox) = heir else { return };
    let marked = outbox::create(&outbox.delivered()).and_then(|file| file.sync_all());
    if let Err(error) = marked {
        tracing::warn!("the launcher will send the report again: {error}");
    }
}

/// The report of an attempt that has nothing to show.
#[must_use]
pub fn without_work(verdict: Verdict) -> Report {
    Report { reason: verdict.reason.map(short), exit_code: verdict.exit_code, ..Report::new(verdict.outcome) }
}

/// The report of what an attempt made.
#[must_use]
pub fn of(made: Made, limits: BTreeSet<Limit>, log: Option<Artifact>, log_tail: String) -> Report {
    Report {
        limits,
        message: made.message,
        head: made.head,
        diff: made.diff,
        tokens: made.tokens,
        stages: made.stages,
        log_tail,
        artifacts: made.artifacts.into_iter().chain(log).collect(),
        ..without_work(made.verdict)
    }
}

/// Git's own words, say, may be longer than a reason may be.
#[must_use]
pub fn short(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(limits::REASON_BYTES));
    reason
}

/// An artifact that is refused is not named in the report.
async fn upload_all(outbox: &Outbox, report: &mut Report, client: &LeasedClient) {
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
