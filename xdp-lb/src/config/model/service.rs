//! Virtual services and their real servers.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::checker::Check;
use super::{
    Command, Config, Endpoint, Forwarding, GroupName, Mark, Protocol, Scheduler, ServiceKey,
};

impl Config {
    /// The virtual servers by their keys, in the order of the file.
    pub fn services(&self) -> impl Iterator<Item = (ServiceKey, &VirtualServer)> {
        let services = self.virtual_servers.iter();
        services.map(|service| (service.key(), service))
    }

    /// The services of the tables, in the order of the file. Of those that two groups have, or a group
    /// and a virtual server, the first counts.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let mut services = self.virtual_servers.iter();
        let is_group = |service: &VirtualServer| matches!(service.frontend, Frontend::Group { .. });
        let may_overlap = services.any(is_group);
        let mut seen = BTreeSet::new();
        let members = self.virtual_servers.iter().flat_map(|service| {
            let member = move |key| Member { key, service };
            service.members().map(member)
        });
        members.filter(move |member| !may_overlap || seen.insert(member.key))
    }

    /// Where packets get their marks for a service by mark; none for any other.
    pub fn entrances<'a>(&'a self, key: &ServiceKey) -> impl Iterator<Item = Endpoint> + use<'a> {
        let mark = match key {
            ServiceKey::Mark(mark) => Some(*mark),
            ServiceKey::Endpoint(_) | ServiceKey::Group { .. } => None,
        };
        let all = mark.and_then(|mark| Some((mark, self.xdp_lb.marks.get(&mark.mark)?)));
        all.into_iter().flat_map(|(mark, endpoints)| {
            let endpoints = endpoints.iter().copied();
            endpoints.filter(move |endpoint| Family::of(endpoint.vip) == mark.family)
        })
    }

    /// The virtual IPs of a service of the tables, each once.
    pub fn vips(&self, key: &ServiceKey) -> BTreeSet<IpAddr> {
        let own = match key {
            ServiceKey::Endpoint(endpoint) => Some(endpoint.vip),
            ServiceKey::Mark(_) | ServiceKey::Group { .. } => None,
        };
        let entrances = self.entrances(key).map(|endpoint| endpoint.vip);
        own.into_iter().chain(entrances).collect()
    }
}

/// A service of the tables.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its key, which is not that of a group.
    pub key: ServiceKey,
    /// The virtual server that it belongs to.
    pub service: &'a VirtualServer,
}

impl Member<'_> {
    /// What a server of the pool is called in this service. Without address translation all have the port
    /// that packets come to, as keepalived adds them.
    pub fn server(&self, address: SocketAddr) -> SocketAddr {
        if self.key == self.service.key() {
            return address;
        }
        let mut servers = self.service.real_servers.iter();
        let own = servers.find(|server| server.address == address);
        let sorry = self.service.sorry_server.as_ref();
        let sorry = sorry.filter(|sorry| sorry.address.ip() == address.ip());
        let forwarding = own
            .map(|server| server.forwarding)
            .or_else(|| sorry.map(|sorry| sorry.forwarding))
            .unwrap_or(self.service.forwarding);
        if forwarding.changes_ports() && address.port() != 0 {
            address
        } else {
            SocketAddr::new(address.ip(), self.key.port())
        }
    }

    /// Addresses of the servers that the file has for its pool.
    pub fn configured(&self) -> impl Iterator<Item = SocketAddr> {
        let servers = self.service.real_servers.iter();
        let sorry = self.service.sorry_server.as_ref();
        let servers = servers.map(|server| server.address);
        servers.chain(sorry.map(|sorry| sorry.address))
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4, `inet`.
    V4,
    /// IPv6, `inet6`.
    V6,
}

impl Family {
    /// Of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `inet` or `inet6`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "inet",
            Self::V6 => "inet6",
        }
    }

    /// Bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Which packets a virtual server balances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frontend {
    /// `virtual_server ADDRESS [PORT]`.
    Endpoint(Endpoint),
    /// `virtual_server fwmark N`: packets that the firewall marked, of any protocol. Their family is
    /// `ip_family`, by default that of the real servers.
    Mark(Mark),
    /// `virtual_server group NAME`.
    Group {
        /// Its addresses.
        group: Arc<ServiceGroup>,
        /// Protocol of those that have addresses.
        protocol: Protocol,
    },
}

/// `virtual_server_group`: addresses and marks that share a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceGroup {
    /// Its name.
    pub name: GroupName,
    /// Its lines, in order; at least one.
    pub members: Vec<GroupMember>,
}

impl ServiceGroup {
    /// The family of all members that have one, if they agree.
    pub fn family(&self) -> Option<Family> {
        let mut families = self.members.iter().filter_map(|member| match member {
            GroupMember::Addresses { first, .. } => Some(Family::of(*first)),
            GroupMember::Mark { family, .. } => *family,
        });
        let family = families.next()?;
        families.all(|other| other == family).then_some(family)
    }
}

impl GroupMember {
    /// How many services it is.
    pub const fn count(&self) -> u128 {
        match self {
            Self::Addresses {
                first: IpAddr::V4(first),
                last: IpAddr::V4(last),
                ..
            } => last.to_bits().saturating_sub(first.to_bits()) as u128 + 1,
            Self::Addresses {
                first: IpAddr::V6(first),
                last: IpAddr::V6(last),
                ..
            } => last
                .to_bits()
                .saturating_sub(first.to_bits())
                .saturating_add(1),
            Self::Addresses { .. } | Self::Mark { .. } => 1,
        }
    }

    /// Its addresses; none of a mark. There may be very many of a configuration that is refused.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (v4, v6) = match *self {
            Self::Addresses {
                first: IpAddr::V4(first),
                last: IpAddr::V4(last),
                ..
            } => (Some(first.to_bits()..=last.to_bits()), None),
            Self::Addresses {
                first: IpAddr::V6(first),
                last: IpAddr::V6(last),
                ..
            } => (None, Some(first.to_bits()..=last.to_bits())),
            Self::Addresses { .. } | Self::Mark { .. } => (None, None),
        };
        let v4 = v4
            .into_iter()
            .flatten()
            .map(|bits| Ipv4Addr::from_bits(bits).into());
        let v6 = v6
            .into_iter()
            .flatten()
            .map(|bits| Ipv6Addr::from_bits(bits).into());
        v4.chain(v6)
    }
}

/// A line of a `virtual_server_group`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupMember {
    /// Addresses from `first` to `last`, both included, of one family.
    Addresses {
        /// The first, `10.0.0.1` of `10.0.0.1-20` and `10.0.0.0` of `10.0.0.0/24`.
        first: IpAddr,
        /// The last; the same for a single address.
        last: IpAddr,
        /// Port; 0 is any port.
        port: u16,
    },
    /// `fwmark N [inet|inet6]`.
    Mark {
        /// The mark.
        mark: u32,
        /// Its family; by default that of the addresses and real servers.
        family: Option<Family>,
    },
}

/// `persistence_timeout` and `persistence_granularity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// Life of an idle template, whole seconds, 1 s to 31 days.
    pub timeout: Duration,
    /// Prefix length that clients are grouped by, by default that of a whole address: 32 or 128. In a
    /// group of both families 128 is a whole address of either.
    pub prefix_len: u8,
}

/// `quorum` and `hysteresis`: the weight that must be up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// `quorum`, by default 1, at most the weight of all real servers (so 0 if that is 0).
    pub weight: u32,
    /// `hysteresis`: margin below which the quorum is not lost yet and above which it is regained.
    /// Below `weight`, or 0.
    pub hysteresis: u32,
    /// `quorum_up`: runs when the quorum is gained.
    pub up: Option<Command>,
    /// `quorum_down`: runs when the quorum is lost.
    pub down: Option<Command>,
}

impl Default for Quorum {
    fn default() -> Self {
        Self {
            weight: 1,
            hysteresis: 0,
            up: None,
            down: None,
        }
    }
}

/// `sorry_server`: takes the place of all real servers while the quorum is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SorryServer {
    /// Address, and port (0: the one that the client asked for).
    pub address: SocketAddr,
    /// `sorry_server_lvs_method`, by default that of the service.
    pub forwarding: Forwarding,
    /// `sorry_server_inhibit`: it stays in the pool with weight 0 while it is not needed.
    pub inhibit: bool,
}

/// A `virtual_server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// Which packets it balances; unique.
    pub frontend: Frontend,
    /// `lb_algo`.
    pub scheduler: Scheduler,
    /// `lb_kind`, for real servers that say nothing else.
    pub forwarding: Forwarding,
    /// Stickiness of clients.
    pub persistence: Option<Persistence>,
    /// `ops`: each datagram is scheduled by itself. Only of UDP and firewall marks.
    pub one_packet: bool,
    /// The weight that must be up.
    pub quorum: Quorum,
    /// Who serves when the quorum is lost.
    pub sorry_server: Option<SorryServer>,
    /// `omega`: the commands for down run also when the director stops.
    pub omega: bool,
    /// `ha_suspend`: no checks while the virtual IP is not on this director.
    pub ha_suspend: bool,
    /// `smtp_alert`: mail when the quorum is gained or lost; off by default.
    pub smtp_alert: bool,
    /// `expire_quiescent`: sticky clients of a server with weight 0 move with their next connection.
    pub expire_quiescent: bool,
    /// `real_server` blocks, in the order of the file; at least one, addresses are unique.
    pub real_servers: Vec<RealServer>,
}

impl Frontend {
    /// What names the virtual server.
    pub fn key(&self) -> ServiceKey {
        match self {
            Self::Endpoint(endpoint) => ServiceKey::Endpoint(*endpoint),
            Self::Mark(mark) => ServiceKey::Mark(*mark),
            Self::Group { group, protocol } => ServiceKey::Group {
                name: group.name,
                protocol: *protocol,
            },
        }
    }

    /// The family of its packets, unless they are of both.
    pub fn family(&self) -> Option<Family> {
        match self {
            Self::Endpoint(key) => Some(Family::of(key.vip)),
            Self::Mark(mark) => Some(mark.family),
            Self::Group { group, .. } => group.family(),
        }
    }
}

impl VirtualServer {
    /// A service without real servers in which nothing but these is set.
    pub fn new(frontend: Frontend, scheduler: Scheduler, forwarding: Forwarding) -> Self {
        Self {
            frontend,
            scheduler,
            forwarding,
            persistence: None,
            one_packet: false,
            quorum: Quorum::default(),
            sorry_server: None,
            omega: false,
            ha_suspend: false,
            smtp_alert: false,
            expire_quiescent: false,
            real_servers: Vec::new(),
        }
    }

    /// Its key.
    pub fn key(&self) -> ServiceKey {
        self.frontend.key()
    }

    /// The keys of the services of the tables that it stands for, in the order of the file.
    fn members(&self) -> impl Iterator<Item = ServiceKey> {
        let (own, group) = match &self.frontend {
            Frontend::Endpoint(_) | Frontend::Mark(_) => (Some(self.key()), None),
            Frontend::Group { group, protocol } => (None, Some((group, *protocol))),
        };
        let grouped = group.into_iter().flat_map(move |(group, protocol)| {
            let members = group.members.iter();
            members.flat_map(move |member| self.keys_of(member, group, protocol))
        });
        own.into_iter().chain(grouped)
    }

    fn keys_of(
        &self,
        member: &GroupMember,
        group: &ServiceGroup,
        protocol: Protocol,
    ) -> impl Iterator<Item = ServiceKey> + use<> {
        let (port, mark) = match member {
            GroupMember::Addresses { port, .. } => (*port, None),
            GroupMember::Mark { mark, family } => {
                let family = family.unwrap_or_else(|| self.family_of(group));
                let mark = Mark {
                    mark: *mark,
                    family,
                };
                (0, Some(ServiceKey::Mark(mark)))
            }
        };
        let endpoint = move |vip| {
            ServiceKey::Endpoint(Endpoint {
                vip,
                port,
                protocol,
            })
        };
        member.addresses().map(endpoint).chain(mark)
    }

    /// The family of a mark in `group`, its group, that says none: that of the addresses of the group,
    /// else of the real servers.
    pub fn family_of(&self, group: &ServiceGroup) -> Family {
        let of_servers = || {
            let first = self.real_servers.first();
            first.map_or(Family::V4, |server| Family::of(server.address.ip()))
        };
        group.family().unwrap_or_else(of_servers)
    }
}

/// `uthreshold` and `lthreshold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// `uthreshold`: with so many connections it takes no new ones.
    pub upper: NonZeroU32,
    /// `lthreshold`, at most `upper`: at so few it takes new ones again. 0 is three quarters of
    /// `upper`.
    pub lower: u32,
}

/// A `real_server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// Address and port. Without address translation the port is that of the virtual service.
    pub address: SocketAddr,
    /// `weight`, 0 to 2147483647.
    pub weight: u32,
    /// `lvs_method`, by default `lb_kind` of the service.
    pub forwarding: Forwarding,
    /// Most connections.
    pub limit: Option<ConnectionLimit>,
    /// `inhibit_on_failure`: a failed server stays in the pool with weight 0.
    pub inhibit_on_failure: bool,
    /// `slow_start`: time in which a server that comes up grows to its full weight.
    pub slow_start: Option<Duration>,
    /// `notify_up`: runs when it goes up.
    pub notify_up: Option<Command>,
    /// `notify_down`: runs when it goes down.
    pub notify_down: Option<Command>,
    /// `smtp_alert`: mail when it goes up or down; on by default.
    pub smtp_alert: bool,
    /// Its health checks: all must pass. None: always up.
    pub checks: Vec<Check>,
}

impl RealServer {
    /// A server without checks in which nothing but these is set.
    pub const fn new(address: SocketAddr, forwarding: Forwarding) -> Self {
        Self {
            address,
            weight: 1,
            forwarding,
            limit: None,
            inhibit_on_failure: false,
            slow_start: None,
            notify_up: None,
            notify_down: None,
            smtp_alert: true,
            checks: Vec::new(),
        }
    }
}
