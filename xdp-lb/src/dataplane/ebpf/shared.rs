//! The tables of connections and templates as state sync reads and writes them, on a thread of its own.
//!
//! It maps the pinned tables once more and changes them as the program does: by the same protocol of
//! claims and compare-and-exchange (`xdp_lb_common::conn::table`), so that it is to packets as another
//! CPU. Which index means what it learns from the packet path, change by change.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use xdp_lb_common::backend::{Backend, Identity};
use xdp_lb_common::conn::table::{Inserted, Places};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FLOW_OF_REPLIES, FlowInfo};
use xdp_lb_common::hash::{Coefficients, CoefficientsV6, HashKey};
use xdp_lb_common::lease;
use xdp_lb_common::limits::{MAX_BACKENDS, MAX_SERVICES};
use xdp_lb_common::load::Load;
use xdp_lb_common::service::{Control, Service};
use xdp_lb_common::tick::{Clock, LongTick, Tick};

use super::Options;
use super::flows::{CONNECTIONS, Flows, MappedPlace, TEMPLATES, mapped};
use super::load::Sizes;
use super::tables::{HEARTBEAT, word};
use crate::dataplane::Error;
use crate::dataplane::mmap::MappedArray;
use crate::dataplane::pins::Pins;
use crate::sync::record::ServiceName;

/// A name that came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A service has this index now.
    Service(ServiceName, u32),
    /// A service is gone.
    NoService(ServiceName),
    /// A real server has this index now.
    Server(ServiceName, SocketAddr, u32),
    /// A real server is gone.
    NoServer(ServiceName, SocketAddr),
}

/// One of the two tables of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Connections.
    Connections,
    /// Persistence templates.
    Templates,
}

/// A real server of a service.
type ServerKey = (ServiceName, SocketAddr);

/// The tables, and what their indexes mean.
pub struct Shared {
    connections: Flows,
    templates: Flows,
    services: MappedArray<Service>,
    backends: MappedArray<Backend>,
    loads: MappedArray<Load>,
    control: MappedArray<Control>,
    coefficients: Coefficients,
    coefficients_v6: CoefficientsV6,
    key: HashKey,
    clock: Clock,
    /// The last sign of life of the agent that was seen, and when.
    anchor: (LongTick, Instant),
    names: mpsc::Receiver<Named>,
    service_ids: BTreeMap<ServiceName, u32>,
    server_ids: BTreeMap<ServerKey, u32>,
    services_by_id: BTreeMap<u32, ServiceName>,
    servers_by_id: Vec<Option<ServerKey>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// What opening takes.
pub(super) struct Origin<'a> {
    pub pins: &'a Pins,
    pub sizes: &'a Sizes,
    pub options: &'a Options,
    pub key: HashKey,
    pub now: LongTick,
    pub names: mpsc::Receiver<Named>,
}

impl Shared {
    pub(super) fn open(origin: Origin<'_>) -> Result<Self, Error> {
        let Origin {
            pins,
            sizes,
            options,
            key,
            now,
            names,
        } = origin;
        Ok(Self {
            connections: Flows::open(pins, CONNECTIONS, sizes.conn_places)?,
            templates: Flows::open(pins, TEMPLATES, sizes.template_places)?,
            services: mapped(pins, "SERVICES", MAX_SERVICES)?,
            backends: mapped(pins, "BACKENDS", MAX_BACKENDS)?,
            loads: mapped(pins, "LOADS", MAX_BACKENDS)?,
            control: mapped(pins, "CONTROL", 1)?,
            coefficients: Coefficients::of(key),
            coefficients_v6: CoefficientsV6::of(key),
            key,
            clock: options.clock,
            anchor: (now, Instant::now()),
            names,
            service_ids: BTreeMap::new(),
            server_ids: BTreeMap::new(),
            services_by_id: BTreeMap::new(),
            servers_by_id: vec![None; MAX_BACKENDS as usize],
        })
    }

    /// The key of the tables' hash.
    pub fn hash_key(&self) -> HashKey {
        self.key
    }

    /// How the kernel counts time.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Takes in which names came and went.
    pub fn learn(&mut self) {
        while let Ok(named) = self.names.try_recv() {
            match named {
                Named::Service(key, index) => {
                    self.service_ids.insert(key, index);
                    self.services_by_id.insert(index, key);
                }
                Named::NoService(key) => {
                    if let Some(index) = self.service_ids.remove(&key) {
                        self.services_by_id.remove(&index);
                    }
                }
                Named::Server(service, address, index) => {
                    self.server_ids.insert((service, address), index);
                    if let Some(place) = self.servers_by_id.get_mut(index as usize) {
                        *place = Some((service, address));
                    }
                }
                Named::NoServer(service, address) => {
                    let index = self.server_ids.remove(&(service, address));
                    if let Some(place) =
                        index.and_then(|index| self.servers_by_id.get_mut(index as usize))
                    {
                        *place = None;
                    }
                }
            }
        }
    }

    /// The present tick, at most two late and never early: the agent's last sign of life, and the time
    /// since.
    pub fn now(&mut self) -> LongTick {
        let heartbeat = u32::try_from(self.control.load(0, HEARTBEAT)).unwrap_or(0);
        let heartbeat = LongTick(heartbeat);
        let (tick, since) = self.anchor;
        let jiffies = since.elapsed().as_nanos() * u128::from(self.clock.hz) / 1_000_000_000;
        let passed = u32::try_from(jiffies >> self.clock.shift).unwrap_or(u32::MAX);
        let reckoned = LongTick(tick.0.wrapping_add(passed));
        if heartbeat.since(reckoned) > 0 {
            self.anchor = (heartbeat, Instant::now());
            return heartbeat;
        }
        reckoned
    }

    /// Whether packets of a service are handled here: its gate is open and its lease is not over.
    pub fn owns(&self, service: &ServiceName, now: LongTick) -> bool {
        let Some(index) = self.service_ids.get(service) else {
            return false;
        };
        let gate = self.services.load(*index, word::GATE);
        let lease = self.services.load(*index, word::LEASE);
        let lease = u32::try_from(lease & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let heartbeat = u32::try_from(self.control.load(0, HEARTBEAT)).unwrap_or(0);
        gate & u64::from(u32::MAX) != 0 && lease::holds(lease, LongTick(heartbeat), now)
    }

    /// All services and their indexes.
    pub fn services(&self) -> impl Iterator<Item = (&ServiceName, u32)> {
        self.service_ids.iter().map(|(key, index)| (key, *index))
    }

    /// The index of a service.
    pub fn service_id(&self, service: &ServiceName) -> Option<u32> {
        self.service_ids.get(service).copied()
    }

    /// The name of a service.
    pub fn service(&self, index: u32) -> Option<ServiceName> {
        self.services_by_id.get(&index).copied()
    }

    /// The index of a real server.
    pub fn server_id(&self, service: &ServiceName, address: SocketAddr) -> Option<u32> {
        self.server_ids.get(&(*service, address)).copied()
    }

    /// The name of the real server of a state, unless its flows of that generation are void.
    pub fn server(&self, state: State) -> Option<ServerKey> {
        let index = state.backend();
        let identity = Identity(self.backends.load(index, 0));
        let key = self.servers_by_id.get(index as usize).copied().flatten();
        key.filter(|_| identity.generation() == state.generation())
    }

    /// Life of a service's templates, ticks.
    pub fn persistence(&self, service: u32) -> u32 {
        self.services.read(service).persistence_ticks
    }

    const fn flows(&self, kept: Kept) -> &Flows {
        match kept {
            Kept::Connections => &self.connections,
            Kept::Templates => &self.templates,
        }
    }

    /// Number of ways of a table.
    pub fn ways(&self, kept: Kept) -> usize {
        self.flows(kept).info.len() as usize
    }

    /// Key and state of the ways of a table, from `from` on, at most `most`.
    pub fn states(&self, kept: Kept, from: usize, most: usize) -> impl Iterator<Item = State> {
        let words = self.flows(kept).places.all_words();
        let ways = words.chunks_exact(2).skip(from).take(most);
        ways.map(|way| {
            way.get(1)
                .map_or(State(0), |word| State(word.load(Ordering::Relaxed)))
        })
    }

    /// What a way is, if its cold half is written and belongs to the key that it has.
    pub fn describe(&self, kept: Kept, way: usize) -> Option<FlowInfo> {
        let flows = self.flows(kept);
        let key = flows
            .places
            .all_words()
            .get(way * 2)?
            .load(Ordering::Acquire);
        let info = flows.info.read(u32::try_from(way).ok()?);
        (self.hash(kept, &info)? == key).then_some(info)
    }

    fn hash(&self, kept: Kept, info: &FlowInfo) -> Option<u64> {
        if info.flags & FLOW_OF_REPLIES != 0 {
            return None;
        }
        match kept {
            Kept::Connections => info.hash(&self.coefficients, &self.coefficients_v6),
            Kept::Templates => {
                let mask = self.services.read(info.service).client_mask;
                info.template_hash(&self.coefficients, &self.coefficients_v6, mask)
            }
        }
    }

    /// What stands in a table for a flow or a template.
    pub fn find(&self, kept: Kept, info: &FlowInfo, now: Tick) -> Option<State> {
        let hash = self.hash(kept, info)?;
        let found = self.places(kept, hash).find(hash, now);
        found.exists().then_some(found.state)
    }

    /// Puts a flow or a template into a table, in place of what stands there for it; the way it has
    /// and its state. `None`: there is no room, or a packet was faster.
    pub fn put(
        &self,
        kept: Kept,
        info: &FlowInfo,
        (kind, backend): (Kind, u32),
        (expiry, now): (Tick, Tick),
    ) -> Option<(usize, State)> {
        let hash = self.hash(kept, info)?;
        let generation = Identity(self.backends.load(backend, 0)).generation();
        let state = State::new(hash, kind, backend, generation, expiry);
        let places = self.places(kept, hash);
        let found = places.find(hash, now);
        let index = if found.exists() {
            let is_won = state == found.state || places.update(&found, state);
            is_won.then(|| places.index(found.in_second, found.way))?
        } else {
            // Two attempts: the first may lose its way to a CPU.
            let claim = places
                .claim(hash, state, now)
                .or_else(|| places.claim(hash, state, now))?;
            match places.publish(&claim, hash, state, now) {
                Inserted::Mine { index, .. } => index,
                Inserted::Other(_) | Inserted::Lost => return None,
            }
        };
        self.flows(kept).info.write(index, info);
        Some((index as usize, state))
    }

    fn places(&self, kept: Kept, hash: u64) -> Places<MappedPlace<'_>> {
        let loads = (kept == Kept::Connections).then_some(&self.loads);
        self.flows(kept).places(hash, loads)
    }

    /// How long that many ticks are.
    pub fn duration(&self, ticks: u32) -> Duration {
        let jiffies = u64::from(ticks) << self.clock.shift;
        Duration::from_millis(jiffies * 1000 / u64::from(self.clock.hz.max(1)))
    }

    /// That time in ticks, rounded up, at least 1.
    pub fn ticks(&self, time: Duration) -> u32 {
        let jiffies = time.as_millis() * u128::from(self.clock.hz) / 1000;
        let ticks = jiffies.div_ceil(1 << self.clock.shift);
        let longest = xdp_lb_common::tick::MASK >> 1;
        u32::try_from(ticks).unwrap_or(longest).clamp(1, longest)
    }
}
