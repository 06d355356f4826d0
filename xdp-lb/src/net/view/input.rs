//! What the view is told, and what it asks for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use xdp_lb_common::addr::Mac;

use crate::plan::interfaces::Sort;

/// A neighbour that frames are handed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hop {
    /// Interface it is on.
    pub ifindex: u32,
    /// Its address there.
    pub address: IpAddr,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Interface index.
    pub ifindex: u32,
    /// Name.
    pub name: String,
    /// MAC; zero if it has none.
    pub mac: Mac,
    /// The longest IP packet that it carries, octets.
    pub mtu: u32,
    /// Administratively up with carrier.
    pub up: bool,
    /// What it is made of.
    pub sort: Sort,
}

/// How far the kernel is with a neighbour: its `NUD_` states as far as they differ for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// NONE, INCOMPLETE, or not in the table.
    Pending,
    /// REACHABLE or DELAY: known, and the kernel looks after it.
    Known,
    /// PROBE: known, and being checked.
    Probing,
    /// STALE: usable, and nobody looks after it.
    Stale,
    /// FAILED.
    Failed,
    /// PERMANENT or NOARP: not for us to touch.
    Fixed,
}

/// An entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// How far the kernel is.
    pub resolution: Resolution,
    /// The MAC the kernel has for it.
    pub mac: Option<Mac>,
}

/// The kernel's answer to a route look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Delivered on this host.
    Local,
    /// Handed to a neighbour: the target itself or a gateway.
    Via(Hop),
    /// No way there.
    None,
}

/// What the kernel or the agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The addresses whose [`Reach`](crate::plan::desired::Reach) is wanted.
    Targets(BTreeSet<IpAddr>),
    /// Everything anew, after the start or after notifications were lost.
    Snapshot(Snapshot),
    /// An interface is there, or changed.
    Link(Interface),
    /// An interface is gone.
    LinkGone(u32),
    /// This host has an address, on the interface of that index.
    Address(u32, IpNet),
    /// This host has it no more.
    AddressGone(u32, IpNet),
    /// An entry of the neighbour table is there, or changed.
    Neighbour(Hop, Neighbour),
    /// An entry of the neighbour table is gone.
    NeighbourGone(Hop),
    /// Some route or rule changed.
    RoutesChanged,
    /// A route or a rule of keepalived's protocol number is gone.
    Strayed,
    /// The answer to [`Action::LookUpRoute`].
    Route(IpAddr, Route),
}

/// A dump of the kernel's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All interfaces.
    pub links: Vec<Interface>,
    /// All addresses of this host.
    pub addresses: Vec<(u32, IpNet)>,
    /// The neighbour table.
    pub neighbours: Vec<(Hop, Neighbour)>,
}

/// What the kernel is to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look up the route to this target; answered by [`Input::Route`].
    LookUpRoute(IpAddr),
    /// Have the kernel resolve, or check, this neighbour, and say how far it is now; answered by
    /// [`Input::Neighbour`].
    Resolve(Hop),
}
