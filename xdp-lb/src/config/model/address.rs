//! Addresses, routes and rules that directors own.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// A line of `virtual_ipaddress`, `virtual_ipaddress_excluded` or `static_ipaddress`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VirtualAddress {
    /// Address and prefix length (/32 or /128 when the file has none).
    pub address: IpNet,
    /// `dev`; the instance's interface when `None`.
    pub device: Option<String>,
    /// `label`, at most 15 characters, IPv4 only.
    pub label: Option<String>,
    /// `brd`: a broadcast address, IPv4 only.
    pub broadcast: Option<Ipv4Addr>,
    /// `scope`, as rtnetlink numbers it (0 is global); IPv4 only.
    pub scope: u8,
    /// `peer`: the other end of a point-to-point link, of the same family; the address is a /32 or
    /// /128 then.
    pub peer: Option<IpAddr>,
    /// `preferred_lft`.
    pub preferred: Preferred,
    /// Words without a value.
    pub flags: AddressFlags,
}

impl VirtualAddress {
    /// An address without options.
    pub const fn new(address: IpNet) -> Self {
        Self {
            address,
            device: None,
            label: None,
            broadcast: None,
            scope: 0,
            peer: None,
            preferred: Preferred::ByLength,
            flags: AddressFlags {
                home: false,
                no_dad: false,
                mngtmpaddr: false,
                noprefixroute: false,
                autojoin: false,
                no_track: false,
                use_vmac: false,
            },
        }
    }
}

/// `preferred_lft`: how long new connections may leave from the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preferred {
    /// Not set: an IPv6 address that is virtual, or a /128, never; others for ever.
    ByLength,
    /// For ever.
    Forever,
    /// Seconds; 0: never.
    Seconds(u32),
}

/// What an address says without a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressFlags {
    /// `home`: mobile IPv6.
    pub home: bool,
    /// `-nodad`: IPv6 duplicate address detection is done, which is left out otherwise.
    pub no_dad: bool,
    /// `mngtmpaddr`: temporary addresses are made from it.
    pub mngtmpaddr: bool,
    /// `noprefixroute`: no route to its network comes with it.
    pub noprefixroute: bool,
    /// `autojoin`: the interface joins the multicast group.
    pub autojoin: bool,
    /// `no_track`: its loss is not noticed.
    pub no_track: bool,
    /// `use_vmac`: it stands on a VMAC of its device.
    pub use_vmac: bool,
}

/// A line of `static_ipaddress`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticAddress {
    /// The address; its device is set.
    pub address: VirtualAddress,
    /// `track_group`, which exists.
    pub track_group: Option<String>,
}

/// A line of `virtual_routes` or `static_routes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRoute {
    /// What `ip route add` takes, every word known, with a value of its kind.
    pub words: Vec<String>,
    /// Not `no_track`: its loss is noticed. Only a route with a device can be watched.
    pub tracked: bool,
    /// `track_group`, which exists; static routes only.
    pub track_group: Option<String>,
}

/// A line of `virtual_rules` or `static_rules`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRule {
    /// What `ip rule add` takes, every word known, with a value of its kind; `preference` is among
    /// them.
    pub words: Vec<String>,
    /// Not `no_track`: its loss is noticed.
    pub tracked: bool,
    /// `track_group`, which exists; static rules only.
    pub track_group: Option<String>,
}

/// `use_vmac` or `use_ipvlan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VirtualInterface {
    /// `use_vmac`.
    Vmac {
        /// Its name; `vrrp.` and the VRID by default. Unlike those of instances above.
        name: String,
        /// Its MAC; by default that of the virtual router (RFC 5798, 7.3).
        mac: Option<[u8; 6]>,
        /// `vmac_xmit_base`: adverts leave by the interface below.
        adverts_below: bool,
    },
    /// `use_ipvlan`.
    Ipvlan {
        /// Its name; as that of a VMAC by default.
        name: String,
        /// Its own address.
        address: Option<IpNet>,
    },
}
