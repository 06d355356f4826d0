//! What the reconciler listens to, whom it tells, and what it shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::agent::drive::Clock;
use crate::agent::pools;
use crate::agent::vrrp::Claims;
use crate::config::model::Config;
use crate::control::orders::OrderRequest;
use crate::dataplane::{AttachedMode, Counters};
use crate::machine::Now;
use crate::plan::carriers::Peers;
use crate::plan::desired::Desired;
use crate::plan::pool::{Memberships, Overrides};
use crate::plan::table::{Health, Network, Ownership};

/// A question about the agent's state; it is asked on the reconciler's task and must be quick. It is
/// dropped unasked if there is nothing to show.
pub type Inspection = Box<dyn FnOnce(&View<'_>) + Send>;

/// The agent's state at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the file says.
    pub config: &'a Config,
    /// What the tables should hold.
    pub desired: &'a Desired,
    /// Verdicts on the real servers.
    pub health: &'a Health,
    /// Who is in the pool of each service.
    pub pools: &'a Memberships,
    /// What operators said at runtime.
    pub overrides: &'a Overrides,
    /// What the clock of `pools` reads.
    pub now: Now,
    /// VRRP instances this director is MASTER for.
    pub ownership: &'a Ownership,
    /// The network.
    pub network: &'a Network,
    /// The data plane's counters.
    pub counters: &'a Counters,
    /// Interfaces that the program is on.
    pub attached: &'a BTreeMap<String, AttachedMode>,
    /// What is said of them, where that is not as it was asked for.
    pub remarks: &'a BTreeMap<String, String>,
    /// Interfaces that it could not be put on, and why.
    pub refused: &'a BTreeMap<String, String>,
}

/// What the reconciler listens to.
pub struct Sources {
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Verdicts on the real servers.
    pub health: watch::Receiver<Health>,
    /// Who is told what becomes of them.
    pub listeners: Listeners,
    /// Links and the way to each real server.
    pub network: watch::Receiver<Network>,
    /// Who owns which VIPs, and announces them.
    pub claims: watch::Receiver<Claims>,
    /// Other directors that were heard.
    pub peers: watch::Receiver<Peers>,
    /// Questions.
    pub inspections: mpsc::Receiver<Inspection>,
    /// Orders.
    pub orders: mpsc::Receiver<OrderRequest>,
    /// Overrides that another director was told, in place of all that was said here.
    pub adopted: watch::Receiver<Overrides>,
    /// Servers in the tables that the configuration does not name are told here: their MACs must go on
    /// being known.
    pub leaving: watch::Sender<BTreeSet<IpAddr>>,
}

/// Is told of overrides, and when they were changed, milliseconds since 1970.
pub(super) type Overridden = dyn Fn(u64, &Overrides) + Send + Sync;

/// Who is told what the reconciler makes of verdicts. None of them may wait.
pub struct Listeners {
    /// The clock of the moments in the verdicts.
    pub health_clock: Clock,
    /// Is told how long after a verdict the tables obeyed it.
    pub obeyed: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Is told of overrides that operators changed, and when.
    pub overridden: Arc<Overridden>,
    /// Is told of services that gained or lost their quorum.
    pub quorum: Arc<pools::Quorum>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}
