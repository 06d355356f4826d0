//! What a keepalived.conf means, after every check: nothing here can be an invalid configuration.
//!
//! Values that a block inherits are filled in: whoever reads a `Config` looks in one place.

mod address;
mod announce;
mod authentication;
mod balancing;
mod checker;
mod command;
mod global;
mod http;
mod key;
mod members;
mod ours;
mod service;
mod track;
mod vips;
mod vrrp;

pub use address::*;
pub use announce::*;
pub use authentication::*;
pub use balancing::*;
pub use checker::*;
pub use command::*;
pub use global::*;
pub use http::*;
pub use key::*;
pub use members::*;
pub use ours::*;
pub use service::*;
pub use track::*;
pub use vrrp::*;

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `global_defs`.
    pub global: Global,
    /// `vrrp_instance` blocks, in the order of the file; names are unique.
    pub vrrp_instances: Vec<VrrpInstance>,
    /// `vrrp_sync_group` blocks, in the order of the file; names are unique.
    pub sync_groups: Vec<SyncGroup>,
    /// `vrrp_script` blocks; names are unique.
    pub scripts: Vec<Script>,
    /// `track_file` blocks; names are unique.
    pub track_files: Vec<TrackFile>,
    /// `vrrp_track_process` blocks; names are unique.
    pub track_processes: Vec<TrackProcess>,
    /// `track_group` blocks; names are unique.
    pub track_groups: Vec<TrackGroup>,
    /// `static_ipaddress`: addresses that stay.
    pub static_addresses: Vec<StaticAddress>,
    /// `static_routes`: routes that stay.
    pub static_routes: Vec<OwnRoute>,
    /// `static_rules`: routing rules that stay.
    pub static_rules: Vec<OwnRule>,
    /// `vrrp_garp_interval`, `vrrp_gna_interval`, `garp_group`: the pace of announcements.
    pub announcements: Announcements,
    /// `interface_up_down_delays`; interfaces are unique.
    pub link_delays: Vec<LinkDelay>,
    /// `virtual_server` blocks, in the order of the file; what they balance is unique.
    pub virtual_servers: Vec<VirtualServer>,
    /// The `SSL` block.
    pub ssl: Ssl,
    /// The `xdp_lb` block.
    pub xdp_lb: XdpLb,
}
