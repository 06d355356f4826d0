//! What a keepalived.conf means, after every check: nothing here can be an invalid configuration.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `global_defs`: `router_id`.
    pub router_id: Option<String>,
    /// `vrrp_instance` blocks, in the order of the file; names are unique.
    pub vrrp_instances: Vec<VrrpInstance>,
    /// `virtual_server` blocks, in the order of the file; keys are unique.
    pub virtual_servers: Vec<VirtualServer>,
    /// The `xdp_lb` block.
    pub xdp_lb: XdpLb,
}

/// A `vrrp_instance`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrrpInstance {
    /// Its name.
    pub name: String,
    /// `state`: the state it wishes to start in.
    pub initial_state: InitialState,
    /// `interface`.
    pub interface: String,
    /// `virtual_router_id`, 1 to 255.
    pub virtual_router_id: u8,
    /// `priority`, 1 to 255.
    pub priority: u8,
    /// `virtual_ipaddress`, in the order of the file.
    pub virtual_addresses: Vec<VirtualAddress>,
}

/// `state` of a `vrrp_instance`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialState {
    /// `MASTER`.
    Master,
    /// `BACKUP`, also when the keyword is missing.
    Backup,
}

/// A line of `virtual_ipaddress`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualAddress {
    /// Address and prefix length (/32 or /128 when the file has none).
    pub address: IpNet,
    /// `dev`; the instance's interface when `None`.
    pub device: Option<String>,
    /// `label`, at most 15 characters, IPv4 only.
    pub label: Option<String>,
    /// `brd`: a broadcast address, IPv4 only.
    pub broadcast: Option<std::net::Ipv4Addr>,
    /// `scope`, as rtnetlink numbers it (0 is global).
    pub scope: u8,
}

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

/// A health check of a real server, with every inherited value filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is probed.
    pub probe: Probe,
    /// `delay_loop`: time from one check to the next.
    pub delay_loop: Duration,
    /// `retry`: further failures in a row that are needed after the first.
    pub retry: u32,
    /// `delay_before_retry`: time from a failed check to the retry.
    pub delay_before_retry: Duration,
    /// `warmup`: the first check starts at a random moment within this time.
    pub warmup: Duration,
}

/// What a health check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `TCP_CHECK`: a connection is established.
    Tcp(TcpProbe),
}

/// `TCP_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProbe {
    /// `connect_ip` and `connect_port`, by default those of the real server.
    pub target: SocketAddr,
    /// `bindto` and `bind_port`.
    pub source: Option<SocketAddr>,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
}

/// How the XDP program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver if it can, else generic, with a warning.
    #[default]
    Auto,
    /// In the driver only.
    Native,
    /// In the stack.
    Generic,
}

/// The `xdp_lb` block: our own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XdpLb {
    /// `interface`: interfaces to attach to; by default those of the VRRP instances and those that
    /// lead to real servers.
    pub interfaces: Vec<String>,
    /// `xdp_mode`.
    pub xdp_mode: XdpMode,
    /// `metrics`: where Prometheus scrapes.
    pub metrics: SocketAddr,
    /// `connections`: entries the connection table is made for.
    pub connections: u32,
}

impl Default for XdpLb {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            xdp_mode: XdpMode::Auto,
            metrics: SocketAddr::from(([127, 0, 0, 1], 9165)),
            connections: xdp_lb_common::limits::DEFAULT_CONNECTIONS,
        }
    }
}

/// Where a configuration was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file named on the command line.
    pub path: PathBuf,
}
