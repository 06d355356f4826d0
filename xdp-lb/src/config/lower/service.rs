//! `virtual_server`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use xdp_lb_common::limits;

use super::checker::{Level, Timers};
use super::context::Context;
use super::global::Globals;
use super::value::Refused;
use super::{real_server, settings};
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::model::{
    Config, Forwarding, Persistence, Protocol, RealServer, Scheduler, ServiceKey, VirtualServer,
};
use crate::config::places::{Places, ServicePlaces};
use crate::config::source::Span;

/// Each client address by itself.
const WHOLE_ADDRESS: u8 = 32;

/// The virtual servers of a file.
#[derive(Debug, Default)]
pub(super) struct Services {
    list: Vec<(VirtualServer, ServicePlaces)>,
    /// Where each key was defined first.
    heads: BTreeMap<ServiceKey, Span>,
    real_servers: usize,
}

impl Services {
    /// Takes the block if it is one of a service; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        block: &Statement,
    ) -> bool {
        match keyword.name {
            "virtual_server" => self.add(context, block),
            _ => return false,
        }
        true
    }

    fn add(&mut self, context: &mut Context<'_>, block: &Statement) {
        let Some((vip, port)) = endpoint(context, block) else {
            return;
        };
        let draft = Draft::read(context, block);
        let Some(service) = draft.build(context, block, vip, port) else {
            return;
        };
        if let Some(first) = self.heads.get(&service.key) {
            duplicate(context, block, &service.key, *first);
            return;
        }
        self.heads.insert(service.key, block.head());
        self.real_servers += service.real_servers.len();
        let place = ServicePlaces {
            head: block.head(),
            ..ServicePlaces::default()
        };
        self.list.push((service, place));
        self.check_limits(context, block);
    }

    pub(super) fn finish(
        self,
        _context: &mut Context<'_>,
        _globals: &Globals,
        config: &mut Config,
        places: &mut Places,
    ) {
        for (service, place) in self.list {
            config.virtual_servers.push(service);
            places.services.push(place);
        }
    }

    /// What the tables of the data plane have room for.
    fn check_limits(&self, context: &mut Context<'_>, block: &Statement) {
        let over = |count: usize, limit: u32| count > usize::try_from(limit).unwrap_or(usize::MAX);
        let (what, limit) = if over(self.list.len(), limits::MAX_SERVICES) {
            ("virtual servers", limits::MAX_SERVICES)
        } else if over(self.real_servers, limits::MAX_BACKENDS) {
            ("real servers", limits::MAX_BACKENDS)
        } else {
            return;
        };
        context.push(
            Diagnostic::error(Code::NotSupported, format!("more than {limit} {what}"))
                .at(block.head(), "one director cannot hold this one as well")
                .help("share the services between several directors"),
        );
    }
}

fn duplicate(context: &mut Context<'_>, block: &Statement, key: &ServiceKey, first: Span) {
    let line = context.line(first);
    context.push(
        Diagnostic::error(
            Code::Duplicate,
            format!("the virtual server {key} is defined twice"),
        )
        .at(block.head(), format!("already defined on line {line}"))
        .at(first, "defined here first")
        .help("put all its real servers into one block, or give this one its own port or protocol"),
    );
}

/// The virtual IP and port of a `virtual_server`; port 0 is any port.
fn endpoint(context: &mut Context<'_>, block: &Statement) -> Option<(IpAddr, u16)> {
    let first = block.values.first()?;
    let kind = match first.text.as_str() {
        "fwmark" => Some("a firewall mark"),
        "group" => Some("a group of addresses"),
        _ => None,
    };
    if let Some(kind) = kind {
        context.push(
            Diagnostic::error(
                Code::NotSupported,
                format!("a virtual server by {kind} is not balanced yet"),
            )
            .at(block.head(), "refused")
            .help("write a 'virtual_server ADDRESS PORT' for each address and port"),
        );
        return None;
    }
    let ip = first.text.parse::<IpAddr>().ok();
    let port = match block.values.get(1) {
        None => Some(0),
        Some(word) => word.text.parse().ok(),
    };
    let (Some(ip), Some(port)) = (ip, port) else {
        context.push(real_server::not_an_endpoint(block, "virtual_server"));
        return None;
    };
    if ip.is_ipv6() {
        context.push(
            Diagnostic::error(
                Code::NotSupported,
                format!(
                    "the virtual server {} has an IPv6 address",
                    quote(&first.text)
                ),
            )
            .at(first.span, "IPv6 is not balanced yet"),
        );
        return None;
    }
    Some((ip, port))
}

/// What was read of a virtual server.
#[derive(Debug, Default)]
struct Draft {
    scheduler: Option<Result<Scheduler, Refused>>,
    forwarding: Option<Result<Forwarding, Refused>>,
    protocol: Option<Protocol>,
    persistence_timeout: Option<Duration>,
    /// Prefix length, and where it stands.
    granularity: Option<(u8, Span)>,
    timers: Timers,
    weight: Option<u32>,
    real_servers: Vec<real_server::Draft>,
}

impl Draft {
    fn read(context: &mut Context<'_>, block: &Statement) -> Self {
        let mut draft = Self::default();
        for (keyword, statement) in context.keywords(Scope::VirtualServer, block) {
            if !draft
                .timers
                .take(context, keyword, statement, Level::Server)
            {
                draft.take(context, keyword, statement);
            }
        }
        draft
    }

    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        statement: &Statement,
    ) {
        match keyword.name {
            "lb_algo" | "lvs_sched" => {
                self.scheduler = settings::scheduler(context, statement);
            }
            "lb_kind" | "lvs_method" => {
                self.forwarding = settings::forwarding(context, statement);
            }
            "protocol" => self.protocol = settings::protocol(context, statement).or(self.protocol),
            "persistence_timeout" => {
                self.persistence_timeout = settings::persistence_timeout(context, statement);
            }
            "persistence_granularity" => {
                let length = settings::granularity(context, statement);
                let placed = length.map(|length| (length, statement.head()));
                self.granularity = placed.or(self.granularity);
            }
            "weight" => self.weight = real_server::weight(context, statement).or(self.weight),
            "real_server" => self
                .real_servers
                .extend(real_server::Draft::read(context, statement)),
            _ => context.unread(keyword, statement),
        }
    }

    /// `None` after an error, and for a service that is ignored.
    fn build(
        mut self,
        context: &mut Context<'_>,
        block: &Statement,
        vip: IpAddr,
        port: u16,
    ) -> Option<VirtualServer> {
        let persistence = self.persistence(context, block, port);
        let protocol = self
            .protocol
            .unwrap_or_else(|| default_protocol(context, block));
        let scheduler = self
            .scheduler
            .unwrap_or_else(|| no_scheduler(context, block));
        let forwarding = self
            .forwarding
            .unwrap_or_else(|| no_forwarding(context, block));
        let drafts = std::mem::take(&mut self.real_servers);
        if drafts.is_empty() {
            context.push(
                Diagnostic::warning(
                    Code::Empty,
                    "this virtual server has no real server: it is ignored, as keepalived does",
                )
                .at(block.head(), "packets to it are not balanced"),
            );
            return None;
        }
        Some(VirtualServer {
            real_servers: self.servers(context, drafts, port),
            key: ServiceKey {
                vip,
                port,
                protocol,
            },
            scheduler: scheduler.ok()?,
            forwarding: forwarding.ok()?,
            persistence,
        })
    }

    /// Real servers with unique addresses.
    fn servers(
        &self,
        context: &mut Context<'_>,
        drafts: Vec<real_server::Draft>,
        port: u16,
    ) -> Vec<RealServer> {
        let mut heads = BTreeMap::new();
        let mut servers = Vec::with_capacity(drafts.len());
        for draft in drafts {
            let head = draft.head;
            let Some(server) = draft.build(context, port, self.weight, self.timers) else {
                continue;
            };
            if let Some(first) = heads.get(&server.address) {
                context.push(
                    Diagnostic::warning(
                        Code::Duplicate,
                        format!(
                            "the real server {} stands twice in this service",
                            server.address
                        ),
                    )
                    .at(head, "the second is removed, as keepalived does")
                    .at(*first, "defined here first"),
                );
                continue;
            }
            heads.insert(server.address, head);
            servers.push(server);
        }
        servers
    }

    fn persistence(
        &self,
        context: &mut Context<'_>,
        block: &Statement,
        port: u16,
    ) -> Option<Persistence> {
        let timeout = match (self.persistence_timeout, self.granularity) {
            (Some(timeout), _) => timeout,
            (None, Some((_, span))) => {
                context.push(
                    Diagnostic::warning(
                        Code::DefaultUsed,
                        "'persistence_granularity' alone turns persistence on, for 360 s, as with keepalived",
                    )
                    .at(span, "no valid 'persistence_timeout' stands beside it")
                    .help("add 'persistence_timeout SECONDS', or remove the line"),
                );
                settings::BARE_PERSISTENCE
            }
            (None, None) if port == 0 => {
                context.push(
                    Diagnostic::warning(
                        Code::DefaultUsed,
                        "a service on every port is persistent: 360 s is used, as keepalived does",
                    )
                    .at(block.head(), "has no port and no 'persistence_timeout'")
                    .help("add a port, or 'persistence_timeout SECONDS'"),
                );
                settings::BARE_PERSISTENCE
            }
            (None, None) => return None,
        };
        Some(Persistence {
            timeout,
            prefix_len: self.granularity.map_or(WHOLE_ADDRESS, |(length, _)| length),
        })
    }
}

fn default_protocol(context: &mut Context<'_>, block: &Statement) -> Protocol {
    context.push(
        Diagnostic::warning(
            Code::DefaultUsed,
            "this virtual server has no 'protocol': UDP is used, as keepalived does",
        )
        .at(block.head(), "balances UDP")
        .help("add 'protocol TCP' or 'protocol UDP'"),
    );
    Protocol::Udp
}

fn no_scheduler(context: &mut Context<'_>, block: &Statement) -> Result<Scheduler, Refused> {
    context.push(
        Diagnostic::error(
            Code::MissingKeyword,
            "this virtual server has no 'lb_algo': keepalived would use wlc, which does not exist in this version yet",
        )
        .at(block.head(), "add 'lb_algo rr' or 'lb_algo wrr'")
        .help(settings::WORKING_SCHEDULERS),
    );
    Err(Refused)
}

fn no_forwarding(context: &mut Context<'_>, block: &Statement) -> Result<Forwarding, Refused> {
    context.push(
        Diagnostic::error(
            Code::MissingKeyword,
            "this virtual server has no 'lb_kind': keepalived would use NAT, which does not exist in this version yet",
        )
        .at(block.head(), "only DR works in this version")
        .help(settings::NEEDS_OF_DR),
    );
    Err(Refused)
}
