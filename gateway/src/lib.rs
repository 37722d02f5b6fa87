//! The gateway: a virtual key comes in, the real key goes out, and every token is metered.
//!
//! A request is [authenticated and reserved for](http::connections), [sent on](exchange) with its output bounded,
//! [read aside](meter) while it streams back, and [charged](ledger) however it ends. The
//! [admin door](http::admin) is the coordinator's: it mints and revokes virtual keys. This room knows no queue.

pub mod account;
pub mod body;
pub mod config;
pub mod counted;
pub mod encoding;
pub mod exchange;
pub mod http;
pub mod ledger;
pub mod meter;
pub mod prices;
pub mod provider;
pub mod refusal;
pub mod sockets;
pub mod sse;
pub mod tokens;
pub mod upstream;
pub mod virtual_key;

use std::sync::Arc;

use ledger::Ledger;
use prices::PriceList;
use provider::Provider;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use upstream::Upstreams;

/// What all doors share.
#[derive(Debug)]
pub struct Gateway {
    /// Who may spend how much.
    pub ledger: Arc<Ledger>,
    /// What tokens cost.
    pub prices: PriceList,
    /// What providers counted of conversations that go on.
    pub counted: Arc<counted::Counted>,
    /// The bodies on their way in.
    pub uploads: Arc<http::Uploads>,
    /// Anthropic's API.
    pub anthropic: Upstreams,
    /// OpenAI's API.
    pub openai: Upstreams,
    /// Requests that are not settled yet, also those whose client has gone.
    pub under_way: TaskTracker,
    /// Ends them: what is not settled by then is charged by its reservation.
    pub cut: CancellationToken,
}

impl Gateway {
    /// The upstreams of a provider.
    #[must_use]
    pub fn upstreams(&self, provider: Provider) -> &Upstreams {
        match provider {
            Provider::Anthropic => &self.anthropic,
            Provider::OpenAi => &self.openai,
        }
    }
}
