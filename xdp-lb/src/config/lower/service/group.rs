//! `virtual_server_group`: addresses, ranges of them, and marks.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Group, frontend};
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;
use crate::config::model::{Family, GroupMember, GroupName, ServiceGroup};

const SKIPPED: &str = "skipped, as keepalived does";

pub(super) fn read(context: &mut Context<'_>, block: &Statement, name: &str) -> Group {
    let mut members = Vec::new();
    let mut lines = Vec::new();
    for line in block.body() {
        if let Some(member) = member(context, line) {
            members.push(member);
            lines.push(line.head());
        }
    }
    if members.is_empty() {
        context.push(
            Diagnostic::warning(
                Code::Empty,
                format!("the virtual_server_group {} has no addresses", quote(name)),
            )
            .at(block.head(), "it is removed, as keepalived does"),
        );
    }
    let short = GroupName::new(name);
    if short.is_none() {
        let most = GroupName::LONGEST;
        let why = if name.len() > most {
            format!("the name of this virtual_server_group has more than {most} bytes")
        } else {
            "too many names of a virtual_server_group were read since the start".to_owned()
        };
        context.push(
            Diagnostic::error(Code::NotSupported, why)
                .at(block.head(), "not kept")
                .help(
                    "give it a shorter name, here and in the 'virtual_server group' that uses it",
                ),
        );
    }
    let named = short.filter(|_| !members.is_empty());
    let model = named.map(|name| Arc::new(ServiceGroup { name, members }));
    Group {
        // An empty one was complained about: that nobody uses it is no news.
        used: model.is_none(),
        model,
        head: block.head(),
        lines,
    }
}

fn member(context: &mut Context<'_>, line: &Statement) -> Option<GroupMember> {
    if line.keyword.text == "fwmark" {
        return mark(context, line);
    }
    let port = match line.values.first() {
        None => 0,
        Some(word) => {
            let port = word.text.parse().ok().filter(|port| *port != 0);
            port.or_else(|| {
                context.push(
                    Diagnostic::warning(
                        Code::BadValue,
                        format!("{} is not a port: the line is {SKIPPED}", quote(&word.text)),
                    )
                    .at(word.span, "expected a port from 1 to 65535"),
                );
                None
            })?
        }
    };
    if let (Some(extra), Some(last)) = (line.values.get(1), line.values.last()) {
        context.push(
            Diagnostic::warning(
                Code::ExtraValue,
                "an address of a group is followed by more than its port",
            )
            .at(extra.span.to(last.span), "ignored, as keepalived does"),
        );
    }
    let Some((first, last)) = addresses(&line.keyword.text) else {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!("{} is no address, range or network", quote(&line.keyword.text)),
            )
            .at(line.keyword.span, SKIPPED)
            .help("the forms are 10.0.0.1, 10.0.0.1-20, 10.0.0.1-10.0.1.20, 10.0.0.0/28 and 'fwmark N', each with its port behind it"),
        );
        return None;
    };
    Some(GroupMember::Addresses { first, last, port })
}

fn mark(context: &mut Context<'_>, line: &Statement) -> Option<GroupMember> {
    let Some(word) = line.values.first() else {
        context.push(
            Diagnostic::error(Code::MissingValue, "'fwmark' has no value")
                .at(line.head(), "expected a mark here")
                .because("keepalived exits when it reads this"),
        );
        return None;
    };
    let mark = frontend::fwmark(context, word, "line")?;
    let family = match line.values.get(1) {
        None => None,
        Some(word) => match word.text.as_str() {
            "inet" => Some(Family::V4),
            "inet6" => Some(Family::V6),
            _ => context.refuse(line, word, "inet or inet6", "ignored, as keepalived does"),
        },
    };
    Some(GroupMember::Mark { mark, family })
}

/// The first and last address of `10.0.0.1`, `10.0.0.1-20`, `10.0.0.1-10.0.1.20`, `10.0.0.0/28`. The
/// number behind a dash takes the place of the last byte (of the last 16 bits, in hexadecimal, of an
/// IPv6 address); it must be greater.
fn addresses(text: &str) -> Option<(IpAddr, IpAddr)> {
    if text.contains('/') {
        let network: IpNet = text.parse().ok()?;
        return Some((network.network(), network.broadcast()));
    }
    let Some((first, last)) = text.split_once('-') else {
        let address = text.parse().ok()?;
        return Some((address, address));
    };
    let first: IpAddr = first.parse().ok()?;
    let last = match last.parse::<IpAddr>() {
        Ok(last) => last,
        Err(_) => with_last_part(first, last)?,
    };
    (first.is_ipv4() == last.is_ipv4() && first < last).then_some((first, last))
}

fn with_last_part(address: IpAddr, part: &str) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => {
            let last: u8 = part.parse().ok()?;
            let bits = v4.to_bits() & !0xff | u32::from(last);
            Some(std::net::Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(v6) => {
            let last = u16::from_str_radix(part, 16).ok()?;
            let bits = v6.to_bits() & !0xffff | u128::from(last);
            Some(std::net::Ipv6Addr::from_bits(bits).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_in_all_of_keepalived_s_forms() {
        let cases = [
            ("10.0.0.1", Some(("10.0.0.1", "10.0.0.1"))),
            ("10.0.0.1-20", Some(("10.0.0.1", "10.0.0.20"))),
            ("10.0.0.1-10.0.1.2", Some(("10.0.0.1", "10.0.1.2"))),
            ("10.0.0.5/30", Some(("10.0.0.4", "10.0.0.7"))),
            ("2001:db8::1-ff", Some(("2001:db8::1", "2001:db8::ff"))),
            ("10.0.0.1-300", None),
            ("10.0.0.20-10", None),
            ("10.0.0.20-20", None),
            ("2001:db8::10-fffff", None),
            ("10.0.0.1-::1", None),
            ("10.0.0.0/33", None),
            ("foo", None),
        ];
        for (text, expected) in cases {
            let expected = expected
                .map(|(first, last): (&str, &str)| (first.parse().unwrap(), last.parse().unwrap()));
            assert_eq!(addresses(text), expected, "{text}");
        }
    }
}
