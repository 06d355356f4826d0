//! A `virtual_server` as its block is read; [`super::build`] makes a service of it.

use std::net::IpAddr;
use std::time::Duration;

use super::super::checker::{Level, Timers};
use super::frontend::{self, Head};
use super::{real_server, settings};
use crate::config::ast::Statement;
use crate::config::keywords::{Keyword, Scope};
use crate::config::lower::command;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{Command, Family, Forwarding, Protocol, Scheduler};
use crate::config::places::ServicePlaces;
use crate::config::source::Span;

const IGNORED: &str = "ignored, as keepalived does";

/// What was read of a virtual server.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) head: Head,
    pub(super) places: ServicePlaces,
    pub(super) scheduler: Option<Scheduler>,
    /// `flag-1` to `flag-3`, and where the last of them stands.
    pub(super) flags: [bool; 3],
    pub(super) flag_place: Option<Span>,
    pub(super) forwarding: Option<Forwarding>,
    pub(super) protocol: Option<Protocol>,
    pub(super) ip_family: Option<(Family, Span)>,
    pub(super) persistence_timeout: Option<Duration>,
    /// Prefix length, its family, and where it stands.
    pub(super) granularity: Option<(u8, Family, Span)>,
    pub(super) ops: Option<Span>,
    pub(super) timers: Timers,
    pub(super) weight: Option<u32>,
    pub(super) inhibit_on_failure: bool,
    pub(super) host: Option<String>,
    pub(super) omega: bool,
    pub(super) ha_suspend: bool,
    pub(super) expire_quiescent: bool,
    pub(super) smtp_alert: Option<bool>,
    pub(super) quorum: QuorumDraft,
    pub(super) sorry: SorryDraft,
    pub(super) real_servers: Vec<real_server::Draft>,
}

/// `quorum` and its like.
#[derive(Debug, Default)]
pub(super) struct QuorumDraft {
    pub(super) weight: Option<u32>,
    pub(super) hysteresis: Option<u32>,
    pub(super) hysteresis_place: Option<Span>,
    pub(super) up: Option<Command>,
    pub(super) down: Option<Command>,
}

/// `sorry_server` and its like.
#[derive(Debug, Default)]
pub(super) struct SorryDraft {
    pub(super) address: Option<(IpAddr, Option<u16>)>,
    pub(super) forwarding: Option<Forwarding>,
    pub(super) inhibit: bool,
    /// Where something stands that is of use only with a `sorry_server`.
    pub(super) more: Option<Span>,
}

impl Draft {
    /// `None` when keepalived skips the block.
    pub(super) fn read(context: &mut Context<'_>, block: &Statement) -> Option<Self> {
        let head = frontend::head(context, block);
        let mut draft = Self::new(head.clone().unwrap_or(Head::Mark(0)), block.head());
        for (keyword, statement) in context.keywords(Scope::VirtualServer, block) {
            let taken = draft
                .timers
                .take(context, keyword, statement, Level::Server)
                || draft.take_balancing(context, keyword, statement)
                || draft.take_pool(context, keyword, statement)
                || draft.take_switches(context, keyword, statement)
                || draft.take_flags(context, keyword, statement);
            if !taken {
                context.unread(keyword, statement);
            }
        }
        // The block of a head that is none was read for the mistakes in it.
        head.map(|_| draft)
    }

    fn new(head: Head, place: Span) -> Self {
        Self {
            head,
            places: ServicePlaces {
                head: place,
                ..ServicePlaces::default()
            },
            scheduler: None,
            flags: [false; 3],
            flag_place: None,
            forwarding: None,
            protocol: None,
            ip_family: None,
            persistence_timeout: None,
            granularity: None,
            ops: None,
            timers: Timers::default(),
            weight: None,
            inhibit_on_failure: false,
            host: None,
            omega: false,
            ha_suspend: false,
            expire_quiescent: false,
            smtp_alert: None,
            quorum: QuorumDraft::default(),
            sorry: SorryDraft::default(),
            real_servers: Vec::new(),
        }
    }

    /// Whether its addresses stand in a `virtual_server_group`.
    pub(super) const fn is_of_a_group(&self) -> bool {
        matches!(self.head, Head::Group(_))
    }

    /// The family, as far as the head says it.
    const fn family(&self) -> Option<Family> {
        match &self.head {
            Head::Endpoint(ip, _) => Some(Family::of(*ip)),
            Head::Mark(_) | Head::Group(_) => None,
        }
    }

    fn take_balancing(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let place = Some(value_place(statement));
        match keyword.name {
            "lb_algo" | "lvs_sched" => {
                self.scheduler = settings::scheduler(context, statement).or(self.scheduler);
                self.places.scheduler = place;
            }
            "lb_kind" | "lvs_method" => {
                self.forwarding = settings::forwarding(context, statement).or(self.forwarding);
                self.places.forwarding = place;
            }
            "protocol" => {
                self.protocol = settings::protocol(context, statement).or(self.protocol);
                self.places.protocol = place;
            }
            "ip_family" => {
                let family = settings::family(context, statement);
                let placed = family.map(|family| (family, statement.head()));
                self.ip_family = placed.or(self.ip_family);
            }
            "persistence_timeout" => {
                self.persistence_timeout = settings::persistence_timeout(context, statement);
            }
            "persistence_granularity" => {
                let length = settings::granularity(context, statement, self.family());
                let placed = length.map(|(length, family)| (length, family, statement.head()));
                self.granularity = placed.or(self.granularity);
            }
            "ops" => self.ops = Some(statement.head()),
            _ => return false,
        }
        true
    }

    fn take_pool(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "real_server" => {
                let server = real_server::Draft::read(context, statement);
                self.real_servers.extend(server);
            }
            "weight" => self.weight = real_server::weight(context, statement).or(self.weight),
            "quorum" => {
                let instead = "1 is used, as keepalived does";
                let range = 1..=u32::MAX;
                self.quorum.weight = context.number(statement, range, Tail::Refused, instead);
                self.places.quorum = Some(statement.head());
            }
            "hysteresis" => {
                let margin = context.number(statement, 0..=u32::MAX, Tail::Refused, IGNORED);
                self.quorum.hysteresis = margin.or(self.quorum.hysteresis);
                self.quorum.hysteresis_place = Some(statement.head());
            }
            "quorum_up" => self.quorum.up = command::read(context, statement, keyword.name),
            "quorum_down" => self.quorum.down = command::read(context, statement, keyword.name),
            "sorry_server" => {
                self.sorry.address = real_server::endpoint(context, statement, keyword.name);
                self.places.sorry_server = Some(statement.head());
            }
            "sorry_server_inhibit" => {
                self.sorry.inhibit = true;
                self.sorry.more = Some(statement.head());
            }
            "sorry_server_lvs_method" => {
                self.sorry.forwarding = settings::forwarding(context, statement);
                self.sorry.more = Some(statement.head());
            }
            _ => return false,
        }
        true
    }

    fn take_switches(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "inhibit_on_failure" => {
                let on = context.boolean(keyword, statement);
                self.inhibit_on_failure = on.unwrap_or(self.inhibit_on_failure);
            }
            "virtualhost" => {
                self.host = real_server::host(context, statement).or_else(|| self.host.take());
            }
            "omega" => self.omega = true,
            "ha_suspend" => self.ha_suspend = true,
            "expire_quiescent" => self.expire_quiescent = true,
            "smtp_alert" => {
                self.smtp_alert = context.boolean(keyword, statement).or(self.smtp_alert);
            }
            _ => return false,
        }
        true
    }

    /// Flags of the scheduler. Those with a scheduler in their name must follow it.
    fn take_flags(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let (at, named) = match keyword.name {
            "flag-1" => (0, false),
            "flag-2" => (1, false),
            "flag-3" => (2, false),
            "sh-fallback" | "mh-fallback" | "hashed" => (0, true),
            "sh-port" | "mh-port" => (1, true),
            _ => return false,
        };
        let hashes = matches!(
            self.scheduler,
            Some(Scheduler::SourceHash(_) | Scheduler::Maglev(_))
        );
        if named && !hashes {
            settings::flag_of_another_scheduler(context, statement);
            return true;
        }
        if let Some(flag) = self.flags.get_mut(at) {
            *flag = true;
        }
        if !named {
            self.flag_place = Some(statement.head());
        }
        true
    }
}

/// The values of a statement.
pub(super) fn value_place(statement: &Statement) -> Span {
    match (statement.values.first(), statement.values.last()) {
        (Some(first), Some(last)) => first.span.to(last.span),
        _ => statement.keyword.span,
    }
}

/// The keyword of a checker is one of a real server.
pub(super) fn is_checker(keyword: &Keyword) -> bool {
    keyword.name.ends_with("_CHECK") || matches!(keyword.name, "HTTP_GET" | "SSL_GET")
}
