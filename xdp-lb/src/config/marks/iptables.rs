//! What `iptables-save` and `ip6tables-save` print.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::Given;
use super::rule::{NewMark, Ranges, Rule, Verdict};
use super::walk::{Chains, follow};
use crate::config::model::{Family, Protocol};

/// Where packets are marked that come in.
const CHAIN: &str = "PREROUTING";

/// Notes the marks that the rules in `text` give to packets that come in.
pub(super) fn read(text: &str, family: Family, given: &mut Given) {
    let mut chains = Chains::new();
    let mut is_mangle = false;
    for line in text.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('*') {
            is_mangle = table == "mangle";
        } else if is_mangle && let Some((chain, rule)) = rule(line) {
            chains.entry(chain).or_default().push(rule);
        }
    }
    follow(&chains, CHAIN, family, given);
}

/// A rule and its chain; `None` of a line that has none.
fn rule(line: &str) -> Option<(String, Rule)> {
    // With counters in front: [12:3456] -A PREROUTING …
    let line = match line.strip_prefix('[') {
        Some(counted) => counted.split_once(']')?.1.trim_start(),
        None => line,
    };
    let words = words(line);
    let mut words = words.iter().map(String::as_str);
    if words.next() != Some("-A") {
        return None;
    }
    let chain = words.next()?.to_owned();
    let mut rule = Rule {
        text: line.to_owned(),
        ..Rule::default()
    };
    let mut reader = Reader {
        rule: &mut rule,
        words: &mut words,
    };
    while reader.option().is_some() {}
    Some((chain, rule))
}

/// The words of a line. Quotes keep words together, a backslash escapes inside of them.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quoted, mut escaped, mut any) = (String::new(), false, false, false);
    for letter in line.chars() {
        match letter {
            _ if escaped => {
                word.push(letter);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                any = true;
            }
            ' ' | '\t' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            _ => word.push(letter),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

struct Reader<'r, W> {
    rule: &'r mut Rule,
    words: &'r mut W,
}

impl<'w, W: Iterator<Item = &'w str>> Reader<'_, W> {
    /// Reads an option with its values; `None` at the end.
    fn option(&mut self) -> Option<()> {
        match self.words.next()? {
            "!" => self.unclear("a negation"),
            "-d" => {
                let networks = self.words.next().and_then(network);
                self.set(networks, "-d", |rule| &mut rule.packets.addresses);
            }
            "-p" => {
                let protocol = self.words.next().map(|name| vec![protocol(name)]);
                self.set(protocol, "-p", |rule| &mut rule.packets.protocols);
            }
            "-m" => self.module(),
            "--dport" | "--dports" | "--destination-port" | "--destination-ports" => {
                let ports = self.words.next().and_then(ports);
                self.set(ports, "ports", |rule| &mut rule.packets.ports);
            }
            "--dst-range" => {
                let range = self.words.next().and_then(addresses);
                self.set(range, "--dst-range", |rule| &mut rule.packets.addresses);
            }
            "--comment" => drop(self.words.next()),
            "-j" => self.target(),
            "-g" => {
                let chain = self.words.next()?.to_owned();
                self.rule.verdict = Verdict::Goto(chain);
            }
            "-s" => self.unclear("a source address (-s)"),
            "-i" => self.unclear("an interface (-i)"),
            other if other.starts_with('-') => self.unclear(&format!("the condition {other}")),
            // A value of an option that is not known.
            _ => {}
        }
        Some(())
    }

    fn set<T>(&mut self, value: Ranges<T>, name: &str, of: impl Fn(&mut Rule) -> &mut Ranges<T>) {
        match value {
            None => self.unclear(&format!("a value of {name} that is not understood")),
            // Two of a kind: both must hold.
            Some(_) if of(self.rule).is_some() => self.unclear(&format!("{name} twice")),
            value => *of(self.rule) = value,
        }
    }

    fn module(&mut self) {
        match self.words.next() {
            Some("tcp" | "udp" | "sctp" | "multiport" | "comment" | "iprange") | None => {}
            Some(other) => self.unclear(&format!("-m {other}")),
        }
    }

    /// What the rule does; all that is behind it belongs to it.
    fn target(&mut self) {
        let name = self.words.next().unwrap_or_default();
        match name {
            "MARK" => self.rule.mark = Some(self.new_mark()),
            "ACCEPT" => self.rule.verdict = Verdict::Accept,
            "RETURN" => self.rule.verdict = Verdict::Return,
            // What is dropped here comes to nobody; what else a target does changes no mark. Either is
            // the name of no chain, so that nothing is behind the jump.
            _ => self.rule.verdict = Verdict::Jump(name.to_owned()),
        }
    }

    fn new_mark(&mut self) -> NewMark {
        let is_set = matches!(self.words.next(), Some("--set-xmark" | "--set-mark"));
        let value = self
            .words
            .next()
            .and_then(|value| match value.split_once('/') {
                Some((value, mask)) => (number(mask) == Some(u32::MAX)).then(|| number(value))?,
                None => number(value),
            });
        value
            .filter(|_| is_set)
            .map_or(NewMark::Depends, NewMark::Is)
    }

    fn unclear(&mut self, what: &str) {
        self.rule
            .unclear
            .get_or_insert_with(|| format!("it has {what}"));
    }
}

/// Decimal, or hexadecimal behind `0x`.
fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// `192.168.1.200/32`, `192.168.1.0/255.255.255.0`, `192.168.1.200`.
fn network(text: &str) -> Ranges<IpAddr> {
    let Some((address, mask)) = text.split_once('/') else {
        let address = text.parse().ok()?;
        return Some(vec![(address, address)]);
    };
    let address: IpAddr = address.parse().ok()?;
    let length = match mask.parse::<Ipv4Addr>() {
        Ok(mask) => ipnet::ipv4_mask_to_prefix(mask).ok()?,
        Err(_) => mask.parse().ok()?,
    };
    let network = IpNet::new(address, length).ok()?.trunc();
    Some(vec![(network.network(), network.broadcast())])
}

/// `192.168.1.10-192.168.1.20`.
fn addresses(text: &str) -> Ranges<IpAddr> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(vec![(first.parse().ok()?, last.parse().ok()?)])
}

/// Its number, as a range of one.
fn protocol(text: &str) -> (u8, u8) {
    if matches!(text, "all" | "0") {
        return (0, u8::MAX);
    }
    let known = Protocol::from_name(text).map(Protocol::number);
    // Others by their names: there is no more to know of them than that they are not balanced.
    let number = known.or_else(|| text.parse().ok()).unwrap_or(u8::MAX);
    (number, number)
}

/// `80`, `80:90`, `80,443,8000:8010`.
fn ports(text: &str) -> Ranges<u16> {
    let range = |part: &str| {
        let (first, last) = part.split_once(':').unwrap_or((part, part));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    text.split(',').map(range).collect()
}
