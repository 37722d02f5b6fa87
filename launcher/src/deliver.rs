//! Delivers what a dead sandbox left in its outbox: events, then artifacts, then the result that names them.

use std::path::Path;

use protocol::Secret;
use protocol::client::{ClientError, Endpoint, LeasedClient, WorkerClient};
use protocol::inside::{HeldReport, Outbox};
use protocol::limits::{ARTIFACT_BYTES, TASK_ARTIFACTS};
use protocol::task::Artifact;

use crate::events;
use crate::outbox::{self, OpenArtifact};

/// Delivers what is there, with the worker's own token through the workers' door. A report that was accepted or
/// refused for good is marked and not sent again. Where there is no report, events are delivered all the same.
///
/// # Errors
/// When it may do better later.
pub(crate) async fn deliver(outbox: &Outbox, door: &Path, token: &Secret) -> Result<(), ClientError> {
    if outbox::is_delivered(outbox) {
        return Ok(());
    }
    let held = outbox::report(outbox).unwrap_or_else(|error| {
        tracing::warn!(%error, "the outbox holds no report that can be read");
        None
    });
    let lease = held.as_ref().map(|held| held.lease.clone());
    let Some(lease) = lease.or_else(|| Some(outbox::lease(outbox)?.lease)) else { return Ok(()) };
    let client = WorkerClient::new(Endpoint::Unix(door.to_owned()), token.clone())?.with_lease(lease);
    events::deliver(&client, outbox).await?;
    let Some(held) = held else { return Ok(()) };
    match send(&client, outbox, held).await {
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
pub(crate) mod tests {
    use super::*;
    use crate::test_door::{Came, Door};
    use protocol::inside::{HeldLease, LeaseNote};
    use protocol::report::{Outcome, Report};
    use protocol::{Code, EventBody, NewEvent};
    use std::ops::Range;

    fn lease() -> HeldLease {
        HeldLease { task: "t".parse().unwrap(), token: Secret::new("lease"), attempt: 1 }
    }

    /// Writes what a worker writes that has reported a failure.
    pub(crate) fn write_report(outbox: &Outbox) {
        let report = Report { exit_code: Some(1), ..Report::new(Outcome::Failed) };
        let held = HeldReport { lease: lease(), report };
        std::fs::write(outbox.report(), serde_json::to_vec(&held).unwrap()).unwrap();
        write_lease(outbox);
    }

    fn write_lease(outbox: &Outbox) {
        let note = LeaseNote { lease: lease(), timeout_s: Some(60) };
        std::fs::write(outbox.lease(), serde_json::to_vec(&note).unwrap()).unwrap();
    }

    fn output(number: usize) -> EventBody {
        EventBody::Output { stream: "stdout".to_owned(), text: number.to_string() }
    }

    /// Writes a file of these events, and the start of one more.
    fn write_events(outbox: &Outbox, name: &str, numbers: Range<usize>) {
        let line = |number| {
            let event = NewEvent { at: jiff::Timestamp::UNIX_EPOCH, body: output(number), raw: None };
            serde_json::to_string(&event).unwrap() + "\n"
        };
        let lines: String = numbers.clone().map(line).collect();
        std::fs::create_dir_all(outbox.events()).unwrap();
        std::fs::write(outbox.events().join(name), lines + line(numbers.end).get(..20).unwrap()).unwrap();
    }

    fn place() -> (tempfile::TempDir, Outbox, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (outbox, socket) = (Outbox::at(folder.path().join("outbox")), folder.path().join("worker.sock"));
        std::fs::create_dir(outbox.folder()).unwrap();
        (folder, outbox, socket)
    }

    #[tokio::test]
    async fn events_that_were_not_sent_come_before_the_report_each_once() {
        let (_folder, outbox, socket) = place();
        write_report(&outbox);
        write_events(&outbox, "00000000-0", 0..2_500);
        let door = Door::open(&[&socket], (0..3).map(output).collect(), None);
        deliver(&outbox, &socket, &Secret::new("worker")).await.unwrap();
        assert!(*door.events.lock().unwrap() == (0..2_500).map(output).collect::<Vec<_>>());
        assert_eq!(*door.events_at_result.lock().unwrap(), Some(2_500));
    }

    #[tokio::test]
    async fn the_rest_of_several_files_comes_once_whoever_dies_in_the_middle() {
        let (_folder, outbox, socket) = place();
        write_report(&outbox);
        // The worker died when it had the next file's number in its name, and had not removed the one before.
        write_events(&outbox, "00000009-1000", 1_000..2_000);
        write_events(&outbox, "00000010-2000", 2_000..4_500);
        write_events(&outbox, "00000012", 4_500..4_600);
        write_events(&outbox, "00000101", 4_600..6_000);
        let door = Door::open(&[&socket], (0..2_300).map(output).collect(), None);
        for stored in [4_300, 5_300] {
            *door.away_from.lock().unwrap() = stored;
            assert!(deliver(&outbox, &socket, &Secret::new("worker")).await.is_err());
            assert!(door.events.lock().unwrap().len() >= stored && door.came().is_empty());
        }
        *door.away_from.lock().unwrap() = usize::MAX;
        deliver(&outbox, &socket, &Secret::new("worker")).await.unwrap();
        assert!(*door.events.lock().unwrap() == (0..6_000).map(output).collect::<Vec<_>>());
        assert_eq!(*door.events_at_result.lock().unwrap(), Some(6_000));
    }

    #[tokio::test]
    async fn what_is_left_comes_once_where_the_coordinator_has_lost_what_is_gone() {
        let (_folder, outbox, socket) = place();
        write_lease(&outbox);
        write_events(&outbox, "00000009-1000", 1_000..2_000);
        write_events(&outbox, "00000010", 2_000..2_500);
        let door = Door::open(&[&socket], (0..900).map(output).collect(), None);
        // Without a report the next launcher delivers again.
        for _ in 0..2 {
            deliver(&outbox, &socket, &Secret::new("worker")).await.unwrap();
            let left = (0..900).chain(1_000..2_500).map(output).collect::<Vec<_>>();
            assert!(*door.events.lock().unwrap() == left);
        }
    }

    #[tokio::test]
    async fn events_come_without_a_report_too() {
        let (_folder, outbox, socket) = place();
        write_lease(&outbox);
        write_events(&outbox, "00000000-0", 0..2);
        let door = Door::open(&[&socket], Vec::new(), None);
        deliver(&outbox, &socket, &Secret::new("worker")).await.unwrap();
        assert_eq!(*door.events.lock().unwrap(), [output(0), output(1)]);
        assert_eq!(door.came(), []);
    }

    #[tokio::test]
    async fn a_report_is_sent_again_only_where_that_may_help() {
        for (refusal, again) in
            [(Code::LeaseLost, false), (Code::Invalid, false), (Code::StorageUnavailable, true)]
        {
            let (_folder, outbox, socket) = place();
            write_report(&outbox);
            let door = Door::open(&[&socket], Vec::new(), Some(refusal));
            for _ in 0..2 {
                let delivered = deliver(&outbox, &socket, &Secret::new("worker")).await;
                assert_eq!(delivered.is_err(), again, "{refusal:?}");
            }
            assert_eq!(door.came(), vec![Came::Result; if again { 2 } else { 1 }], "{refusal:?}");
        }
    }

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
