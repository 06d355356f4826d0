//! Virtual services and their real servers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::checker::Check;

/// What names a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Virtual IP.
    pub vip: IpAddr,
    /// Port; 0 is any port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl std::fmt::Display for ServiceKey {
    /// `tcp/192.168.1.200:80`, the value of the metric label `service`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{}",
            self.protocol.name(),
            SocketAddr::new(self.vip, self.port)
        )
    }
}

/// `protocol` of a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => xdp_lb_common::addr::TCP,
            Self::Udp => xdp_lb_common::addr::UDP,
        }
    }
}

/// `lb_algo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheduler {
    /// Round robin.
    RoundRobin,
    /// Weighted round robin.
    WeightedRoundRobin,
}

impl Scheduler {
    /// The name IPVS has for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
        }
    }
}

/// `lb_kind`. Only direct routing exists yet; a file that asks for another is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// `DR`: only MAC addresses change.
    DirectRouting,
}

/// `persistence_timeout` and `persistence_granularity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Persistence {
    /// Life of an idle template, whole seconds, 1 s to 31 days.
    pub timeout: Duration,
    /// Prefix length that clients are grouped by.
    pub prefix_len: u8,
}

/// A `virtual_server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// Address, port and protocol.
    pub key: ServiceKey,
    /// `lb_algo`.
    pub scheduler: Scheduler,
    /// `lb_kind`.
    pub forwarding: Forwarding,
    /// Stickiness of clients.
    pub persistence: Option<Persistence>,
    /// `real_server` blocks, in the order of the file; addresses are unique.
    pub real_servers: Vec<RealServer>,
}

/// A `real_server`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RealServer {
    /// Address, and the port of the virtual service (direct routing cannot change it).
    pub address: SocketAddr,
    /// `weight`.
    pub weight: u32,
    /// Its health checks: all must pass. None: always up.
    pub checks: Vec<Check>,
}
