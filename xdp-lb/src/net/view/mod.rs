//! What is known of the network, and what to ask the kernel next. Pure: no socket, no clock.
//!
//! In: what the kernel said of links, addresses, neighbours and routes, and which targets matter.
//! Out: [`View::network`] at any time, and [`Action`]s when they are due.
//!
//! The rules:
//! - A target is local only if the route to it is local *and* it is an address of this host: a local
//!   route alone (`ip route add local 10.0.0.0/8 dev lo`) accepts packets but is no server.
//! - Frames for any other target go to the MAC of its next hop. A MAC, once known, is used until the
//!   kernel gives up on it (FAILED after its queries went unanswered); STALE, DELAY, PROBE, and an
//!   entry that was flushed and is being resolved anew keep the last one. So clients never notice a
//!   re-resolution.
//! - The kernel forgets nothing that is asked for: a next hop that has no answer is asked again each
//!   [`RETRY`], and a STALE one is checked again every [`RECHECK`], so that a server whose MAC changed
//!   silently is noticed. A query is the kernel's own ARP or neighbour discovery, rate-limited by it.
//! - Permanent and NOARP entries are never touched: on kernels since 5.16 asking would turn a
//!   permanent entry into an ordinary one.
//! - Routes are looked up again after any change of routes, rules, addresses or links (a link that
//!   goes down takes its routes along without notifications), at most once per [`LOOK_UP_GAP`], and
//!   every [`LOOK_UP_PERIOD`] in any case.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::plan::desired::Reach;
use crate::plan::table::{Link, Network};

mod input;

pub use input::{Action, Hop, Input, Interface, Neighbour, Resolution, Route, Snapshot};

/// Time between two queries for a next hop that does not answer.
pub const RETRY: Duration = Duration::from_secs(1);
/// Time between two checks of a next hop whose entry has become STALE.
pub const RECHECK: Duration = Duration::from_secs(30);
/// Least time between two rounds of route look-ups.
pub const LOOK_UP_GAP: Duration = Duration::from_millis(50);
/// Time after which routes are looked up although nothing seems to have changed.
pub const LOOK_UP_PERIOD: Duration = Duration::from_secs(30);

/// Why a target cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// The first look-up is under way.
    #[error("its route is being looked up")]
    LookingUp,
    /// There is no route.
    #[error("there is no route to it")]
    NoRoute,
    /// A local route covers it, but it is none of this host's addresses.
    #[error("a local route covers it, but it is no address of this host")]
    NotOurAddress,
    /// The interface that leads there is down or without carrier.
    #[error("{interface}, which leads to it, is down")]
    LinkDown {
        /// The interface's name.
        interface: String,
    },
    /// The interface that leads there has no MAC addresses.
    #[error("{interface}, which leads to it, is no Ethernet interface")]
    NotEthernet {
        /// The interface's name.
        interface: String,
    },
    /// Its MAC, or that of the gateway, has been asked for.
    #[error("the MAC of {hop} on {interface} is being resolved")]
    Resolving {
        /// The interface's name.
        interface: String,
        /// The server or the gateway.
        hop: IpAddr,
    },
    /// Nobody answered.
    #[error("{hop} does not answer on {interface}; asked again every second")]
    NoAnswer {
        /// The interface's name.
        interface: String,
        /// The server or the gateway.
        hop: IpAddr,
    },
}

impl Unreached {
    /// Whether this passes by itself within moments of a start or a change.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::LookingUp | Self::Resolving { .. })
    }
}

/// The network as it is known.
#[derive(Clone, Debug, Default)]
pub struct View {
    links: BTreeMap<u32, Interface>,
    /// In the order of the kernel's dump, newcomers last.
    addresses: Vec<(u32, IpNet)>,
    /// The kernel's whole table, and next hops in use that are not in it.
    neighbours: BTreeMap<Hop, Neighbour>,
    /// `None` until the first look-up is answered.
    targets: BTreeMap<IpAddr, Option<Route>>,
    /// When each next hop in use was last asked for.
    asked: BTreeMap<Hop, Duration>,
    /// When the next round of look-ups is due; `None` before there is anything to look up.
    look_up_due: Option<Duration>,
    looked_up: Option<Duration>,
    strayed: u64,
}

impl View {
    /// Takes what was said at `now`, a time since a start of the caller's choice.
    ///
    /// [`View::expire`] must be called some time after, and says what to do about it.
    pub fn handle(&mut self, now: Duration, input: Input) {
        match input {
            Input::Targets(targets) => self.aim(now, &targets),
            Input::Snapshot(snapshot) => self.replace(now, snapshot),
            Input::Link(link) => {
                let before = self.links.insert(link.ifindex, link.clone());
                if before.as_ref() != Some(&link) {
                    self.look_up_soon(now);
                }
            }
            Input::LinkGone(ifindex) => {
                self.links.remove(&ifindex);
                self.addresses.retain(|&(on, _)| on != ifindex);
                self.neighbours.retain(|hop, _| hop.ifindex != ifindex);
                self.look_up_soon(now);
            }
            Input::Address(ifindex, address) => {
                if !self.addresses.contains(&(ifindex, address)) {
                    self.addresses.push((ifindex, address));
                }
                self.look_up_soon(now);
            }
            Input::AddressGone(ifindex, address) => {
                self.addresses.retain(|known| *known != (ifindex, address));
                self.look_up_soon(now);
            }
            Input::Neighbour(hop, neighbour) => self.learn(hop, neighbour),
            Input::NeighbourGone(hop) => self.forget(hop),
            Input::RoutesChanged => self.look_up_soon(now),
            Input::Strayed => {
                self.strayed += 1;
                self.look_up_soon(now);
            }
            Input::Route(target, route) => {
                if let Some(known) = self.targets.get_mut(&target) {
                    *known = Some(route);
                }
            }
        }
    }

    /// Adds what is due at `now` to `actions`. Afterwards [`View::deadline`] lies later than `now`.
    pub fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.look_up_due.is_some_and(|due| due <= now) {
            actions.extend(self.targets.keys().copied().map(Action::LookUpRoute));
            self.looked_up = Some(now);
            self.look_up_due = Some(now + LOOK_UP_PERIOD);
            self.tidy();
        }
        let hops = self.hops();
        self.asked.retain(|hop, _| hops.contains(hop));
        for hop in hops {
            if self.query_due(hop).is_some_and(|due| due <= now) {
                self.asked.insert(hop, now);
                actions.push(Action::Resolve(hop));
            }
        }
    }

    /// When [`View::expire`] has something to do next.
    pub fn deadline(&self) -> Option<Duration> {
        let queries = self
            .hops()
            .into_iter()
            .filter_map(|hop| self.query_due(hop));
        queries.chain(self.look_up_due).min()
    }

    /// The network, as [`crate::plan`] needs it.
    pub fn network(&self) -> Network {
        let links = self.links.values().map(|link| {
            let Interface {
                ifindex,
                mac,
                mtu,
                up,
                sort,
                ..
            } = *link;
            let link_now = Link {
                ifindex,
                mac,
                mtu,
                up,
                sort,
            };
            (link.name.clone(), link_now)
        });
        let reach = self.targets.keys().filter_map(|&target| {
            let reach = self.reach(target).ok()?;
            Some((target, reach))
        });
        Network {
            links: links.collect(),
            reach: reach.collect(),
            addresses: self.addresses_by_link(),
            strayed: self.strayed,
        }
    }

    fn addresses_by_link(&self) -> BTreeMap<u32, Vec<IpNet>> {
        let mut addresses: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
        for (ifindex, address) in &self.addresses {
            addresses.entry(*ifindex).or_default().push(*address);
        }
        addresses
    }

    /// The targets.
    pub fn targets(&self) -> impl Iterator<Item = IpAddr> {
        self.targets.keys().copied()
    }

    /// How `target` is reached, or why it is not.
    pub fn reach(&self, target: IpAddr) -> Result<Reach, Unreached> {
        match self.targets.get(&target).copied().flatten() {
            None => Err(Unreached::LookingUp),
            Some(Route::None) => Err(Unreached::NoRoute),
            Some(Route::Local) if self.is_ours(target) => Ok(Reach::Local),
            Some(Route::Local) => Err(Unreached::NotOurAddress),
            Some(Route::Via(hop)) => self.reach_hop(hop, hop.address == target),
        }
    }

    fn reach_hop(&self, hop: Hop, on_link: bool) -> Result<Reach, Unreached> {
        // The route may be known a moment before the link is.
        let link = self.links.get(&hop.ifindex).ok_or(Unreached::LookingUp)?;
        let interface = link.name.clone();
        if !link.up {
            return Err(Unreached::LinkDown { interface });
        }
        if link.mac.is_zero() {
            return Err(Unreached::NotEthernet { interface });
        }
        let neighbour = self.neighbours.get(&hop);
        match neighbour.and_then(|known| known.mac) {
            Some(mac) => Ok(Reach::Direct {
                ifindex: hop.ifindex,
                source_mac: link.mac,
                mac,
                on_link,
            }),
            None => Err(match neighbour.map(|known| known.resolution) {
                Some(Resolution::Failed) => Unreached::NoAnswer {
                    interface,
                    hop: hop.address,
                },
                Some(Resolution::Fixed) => Unreached::NotEthernet { interface },
                _ => Unreached::Resolving {
                    interface,
                    hop: hop.address,
                },
            }),
        }
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        // 127.0.0.0/8 is local as a whole, and only 127.0.0.1 is listed.
        address.is_loopback()
            || self
                .addresses
                .iter()
                .any(|(_, ours)| ours.addr() == address)
    }

    fn aim(&mut self, now: Duration, targets: &BTreeSet<IpAddr>) {
        self.targets.retain(|target, _| targets.contains(target));
        for &target in targets {
            self.targets.entry(target).or_insert_with(|| {
                self.look_up_due = Some(now);
                None
            });
        }
    }

    fn replace(&mut self, now: Duration, snapshot: Snapshot) {
        let in_use = self.hops();
        let before = std::mem::take(&mut self.neighbours);
        self.links = snapshot
            .links
            .into_iter()
            .map(|link| (link.ifindex, link))
            .collect();
        self.addresses = snapshot.addresses;
        self.neighbours = before
            .into_iter()
            .filter(|(hop, _)| in_use.contains(hop))
            .collect();
        let present: BTreeSet<Hop> = snapshot.neighbours.iter().map(|&(hop, _)| hop).collect();
        for hop in in_use.difference(&present) {
            self.forget(*hop);
        }
        for (hop, neighbour) in snapshot.neighbours {
            self.learn(hop, neighbour);
        }
        self.look_up_soon(now);
    }

    fn learn(&mut self, hop: Hop, mut neighbour: Neighbour) {
        let last = self.neighbours.get(&hop);
        match (neighbour.resolution, last.map(|last| last.resolution)) {
            // FAILED without a query before it: somebody flushed or deleted the entry, and the kernel
            // says so with these two steps. No verdict on the MAC.
            (Resolution::Failed, Some(Resolution::Known | Resolution::Stale)) => {
                neighbour.resolution = Resolution::Pending;
                neighbour.mac = last.and_then(|last| last.mac);
            }
            (Resolution::Failed, _) => neighbour.mac = None,
            // Being resolved anew: the last MAC serves until there is a verdict.
            (Resolution::Pending, _) => neighbour.mac = last.and_then(|last| last.mac),
            _ => {}
        }
        self.neighbours.insert(hop, neighbour);
    }

    fn forget(&mut self, hop: Hop) {
        let in_use = self
            .targets
            .values()
            .any(|route| *route == Some(Route::Via(hop)));
        if !in_use {
            self.neighbours.remove(&hop);
        } else if let Some(neighbour) = self.neighbours.get_mut(&hop) {
            // The kernel's garbage collection, or a flush: no verdict on the MAC.
            neighbour.resolution = Resolution::Pending;
        }
    }

    /// Drops entries that only stood for next hops which are no longer in use.
    fn tidy(&mut self) {
        let hops = self.hops();
        self.neighbours.retain(|hop, neighbour| {
            neighbour.resolution != Resolution::Pending || hops.contains(hop)
        });
    }

    fn look_up_soon(&mut self, now: Duration) {
        let earliest = self
            .looked_up
            .map_or(now, |last| now.max(last + LOOK_UP_GAP));
        self.look_up_due = Some(self.look_up_due.map_or(earliest, |due| due.min(earliest)));
    }

    /// Next hops of the targets.
    fn hops(&self) -> BTreeSet<Hop> {
        let routes = self.targets.values().flatten();
        routes
            .filter_map(|route| match *route {
                Route::Via(hop) => Some(hop),
                Route::Local | Route::None => None,
            })
            .collect()
    }

    /// When a next hop is to be asked for.
    fn query_due(&self, hop: Hop) -> Option<Duration> {
        if !self.links.get(&hop.ifindex).is_some_and(|link| link.up) {
            return None;
        }
        let wait = match self.neighbours.get(&hop).map(|known| known.resolution) {
            None | Some(Resolution::Pending | Resolution::Failed) => RETRY,
            Some(Resolution::Stale) => RECHECK,
            Some(Resolution::Known | Resolution::Probing | Resolution::Fixed) => return None,
        };
        Some(
            self.asked
                .get(&hop)
                .map_or(Duration::ZERO, |&asked| asked + wait),
        )
    }
}

#[cfg(test)]
mod tests;
