//! Delivers the report that a dead sandbox left in its outbox: artifacts first, then the result that names them.

use std::path::Path;

use protocol::Secret;
use protocol::client::{ClientError, Endpoint, LeasedClient, WorkerClient};
use protocol::inside::{HeldReport, Outbox};
use protocol::limits::{ARTIFACT_BYTES, TASK_ARTIFACTS};
use protocol::task::Artifact;

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
    for (artifact, file) in deliverable(outbox, std::mem::take(&mut report.artifacts)) {
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

/// The artifacts that can be taken, opened. What is in the way of the others lasts: to send one whose file is
/// shorter than it says fails as if the coordinator were away, and would be tried again in vain.
fn deliverable(outbox: &Outbox, named: Vec<Artifact>) -> impl Iterator<Item = (Artifact, OpenArtifact)> {
    let there = named.into_iter().filter_map(|artifact| {
        let file = artifact.name.parse().ok().and_then(|name| OpenArtifact::open(outbox, &name).ok());
        let size = file.as_ref().and_then(|file| file.size().ok());
        if size != Some(artifact.size) || artifact.size > ARTIFACT_BYTES {
            tracing::warn!(
                artifact = artifact.name,
                ?size,
                "is too large, or not in the outbox as the report says"
            );
            return None;
        }
        Some((artifact, file?))
    });
    there.take(TASK_ARTIFACTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_that_are_not_as_the_report_says_or_too_many_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::at(folder.path());
        std::fs::create_dir_all(outbox.artifacts()).unwrap();
        std::fs::write(outbox.artifacts().join("log"), "four").unwrap();
        let large = std::fs::File::create(outbox.artifacts().join("large")).unwrap();
        large.set_len(ARTIFACT_BYTES + 1).unwrap();
        let artifact = |name: &str, size| Artifact { name: name.to_owned(), size, sha256: String::new() };
        let names = |named: &[Artifact]| -> Vec<(String, u64)> {
            deliverable(&outbox, named.to_vec()).map(|(artifact, _)| (artifact.name, artifact.size)).collect()
        };
        let named = [
            artifact("log", 5),
            artifact("log", 3),
            artifact("other", 4),
            artifact("large", ARTIFACT_BYTES + 1),
            artifact("log", 4),
        ];
        assert_eq!(names(&named), [("log".to_owned(), 4)]);
        assert_eq!(names(&vec![artifact("log", 4); TASK_ARTIFACTS + 1]).len(), TASK_ARTIFACTS);
    }
}
