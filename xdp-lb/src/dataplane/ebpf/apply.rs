//! Changes, carried out.

use aya::maps::PerCpuValues;
use xdp_lb_common::addr::{Address, Mac};
use xdp_lb_common::backend::{
    BACKEND_LOCAL, BACKEND_NAT, BACKEND_RELEASES, BACKEND_TUNNEL, BACKEND_USABLE, Backend,
    BackendName, Identity,
};
use xdp_lb_common::host::mac_bits;
use xdp_lb_common::lease;
use xdp_lb_common::limits::{MAX_BACKENDS, MAX_SERVICES};
use xdp_lb_common::method::{Kind, Method};
use xdp_lb_common::persist::mask_v4;
use xdp_lb_common::service::{
    SERVICE_HAS_HOSTS, SERVICE_ONE_PACKET, SERVICE_PERSISTENT, Service as ServiceLine, ServiceName,
    Slots, Stats,
};

use super::ServerKey;
use super::publish::hosts;
use super::tables::{Published, TRANSLATES, Tables, backend_name, service_name, word};
use crate::config::model::{Checksum, Family, ServiceKey, Tunnel};
use crate::dataplane::Error;
use crate::plan::desired::{self, Reach, Server, Service};
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

pub(super) fn kernel(error: &dyn std::error::Error) -> Error {
    Error::Load(format!("the kernel refused a table entry: {error}"))
}

impl Tables {
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
        let mut filter = [0; 2];
        for slot in &hosts {
            let [first, second] = mac_bits(Mac(slot.key));
            filter = [filter[0] | first, filter[1] | second];
        }
        let filter = word::HOST_FILTERS.into_iter().zip(filter);
        // Widen the filter before the table, narrow it after: no host is missed in between.
        for (word, bits) in filter.clone() {
            let before = self.services.load(index, word);
            self.services.store(index, word, before | bits);
        }
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
        for (word, bits) in filter {
            self.services.store(index, word, bits);
        }
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

/// As many zeroes as there are CPUs.
fn zeroes(like: &PerCpuValues<Stats>) -> Result<PerCpuValues<Stats>, Error> {
    PerCpuValues::try_from(vec![Stats::default(); like.len()]).map_err(|e| kernel(&e))
}
