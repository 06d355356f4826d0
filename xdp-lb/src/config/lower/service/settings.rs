//! `lb_algo`, `lb_kind`, `protocol` and persistence: settings of a virtual server whose values are
//! words.

use std::net::Ipv4Addr;
use std::num::NonZeroU16;
use std::time::Duration;

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{Checksum, Family, Forwarding, Protocol, Scheduler, Tunnel};

/// `persistence_timeout` without a number.
pub(super) const BARE_PERSISTENCE: Duration = Duration::from_mins(6);
/// Longest life of a template, 31 days.
const LONGEST_PERSISTENCE: u32 = 2_678_400;
const IGNORED: &str = "ignored, as keepalived does";

/// `lb_algo`.
pub(super) fn scheduler(context: &mut Context<'_>, statement: &Statement) -> Option<Scheduler> {
    let word = statement.values.first()?;
    let Some(scheduler) = Scheduler::from_name(&word.text.to_ascii_lowercase()) else {
        let expected =
            "rr, wrr, lc, wlc, sh, mh, dh, sed, nq, lblc, lblcr, fo, ovf or twos, in lower case";
        let instead = "ignored, as keepalived does, which uses wlc when there is no other";
        return context.refuse(statement, word, expected, instead);
    };
    case_matters(context, word, scheduler.name(), "would use wlc");
    Some(scheduler)
}

/// `sh-port` and its like, when no scheduler that has them stands before it.
pub(super) fn flag_of_another_scheduler(context: &mut Context<'_>, statement: &Statement) {
    context.push(
        Diagnostic::warning(
            Code::Conflict,
            format!(
                "'{}' is of no use: no 'lb_algo sh' or 'lb_algo mh' stands before it",
                statement.keyword.text
            ),
        )
        .at(statement.head(), IGNORED)
        .help("put it behind the line with 'lb_algo', or remove it"),
    );
}

/// `lb_kind` and `lvs_method`.
pub(super) fn forwarding(context: &mut Context<'_>, statement: &Statement) -> Option<Forwarding> {
    let word = statement.values.first()?;
    let options = statement.values.get(1..).unwrap_or_default();
    let (name, forwarding) = match word.text.to_ascii_uppercase().as_str() {
        "DR" => ("DR", Forwarding::DirectRouting),
        "NAT" => ("NAT", Forwarding::Nat),
        "TUN" => (
            "TUN",
            Forwarding::Tunnel(tunnel(context, statement, options)?),
        ),
        _ => {
            let instead = "ignored, as keepalived does, which uses NAT when there is no other";
            return context.refuse(statement, word, "DR, NAT or TUN", instead);
        }
    };
    case_matters(context, word, name, "would use NAT");
    if let Some(option) = options.first()
        && !forwarding.crosses_families()
    {
        let what = match forwarding {
            Forwarding::Nat => "address translation",
            Forwarding::DirectRouting | Forwarding::Tunnel(_) => "direct routing",
        };
        context.push(
            Diagnostic::warning(
                Code::ExtraValue,
                format!("{} is not an option of {what}", quote(&option.text)),
            )
            .at(option.span, IGNORED),
        );
    }
    Some(forwarding)
}

/// `[type ipip|gue port N|gre] [nocsum|csum|remcsum]`. `None`: the whole line is ignored.
fn tunnel(context: &mut Context<'_>, statement: &Statement, options: &[Word]) -> Option<Tunnel> {
    let mut kind = "ipip";
    let mut port: Option<NonZeroU16> = None;
    let mut checksum: Option<(Checksum, &Word)> = None;
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match word.text.as_str() {
            "type" => {
                let name = words.next();
                kind = match name.map(|name| name.text.as_str()) {
                    Some("ipip") => "ipip",
                    Some("gue") => "gue",
                    Some("gre") => "gre",
                    _ => return bad_tunnel(context, statement, name.unwrap_or(word)),
                };
            }
            "port" => {
                let number = words.next();
                port = number.and_then(|number| number.text.parse().ok());
                if port.is_none() {
                    return bad_tunnel(context, statement, number.unwrap_or(word));
                }
            }
            "nocsum" => checksum = Some((Checksum::None, word)),
            "csum" => checksum = Some((Checksum::Full, word)),
            "remcsum" => checksum = Some((Checksum::Remote, word)),
            _ => return bad_tunnel(context, statement, word),
        }
    }
    let last = statement.values.last()?;
    match (kind, port, checksum) {
        ("gue", Some(port), checksum) => Some(Tunnel::Gue {
            port,
            checksum: checksum.map_or(Checksum::None, |(checksum, _)| checksum),
        }),
        ("gre", None, None | Some((Checksum::None, _))) => Some(Tunnel::Gre { checksum: false }),
        ("gre", None, Some((Checksum::Full, _))) => Some(Tunnel::Gre { checksum: true }),
        ("ipip", None, None | Some((Checksum::None, _))) => Some(Tunnel::Ipip),
        (_, _, Some((_, word))) => bad_tunnel(context, statement, word),
        (_, _, None) => bad_tunnel(context, statement, last),
    }
}

fn bad_tunnel(context: &mut Context<'_>, statement: &Statement, word: &Word) -> Option<Tunnel> {
    let expected =
        "'TUN', 'TUN type gue port PORT [nocsum|csum|remcsum]' or 'TUN type gre [nocsum|csum]'";
    context.refuse(
        statement,
        word,
        expected,
        "the line is ignored, as keepalived does",
    )
}

/// A word that is right but for its case, which keepalived minds.
fn case_matters(context: &mut Context<'_>, word: &Word, right: &str, otherwise: &str) {
    if word.text != right {
        context.push(
            Diagnostic::note(
                Code::Lenient,
                format!(
                    "{} is read as '{right}'; keepalived {otherwise}",
                    quote(&word.text)
                ),
            )
            .at(word.span, format!("write {right}"))
            .suggest(word.span, right),
        );
    }
}

/// `protocol`.
pub(super) fn protocol(context: &mut Context<'_>, statement: &Statement) -> Option<Protocol> {
    let word = statement.values.first()?;
    match word.text.to_ascii_uppercase().as_str() {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => context.refuse(statement, word, "TCP, UDP or SCTP", IGNORED),
    }
}

/// `ip_family`.
pub(super) fn family(context: &mut Context<'_>, statement: &Statement) -> Option<Family> {
    let word = statement.values.first()?;
    match word.text.as_str() {
        "inet" => Some(Family::V4),
        "inet6" => Some(Family::V6),
        _ => context.refuse(statement, word, "inet or inet6", IGNORED),
    }
}

/// `persistence_timeout`: bare is 360 s; `None` is no persistence.
pub(super) fn persistence_timeout(
    context: &mut Context<'_>,
    statement: &Statement,
) -> Option<Duration> {
    let Some(word) = statement.values.first() else {
        return Some(BARE_PERSISTENCE);
    };
    if word.text == "0" {
        context.push(
            Diagnostic::note(
                Code::Lenient,
                "'persistence_timeout 0' means no persistence; keepalived complains and does the same",
            )
            .at(statement.head(), "can be removed"),
        );
        return None;
    }
    let seconds = context.number(statement, 1..=LONGEST_PERSISTENCE, Tail::Refused, IGNORED);
    seconds.map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// `persistence_granularity`, as a prefix length with its family: a netmask for IPv4, a length for
/// IPv6. `family`: the service's, if its head says it.
pub(super) fn granularity(
    context: &mut Context<'_>,
    statement: &Statement,
    family: Option<Family>,
) -> Option<(u8, Family)> {
    let word = statement.values.first()?;
    let mask = word.text.parse::<Ipv4Addr>().ok();
    let length = word.text.parse::<u8>().ok();
    match (family, mask, length) {
        (None | Some(Family::V4), Some(mask), _) => {
            netmask(context, word, mask).map(|length| (length, Family::V4))
        }
        (None | Some(Family::V6), _, Some(length @ 1..=128)) => Some((length, Family::V6)),
        (Some(Family::V4), None, Some(length @ 0..=32)) => {
            prefix_length(context, word, length);
            None
        }
        _ => {
            let expected = match family {
                Some(Family::V6) => "expected a prefix length from 1 to 128",
                Some(Family::V4) | None => "expected a netmask such as 255.255.255.0",
            };
            let diagnostic = Diagnostic::warning(
                Code::BadValue,
                format!(
                    "{} is not a value of 'persistence_granularity': {IGNORED}",
                    quote(&word.text)
                ),
            )
            .at(word.span, expected)
            .help("remove the line: each client address by itself is the default");
            context.push(diagnostic);
            None
        }
    }
}

fn netmask(context: &mut Context<'_>, word: &Word, mask: Ipv4Addr) -> Option<u8> {
    let prefix = ipnet::ipv4_mask_to_prefix(mask).ok();
    if prefix.is_none() {
        context.push(
            Diagnostic::error(
                Code::NotSupported,
                format!("the netmask {mask} has a one after a zero"),
            )
            .at(word.span, "clients can be grouped by leading bits only")
            .help("write a netmask such as 255.255.255.0"),
        );
    }
    prefix
}

/// keepalived reads `24` as the netmask 0.0.0.24, which nobody means.
fn prefix_length(context: &mut Context<'_>, word: &Word, length: u8) {
    let mask = ipnet::Ipv4Net::new(Ipv4Addr::UNSPECIFIED, length).map(|network| network.netmask());
    let diagnostic = Diagnostic::error(
        Code::BadValue,
        format!("{} is not a netmask", quote(&word.text)),
    )
    .at(
        word.span,
        format!("keepalived reads it as the netmask 0.0.0.{length}"),
    );
    context.push(match mask {
        Ok(mask) => diagnostic
            .help("write the netmask")
            .suggest(word.span, mask.to_string()),
        Err(_) => diagnostic,
    });
}
