//! What the routers want of the rest of the agent: VIPs and gates, announcements, notifications.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Burst, Claims, Notification, Subject};
use crate::vrrp::group::RouterId;
use crate::vrrp::router::Notice;
use crate::vrrp::{Priority, router};

/// Collects it, and publishes what changed once a turn.
#[derive(Debug)]
pub(super) struct Outlet {
    claims: watch::Sender<Claims>,
    notifications: mpsc::UnboundedSender<Notification>,
    /// Routers that own their addresses.
    owners: BTreeSet<RouterId>,
    /// Instances that a predecessor was master for, until the machine has judged that.
    inherited: BTreeSet<String>,
    bursts: BTreeMap<String, Burst>,
    announced: u64,
}

impl Outlet {
    /// Starts from what is claimed already.
    pub(super) fn new(
        claims: watch::Sender<Claims>,
        notifications: mpsc::UnboundedSender<Notification>,
    ) -> Self {
        let claimed = claims.borrow().ownership.clone();
        let inherited = claimed.into_iter().filter(|(_, owned)| *owned);
        Self {
            inherited: inherited.map(|(name, _)| name).collect(),
            claims,
            notifications,
            owners: BTreeSet::new(),
            bursts: BTreeMap::new(),
            announced: 0,
        }
    }

    /// A router has its addresses and its gate, or gave them up.
    pub(super) fn own(&mut self, id: RouterId, is_owner: bool) {
        if is_owner {
            self.owners.insert(id);
        } else {
            self.owners.remove(&id);
        }
    }

    /// The machine has been told of predecessors, and its word counts from now on.
    pub(super) fn forget_inherited(&mut self) {
        self.inherited.clear();
    }

    /// The addresses of an instance are to be announced.
    pub(super) fn announce(&mut self, name: &str, repeat: u8, gap: Duration) {
        self.announced += 1;
        let burst = Burst {
            number: self.announced,
            repeat,
            gap,
        };
        self.bursts.insert(name.to_owned(), burst);
    }

    /// Scripts, FIFOs and mail are to be told.
    pub(super) fn notify(&self, subject: Subject, notice: Notice, priority: Priority) {
        // Nobody may be there to tell.
        drop(self.notifications.send(Notification {
            subject,
            notice,
            priority,
        }));
    }

    /// Tells the reconciler what changed. `instances` are all names of the configuration, `routers`
    /// those that run.
    pub(super) fn publish(
        &mut self,
        instances: impl Iterator<Item = String>,
        routers: &BTreeMap<RouterId, router::Snapshot>,
    ) {
        self.owners.retain(|id| routers.contains_key(id));
        let owners = self.owners.iter().filter_map(|id| routers.get(id));
        let owned: BTreeSet<&str> = owners.map(|router| router.name.as_str()).collect();
        let ownership = instances.map(|name| {
            let is_owned = owned.contains(name.as_str()) || self.inherited.contains(&name);
            (name, is_owned)
        });
        let ownership = ownership.collect();
        self.bursts.retain(|name, _| owned.contains(name.as_str()));
        let bursts = self.bursts.clone();
        let claims = Claims { ownership, bursts };
        self.claims.send_if_modified(|published| {
            let changed = *published != claims;
            *published = claims;
            changed
        });
    }
}
