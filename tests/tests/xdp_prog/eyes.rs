//! What stands in the maps, read from their pins: not as the data plane tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::maps::{Array, MapData, PerCpuArray};
use xdp_lb::config::model::{Endpoint, Family, Mark, Protocol, ServiceKey};
use xdp_lb::dataplane::mmap::MappedArray;
use xdp_lb::dataplane::pins::Pins;
use xdp_lb_common::addr::FAMILY_NONE;
use xdp_lb_common::backend::BackendName;
use xdp_lb_common::conn::table::PlaceMemory;
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FlowInfo, FlowV4, FragmentsV4};
use xdp_lb_common::hash::{Coefficients, HashKey, first_place, second_place};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::load::{Counts, Load, Standing};
use xdp_lb_common::persist::{mask_v4, template_hash_v4};
use xdp_lb_common::reason::{Counters, Event, Reason};
use xdp_lb_common::service::{Control, ServiceName, Stats};
use xdp_lb_common::tick::LongTick;
use xdp_lb_tests::packet::{Packet, Transport};

use crate::pinned::{map, mapped};

/// Services and real servers that are looked at: the first so many indexes.
const SEEN: u32 = 64;

/// The maps of one instance.
pub(crate) struct Eyes {
    counters: PerCpuArray<MapData, Counters>,
    service_stats: PerCpuArray<MapData, Stats>,
    backend_stats: PerCpuArray<MapData, Stats>,
    service_names: Array<MapData, ServiceName>,
    backend_names: Array<MapData, BackendName>,
    conns: MappedArray<PlaceMemory>,
    conn_info: MappedArray<FlowInfo>,
    loads: MappedArray<Load>,
    templates: MappedArray<PlaceMemory>,
    template_info: MappedArray<FlowInfo>,
    overflows: MappedArray<u64>,
    cursors: MappedArray<u64>,
    control: MappedArray<Control>,
    coefficients: Coefficients,
}

/// All that packets change, at one moment.
#[derive(Debug)]
pub(crate) struct Memory {
    tally: Tally,
    tables: Vec<(&'static str, Vec<u64>)>,
}

impl Memory {
    /// The first table in which the two differ, and where.
    pub(crate) fn difference(&self, other: &Self) -> Option<String> {
        let tables = self.tables.iter().zip(&other.tables);
        let differs = |(one, other): (&(&str, Vec<u64>), &(_, Vec<u64>))| {
            let at = one
                .1
                .iter()
                .zip(&other.1)
                .position(|(one, other)| one != other)?;
            Some(format!("word {at} of {}", one.0))
        };
        let counters = (self.tally != other.tally).then(|| "the counters".to_owned());
        tables.into_iter().find_map(differs).or(counters)
    }
}

/// All counters at one moment, or what they rose by. Zeroes are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Packets by reason.
    pub reasons: BTreeMap<Reason, u64>,
    /// Events inside the program.
    pub events: BTreeMap<Event, u64>,
    /// Connections, packets and octets by index of the service.
    pub services: BTreeMap<u32, [u64; 3]>,
    /// The same by index of the backend.
    pub backends: BTreeMap<u32, [u64; 3]>,
}

impl Tally {
    /// What was counted since.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            reasons: rise(&self.reasons, &before.reasons, |now, old| now - old),
            events: rise(&self.events, &before.events, |now, old| now - old),
            services: rise(&self.services, &before.services, difference),
            backends: rise(&self.backends, &before.backends, difference),
        }
    }

    /// Packets of all reasons.
    pub(crate) fn packets(&self) -> u64 {
        self.reasons.values().sum()
    }

    /// Packets of one reason.
    pub(crate) fn of(&self, reason: Reason) -> u64 {
        self.reasons.get(&reason).copied().unwrap_or_default()
    }
}

fn difference(now: [u64; 3], old: [u64; 3]) -> [u64; 3] {
    [now[0] - old[0], now[1] - old[1], now[2] - old[2]]
}

fn rise<K: Ord + Copy, V: Copy + Default + PartialEq>(
    now: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    minus: impl Fn(V, V) -> V,
) -> BTreeMap<K, V> {
    let old = |key| before.get(key).copied().unwrap_or_default();
    let rises = now
        .iter()
        .map(|(key, value)| (*key, minus(*value, old(key))));
    rises.filter(|(_, rise)| *rise != V::default()).collect()
}

impl Eyes {
    /// Opens the pinned maps.
    pub(crate) fn open(pins: &Pins) -> Self {
        let keys: Array<_, HashKey> = map(pins, "KEY").try_into().unwrap();
        Self {
            counters: map(pins, "COUNTERS").try_into().unwrap(),
            service_stats: map(pins, "SERVICE_STATS").try_into().unwrap(),
            backend_stats: map(pins, "BACKEND_STATS").try_into().unwrap(),
            service_names: map(pins, "SERVICE_NAMES").try_into().unwrap(),
            backend_names: map(pins, "BACKEND_NAMES").try_into().unwrap(),
            conns: mapped(pins, "CONNS"),
            conn_info: mapped(pins, "CONN_INFO"),
            loads: mapped(pins, "LOADS"),
            templates: mapped(pins, "TEMPLATES"),
            template_info: mapped(pins, "TEMPLATE_INFO"),
            overflows: mapped(pins, "OVERFLOWS"),
            cursors: mapped(pins, "CURSORS"),
            control: mapped(pins, "CONTROL"),
            coefficients: Coefficients::of(keys.get(&0, 0).unwrap()),
        }
    }

    /// All counters. Every exit of the program must have been for a reason that has a name.
    pub(crate) fn tally(&self) -> Tally {
        let per_cpu = self.counters.get(&0, 0).unwrap();
        let reason = |at: usize| per_cpu.iter().map(|cpu| cpu.reasons[at]).sum::<u64>();
        let event = |at: usize| per_cpu.iter().map(|cpu| cpu.events[at]).sum::<u64>();
        let nameless = (Reason::ALL.len()..64).map(reason).sum::<u64>();
        assert_eq!(nameless, 0, "packets for reasons without a name");
        let reasons = Reason::ALL.iter().map(|r| (*r, reason(*r as usize)));
        let events = Event::ALL.iter().map(|e| (*e, event(*e as usize)));
        Tally {
            reasons: reasons.filter(|(_, count)| *count > 0).collect(),
            events: events.filter(|(_, count)| *count > 0).collect(),
            services: stats(&self.service_stats),
            backends: stats(&self.backend_stats),
        }
    }

    /// All that packets change.
    pub(crate) fn memory(&self) -> Memory {
        let words = |words: &[AtomicU64]| -> Vec<u64> {
            words
                .iter()
                .map(|word| word.load(Ordering::Acquire))
                .collect()
        };
        let loads = (0..SEEN).flat_map(|at| words(self.loads.words(at)));
        let tables = vec![
            ("CONNS", words(self.conns.all_words())),
            ("CONN_INFO", words(self.conn_info.all_words())),
            ("TEMPLATES", words(self.templates.all_words())),
            ("TEMPLATE_INFO", words(self.template_info.all_words())),
            ("OVERFLOWS", words(self.overflows.all_words())),
            ("CURSORS", words(self.cursors.all_words())),
            ("LOADS", loads.collect()),
        ];
        Memory {
            tally: self.tally(),
            tables,
        }
    }

    /// Index of a service.
    pub(crate) fn service(&self, key: ServiceKey) -> u32 {
        let found = (0..SEEN).find(|at| {
            let name = self.service_names.get(at, 0).unwrap();
            service_key(&name) == Some(key)
        });
        found.unwrap_or_else(|| panic!("{key} is not among the first {SEEN} services"))
    }

    /// Index of a real server of a service.
    pub(crate) fn backend(&self, key: ServiceKey, address: IpAddr) -> u32 {
        let found = (0..SEEN).find(|at| {
            let name = self.backend_names.get(at, 0).unwrap();
            service_key(&name.service) == Some(key)
                && name.address.to_ip(name.family) == Some(address)
        });
        found.unwrap_or_else(|| panic!("{address} is not among the first {SEEN} of {key}"))
    }

    /// The generation of a backend whose connections count.
    pub(crate) fn generation(&self, backend: u32) -> u8 {
        Standing::unpack(self.loads.read(backend).standing).generation
    }

    /// Active and inactive connections that are counted for a backend.
    pub(crate) fn counts(&self, backend: u32) -> (u64, u64) {
        let (load, generation) = (self.loads.read(backend), self.generation(backend));
        let counts = Counts(load.counts[usize::from(generation & 1)]);
        (counts.active().into(), counts.inactive().into())
    }

    /// The ways of a packet's flow, expired ones too.
    pub(crate) fn ways(&self, packet: &Packet) -> Vec<State> {
        let hash = flow(packet).hash(&self.coefficients);
        let ways = ways(&self.conns, hash);
        ways.into_iter().map(|(_index, state)| state).collect()
    }

    /// What is kept of the datagram that a packet is a fragment of.
    pub(crate) fn kept(&self, packet: &Packet) -> Vec<State> {
        let flow = flow(packet);
        let name = FragmentsV4 {
            source_be: flow.client_be,
            destination_be: flow.vip_be,
            id_be: packet.id.to_be(),
            protocol: flow.protocol,
        };
        let ways = ways(&self.conns, name.hash(&self.coefficients));
        ways.into_iter().map(|(_index, state)| state).collect()
    }

    /// The agent's last sign of life.
    pub(crate) fn heartbeat(&self) -> LongTick {
        LongTick(u32::try_from(self.control.load(0, 1)).unwrap())
    }

    /// Lets the agent's last sign of life be of this moment.
    pub(crate) fn set_heartbeat(&self, moment: LongTick) {
        self.control.store(0, 1, moment.0.into());
    }

    /// What stands beside the one way of a packet's flow.
    pub(crate) fn info(&self, packet: &Packet) -> FlowInfo {
        let ways = ways(&self.conns, flow(packet).hash(&self.coefficients));
        assert_eq!(ways.len(), 1, "{ways:?}");
        self.conn_info.read(ways[0].0)
    }

    /// Lets it be as if nobody had written where the packets of connections came from.
    pub(crate) fn forget_ways_back(&self) {
        for index in 0..self.conn_info.len() {
            self.conn_info.store(index, 6, 0);
            self.conn_info.store(index, 7, 0);
        }
    }

    /// The ways of the template of a packet's client, masked to a prefix, on a service.
    pub(crate) fn templates(&self, key: ServiceKey, packet: &Packet, prefix: u8) -> Vec<State> {
        let (service, client) = (self.service(key), flow(packet).client_be);
        let hash = template_hash_v4(&self.coefficients, service, client, mask_v4(prefix));
        let ways = ways(&self.templates, hash);
        ways.into_iter().map(|(_index, state)| state).collect()
    }

    /// The states of all ways of the connection table that hold something.
    pub(crate) fn all_ways(&self) -> Vec<State> {
        let words = self.conns.all_words().chunks_exact(2);
        let states = words.map(|way| State(way[1].load(Ordering::Acquire)));
        states.filter(|state| state.kind() != Kind::Free).collect()
    }
}

/// The flow of a packet, as the tables name it.
pub(crate) fn flow(packet: &Packet) -> FlowV4 {
    let word = |ip: &std::net::Ipv4Addr| u32::from_ne_bytes(ip.octets());
    FlowV4 {
        client_be: word(packet.from.ip()),
        vip_be: word(packet.to.ip()),
        client_port_be: packet.from.port().to_be(),
        vip_port_be: packet.to.port().to_be(),
        protocol: match packet.transport {
            Transport::Tcp(_) => Protocol::Tcp.number(),
            Transport::Udp => Protocol::Udp.number(),
            Transport::Ping => 1,
        },
    }
}

/// Index and state of every way of a hash in its two places.
fn ways(table: &MappedArray<PlaceMemory>, hash: u64) -> Vec<(u32, State)> {
    let mask = table.len() - 1;
    let places = BTreeSet::from([first_place(hash, mask), second_place(hash, mask)]);
    let all = places.into_iter().flat_map(|place| {
        let memory = table.read(place);
        let first = place * u32::try_from(WAYS).unwrap();
        (first..).zip(memory.ways)
    });
    let of_flow = all.filter(|(_, [key, _])| *key == hash);
    of_flow
        .map(|(index, [_, state])| (index, State(state)))
        .filter(|(_, state)| state.kind() != Kind::Free)
        .collect()
}

fn stats(map: &PerCpuArray<MapData, Stats>) -> BTreeMap<u32, [u64; 3]> {
    let sums = (0..SEEN).map(|index| {
        let per_cpu = map.get(&index, 0).unwrap();
        let sum = per_cpu.iter().fold([0; 3], |sum: [u64; 3], cpu| {
            let [connections, packets, bytes] = sum;
            [
                connections + cpu.connections,
                packets + cpu.packets,
                bytes + cpu.bytes,
            ]
        });
        (index, sum)
    });
    sums.filter(|(_, sum)| *sum != [0; 3]).collect()
}

fn service_key(name: &ServiceName) -> Option<ServiceKey> {
    if name.family == FAMILY_NONE {
        return None;
    }
    if name.protocol == 0 {
        let family = Family::of(name.vip.to_ip(name.family)?);
        let mark = name.mark;
        return Some(ServiceKey::Mark(Mark { mark, family }));
    }
    let protocols = [Protocol::Tcp, Protocol::Udp];
    Some(ServiceKey::Endpoint(Endpoint {
        vip: name.vip.to_ip(name.family)?,
        port: u16::from_be(name.port_be),
        protocol: protocols
            .into_iter()
            .find(|p| p.number() == name.protocol)?,
    }))
}
