//! Follows what the gateway notices of accounts, and tells the tasks whose requests brought them there.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use protocol::{Code, EventBody, NewEvent, client::AdminClient, keys::Notice, limits};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, output::Outputs, queue::Queue};

/// How long nobody asks after a gateway that did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Who follows.
pub(crate) struct Notices {
    pub(crate) gateway: AdminClient,
    pub(crate) queue: Arc<Queue>,
    pub(crate) outputs: Arc<Outputs>,
    pub(crate) clock: Clock,
    /// Holds the number of the last notice that was told. Lost, a notice is told twice.
    pub(crate) mark: PathBuf,
}

impl Notices {
    /// Until `stop`. Nothing else waits for it.
    pub(crate) async fn follow(self, stop: CancellationToken) {
        let this = Arc::new(self);
        let mut after =
            fs::read_to_string(&this.mark).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let wait_s = u16::try_from(limits::NOTICES_WAIT.as_secs()).unwrap_or(u16::MAX);
        loop {
            let answer = tokio::select! {
                answer = this.gateway.notices(after, wait_s) => answer,
                () = stop.cancelled() => return,
            };
            let answer = match answer {
                Ok(answer) if answer.next != after || !answer.notices.is_empty() => answer,
                // Also a gateway that stops answers at once, and with nothing.
                Ok(_) | Err(_) => {
                    tokio::select! {
                        () = tokio::time::sleep(AGAIN_AFTER) => continue,
                        () = stop.cancelled() => return,
                    }
                }
            };
            // Smaller than before where the gateway has begun anew.
            after = answer.next;
            let telling = Arc::clone(&this);
            let told = tokio::task::spawn_blocking(move || {
                answer.notices.into_iter().for_each(|notice| telling.tell(notice));
                telling.keep(after)
            });
            if let Ok(Err(error)) = told.await {
                tracing::warn!(%error, mark = %this.mark.display(), "which notices were told is not kept");
            }
        }
    }

    fn tell(&self, notice: Notice) {
        let Notice { task, account, percent, spent_usd, budget_usd, .. } = notice;
        let name = task.as_ref().map(tracing::field::display);
        tracing::info!(task = name, account, percent, %spent_usd, %budget_usd, "an account comes to its end");
        let Some(task) = task else { return };
        let body = EventBody::Budget { account, percent, spent_usd, budget_usd };
        let event = NewEvent { at: self.clock.now(), body, raw: None };
        match self.outputs.say(&self.queue, &task, &event) {
            // A task that was removed needs no telling.
            Err(problem) if problem.code != Code::UnknownTask => {
                tracing::warn!(%task, %problem, "an account's notice is not in the task's stream");
            }
            _ => {}
        }
    }

    fn keep(&self, after: u64) -> io::Result<()> {
        let next = self.mark.with_extension("partial");
        fs::write(&next, after.to_string())?;
        fs::rename(next, &self.mark)
    }
}
