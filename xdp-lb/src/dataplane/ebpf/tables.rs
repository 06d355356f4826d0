//! The maps as this process holds them, and what it remembers about them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use aya::Ebpf as Object;
use aya::maps::{Array, DevMapHash, Map, MapData, PerCpuArray};
use xdp_lb_common::addr::{Address, FAMILY_NONE, FAMILY_V4, FAMILY_V6};
use xdp_lb_common::backend::{Backend, BackendName, Port};
use xdp_lb_common::conn::table::PlaceMemory;
use xdp_lb_common::flow::FlowInfo;
use xdp_lb_common::hash::HashKey;
use xdp_lb_common::host::{HostSlot, host_service};
use xdp_lb_common::lease;
use xdp_lb_common::limits::{
    HOST_SLOTS, MAX_BACKENDS, MAX_PORTS, MAX_SERVICES, SCHEDULE_SLOTS, SERVICE_INDEX_SLOTS, WAYS,
};
use xdp_lb_common::load::Load;
use xdp_lb_common::reason::Counters;
use xdp_lb_common::service::{Control, Service, ServiceName, ServiceSlot, Slots, Stats};
use xdp_lb_common::tick::{Clock, LongTick};
use xdp_lb_common::vlan::VlanSlot;

use super::again::{mapped, take};
use super::load::Sizes;
use super::{Options, ServerKey};
use crate::config::model::{Endpoint, Family, Mark, Protocol, ServiceKey};
use crate::dataplane::layout::{Indexes, Regions};
use crate::dataplane::mmap::MappedArray;
use crate::dataplane::schedule::Schedule;
use crate::dataplane::{Error, Inherited};

/// The word of [`Control`] that holds the agent's sign of life.
pub(super) const HEARTBEAT: usize = 1;

/// The word of [`Control`] that says whether addresses of any server are translated.
pub(super) const TRANSLATES: usize = 2;

/// The word of [`Control`] that holds the smallest MTU of all interfaces.
pub(super) const SMALLEST_MTU: usize = 3;

/// Words of a [`Service`] that are published one by one.
pub(super) mod word {
    /// `active` (low half) and `flags`.
    pub(in super::super) const GATE: usize = 0;
    pub(in super::super) const SLOTS: usize = 1;
    pub(in super::super) const FALLBACK: usize = 2;
    pub(in super::super) const HOST_FILTERS: [usize; 2] = [3, 7];
    /// `persistence_ticks` (low half) and `client_mask`.
    pub(in super::super) const PERSISTENCE: usize = 4;
    /// `lease_ticks` (low half) and `rule`.
    pub(in super::super) const LEASE: usize = 5;
    pub(in super::super) const VIRTUAL_MAC: usize = 6;
}

/// What the banks hold of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Published {
    pub hosts: Vec<HostSlot>,
    pub entrances: BTreeSet<Endpoint>,
}

/// Maps and memory of them.
pub(super) struct Tables {
    pub control: MappedArray<Control>,
    pub service_index: MappedArray<ServiceSlot>,
    pub services: MappedArray<Service>,
    pub cursors: MappedArray<u64>,
    pub hosts: MappedArray<HostSlot>,
    pub backends: MappedArray<Backend>,
    pub loads: MappedArray<Load>,
    pub slots: MappedArray<u32>,
    pub ports: MappedArray<Port>,
    pub vlans: MappedArray<VlanSlot>,
    pub conns: MappedArray<PlaceMemory>,
    pub conn_info: MappedArray<FlowInfo>,
    pub overflows: MappedArray<u64>,
    pub templates: MappedArray<PlaceMemory>,
    pub tx_ports: DevMapHash<MapData>,
    pub counters: PerCpuArray<MapData, Counters>,
    pub service_stats: PerCpuArray<MapData, Stats>,
    pub backend_stats: PerCpuArray<MapData, Stats>,
    pub service_names: Array<MapData, ServiceName>,
    pub backend_names: Array<MapData, BackendName>,
    pub clock: Clock,
    pub service_ids: Indexes<ServiceKey>,
    pub backend_ids: Indexes<ServerKey>,
    /// Real servers whose addresses are translated.
    pub translated: BTreeSet<u32>,
    /// MTUs of the interfaces, by index; 0 if it is not known.
    pub mtus: BTreeMap<u32, u32>,
    pub regions: Regions,
    pub schedules: BTreeMap<ServiceKey, Schedule>,
    /// Services that stand in the index.
    pub published: BTreeMap<ServiceKey, Published>,
    /// Positions written in each bank of the index and of the host table.
    pub filled: [(Vec<u32>, Vec<u32>); 2],
    /// The last sweep over the tables.
    pub census: super::read::Census,
    /// Counts that the last census found to be wrong.
    pub drift: super::standing::Drift,
    /// When the tables were last looked after.
    pub tended: Option<std::time::Instant>,
    /// When a connection last found no way, as far as this process saw.
    pub overflowed: super::read::Overflowed,
    /// Whether connections are still in tables that these come in the place of.
    pub filling: bool,
}

impl Tables {
    /// Maps the object's maps and reads what a predecessor left in them. Gates whose lease ended are
    /// closed and counted, for the heartbeats to come would open them again; this is the first.
    pub(super) fn open(
        object: &mut Object,
        sizes: &Sizes,
        options: &Options,
        (key, now): (HashKey, LongTick),
    ) -> Result<(Self, Inherited, usize), Error> {
        let ways = |places: u32| places * u32::try_from(WAYS).unwrap_or(1);
        let mut key_map: Array<MapData, HashKey> = typed(object, "KEY")?;
        key_map
            .set(0, key, 0)
            .map_err(|error| Error::Load(error.to_string()))?;
        let mut tables = Self {
            control: mapped(object, "CONTROL", 1)?,
            service_index: mapped(object, "SERVICE_INDEX", 2 * SERVICE_INDEX_SLOTS)?,
            services: mapped(object, "SERVICES", MAX_SERVICES)?,
            cursors: mapped(object, "CURSORS", MAX_SERVICES)?,
            hosts: mapped(object, "HOSTS", 2 * HOST_SLOTS)?,
            backends: mapped(object, "BACKENDS", MAX_BACKENDS)?,
            loads: mapped(object, "LOADS", MAX_BACKENDS)?,
            slots: mapped(object, "SLOTS", SCHEDULE_SLOTS)?,
            ports: mapped(object, "PORTS", MAX_PORTS)?,
            vlans: mapped(object, "VLANS", MAX_PORTS)?,
            conns: mapped(object, "CONNS", sizes.conn_places)?,
            conn_info: mapped(object, "CONN_INFO", ways(sizes.conn_places))?,
            overflows: mapped(object, "OVERFLOWS", sizes.conn_places / 64)?,
            templates: mapped(object, "TEMPLATES", sizes.template_places)?,
            tx_ports: typed(object, "TX_PORTS")?,
            counters: typed(object, "COUNTERS")?,
            service_stats: typed(object, "SERVICE_STATS")?,
            backend_stats: typed(object, "BACKEND_STATS")?,
            service_names: typed(object, "SERVICE_NAMES")?,
            backend_names: typed(object, "BACKEND_NAMES")?,
            clock: options.clock,
            service_ids: Indexes::new(MAX_SERVICES),
            backend_ids: Indexes::new(MAX_BACKENDS),
            translated: BTreeSet::new(),
            mtus: BTreeMap::new(),
            regions: Regions::new(SCHEDULE_SLOTS),
            schedules: BTreeMap::new(),
            published: BTreeMap::new(),
            filled: Default::default(),
            census: super::read::Census::default(),
            drift: super::standing::Drift::default(),
            tended: None,
            overflowed: super::read::Overflowed::default(),
            filling: false,
        };
        let fenced = tables.close_fenced(now);
        tables.heartbeat(now);
        let inherited = tables.adopt()?;
        Ok((tables, inherited, fenced))
    }

    /// Writes the agent's sign of life.
    pub(super) fn heartbeat(&self, now: LongTick) {
        self.control.store(0, HEARTBEAT, now.0.into());
    }

    /// Closes the gates whose lease has ended, and returns how many.
    fn close_fenced(&self, now: LongTick) -> usize {
        // A word that the agent did not write is as good as none.
        let heartbeat = u32::try_from(self.control.load(0, HEARTBEAT)).unwrap_or(0);
        let heartbeat = LongTick(heartbeat);
        let is_fenced = |index: &u32| {
            let service = self.services.read(*index);
            service.active != 0 && !lease::holds(service.lease_ticks, heartbeat, now)
        };
        let fenced = (0..self.services.len()).filter(is_fenced);
        fenced.map(|index| self.set_gate(index, false)).count()
    }

    /// Opens or closes the gate of a service.
    pub(super) fn set_gate(&self, index: u32, open: bool) {
        let flags = self.services.load(index, word::GATE) >> 32;
        self.services
            .store(index, word::GATE, flags << 32 | u64::from(open));
    }

    /// Learns what the maps hold already.
    fn adopt(&mut self) -> Result<Inherited, Error> {
        let mut inherited = Inherited::default();
        for (index, name) in (0..).zip(self.service_names.iter()) {
            let name = name.map_err(|error| Error::Load(error.to_string()))?;
            let Some(key) = service_key(&name) else {
                continue;
            };
            let service = self.services.read(index);
            self.service_ids.adopt(key, index);
            self.regions.adopt(Slots::unpack(service.slots));
            self.regions.adopt(Slots::unpack(service.fallback));
            inherited.services.insert(key, service.active != 0);
        }
        for (index, name) in (0..).zip(self.backend_names.iter()) {
            let name = name.map_err(|error| Error::Load(error.to_string()))?;
            let Some(key) = server_key(&name) else {
                continue;
            };
            self.backend_ids.adopt(key, index);
            inherited.servers.insert(key, name.serving != 0);
        }
        self.adopt_bank();
        let all = |table: u32| (0..table).collect::<Vec<_>>();
        if !inherited.services.is_empty() {
            self.filled = [0, 1].map(|_bank| (all(SERVICE_INDEX_SLOTS), all(HOST_SLOTS)));
        }
        Ok(inherited)
    }

    /// What the bank in force holds of each service: the first service that is published anew lays all of
    /// them out, and the others must not be missing until their turn comes.
    fn adopt_bank(&mut self) {
        let bank = u32::try_from(self.control.load(0, 0) & 1).unwrap_or(0);
        let mut by_index: BTreeMap<u32, (ServiceKey, Published)> = self
            .service_ids
            .iter()
            .map(|(key, index)| (index, (*key, Published::default())))
            .collect();
        for at in 0..SERVICE_INDEX_SLOTS {
            let slot = self.service_index.read(bank * SERVICE_INDEX_SLOTS + at);
            // A service of an endpoint has no other way in.
            if let Some(endpoint) = endpoint(&slot)
                && let Some((ServiceKey::Mark(_), of)) = by_index.get_mut(&slot.service)
            {
                of.entrances.insert(endpoint);
            }
        }
        for at in 0..HOST_SLOTS {
            let slot = self.hosts.read(bank * HOST_SLOTS + at);
            if slot.key != 0
                && let Some((_, of)) = by_index.get_mut(&host_service(slot.key))
            {
                // How many others there are says the layout.
                of.hosts.push(HostSlot { more: 0, ..slot });
            }
        }
        self.published = by_index.into_values().collect();
    }
}

/// Where packets go to that a slot of the service index is for; `None` if it is free.
fn endpoint(slot: &ServiceSlot) -> Option<Endpoint> {
    let name = ServiceName {
        vip: slot.vip,
        port_be: slot.port_be,
        protocol: slot.protocol,
        family: slot.family,
        mark: 0,
    };
    match service_key(&name)? {
        ServiceKey::Endpoint(endpoint) => Some(endpoint),
        ServiceKey::Mark(_) | ServiceKey::Group { .. } => None,
    }
}

fn typed<T: TryFrom<Map>>(object: &mut Object, name: &str) -> Result<T, Error> {
    let wrong = || Error::Load(format!("the map '{name}' is of another type"));
    T::try_from(take(object, name)?).map_err(|_wrong_type| wrong())
}

/// The maps' name of a service; that of a free index for a group, which the tables do not hold.
pub(super) fn service_name(key: &ServiceKey) -> ServiceName {
    match key {
        ServiceKey::Endpoint(endpoint) => {
            let (vip, family) = Address::from_ip(endpoint.vip);
            ServiceName {
                vip,
                port_be: endpoint.port.to_be(),
                protocol: endpoint.protocol.number(),
                family,
                mark: 0,
            }
        }
        ServiceKey::Mark(Mark { mark, family }) => ServiceName {
            family: match family {
                Family::V4 => FAMILY_V4,
                Family::V6 => FAMILY_V6,
            },
            mark: *mark,
            ..ServiceName::default()
        },
        ServiceKey::Group { .. } => ServiceName::default(),
    }
}

/// The maps' name of a real server.
pub(super) fn backend_name(key: &ServerKey, serving: bool) -> BackendName {
    let (address, family) = Address::from_ip(key.1.ip());
    BackendName {
        service: service_name(&key.0),
        address,
        port_be: key.1.port().to_be(),
        family,
        serving: u8::from(serving),
        reserved: 0,
    }
}

pub(super) fn service_key(name: &ServiceName) -> Option<ServiceKey> {
    if name.family == FAMILY_NONE {
        return None;
    }
    if name.protocol == 0 {
        let family = match name.family {
            FAMILY_V4 => Family::V4,
            _ => Family::V6,
        };
        let mark = name.mark;
        return Some(ServiceKey::Mark(Mark { mark, family }));
    }
    let protocol = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|p| p.number() == name.protocol)?;
    Some(ServiceKey::Endpoint(Endpoint {
        vip: name.vip.to_ip(name.family)?,
        port: u16::from_be(name.port_be),
        protocol,
    }))
}

pub(super) fn server_key(name: &BackendName) -> Option<ServerKey> {
    let service = service_key(&name.service)?;
    let address = name.address.to_ip(name.family)?;
    Some((
        service,
        SocketAddr::new(address, u16::from_be(name.port_be)),
    ))
}
