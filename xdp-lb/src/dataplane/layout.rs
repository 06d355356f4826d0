//! Where things stand in the tables: indexes that stay, probe sequences, parts of the slot array.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use xdp_lb_common::host::{HostSlot, host_start};
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

/// Lays the host table out: positions within a bank.
pub fn host_table(slots: &[HostSlot]) -> Result<BTreeMap<u32, HostSlot>, Error> {
    probe_table(slots, |s| host_start(s.key), HOST_SLOTS).ok_or_else(|| Error::Full {
        table: "on-link hosts",
        capacity: u64::from(HOST_SLOTS),
        hint: "this version holds no more",
    })
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
    use super::*;
    use proptest::prelude::*;
    use xdp_lb_common::addr::{Address, Mac};
    use xdp_lb_common::host::host_key;

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
