//! What a keepalived.conf means, after every check: nothing here can be an invalid configuration.
//!
//! Values that a block inherits are filled in: whoever reads a `Config` looks in one place.

mod balancing;
mod checker;
mod command;
mod global;
mod http;
mod ours;
mod service;
mod vrrp;

pub use balancing::*;
pub use checker::*;
pub use command::*;
pub use global::*;
pub use http::*;
pub use ours::*;
pub use service::*;
pub use vrrp::*;

/// A whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// `global_defs`.
    pub global: Global,
    /// `vrrp_instance` blocks, in the order of the file; names are unique.
    pub vrrp_instances: Vec<VrrpInstance>,
    /// `virtual_server` blocks, in the order of the file; what they balance is unique.
    pub virtual_servers: Vec<VirtualServer>,
    /// The `SSL` block.
    pub ssl: Ssl,
    /// The `xdp_lb` block.
    pub xdp_lb: XdpLb,
}
