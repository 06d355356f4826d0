//! `fwmark` of the block `xdp_lb`: which packets have a mark.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::context::Context;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::model::{Endpoint, Protocol, XdpLb};
use crate::config::source::Span;

/// Ports that a word may stand for.
const MOST_PORTS: usize = 4096;

pub(super) fn read(
    context: &mut Context<'_>,
    keyword: &Keyword,
    block: &Statement,
    settings: &mut XdpLb,
    places: &mut Vec<(u32, Span)>,
) {
    let Some(word) = block.values.first() else {
        return;
    };
    let digits = word.text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(mark) = word.text.parse().ok().filter(|_| digits) else {
        let expected = format!("expected {}", keyword.syntax());
        return bad_value(context, word, "a mark", expected);
    };
    places.push((mark, block.head()));
    settings.marks.entry(mark).or_default();
    for line in block.body() {
        marked(context, line, mark, settings);
    }
    if settings.marks.get(&mark).is_some_and(BTreeSet::is_empty) {
        settings.marks.remove(&mark);
    }
    if block.body().is_empty() {
        context.push(
            Diagnostic::error(
                Code::Empty,
                format!("nothing has the mark {mark}: this block has no addresses"),
            )
            .at(block.head(), "add 'tcp ADDRESS:PORT', or remove the block"),
        );
    }
}

/// A line: a protocol, and where packets go to.
fn marked(context: &mut Context<'_>, line: &Statement, mark: u32, settings: &mut XdpLb) {
    let protocol = Protocol::from_name(&line.keyword.text).filter(|p| *p != Protocol::Sctp);
    let Some(protocol) = protocol else {
        let expected = "expected tcp or udp".to_owned();
        return bad_value(
            context,
            &line.keyword,
            "a protocol of marked packets",
            expected,
        );
    };
    if line.values.is_empty() {
        context.push(
            Diagnostic::error(
                Code::MissingValue,
                format!("'{}' has no address", line.keyword.text),
            )
            .at(line.head(), "expected ADDRESS:PORT here"),
        );
    }
    for word in &line.values {
        let Some((vip, ports)) = endpoint(&word.text) else {
            let expected = "expected ADDRESS, ADDRESS:PORT or ADDRESS:PORT,FIRST-LAST".to_owned();
            bad_value(context, word, "an address and ports", expected);
            continue;
        };
        for port in ports {
            let endpoint = Endpoint {
                vip,
                port,
                protocol,
            };
            let mut others = settings.marks.iter().filter(|(other, _)| **other != mark);
            if let Some((other, _)) = others.find(|(_, known)| known.contains(&endpoint)) {
                let message = format!("{endpoint} has two marks, {other} and {mark}");
                context.push(Diagnostic::error(Code::Duplicate, message).at(
                    word.span,
                    "a packet has one mark; remove it from one of them",
                ));
            } else if let Some(known) = settings.marks.get_mut(&mark) {
                known.insert(endpoint);
            }
        }
    }
}

fn bad_value(context: &mut Context<'_>, word: &Word, what: &str, expected: String) {
    context.push(
        Diagnostic::error(
            Code::BadValue,
            format!("{} is not {what}", quote(&word.text)),
        )
        .at(word.span, expected),
    );
}

/// `192.168.1.200`, `192.168.1.200:80`, `[2001:db8::1]:80,8000-8010`; without a port it is 0.
fn endpoint(text: &str) -> Option<(IpAddr, Vec<u16>)> {
    if let Ok(vip) = text.parse() {
        return Some((vip, vec![0]));
    }
    let (address, list) = text.rsplit_once(':')?;
    // Whatever stands in front of a port is an address as in any endpoint.
    let vip = format!("{address}:1").parse::<SocketAddr>().ok()?.ip();
    let mut ports = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if first == 0 || first > last {
            return None;
        }
        ports.extend(first..=last);
    }
    (ports.len() <= MOST_PORTS).then_some((vip, ports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_ports_or_all_of_them() {
        type Expected = Option<(&'static str, &'static [u16])>;
        let cases: [(&str, Expected); 11] = [
            ("10.0.0.1", Some(("10.0.0.1", &[0]))),
            ("10.0.0.1:80", Some(("10.0.0.1", &[80]))),
            ("10.0.0.1:80,443", Some(("10.0.0.1", &[80, 443]))),
            (
                "10.0.0.1:8000-8002,1",
                Some(("10.0.0.1", &[8000, 8001, 8002, 1])),
            ),
            ("2001:db8::1", Some(("2001:db8::1", &[0]))),
            ("[2001:db8::1]:80", Some(("2001:db8::1", &[80]))),
            ("10.0.0.1:0", None),
            ("10.0.0.1:9-8", None),
            ("10.0.0.1:1-65535", None),
            ("10.0.0.1:", None),
            ("web:80", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(vip, ports)| (vip.parse().unwrap(), ports.to_vec()));
            assert_eq!(endpoint(text), expected, "{text}");
        }
    }
}
