//! Delivers the report that a dead sandbox left in its outbox: artifacts first, then the result that names them.

use std::path::Path;

use protocol::Secret;
use protocol::client::{ClientError, Endpoint, LeasedClient, WorkerClient};
use protocol::inside::{HeldReport, Outbox};

use crate::outbox::{self, OpenArtifact};

/// Delivers what is there, with the worker's own token through the workers' door. A report that was accepted or
/// refused for good is marked and not sent again.
///
/// # Errors
/// When it may do better later.
pub(crate) async fn deliver(outbox: &Outbox, door: &Path, token: &Secret) -> Result<(), ClientError> {
    if outbox::is_delivered(outbox) {
        return Ok(());
    }
    let held = match outbox::report(outbox) {
        Ok(Some(held)) => held,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(%error, "the outbox holds no report that can be read");
            return Ok(());
        }
    };
    let worker = WorkerClient::new(Endpoint::Unix(door.to_owned()), token.clone())?;
    match send(&worker.with_lease(held.lease.clone()), outbox, held).await {
        Err(error) if error.is_passing() => return Err(error),
        Err(error) => tracing::warn!(%error, "the report was refused"),
        Ok(()) => {}
    }
    if let Err(error) = outbox::mark_delivered(outbox) {
        tracing::debug!(%error, "cannot mark the report as delivered");
    }
    Ok(())
}

async fn send(client: &LeasedClient, outbox: &Outbox, held: HeldReport) -> Result<(), ClientError> {
    let mut report = held.report;
    let mut there = Vec::new();
    for artifact in std::mem::take(&mut report.artifacts) {
        let file = artifact.name.parse().ok().and_then(|name| OpenArtifact::open(outbox, &name).ok());
        let Some(file) = file else {
            tracing::warn!(artifact = artifact.name, "is named by the report, but not in the outbox");
            continue;
        };
        match client.put_artifact(&artifact, &file.path()).await {
            Ok(()) => there.push(artifact),
            Err(error) if error.is_passing() => return Err(error),
            // The rest of the work is still worth having, unless the lease is gone: then the result says so.
            Err(error) => tracing::warn!(%error, artifact = artifact.name, "was refused"),
        }
    }
    report.artifacts = there;
    client.result(&report).await.map(|_| ())
}
