//! What is understood and cannot run in this version: the one place to shrink as it learns more.
//!
//! In: a configuration and its places. Out: an error for each thing in it that would not be done as
//! the file says. Keywords that are accepted without effect are the business of their table.

use xdp_lb_common::limits;

use super::diagnostic::{Code, Collector, Diagnostic};
use super::model::{
    Config, Frontend, GroupMember, Protocol, ServiceKey, VirtualServer, VrrpInstance,
};
use super::places::{Places, ServicePlaces};

/// Options of a route that work.
pub const ROUTE_OPTIONS: &[&str] = &[
    "to",
    "via",
    "src",
    "dev",
    "oif",
    "scope",
    "table",
    "protocol",
    "metric",
    "priority",
    "preference",
    "tos",
    "dsfield",
    "mtu",
    "advmss",
    "initcwnd",
    "initrwnd",
    "onlink",
];
/// Options of a rule that work.
pub const RULE_OPTIONS: &[&str] = &[
    "not",
    "from",
    "to",
    "iif",
    "dev",
    "oif",
    "fwmark",
    "tos",
    "dsfield",
    "protocol",
    "preference",
    "priority",
    "order",
    "pref",
    "table",
    "lookup",
    "blackhole",
    "unreachable",
    "prohibit",
];
/// Kinds of routes that work.
pub const ROUTE_KINDS: &[&str] = &["unicast", "blackhole", "unreachable", "prohibit"];

/// Complains about all of it.
pub fn check(config: &Config, places: &Places, diagnostics: &mut Collector) {
    for (service, place) in config.virtual_servers.iter().zip(&places.services) {
        frontend(service, place, diagnostics);
        virtual_macs(config, service, place, diagnostics);
    }
    tables(config, places, diagnostics);
}

fn frontend(service: &VirtualServer, place: &ServicePlaces, diagnostics: &mut Collector) {
    let protocol = match &service.frontend {
        Frontend::Endpoint(endpoint) => Some(endpoint.protocol),
        Frontend::Mark(_) => None,
        Frontend::Group { protocol, .. } => Some(*protocol),
    };
    if protocol == Some(Protocol::Sctp) {
        diagnostics.push(
            Diagnostic::error(Code::NotSupported, "SCTP is not balanced yet")
                .at(place.protocol.unwrap_or(place.head), "TCP and UDP are")
                .help("remove this virtual server, or leave it to keepalived"),
        );
    }
}

/// The gate of a service knows one virtual MAC, and a mark can be on the VIPs of several instances.
fn virtual_macs(
    config: &Config,
    service: &VirtualServer,
    place: &ServicePlaces,
    diagnostics: &mut Collector,
) {
    let key = service.key();
    let vips = match key {
        ServiceKey::Mark(_) => config.vips(&key),
        ServiceKey::Endpoint(_) | ServiceKey::Group { .. } => return,
    };
    let carries = |instance: &VrrpInstance| {
        let addresses = instance.virtual_addresses.iter();
        let mut addresses = addresses.chain(&instance.excluded_addresses);
        addresses.any(|address| vips.contains(&address.address.addr()))
    };
    let instances = config.vrrp_instances.iter();
    let carriers: Vec<_> = instances.filter(|instance| carries(instance)).collect();
    let has_mac = |carrier: &&VrrpInstance| carrier.virtual_interface.is_some();
    if let [first, .., last] = carriers.as_slice()
        && carriers.iter().any(has_mac)
    {
        let (first, last) = (&first.name, &last.name);
        diagnostics.push(
            Diagnostic::error(
                Code::NotSupported,
                format!("'{key}' is for virtual IPs of more than one instance, and these have virtual MACs"),
            )
            .at(place.head, format!("carried by {first} and {last}"))
            .help("put the virtual IPs into one instance, or take 'use_vmac' out"),
        );
    }
}

/// What the tables of the data plane have room for.
fn tables(config: &Config, places: &Places, diagnostics: &mut Collector) {
    let (mut services, mut servers) = (0_u128, 0_u128);
    for (service, place) in config.virtual_servers.iter().zip(&places.services) {
        let members = members(service, config);
        services = services.saturating_add(members);
        let own = members.saturating_mul(service.real_servers.len() as u128);
        servers = servers.saturating_add(own);
        let (what, most) = if services > limits::MAX_SERVICES.into() {
            (
                "virtual servers, addresses of groups, and ports of firewall marks",
                limits::MAX_SERVICES,
            )
        } else if servers > limits::MAX_BACKENDS.into() {
            ("real servers", limits::MAX_BACKENDS)
        } else {
            continue;
        };
        diagnostics.push(
            Diagnostic::error(Code::NotSupported, format!("more than {most} {what}"))
                .at(
                    place.head,
                    "one director cannot hold this one and those behind it as well",
                )
                .help("share the services between several directors"),
        );
        return;
    }
}

/// How many places a virtual server takes among the services: one per address of a group, and one per
/// endpoint of a mark.
fn members(service: &VirtualServer, config: &Config) -> u128 {
    let of_mark = |mark: u32| {
        let endpoints = config.xdp_lb.marks.get(&mark);
        endpoints.map_or(1, |endpoints| endpoints.len().max(1) as u128)
    };
    match &service.frontend {
        Frontend::Endpoint(_) => 1,
        Frontend::Mark(mark) => of_mark(mark.mark),
        Frontend::Group { group, .. } => {
            let of_member = |member: &GroupMember| match member {
                GroupMember::Addresses { .. } => member.count(),
                GroupMember::Mark { mark, .. } => of_mark(*mark),
            };
            let members = group.members.iter().map(of_member);
            members.fold(0, u128::saturating_add)
        }
    }
}
