//! Where things stand in the tables: indexes that stay, probe sequences, parts of the slot array.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use xdp_lb_common::host::{HostSlot, address_start, host_start};
use xdp_lb_common::limits::{HOST_SLOTS, MAX_PROBES, SERVICE_INDEX_SLOTS};
use xdp_lb_common::service::{ServiceSlot, Slots};

use super::Error;
use crate::config::model::{Endpoint, ServiceKey};

/// Indexes handed out to keys; a key keeps its index as long as it lives.
#[derive(Clone, Debug)]
pub struct Indexes<K> {
    by_key: BTreeMap<K, u32>,
    /// Freed indexes, the longest free first: the later one is used again, the surer that nothing
    /// remembers it.
    free: std::collections::VecDeque<u32>,
    next: u32,
    capacity: u32,
}

impl<K: Ord + Copy> Indexes<K> {
    /// None handed out.
    pub fn new(capacity: u32) -> Self {
        Self {
            by_key: BTreeMap::new(),
            free: [].into(),
            next: 0,
            capacity,
        }
    }

    /// Takes over an index that a predecessor handed out.
    pub fn adopt(&mut self, key: K, index: u32) {
        self.free.extend(self.next..index);
        self.free.retain(|&free| free != index);
        self.next = self.next.max(index + 1);
        self.by_key.insert(key, index);
    }

    /// The index of a key.
    pub fn find(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The index of a key, handed out now if it has none; `None` when all are taken.
    pub fn index_of(&mut self, key: K) -> Option<u32> {
        if let Some(index) = self.find(&key) {
            return Some(index);
        }
        let index = if self.next < self.capacity {
            self.next += 1;
            self.next - 1
        } else {
            self.free.pop_front()?
        };
        self.by_key.insert(key, index);
        Some(index)
    }

    /// Takes the index of a key back.
    pub fn release(&mut self, key: &K) -> Option<u32> {
        let index = self.by_key.remove(key)?;
        self.free.push_back(index);
        Some(index)
    }

    /// Keys and their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (&K, u32)> {
        self.by_key.iter().map(|(key, &index)| (key, index))
    }
}

/// What leads to which service: its own endpoint, or the entrances of its mark. What has a mark belongs
/// to the service of the mark, as IPVS asks for that first, also where another has the very endpoint.
pub fn entries<'a>(
    services: impl Iterator<Item = (ServiceKey, &'a BTreeSet<Endpoint>)>,
) -> BTreeMap<Endpoint, ServiceKey> {
    let (mut own, mut marked) = (BTreeMap::new(), BTreeMap::new());
    for (key, entrances) in services {
        match key {
            ServiceKey::Endpoint(endpoint) => {
                own.insert(endpoint, key);
            }
            ServiceKey::Mark(_) => marked.extend(entrances.iter().map(|at| (*at, key))),
            // The tables hold its members.
            ServiceKey::Group { .. } => {}
        }
    }
    own.retain(|endpoint, _| {
        let any_port = Endpoint {
            port: 0,
            ..*endpoint
        };
        !marked.contains_key(endpoint) && !marked.contains_key(&any_port)
    });
    own.extend(marked);
    own
}

/// Lays the service index out: positions within a bank.
pub fn service_index(slots: &[ServiceSlot]) -> Result<BTreeMap<u32, ServiceSlot>, Error> {
    probe_table(slots, ServiceSlot::start, SERVICE_INDEX_SLOTS).ok_or_else(|| Error::Full {
        table: "virtual services",
        capacity: u64::from(SERVICE_INDEX_SLOTS),
        hint: "this version holds no more",
    })
}

/// Lays the host table out: positions within a bank. Each slot says how many others its host has.
pub fn host_table(slots: &[HostSlot]) -> Result<BTreeMap<u32, HostSlot>, Error> {
    let mut hosts: BTreeMap<u64, Vec<HostSlot>> = BTreeMap::new();
    for slot in slots {
        hosts.entry(slot.key).or_default().push(*slot);
    }
    let (mut first, mut further) = (Vec::new(), Vec::new());
    for (key, of_host) in hosts {
        let more = u32::try_from(of_host.len() - 1).unwrap_or(u32::MAX);
        let mut of_host = of_host.into_iter().map(|slot| HostSlot { more, ..slot });
        first.extend(of_host.next().map(|slot| (host_start(key), slot)));
        further.extend(of_host.map(|slot| (address_start(key, &slot.address), slot)));
    }
    // First addresses first: no further one of any host stands before them in their sequences.
    first.append(&mut further);
    let laid = probe_table(&first, |(start, _)| *start, HOST_SLOTS);
    let laid = laid.ok_or_else(|| Error::Full {
        table: "on-link hosts",
        capacity: u64::from(HOST_SLOTS),
        hint: "this version holds no more",
    })?;
    Ok(laid.into_iter().map(|(at, (_, slot))| (at, slot)).collect())
}

/// Open addressing with short probe sequences; `None` when one gets too long.
fn probe_table<S: Copy>(
    slots: &[S],
    start: impl Fn(&S) -> u32,
    size: u32,
) -> Option<BTreeMap<u32, S>> {
    let mut table = BTreeMap::new();
    for slot in slots {
        let start = start(slot);
        let mut candidates = (0..MAX_PROBES).map(|step| (start + step) & (size - 1));
        table.insert(candidates.find(|at| !table.contains_key(at))?, *slot);
    }
    Some(table)
}

/// Parts of the slot array that services use.
#[derive(Clone, Debug)]
pub struct Regions {
    used: BTreeSet<(u32, u32)>,
    /// Where the search for room goes on: parts given up are used again as late as possible, since a
    /// packet may be about to read one.
    next: u32,
    capacity: u32,
}

impl Regions {
    /// All free.
    pub fn new(capacity: u32) -> Self {
        Self {
            used: BTreeSet::new(),
            next: 0,
            capacity,
        }
    }

    /// Marks a part as used.
    pub fn adopt(&mut self, slots: Slots) {
        if slots.len > 0 {
            self.used.insert((slots.base, slots.len));
            self.next = self.next.max(slots.base + slots.len);
        }
    }

    /// Finds room.
    pub fn allocate(&mut self, len: usize) -> Result<Slots, Error> {
        let full = || Error::Full {
            table: "scheduling slots",
            capacity: u64::from(self.capacity),
            hint: "divide the weights of the real servers by their common factor",
        };
        let len = u32::try_from(len).map_err(|_too_long| full())?;
        if len == 0 {
            return Ok(Slots::default());
        }
        let base = self
            .gap(self.next, len)
            .or_else(|| self.gap(0, len))
            .ok_or_else(full)?;
        self.used.insert((base, len));
        self.next = base + len;
        Ok(Slots { base, len })
    }

    /// Gives a part up.
    pub fn release(&mut self, slots: Slots) {
        self.used.remove(&(slots.base, slots.len));
    }

    /// The first gap of `len` at or after `from`.
    fn gap(&self, from: u32, len: u32) -> Option<u32> {
        let mut at = from;
        for &(base, used) in &self.used {
            if base + used <= at {
                continue;
            }
            if base >= at && base - at >= len {
                break;
            }
            at = base + used;
        }
        (self.capacity.checked_sub(at)? >= len).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use proptest::prelude::*;
    use xdp_lb_common::addr::{Address, Mac};
    use xdp_lb_common::host::{host_key, is_foreign};

    #[test]
    fn an_index_stays_and_a_freed_one_is_used_last() {
        let mut indexes = Indexes::new(3);
        indexes.adopt("old", 1);
        assert_eq!(indexes.index_of("old"), Some(1));
        assert_eq!(indexes.index_of("a"), Some(2));
        assert_eq!(indexes.release(&"old"), Some(1));
        assert_eq!(indexes.index_of("b"), Some(0));
        assert_eq!(indexes.index_of("c"), Some(1));
        assert_eq!(indexes.index_of("d"), None);
    }

    /// One host is behind every port of a VIP: its MAC is in the table once for each service.
    #[test]
    fn a_thousand_services_share_their_real_servers() {
        let slots: Vec<_> = (0..1024)
            .flat_map(|service| (1..=8).map(move |mac| (service, mac)))
            .map(|(service, mac)| HostSlot {
                key: host_key(Mac::from_octets([2, 0, 0, 0, 1, mac]), service),
                ..HostSlot::default()
            })
            .collect();
        assert_eq!(host_table(&slots).unwrap().len(), 8192);
    }

    fn slot(service: u32, mac: u8, address: IpAddr) -> HostSlot {
        let (address, family) = Address::from_ip(address);
        HostSlot {
            key: host_key(Mac::from_octets([2, 0, 0, 0, 1, mac]), service),
            family: family.into(),
            more: 0,
            address,
        }
    }

    fn foreign(table: &BTreeMap<u32, HostSlot>, asked: &HostSlot) -> bool {
        let free = HostSlot::default();
        let of = (asked.family, &asked.address);
        is_foreign(asked.key, of, |at| Some(table.get(&at).unwrap_or(&free)))
    }

    fn v4(n: u16) -> IpAddr {
        let [high, low] = n.to_be_bytes();
        [10, 1, high, low].into()
    }

    fn v6(n: u16) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n).into()
    }

    /// Fifty addresses behind one MAC, in a hundred services, of both families.
    #[test]
    fn a_host_has_any_number_of_addresses() {
        for address in [v4, v6] {
            let services = (0..100).flat_map(|service| (1..=50).map(move |n| (service, n)));
            let slots: Vec<_> = services.map(|(s, n)| slot(s, 1, address(n))).collect();
            let table = host_table(&slots).unwrap();
            assert_eq!(table.len(), slots.len());
            for slot in &slots {
                assert!(!foreign(&table, slot), "{slot:?}");
            }
            for service in 0..100 {
                for n in 51..=300 {
                    let client = slot(service, 1, address(n));
                    assert!(foreign(&table, &client), "{client:?}");
                    assert!(!foreign(&table, &slot(service, 2, address(n))), "{n}");
                }
            }
            assert!(!foreign(&table, &slot(100, 1, address(51))));
        }
    }

    proptest! {
        /// Whatever hosts there are: a frame is foreign if and only if its MAC is a host's of the service
        /// and its source none of that host's addresses.
        #[test]
        fn the_host_table_says_what_its_list_says(
            hosts in prop::collection::btree_set((0_u32..3, 1_u8..4, 0_u16..40, any::<bool>()), 0..80),
        ) {
            let made = |&(service, mac, n, is_v6): &(u32, u8, u16, bool)| {
                slot(service, mac, if is_v6 { v6(n) } else { v4(n) })
            };
            let slots: Vec<_> = hosts.iter().map(made).collect();
            let table = host_table(&slots).unwrap();
            for service in 0..3 {
                for mac in 1..4 {
                    for (n, is_v6) in (0..40).flat_map(|n| [(n, false), (n, true)]) {
                        let asked = (service, mac, n, is_v6);
                        let is_host = hosts.iter().any(|host| (host.0, host.1) == (service, mac));
                        let is_own = hosts.contains(&asked);
                        prop_assert_eq!(foreign(&table, &made(&asked)), is_host && !is_own);
                    }
                }
            }
        }
    }

    #[test]
    fn one_vip_has_services_on_thousands_of_ports() {
        let services: Vec<_> = (1..=4096_u16)
            .map(|port| ServiceSlot {
                vip: Address::from_ip([192, 168, 1, 200].into()).0,
                port_be: port.to_be(),
                protocol: 6,
                family: 4,
                ..ServiceSlot::default()
            })
            .collect();
        assert_eq!(service_index(&services).unwrap().len(), 4096);
    }

    #[test]
    fn what_has_a_mark_belongs_to_the_service_of_the_mark() {
        let key = |text: &str| text.parse::<ServiceKey>().unwrap();
        let endpoint = |text: &str| match key(text) {
            ServiceKey::Endpoint(endpoint) => endpoint,
            other => panic!("{other}"),
        };
        let none = BTreeSet::new();
        let some = ["tcp/10.0.0.1:80", "tcp/10.0.0.2:0"].map(endpoint).into();
        let services = [
            (key("tcp/10.0.0.1:80"), &none),
            (key("tcp/10.0.0.1:0"), &none),
            (key("udp/10.0.0.1:80"), &none),
            (key("tcp/10.0.0.2:80"), &none),
            (key("fwmark/1"), &some),
        ];
        let entries = entries(services.into_iter());
        let entries: Vec<_> = entries
            .iter()
            .map(|(at, of)| format!("{at} {of}"))
            .collect();
        let expected = [
            "tcp/10.0.0.1:0 tcp/10.0.0.1:0",
            "tcp/10.0.0.1:80 fwmark/1",
            "udp/10.0.0.1:80 udp/10.0.0.1:80",
            "tcp/10.0.0.2:0 fwmark/1",
        ];
        assert_eq!(entries, expected);
    }

    proptest! {
        #[test]
        fn regions_never_overlap(sizes in prop::collection::vec((1_usize..40, any::<bool>()), 0..200)) {
            let mut regions = Regions::new(400);
            let mut held: Vec<Slots> = Vec::new();
            for (len, release) in sizes {
                if release && !held.is_empty() {
                    regions.release(held.remove(0));
                }
                let Ok(slots) = regions.allocate(len) else { continue };
                prop_assert!(slots.base + slots.len <= 400);
                for other in &held {
                    let apart = slots.base + slots.len <= other.base
                        || other.base + other.len <= slots.base;
                    prop_assert!(apart, "{slots:?} {other:?}");
                }
                held.push(slots);
            }
        }
    }
}
