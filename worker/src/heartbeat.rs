//! Keeps the lease, and hears orders.

use std::time::Duration;

use protocol::{
    client::LeasedClient,
    lease::{Heartbeat, Lease, OrderKind},
    limits,
};
use tokio::time::Instant;

use crate::{
    control::{Stop, Stopper},
    lease::Backoff,
};

/// Beats that are answered at once are not repeated faster than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// Beats until it is dropped or the lease is lost. Each beat waits at the coordinator for an order, so an order
/// is heard at once. When the coordinator has not been heard for the lease's time less a margin, the agent is
/// stopped: the coordinator may give the task away right after; the beats go on.
pub async fn beat(client: &LeasedClient, lease: &Lease, stopper: &Stopper) {
    let wait = Duration::from_secs(lease.heartbeat_s).min(limits::HEARTBEAT_WAIT);
    let silence = silence(lease.lease_s);
    let (mut after, mut heard, mut backoff) = (0, Instant::now(), Backoff::new());
    loop {
        let asked = Instant::now();
        let request = Heartbeat { after };
        let answer = tokio::select! {
            answer = client.heartbeat(&request, wait) => answer,
            () = tokio::time::sleep_until(heard + silence), if stopper.said().is_none() => {
                stopper.stop(Stop::Silence);
                continue;
            }
        };
        match answer {
            Ok(beat) => {
                // The lease was renewed when the request came, not when the answer left.
                heard = asked;
                backoff = Backoff::new();
                let none = beat.orders.is_empty();
                for order in beat.orders {
                    carry_out(&order.kind, stopper);
                    after = after.max(order.seq);
                }
                if none {
                    tokio::time::sleep_until(asked + SHORTEST).await;
                }
            }
            // What is not understood is no refusal either.
            Err(error) if error.is_passing() || error.code().is_none() => {
                tokio::select! {
                    () = backoff.wait() => {}
                    () = tokio::time::sleep_until(heard + silence), if stopper.said().is_none() => {
                        stopper.stop(Stop::Silence);
                    }
                }
            }
            Err(error) => {
                tracing::warn!("the lease is not ours any more: {error}");
                stopper.stop(Stop::LeaseLost);
                return;
            }
        }
    }
}

fn carry_out(order: &OrderKind, stopper: &Stopper) {
    match order {
        OrderKind::Cancel { grace_s } => {
            stopper
                .stop(Stop::Cancelled { grace: Duration::from_secs(*grace_s).min(limits::KILL_GRACE_CAP) });
        }
        OrderKind::Message { .. } => {}
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
}
