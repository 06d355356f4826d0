//! [`Desired`] from configuration, ownership, health and network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use xdp_lb_common::addr::Mac;

use super::belongings::{Belonging, Silence, virtual_links, virtual_name};
use super::carriers::{Peers, lease, peer_addresses, peers, virtual_mac};
use super::desired::{Desired, Method, OwnedAddress, Port, Reach, Server, Service};
use super::groups;
use super::installed::ServerKey;
use super::interfaces::{Sort, refusal};
use super::pool::{Member, Memberships};
use super::routing;
use super::vlans::networks;
use crate::config::model::{
    self as config, Config, Preferred, RealServer, ServiceKey, VirtualAddress, VrrpInstance,
};
use crate::health::Weighing;
use crate::machine::Now;

/// The largest weight, of keepalived and of IPVS.
const MAX_WEIGHT: i64 = i32::MAX as i64;

/// All that decides what the tables hold.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// What the file says.
    pub config: &'a Config,
    /// Which VRRP instances this director is MASTER for.
    pub ownership: &'a Ownership,
    /// Who is in the pool of each service.
    pub pools: &'a Memberships,
    /// Links, and the way to each real server.
    pub network: &'a Network,
    /// Names of the interfaces that the program is attached to. A port that merely leads to a real
    /// server is added by itself.
    pub attached: &'a BTreeSet<String>,
    /// Other directors that were heard.
    pub peers: &'a Peers,
}

/// What the tables and the links must hold.
pub fn desired(inputs: &Inputs<'_>) -> Desired {
    let members = inputs.config.members();
    let services: BTreeMap<_, _> = members
        .map(|member| (member.key, service(&member, inputs)))
        .collect();
    Desired {
        ports: ports(&services, inputs),
        services,
        addresses: owned_addresses(inputs.config, inputs.ownership, inputs.network),
        belongings: belongings(inputs.config, inputs.ownership, inputs.network),
    }
}

/// What the tables must hold of these virtual servers alone: what [`desired`] says of them.
pub fn desired_services(
    pools: &BTreeSet<ServiceKey>,
    inputs: &Inputs<'_>,
) -> BTreeMap<ServiceKey, Service> {
    let members = inputs.config.members();
    let wanted = members.filter(|member| pools.contains(&member.service.key()));
    wanted
        .map(|member| (member.key, service(&member, inputs)))
        .collect()
}

/// What the tables know of servers, by the pools that they are in: one that failed in one service of a
/// group failed.
pub fn by_pool(config: &Config, servers: &BTreeMap<ServerKey, bool>) -> BTreeMap<ServerKey, bool> {
    let names = Names::of(config);
    let mut known = BTreeMap::new();
    for (server, serving) in servers {
        *known.entry(names.in_pool(server)).or_insert(true) &= serving;
    }
    known
}

/// What the servers of the tables are called in their pools.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Services of groups, and their virtual servers.
    pools: BTreeMap<ServiceKey, ServiceKey>,
    servers: BTreeMap<ServerKey, SocketAddr>,
}

impl Names {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        let mut names = Self::default();
        for member in config.members() {
            let pool = member.service.key();
            if pool != member.key {
                names.pools.insert(member.key, pool);
                let servers = member.configured();
                let servers =
                    servers.map(|address| ((member.key, member.server(address)), address));
                names.servers.extend(servers);
            }
        }
        names
    }

    /// The name of a server that the file may not have any more.
    pub fn in_pool(&self, server: &ServerKey) -> ServerKey {
        let (service, address) = server;
        let pool = self.pools.get(service).unwrap_or(service);
        (*pool, *self.servers.get(server).unwrap_or(address))
    }
}

/// The virtual servers with real servers on which the verdict is another one; `None` if these are not the same
/// servers.
pub fn differing(old: &Health, new: &Health) -> Option<BTreeSet<ServiceKey>> {
    if old.len() != new.len() {
        return None;
    }
    let mut differing = BTreeSet::new();
    for ((old_server, old), (server, new)) in old.iter().zip(new) {
        if old_server != server {
            return None;
        }
        if old != new {
            differing.insert(server.0);
        }
    }
    Some(differing)
}

/// The interfaces to attach to when nobody named any: those of the VRRP instances, and those that
/// lead to a real server as far as that is known. With nothing to balance, an instance may run on one that
/// the program would see nothing on.
pub fn default_interfaces(config: &Config, network: &Network) -> BTreeSet<String> {
    let has_services = config.services().next().is_some();
    let is_useless = |name: &str| {
        let link = network.links.get(name);
        link.is_some_and(|link| refusal(name, link.sort).is_some())
    };
    let vrrp = config.vrrp_instances.iter().map(|i| i.interface.clone());
    let vrrp = vrrp.filter(|name| has_services || !is_useless(name));
    let leading = real_server_addresses(config)
        .into_iter()
        .filter_map(
            |ip| match below(*network.reach.get(&ip)?, config, network) {
                Reach::Direct { ifindex, .. } => network.link(ifindex),
                Reach::Local => None,
            },
        )
        .map(|(name, _)| name.to_owned());
    vrrp.chain(leading).collect()
}

/// The addresses whose MACs must be known: the real servers', and the other directors'.
pub fn resolved_addresses(config: &Config, heard: &Peers) -> BTreeSet<IpAddr> {
    let mut addresses = real_server_addresses(config);
    addresses.extend(peer_addresses(config, heard));
    addresses
}

/// The addresses of the real servers, and of those who take their place.
pub fn real_server_addresses(config: &Config) -> BTreeSet<IpAddr> {
    let services = config.services().map(|(_, service)| service);
    let servers = services.flat_map(|service| {
        let sorry = service.sorry_server.map(|sorry| sorry.address);
        let servers = service.real_servers.iter().map(|server| server.address);
        servers.chain(sorry)
    });
    servers.map(|address| address.ip()).collect()
}

fn service(member: &config::Member<'_>, inputs: &Inputs<'_>) -> Service {
    let (key, server) = (member.key, member.service);
    let vips = inputs.config.vips(&key);
    let active: BTreeSet<_> = vips
        .iter()
        .copied()
        .filter(|vip| is_active(*vip, inputs))
        .collect();
    // Of several virtual IPs those are balanced that are here. Where none is the gate is closed, and the
    // index stays as it is, so that a director which becomes master has but to open it.
    let entrances = inputs.config.entrances(&key);
    let entrances =
        entrances.filter(|entrance| active.is_empty() || active.contains(&entrance.vip));
    let here = if active.is_empty() { &vips } else { &active };
    let vips = || here.iter().copied();
    Service {
        active: !active.is_empty(),
        lease: vips().filter_map(|vip| lease(vip, inputs.config)).min(),
        scheduler: server.scheduler,
        persistence: server.persistence,
        one_packet: server.one_packet,
        servers: servers(member, inputs),
        peers: vips().flat_map(|vip| peers(vip, inputs)).collect(),
        virtual_mac: vips().find_map(|vip| virtual_mac(vip, inputs)),
        entrances: entrances.collect(),
    }
}

/// Balanced here: no VRRP instance carries the VIP, or this director is MASTER for one that does.
fn is_active(vip: IpAddr, inputs: &Inputs<'_>) -> bool {
    let mut carriers = inputs
        .config
        .vrrp_instances
        .iter()
        .filter(|instance| carries(instance, vip))
        .peekable();
    carriers.peek().is_none() || carriers.any(|instance| is_owned(instance, inputs.ownership))
}

pub(super) fn carries(instance: &VrrpInstance, vip: IpAddr) -> bool {
    let mut addresses = moving(instance);
    addresses.any(|virtual_address| virtual_address.address.addr() == vip)
}

/// The addresses that move with an instance, those it advertises first.
fn moving(instance: &VrrpInstance) -> impl Iterator<Item = &VirtualAddress> {
    let advertised = instance.virtual_addresses.iter();
    advertised.chain(&instance.excluded_addresses)
}

pub(super) fn is_owned(instance: &VrrpInstance, ownership: &Ownership) -> bool {
    ownership.get(&instance.name).copied().unwrap_or(false)
}

fn servers(of: &config::Member<'_>, inputs: &Inputs<'_>) -> Vec<Server> {
    let membership = inputs.pools.get(&of.service.key());
    let members = membership.map_or(&[] as &[_], |pool| pool.members.as_slice());
    let reach = |address: SocketAddr| {
        let reach = inputs.network.reach.get(&address.ip()).copied();
        reach.map(|reach| below(reach, inputs.config, inputs.network))
    };
    let configured = of.service.real_servers.iter();
    let limits: BTreeMap<_, _> = configured
        .filter_map(|server| Some((server.address, server.limit?)))
        .collect();
    let server = |member: &Member| {
        let forwarding = method::forwarding(of.service, member.address);
        let reach = reach(member.address);
        // Without an address of its own on the way, the director has no way there.
        let method = method::of(forwarding, member.address.ip(), reach, inputs);
        Server {
            address: of.server(member.address),
            weight: member.weight,
            limit: limits.get(&member.address).copied(),
            serving: member.serving,
            releases_clients: member.releases_clients,
            method: method.unwrap_or(Method::Direct),
            reach: method.and(reach),
        }
    };
    let mut servers: Vec<Server> = members.iter().map(server).collect();
    if of.key != of.service.key() {
        // Two that differ in their ports alone may be one here: the first that was added counts.
        let mut seen = BTreeSet::new();
        servers.reverse();
        servers.retain(|server| seen.insert(server.address));
        servers.reverse();
    }
    servers
}

/// The way by the interface below, where the kernel's leads by one with a virtual MAC: frames that are
/// balanced leave by the port and with its own MAC. A switch learns the virtual one from the adverts of
/// the master only; frames of a director that has just lost would draw it back.
pub(super) fn below(reach: Reach, config: &Config, network: &Network) -> Reach {
    let Reach::Direct {
        ifindex,
        mac,
        on_link,
        ..
    } = reach
    else {
        return reach;
    };
    let base = network.link(ifindex).and_then(|(name, _)| {
        let mut instances = config.vrrp_instances.iter();
        let instance = instances.find(|instance| virtual_name(instance) == Some(name))?;
        network.links.get(&instance.interface)
    });
    base.map_or(reach, |link| Reach::Direct {
        ifindex: link.ifindex,
        source_mac: link.mac,
        mac,
        on_link,
    })
}

/// A server that nobody has judged lives only if nothing checks it.
pub(super) fn verdict(key: ServiceKey, server: &RealServer, health: &Health) -> ServerHealth {
    let unjudged = ServerHealth {
        up: server.checks.is_empty(),
        ..ServerHealth::default()
    };
    let known = health.get(&(key, server.address)).cloned();
    known.unwrap_or(unjudged)
}

/// Interfaces that packets come in by, and those they leave by.
fn ports(services: &BTreeMap<ServiceKey, Service>, inputs: &Inputs<'_>) -> BTreeMap<u32, Port> {
    let links = inputs.network.links.values();
    let mtus: BTreeMap<_, _> = links.map(|link| (link.ifindex, link.mtu)).collect();
    let attached = inputs.attached.iter().filter_map(|name| {
        let link = inputs.network.links.get(name)?;
        let port = Port {
            mac: link.mac,
            mtu: link.mtu,
            vlan: None,
        };
        Some((link.ifindex, port))
    });
    let leading = services
        .values()
        .flat_map(|service| &service.servers)
        .filter_map(|server| match server.reach? {
            Reach::Direct {
                ifindex,
                source_mac,
                ..
            } => {
                let port = Port {
                    mac: source_mac,
                    mtu: mtus.get(&ifindex).copied().unwrap_or_default(),
                    vlan: None,
                };
                Some((ifindex, port))
            }
            Reach::Local => None,
        });
    let networks = networks(inputs.network, inputs.attached);
    leading.chain(networks).chain(attached).collect()
}

/// The VIPs of the instances this director is MASTER for, and static addresses, on the interfaces that
/// exist.
pub fn owned_addresses(
    config: &Config,
    ownership: &Ownership,
    network: &Network,
) -> BTreeSet<OwnedAddress> {
    let instances = config.vrrp_instances.iter();
    let owned = instances.filter(|instance| is_owned(instance, ownership));
    let static_ones = config.static_addresses.iter();
    let static_ones = static_ones.filter_map(|own| {
        let device = own.address.device.as_deref()?;
        on(&own.address, device, network, Use::Own)
    });
    owned
        .flat_map(|instance| addresses_of(instance, network))
        .chain(static_ones)
        .collect()
}

/// What comes with the VIPs: interfaces and groups of every instance, the rest of those that are owned;
/// and static routes and rules.
pub fn belongings(config: &Config, ownership: &Ownership, network: &Network) -> Vec<Belonging> {
    let links = virtual_links(config, network).into_iter();
    let mut belongings: Vec<_> = links.map(Belonging::Link).collect();
    let instances = config.vrrp_instances.iter();
    let owned = instances.filter(|instance| is_owned(instance, ownership));
    let silences = owned.clone().filter_map(|own| silence(own, network));
    let others = owned.flat_map(|instance| routing::of_instance(instance, network));
    let others = routing::static_ones(config, network)
        .into_iter()
        .chain(others);
    let groups = groups::neighbours(config, network).into_iter();
    let others = others.chain(groups.map(Belonging::Group));
    for other in silences.map(Belonging::Silence).chain(others) {
        if !belongings.contains(&other) {
            belongings.push(other);
        }
    }
    belongings
}

/// The VIPs of an instance that takes no packets to them.
fn silence(instance: &VrrpInstance, network: &Network) -> Option<Silence> {
    let takes_them = instance.accept || instance.priority == VrrpInstance::OWNER_PRIORITY;
    let addresses = addresses_of(instance, network).into_iter();
    let addresses: BTreeSet<_> = addresses
        .map(|vip| (vip.address.addr(), vip.ifindex))
        .collect();
    (!takes_them && !addresses.is_empty()).then_some(Silence { addresses })
}

/// What moves with an instance, whoever owns it now, as far as its interfaces exist; in the order of
/// the file.
pub fn addresses_of(instance: &VrrpInstance, network: &Network) -> Vec<OwnedAddress> {
    let own = virtual_name(instance).unwrap_or(&instance.interface);
    let placed = |vip: &VirtualAddress| {
        let device = vip.device.as_deref().unwrap_or(own);
        on(vip, device, network, Use::Virtual)
    };
    moving(instance).filter_map(placed).collect()
}

/// Whose address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// This host's.
    Own,
    /// That of whoever is master.
    Virtual,
}

fn on(own: &VirtualAddress, device: &str, network: &Network, is: Use) -> Option<OwnedAddress> {
    Some(OwnedAddress {
        label: own.label.clone(),
        broadcast: own.broadcast,
        scope: own.scope,
        peer: own.peer,
        preferred_s: preferred(own, is),
        detect_duplicates: own.flags.no_dad,
        no_prefix_route: own.flags.noprefixroute,
        home: own.flags.home,
        manage_temporary: own.flags.mngtmpaddr,
        auto_join: own.flags.autojoin,
        ..OwnedAddress::new(network.links.get(device)?.ifindex, own.address)
    })
}

/// Of the addresses of a prefix the kernel chooses the newest: that would be the VIP for all that this
/// host sends, and real servers that have it on `lo` would answer to themselves. Keepalived minds only
/// what is alone in its prefix.
fn preferred(own: &VirtualAddress, is: Use) -> u32 {
    let is_alone = own.address.prefix_len() == own.address.max_prefix_len();
    match own.preferred {
        _ if own.address.addr().is_ipv4() => OwnedAddress::FOREVER,
        Preferred::Seconds(seconds) => seconds,
        Preferred::ByLength if is == Use::Virtual || is_alone => 0,
        Preferred::ByLength | Preferred::Forever => OwnedAddress::FOREVER,
    }
}

/// An interface as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// MAC, zero for an interface that has none.
    pub mac: Mac,
    /// The longest IP packet that it carries, octets.
    pub mtu: u32,
    /// Administratively up with carrier.
    pub up: bool,
    /// What it is made of.
    pub sort: Sort,
}

/// What the network looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Interfaces by name.
    pub links: BTreeMap<String, Link>,
    /// How each real server's address is reached; missing while it is not known.
    pub reach: BTreeMap<IpAddr, Reach>,
    /// The addresses of each interface, by its index, in the kernel's order: the first one is where
    /// packets leave from.
    pub addresses: BTreeMap<u32, Vec<IpNet>>,
    /// Grows with each route or rule of keepalived's protocol number that goes.
    pub strayed: u64,
}

impl Network {
    /// An interface, and its name, by its index.
    pub fn link(&self, ifindex: u32) -> Option<(&str, &Link)> {
        let mut links = self.links.iter();
        let (name, link) = links.find(|(_, link)| link.ifindex == ifindex)?;
        Some((name, link))
    }

    /// Whether a VIP stands on its interface.
    pub fn has(&self, vip: &OwnedAddress) -> bool {
        let there = self.addresses.get(&vip.ifindex);
        there.is_some_and(|addresses| addresses.contains(&vip.address))
    }
}

/// Which VRRP instances this director is MASTER for, by name.
pub type Ownership = BTreeMap<String, bool>;

/// The verdict on a real server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHealth {
    /// Its checks pass.
    pub up: bool,
    /// Rises each time any server comes back: the later, the nearer to the head of IPVS's list.
    pub joined: u64,
    /// When it went up or down, by the clock of the health checks.
    pub since: Now,
    /// What all of its checks together make of its weight; `None`: nothing.
    pub weighing: Option<Weighing>,
    /// Why it is down, in words; `None` while it is up, and of one that nothing was checked of yet.
    pub reason: Option<Arc<str>>,
}

impl ServerHealth {
    /// The weight in force, of one that is configured; at most what IPVS takes. Less than nothing is 0:
    /// the server keeps its connections and takes no new ones.
    pub fn weight(&self, configured: u32) -> u32 {
        let weight = match self.weighing {
            None => i64::from(configured),
            Some(Weighing::Set(weight)) => i64::from(weight),
            Some(Weighing::Add(more)) => i64::from(configured).saturating_add(more),
        };
        // It lies between 0 and what fits.
        u32::try_from(weight.clamp(0, MAX_WEIGHT)).unwrap_or_default()
    }
}

/// The verdicts on all real servers, by their pools.
pub type Health = BTreeMap<(ServiceKey, SocketAddr), ServerHealth>;

mod method;

#[cfg(test)]
mod tests;
