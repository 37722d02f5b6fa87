//! Posts what is in the spool until all is stored or the coordinator refuses.

use std::time::Duration;

use protocol::{
    client::{ClientError, LeasedClient},
    event::NewEvents,
};

use super::SpoolReader;
use crate::lease::Backoff;

/// Between two requests, so that an agent that writes a word at a time does not cost a request a word.
const GATHER: Duration = Duration::from_millis(50);

/// Ends when the spool has ended and all of it is stored, or when the coordinator wants no more.
pub async fn send(mut spool: SpoolReader, client: LeasedClient) {
    loop {
        let first = spool.place();
        let events = match spool.next_events().await {
            Ok(Some(events)) => events,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!("events are lost: the spool cannot be read: {error}");
                return;
            }
        };
        let batch = NewEvents { first, events };
        let full = spool.has_more();
        match post(&client, &batch).await {
            Ok(stored) if stored == spool.place() => {}
            // After a crash it may have fewer than it said; after a lost answer, more.
            Ok(stored) => {
                if let Err(error) = spool.seek(stored) {
                    tracing::warn!("events are lost: the spool cannot be read: {error}");
                    return;
                }
            }
            Err(error) => {
                tracing::warn!("the coordinator takes no more events: {error}");
                return;
            }
        }
        if !full {
            tokio::time::sleep(GATHER).await;
        }
    }
}

async fn post(client: &LeasedClient, batch: &NewEvents) -> Result<u64, ClientError> {
    let mut backoff = Backoff::new();
    loop {
        match client.events(batch).await {
            Ok(answer) => return Ok(answer.stored),
            Err(error) if error.is_passing() => backoff.wait().await,
            Err(error) => return Err(error),
        }
    }
}
