//! Changes, carried out on the tables of the model.

use std::collections::BTreeSet;
use std::net::IpAddr;

use xdp_lb_common::addr::Mac;
use xdp_lb_common::lease;
use xdp_lb_common::limits::{MAX_PORTS, MAX_SERVICES};
use xdp_lb_common::service::Stats;

use crate::config::model::{Endpoint, Family, Persistence, ServiceKey};
use crate::dataplane::Error;
use crate::plan::desired::{self, Method, Reach};
use crate::plan::diff::Change;
use crate::plan::installed::ServerKey;

use super::Memory;
use super::schedule::{Listed, Schedule, Seen};
use super::server::{Life, Limits, Path, Server};

/// A virtual service.
#[derive(Clone, Debug, Default)]
pub(super) struct Service {
    /// Its number, which names its templates.
    pub index: u32,
    /// Packets find it.
    pub published: bool,
    pub active: bool,
    /// Ticks after the last heartbeat until its gate closes.
    pub lease: Option<u32>,
    pub persistence: Option<Persistence>,
    /// Life of an idle template, ticks.
    pub persistence_ticks: u32,
    pub one_packet: bool,
    pub virtual_mac: Option<Mac>,
    /// Hosts on the link whose frames may have been balanced already: real servers, other directors.
    pub hosts: Vec<(Mac, IpAddr)>,
    /// Where packets go to that have its firewall mark.
    pub entrances: BTreeSet<Endpoint>,
    pub schedule: Schedule,
    pub stats: Stats,
}

pub(super) fn apply(memory: &mut Memory, change: &Change) -> Result<(), Error> {
    match change {
        Change::SetPort(ifindex, port) => {
            if memory.ports.len() >= MAX_PORTS as usize && !memory.ports.contains_key(ifindex) {
                return Err(full("interfaces", MAX_PORTS));
            }
            memory.ports.insert(*ifindex, port.mac.0);
            memory.mtus.insert(*ifindex, port.mtu);
            match port.vlan {
                Some(network) => memory.networks.insert(*ifindex, network),
                None => memory.networks.remove(ifindex),
            };
        }
        Change::RemovePort(ifindex) => {
            memory.ports.remove(ifindex);
            memory.mtus.remove(ifindex);
            memory.networks.remove(ifindex);
        }
        Change::SetServer(key, server) => set_server(memory, *key, server)?,
        Change::SetService(key, service) => set_service(memory, *key, service)?,
        Change::SetActive(key, active) => {
            let service = memory.services.get_mut(key);
            service
                .ok_or_else(|| Error::Unknown(key.to_string()))?
                .active = *active;
        }
        Change::PurgeServer(key, address) => {
            let life = memory.life();
            let server = memory.servers.get_mut(&(*key, *address));
            server
                .ok_or_else(|| Error::Unknown(address.to_string()))?
                .die(life);
        }
        Change::RemoveServer(key, address) => {
            let server = memory.servers.remove(&(*key, *address));
            server.ok_or_else(|| Error::Unknown(address.to_string()))?;
        }
        Change::RemoveService(key) => {
            memory.service_ids.release(key);
            let service = memory.services.remove(key);
            service.ok_or_else(|| Error::Unknown(key.to_string()))?;
        }
        Change::AddAddress(_) | Change::RemoveAddress(_) | Change::Put(_) | Change::Take(_) => {}
    }
    Ok(())
}

const fn full(table: &'static str, capacity: u32) -> Error {
    Error::Full {
        table,
        capacity: capacity as u64,
        hint: "this version holds no more",
    }
}

impl Memory {
    /// A life that nothing was ever in.
    fn life(&mut self) -> Life {
        self.next_life += 1;
        Life(self.next_life)
    }

    /// The service of a key, new and closed if there is none.
    fn service(&mut self, key: ServiceKey) -> Result<&mut Service, Error> {
        let index = self.service_ids.index_of(key);
        let index = index.ok_or_else(|| full("virtual services", MAX_SERVICES))?;
        Ok(self.services.entry(key).or_insert_with(|| Service {
            index,
            ..Service::default()
        }))
    }

    /// The servers of a service's list as its scheduler sees them.
    pub(super) fn seen(&self, key: ServiceKey) -> Vec<Seen> {
        let Some(service) = self.services.get(&key) else {
            return Vec::new();
        };
        let list = service.schedule.list();
        list.filter_map(|address| {
            let server = self.servers.get(&(key, address))?;
            Some(seen(address, server))
        })
        .collect()
    }
}

fn seen(address: std::net::SocketAddr, server: &Server) -> Seen {
    Seen {
        address,
        weight: server.weight,
        last_weight: server.last_weight,
        active: server.active,
        inactive: server.inactive,
        rests: server.rests,
    }
}

/// A server is added, or is to be reached otherwise. One whose MAC is not known keeps the way known
/// last, for the connections that it has.
fn set_server(
    memory: &mut Memory,
    key: ServiceKey,
    settings: &desired::Server,
) -> Result<(), Error> {
    memory.service(key)?;
    let life = memory.life();
    let new = || Server {
        life,
        ..Server::default()
    };
    let server = memory
        .servers
        .entry((key, settings.address))
        .or_insert_with(new);
    server.releases = settings.releases_clients;
    let method = settings.method;
    let path = settings.reach.map(|reach| Path { reach, method });
    if let Some(path) = path {
        server.translates = path.reach != Reach::Local && path.method == Method::Nat;
        server.path = Some(path);
    }
    Ok(())
}

fn set_service(
    memory: &mut Memory,
    key: ServiceKey,
    settings: &desired::Service,
) -> Result<(), Error> {
    let clock = memory.options.clock;
    let service = memory.service(key)?;
    service.published = true;
    service.one_packet = settings.one_packet;
    service.virtual_mac = settings.virtual_mac;
    service.persistence = settings.persistence;
    if let Some(persistence) = settings.persistence {
        let seconds = u32::try_from(persistence.timeout.as_secs()).unwrap_or(u32::MAX);
        service.persistence_ticks = clock.ticks(seconds);
    }
    service.lease = settings.lease.map(|lease| {
        let millis = lease.as_nanos().div_ceil(1_000_000);
        lease::ticks(clock, u32::try_from(millis).unwrap_or(u32::MAX))
    });
    service.hosts = hosts(key, settings);
    service.entrances.clone_from(&settings.entrances);
    let mut list = Vec::new();
    // A server whose checks fail, or to which no way is known, is in no list.
    for server in settings
        .servers
        .iter()
        .filter(|s| s.serving && s.reach.is_some())
    {
        let known = memory.servers.get_mut(&(key, server.address));
        let known = known.ok_or_else(|| Error::Unknown(server.address.to_string()))?;
        let limits = server.limit.map_or_else(Limits::default, |limit| Limits {
            upper: limit.upper.get(),
            lower: limit.lower,
        });
        known.set(server.weight, limits);
        // Nor is one that takes nobody and keeps nobody.
        if server.weight == 0 && server.releases_clients {
            continue;
        }
        list.push(Listed {
            address: server.address,
            weight: server.weight,
            limits,
        });
    }
    schedule(memory, key, settings, &list);
    Ok(())
}

/// Publishes a list of servers. One that leaves it is new when it comes back.
fn schedule(memory: &mut Memory, key: ServiceKey, settings: &desired::Service, list: &[Listed]) {
    let of_service = |(service, _): &ServerKey| *service == key;
    let servers = memory.servers.iter_mut().filter(|(key, _)| of_service(key));
    for ((_, address), server) in servers {
        if !list.iter().any(|listed| listed.address == *address) {
            server.last_weight = 0;
        }
    }
    let servers = &memory.servers;
    let seen = list.iter().filter_map(|listed| {
        let server = servers.get(&(key, listed.address))?;
        Some(seen(listed.address, server))
    });
    let seen: Vec<_> = seen.collect();
    if let Some(service) = memory.services.get_mut(&key) {
        service.schedule.set(settings.scheduler, list, &seen);
    }
}

/// Real servers behind routers are not among them: clients are behind the same routers. Nor are those of the
/// other family, in tunnels: what they send to the VIP, they send from an address that nobody knows.
fn hosts(key: ServiceKey, settings: &desired::Service) -> Vec<(Mac, IpAddr)> {
    let family = key.family();
    let is_of_family = |ip| family.is_none_or(|family| family == Family::of(ip));
    let servers = settings
        .servers
        .iter()
        .filter(|server| is_of_family(server.address.ip()))
        .filter_map(|server| match server.reach {
            Some(Reach::Direct {
                mac, on_link: true, ..
            }) => Some((mac, server.address.ip())),
            Some(Reach::Direct { .. } | Reach::Local) | None => None,
        });
    let peers = settings.peers.iter().map(|(ip, mac)| (*mac, *ip));
    servers.chain(peers).collect()
}
