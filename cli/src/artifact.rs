//! Taking an artifact from the coordinator.

use std::time::Duration;

use protocol::{
    Code, TaskId,
    client::{ClientError, OwnerClient},
    ids::ArtifactName,
};

use crate::failure::{Exit, Failure};

/// Hands the artifact's bytes on as they come. Where there is none, says why.
pub(crate) async fn download(
    client: &OwnerClient,
    id: &TaskId,
    name: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let artifact: ArtifactName =
        name.parse().map_err(|error| Failure::new(Exit::Usage, format!("{error}")))?;
    let mut response = match client.artifact(id, &artifact).await {
        Err(ClientError::Refused(problem)) if problem.code == Code::UnknownArtifact => {
            return Err(missing(client, id, name).await?);
        }
        other => other?,
    };
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => take(&bytes)?,
            Ok(None) => return Ok(()),
            Err(error) => {
                let text = format!("the {name} of {id} broke off: {error}\nask for it again");
                return Err(Failure::new(Exit::Unreachable, text));
            }
        }
    }
}

async fn missing(client: &OwnerClient, id: &TaskId, name: &str) -> Result<Failure, Failure> {
    let state = client.task(id, Duration::ZERO).await?.state;
    let (exit, why) = if state.is_terminal() {
        (Exit::Failed, "it brought back no change")
    } else {
        (Exit::NotFinished, "it has not ended")
    };
    Ok(Failure::new(
        exit,
        format!("{id} ({state}) has no {name}: {why}\nwhat happened: code-workers logs {id}"),
    ))
}
