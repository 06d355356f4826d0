//! Routes and rules, in the words of `ip route` and `ip rule`.

use std::net::IpAddr;

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::lower::value::is_device;
use crate::config::model::{OwnRoute, OwnRule};
use crate::config::support::{ROUTE_KINDS, ROUTE_OPTIONS, RULE_OPTIONS};

const IGNORED: &str = "this line is ignored, as keepalived does";
/// What keepalived gives a rule without a preference.
const PREFERENCE: u32 = 16384;

/// What an option's value must be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Flag,
    Address,
    Network,
    Device,
    Number,
    /// A number, or a name that the host has for it.
    Named,
    /// The same, with `lock` before it allowed.
    Lockable,
}

#[rustfmt::skip] // a table
const ROUTE: &[(&str, Kind)] = &[
    ("to", Kind::Network), ("via", Kind::Address), ("src", Kind::Address), ("from", Kind::Network),
    ("dev", Kind::Device), ("oif", Kind::Device), ("scope", Kind::Named), ("table", Kind::Named),
    ("protocol", Kind::Named), ("metric", Kind::Number), ("priority", Kind::Number),
    ("preference", Kind::Number), ("tos", Kind::Named), ("dsfield", Kind::Named),
    ("realms", Kind::Named), ("weight", Kind::Number), ("mtu", Kind::Lockable),
    ("advmss", Kind::Lockable), ("rtt", Kind::Lockable), ("rttvar", Kind::Lockable),
    ("reordering", Kind::Lockable), ("window", Kind::Lockable), ("cwnd", Kind::Lockable),
    ("ssthresh", Kind::Lockable), ("hoplimit", Kind::Lockable), ("rto_min", Kind::Lockable),
    ("initcwnd", Kind::Number), ("initrwnd", Kind::Number), ("quickack", Kind::Number),
    ("features", Kind::Named), ("congctl", Kind::Lockable), ("pref", Kind::Named),
    ("expires", Kind::Number), ("ttl-propagate", Kind::Named), ("fastopen_no_cookie", Kind::Number),
    ("onlink", Kind::Flag), ("nexthop", Kind::Flag), ("pervasive", Kind::Flag),
];
#[rustfmt::skip] // a table
const RULE: &[(&str, Kind)] = &[
    ("not", Kind::Flag), ("from", Kind::Network), ("to", Kind::Network), ("iif", Kind::Device),
    ("dev", Kind::Device), ("oif", Kind::Device), ("fwmark", Kind::Named), ("tos", Kind::Named),
    ("dsfield", Kind::Named), ("realms", Kind::Named), ("tun_id", Kind::Number),
    ("uidrange", Kind::Named), ("ipproto", Kind::Named), ("sport", Kind::Named),
    ("dport", Kind::Named), ("protocol", Kind::Named), ("suppress_prefixlength", Kind::Number),
    ("suppress_ifgroup", Kind::Named), ("l3mdev", Kind::Flag), ("preference", Kind::Number),
    ("priority", Kind::Number), ("order", Kind::Number), ("pref", Kind::Number),
    ("table", Kind::Named), ("lookup", Kind::Named), ("goto", Kind::Number), ("nop", Kind::Flag),
    ("blackhole", Kind::Flag), ("unreachable", Kind::Flag), ("prohibit", Kind::Flag),
];
const TYPES: [&str; 9] = [
    "unicast",
    "local",
    "broadcast",
    "multicast",
    "throw",
    "unreachable",
    "prohibit",
    "blackhole",
    "nat",
];
const ACTIONS: [&str; 8] = [
    "table",
    "lookup",
    "goto",
    "nop",
    "blackhole",
    "unreachable",
    "prohibit",
    "l3mdev",
];
const PREFERENCES: [&str; 4] = ["preference", "priority", "order", "pref"];

/// A line that was read word by word.
#[derive(Debug, Default)]
struct Line {
    words: Vec<String>,
    no_track: bool,
    track_group: Option<Word>,
}

/// A line of `virtual_routes` or `static_routes`, with its `track_group`.
pub(super) fn route(
    context: &mut Context<'_>,
    line: &Statement,
    is_static: bool,
) -> Option<(OwnRoute, Option<Word>)> {
    let mut words = std::iter::once(&line.keyword)
        .chain(&line.values)
        .peekable();
    let mut read = Line::default();
    if let Some(kind) = words.next_if(|word| TYPES.contains(&word.text.as_str())) {
        if !ROUTE_KINDS.contains(&kind.text.as_str()) {
            left_out(context, kind, "route");
        }
        read.words.push(kind.text.clone());
    }
    let destination = words.next_if(|word| is_network(&word.text));
    read.words.extend(destination.map(|word| word.text.clone()));
    if !options(context, &mut read, words, (ROUTE, ROUTE_OPTIONS), is_static) {
        return None;
    }
    if destination.is_none() && !read.words.iter().any(|word| word == "to") {
        unknown(
            context,
            &line.keyword,
            "a destination, such as 10.0.0.0/8 or default",
        );
        return None;
    }
    let has_device = read.words.iter().any(|word| word == "dev" || word == "oif");
    let route = OwnRoute {
        tracked: has_device && !read.no_track,
        words: read.words,
        track_group: None,
    };
    Some((route, read.track_group))
}

/// A line of `virtual_rules` or `static_rules`, with its `track_group`.
pub(super) fn rule(
    context: &mut Context<'_>,
    line: &Statement,
    is_static: bool,
) -> Option<(OwnRule, Option<Word>)> {
    let words = std::iter::once(&line.keyword)
        .chain(&line.values)
        .peekable();
    let mut read = Line::default();
    if !options(context, &mut read, words, (RULE, RULE_OPTIONS), is_static) {
        return None;
    }
    let has = |names: &[&str]| read.words.iter().any(|word| names.contains(&word.as_str()));
    if !has(&ACTIONS) {
        context.push(
            Diagnostic::warning(Code::MissingValue, "this rule has no action")
                .at(line.head(), IGNORED)
                .help("add 'table NUMBER'"),
        );
        return None;
    }
    if !has(&PREFERENCES) {
        if has(&["goto"]) {
            context.push(
                Diagnostic::warning(Code::MissingValue, "a rule with 'goto' needs a preference")
                    .at(line.head(), IGNORED)
                    .help("add 'preference NUMBER'"),
            );
            return None;
        }
        context.push(
            Diagnostic::warning(
                Code::DefaultUsed,
                format!("this rule has no preference: {PREFERENCE} is used, as keepalived does"),
            )
            .at(
                line.head(),
                "rules of the same preference have no order among them",
            )
            .help("add 'preference NUMBER'"),
        );
        read.words
            .extend(["preference".to_owned(), PREFERENCE.to_string()]);
    }
    let rule = OwnRule {
        tracked: !read.no_track,
        words: read.words,
        track_group: None,
    };
    Some((rule, read.track_group))
}

/// Reads options with their values; whether all were understood.
fn options<'w>(
    context: &mut Context<'_>,
    read: &mut Line,
    words: impl Iterator<Item = &'w Word>,
    (table, working): (&[(&str, Kind)], &[&str]),
    is_static: bool,
) -> bool {
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let name = match word.text.as_str() {
            "gw" => renamed(context, word, "via"),
            "or" => renamed(context, word, "nexthop"),
            "no_track" => {
                read.no_track = true;
                continue;
            }
            "track_group" if is_static => {
                read.track_group = words.next().cloned();
                continue;
            }
            name => name,
        };
        let kind = table.iter().find(|(known, _)| *known == name);
        let Some((_, kind)) = kind else {
            unknown(context, word, "an option that 'ip' knows");
            return false;
        };
        if !working.contains(&name) {
            let what = if working == ROUTE_OPTIONS {
                "route"
            } else {
                "rule"
            };
            left_out(context, word, what);
        }
        read.words.push(name.to_owned());
        let mut prefix = |expected: &[&str]| {
            let word = words.next_if(|word| expected.contains(&word.text.as_str()));
            read.words.extend(word.map(|word| word.text.clone()));
        };
        match kind {
            Kind::Flag => continue,
            Kind::Lockable => prefix(&["lock"]),
            Kind::Address => prefix(&["inet", "inet6"]),
            Kind::Network | Kind::Device | Kind::Number | Kind::Named => {}
        }
        let Some(value) = words.next() else {
            context.push(
                Diagnostic::error(Code::MissingValue, format!("'{name}' has no value"))
                    .at(word.span, "expected one here")
                    .because("keepalived exits when it reads this"),
            );
            return false;
        };
        if !fits(*kind, &value.text) {
            unknown(context, value, &format!("a value of '{name}'"));
            return false;
        }
        read.words.push(value.text.clone());
    }
    true
}

/// It is understood, and cannot be put in place.
fn left_out(context: &mut Context<'_>, word: &Word, what: &str) {
    context.push(
        Diagnostic::warning(
            Code::NoEffectYet,
            format!("{} does not work yet", quote(&word.text)),
        )
        .at(word.span, format!("this {what} is left out")),
    );
}

fn fits(kind: Kind, value: &str) -> bool {
    match kind {
        Kind::Address => value.parse::<IpAddr>().is_ok(),
        Kind::Network => is_network(value),
        Kind::Device => is_device(value),
        Kind::Number => value.parse::<u32>().is_ok(),
        Kind::Named | Kind::Lockable => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./x".contains(c);
            !value.is_empty() && value.chars().all(plain)
        }
        Kind::Flag => false,
    }
}

fn is_network(text: &str) -> bool {
    let (address, length) = text.split_once('/').unwrap_or((text, "0"));
    let longest = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return matches!(text, "default" | "all" | "any"),
    };
    length.parse::<u8>().is_ok_and(|length| length <= longest)
}

fn renamed(context: &mut Context<'_>, word: &Word, right: &'static str) -> &'static str {
    context.push(
        Diagnostic::note(
            Code::Renamed,
            format!("{} is the old name of '{right}'", quote(&word.text)),
        )
        .at(word.span, "taken as that, as keepalived does")
        .suggest(word.span, right),
    );
    right
}

fn unknown(context: &mut Context<'_>, word: &Word, expected: &str) {
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!("{} is not {expected}", quote(&word.text)),
        )
        .at(word.span, IGNORED),
    );
}
