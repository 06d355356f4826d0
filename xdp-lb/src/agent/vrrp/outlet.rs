//! What the routers want of the rest of the agent: VIPs and gates, announcements, notifications.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::{Burst, Claims};
use crate::agent::notify::Notification;
use crate::plan::carriers::Peers;
use crate::plan::table::Ownership;
use crate::vrrp::group::RouterId;
use crate::vrrp::router;

/// Collects it, and publishes what changed once a turn.
#[derive(Debug)]
pub(super) struct Outlet {
    claims: watch::Sender<Claims>,
    peers: watch::Sender<Peers>,
    notifications: mpsc::UnboundedSender<Notification>,
    /// Routers that own their addresses.
    owners: BTreeSet<RouterId>,
    /// Instances that a predecessor was master for, until the machine has judged that.
    inherited: BTreeSet<String>,
    bursts: BTreeMap<String, Burst>,
    announced: u64,
    is_stopping: bool,
}

impl Outlet {
    /// Starts from what is claimed already.
    pub(super) fn new(
        claims: watch::Sender<Claims>,
        peers: watch::Sender<Peers>,
        notifications: mpsc::UnboundedSender<Notification>,
    ) -> Self {
        let claimed = claims.borrow().ownership.clone();
        let inherited = claimed.into_iter().filter(|(_, owned)| *owned);
        Self {
            inherited: inherited.map(|(name, _)| name).collect(),
            claims,
            peers,
            notifications,
            owners: BTreeSet::new(),
            bursts: BTreeMap::new(),
            announced: 0,
            is_stopping: false,
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

    /// The routers were told to stop.
    pub(super) const fn stop(&mut self) {
        self.is_stopping = true;
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

    /// Other masters of an instance were heard, these last.
    pub(super) fn hear(&self, name: &str, masters: BTreeSet<IpAddr>) {
        self.peers.send_if_modified(|peers| {
            let known = peers.get(name);
            let is_news = known.map_or(!masters.is_empty(), |known| *known != masters);
            if is_news {
                peers.insert(name.to_owned(), masters);
            }
            is_news
        });
    }

    /// Scripts, FIFOs and mail are to be told.
    pub(super) fn notify(&self, notification: Notification) {
        // Nobody may be there to tell.
        drop(self.notifications.send(notification));
    }

    /// Tells the reconciler what changed. `instances` are all names of the configuration, `routers`
    /// those that run, and those that leave.
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
        let mut ownership: Ownership = ownership.collect();
        // One that is configured no more has its addresses until it has handed them over.
        ownership.extend(owned.iter().map(|name| ((*name).to_owned(), true)));
        self.bursts.retain(|name, _| owned.contains(name.as_str()));
        let bursts = self.bursts.clone();
        let claims = Claims {
            ownership,
            bursts,
            is_stopping: self.is_stopping,
        };
        self.peers.send_if_modified(|peers| {
            let known = peers.len();
            peers.retain(|name, _| claims.ownership.contains_key(name));
            peers.len() != known
        });
        self.claims.send_if_modified(|published| {
            let changed = *published != claims;
            *published = claims;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Machine as _, Now};
    use crate::plan::testing::{network, websocket};
    use crate::sys::command::notify::Subject;
    use crate::vrrp::group::{Input, Routers};
    use crate::vrrp::router::Notice;

    /// An outlet whose predecessor owned these, a router `VI_1`, and what the reconciler sees.
    struct Bench {
        outlet: Outlet,
        routers: BTreeMap<RouterId, router::Snapshot>,
        id: RouterId,
        seen: watch::Receiver<Claims>,
        peers: watch::Receiver<Peers>,
        told: mpsc::UnboundedReceiver<Notification>,
    }

    fn bench(inherited: &[&str]) -> Bench {
        let owned = inherited.iter().map(|name| ((*name).to_owned(), true));
        let (claims, seen) = watch::channel(Claims {
            ownership: owned.collect(),
            bursts: BTreeMap::new(),
            is_stopping: false,
        });
        let (publish, peers) = watch::channel(Peers::new());
        let (notifications, told) = mpsc::unbounded_channel();
        let mut machine = Routers::new();
        let all = super::super::settings::instances(&websocket(), &network());
        let routers = all.into_iter().map(|each| each.settings).collect();
        let configure = Input::Configure {
            routers,
            groups: vec![],
            predecessors: BTreeMap::new(),
        };
        machine.handle(Now::ZERO, configure, &mut Vec::new());
        let routers: BTreeMap<_, _> = machine.snapshots().into_iter().collect();
        Bench {
            outlet: Outlet::new(claims, publish, notifications),
            id: *routers.keys().next().unwrap(),
            routers,
            seen,
            peers,
            told,
        }
    }

    impl Bench {
        fn publish(&mut self) -> Claims {
            let names = ["VI_1", "VI_2"].map(str::to_owned).into_iter();
            self.outlet.publish(names, &self.routers);
            self.seen.borrow_and_update().clone()
        }
    }

    #[test]
    fn what_is_owned_is_what_the_routers_say() {
        let mut bench = bench(&[]);
        let owned = |claims: &Claims| (claims.ownership["VI_1"], claims.ownership["VI_2"]);
        assert_eq!(owned(&bench.publish()), (false, false));
        bench.outlet.own(bench.id, true);
        bench.outlet.announce("VI_1", 5, Duration::ZERO);
        let claims = bench.publish();
        assert_eq!(owned(&claims), (true, false));
        assert_eq!(claims.bursts["VI_1"].repeat, 5);
        bench.outlet.own(bench.id, false);
        let claims = bench.publish();
        assert_eq!(owned(&claims), (false, false));
        assert!(
            claims.bursts.is_empty(),
            "nothing of it is announced any more"
        );
    }

    #[test]
    fn one_that_is_configured_no_more_owns_until_it_has_stopped() {
        let mut bench = bench(&[]);
        bench.outlet.own(bench.id, true);
        let publish = |bench: &mut Bench| {
            let names = ["VI_2".to_owned()].into_iter();
            bench.outlet.publish(names, &bench.routers);
            bench.seen.borrow_and_update().ownership.clone()
        };
        let owned = |owned: &[(&str, bool)]| -> Ownership {
            let owned = owned.iter();
            owned.map(|(name, is)| ((*name).to_owned(), *is)).collect()
        };
        assert_eq!(
            publish(&mut bench),
            owned(&[("VI_1", true), ("VI_2", false)])
        );
        bench.outlet.own(bench.id, false);
        assert_eq!(publish(&mut bench), owned(&[("VI_2", false)]));
    }

    #[test]
    fn a_router_that_is_gone_owns_nothing() {
        let mut bench = bench(&[]);
        bench.outlet.own(bench.id, true);
        bench.routers.clear();
        assert!(!bench.publish().ownership["VI_1"]);
    }

    #[test]
    fn what_a_predecessor_owned_is_owned_until_the_routers_have_judged() {
        let mut bench = bench(&["VI_1"]);
        assert!(bench.publish().ownership["VI_1"]);
        bench.outlet.forget_inherited();
        assert!(!bench.publish().ownership["VI_1"]);
    }

    #[test]
    fn each_announcement_has_a_number_of_its_own() {
        let mut bench = bench(&[]);
        bench.outlet.own(bench.id, true);
        bench.outlet.announce("VI_1", 5, Duration::ZERO);
        let first = bench.publish().bursts["VI_1"];
        bench.outlet.announce("VI_1", 5, Duration::ZERO);
        let second = bench.publish().bursts["VI_1"];
        assert!(first.number < second.number);
    }

    #[test]
    fn other_masters_are_told_of_once_and_as_long_as_the_instance_is_there() {
        let mut bench = bench(&[]);
        let masters = |last: u8| BTreeSet::from([IpAddr::from([192, 168, 1, last])]);
        bench.outlet.hear("VI_1", BTreeSet::new());
        assert!(!bench.peers.has_changed().unwrap(), "nobody");
        for (last, is_news) in [(11, true), (11, false), (12, true)] {
            bench.outlet.hear("VI_1", masters(last));
            assert_eq!(bench.peers.has_changed().unwrap(), is_news, "{last}");
            assert_eq!(bench.peers.borrow_and_update()["VI_1"], masters(last));
        }
        bench.publish();
        assert!(!bench.peers.has_changed().unwrap());
        let others = ["VI_2".to_owned()].into_iter();
        bench.outlet.publish(others, &bench.routers);
        assert!(bench.peers.borrow_and_update().is_empty());
    }

    #[test]
    fn notifications_are_passed_on_in_order() {
        let mut bench = bench(&[]);
        for notice in [Notice::Backup, Notice::Master] {
            bench.outlet.notify(Notification {
                subject: Subject::Group,
                name: "G".to_owned(),
                notice,
                priority: 0,
            });
        }
        assert_eq!(bench.told.try_recv().unwrap().notice, Notice::Backup);
        assert_eq!(bench.told.try_recv().unwrap().notice, Notice::Master);
    }
}
