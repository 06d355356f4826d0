//! What is understood and cannot run in this version: the one place to shrink as it learns more.
//!
//! In: a configuration and its places. Out: an error for each thing in it that would not be done as
//! the file says. Keywords that are accepted without effect are the business of their table.

use xdp_lb_common::limits;

use super::diagnostic::{Code, Collector, Diagnostic};
use super::model::{Config, Frontend, Protocol, VirtualServer};
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
    }
    tables(config, places, diagnostics);
}

fn frontend(service: &VirtualServer, place: &ServicePlaces, diagnostics: &mut Collector) {
    let kind = match &service.frontend {
        Frontend::Endpoint(key) => {
            if key.protocol == Protocol::Sctp {
                diagnostics.push(
                    Diagnostic::error(Code::NotSupported, "SCTP is not balanced yet")
                        .at(place.protocol.unwrap_or(place.head), "TCP and UDP are")
                        .help("remove this virtual server, or leave it to keepalived"),
                );
            }
            return;
        }
        Frontend::Mark { .. } => "a firewall mark",
        Frontend::Group { .. } => "a group of addresses",
    };
    diagnostics.push(
        Diagnostic::error(
            Code::NotSupported,
            format!("a virtual server by {kind} is not balanced yet"),
        )
        .at(place.head, "refused")
        .help("write a 'virtual_server ADDRESS PORT' for each address and port"),
    );
}

/// What the tables of the data plane have room for.
fn tables(config: &Config, places: &Places, diagnostics: &mut Collector) {
    let limit = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut services, mut servers) = (0, 0);
    for (service, place) in config.virtual_servers.iter().zip(&places.services) {
        services += 1;
        servers += service.real_servers.len();
        let (what, most) = if services > limit(limits::MAX_SERVICES) {
            ("virtual servers", limits::MAX_SERVICES)
        } else if servers > limit(limits::MAX_BACKENDS) {
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
