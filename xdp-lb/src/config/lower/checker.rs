//! Times of health checks, and `TCP_CHECK`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::context::Context;
use super::value::Tail;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::model::{Check, Probe, TcpProbe};
use crate::config::source::Span;

const DELAY_LOOP: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY: u32 = 1;
const DELAY_BEFORE_RETRY: Duration = Duration::from_secs(1);

/// A year: longer waits between checks are mistakes, and sums of times cannot overflow.
const LONGEST: Duration = Duration::from_hours(365 * 24);
const ABOVE_ZERO: RangeInclusive<Duration> = Duration::from_micros(1)..=LONGEST;
const FROM_ZERO: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;
/// Microseconds in 32 bits: what keepalived takes.
const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_micros(1)..=Duration::from_micros(u32::MAX as u64);

const IGNORED: &str = "ignored, as keepalived does";

/// Where a time is set: the checker's own settings go before the real server's, those before the
/// virtual server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// In `virtual_server` or `real_server`.
    Server,
    /// In the checker.
    Checker,
}

/// The times that are set in one block.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    delay_loop: Option<Duration>,
    connect_timeout: Option<Duration>,
    retry: Option<u32>,
    delay_before_retry: Option<Duration>,
    warmup: Option<Duration>,
}

impl Timers {
    /// Takes the statement if it is a time; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
        level: Level,
    ) -> bool {
        let mut seconds = |range| context.seconds(statement, range, Tail::Dropped, IGNORED);
        match keyword.name {
            "delay_loop" => self.delay_loop = seconds(ABOVE_ZERO).or(self.delay_loop),
            "connect_timeout" => self.connect_timeout = seconds(TIMEOUT).or(self.connect_timeout),
            "delay_before_retry" => {
                self.delay_before_retry = seconds(FROM_ZERO).or(self.delay_before_retry);
            }
            "warmup" => self.warmup = seconds(FROM_ZERO).or(self.warmup),
            "retry" => {
                let (least, tail) = match level {
                    Level::Server => (1, Tail::Refused),
                    Level::Checker => (0, Tail::Dropped),
                };
                let number = context.number(statement, least..=u32::MAX, tail, IGNORED);
                self.retry = number.or(self.retry);
            }
            _ => return false,
        }
        true
    }

    /// These, and those of the block around where these say nothing.
    pub(super) fn or(self, outer: Self) -> Self {
        Self {
            delay_loop: self.delay_loop.or(outer.delay_loop),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
            warmup: self.warmup.or(outer.warmup),
        }
    }
}

/// A `TCP_CHECK` as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcpCheck {
    keyword: Span,
    timers: Timers,
    connect_ip: Option<IpAddr>,
    connect_port: Option<u16>,
    bind_ip: Option<(IpAddr, Span)>,
    bind_port: Option<u16>,
}

impl TcpCheck {
    pub(super) fn read(context: &mut Context<'_>, block: &Statement) -> Self {
        let mut check = Self {
            keyword: block.keyword.span,
            timers: Timers::default(),
            connect_ip: None,
            connect_port: None,
            bind_ip: None,
            bind_port: None,
        };
        for (keyword, statement) in context.keywords(Scope::TcpCheck, block) {
            if !check
                .timers
                .take(context, keyword, statement, Level::Checker)
            {
                check.take(context, keyword, statement);
            }
        }
        check
    }

    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        statement: &Statement,
    ) {
        match keyword.name {
            "connect_ip" => {
                self.connect_ip = context.address(statement, IGNORED).or(self.connect_ip);
            }
            "connect_port" => {
                self.connect_port = port(context, statement).or(self.connect_port);
            }
            "bindto" => {
                let address = context.address(statement, IGNORED);
                self.bind_ip = address.map(|ip| (ip, statement.head())).or(self.bind_ip);
            }
            "bind_port" => self.bind_port = port(context, statement).or(self.bind_port),
            "nb_get_retry" | "nb_get_replies" => self.renamed_retry(context, statement),
            _ => context.unread(keyword, statement),
        }
    }

    /// Names that were meant as `retry`. keepalived does not know them here and uses the default.
    fn renamed_retry(&mut self, context: &mut Context<'_>, statement: &Statement) {
        let name = &statement.keyword;
        context.push(
            Diagnostic::warning(
                Code::Renamed,
                format!("{} is taken as 'retry'", quote(&name.text)),
            )
            .at(name.span, "keepalived ignores it and retries once")
            .help("write 'retry'")
            .suggest(name.span, "retry"),
        );
        let number = context.number(statement, 0..=u32::MAX, Tail::Dropped, IGNORED);
        self.timers.retry = number.or(self.timers.retry);
    }

    /// The check with every value filled in, for a server at `address`.
    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        address: SocketAddr,
        inherited: Timers,
    ) -> Check {
        let port = self.connect_port.unwrap_or_else(|| address.port());
        let target = SocketAddr::new(self.connect_ip.unwrap_or_else(|| address.ip()), port);
        if port == 0 {
            context.push(
                Diagnostic::error(
                    Code::MissingKeyword,
                    "this check has no port to connect to: the service takes every port",
                )
                .at(self.keyword, "it would never succeed")
                .help("add 'connect_port PORT'"),
            );
        }
        let timers = self.timers.or(inherited);
        let delay_loop = timers.delay_loop.unwrap_or(DELAY_LOOP);
        Check {
            probe: Probe::Tcp(TcpProbe {
                target,
                source: self.source(context, target),
                connect_timeout: timers.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            }),
            delay_loop,
            retry: timers.retry.unwrap_or(RETRY),
            delay_before_retry: timers.delay_before_retry.unwrap_or(DELAY_BEFORE_RETRY),
            warmup: timers.warmup.unwrap_or(delay_loop),
        }
    }

    fn source(&self, context: &mut Context<'_>, target: SocketAddr) -> Option<SocketAddr> {
        let port = self.bind_port.unwrap_or(0);
        let any = match target.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        match self.bind_ip {
            Some((ip, _)) if ip.is_ipv4() == target.is_ipv4() => Some(SocketAddr::new(ip, port)),
            Some((ip, span)) => {
                context.push(
                    Diagnostic::error(
                        Code::Conflict,
                        format!("the check cannot go from {ip} to {}", target.ip()),
                    )
                    .at(span, "not of the family of the address it checks"),
                );
                None
            }
            None => self.bind_port.map(|port| SocketAddr::new(any, port)),
        }
    }
}

fn port(context: &mut Context<'_>, statement: &Statement) -> Option<u16> {
    let number = context.number(statement, 1..=65_535, Tail::Dropped, IGNORED);
    number.and_then(|number| u16::try_from(number).ok())
}
