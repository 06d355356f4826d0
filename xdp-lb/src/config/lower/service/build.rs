//! From what was read of a `virtual_server` to a service, with keepalived's defaults filled in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::draft::Draft;
use super::frontend::Head;
use super::real_server::{self, Ports, Surroundings};
use super::{Defaults, Group, settings};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::model::{
    Endpoint, Family, Forwarding, Frontend, GroupMember, Hashing, Mark, Persistence, Protocol,
    RealServer, Scheduler, ServiceGroup, VirtualServer,
};
use crate::config::places::{ServerPlaces, ServicePlaces};
use crate::config::source::Span;

const IGNORED: &str = "ignored, as keepalived does";

impl Draft {
    /// `None` for a service that is ignored.
    pub(super) fn build(
        mut self,
        context: &mut Context<'_>,
        groups: &mut BTreeMap<String, Group>,
        defaults: Defaults,
    ) -> Option<(VirtualServer, ServicePlaces)> {
        let group = match &self.head {
            Head::Group(name) => {
                let group = resolve(context, groups, name, self.places.head)?;
                self.places.members.clone_from(&group.lines);
                Some(group.model.clone()?)
            }
            Head::Endpoint(..) | Head::Mark(_) => None,
        };
        let protocol = self.actual_protocol(context);
        let scheduler = self.actual_scheduler(context);
        let forwarding = self.actual_forwarding(context);
        let family = self.actual_family(context, group.as_deref());
        let ports = self.ports(group.as_deref());
        let (real_servers, places) = self.servers(context, defaults, forwarding, (ports, family));
        if real_servers.is_empty() {
            context.push(
                Diagnostic::warning(
                    Code::Empty,
                    "this virtual server has no real server: it is ignored, as keepalived does",
                )
                .at(self.places.head, "packets to it are not balanced"),
            );
            return None;
        }
        self.places.real_servers = places;
        let frontend = match (&self.head, group) {
            (Head::Endpoint(vip, port), _) => Frontend::Endpoint(Endpoint {
                vip: *vip,
                port: *port,
                protocol,
            }),
            (_, Some(group)) => Frontend::Group { group, protocol },
            (Head::Mark(mark), None) => Frontend::Mark(Mark {
                mark: *mark,
                family: family.unwrap_or(Family::V4),
            }),
            (Head::Group(_), None) => return None,
        };
        let service = VirtualServer {
            persistence: self.persistence(context, &frontend),
            one_packet: self.one_packet(context, &frontend),
            quorum: self.quorum(context, &real_servers),
            sorry_server: self.sorry_server(context, forwarding, (ports, family)),
            frontend,
            scheduler,
            forwarding,
            omega: self.omega,
            ha_suspend: self.ha_suspend,
            expire_quiescent: self.expire_quiescent,
            smtp_alert: self.smtp_alert.or(defaults.smtp_alert).unwrap_or(false),
            real_servers,
        };
        Some((service, self.places))
    }

    fn actual_protocol(&self, context: &mut Context<'_>) -> Protocol {
        let marked = matches!(self.head, Head::Mark(_));
        match (self.protocol, self.places.protocol) {
            (_, Some(place)) if marked => {
                context.push(
                    Diagnostic::warning(
                        Code::Conflict,
                        "a service by firewall mark takes every protocol: this line has no effect, as in keepalived",
                    )
                    .at(place, "remove it, and let the firewall mark that protocol only"),
                );
            }
            (None, _) if !marked => {
                context.push(
                    Diagnostic::warning(
                        Code::DefaultUsed,
                        "this virtual server has no 'protocol': UDP is used, as keepalived does",
                    )
                    .at(self.places.head, "balances UDP")
                    .help("add 'protocol TCP' or 'protocol UDP'"),
                );
            }
            _ => {}
        }
        self.protocol.unwrap_or(Protocol::Udp)
    }

    fn actual_scheduler(&self, context: &mut Context<'_>) -> Scheduler {
        let default = Scheduler::WeightedLeastConnections;
        if self.scheduler.is_none() && self.places.scheduler.is_none() {
            context.push(
                Diagnostic::warning(
                    Code::DefaultUsed,
                    "this virtual server has no 'lb_algo': wlc is used, as keepalived does",
                )
                .at(
                    self.places.head,
                    "new connections go to the least loaded server",
                )
                .help("add 'lb_algo wlc', or the scheduler that you want"),
            );
        }
        let [fallback, port, third] = self.flags;
        let hashing = Hashing { port, fallback };
        let scheduler = match self.scheduler.unwrap_or(default) {
            Scheduler::SourceHash(_) => Scheduler::SourceHash(hashing),
            Scheduler::Maglev(_) => Scheduler::Maglev(hashing),
            other => {
                self.useless_flag(context, other);
                return other;
            }
        };
        if third {
            self.useless_flag(context, scheduler);
        }
        scheduler
    }

    fn useless_flag(&self, context: &mut Context<'_>, scheduler: Scheduler) {
        if let Some(place) = self.flag_place {
            context.push(
                Diagnostic::warning(
                    Code::Conflict,
                    format!(
                        "the flag means nothing to the scheduler '{}'",
                        scheduler.name()
                    ),
                )
                .at(place, "without effect, as in keepalived"),
            );
        }
    }

    fn actual_forwarding(&self, context: &mut Context<'_>) -> Forwarding {
        if self.forwarding.is_none() {
            context.push(
                Diagnostic::warning(
                    Code::DefaultUsed,
                    "this virtual server has no 'lb_kind': NAT is used, as keepalived does; NAT is not DR",
                )
                .at(self.places.head, "real servers must answer through this director")
                .help("add 'lb_kind NAT' if that is meant, else 'lb_kind DR'"),
            );
        }
        self.forwarding.unwrap_or(Forwarding::Nat)
    }

    /// The one that servers must be of, as far as one is known.
    fn actual_family(
        &self,
        context: &mut Context<'_>,
        group: Option<&ServiceGroup>,
    ) -> Option<Family> {
        let asked = self.ip_family;
        match &self.head {
            Head::Endpoint(ip, _) => {
                let family = Family::of(*ip);
                if let Some((_, place)) = asked.filter(|(asked, _)| *asked != family) {
                    context.push(
                        Diagnostic::warning(
                            Code::Conflict,
                            format!("'ip_family' is not that of {ip}, which is {family}"),
                        )
                        .at(place, IGNORED),
                    );
                }
                Some(family)
            }
            Head::Mark(_) => {
                let granularity = self.granularity.map(|(_, family, _)| family);
                let asked = asked.map(|(family, _)| family).or(granularity);
                asked.or_else(|| Some(self.family_of_servers()))
            }
            Head::Group(_) => group?.family(),
        }
    }

    /// That of the first server without a tunnel; else that of all, if they agree, else IPv4.
    fn family_of_servers(&self) -> Family {
        let plain = |server: &&real_server::Draft| {
            let forwarding = server.forwarding().or(self.forwarding);
            !forwarding.is_some_and(Forwarding::crosses_families)
        };
        let family = |server: &real_server::Draft| Family::of(server.ip());
        let mut servers = self.real_servers.iter();
        let v6 = match self.real_servers.iter().find(plain) {
            Some(server) => family(server) == Family::V6,
            None => servers.all(|server| family(server) == Family::V6),
        };
        if v6 { Family::V6 } else { Family::V4 }
    }

    fn ports(&self, group: Option<&ServiceGroup>) -> Ports {
        match (&self.head, group) {
            (Head::Endpoint(_, port), _) => Ports::One(*port),
            (Head::Mark(_), _) => Ports::Marked,
            (Head::Group(_), group) => {
                let members = group.into_iter().flat_map(|group| &group.members);
                let mut ports = members.filter_map(|member| match member {
                    GroupMember::Addresses { port, .. } => Some(*port),
                    GroupMember::Mark { .. } => None,
                });
                match ports.next() {
                    None => Ports::Marked,
                    Some(port) if ports.all(|other| other == port) => Ports::Grouped(port),
                    Some(_) => Ports::Grouped(0),
                }
            }
        }
    }

    /// Real servers with unique addresses.
    fn servers(
        &mut self,
        context: &mut Context<'_>,
        defaults: Defaults,
        forwarding: Forwarding,
        (ports, family): (Ports, Option<Family>),
    ) -> (Vec<RealServer>, Vec<ServerPlaces>) {
        let drafts = std::mem::take(&mut self.real_servers);
        let around = Surroundings {
            ports,
            family,
            forwarding,
            weight: self.weight,
            timers: self.timers.or(defaults.timers),
            host: self.host.as_deref(),
            inhibit_on_failure: self.inhibit_on_failure,
            smtp_alert: defaults.smtp_alert,
        };
        let mut heads = BTreeMap::new();
        let mut servers = Vec::with_capacity(drafts.len());
        let mut places = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let Some((server, place)) = draft.build(context, around) else {
                continue;
            };
            let head = place.head;
            if let Some(first) = heads.get(&server.address) {
                let address = named(server.address);
                context.push(
                    Diagnostic::warning(
                        Code::Duplicate,
                        format!("the real server {address} stands twice in this service"),
                    )
                    .at(head, "the second is removed, as keepalived does")
                    .at(*first, "defined here first"),
                );
                continue;
            }
            heads.insert(server.address, head);
            servers.push(server);
            places.push(place);
        }
        (servers, places)
    }

    fn persistence(&self, context: &mut Context<'_>, frontend: &Frontend) -> Option<Persistence> {
        let family = frontend.family();
        let any_port = match frontend {
            Frontend::Endpoint(key) => key.port == 0,
            Frontend::Mark(_) => false,
            Frontend::Group { group, .. } => group.members.iter().any(takes_every_port),
        };
        let granularity = self.granularity.filter(|(_, own, place)| {
            let fits = family.is_none_or(|family| family == *own);
            if !fits {
                context.push(
                    Diagnostic::warning(
                        Code::Conflict,
                        format!("this service is not {own}: the granularity is ignored"),
                    )
                    .at(*place, "IPv4 takes a netmask, IPv6 a prefix length"),
                );
            }
            fits
        });
        let timeout = match (self.persistence_timeout, granularity) {
            (Some(timeout), _) => timeout,
            (None, Some((_, _, span))) => {
                context.push(persistent_by_granularity(span));
                settings::BARE_PERSISTENCE
            }
            (None, None) if any_port => {
                context.push(
                    Diagnostic::warning(
                        Code::DefaultUsed,
                        "a service on every port is persistent: 360 s is used, as keepalived does",
                    )
                    .at(self.places.head, "has no port and no 'persistence_timeout'")
                    .help("add a port, or 'persistence_timeout SECONDS'"),
                );
                settings::BARE_PERSISTENCE
            }
            (None, None) => return None,
        };
        let whole = family.unwrap_or(Family::V6).bits();
        Some(Persistence {
            timeout,
            prefix_len: granularity.map_or(whole, |(length, _, _)| length),
        })
    }

    fn one_packet(&self, context: &mut Context<'_>, frontend: &Frontend) -> bool {
        let Some(place) = self.ops else {
            return false;
        };
        let protocol = match frontend {
            Frontend::Endpoint(key) => key.protocol,
            Frontend::Group { protocol, .. } => *protocol,
            Frontend::Mark(_) => Protocol::Udp,
        };
        let udp = protocol == Protocol::Udp;
        if !udp {
            context.push(
                Diagnostic::warning(
                    Code::Conflict,
                    format!(
                        "'ops' is for UDP only, and this service is {}",
                        protocol.name()
                    ),
                )
                .at(place, IGNORED),
            );
        }
        udp
    }
}

/// The group `name`; `None` after a complaint.
fn resolve<'g>(
    context: &mut Context<'_>,
    groups: &'g mut BTreeMap<String, Group>,
    name: &str,
    place: Span,
) -> Option<&'g Group> {
    let Some(group) = groups.get_mut(name) else {
        context.push(
            Diagnostic::warning(
                Code::MissingBlock,
                format!("there is no virtual_server_group {}", quote(name)),
            )
            .at(place, "this virtual server is ignored, as keepalived does")
            .help(format!(
                "add 'virtual_server_group {name} {{ … }}' with its addresses"
            )),
        );
        return None;
    };
    group.used = true;
    Some(group)
}

fn persistent_by_granularity(place: Span) -> Diagnostic {
    Diagnostic::warning(
        Code::DefaultUsed,
        "'persistence_granularity' alone turns persistence on, for 360 s, as with keepalived",
    )
    .at(place, "no valid 'persistence_timeout' stands beside it")
    .help("add 'persistence_timeout SECONDS', or remove the line")
}

const fn takes_every_port(member: &GroupMember) -> bool {
    match member {
        GroupMember::Addresses { port, .. } => *port == 0,
        GroupMember::Mark { .. } => false,
    }
}

/// An address without a port that it does not have.
pub(super) fn named(address: SocketAddr) -> String {
    if address.port() == 0 {
        let ip: IpAddr = address.ip();
        ip.to_string()
    } else {
        address.to_string()
    }
}
