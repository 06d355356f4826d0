//! The pool of each virtual service: which servers are in it, and with what weights.
//!
//! In: configuration, verdicts, overrides and time. Out: [`Memberships`], which the tables follow, and
//! [`PoolEvent`]s for people and scripts. Of the past the machine keeps what the answer depends on and
//! nothing else: on which side of its margin each [`quorum`] was, when servers came back ([`slow_start`]),
//! and who is leaving.

pub mod asked;
pub mod memory;
pub mod order;

mod quorum;
mod slow_start;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::installed::ServerKey;
use super::table::{Health, ServerHealth, verdict};
use crate::config::model::{Config, RealServer, ServiceKey, SorryServer, VirtualServer};
use crate::machine::Now;
use quorum::{Quorum, Turn};
use slow_start::{Return, STEPS, growth};

/// What operators said at runtime of the weight of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Override {
    /// A weight instead of the file's and of what checks make of it.
    pub weight: Option<u32>,
    /// It takes no new connections: weight 0, whatever else is said.
    pub is_drained: bool,
}

/// All that operators said at runtime.
pub type Overrides = BTreeMap<ServerKey, Override>;

/// The pools of all services.
pub type Memberships = BTreeMap<ServiceKey, Membership>;

/// The pool of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// In IPVS's list order: the last added first.
    pub members: Vec<Member>,
    /// The quorum is met.
    pub has_quorum: bool,
    /// The sorry server serves, in place of all others.
    pub is_sorry: bool,
    /// The weight that is up.
    pub live_weight: u64,
    /// Since when each member is as it is: up or down, with a weight or without, and for what reason in
    /// the pool.
    pub since: BTreeMap<SocketAddr, Now>,
}

/// A server in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Address and port.
    pub address: SocketAddr,
    /// Why it is in it.
    pub role: Role,
    /// Weight to schedule by. While a server of the pool grows, all are scaled.
    pub weight: u32,
    /// Weight in force, before growth, and before the sorry server took its place.
    pub full_weight: u32,
    /// The tenths of its full weight that it has grown to, 1 to 10.
    pub tenths: u32,
    /// Its flows are valid. A server that fails is not serving, unless it is to be inhibited.
    pub serving: bool,
    /// Its checks pass.
    pub up: bool,
    /// Sticky clients go elsewhere with their next connection: its templates are void, its flows not.
    pub releases_clients: bool,
}

/// Why a server is in a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is a real server of the file.
    Real,
    /// It is the sorry server.
    Sorry,
    /// It left the file, or was the sorry server, and keeps its connections until they end.
    Leaving,
}

/// What happened to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolEvent {
    /// Whose pool.
    pub service: ServiceKey,
    /// What.
    pub what: Occurrence,
}

/// What can happen to a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occurrence {
    /// Enough weight is up.
    QuorumGained {
        /// The weight that is up.
        live: u64,
        /// Nothing was known of the pool before: the agent started, or the service is new.
        is_first: bool,
    },
    /// Too little weight is up.
    QuorumLost {
        /// The weight that is up.
        live: u64,
        /// As above.
        is_first: bool,
    },
    /// Nothing was known of the pool before, and too little weight is up. Nobody takes the place of those
    /// who are, so nothing changes.
    QuorumAwaited {
        /// The weight that is up.
        live: u64,
    },
    /// The sorry server took the place of all others.
    SorryServes(SocketAddr),
    /// The sorry server gave it back.
    SorryLeft(SocketAddr),
    /// A server is not wanted any more and keeps its connections until they end.
    Leaves(SocketAddr),
    /// A server that was leaving is wanted again.
    Returns(SocketAddr),
    /// A server that was leaving is gone: its connections ended, or its time did.
    Gone(SocketAddr),
}

/// The machine behind all pools.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    known: BTreeMap<ServiceKey, Pool>,
    memberships: Memberships,
    deadline: Option<Now>,
    /// What [`Pools::memory`] says may have changed.
    has_news: bool,
}

/// What is remembered of a pool.
#[derive(Clone, Debug, Default)]
struct Pool {
    quorum: Quorum,
    /// Servers that were down; when they came back.
    returns: BTreeMap<SocketAddr, Option<Return>>,
    /// Until when those that left keep their connections.
    leaving: BTreeMap<SocketAddr, Now>,
    /// Those who may not leave without ado, as they have connections to keep.
    held: Vec<SocketAddr>,
    was_sorry: bool,
    /// What each member was, and since when.
    standing: BTreeMap<SocketAddr, (Standing, Now)>,
    /// A quorum turned, or somebody went or came back.
    has_news: bool,
}

/// What a member is to those who watch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standing {
    role: Role,
    up: bool,
    takes_new: bool,
}

impl Pools {
    /// Pools after a predecessor whose tables hold these servers: those that the configuration does not
    /// know leave.
    pub fn inheriting(servers: &BTreeMap<ServerKey, bool>) -> Self {
        let mut pools = Self::default();
        let serving = servers.iter().filter(|(_, serving)| **serving);
        for ((service, address), _) in serving {
            let pool = pools.known.entry(*service).or_default();
            pool.held.push(*address);
        }
        pools
    }

    /// Works the pools out anew.
    pub fn update(
        &mut self,
        now: Now,
        config: &Config,
        health: &Health,
        overrides: &Overrides,
    ) -> Vec<PoolEvent> {
        let keys: BTreeSet<ServiceKey> = config.services().map(|(key, _)| key).collect();
        self.known.retain(|key, _| keys.contains(key));
        self.memberships.retain(|key, _| keys.contains(key));
        self.update_services(now, config, health, overrides, &keys)
    }

    /// Works out the pools of these services anew, where only verdicts on their servers have changed.
    /// Others change when it is time for them.
    pub fn update_services(
        &mut self,
        now: Now,
        config: &Config,
        health: &Health,
        overrides: &Overrides,
        keys: &BTreeSet<ServiceKey>,
    ) -> Vec<PoolEvent> {
        let mut events = Vec::new();
        self.deadline = None;
        for (key, service) in config.services() {
            let pool = self.known.entry(key).or_default();
            if keys.contains(&key) {
                let situation = Situation {
                    now,
                    key,
                    service,
                    health,
                    overrides,
                    drain_timeout: config.xdp_lb.drain_timeout,
                };
                let membership = pool.update(&situation, &mut events);
                self.memberships.insert(key, membership);
                self.has_news |= std::mem::take(&mut pool.has_news) && memory::is_told_of(service);
            }
            let due = pool.deadline(service, now);
            self.deadline = [self.deadline, due].into_iter().flatten().min();
        }
        events
    }

    /// When they change by themselves.
    pub fn deadline(&self) -> Option<Now> {
        self.deadline
    }

    /// The pools, as of the last [`Pools::update`].
    pub fn memberships(&self) -> &Memberships {
        &self.memberships
    }

    /// Servers that keep their connections until they end.
    pub fn leaving(&self) -> impl Iterator<Item = ServerKey> {
        let pools = self.known.iter();
        pools.flat_map(|(key, pool)| pool.leaving.keys().map(|address| (*key, *address)))
    }

    /// The connections of a server that leaves have ended: with the next [`Pools::update`] it is gone.
    pub fn let_go(&mut self, now: Now, (service, address): ServerKey) {
        let pool = self.known.get_mut(&service);
        if let Some(until) = pool.and_then(|pool| pool.leaving.get_mut(&address)) {
            *until = now;
        }
    }
}

/// What a pool is worked out from.
struct Situation<'a> {
    now: Now,
    key: ServiceKey,
    service: &'a VirtualServer,
    health: &'a Health,
    overrides: &'a Overrides,
    drain_timeout: Duration,
}

impl Pool {
    fn update(&mut self, situation: &Situation<'_>, events: &mut Vec<PoolEvent>) -> Membership {
        let service = situation.key;
        let mut tell = |what| events.push(PoolEvent { service, what });
        let mut members = self.real_servers(situation);
        let up = members.iter().filter(|member| member.up);
        let live: u64 = up.map(|member| u64::from(member.full_weight)).sum();
        if let Some(turn) = self.quorum.judge(live, &situation.service.quorum) {
            let Turn {
                was_met, is_first, ..
            } = turn;
            self.has_news = true;
            let changes = was_met || !is_first || situation.service.sorry_server.is_some();
            tell(if turn.is_met {
                Occurrence::QuorumGained { live, is_first }
            } else if changes {
                Occurrence::QuorumLost { live, is_first }
            } else {
                Occurrence::QuorumAwaited { live }
            });
        }
        let has_quorum = self.quorum.is_met();
        let sorry = situation.service.sorry_server;
        let is_sorry = !has_quorum && sorry.is_some();
        if is_sorry {
            give_way(&mut members);
        }
        if let Some(sorry) = sorry {
            self.seat(sorry, situation.key, is_sorry, &mut members, &mut tell);
        }
        self.see_off(situation, &mut members, &mut tell);
        Membership {
            since: self.since(&members, situation.now),
            members,
            has_quorum,
            is_sorry,
            live_weight: live,
        }
    }

    /// The real servers of the file: whoever joined last comes first; of those who joined together (at
    /// the start) the last in the file, for IPVS puts each newcomer at the head.
    fn real_servers(&mut self, situation: &Situation<'_>) -> Vec<Member> {
        let service = situation.service;
        let is_named = |address: &SocketAddr| {
            let mut servers = service.real_servers.iter();
            servers.any(|server| server.address == *address)
        };
        self.returns.retain(|address, _| is_named(address));
        let mut members: Vec<(u64, Member)> = service
            .real_servers
            .iter()
            .rev()
            .map(|server| self.real_server(server, situation))
            .collect();
        members.sort_by_key(|(joined, _)| std::cmp::Reverse(*joined));
        let mut members: Vec<_> = members.into_iter().map(|(_, member)| member).collect();
        let in_force = |member: &Member| (member.weight, member.tenths);
        let weights = slow_start::weights(&members.iter().map(in_force).collect::<Vec<_>>());
        for (member, weight) in members.iter_mut().zip(weights) {
            member.weight = weight;
        }
        members
    }

    fn real_server(&mut self, server: &RealServer, situation: &Situation<'_>) -> (u64, Member) {
        let Situation { now, key, .. } = *situation;
        let address = server.address;
        let health = self.verdict(server, situation);
        let said = situation.overrides.get(&(key, address)).copied();
        let said = said.unwrap_or_default();
        let full_weight = match said {
            Override {
                is_drained: true, ..
            } => 0,
            Override {
                weight: Some(weight),
                ..
            } => weight,
            Override { weight: None, .. } => health.weight(server.weight),
        };
        let is_judged = situation.health.contains_key(&(key, address));
        let began = self.note(address, health.up || !is_judged, now);
        // What an operator says is in force at once.
        let time = server.slow_start.filter(|_| said.weight.is_none());
        let tenths = match (began, time) {
            (Some(began), Some(time)) => growth(began, time, now).tenths,
            _ => STEPS,
        };
        let weight = if health.up { full_weight } else { 0 };
        let member = Member {
            address,
            role: Role::Real,
            weight,
            full_weight,
            tenths,
            serving: health.up || server.inhibit_on_failure,
            up: health.up,
            releases_clients: !health.up || (weight == 0 && situation.service.expire_quiescent),
        };
        // One that is inhibited while it is down never left the list.
        let joined = if server.inhibit_on_failure {
            0
        } else {
            health.joined
        };
        (joined, member)
    }

    /// Checks and configuration change one after the other: a server in the pool that nobody judges is
    /// about to leave it or just came back, and is what it was.
    fn verdict(&self, server: &RealServer, situation: &Situation<'_>) -> ServerHealth {
        let mut health = verdict(situation.key, server, situation.health);
        let is_judged = situation
            .health
            .contains_key(&(situation.key, server.address));
        let was_up =
            self.held.contains(&server.address) || self.leaving.contains_key(&server.address);
        health.up |= !is_judged && was_up;
        health
    }

    /// Takes note of a verdict; when the server came back, if it did.
    fn note(&mut self, address: SocketAddr, up: bool, now: Now) -> Option<Return> {
        if !up {
            let was = self.returns.insert(address, None);
            self.has_news |= was.flatten().is_some();
            return None;
        }
        let came = self.returns.get_mut(&address)?;
        self.has_news |= came.is_none();
        Some(*came.get_or_insert(Return::at(now)))
    }

    /// Adds the sorry server, if it serves or stays in the pool for later. It is in the pool once,
    /// also if it is a real server, too.
    fn seat(
        &mut self,
        sorry: SorryServer,
        service: ServiceKey,
        serves: bool,
        members: &mut Vec<Member>,
        tell: &mut impl FnMut(Occurrence),
    ) {
        let mut address = sorry.address;
        if address.port() == 0 {
            address.set_port(service.port());
        }
        if serves != self.was_sorry {
            tell(if serves {
                Occurrence::SorryServes(address)
            } else {
                Occurrence::SorryLeft(address)
            });
        }
        self.was_sorry = serves;
        if serves {
            members.retain(|member| member.address != address);
        }
        let is_real = members.iter().any(|member| member.address == address);
        if serves || (sorry.inhibit && !is_real) {
            let weight = u32::from(serves);
            let member = Member {
                address,
                role: Role::Sorry,
                weight,
                full_weight: weight,
                tenths: STEPS,
                serving: true,
                up: true,
                releases_clients: !serves,
            };
            members.insert(0, member);
        }
    }

    /// Those who were in the pool and are not wanted any more keep their connections for a while.
    fn see_off(
        &mut self,
        situation: &Situation<'_>,
        members: &mut Vec<Member>,
        tell: &mut impl FnMut(Occurrence),
    ) {
        let now = situation.now;
        let is_member = |address: &SocketAddr| members.iter().any(|m| m.address == *address);
        for (address, _) in self.leaving.extract_if(.., |address, _| is_member(address)) {
            tell(Occurrence::Returns(address));
        }
        for address in self.held.drain(..).filter(|address| !is_member(address)) {
            let until = now.after(situation.drain_timeout);
            if until > now && self.leaving.insert(address, until).is_none() {
                tell(Occurrence::Leaves(address));
            }
        }
        for (address, _) in self.leaving.extract_if(.., |_, until| *until <= now) {
            tell(Occurrence::Gone(address));
        }
        let held = members.iter().filter(|m| m.serving && m.up);
        self.held.extend(held.map(|member| member.address));
        members.extend(self.leaving.keys().map(|address| leaving(*address)));
    }

    /// Takes note of what each member is, and since when.
    fn since(&mut self, members: &[Member], now: Now) -> BTreeMap<SocketAddr, Now> {
        let mut before = std::mem::take(&mut self.standing);
        for member in members {
            let standing = Standing {
                role: member.role,
                up: member.up,
                takes_new: member.weight > 0,
            };
            let known = before.remove(&member.address);
            let since = known.filter(|(was, _)| *was == standing);
            let since = since.map_or(now, |(_, since)| since);
            self.standing.insert(member.address, (standing, since));
        }
        let standing = self.standing.iter();
        standing
            .map(|(address, (_, since))| (*address, *since))
            .collect()
    }

    fn deadline(&self, service: &VirtualServer, now: Now) -> Option<Now> {
        let growing = service.real_servers.iter().filter_map(|server| {
            let began = (*self.returns.get(&server.address)?)?;
            growth(began, server.slow_start?, now).next
        });
        growing.chain(self.leaving.values().copied()).min()
    }
}

/// The sorry server takes the place of those who live: they keep their connections and nothing else.
fn give_way(members: &mut [Member]) {
    for member in members {
        member.weight = 0;
        member.releases_clients = true;
    }
}

fn leaving(address: SocketAddr) -> Member {
    Member {
        address,
        role: Role::Leaving,
        weight: 0,
        full_weight: 0,
        tenths: STEPS,
        serving: true,
        up: true,
        releases_clients: true,
    }
}

#[cfg(test)]
mod tests;
