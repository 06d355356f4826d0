//! The `xdp_lb` block.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::Endpoint;
use crate::sync::key::Secret;

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

/// What clients of a service without an eligible real server are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmptyPool {
    /// "Port unreachable", by ICMP, as with IPVS.
    #[default]
    Unreachable,
    /// A reset, of TCP; else as above.
    Reset,
    /// Nothing.
    Silent,
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
    /// `fail_static`: packets of a VIP are balanced on when the agent is dead for so long that another
    /// director may have taken over.
    pub fail_static: bool,
    /// `empty_pool`: what clients of a service without an eligible real server are told.
    pub empty_pool: EmptyPool,
    /// `drain_timeout`: longest time for which a server that left the file keeps its connections, whole
    /// seconds. By default as long as an idle one is remembered.
    pub drain_timeout: Duration,
    /// `fwmark`: where packets of each mark go to; and, of marks that the block does not name, where the
    /// rules of the firewall give them. No endpoint has two marks.
    pub marks: BTreeMap<u32, BTreeSet<Endpoint>>,
    /// `sync`: state sync with the other directors.
    pub sync: Option<StateSync>,
}

/// `sync`: the directors of a cluster tell each other of their connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateSync {
    /// `peer`: the other directors; none: those that are found on the group of `lvs_sync_daemon`.
    pub peers: Vec<SocketAddr>,
    /// `key` or `key_file`.
    pub key: SyncKey,
    /// `interface`.
    pub interface: Option<String>,
    /// `port`.
    pub port: Option<u16>,
    /// `maxlen`: the longest datagram, bytes.
    pub max_length: Option<u16>,
    /// `wait`: how long a director that returns leaves a worse master alone at most, whole seconds.
    pub wait: Duration,
}

/// The secret of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncKey {
    /// `key`.
    Text(Secret),
    /// `key_file`.
    File(PathBuf),
}

impl StateSync {
    /// The UDP port of state sync, and of IPVS's sync daemon.
    pub const PORT: u16 = 8848;
    /// The group of IPVS's sync daemon, where directors that are not named are found.
    pub const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
    /// The longest datagram by default, bytes: it fits into an Ethernet frame with headers to spare.
    pub const MAX_LENGTH: u16 = 1400;
    /// `wait` by default.
    pub const WAIT: Duration = Duration::from_secs(30);
}

impl Default for XdpLb {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            xdp_mode: XdpMode::Auto,
            metrics: SocketAddr::from(([127, 0, 0, 1], 9165)),
            connections: xdp_lb_common::limits::DEFAULT_CONNECTIONS,
            fail_static: false,
            empty_pool: EmptyPool::default(),
            drain_timeout: Duration::from_mins(15),
            marks: BTreeMap::new(),
            sync: None,
        }
    }
}
