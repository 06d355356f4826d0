//! `real_server`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::super::checker::{self, Inherited, Level, Timers};
use super::{draft, frontend, settings};
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::keywords::{Keyword, Scope};
use crate::config::lower::command;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{Command, ConnectionLimit, Family, Forwarding, RealServer};
use crate::config::places::ServerPlaces;
use crate::config::source::Span;

const DEFAULT_WEIGHT: u32 = 1;
/// Weights are C integers in IPVS.
const WEIGHTS: std::ops::RangeInclusive<u32> = 0..=2_147_483_647;
/// Longest time in which a server may grow to its weight: a day.
const LONGEST_START: Duration = Duration::from_hours(24);
const IGNORED: &str = "ignored, as keepalived does";

/// A `real_server` as it was read.
#[derive(Debug)]
pub(super) struct Draft {
    ip: IpAddr,
    /// As the file has it, if it does.
    port: Option<u16>,
    pub(super) head: Span,
    forwarding: Option<(Forwarding, Span)>,
    weight: Option<u32>,
    upper: Option<u32>,
    lower: Option<(u32, Span)>,
    inhibit_on_failure: bool,
    slow_start: Option<Duration>,
    notify_up: Option<Command>,
    notify_down: Option<Command>,
    smtp_alert: Option<bool>,
    host: Option<String>,
    timers: Timers,
    checks: Vec<checker::Draft>,
}

/// What a real server takes from the service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) ports: Ports,
    /// Only of this one can servers be that packets reach unwrapped.
    pub(super) family: Option<Family>,
    pub(super) forwarding: Forwarding,
    pub(super) weight: Option<u32>,
    pub(super) timers: Timers,
    pub(super) host: Option<&'a str>,
    pub(super) inhibit_on_failure: bool,
    pub(super) smtp_alert: Option<bool>,
}

/// Which ports the packets of a service go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ports {
    /// This one; 0 is any.
    One(u16),
    /// Whichever the firewall marks.
    Marked,
    /// That of whichever address of a group they come to: all have this one, or it is 0.
    Grouped(u16),
}

impl Draft {
    /// `None` when keepalived skips the server.
    pub(super) fn read(context: &mut Context<'_>, block: &Statement) -> Option<Self> {
        let endpoint = endpoint(context, block, "real_server");
        let (ip, port) = endpoint.unwrap_or((IpAddr::V4(Ipv4Addr::UNSPECIFIED), None));
        let mut draft = Self {
            ip,
            port: port.filter(|port| *port != 0),
            head: block.head(),
            forwarding: None,
            weight: None,
            upper: None,
            lower: None,
            inhibit_on_failure: false,
            slow_start: None,
            notify_up: None,
            notify_down: None,
            smtp_alert: None,
            host: None,
            timers: Timers::default(),
            checks: Vec::new(),
        };
        for (keyword, statement) in context.keywords(Scope::RealServer, block) {
            let taken = draft
                .timers
                .take(context, keyword, statement, Level::Server)
                || draft.take(context, keyword, statement)
                || draft.take_check(context, keyword, statement);
            if !taken {
                context.unread(keyword, statement);
            }
        }
        endpoint.map(|_| draft)
    }

    pub(super) const fn ip(&self) -> IpAddr {
        self.ip
    }

    /// `lvs_method`, if it has its own.
    pub(super) fn forwarding(&self) -> Option<Forwarding> {
        self.forwarding.map(|(forwarding, _)| forwarding)
    }

    fn take_check(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        statement: &Statement,
    ) -> bool {
        let is_checker = draft::is_checker(keyword);
        if is_checker {
            let check = checker::Draft::read(context, keyword, statement);
            // Nearly always there is one: room for more would add up over a hundred thousand.
            self.checks.reserve_exact(usize::from(check.is_some()));
            self.checks.extend(check);
        }
        is_checker
    }

    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let number = |context: &mut Context<'_>| {
            context.number(statement, 0..=u32::MAX, Tail::Refused, IGNORED)
        };
        match keyword.name {
            "weight" => self.weight = weight(context, statement).or(self.weight),
            "lvs_method" => {
                let forwarding = settings::forwarding(context, statement);
                let placed =
                    forwarding.map(|forwarding| (forwarding, draft::value_place(statement)));
                self.forwarding = placed.or(self.forwarding);
            }
            "uthreshold" => self.upper = number(context).or(self.upper),
            "lthreshold" => {
                let lower = number(context).map(|lower| (lower, statement.head()));
                self.lower = lower.or(self.lower);
            }
            "inhibit_on_failure" => {
                let on = context.boolean(keyword, statement);
                self.inhibit_on_failure = on.unwrap_or(self.inhibit_on_failure);
            }
            "slow_start" => {
                let range = Duration::ZERO..=LONGEST_START;
                let time = context.seconds(statement, range, Tail::Refused, "ignored");
                self.slow_start = time.filter(|time| !time.is_zero());
            }
            "notify_up" => self.notify_up = command::read(context, statement, keyword.name),
            "notify_down" => self.notify_down = command::read(context, statement, keyword.name),
            "smtp_alert" => {
                self.smtp_alert = context.boolean(keyword, statement).or(self.smtp_alert);
            }
            "virtualhost" => {
                self.host = host(context, statement).or_else(|| self.host.take());
            }
            _ => return false,
        }
        true
    }

    /// The server with what it inherits filled in; `None` when it is skipped.
    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        around: Surroundings<'_>,
    ) -> Option<(RealServer, ServerPlaces)> {
        let (own, place) = self.forwarding.unzip();
        let forwarding = own.unwrap_or(around.forwarding);
        if !fits(around.family, self.ip, forwarding) {
            context.push(other_family(self.ip, "real server", self.head));
            return None;
        }
        let port = self.actual_port(context, around.ports, forwarding);
        let address = SocketAddr::new(self.ip, port);
        let limit = self.limit(context);
        let inherited = Inherited {
            address,
            timers: self.timers.or(around.timers),
            host: self.host.as_deref().or(around.host),
        };
        let mut checks = Vec::with_capacity(self.checks.len());
        let mut check_places = Vec::with_capacity(self.checks.len());
        for check in self.checks {
            let place = check.keyword;
            if let Some(check) = check.build(context, inherited) {
                checks.push(check);
                check_places.push(place);
            }
        }
        let server = RealServer {
            address,
            weight: self.weight.or(around.weight).unwrap_or(DEFAULT_WEIGHT),
            forwarding,
            limit,
            inhibit_on_failure: self.inhibit_on_failure || around.inhibit_on_failure,
            slow_start: self.slow_start,
            notify_up: self.notify_up,
            notify_down: self.notify_down,
            // Of a real server mail is on by default.
            smtp_alert: self.smtp_alert.or(around.smtp_alert).unwrap_or(true),
            checks,
        };
        let places = ServerPlaces {
            head: self.head,
            forwarding: place,
            checks: check_places,
        };
        Some((server, places))
    }

    fn actual_port(&self, context: &mut Context<'_>, ports: Ports, forwarding: Forwarding) -> u16 {
        match (ports, self.port) {
            (Ports::One(port) | Ports::Grouped(port), None) => port,
            (Ports::One(port), Some(own)) if own == port || forwarding.changes_ports() => own,
            (Ports::One(port), Some(own)) => {
                context.push(other_port(self.head, forwarding, own, port));
                port
            }
            (Ports::Marked, Some(own)) => {
                context.push(
                    Diagnostic::warning(
                        Code::Conflict,
                        format!("a server behind a firewall mark has no port: {own} is dropped, as keepalived does"),
                    )
                    .at(self.head, "packets keep the port that they come to")
                    .help("remove the port, and add 'connect_port' to its checks"),
                );
                0
            }
            (Ports::Grouped(port), Some(own)) => {
                if port != 0 && own != port && !forwarding.changes_ports() {
                    context.push(
                        Diagnostic::warning(
                            Code::Doubtful,
                            format!("packets come to port {port} of this server, only its checks go to {own}"),
                        )
                        .at(self.head, format!("not the port of the group, and {} changes none", forwarding.name()))
                        .help("remove the port, or give the checks their 'connect_port'"),
                    );
                }
                own
            }
            (Ports::Marked, None) => 0,
        }
    }

    fn limit(&self, context: &mut Context<'_>) -> Option<ConnectionLimit> {
        let upper = self.upper.unwrap_or(0);
        let lower = self.lower.filter(|(lower, span)| {
            let fits = *lower <= upper;
            if !fits {
                context.push(
                    Diagnostic::warning(
                        Code::Conflict,
                        format!("'lthreshold {lower}' is above 'uthreshold' ({upper}): it is left out"),
                    )
                    .at(*span, "IPVS refuses a server with such limits")
                    .help("a server that has 'uthreshold' connections takes new ones again at 'lthreshold'"),
                );
            }
            fits
        });
        let lower = lower.map_or(0, |(lower, _)| lower);
        NonZeroU32::new(upper).map(|upper| ConnectionLimit { upper, lower })
    }
}

/// Whether packets of `family` can go to a server at `ip`.
pub(super) fn fits(family: Option<Family>, ip: IpAddr, forwarding: Forwarding) -> bool {
    forwarding.crosses_families() || family.is_none_or(|family| family == Family::of(ip))
}

/// A server that packets cannot go to.
pub(super) fn other_family(ip: IpAddr, what: &str, place: Span) -> Diagnostic {
    let family = Family::of(ip);
    Diagnostic::warning(
        Code::Conflict,
        format!("the {what} {ip} is not of the virtual server's family: it is skipped, as keepalived does"),
    )
    .at(place, format!("an {family} address"))
    .help("only a tunnel ('lvs_method TUN') leads from one family to the other")
}

/// A port that only address translation could change to.
pub(super) fn other_port(place: Span, forwarding: Forwarding, own: u16, port: u16) -> Diagnostic {
    let used = if port == 0 {
        "the port each client asks for".to_owned()
    } else {
        format!("port {port}")
    };
    let what = match forwarding {
        Forwarding::DirectRouting => "direct routing",
        Forwarding::Nat => "address translation",
        Forwarding::Tunnel(_) => "a tunnel",
    };
    Diagnostic::warning(
        Code::Conflict,
        format!("{what} cannot change the port to {own}: {used} is used, as keepalived does"),
    )
    .at(
        place,
        "not the port of the virtual server; the checks use that one too",
    )
}

/// `weight`.
pub(super) fn weight(context: &mut Context<'_>, statement: &Statement) -> Option<u32> {
    context.number(statement, WEIGHTS, Tail::Refused, IGNORED)
}

/// `virtualhost`.
pub(super) fn host(context: &mut Context<'_>, statement: &Statement) -> Option<String> {
    let word = statement.values.first();
    if word.is_none() {
        context.push(
            Diagnostic::warning(Code::MissingValue, "'virtualhost' has no value")
                .at(statement.head(), IGNORED),
        );
    }
    word.map(|word| word.text.clone())
}

/// `ADDRESS [PORT]`; without a port the service's is meant.
pub(super) fn endpoint(
    context: &mut Context<'_>,
    statement: &Statement,
    keyword: &str,
) -> Option<(IpAddr, Option<u16>)> {
    let address = statement.values.first()?;
    let port = statement.values.get(1);
    let ip = address.text.parse().ok();
    let number = port.map(|word| word.text.parse::<u16>().ok());
    match (ip, number) {
        (Some(ip), None) => Some((ip, None)),
        (Some(ip), Some(Some(port))) => Some((ip, Some(port))),
        _ => {
            context.push(frontend::not_an_endpoint(statement, keyword));
            None
        }
    }
}
