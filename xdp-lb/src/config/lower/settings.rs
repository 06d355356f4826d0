//! `lb_algo`, `lb_kind`, `protocol` and persistence: settings of a virtual server whose values are
//! words.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::context::Context;
use super::value::{Refused, Tail};
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::model::{Forwarding, Protocol, Scheduler};

/// Schedulers of keepalived that do not exist here yet.
const OTHER_SCHEDULERS: [&str; 12] = [
    "lc", "wlc", "lblc", "lblcr", "sh", "mh", "dh", "fo", "ovf", "sed", "nq", "twos",
];
/// `persistence_timeout` without a number.
pub(super) const BARE_PERSISTENCE: Duration = Duration::from_mins(6);
/// Longest life of a template, 31 days.
const LONGEST_PERSISTENCE: u32 = 2_678_400;

pub(super) const WORKING_SCHEDULERS: &str =
    "'rr' and 'wrr' work in this version; 'wrr' spreads new connections by weight";

/// `lb_algo`. Other schedulers are errors: their clients would go elsewhere than the file says.
pub(super) fn scheduler(
    context: &mut Context<'_>,
    statement: &Statement,
) -> Option<Result<Scheduler, Refused>> {
    let word = statement.values.first()?;
    let lower = word.text.to_ascii_lowercase();
    let scheduler = match lower.as_str() {
        "rr" => Scheduler::RoundRobin,
        "wrr" => Scheduler::WeightedRoundRobin,
        other => {
            let what = if OTHER_SCHEDULERS.contains(&other) {
                "does not exist in this version yet"
            } else {
                "is no scheduler"
            };
            context.push(
                Diagnostic::error(
                    Code::NotSupported,
                    format!("the scheduler {} {what}", quote(&word.text)),
                )
                .at(word.span, "expected rr or wrr")
                .help(WORKING_SCHEDULERS),
            );
            return Some(Err(Refused));
        }
    };
    case_matters(context, word, scheduler.name(), "would use wlc");
    Some(Ok(scheduler))
}

/// `lb_kind` and `lvs_method`. `NAT` and `TUN` are errors: to treat them as `DR` would blackhole.
pub(super) fn forwarding(
    context: &mut Context<'_>,
    statement: &Statement,
) -> Option<Result<Forwarding, Refused>> {
    let word = statement.values.first()?;
    match word.text.to_ascii_uppercase().as_str() {
        "DR" => {
            case_matters(context, word, "DR", "would use NAT");
            if let Some(option) = statement.values.get(1) {
                context.push(
                    Diagnostic::warning(
                        Code::ExtraValue,
                        format!("{} is not an option of direct routing", quote(&option.text)),
                    )
                    .at(option.span, "ignored, as keepalived does"),
                );
            }
            Some(Ok(Forwarding::DirectRouting))
        }
        kind => {
            let what = if matches!(kind, "NAT" | "TUN") {
                "forwarding does not exist in this version yet"
            } else {
                "is no way of forwarding"
            };
            context.push(
                Diagnostic::error(Code::NotSupported, format!("{} {what}", quote(&word.text)))
                    .at(word.span, "only DR works in this version")
                    .help(NEEDS_OF_DR),
            );
            Some(Err(Refused))
        }
    }
}

/// What to know before writing `lb_kind DR`.
pub(super) const NEEDS_OF_DR: &str = "write 'lb_kind DR' if the real servers are on this director's link, have the virtual IP on 'lo' and do not answer ARP for it ('xdp-lb realserver up' sets that up)";

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
        "SCTP" => {
            context.push(
                Diagnostic::error(Code::NotSupported, "SCTP is not balanced yet")
                    .at(word.span, "TCP and UDP are")
                    .help("remove this virtual server, or leave it to keepalived"),
            );
            // Spares the complaint about a missing protocol.
            Some(Protocol::Tcp)
        }
        _ => context.refuse(statement, word, "TCP or UDP", "ignored, as keepalived does"),
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
    let instead = "ignored, as keepalived does";
    let seconds = context.number(statement, 1..=LONGEST_PERSISTENCE, Tail::Refused, instead);
    seconds.map(|seconds| Duration::from_secs(u64::from(seconds)))
}

/// `persistence_granularity`, as a prefix length.
pub(super) fn granularity(context: &mut Context<'_>, statement: &Statement) -> Option<u8> {
    let word = statement.values.first()?;
    if let Ok(mask) = word.text.parse::<Ipv4Addr>() {
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
        return prefix;
    }
    if let Some(length) = word.text.parse().ok().filter(|length| *length <= 32) {
        prefix_length(context, word, length);
        return None;
    }
    let diagnostic = Diagnostic::warning(
        Code::BadValue,
        format!(
            "{} is not a value of 'persistence_granularity': ignored, as keepalived does",
            quote(&word.text)
        ),
    )
    .at(word.span, "expected a netmask such as 255.255.255.0")
    .help("remove the line: each client address by itself is the default");
    context.push(diagnostic);
    None
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
