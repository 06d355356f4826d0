//! The `xdp_lb` block.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::Endpoint;

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
    /// `fail_static`: packets of a VIP are balanced on when the agent is dead for so long that another
    /// director may have taken over.
    pub fail_static: bool,
    /// `drain_timeout`: longest time for which a server that left the file keeps its connections, whole
    /// seconds. By default as long as an idle one is remembered.
    pub drain_timeout: Duration,
    /// `fwmark`: where packets of each mark go to; and, of marks that the block does not name, where the
    /// rules of the firewall give them. No endpoint has two marks.
    pub marks: BTreeMap<u32, BTreeSet<Endpoint>>,
}

impl Default for XdpLb {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            xdp_mode: XdpMode::Auto,
            metrics: SocketAddr::from(([127, 0, 0, 1], 9165)),
            connections: xdp_lb_common::limits::DEFAULT_CONNECTIONS,
            fail_static: false,
            drain_timeout: Duration::from_mins(15),
            marks: BTreeMap::new(),
        }
    }
}
