//! The schedulers, each as `ipvs.md`-style observations of a real IPVS describe it: by walking a list
//! and remembering where it was, not by the tables that the XDP program counts through.
//!
//! - [`walk`]: `rr` and `wrr`.
//! - [`hash`]: `sh`, `dh` and `mh`.
//! - [`load`]: those that look at connections and weights.

pub(super) mod hash;
pub(super) mod load;
pub(super) mod walk;

use std::collections::BTreeSet;
use std::net::SocketAddr;

use xdp_lb_common::limits::FALLBACK_SLOTS;
use xdp_lb_common::select::{Candidate, maglev};

use crate::config::model::Scheduler;
use crate::dataplane::schedule::name;

use super::frame::Packet;
use hash::Buckets;
use walk::{RoundRobin, Weighted};

/// A server of the list of a service, as a scheduler sees it at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub address: SocketAddr,
    pub weight: u32,
    /// The last weight that was not 0.
    pub last_weight: u32,
    pub active: u64,
    pub inactive: u64,
    /// It is over its limits.
    pub rests: bool,
}

impl Seen {
    /// Whether it may be picked.
    pub(super) const fn takes(&self) -> bool {
        self.weight > 0 && !self.rests
    }
}

/// What a schedule is made of; when it changes, IPVS tells the scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub address: SocketAddr,
    pub weight: u32,
    pub limits: super::server::Limits,
}

/// A scheduler at work for one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Schedule {
    scheduler: Option<Scheduler>,
    /// The last added first.
    list: Vec<Listed>,
    round_robin: RoundRobin,
    weighted: Weighted,
    buckets: Buckets,
    /// For `lblc`: the server of the last time.
    last: Option<SocketAddr>,
    /// For `lblcr`: the servers used so far.
    used: BTreeSet<SocketAddr>,
    /// Consistent hashing over the servers that have weight: positions in the list.
    consistent: Vec<u32>,
}

/// Where chance comes in: which of several servers.
pub(super) type Chance<'a> = &'a mut dyn FnMut(&[SocketAddr]) -> Option<SocketAddr>;

impl Schedule {
    /// The servers in the list.
    pub(super) fn list(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.list.iter().map(|listed| listed.address)
    }

    /// Takes a new list over.
    pub(super) fn set(&mut self, scheduler: Scheduler, list: &[Listed], seen: &[Seen]) {
        if self.scheduler == Some(scheduler) && self.list == list {
            return;
        }
        if self.scheduler != Some(scheduler) {
            (self.round_robin, self.weighted) = Default::default();
            (self.last, self.used) = Default::default();
        }
        let known: Vec<_> = self.list().collect();
        self.round_robin.follow(&known, list);
        self.weighted.follow(&known, list);
        self.buckets = Buckets::of(scheduler, seen);
        let is_listed = |address: &SocketAddr| list.iter().any(|listed| listed.address == *address);
        self.last = self.last.filter(is_listed);
        self.used.retain(is_listed);
        self.consistent = consistent(list);
        (self.scheduler, self.list) = (Some(scheduler), list.to_vec());
    }

    /// The server of a new connection.
    pub(super) fn pick(
        &mut self,
        packet: &Packet,
        seen: &[Seen],
        chance: Chance<'_>,
    ) -> Option<SocketAddr> {
        match self.scheduler? {
            Scheduler::RoundRobin => self.round_robin.next(seen),
            Scheduler::WeightedRoundRobin => self.weighted.next(seen),
            Scheduler::SourceHash(_) | Scheduler::Maglev(_) | Scheduler::DestinationHash => {
                self.hashed(packet, seen)
            }
            Scheduler::LeastConnections => load::least(seen),
            Scheduler::WeightedLeastConnections => load::weighted_least(seen),
            Scheduler::ShortestDelay => load::shortest_delay(seen),
            Scheduler::NeverQueue => load::never_queue(seen),
            Scheduler::FailOver => load::heaviest(seen),
            Scheduler::Overflow => load::not_full(seen),
            Scheduler::LocalityBased => {
                // While nobody takes connections, the server of the last time stays that.
                let server = load::again(self.last, seen).or_else(|| load::weighted_least(seen))?;
                self.last = Some(server);
                Some(server)
            }
            Scheduler::LocalityBasedReplicated => {
                if let Some(server) = load::among(&self.used, seen) {
                    return Some(server);
                }
                let server = load::weighted_least(seen)?;
                self.used.insert(server);
                Some(server)
            }
            Scheduler::TwoChoices => {
                // Any of them: twice the same one is two picks, too.
                let open = seen.iter().filter(|server| server.takes());
                let open: Vec<_> = open.map(|server| server.address).collect();
                if open.is_empty() { None } else { chance(&open) }
            }
        }
    }

    /// Whether a client always comes to the same server.
    pub(super) const fn is_hashed(&self) -> bool {
        matches!(
            self.scheduler,
            Some(Scheduler::SourceHash(_) | Scheduler::Maglev(_) | Scheduler::DestinationHash)
        )
    }

    /// The choice of a scheduler that hashes.
    pub(super) fn hashed(&self, packet: &Packet, seen: &[Seen]) -> Option<SocketAddr> {
        let name = hash::name(self.scheduler?, packet);
        let open = |server: &SocketAddr| {
            seen.iter()
                .any(|known| known.address == *server && known.takes())
        };
        match self.buckets.pick(name, self.scheduler?, open) {
            hash::Pick::Server(server) => Some(server),
            hash::Pick::Nobody => None,
            hash::Pick::Consistent => self.consistent(name.into()),
        }
    }

    /// The server of a connection that nobody remembers.
    pub(super) fn consistent(&self, number: u64) -> Option<SocketAddr> {
        let entry = number.checked_rem(self.consistent.len() as u64)?;
        let position = self.consistent.get(usize::try_from(entry).ok()?)?;
        let listed = self.list.get(usize::try_from(*position).ok()?)?;
        Some(listed.address)
    }
}

/// The table of consistent hashing, which every director must lay out alike: positions in the list.
fn consistent(list: &[Listed]) -> Vec<u32> {
    let candidates = (0..).zip(list).map(|(position, listed)| Candidate {
        id: position,
        weight: listed.weight,
        name: name(listed.address),
    });
    maglev(&candidates.collect::<Vec<_>>(), FALLBACK_SLOTS)
}
