//! Tells of what happens to pools. Whoever else is to hear of it (scripts, mail) is told from here.

use tracing::{debug, info, warn};

use crate::config::model::ServiceKey;
use crate::plan::pool::{Occurrence, PoolEvent};

/// Is told of a service that gained its quorum (`true`) or lost it; also of what it begins with, unless
/// nothing follows from it, as under keepalived.
pub type Quorum = dyn Fn(ServiceKey, bool) + Send + Sync;

/// One line in the journal for each, and what follows from it for scripts and mail.
pub fn tell(events: &[PoolEvent], quorum: &Quorum) {
    for PoolEvent { service, what } in events {
        match what {
            Occurrence::QuorumGained { .. } => quorum(*service, true),
            Occurrence::QuorumLost { .. } => quorum(*service, false),
            Occurrence::QuorumAwaited { .. }
            | Occurrence::SorryServes(_)
            | Occurrence::SorryLeft(_)
            | Occurrence::Leaves(_)
            | Occurrence::Returns(_)
            | Occurrence::Gone(_) => {}
        }
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
            Occurrence::QuorumAwaited { live } => {
                info!("{service}: no quorum yet, weight {live} is up; who is up serves");
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
