//! Tells of what happens to pools. Whoever else is to hear of it (scripts, mail) is told from here.

use tracing::{debug, info, warn};

use crate::plan::pool::{Occurrence, PoolEvent};

/// One line in the journal for each.
pub fn tell(events: &[PoolEvent]) {
    for PoolEvent { service, what } in events {
        match what {
            Occurrence::QuorumGained {
                live,
                is_first: true,
            } => debug!("{service}: has its quorum, weight {live} is up"),
            Occurrence::QuorumGained {
                live,
                is_first: false,
            } => info!("{service}: quorum gained, weight {live} is up"),
            Occurrence::QuorumLost { live, .. } => {
                warn!("{service}: quorum lost, weight {live} is up");
            }
            Occurrence::SorryServes(sorry) => {
                warn!("{service}: the sorry server {sorry} serves in place of all others");
            }
            Occurrence::SorryLeft(sorry) => {
                info!(
                    "{service}: the real servers serve again in place of the sorry server {sorry}"
                );
            }
            Occurrence::Leaves(server) => {
                info!("{service}: {server} takes no new connections and keeps those it has");
            }
            Occurrence::Returns(server) => info!("{service}: {server} is back in the pool"),
            Occurrence::Gone(server) => info!("{service}: {server} has left"),
        }
    }
}
