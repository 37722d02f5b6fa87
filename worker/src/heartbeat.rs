//! Keeps the lease, and hears orders.

use std::time::Duration;

use protocol::{
    client::LeasedClient,
    lease::{Heartbeat, Lease, Order, OrderKind},
    limits,
};
use tokio::time::Instant;

use crate::{
    control::{Stop, Stopper},
    lease::Backoff,
    messages::{Mailbox, Message},
    output::Output,
};

/// Beats that bring nothing new are not repeated faster than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// All that beats need.
#[derive(Clone)]
pub struct Heart {
    /// For the lease's calls.
    pub client: LeasedClient,
    /// The lease.
    pub lease: Lease,
    /// When its start was asked for.
    pub begun: Instant,
    /// Stops the agent.
    pub stopper: Stopper,
    /// Messages for the agent.
    pub mailbox: Mailbox,
    /// Where a message is told of that nobody hears.
    pub output: Output,
}

impl Heart {
    /// Beats until it is dropped or the lease is lost. Each beat waits at the coordinator for an order, so an order
    /// is heard at once (within a second while a message waits for the agent). When the coordinator has not
    /// answered for the lease's time less a margin, the agent is stopped: the coordinator may give the task away
    /// right after; the beats go on.
    pub async fn beat(self) {
        let wait = Duration::from_secs(self.lease.heartbeat_s).min(limits::HEARTBEAT_WAIT);
        let (mut hold, mut backoff) = (Hold::new(self.begun, self.lease.lease_s), Backoff::new());
        loop {
            let asked = Instant::now();
            if hold.is_over(asked) {
                self.stopper.stop(Stop::Silence);
            }
            let request = Heartbeat { after: self.mailbox.carried_out() };
            let answer = tokio::select! {
                biased;
                () = self.silent(&hold) => continue,
                answer = self.client.heartbeat(&request, wait) => answer,
            };
            match answer {
                Ok(beat) => {
                    hold.renewed(asked);
                    backoff = Backoff::new();
                    if !self.carry_out(beat.orders) {
                        tokio::time::sleep_until(hold.ends().min(asked + SHORTEST)).await;
                    }
                }
                // What is not understood is no refusal either.
                Err(error) if error.is_passing() || error.code().is_none() => {
                    tokio::select! {
                        biased;
                        () = self.silent(&hold) => {}
                        () = backoff.wait() => {}
                    }
                }
                Err(error) => {
                    tracing::warn!("the lease is not ours any more: {error}");
                    self.stopper.stop(Stop::LeaseLost);
                    return;
                }
            }
        }
    }

    /// Stops the agent when the lease may be over; never ends when it was stopped so before.
    async fn silent(&self, hold: &Hold) {
        if self.stopper.is_at_once() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep_until(hold.ends()).await;
        self.stopper.stop(Stop::Silence);
    }

    /// Whether any of them was new. They come again until they are carried out.
    fn carry_out(&self, orders: Vec<Order>) -> bool {
        let mut news = false;
        for Order { seq, kind } in orders {
            if !self.mailbox.hears(seq) {
                continue;
            }
            news = true;
            match kind {
                OrderKind::Cancel { grace_s } => {
                    let grace = Duration::from_secs(grace_s).min(limits::KILL_GRACE_CAP);
                    self.stopper.stop(Stop::Cancelled { grace });
                }
                OrderKind::Message { text } => {
                    if let Err(why) = self.mailbox.put(Message { seq, text }) {
                        self.output.unheard(seq, &why);
                    }
                }
            }
        }
        news
    }
}

/// How long the lease is ours for sure. The clock is the kernel's monotonic one: it counts while this process is
/// stopped.
#[derive(Debug, Clone, Copy)]
struct Hold {
    since: Instant,
    silence: Duration,
}

impl Hold {
    fn new(asked: Instant, lease_s: u64) -> Self {
        Self { since: asked, silence: silence(lease_s) }
    }

    /// The lease was renewed when the request came, not when the answer left or was read.
    fn renewed(&mut self, asked: Instant) {
        self.since = asked;
    }

    fn ends(&self) -> Instant {
        self.since + self.silence
    }

    fn is_over(&self, now: Instant) -> bool {
        now >= self.ends()
    }
}

/// How long the coordinator may be silent. The margin is shorter for a lease that is itself short.
fn silence(lease_s: u64) -> Duration {
    let lease = Duration::from_secs(lease_s);
    lease.saturating_sub(limits::LEASE_MARGIN.min(lease / 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_stops_before_the_lease_is_over() {
        assert_eq!(silence(limits::LEASE.as_secs()), limits::LEASE - limits::LEASE_MARGIN);
        assert_eq!(silence(3), Duration::from_secs(2));
    }

    #[test]
    fn an_answer_that_is_read_late_renews_from_when_it_was_asked_for() {
        let read = Instant::now();
        let asked = read.checked_sub(Duration::from_secs(60)).unwrap();
        let mut hold = Hold::new(asked, 45);
        hold.renewed(asked);
        assert!(hold.is_over(read));
        assert!(!hold.is_over(asked + Duration::from_secs(34)));
    }
}
