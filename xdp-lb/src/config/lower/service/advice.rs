//! What is valid and yet hardly meant: checks over services as they came out.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::build::named;
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::lower::context::Context;
use crate::config::model::{
    Check, Config, Family, Frontend, GroupMember, Probe, RealServer, VirtualServer,
};
use crate::config::places::{Places, ServerPlaces, ServicePlaces};
use crate::config::source::Span;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;

pub(super) fn check(context: &mut Context<'_>, config: &Config, places: &Places) {
    let vips = virtual_addresses(config, places);
    for (service, place) in config.virtual_servers.iter().zip(&places.services) {
        weights(context, service, place);
        sorry_server(context, service, place);
        one_packet(context, service, place);
        families(context, service, place);
        let mut late = None;
        for (server, place) in service.real_servers.iter().zip(&place.real_servers) {
            if let Some(vip) = vips.get(&server.address.ip()) {
                virtual_address(context, server, place, *vip);
            }
            for (check, place) in server.checks.iter().zip(&place.checks) {
                scheme(context, check, *place);
                late = late.or_else(|| timeout(check).map(|timeout| (check, timeout, *place)));
            }
        }
        if let Some((check, timeout, place)) = late {
            context.push(
                Diagnostic::note(
                    Code::Doubtful,
                    format!(
                        "a server that does not answer is checked every {} s, not every {} s",
                        (timeout + check.delay_loop).as_secs_f64(),
                        check.delay_loop.as_secs_f64()
                    ),
                )
                .at(
                    place,
                    "'connect_timeout' is longer than 'delay_loop', which begins when it is over",
                )
                .help("set 'connect_timeout' to less than 'delay_loop'"),
            );
        }
    }
}

/// The single addresses that are virtual, and where they stand.
fn virtual_addresses(config: &Config, places: &Places) -> BTreeMap<IpAddr, Span> {
    let mut vips = BTreeMap::new();
    for (service, place) in config.virtual_servers.iter().zip(&places.services) {
        match &service.frontend {
            Frontend::Endpoint(key) => {
                vips.entry(key.vip).or_insert(place.head);
            }
            Frontend::Mark(_) => {}
            Frontend::Group { group, .. } => {
                for member in &group.members {
                    match member {
                        GroupMember::Addresses { first, last, .. } if first == last => {
                            vips.entry(*first).or_insert(place.head);
                        }
                        GroupMember::Addresses { .. } | GroupMember::Mark { .. } => {}
                    }
                }
            }
        }
    }
    vips
}

fn virtual_address(
    context: &mut Context<'_>,
    server: &RealServer,
    place: &ServerPlaces,
    vip: Span,
) {
    let ip = server.address.ip();
    let line = context.line(vip);
    context.push(
        Diagnostic::warning(
            Code::Doubtful,
            format!("{ip} is the address of a real server and of a virtual one"),
        )
        .at(
            place.head,
            format!("packets to it are those of line {line}"),
        )
        .at(vip, "balanced here")
        .help("give the real server its own address; the virtual one belongs to the director"),
    );
}

fn weights(context: &mut Context<'_>, service: &VirtualServer, place: &ServicePlaces) {
    if service.real_servers.iter().all(|server| server.weight == 0) {
        context.push(
            Diagnostic::warning(
                Code::Doubtful,
                "all real servers of this service have weight 0: it takes no new connections",
            )
            .at(place.head, "nobody serves it")
            .help("give at least one real server a 'weight' above 0"),
        );
    }
}

fn sorry_server(context: &mut Context<'_>, service: &VirtualServer, place: &ServicePlaces) {
    let (Some(sorry), Some(span)) = (&service.sorry_server, place.sorry_server) else {
        return;
    };
    let mut servers = service.real_servers.iter().zip(&place.real_servers);
    let same = servers.find(|(server, _)| server.address == sorry.address);
    if let Some((_, server)) = same {
        context.push(
            Diagnostic::warning(
                Code::Doubtful,
                format!(
                    "the sorry server {} is one of the real servers",
                    named(sorry.address)
                ),
            )
            .at(span, "it is down when they all are")
            .at(server.head, "the same server")
            .help("name a server that does not depend on the others, or remove the line"),
        );
    }
}

fn one_packet(context: &mut Context<'_>, service: &VirtualServer, place: &ServicePlaces) {
    if service.one_packet && service.persistence.is_some() {
        context.push(
            Diagnostic::warning(
                Code::Doubtful,
                "'ops' schedules each datagram by itself, and persistence keeps clients with one server",
            )
            .at(place.head, "has both")
            .help("remove 'ops' or the persistence"),
        );
    }
}

fn families(context: &mut Context<'_>, service: &VirtualServer, place: &ServicePlaces) {
    let Frontend::Group { group, .. } = &service.frontend else {
        return;
    };
    let has = |wanted: Family| {
        group.members.iter().any(|member| match member {
            GroupMember::Addresses { first, .. } => Family::of(*first) == wanted,
            GroupMember::Mark { family, .. } => *family == Some(wanted),
        })
    };
    let mut servers = service.real_servers.iter();
    let plain = servers.any(|server| !server.forwarding.crosses_families());
    if plain && has(Family::V4) && has(Family::V6) {
        context.push(
            Diagnostic::warning(
                Code::Doubtful,
                "this group has IPv4 and IPv6 addresses: each real server serves those of its own family only",
            )
            .at(place.head, "not all real servers are reached by a tunnel")
            .help("make a group and a virtual server for each family"),
        );
    }
}

/// HTTP on the port of HTTPS, and the other way round.
fn scheme(context: &mut Context<'_>, check: &Check, place: Span) {
    let Probe::Http(http) = &check.probe else {
        return;
    };
    let (port, right) = match (&http.tls, http.connection.target.port()) {
        (Some(_), HTTP) => (HTTP, "HTTP_GET"),
        (None, HTTPS) => (HTTPS, "SSL_GET"),
        _ => return,
    };
    let name = check.probe.name();
    context.push(
        Diagnostic::warning(
            Code::Doubtful,
            format!("{name} goes to port {port}, where {right} belongs"),
        )
        .at(place, "it would never pass")
        .help(format!("write {right}, or add 'connect_port'")),
    );
}

/// The longest wait for the server, where it is longer than the time between checks.
fn timeout(check: &Check) -> Option<std::time::Duration> {
    let connection = match &check.probe {
        Probe::Tcp(connection) | Probe::Ping(connection) => connection,
        Probe::Http(http) => &http.connection,
        Probe::Smtp(smtp) => smtp.connections.first()?,
        Probe::Dns(dns) => &dns.connection,
        Probe::Udp(udp) => &udp.connection,
        Probe::Misc(_) | Probe::File(_) => return None,
    };
    Some(connection.connect_timeout).filter(|timeout| *timeout > check.delay_loop)
}
