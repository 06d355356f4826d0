//! Where a probe goes, and from where: `connect_ip`, `connect_port`, `bindto` and their like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::IGNORED;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::keywords::Keyword;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::Connection;
use crate::config::source::Span;

/// Ports of those checkers that know one when the real server has none.
pub(super) const DNS: Option<u16> = Some(53);
pub(super) const SMTP: Option<u16> = Some(25);
/// Of a checker that uses no ports at all.
pub(super) const NO_PORT: Option<u16> = Some(0);

/// What the statements of a checker say.
#[derive(Clone, Debug, Default)]
pub(super) struct ConnectionDraft {
    ip: Option<IpAddr>,
    port: Option<u16>,
    bind_ip: Option<(IpAddr, Span)>,
    bind_port: Option<u16>,
    interface: Option<String>,
    mark: Option<u32>,
}

/// The checker that it is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) keyword: Span,
    /// The real server.
    pub(super) server: SocketAddr,
    pub(super) timeout: Duration,
}

impl ConnectionDraft {
    /// Takes the statement if it is one of these; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "connect_ip" => self.ip = context.address(statement, IGNORED).or(self.ip),
            "connect_port" => self.port = port(context, statement).or(self.port),
            "bindto" => {
                let address = context.address(statement, IGNORED);
                self.bind_ip = address.map(|ip| (ip, statement.head())).or(self.bind_ip);
            }
            "bind_port" => self.bind_port = port(context, statement).or(self.bind_port),
            "bind_if" => {
                let word = statement.values.first();
                self.interface = word.and_then(|word| context.device(word));
            }
            "fwmark" => {
                let mark = context.number(statement, 0..=u32::MAX, Tail::Refused, IGNORED);
                self.mark = mark.or(self.mark);
            }
            _ => return false,
        }
        true
    }

    /// `default_port`: for a real server on every port.
    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        place: Place,
        default_port: Option<u16>,
    ) -> Connection {
        let own = self.port.unwrap_or_else(|| place.server.port());
        let port = match default_port {
            NO_PORT => 0,
            Some(default) if own == 0 => default,
            Some(_) | None => own,
        };
        if port == 0 && default_port.is_none() {
            context.push(
                Diagnostic::error(
                    Code::MissingKeyword,
                    "this check has no port to connect to: the service takes every port",
                )
                .at(place.keyword, "it would never succeed")
                .help("add 'connect_port PORT'"),
            );
        }
        let target = SocketAddr::new(self.ip.unwrap_or_else(|| place.server.ip()), port);
        let bind_port = self.bind_port.filter(|_| default_port != NO_PORT);
        Connection {
            target,
            source: self.source(context, target, bind_port),
            interface: self.interface,
            mark: self.mark.unwrap_or(0),
            connect_timeout: place.timeout,
        }
    }

    fn source(
        &self,
        context: &mut Context<'_>,
        target: SocketAddr,
        bind_port: Option<u16>,
    ) -> Option<SocketAddr> {
        let any = match target.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let fitting = self.bind_ip.filter(|(ip, span)| {
            let fits = ip.is_ipv4() == target.is_ipv4();
            if !fits {
                context.push(
                    Diagnostic::warning(
                        Code::Conflict,
                        format!("the check cannot go from {ip} to {}", target.ip()),
                    )
                    .at(*span, IGNORED),
                );
            }
            fits
        });
        match (fitting, bind_port) {
            (Some((ip, _)), port) => Some(SocketAddr::new(ip, port.unwrap_or(0))),
            (None, Some(port)) => Some(SocketAddr::new(any, port)),
            (None, None) => None,
        }
    }
}

fn port(context: &mut Context<'_>, statement: &Statement) -> Option<u16> {
    let number = context.number(statement, 1..=65_535, Tail::Refused, IGNORED);
    number.and_then(|number| u16::try_from(number).ok())
}
