//! What is understood and cannot run in this version: the one place to shrink as it learns more.
//!
//! In: a configuration and its places. Out: an error for each thing in it that would not be done as
//! the file says. Keywords that are accepted without effect are the business of their table.

use xdp_lb_common::limits;

use super::diagnostic::{Code, Collector, Diagnostic};
use super::keywords::{self, Scope, Status};
use super::model::{
    Check, Config, Forwarding, Frontend, Probe, Protocol, Scheduler, VirtualServer,
};
use super::places::{Places, ServerPlaces, ServicePlaces};
use super::source::Span;

const WORKING_SCHEDULERS: &str =
    "'rr' and 'wrr' work in this version; 'wrr' spreads new connections by weight";
/// What to know before writing `lb_kind DR`.
const NEEDS_OF_DR: &str = "write 'lb_kind DR' if the real servers are on this director's link, have the virtual IP on 'lo' and do not answer ARP for it ('xdp-lb realserver up' sets that up)";

/// Complains about all of it.
pub fn check(config: &Config, places: &Places, diagnostics: &mut Collector) {
    for (service, place) in config.virtual_servers.iter().zip(&places.services) {
        frontend(service, place, diagnostics);
        scheduler(service, place, diagnostics);
        forwarding(service, place, diagnostics);
        for (server, place) in service.real_servers.iter().zip(&place.real_servers) {
            own_forwarding(server.forwarding, place, diagnostics);
            for (check, place) in server.checks.iter().zip(&place.checks) {
                probe(check, *place, diagnostics);
            }
        }
    }
    tables(config, places, diagnostics);
}

/// Whether connections can be scheduled so.
pub const fn runs_scheduler(scheduler: Scheduler) -> bool {
    match scheduler {
        Scheduler::RoundRobin | Scheduler::WeightedRoundRobin => true,
        Scheduler::LeastConnections
        | Scheduler::WeightedLeastConnections
        | Scheduler::LocalityBased
        | Scheduler::LocalityBasedReplicated
        | Scheduler::SourceHash(_)
        | Scheduler::Maglev(_)
        | Scheduler::DestinationHash
        | Scheduler::ShortestDelay
        | Scheduler::NeverQueue
        | Scheduler::FailOver
        | Scheduler::Overflow
        | Scheduler::TwoChoices => false,
    }
}

/// Whether packets can be forwarded so.
pub const fn runs_forwarding(forwarding: Forwarding) -> bool {
    match forwarding {
        Forwarding::DirectRouting => true,
        Forwarding::Nat | Forwarding::Tunnel(_) => false,
    }
}

/// Whether servers can be probed so.
pub const fn runs_probe(probe: &Probe) -> bool {
    match probe {
        Probe::Tcp(_) | Probe::Http(_) => true,
        Probe::Smtp(_)
        | Probe::Dns(_)
        | Probe::Udp(_)
        | Probe::Ping(_)
        | Probe::Misc(_)
        | Probe::File(_) => false,
    }
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

fn scheduler(service: &VirtualServer, place: &ServicePlaces, diagnostics: &mut Collector) {
    let name = service.scheduler.name();
    if runs_scheduler(service.scheduler) {
        return;
    }
    let diagnostic = match place.scheduler {
        Some(place) => Diagnostic::error(
            Code::NotSupported,
            format!("the scheduler '{name}' does not exist in this version yet"),
        )
        .at(place, "expected rr or wrr"),
        None => Diagnostic::error(
            Code::MissingKeyword,
            format!("this virtual server has no 'lb_algo': keepalived would use {name}, which does not exist in this version yet"),
        )
        .at(place.head, "add 'lb_algo rr' or 'lb_algo wrr'"),
    };
    diagnostics.push(diagnostic.help(WORKING_SCHEDULERS));
}

fn forwarding(service: &VirtualServer, place: &ServicePlaces, diagnostics: &mut Collector) {
    let name = service.forwarding.name();
    if runs_forwarding(service.forwarding) {
        return;
    }
    let diagnostic = match place.forwarding {
        Some(place) => Diagnostic::error(
            Code::NotSupported,
            format!("'{name}' forwarding does not exist in this version yet"),
        )
        .at(place, "only DR works in this version"),
        None => Diagnostic::error(
            Code::MissingKeyword,
            format!("this virtual server has no 'lb_kind': keepalived would use {name}, which does not exist in this version yet"),
        )
        .at(place.head, "only DR works in this version"),
    };
    diagnostics.push(diagnostic.help(NEEDS_OF_DR));
}

/// Forwarding of a real server that has its own.
fn own_forwarding(forwarding: Forwarding, place: &ServerPlaces, diagnostics: &mut Collector) {
    let Some(span) = place.forwarding.filter(|_| !runs_forwarding(forwarding)) else {
        return;
    };
    diagnostics.push(
        Diagnostic::error(
            Code::NotSupported,
            format!(
                "'{}' forwarding does not exist in this version yet",
                forwarding.name()
            ),
        )
        .at(span, "only DR works in this version")
        .help(NEEDS_OF_DR),
    );
}

fn probe(check: &Check, place: Span, diagnostics: &mut Collector) {
    if runs_probe(&check.probe) {
        return;
    }
    let name = check.probe.name();
    let why = match keywords::find(Scope::RealServer, name).map(|keyword| keyword.status) {
        Some(Status::NotRun(why)) => why,
        _ => "remove it",
    };
    diagnostics.push(
        Diagnostic::error(Code::NotSupported, format!("'{name}' is not supported"))
            .at(place, "refused")
            .help(why),
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
