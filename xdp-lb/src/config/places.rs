//! Where the parts of a configuration stand in its files, for messages about more than one of them.

use super::model::Command;
use super::source::Span;

/// The places of a [`Config`](super::model::Config), in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Of each `vrrp_instance`.
    pub instances: Vec<InstancePlaces>,
    /// Of each `virtual_server`.
    pub services: Vec<ServicePlaces>,
    /// Of each `fwmark` of the block `xdp_lb`: the mark, and where the block stands.
    pub marks: Vec<(u32, Span)>,
    /// Every command of the file.
    pub commands: Vec<PlacedCommand>,
}

/// A command and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedCommand {
    /// Its words.
    pub span: Span,
    /// The command.
    pub command: Command,
    /// The keyword it belongs to.
    pub purpose: String,
}

/// Where a `vrrp_instance` stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstancePlaces {
    /// Its name.
    pub name: Span,
    /// `state`, `priority`, `advert_int`, `authentication`: where the file has them.
    pub state: Option<Span>,
    /// The value of `priority`.
    pub priority: Option<Span>,
    /// The value of `advert_int`.
    pub advert_interval: Option<Span>,
    /// The keyword `authentication`.
    pub authentication: Option<Span>,
    /// Each of the addresses, in the order of the model.
    pub addresses: Vec<Span>,
}

/// Where a `virtual_server` stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlaces {
    /// Its keyword and values.
    pub head: Span,
    /// Of each line of its group, if it has one.
    pub members: Vec<Span>,
    /// The values of `lb_algo`, if there is one.
    pub scheduler: Option<Span>,
    /// The values of `lb_kind`, if there is one.
    pub forwarding: Option<Span>,
    /// The values of `protocol`, if there is one.
    pub protocol: Option<Span>,
    /// The line of `quorum`, if there is one.
    pub quorum: Option<Span>,
    /// The line of `sorry_server`, if there is one.
    pub sorry_server: Option<Span>,
    /// Of each real server.
    pub real_servers: Vec<ServerPlaces>,
}

/// Where a `real_server` stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPlaces {
    /// Its keyword and values.
    pub head: Span,
    /// The values of `lvs_method`, if there is one.
    pub forwarding: Option<Span>,
    /// The keyword of each of its checks.
    pub checks: Vec<Span>,
}
