//! [`Desired`] from configuration, ownership, health and network.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use xdp_lb_common::addr::Mac;

use super::desired::Reach;
use crate::config::model::ServiceKey;

/// An interface as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// MAC, zero for an interface that has none.
    pub mac: Mac,
    /// Administratively up with carrier.
    pub up: bool,
}

/// What the network looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Interfaces by name.
    pub links: BTreeMap<String, Link>,
    /// How each real server's address is reached; missing while it is not known.
    pub reach: BTreeMap<IpAddr, Reach>,
}

/// Which VRRP instances this director is MASTER for, by name.
pub type Ownership = BTreeMap<String, bool>;

/// The verdict on a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerHealth {
    /// Its checks pass.
    pub up: bool,
    /// Rises each time any server comes back: the later, the nearer to the head of IPVS's list.
    pub joined: u64,
}

/// The verdicts on all real servers.
pub type Health = BTreeMap<(ServiceKey, SocketAddr), ServerHealth>;
