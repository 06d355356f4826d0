//! `real_server`.

use std::net::{IpAddr, SocketAddr};

use super::checker::{Level, TcpCheck, Timers};
use super::context::Context;
use super::settings;
use super::value::Tail;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::model::RealServer;
use crate::config::source::Span;

const DEFAULT_WEIGHT: u32 = 1;
/// Weights are C integers in IPVS.
const WEIGHTS: std::ops::RangeInclusive<u32> = 0..=2_147_483_647;

/// A `real_server` as it was read.
#[derive(Debug)]
pub(super) struct Draft {
    ip: IpAddr,
    /// As the file has it, if it does.
    port: Option<u16>,
    pub(super) head: Span,
    weight: Option<u32>,
    timers: Timers,
    checks: Vec<TcpCheck>,
}

impl Draft {
    /// `None` when keepalived skips the server.
    pub(super) fn read(context: &mut Context<'_>, block: &Statement) -> Option<Self> {
        let (ip, port) = endpoint(context, block)?;
        let mut draft = Self {
            ip,
            port,
            head: block.head(),
            weight: None,
            timers: Timers::default(),
            checks: Vec::new(),
        };
        for (keyword, statement) in context.keywords(Scope::RealServer, block) {
            if !draft
                .timers
                .take(context, keyword, statement, Level::Server)
            {
                draft.take(context, keyword, statement);
            }
        }
        Some(draft)
    }

    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        statement: &Statement,
    ) {
        match keyword.name {
            "weight" => self.weight = weight(context, statement).or(self.weight),
            "TCP_CHECK" => self.checks.push(TcpCheck::read(context, statement)),
            "lvs_method" => {
                settings::forwarding(context, statement);
            }
            _ => context.unread(keyword, statement),
        }
    }

    /// The server of a service on `port`, with what it inherits filled in.
    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        port: u16,
        weight: Option<u32>,
        timers: Timers,
    ) -> Option<RealServer> {
        if self.ip.is_ipv6() {
            context.push(
                Diagnostic::error(
                    Code::NotSupported,
                    format!("the real server {} has an IPv6 address", self.ip),
                )
                .at(self.head, "IPv6 is not balanced yet"),
            );
            return None;
        }
        if let Some(own) = self.port.filter(|own| *own != port) {
            self.other_port(context, own, port);
        }
        let address = SocketAddr::new(self.ip, port);
        let timers = self.timers.or(timers);
        let checks = self.checks.into_iter();
        Some(RealServer {
            address,
            weight: self.weight.or(weight).unwrap_or(DEFAULT_WEIGHT),
            checks: checks
                .map(|check| check.build(context, address, timers))
                .collect(),
        })
    }

    fn other_port(&self, context: &mut Context<'_>, own: u16, port: u16) {
        let used = if port == 0 {
            "the port each client asks for".to_owned()
        } else {
            format!("port {port}")
        };
        context.push(
            Diagnostic::warning(
                Code::Conflict,
                format!("direct routing cannot change the port to {own}: {used} is used, as keepalived does"),
            )
            .at(self.head, "not the port of the virtual server; the checks use that one too"),
        );
    }
}

/// `weight`.
pub(super) fn weight(context: &mut Context<'_>, statement: &Statement) -> Option<u32> {
    context.number(
        statement,
        WEIGHTS,
        Tail::Dropped,
        "ignored, as keepalived does",
    )
}

/// `ADDRESS [PORT]`; without a port the service's is meant.
fn endpoint(context: &mut Context<'_>, block: &Statement) -> Option<(IpAddr, Option<u16>)> {
    let address = block.values.first()?;
    let port = block.values.get(1);
    let ip = address.text.parse().ok();
    let number = port.map(|word| word.text.parse::<u16>().ok());
    match (ip, number) {
        (Some(ip), None) => Some((ip, None)),
        (Some(ip), Some(Some(port))) => Some((ip, Some(port))),
        _ => {
            let diagnostic = not_an_endpoint(block, "real_server");
            context.push(diagnostic);
            None
        }
    }
}

/// The head of a `virtual_server` or `real_server` that keepalived skips.
pub(super) fn not_an_endpoint(block: &Statement, keyword: &str) -> Diagnostic {
    let written: Vec<&str> = block.values.iter().map(|word| word.text.as_str()).collect();
    let written = written.join(" ");
    let span = block
        .values
        .first()
        .map_or(block.keyword.span, |first| first.span.to(block.head()));
    let diagnostic = Diagnostic::warning(
        Code::BadValue,
        format!(
            "{} is not an address and a port: this {keyword} is skipped, as keepalived does",
            quote(&written)
        ),
    )
    .at(span, "expected ADDRESS PORT");
    match written.parse::<SocketAddr>() {
        Ok(address) => diagnostic
            .help("write a space before the port")
            .suggest(span, format!("{} {}", address.ip(), address.port())),
        Err(_) => diagnostic,
    }
}
