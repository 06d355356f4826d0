//! The lines of `virtual_ipaddress`, `virtual_ipaddress_excluded` and `static_ipaddress`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{self, Scope};
use crate::config::lower::context::Context;
use crate::config::lower::value::Refused;
use crate::config::model::{Family, Preferred, VirtualAddress};
use crate::config::source::Span;

/// Longest label, the kernel's IFNAMSIZ without the terminating NUL.
const LONGEST_LABEL: usize = 15;
const IGNORED: &str = "ignored, as keepalived does";

/// An address and what is said of it beside its value.
#[derive(Debug)]
pub(super) struct Placed {
    pub(super) address: VirtualAddress,
    /// The address in the file.
    pub(super) span: Span,
    /// Its prefix length is written out.
    pub(super) has_length: bool,
    /// `track_group`; of static addresses only.
    pub(super) track_group: Option<Word>,
}

/// The addresses of an instance, from the lines of all its `virtual_ipaddress` blocks. The first one
/// sets the family of the instance.
pub(super) fn read(context: &mut Context<'_>, lines: &[&Statement]) -> Vec<Placed> {
    let parsed: Vec<Placed> = lines
        .iter()
        .filter_map(|line| line_of(context, line, false))
        .collect();
    let family = |placed: &Placed| Family::of(placed.address.address.addr());
    let first = parsed.first().map(family);
    let mut addresses: Vec<Placed> = Vec::new();
    let mut seen = BTreeSet::new();
    for placed in parsed {
        if Some(family(&placed)) != first {
            other_family(context, &placed, first);
        } else if seen.insert(key(&placed)) {
            addresses.push(placed);
        } else {
            duplicate(context, &placed);
        }
    }
    addresses
}

/// Those that are owned without being advertised, of either family.
pub(super) fn read_excluded(
    context: &mut Context<'_>,
    lines: &[&Statement],
    advertised: &[Placed],
) -> Vec<VirtualAddress> {
    let mut addresses = Vec::new();
    let mut seen: BTreeSet<_> = advertised.iter().map(key).collect();
    for line in lines {
        let Some(placed) = line_of(context, line, false) else {
            continue;
        };
        if seen.insert(key(&placed)) {
            addresses.push(placed.address);
        } else {
            duplicate(context, &placed);
        }
    }
    addresses
}

/// What makes an address another one.
fn key(placed: &Placed) -> (IpNet, Option<String>) {
    (placed.address.address, placed.address.device.clone())
}

/// A line. `None`: keepalived drops the whole of it.
pub(super) fn line_of(
    context: &mut Context<'_>,
    line: &Statement,
    is_static: bool,
) -> Option<Placed> {
    let network = network(context, line)?;
    let mut placed = Placed {
        address: VirtualAddress::new(network),
        span: line.keyword.span,
        has_length: line.keyword.text.contains('/'),
        track_group: None,
    };
    let mut words = line.values.iter();
    while let Some(option) = words.next() {
        if take_flag(&mut placed.address, &option.text, is_static) {
            continue;
        }
        let takes_value = matches!(
            option.text.as_str(),
            "dev" | "label" | "brd" | "broadcast" | "scope" | "peer" | "preferred_lft"
        ) || (is_static && option.text == "track_group");
        if !takes_value {
            unknown_option(context, option);
            continue;
        }
        let Some(value) = words.next() else {
            context.push(
                Diagnostic::warning(
                    Code::MissingValue,
                    format!("{} has no value", quote(&option.text)),
                )
                .at(option.span, IGNORED),
            );
            break;
        };
        take_option(context, &mut placed, option, value).ok()?;
    }
    Some(placed)
}

/// `ADDRESS[/LENGTH]` at the start of the line.
fn network(context: &mut Context<'_>, line: &Statement) -> Option<IpNet> {
    let word = &line.keyword;
    let (address, length) = match word.text.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (word.text.as_str(), None),
    };
    let Ok(address) = address.parse::<IpAddr>() else {
        not_an_address(context, word);
        return None;
    };
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let valid = |length: &str| length.parse().ok().filter(|length| *length <= longest);
    let length = match length {
        None => longest,
        Some(length) => valid(length).unwrap_or_else(|| {
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!(
                        "{} is not a prefix length: {longest} is used, as keepalived does",
                        quote(length)
                    ),
                )
                .at(word.span, format!("expected 0 to {longest} after the '/'")),
            );
            longest
        }),
    };
    IpNet::new(address, length).ok()
}

fn not_an_address(context: &mut Context<'_>, word: &Word) {
    let diagnostic = Diagnostic::warning(
        Code::BadValue,
        format!("{} is not an IP address", quote(&word.text)),
    )
    .at(word.span, "ignored, as keepalived does");
    context.push(
        if keywords::find(Scope::VrrpInstance, &word.text).is_some() {
            diagnostic.help(format!(
                "'{}' belongs in 'vrrp_instance': close 'virtual_ipaddress' with a '}}' before it",
                word.text
            ))
        } else {
            diagnostic.help("write ADDRESS or ADDRESS/LENGTH, one per line")
        },
    );
}

fn other_family(context: &mut Context<'_>, placed: &Placed, first: Option<Family>) {
    let mine = Family::of(placed.address.address.addr()).name();
    let first = first.map(|family| family.to_string()).unwrap_or_default();
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!(
                "{} is an {mine} address in an instance whose first address is {first}",
                quote(&placed.address.address.addr().to_string())
            ),
        )
        .at(placed.span, IGNORED)
        .help("addresses of another family belong into 'virtual_ipaddress_excluded'"),
    );
}

fn duplicate(context: &mut Context<'_>, placed: &Placed) {
    context.push(
        Diagnostic::warning(
            Code::Duplicate,
            format!(
                "{} stands twice in this instance",
                quote(&placed.address.address.to_string())
            ),
        )
        .at(placed.span, "ignored"),
    );
}

/// Whether the word is an option that has no value.
fn take_flag(address: &mut VirtualAddress, name: &str, is_static: bool) -> bool {
    let flags = &mut address.flags;
    let flag = match name {
        "home" => &mut flags.home,
        "-nodad" => &mut flags.no_dad,
        "mngtmpaddr" => &mut flags.mngtmpaddr,
        "noprefixroute" => &mut flags.noprefixroute,
        "autojoin" => &mut flags.autojoin,
        "no_track" => &mut flags.no_track,
        "use_vmac" if !is_static => &mut flags.use_vmac,
        _ => return false,
    };
    *flag = true;
    true
}

/// `Refused`: keepalived drops the whole line.
fn take_option(
    context: &mut Context<'_>,
    placed: &mut Placed,
    option: &Word,
    value: &Word,
) -> Result<(), Refused> {
    let address = &mut placed.address;
    match (option.text.as_str(), address.address) {
        ("dev", _) => address.device = context.device(value),
        ("label" | "scope", IpNet::V6(_)) => ipv4_only(context, option, value),
        ("label", IpNet::V4(_)) => {
            address.label = Some(label(context, value).ok_or(Refused)?);
        }
        ("scope", IpNet::V4(_)) => address.scope = scope(context, value).unwrap_or(address.scope),
        ("brd" | "broadcast", IpNet::V4(network)) => {
            address.broadcast = broadcast(context, value, network)?;
        }
        ("brd" | "broadcast", IpNet::V6(_)) => {
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    "an IPv6 address has no broadcast address: the whole line is ignored, as keepalived does",
                )
                .at(option.span.to(value.span), "remove this"),
            );
            return Err(Refused);
        }
        ("peer", _) => peer(context, placed, value),
        ("preferred_lft", _) => preferred(context, address, value),
        _ => placed.track_group = Some(value.clone()),
    }
    Ok(())
}

fn ipv4_only(context: &mut Context<'_>, option: &Word, value: &Word) {
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!("an IPv6 address has no {}", quote(&option.text)),
        )
        .at(option.span.to(value.span), IGNORED),
    );
}

/// A point-to-point address has no length of its own.
fn peer(context: &mut Context<'_>, placed: &mut Placed, value: &Word) {
    let own = placed.address.address.addr();
    let address = value.text.parse::<IpAddr>().ok();
    let Some(peer) = address.filter(|peer| peer.is_ipv4() == own.is_ipv4()) else {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!("{} is not a peer address", quote(&value.text)),
            )
            .at(value.span, IGNORED)
            .help("write an address of the same family, without a length"),
        );
        return;
    };
    if placed.has_length && placed.address.address.prefix_len() != IpNet::from(own).prefix_len() {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                "an address with a peer has no prefix length",
            )
            .at(placed.span, "the length is ignored, as keepalived does"),
        );
    }
    placed.address.address = IpNet::from(own);
    placed.address.peer = Some(peer);
}

fn preferred(context: &mut Context<'_>, address: &mut VirtualAddress, value: &Word) {
    if value.text == "forever" {
        address.preferred = Preferred::Forever;
    } else if let Ok(seconds) = value.text.parse() {
        address.preferred = Preferred::Seconds(seconds);
    } else {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!("{} is not a value of 'preferred_lft'", quote(&value.text)),
            )
            .at(value.span, IGNORED)
            .help("write seconds or 'forever'"),
        );
    }
}

fn unknown_option(context: &mut Context<'_>, option: &Word) {
    let bare = option.text.split('/').next().unwrap_or("");
    let diagnostic = Diagnostic::warning(
        Code::BadValue,
        format!("{} is not an option of an address", quote(&option.text)),
    )
    .at(option.span, IGNORED);
    context.push(if bare.parse::<IpAddr>().is_ok() {
        diagnostic.help("put each address on a line of its own")
    } else {
        diagnostic.help("the options are dev, label, brd, scope, peer, preferred_lft, home, -nodad, mngtmpaddr, noprefixroute, autojoin, no_track, use_vmac")
    });
}

fn label(context: &mut Context<'_>, value: &Word) -> Option<String> {
    if !value.text.is_empty() && value.text.len() <= LONGEST_LABEL {
        return Some(value.text.clone());
    }
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!(
                "label {} does not fit: its address is ignored, as keepalived does",
                quote(&value.text)
            ),
        )
        .at(
            value.span,
            format!("expected 1 to {LONGEST_LABEL} characters"),
        ),
    );
    None
}

/// `Refused`: keepalived drops the whole line.
fn broadcast(
    context: &mut Context<'_>,
    value: &Word,
    network: Ipv4Net,
) -> Result<Option<Ipv4Addr>, Refused> {
    match value.text.as_str() {
        "+" | "-" if network.prefix_len() > 30 => {
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!(
                        "a /{} network has no broadcast address",
                        network.prefix_len()
                    ),
                )
                .at(value.span, "ignored, as keepalived does"),
            );
            Ok(None)
        }
        "+" => Ok(Some(network.broadcast())),
        "-" => Ok(Some(network.network())),
        address => address.parse().map(Some).map_err(|_not_ipv4| {
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!(
                        "{} is not a broadcast address: the whole line is ignored, as keepalived does",
                        quote(address)
                    ),
                )
                .at(value.span, "expected an IPv4 address, '+' or '-'"),
            );
            Refused
        }),
    }
}

fn scope(context: &mut Context<'_>, value: &Word) -> Option<u8> {
    match value.text.as_str() {
        "global" => Some(0),
        "site" => Some(200),
        "link" => Some(253),
        "host" => Some(254),
        "nowhere" => Some(255),
        number => number.parse().ok().or_else(|| {
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!(
                        "{} is not a scope: global is used, as keepalived does",
                        quote(number)
                    ),
                )
                .at(
                    value.span,
                    "expected global, site, link, host or a number up to 255",
                ),
            );
            None
        }),
    }
}
