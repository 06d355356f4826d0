//! What packets look up as a whole: the schedule of a service, and the index of services with the table of
//! hosts, which change at once by a flip of banks.

use xdp_lb_common::addr::Address;
use xdp_lb_common::host::{HostSlot, host_key};
use xdp_lb_common::limits::{HOST_SLOTS, SERVICE_INDEX_SLOTS};
use xdp_lb_common::load::word as load;
use xdp_lb_common::service::{ServiceSlot, Slots};

use super::standing::limits;
use super::tables::{Tables, word};
use crate::config::model::{Endpoint, Family, ServiceKey};
use crate::dataplane::schedule::Entry;
use crate::dataplane::{Error, layout};
use crate::plan::desired::{Reach, Service};

impl Tables {
    pub(super) fn publish_schedule(
        &mut self,
        key: ServiceKey,
        index: u32,
        service: &Service,
    ) -> Result<(), Error> {
        let mut list = Vec::with_capacity(service.servers.len());
        for server in service
            .servers
            .iter()
            .filter(|s| s.serving && s.reach.is_some())
        {
            let backend = self.backend_ids.find(&(key, server.address));
            let backend = backend.ok_or_else(|| Error::Unknown(server.address.to_string()))?;
            if server.is_listed() {
                list.push(Entry {
                    backend,
                    address: server.address,
                    weight: server.weight,
                    limits: limits(server),
                });
            }
            self.set_standing(backend, server);
        }
        let cursor = self.cursors.load(index, 0);
        let schedule = self.schedules.entry(key).or_default();
        let Some(new) = schedule.update(service.scheduler, &list, cursor) else {
            return Ok(());
        };
        if new.begins {
            self.cursors.store(index, 0, 0);
            for entry in &list {
                self.loads.store(entry.backend, load::MEMBER, 0);
            }
        }
        for backend in new.left {
            self.loads.store(backend, load::MEMBER, 0);
            if self.cursors.load(index, 0) == u64::from(backend) + 1 {
                self.cursors.store(index, 0, 0);
            }
        }
        for (word, picks) in [(word::FALLBACK, new.fallback), (word::SLOTS, new.slots)] {
            let old = Slots::unpack(self.services.load(index, word));
            let slots = self.regions.allocate(picks.len())?;
            for (at, pick) in (slots.base..).zip(picks) {
                self.slots.write(at, &pick);
            }
            self.services.store(index, word, slots.pack());
            self.regions.release(old);
        }
        self.set_rule(index, new.rule);
        Ok(())
    }

    /// Lays the service index and the host table out in the idle bank and flips.
    pub(super) fn publish_banks(&mut self) -> Result<(), Error> {
        let bank = self.control.load(0, 0) & 1 ^ 1;
        let base = u32::try_from(bank).unwrap_or(0);
        let published = self.published.iter();
        let entries = layout::entries(published.map(|(key, of)| (*key, &of.entrances)));
        let slots: Vec<_> = entries
            .into_iter()
            .filter_map(|(endpoint, key)| self.index_slot(endpoint, &key))
            .collect();
        let hosts = self.published.values().flat_map(|of| &of.hosts);
        let hosts: Vec<_> = hosts.copied().collect();
        let (slots, hosts) = (layout::service_index(&slots)?, layout::host_table(&hosts)?);
        let [first, second] = &mut self.filled;
        let (old_slots, old_hosts) = if bank == 0 { first } else { second };
        for at in old_slots.drain(..).filter(|at| !slots.contains_key(at)) {
            self.service_index
                .write(base * SERVICE_INDEX_SLOTS + at, &ServiceSlot::default());
        }
        for at in old_hosts.drain(..).filter(|at| !hosts.contains_key(at)) {
            self.hosts
                .write(base * HOST_SLOTS + at, &HostSlot::default());
        }
        for (at, slot) in &slots {
            self.service_index
                .write(base * SERVICE_INDEX_SLOTS + at, slot);
        }
        for (at, slot) in &hosts {
            self.hosts.write(base * HOST_SLOTS + at, slot);
        }
        old_slots.extend(slots.keys());
        old_hosts.extend(hosts.keys());
        self.control.store(0, 0, bank);
        Ok(())
    }

    fn index_slot(&self, endpoint: Endpoint, key: &ServiceKey) -> Option<ServiceSlot> {
        let service = self.service_ids.find(key)?;
        let (vip, family) = Address::from_ip(endpoint.vip);
        Some(ServiceSlot {
            vip,
            port_be: endpoint.port.to_be(),
            protocol: endpoint.protocol.number(),
            family,
            service,
            reserved: 0,
        })
    }

    fn set_rule(&self, index: u32, rule: u32) {
        let ticks = self.services.load(index, word::LEASE) & u64::from(u32::MAX);
        self.services
            .store(index, word::LEASE, u64::from(rule) << 32 | ticks);
    }
}

/// The on-link real servers of a service and the other directors, whose frames were balanced already.
///
/// One that a tunnel leads to from the other family may send packets to the VIP from an address that
/// nobody knows, and is no director.
pub(super) fn hosts(service: u32, family: Option<Family>, settings: &Service) -> Vec<HostSlot> {
    let mut hosts: Vec<_> = settings
        .servers
        .iter()
        .filter(|server| family.is_none_or(|family| family == Family::of(server.address.ip())))
        .filter_map(|server| match server.reach? {
            Reach::Direct {
                mac, on_link: true, ..
            } => Some((mac, server.address.ip())),
            Reach::Direct { .. } | Reach::Local => None,
        })
        .chain(settings.peers.iter().map(|(ip, mac)| (*mac, *ip)))
        .map(|(mac, ip)| {
            let (address, family) = Address::from_ip(ip);
            HostSlot {
                key: host_key(mac, service),
                family: family.into(),
                more: 0,
                address,
            }
        })
        .collect();
    hosts.sort_by_key(|slot| (slot.key, slot.address));
    hosts.dedup();
    hosts
}
