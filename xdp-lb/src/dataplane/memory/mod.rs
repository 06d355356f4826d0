//! The data plane in this process: tables that the same changes fill, and the decision about a frame,
//! written from the documentation as plainly as it can be.
//!
//! It is what the XDP program is held against: the suite `differential` sends both the same frames,
//! in the same states of the same tables. So nothing here is shared with the program but constants,
//! the layout of places (which entry gives way to which) and the hashes that every director must
//! compute alike. What the program does for speed (banks, slots, cursors, generations, state words)
//! has no counterpart here.
//!
//! In reading order: [`network`] takes tags off, [`frame`] says what a frame is, [`quote`] what an ICMP error
//! is about, [`fragment`] what a fragment is; [`tables`] what the changes make of the tables. [`decide`] asks
//! one question after the other; [`journey`] where a packet goes, with [`connection`], [`sticky`] and
//! [`schedule`]; [`table`] holds connections and templates, [`server`] counts. [`forward`] sends it there,
//! with [`send`] and [`checksum`], in a [`tunnel`], or by [`nat`] with [`translate`]; [`reply`] takes what comes
//! back. Entries have a [`name`]. [`answer`] tells its sender that it goes nowhere.
//! [`outside`] is what none of them knows.

mod answer;
mod checksum;
mod connection;
mod decide;
mod forward;
mod fragment;
mod frame;
mod journey;
mod name;
mod nat;
mod network;
mod outside;
mod quote;
mod reply;
mod schedule;
mod send;
mod server;
mod sticky;
mod table;
mod tables;
mod translate;
mod tunnel;
mod verdict;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use xdp_lb_common::addr::Mac;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::conn::state::Timeouts;
use xdp_lb_common::hash::{Coefficients, CoefficientsV6, HashKey};
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::tick::{Clock, LongTick};

use super::layout::Indexes;
use super::{Counters, Dataplane, Error, Fill, Inherited, ServerCounters};
use crate::config::model::{Protocol, ServiceKey};
use crate::plan::desired::Vlan;
use crate::plan::diff::Change;
use crate::plan::installed::ServerKey;

use connection::State;
use name::Name;
use outside::Dice;
use server::{Life, Server};
use table::{Rank, Ranked, Table};
use tables::Service;

pub use frame::Packet;
pub use outside::{Outside, Routed};
pub use verdict::{Traffic, Verdict};

/// What the model is made for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Connections the table is made for; rounded up to a power of two.
    pub connections: u32,
    /// Templates the table is made for; rounded up to a power of two.
    pub templates: u32,
    /// How the kernel counts time.
    pub clock: Clock,
    /// Life of idle connections.
    pub timeouts: Timeouts,
    /// The cluster's key.
    pub key: HashKey,
    /// What clients of a service without an eligible server are told: one of
    /// [`xdp_lb_common::answer::empty_pool`].
    pub empty_pool: u32,
}

/// A template: index of the service, client masked by the granularity.
type Client = (u32, IpAddr);

/// What answers of a real server are made of whose addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    service: ServiceKey,
    client: SocketAddr,
    vip: SocketAddr,
    protocol: Protocol,
    /// Where the client's packets come from: the interface, and the MAC there.
    way_back: (u32, Mac),
    /// When its timers were last restarted.
    touched: LongTick,
}

/// What is known of a connection, or of another entry beside one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connection {
    server: ServerKey,
    life: Life,
    state: State,
    /// Of what comes back.
    asked: Option<Asked>,
}

impl Ranked for Connection {
    fn rank(&self) -> Rank {
        self.state.rank()
    }
}

/// Which server a client sticks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Template {
    server: ServerKey,
    life: Life,
    /// A connection of the client got established.
    confirmed: bool,
}

impl Ranked for Template {
    fn rank(&self) -> Rank {
        if self.confirmed {
            Rank::Stays
        } else {
            Rank::Unconfirmed
        }
    }
}

/// A way of a table that is in use, or was until its entry's life was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Number of the place.
    pub place: u32,
    /// Way within the place.
    pub way: usize,
    /// The keyed hash of what it holds.
    pub hash: u64,
    /// What it holds.
    pub kind: Kind,
    /// The last moment of its life.
    pub until: LongTick,
    /// Whether the server is still the one it was made for.
    pub valid: bool,
}

/// The data plane.
#[derive(Clone, Debug)]
pub struct Memory {
    options: Options,
    coefficients: Coefficients,
    coefficients_v6: CoefficientsV6,
    /// MACs of the interfaces, by index.
    ports: BTreeMap<u32, u64>,
    /// Their MTUs.
    mtus: BTreeMap<u32, u32>,
    /// Of those the ones that are VLANs.
    networks: BTreeMap<u32, Vlan>,
    service_ids: Indexes<ServiceKey>,
    services: BTreeMap<ServiceKey, Service>,
    servers: BTreeMap<ServerKey, Server>,
    /// The number of the next life of a server.
    next_life: u64,
    connections: Table<Name, Connection>,
    templates: Table<Client, Template>,
    /// First places of connections that found no way.
    full_places: std::collections::BTreeSet<u32>,
    now: LongTick,
    heartbeat: LongTick,
    counters: Counters,
    inherited: Inherited,
    /// Chance, for schedulers that play.
    dice: u64,
}

impl Memory {
    /// Empty tables; the agent is heard of at `now`.
    pub fn new(options: Options, now: LongTick) -> Self {
        Self {
            options,
            coefficients: Coefficients::of(options.key),
            coefficients_v6: CoefficientsV6::of(options.key),
            ports: BTreeMap::new(),
            mtus: BTreeMap::new(),
            networks: BTreeMap::new(),
            service_ids: Indexes::new(xdp_lb_common::limits::MAX_SERVICES),
            services: BTreeMap::new(),
            servers: BTreeMap::new(),
            next_life: 0,
            connections: Table::new(options.connections),
            templates: Table::new(options.templates),
            full_places: [].into(),
            now,
            heartbeat: now,
            counters: Counters::default(),
            inherited: Inherited::default(),
            dice: options.key.k0 | 1,
        }
    }

    /// Time goes on to this moment.
    pub fn at(&mut self, now: LongTick) {
        self.now = now;
    }

    /// The agent was heard of last at this moment.
    pub fn heard(&mut self, moment: LongTick) {
        self.heartbeat = moment;
    }

    /// What becomes of a frame that comes in by an interface now.
    pub fn decide(&mut self, frame: &[u8], ifindex: u32, now: LongTick) -> Verdict {
        let mut dice = Dice(self.dice);
        let verdict = self.decide_by(frame, ifindex, now, &mut dice);
        self.dice = dice.0;
        verdict
    }

    /// [`Self::decide`] where somebody else says what neither tables nor frame do.
    pub fn decide_by(
        &mut self,
        frame: &[u8],
        ifindex: u32,
        now: LongTick,
        outside: &mut dyn Outside,
    ) -> Verdict {
        self.now = now;
        let verdict = decide::decide(self, frame, ifindex, outside);
        self.count(&verdict);
        verdict
    }

    fn count(&mut self, verdict: &Verdict) {
        let counters = &mut self.counters;
        *counters.packets.entry(verdict.reason).or_default() += 1;
        for event in &verdict.events {
            *counters.events.entry(*event).or_default() += 1;
        }
        let Some(traffic) = verdict.traffic else {
            return;
        };
        let service = self.services.get_mut(&traffic.service);
        let server = self.servers.get_mut(&traffic.server);
        let stats = [
            service.map(|service| &mut service.stats),
            server.map(|server| &mut server.stats),
        ];
        for stats in stats.into_iter().flatten() {
            let octets = u64::from(traffic.octets);
            if traffic.is_reply {
                stats.reply_packets += 1;
                stats.reply_bytes += octets;
                continue;
            }
            stats.connections += u64::from(traffic.opens);
            stats.packets += 1;
            stats.bytes += octets;
        }
    }

    /// The keyed hash by which the tables of the XDP program name the connection of a frame.
    pub fn connection_hash(&self, frame: &[u8]) -> Option<u64> {
        let packet = Packet::of(frame).ok()?;
        Some(Name::of(&packet).hash(self))
    }

    /// Ways of the connection table, over or not.
    pub fn connection_ways(&self) -> Vec<Way> {
        let ways = self.connections.iter().map(|(place, way, entry)| Way {
            place,
            way,
            hash: entry.hash,
            kind: entry.value.state.kind(),
            until: entry.until,
            valid: self.is_alive(&entry.value.server, entry.value.life),
        });
        ways.collect()
    }

    /// Ways of the template table, over or not.
    pub fn template_ways(&self) -> Vec<Way> {
        let ways = self.templates.iter().map(|(place, way, entry)| Way {
            place,
            way,
            hash: entry.hash,
            kind: if entry.value.confirmed {
                Kind::Template
            } else {
                Kind::TemplateNew
            },
            until: entry.until,
            valid: self.is_alive(&entry.value.server, entry.value.life),
        });
        ways.collect()
    }

    /// Whether a server is in the life that something was made in.
    fn is_alive(&self, server: &ServerKey, life: Life) -> bool {
        self.servers.get(server).is_some_and(|now| now.life == life)
    }

    /// Forgets all connections and templates.
    pub fn forget(&mut self) {
        self.connections = Table::new(self.options.connections);
        self.templates = Table::new(self.options.templates);
        self.full_places.clear();
        for server in self.servers.values_mut() {
            (server.active, server.inactive, server.rests) = (0, 0, false);
        }
    }

    fn server_counters(&self, key: &ServerKey, server: &Server) -> ServerCounters {
        let of_server =
            |template: &Template| template.server == *key && self.is_alive(key, template.life);
        let templates = self
            .templates
            .iter()
            .filter(|(.., entry)| of_server(&entry.value) && !entry.is_over(self.now));
        ServerCounters {
            stats: server.stats,
            active: server.active,
            inactive: server.inactive,
            templates: templates.count() as u64,
        }
    }
}

impl Dataplane for Memory {
    fn apply(&mut self, change: &Change) -> Result<(), Error> {
        tables::apply(self, change)
    }

    /// At the moment that a frame, or whoever sets the time, was last told of.
    fn heartbeat(&mut self) -> Result<(), Error> {
        self.heartbeat = self.now;
        Ok(())
    }

    fn counters(&mut self) -> Result<Counters, Error> {
        let mut counters = self.counters.clone();
        for reason in Reason::ALL {
            counters.packets.entry(*reason).or_default();
        }
        for event in Event::ALL {
            counters.events.entry(*event).or_default();
        }
        for (key, service) in &self.services {
            counters.services.insert(*key, service.stats);
        }
        for (key, server) in &self.servers {
            counters
                .servers
                .insert(*key, self.server_counters(key, server));
        }
        let live = |over: &dyn Fn() -> usize| over() as u64;
        let now = self.now;
        let connections = live(&|| {
            self.connections
                .iter()
                .filter(|(.., entry)| !entry.is_over(now))
                .count()
        });
        let templates = live(&|| {
            self.templates
                .iter()
                .filter(|(.., entry)| !entry.is_over(now))
                .count()
        });
        counters.tables = BTreeMap::from([
            (
                "connections",
                Fill {
                    entries: connections,
                    capacity: self.connections.capacity(),
                },
            ),
            (
                "templates",
                Fill {
                    entries: templates,
                    capacity: self.templates.capacity(),
                },
            ),
        ]);
        Ok(counters)
    }

    /// Frees what expired, and what was of servers that failed or went.
    fn tend(&mut self) -> Result<(), Error> {
        let now = self.now;
        let servers = &self.servers;
        let is_alive = |server: &ServerKey, life: Life| {
            servers
                .get(server)
                .is_some_and(|server| server.life == life)
        };
        let gone = self
            .connections
            .sweep(|entry| entry.is_over(now) || !is_alive(&entry.value.server, entry.value.life));
        self.templates
            .sweep(|entry| entry.is_over(now) || !is_alive(&entry.value.server, entry.value.life));
        for connection in gone {
            connection::count(self, Some(connection), None);
        }
        Ok(())
    }

    fn inherited(&self) -> &Inherited {
        &self.inherited
    }
}
