//! What the data plane and the links must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use xdp_lb_common::addr::Mac;
use xdp_lb_common::vlan::Tags;

use super::belongings::Belonging;
use crate::config::model::{ConnectionLimit, Endpoint, Persistence, Scheduler, ServiceKey, Tunnel};

/// Everything, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Interfaces that the program receives on or sends out of, by interface index.
    pub ports: BTreeMap<u32, Port>,
    /// Virtual services; of a group its members.
    pub services: BTreeMap<ServiceKey, Service>,
    /// VIPs this director owns.
    pub addresses: BTreeSet<OwnedAddress>,
    /// What comes with them, in the order it is put in place: interfaces, routes, rules.
    pub belongings: Vec<Belonging>,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its MAC.
    pub mac: Mac,
    /// The longest IP packet that it carries, octets; 0 if that is not known.
    pub mtu: u32,
    /// The VLAN that it is, if frames of that come in by an interface which the program is on.
    pub vlan: Option<Vlan>,
}

/// A network behind an interface that carries several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Index of the interface that carries it.
    pub parent: u32,
    /// The tags of its frames there.
    pub tags: Tags,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Whether its packets are balanced here now.
    pub active: bool,
    /// How long it is, once the agent gives no sign of life; `None`: until somebody says otherwise.
    pub lease: Option<Duration>,
    /// How new connections are placed.
    pub scheduler: Scheduler,
    /// Stickiness of clients.
    pub persistence: Option<Persistence>,
    /// Each datagram is scheduled by itself and makes no connection.
    pub one_packet: bool,
    /// Real servers in IPVS's list order: the last added first. A server that failed and came back
    /// was added anew, as keepalived does.
    pub servers: Vec<Server>,
    /// The other directors of its VIP on the links of this one: they may have balanced a frame already.
    pub peers: BTreeMap<IpAddr, Mac>,
    /// The virtual MAC of its VIP: frames to it are for this director, too.
    pub virtual_mac: Option<Mac>,
    /// What gets its firewall mark, of a service by mark; else nothing: then its key says it.
    pub entrances: BTreeSet<Endpoint>,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Address and port.
    pub address: SocketAddr,
    /// Weight in force.
    pub weight: u32,
    /// Most connections.
    pub limit: Option<ConnectionLimit>,
    /// Its health checks pass. Turning false purges its flows and templates.
    pub serving: bool,
    /// Sticky clients go elsewhere with their next connection: its templates are void, its flows not.
    pub releases_clients: bool,
    /// What is changed in packets to it.
    pub method: Method,
    /// How frames get there; `None` while its MAC is not known: no new connections then.
    pub reach: Option<Reach>,
}

impl Server {
    /// Whether new connections may be placed on it.
    pub fn is_eligible(&self) -> bool {
        self.serving && self.weight > 0 && self.reach.is_some()
    }

    /// Whether IPVS would have it in its list. One that takes no new connections and is to lose its sticky
    /// clients left the file, or made room for the sorry server: there it is removed, and what it was for
    /// schedulers that hash, or where they stood, goes to the others.
    pub const fn is_listed(&self) -> bool {
        self.weight > 0 || !self.releases_clients
    }

    /// The index of the interface that its frames leave by, if they do and that is known.
    pub fn port(&self) -> Option<u32> {
        match self.reach? {
            Reach::Direct { ifindex, .. } => Some(ifindex),
            Reach::Local => None,
        }
    }
}

/// What is changed in packets to a real server, beside their MACs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing.
    Direct,
    /// They get another header, from this address of the director, of the real server's family.
    Tunnel(Tunnel, IpAddr),
    /// Its address and port take the place of the service's.
    Nat,
}

/// How frames get to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// It is this director.
    Local,
    /// On the link of an interface, or behind a router there.
    Direct {
        /// Interface index.
        ifindex: u32,
        /// MAC of the interface.
        source_mac: Mac,
        /// MAC of the server, or of the router.
        mac: Mac,
        /// The MAC is the server's own, not a router's.
        on_link: bool,
    },
}

/// A VIP on an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedAddress {
    /// Interface index.
    pub ifindex: u32,
    /// Address and prefix length.
    pub address: IpNet,
    /// `label`.
    pub label: Option<String>,
    /// `brd`.
    pub broadcast: Option<std::net::Ipv4Addr>,
    /// Scope, as rtnetlink numbers it.
    pub scope: u8,
    /// `peer`: the other end of a point-to-point link. The prefix length is the peer's.
    pub peer: Option<IpAddr>,
    /// How long the kernel may choose an IPv6 address for connections that this host makes, seconds: 0
    /// is never while there is another one, [`FOREVER`](Self::FOREVER) always. It does not ask of IPv4.
    pub preferred_s: u32,
    /// `-nodad`: IPv6 duplicate address detection delays its use. Without it there is none: a VIP has
    /// just left another host, and would be unusable for a second.
    pub detect_duplicates: bool,
    /// `noprefixroute`: no route to its prefix comes with it.
    pub no_prefix_route: bool,
    /// `home`: IPv6, a home address in the sense of mobile IP.
    pub home: bool,
    /// `mngtmpaddr`: IPv6, the kernel makes temporary addresses from it.
    pub manage_temporary: bool,
    /// `autojoin`: a multicast address that is joined.
    pub auto_join: bool,
}

impl OwnedAddress {
    /// [`preferred_s`](Self::preferred_s) without an end, as the kernel has it.
    pub const FOREVER: u32 = u32::MAX;

    /// An address without anything else.
    pub const fn new(ifindex: u32, address: IpNet) -> Self {
        Self {
            ifindex,
            address,
            label: None,
            broadcast: None,
            scope: 0,
            peer: None,
            preferred_s: Self::FOREVER,
            detect_duplicates: false,
            no_prefix_route: false,
            home: false,
            manage_temporary: false,
            auto_join: false,
        }
    }
}
