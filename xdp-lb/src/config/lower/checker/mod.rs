//! Health checkers: what they share here, what each has of its own in the modules below.

mod connection;
mod hex;
mod http;
mod other;
mod timers;

use std::net::SocketAddr;

use connection::ConnectionDraft;
pub(super) use http::ssl;
use timers::{Defaults, Timing};
pub(super) use timers::{Level, Timers};

use super::context::Context;
use super::value::Tail;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::model::{Check, Probe};
use crate::config::source::Span;

const IGNORED: &str = "ignored, as keepalived does";

/// What a checker takes from the blocks around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inherited<'a> {
    /// The real server.
    pub(super) address: SocketAddr,
    /// Times of the real server, else the virtual server.
    pub(super) timers: Timers,
    /// `virtualhost` of the real server, else the virtual server.
    pub(super) host: Option<&'a str>,
}

/// A checker as it was read.
#[derive(Debug)]
pub(super) struct Draft {
    /// Its keyword.
    pub(super) keyword: Span,
    timers: Timers,
    connection: ConnectionDraft,
    kind: Kind,
}

/// What only one kind of checker has.
#[derive(Debug)]
enum Kind {
    Tcp,
    Ping,
    Http(http::HttpDraft),
    Smtp(other::SmtpDraft),
    Dns(other::DnsDraft),
    Udp(other::UdpDraft),
    Misc(other::MiscDraft),
    File(other::FileDraft),
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "TCP_CHECK" => Self::Tcp,
            "PING_CHECK" => Self::Ping,
            "HTTP_GET" => Self::Http(http::HttpDraft::new(false)),
            "SSL_GET" => Self::Http(http::HttpDraft::new(true)),
            "SMTP_CHECK" => Self::Smtp(other::SmtpDraft::default()),
            "DNS_CHECK" => Self::Dns(other::DnsDraft::default()),
            "UDP_CHECK" => Self::Udp(other::UdpDraft::default()),
            "MISC_CHECK" => Self::Misc(other::MiscDraft::default()),
            "FILE_CHECK" => Self::File(other::FileDraft::default()),
            _ => return None,
        })
    }

    /// Takes the statement if it is one of this kind's; whether it was.
    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match self {
            Self::Tcp | Self::Ping => false,
            Self::Http(http) => http.take(context, keyword, statement),
            Self::Smtp(smtp) => smtp.take(context, keyword, statement),
            Self::Dns(dns) => dns.take(context, keyword, statement),
            Self::Udp(udp) => udp.take(context, keyword, statement),
            Self::Misc(misc) => misc.take(context, keyword, statement),
            Self::File(file) => file.take(context, keyword, statement),
        }
    }

    /// What is missing for it to check anything.
    fn lacks(&self) -> Option<&'static str> {
        match self {
            Self::Http(http) if http.is_empty() => Some("no 'url' with a 'path'"),
            Self::Misc(misc) if misc.is_empty() => Some("no 'misc_path'"),
            Self::File(file) if file.is_empty() => Some("no 'track_file'"),
            Self::Tcp
            | Self::Ping
            | Self::Http(_)
            | Self::Smtp(_)
            | Self::Dns(_)
            | Self::Udp(_)
            | Self::Misc(_)
            | Self::File(_) => None,
        }
    }

    const fn defaults(&self) -> Defaults {
        match self {
            Self::Http(_) => Defaults::HTTP,
            Self::Dns(_) => Defaults::DNS,
            Self::Misc(_) => Defaults::MISC,
            Self::Tcp | Self::Ping | Self::Smtp(_) | Self::Udp(_) | Self::File(_) => {
                Defaults::OTHER
            }
        }
    }
}

impl Draft {
    /// The checker in `block`; `None` when `keyword` is none, or when keepalived leaves it out.
    pub(super) fn read(
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        block: &Statement,
    ) -> Option<Self> {
        let (Some(kind), Some(scope)) = (Kind::of(keyword.name), keyword.block) else {
            context.unread(keyword, block);
            return None;
        };
        let mut draft = Self {
            keyword: block.keyword.span,
            timers: Timers::default(),
            connection: ConnectionDraft::default(),
            kind,
        };
        let statements = context.keywords(scope, block);
        if let Kind::Misc(misc) = &mut draft.kind {
            misc.read_user(&statements);
        }
        for (inner, statement) in statements {
            draft.take(context, inner, statement);
        }
        if let Some(lacks) = draft.kind.lacks() {
            context.push(
                Diagnostic::warning(
                    Code::Empty,
                    format!(
                        "this {} has {lacks}: it is left out, as keepalived does",
                        keyword.name
                    ),
                )
                .at(block.keyword.span, "checks nothing"),
            );
            return None;
        }
        Some(draft)
    }

    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        statement: &Statement,
    ) {
        let taken = self
            .timers
            .take(context, keyword, statement, Level::Checker)
            || self.connection.take(context, keyword, statement)
            || self.kind.take(context, keyword, statement)
            || self.renamed_retry(context, keyword, statement);
        if !taken {
            context.unread(keyword, statement);
        }
    }

    /// Names that mean `retry`, or were meant to.
    fn renamed_retry(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        if !matches!(keyword.name, "nb_get_retry" | "nb_get_replies") {
            return false;
        }
        let known = keyword.name == "nb_get_retry" && matches!(self.kind, Kind::Http(_));
        let keepalived = if known {
            "keepalived's old name of it"
        } else {
            "keepalived ignores it and retries once"
        };
        let span = statement.keyword.span;
        context.push(
            Diagnostic::warning(
                Code::Renamed,
                format!("{} is taken as 'retry'", quote(keyword.name)),
            )
            .at(span, keepalived)
            .help("write 'retry'")
            .suggest(span, "retry"),
        );
        let number = context.number(statement, 0..=u32::MAX, Tail::Refused, IGNORED);
        self.timers.set_retry(number);
        true
    }

    /// The check with every value filled in; always one, for [`Self::read`] left out what has none.
    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        inherited: Inherited<'_>,
    ) -> Option<Check> {
        let defaults = self.kind.defaults();
        let timing = match self.kind {
            // keepalived knows no times of a file: what stands in it holds at once.
            Kind::File(_) => Timing::AT_ONCE,
            Kind::Tcp
            | Kind::Ping
            | Kind::Http(_)
            | Kind::Smtp(_)
            | Kind::Dns(_)
            | Kind::Udp(_)
            | Kind::Misc(_) => self.timers.or(inherited.timers).filled_in(defaults),
        };
        let place = connection::Place {
            keyword: self.keyword,
            server: inherited.address,
            timeout: timing.connect_timeout,
        };
        let probe = probe(
            context,
            self.kind,
            self.connection,
            place,
            &timing,
            inherited,
        )?;
        Some(Check {
            probe,
            delay_loop: timing.delay_loop,
            retry: timing.retry,
            delay_before_retry: timing.delay_before_retry,
            warmup: timing.warmup,
            alpha: timing.alpha,
            log_all_failures: timing.log_all_failures,
        })
    }
}

fn probe(
    context: &mut Context<'_>,
    kind: Kind,
    connection: ConnectionDraft,
    place: connection::Place,
    timing: &Timing,
    inherited: Inherited<'_>,
) -> Option<Probe> {
    use connection::{DNS, NO_PORT, SMTP};
    Some(match kind {
        Kind::Tcp => Probe::Tcp(connection.build(context, place, None)),
        Kind::Ping => Probe::Ping(connection.build(context, place, NO_PORT)),
        Kind::Http(http) => {
            let connection = connection.build(context, place, None);
            Probe::Http(Box::new(http.build(context, connection, inherited.host)))
        }
        Kind::Smtp(smtp) => Probe::Smtp(smtp.build(|host| {
            let draft = host.unwrap_or(&connection).clone();
            draft.build(context, place, SMTP)
        })),
        Kind::Dns(dns) => Probe::Dns(dns.build(connection.build(context, place, DNS))),
        Kind::Udp(udp) => {
            let connection = connection.build(context, place, None);
            Probe::Udp(udp.build(context, place.keyword, connection))
        }
        Kind::Misc(misc) => return misc.build(timing.delay_loop),
        Kind::File(file) => return file.build(),
    })
}
