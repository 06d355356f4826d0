//! The lines of `virtual_ipaddress`.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{self, Scope};
use crate::config::lower::context::Context;
use crate::config::lower::value::Refused;
use crate::config::model::VirtualAddress;

/// Longest label, the kernel's IFNAMSIZ without the terminating NUL.
const LONGEST_LABEL: usize = 15;

/// Options without a value that have no effect yet.
const FLAGS: [&str; 7] = [
    "home",
    "-nodad",
    "nodad",
    "mngtmpaddr",
    "noprefixroute",
    "autojoin",
    "no_track",
];

/// The addresses of an instance, from the lines of all its `virtual_ipaddress` blocks. The first one
/// sets the family of the instance.
pub(super) fn read(context: &mut Context<'_>, lines: &[&Statement]) -> Vec<VirtualAddress> {
    let parsed: Vec<(&Statement, IpNet)> = lines
        .iter()
        .filter_map(|line| Some((*line, network(context, line)?)))
        .collect();
    if let Some((first, IpNet::V6(_))) = parsed.first() {
        ipv6_instance(context, first, parsed.len());
        return Vec::new();
    }
    let mut addresses: Vec<VirtualAddress> = Vec::new();
    for (line, network) in parsed {
        let IpNet::V4(network) = network else {
            other_family(context, line);
            continue;
        };
        let Some(address) = options(context, line, network) else {
            continue;
        };
        if addresses
            .iter()
            .any(|known| known.address == address.address && known.device == address.device)
        {
            duplicate(context, line);
        } else {
            addresses.push(address);
        }
    }
    addresses
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

fn ipv6_instance(context: &mut Context<'_>, first: &Statement, count: usize) {
    let message = if count == 1 {
        "this IPv6 address is ignored: IPv6 is not supported yet".to_owned()
    } else {
        format!(
            "the {count} addresses of this IPv6 instance are ignored: IPv6 is not supported yet"
        )
    };
    context.push(
        Diagnostic::warning(Code::NotSupported, message)
            .at(first.keyword.span, "makes this an IPv6 instance"),
    );
}

fn other_family(context: &mut Context<'_>, line: &Statement) {
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!(
                "{} is an IPv6 address in an instance whose first address is IPv4",
                quote(&line.keyword.text)
            ),
        )
        .at(line.keyword.span, "ignored, as keepalived does")
        .help("addresses of another family belong into 'virtual_ipaddress_excluded'"),
    );
}

fn duplicate(context: &mut Context<'_>, line: &Statement) {
    context.push(
        Diagnostic::warning(
            Code::Duplicate,
            format!(
                "{} stands twice in this instance",
                quote(&line.keyword.text)
            ),
        )
        .at(line.keyword.span, "ignored"),
    );
}

/// The words behind the address. `None`: keepalived drops the whole line.
fn options(
    context: &mut Context<'_>,
    line: &Statement,
    network: Ipv4Net,
) -> Option<VirtualAddress> {
    let mut address = VirtualAddress {
        address: IpNet::V4(network),
        device: None,
        label: None,
        broadcast: None,
        scope: 0,
    };
    let mut words = line.values.iter();
    while let Some(option) = words.next() {
        let name = option.text.as_str();
        if FLAGS.contains(&name) {
            continue;
        }
        if !matches!(
            name,
            "dev" | "label" | "brd" | "broadcast" | "scope" | "peer" | "preferred_lft"
        ) {
            unknown_option(context, option);
            continue;
        }
        let Some(value) = words.next() else {
            context.push(
                Diagnostic::warning(Code::MissingValue, format!("'{name}' has no value"))
                    .at(option.span, "ignored, as keepalived does"),
            );
            break;
        };
        match name {
            "dev" => address.device = context.device(value),
            "label" => address.label = Some(label(context, value)?),
            "brd" | "broadcast" => address.broadcast = broadcast(context, value, network).ok()?,
            "scope" => address.scope = scope(context, value).unwrap_or(address.scope),
            _ => {}
        }
    }
    Some(address)
}

fn unknown_option(context: &mut Context<'_>, option: &Word) {
    let bare = option.text.split('/').next().unwrap_or("");
    let diagnostic = Diagnostic::warning(
        Code::BadValue,
        format!("{} is not an option of an address", quote(&option.text)),
    )
    .at(option.span, "ignored, as keepalived does");
    context.push(if bare.parse::<IpAddr>().is_ok() {
        diagnostic.help("put each address on a line of its own")
    } else {
        diagnostic.help("the options are dev, label, brd, scope")
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
