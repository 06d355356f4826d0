//! Changes, carried out.

use aya::maps::PerCpuValues;
use xdp_lb_common::addr::{Address, Mac};
use xdp_lb_common::backend::{
    BACKEND_LOCAL, BACKEND_NAT, BACKEND_RELEASES, BACKEND_TUNNEL, BACKEND_USABLE, Backend,
    BackendName, Identity, Port as PortSlot,
};
use xdp_lb_common::host::{HostSlot, host_key, mac_bit};
use xdp_lb_common::lease;
use xdp_lb_common::limits::{
    HOST_SLOTS, MAX_BACKENDS, MAX_PORTS, MAX_PROBES, MAX_SERVICES, SERVICE_INDEX_SLOTS,
};
use xdp_lb_common::load::word as load;
use xdp_lb_common::method::{Kind, Method};
use xdp_lb_common::persist::mask_v4;
use xdp_lb_common::service::{
    SERVICE_HAS_HOSTS, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, Service as ServiceLine, ServiceName,
    ServiceSlot, Slots, Stats,
};
use xdp_lb_common::vlan::{self, VlanSlot};

use super::ServerKey;
use super::standing::limits;
use super::tables::{
    Published, SMALLEST_MTU, TRANSLATES, Tables, backend_name, service_name, word,
};
use crate::config::model::{Checksum, Endpoint, Family, ServiceKey, Tunnel};
use crate::dataplane::schedule::Entry;
use crate::dataplane::{Error, layout};
use crate::plan::desired::{self, Port, Reach, Server, Service};
use crate::plan::diff::Change;

pub(super) fn apply(tables: &mut Tables, change: &Change) -> Result<(), Error> {
    match change {
        Change::SetPort(ifindex, port) => tables.set_port(*ifindex, *port),
        Change::RemovePort(ifindex) => {
            tables.remove_port(*ifindex);
            Ok(())
        }
        Change::SetServer(service, server) => tables.set_server(*service, server),
        Change::SetService(key, service) => tables.set_service(*key, service),
        Change::SetActive(key, active) => tables.set_active(key, *active),
        Change::PurgeServer(service, address) => tables.purge(&(*service, *address)),
        Change::RemoveServer(service, address) => tables.remove_server(&(*service, *address)),
        Change::RemoveService(key) => tables.remove_service(key),
        Change::AddAddress(_) | Change::RemoveAddress(_) | Change::Put(_) | Change::Take(_) => {
            Ok(())
        }
    }
}

fn kernel(error: &dyn std::error::Error) -> Error {
    Error::Load(format!("the kernel refused a table entry: {error}"))
}

/// The slot of an interface in an open-addressed table: its own, else a free one.
fn slot_of(
    start: u32,
    is_own: impl Fn(u32) -> bool,
    is_free: impl Fn(u32) -> bool,
) -> Result<u32, Error> {
    let mut slots = (0..MAX_PROBES).map(|step| (start.wrapping_add(step)) & (MAX_PORTS - 1));
    let own = slots.clone().find(|at| is_own(*at));
    own.or_else(|| slots.find(|at| is_free(*at)))
        .ok_or_else(|| Error::Full {
            table: "interfaces",
            capacity: u64::from(MAX_PORTS),
            hint: "name fewer with --interface",
        })
}

impl Tables {
    fn set_port(&mut self, ifindex: u32, port: Port) -> Result<(), Error> {
        self.mtus.insert(ifindex, port.mtu);
        self.note_smallest_mtu();
        let known = |slot: PortSlot| slot.ifindex == u64::from(ifindex);
        let at = slot_of(
            ifindex,
            |at| known(self.ports.read(at)),
            |at| self.ports.read(at).ifindex == 0,
        )?;
        let key = port
            .vlan
            .map_or(0, |network| vlan::key(network.parent, network.tags));
        if self.ports.read(at).vlan != key {
            self.forget_network(ifindex);
        }
        let line = PortSlot {
            ifindex: ifindex.into(),
            mac: port.mac.0,
            vlan: key,
            reserved: 0,
        };
        self.ports.write(at, &line);
        if key == 0 {
            let out = self.tx_ports.insert(ifindex, ifindex, None, 0);
            return out.map_err(|e| kernel(&e));
        }
        let at = slot_of(
            vlan::start(key),
            |at| self.vlans.read(at).key == key,
            |at| self.vlans.read(at).key == 0,
        )?;
        let network = VlanSlot {
            key,
            mac: port.mac.0,
            ifindex: ifindex.into(),
            reserved: 0,
        };
        self.vlans.write(at, &network);
        Ok(())
    }

    /// Packets that fit the smallest MTU need not be asked about. (Those of an interface whose MTU is not
    /// known all are.)
    fn note_smallest_mtu(&mut self) {
        let smallest = self.mtus.values().min().copied().unwrap_or_default();
        self.control.store(0, SMALLEST_MTU, smallest.into());
    }

    fn remove_port(&mut self, ifindex: u32) {
        self.mtus.remove(&ifindex);
        self.note_smallest_mtu();
        for at in 0..MAX_PORTS {
            if self.ports.read(at).ifindex == u64::from(ifindex) {
                self.ports.write(at, &PortSlot::default());
            }
        }
        self.forget_network(ifindex);
        // The kernel forgets an interface that is deleted by itself.
        let _gone = self.tx_ports.remove(ifindex);
    }

    /// Frames of the VLAN that an interface was are nobody's.
    fn forget_network(&mut self, ifindex: u32) {
        for at in 0..MAX_PORTS {
            if self.vlans.read(at).ifindex == u64::from(ifindex) {
                self.vlans.write(at, &VlanSlot::default());
            }
        }
    }

    /// The index of a service, named now if it is new.
    fn service_id(&mut self, key: ServiceKey) -> Result<u32, Error> {
        if let Some(index) = self.service_ids.find(&key) {
            return Ok(index);
        }
        let index = self.service_ids.index_of(key).ok_or_else(|| Error::Full {
            table: "virtual services",
            capacity: MAX_SERVICES.into(),
            hint: "this version holds no more",
        })?;
        self.services.write(index, &ServiceLine::default());
        let zeroes = zeroes(&self.service_stats.get(&index, 0).map_err(|e| kernel(&e))?)?;
        self.service_stats
            .set(index, zeroes, 0)
            .map_err(|e| kernel(&e))?;
        self.service_names
            .set(index, service_name(&key), 0)
            .map_err(|e| kernel(&e))?;
        Ok(index)
    }

    fn set_server(&mut self, service: ServiceKey, server: &Server) -> Result<(), Error> {
        let service_id = self.service_id(service)?;
        let key = (service, server.address);
        let index = match self.backend_ids.find(&key) {
            Some(index) => index,
            None => self.new_backend(key)?,
        };
        let old = Identity(self.backends.read(index).identity);
        let (address, _family) = Address::from_ip(server.address.ip());
        let releases = if server.releases_clients {
            BACKEND_RELEASES
        } else {
            0
        };
        match server.reach {
            Some(Reach::Local) => {
                let flags = BACKEND_USABLE | BACKEND_LOCAL | releases;
                let identity = Identity::new(Mac(0), old.generation(), flags);
                let line = Backend {
                    identity: identity.0,
                    service: service_id,
                    address,
                    ..Backend::default()
                };
                self.translate(index, false);
                self.backends.write(index, &line);
            }
            Some(Reach::Direct {
                ifindex,
                source_mac,
                mac,
                ..
            }) => {
                let (way, method, source) = method(server);
                self.translate(index, way == BACKEND_NAT);
                let line = Backend {
                    identity: Identity::new(mac, old.generation(), BACKEND_USABLE | releases | way)
                        .0,
                    source_mac: source_mac.0,
                    ifindex,
                    service: service_id,
                    address,
                    method: method.0,
                    source,
                };
                self.backends.write(index, &line);
            }
            // Its connections go on to the MAC known last; it takes no new ones.
            None => {
                let flags = old.flags() & !BACKEND_RELEASES | releases;
                let identity = Identity::new(old.mac(), old.generation(), flags);
                self.backends.store(index, 0, identity.0);
            }
        }
        self.backend_names
            .set(index, backend_name(&key, server.serving), 0)
            .map_err(|e| kernel(&e))
    }

    /// Notes that addresses of a server are translated, or not: packets for no service are looked at
    /// while any server's are.
    fn translate(&mut self, index: u32, is_translated: bool) {
        if is_translated {
            self.translated.insert(index);
        } else {
            self.translated.remove(&index);
        }
        let any = u64::from(!self.translated.is_empty());
        self.control.store(0, TRANSLATES, any);
    }

    fn new_backend(&mut self, key: ServerKey) -> Result<u32, Error> {
        let index = self.backend_ids.index_of(key).ok_or_else(|| Error::Full {
            table: "real servers",
            capacity: MAX_BACKENDS.into(),
            hint: "this version holds no more",
        })?;
        let zeroes = zeroes(&self.backend_stats.get(&index, 0).map_err(|e| kernel(&e))?)?;
        self.backend_stats
            .set(index, zeroes, 0)
            .map_err(|e| kernel(&e))?;
        Ok(index)
    }

    fn set_service(&mut self, key: ServiceKey, service: &Service) -> Result<(), Error> {
        let index = self.service_id(key)?;
        let hosts = hosts(index, key.family(), service);
        let filter = hosts
            .iter()
            .fold(0, |bits, slot| bits | mac_bit(Mac(slot.key)));
        // Widen the filter before the table, narrow it after: no host is missed in between.
        let before = self.services.load(index, word::HOST_FILTER);
        self.services
            .store(index, word::HOST_FILTER, before | filter);
        self.set_persistence(index, key.family(), service);
        self.set_lease(index, service);
        let virtual_mac = service.virtual_mac.map_or(0, |mac| mac.0 & Mac::MASK);
        self.services.store(index, word::VIRTUAL_MAC, virtual_mac);
        let published = Published {
            hosts,
            entrances: service.entrances.clone(),
        };
        let is_new = self.published.get(&key) != Some(&published);
        self.publish_schedule(key, index, service)?;
        if is_new {
            self.published.insert(key, published);
            self.publish_banks()?;
        }
        self.services.store(index, word::HOST_FILTER, filter);
        Ok(())
    }

    fn set_persistence(&mut self, index: u32, family: Option<Family>, service: &Service) {
        let mut flags = SERVICE_HAS_HOSTS;
        if service.one_packet {
            flags |= SERVICE_ONE_PACKET;
        }
        if let Some(persistence) = service.persistence {
            flags |= SERVICE_PERSISTENT;
            let seconds = u32::try_from(persistence.timeout.as_secs()).unwrap_or(u32::MAX);
            let mask = match family {
                Some(Family::V6) => persistence.prefix_len.into(),
                Some(Family::V4) | None => mask_v4(persistence.prefix_len),
            };
            let ticks = self.clock.ticks(seconds);
            self.services.store(
                index,
                word::PERSISTENCE,
                u64::from(mask) << 32 | u64::from(ticks),
            );
        }
        let active = self.services.load(index, word::GATE) & u64::from(u32::MAX);
        self.services
            .store(index, word::GATE, u64::from(flags) << 32 | active);
    }

    fn set_lease(&mut self, index: u32, service: &Service) {
        let ticks = service.lease.map_or(lease::NONE, |lease| {
            let millis = lease.as_nanos().div_ceil(1_000_000);
            lease::ticks(self.clock, u32::try_from(millis).unwrap_or(u32::MAX))
        });
        let rule = self.services.load(index, word::LEASE) >> 32;
        self.services
            .store(index, word::LEASE, rule << 32 | u64::from(ticks));
    }

    fn set_rule(&self, index: u32, rule: u32) {
        let ticks = self.services.load(index, word::LEASE) & u64::from(u32::MAX);
        self.services
            .store(index, word::LEASE, u64::from(rule) << 32 | ticks);
    }

    fn publish_schedule(
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
    fn publish_banks(&mut self) -> Result<(), Error> {
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

    fn set_active(&mut self, key: &ServiceKey, active: bool) -> Result<(), Error> {
        let index = self
            .service_ids
            .find(key)
            .ok_or_else(|| Error::Unknown(key.to_string()))?;
        self.set_gate(index, active);
        Ok(())
    }

    /// Raises the generation: every flow and template of the server is void from here on. The same store
    /// closes it to new ones: a packet that read the old schedule may be about to choose it, and would
    /// give its flow the generation that is to come.
    fn purge(&mut self, key: &ServerKey) -> Result<(), Error> {
        let index = self
            .backend_ids
            .find(key)
            .ok_or_else(|| Error::Unknown(key.1.to_string()))?;
        self.raise_generation(index);
        self.backend_names
            .set(index, backend_name(key, false), 0)
            .map_err(|e| kernel(&e))
    }

    fn raise_generation(&mut self, index: u32) {
        let old = Identity(self.backends.load(index, 0));
        let new = Identity::new(old.mac(), old.generation().wrapping_add(1), 0);
        self.forget_connections(index, new.generation());
        self.backends.store(index, 0, new.0);
    }

    fn remove_server(&mut self, key: &ServerKey) -> Result<(), Error> {
        let Some(index) = self.backend_ids.release(key) else {
            return Err(Error::Unknown(key.1.to_string()));
        };
        self.raise_generation(index);
        self.translate(index, false);
        self.backend_names
            .set(index, BackendName::default(), 0)
            .map_err(|e| kernel(&e))
    }

    fn remove_service(&mut self, key: &ServiceKey) -> Result<(), Error> {
        self.published.remove(key);
        self.publish_banks()?;
        self.schedules.remove(key);
        let Some(index) = self.service_ids.release(key) else {
            return Err(Error::Unknown(key.to_string()));
        };
        for word in [word::SLOTS, word::FALLBACK] {
            self.regions
                .release(Slots::unpack(self.services.load(index, word)));
        }
        self.services.write(index, &ServiceLine::default());
        self.service_names
            .set(index, ServiceName::default(), 0)
            .map_err(|e| kernel(&e))
    }
}

/// What is changed in packets to a server: flags, method, and where tunnels to it begin.
fn method(server: &Server) -> (u8, Method, Address) {
    let (_address, family) = Address::from_ip(server.address.ip());
    let (kind, port, checksum, source) = match server.method {
        desired::Method::Direct => return (0, Method::DIRECT, Address::ZERO),
        desired::Method::Nat => {
            let method = Method::new(Kind::Nat, family, server.address.port().to_be(), false);
            return (BACKEND_NAT, method, Address::ZERO);
        }
        desired::Method::Tunnel(Tunnel::Ipip, source) => (Kind::Ipip, 0, false, source),
        // Remote checksum offload is for packets that are not finished; IPVS too sends others with a
        // checksum instead, and frames that were received are finished.
        desired::Method::Tunnel(Tunnel::Gue { port, checksum }, source) => {
            (Kind::Gue, port.get(), checksum != Checksum::None, source)
        }
        desired::Method::Tunnel(Tunnel::Gre { checksum }, source) => {
            (Kind::Gre, 0, checksum, source)
        }
    };
    let method = Method::new(kind, family, port.to_be(), checksum);
    (BACKEND_TUNNEL, method, Address::from_ip(source).0)
}

/// The on-link real servers of a service and the other directors, whose frames were balanced already.
///
/// One that a tunnel leads to from the other family may send packets to the VIP from an address that
/// nobody knows, and is no director.
fn hosts(service: u32, family: Option<Family>, settings: &Service) -> Vec<HostSlot> {
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

/// As many zeroes as there are CPUs.
fn zeroes(like: &PerCpuValues<Stats>) -> Result<PerCpuValues<Stats>, Error> {
    PerCpuValues::try_from(vec![Stats::default(); like.len()]).map_err(|e| kernel(&e))
}
