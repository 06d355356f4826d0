//! VRRP: instances and their addresses.

use ipnet::IpNet;

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
