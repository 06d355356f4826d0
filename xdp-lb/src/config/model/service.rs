//! Virtual services and their real servers.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::checker::Check;
use super::{Command, Endpoint, Forwarding, GroupName, Mark, Protocol, Scheduler, ServiceKey};

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
