//! Who is told that an account comes near its limit.

use std::{sync::Arc, time::Duration};

use protocol::keys::{Notice, Notices};

use super::Ledger;

impl Ledger {
    /// The notices after `after`; with none, after `wait` at most.
    pub async fn notices(self: &Arc<Self>, after: u64, wait: Duration) -> Notices {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let told = self.told.notified();
            tokio::pin!(told);
            told.as_mut().enable();
            let notices = self.notices_after(after);
            if !notices.notices.is_empty() || tokio::time::timeout_at(deadline, told).await.is_err() {
                return notices;
            }
        }
    }

    fn notices_after(&self, after: u64) -> Notices {
        let books = self.books();
        let notices: Vec<Notice> =
            books.notices.iter().filter(|notice| notice.seq > after).cloned().collect();
        // One that is ahead, by a clock that was set back, is to come back to where we are.
        Notices {
            next: after.min(books.next_notice - 1).max(notices.last().map_or(0, |last| last.seq)),
            notices,
        }
    }
}
