//! What `nft -j list ruleset` prints.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use super::Given;
use super::rule::{NewMark, Ranges, Rule, Verdict};
use super::walk::{Chains, follow};
use crate::config::model::{Family, Protocol};

/// A table: its family and its name.
type Table<'a> = (&'a str, &'a str);

/// Elements of named sets.
type Sets<'a> = BTreeMap<(Table<'a>, &'a str), &'a [Value]>;

/// Notes the marks that the rules in `text` give to packets that come in. `None` if it is not what nft
/// prints.
pub(super) fn read(text: &str, given: &mut Given) -> Option<()> {
    let ruleset: Value = serde_json::from_str(text).ok()?;
    let objects = ruleset.get("nftables")?.as_array()?;
    let sets = sets(objects);
    let mut tables: BTreeMap<Table<'_>, Chains> = BTreeMap::new();
    let mut hooked = Vec::new();
    for object in objects {
        if let Some(chain) = object.get("chain") {
            hooked.extend(hook(chain));
        } else if let Some(rule) = object.get("rule") {
            let (table, chain) = table(rule).zip(text_of(rule, "chain"))?;
            let chains = tables.entry(table).or_default();
            let rules = chains.entry(chain.to_owned()).or_default();
            rules.extend(read_rule(rule, table, chain, &sets));
        }
    }
    hooked.sort_by_key(|(priority, ..)| *priority);
    for (_, table, chain) in hooked {
        let (Some(chains), families) = (tables.get(&table), families(table)) else {
            continue;
        };
        for family in families {
            follow(chains, chain, *family, given);
        }
    }
    Some(())
}

fn text_of<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn table(object: &Value) -> Option<Table<'_>> {
    text_of(object, "family").zip(text_of(object, "table"))
}

const fn families(table: Table<'_>) -> &'static [Family] {
    match table.0.as_bytes() {
        b"ip" => &[Family::V4],
        b"ip6" => &[Family::V6],
        b"inet" => &[Family::V4, Family::V6],
        _ => &[],
    }
}

/// The place of a chain that packets come through as they come in: its priority, and which it is.
fn hook(chain: &Value) -> Option<(i64, Table<'_>, &str)> {
    if text_of(chain, "hook")? != "prerouting" || text_of(chain, "type")? != "filter" {
        return None;
    }
    let priority = chain.get("prio")?.as_i64()?;
    Some((priority, table(chain)?, text_of(chain, "name")?))
}

fn sets(objects: &[Value]) -> Sets<'_> {
    let sets = objects.iter().filter_map(|object| object.get("set"));
    sets.filter_map(|set| {
        let elements = set.get("elem").and_then(Value::as_array)?;
        Some(((table(set)?, text_of(set, "name")?), elements.as_slice()))
    })
    .collect()
}

/// `None` for a rule that iptables made: `iptables-save` tells of it, and what it does says nothing to
/// nft.
fn read_rule(rule: &Value, of: Table<'_>, chain: &str, sets: &Sets<'_>) -> Option<Rule> {
    let statements = rule.get("expr")?.as_array()?;
    if statements
        .iter()
        .any(|statement| statement.get("xt").is_some())
    {
        return None;
    }
    let handle = rule
        .get("handle")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    let (family, table) = of;
    let mut reader = Reader {
        rule: Rule {
            text: format!("{family} {table} {chain} handle {handle}"),
            ..Rule::default()
        },
        table: of,
        sets,
    };
    for statement in statements {
        reader.statement(statement);
    }
    Some(reader.rule)
}

struct Reader<'a> {
    rule: Rule,
    table: Table<'a>,
    sets: &'a Sets<'a>,
}

impl Reader<'_> {
    fn statement(&mut self, statement: &Value) {
        let Some((name, what)) = statement
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            return self.unclear("a statement that is not understood");
        };
        let target = || text_of(what, "target").unwrap_or_default().to_owned();
        match name.as_str() {
            "match" => self.condition(what),
            "mangle" => self.mangle(what),
            "accept" => self.rule.verdict = Verdict::Accept,
            "return" => self.rule.verdict = Verdict::Return,
            "jump" => self.rule.verdict = Verdict::Jump(target()),
            "goto" => self.rule.verdict = Verdict::Goto(target()),
            // What is dropped comes to nobody.
            "counter" | "log" | "comment" | "continue" | "drop" | "reject" | "notrack" => {}
            other => self.unclear(&format!("the statement '{other}'")),
        }
    }

    fn mangle(&mut self, what: &Value) {
        let meta = what.get("key").and_then(|key| key.get("meta"));
        if meta.and_then(|meta| text_of(meta, "key")) == Some("mark") {
            let value = what.get("value").and_then(Value::as_u64);
            let value = value.and_then(|value| u32::try_from(value).ok());
            self.rule.mark = Some(value.map_or(NewMark::Depends, NewMark::Is));
        }
    }

    fn condition(&mut self, what: &Value) {
        let (Some(left), Some(right)) = (what.get("left"), what.get("right")) else {
            return self.unclear("a condition that is not understood");
        };
        if !matches!(text_of(what, "op"), Some("==" | "in")) {
            return self.unclear("a negation or a comparison");
        }
        let payload = left.get("payload");
        let payload = payload.and_then(|at| text_of(at, "protocol").zip(text_of(at, "field")));
        let meta = left.get("meta").and_then(|meta| text_of(meta, "key"));
        match (payload, meta) {
            (Some(("ip" | "ip6", "daddr")), _) => {
                let value = self.values(right, addresses);
                self.set(value, "daddr", |rule| &mut rule.packets.addresses);
            }
            (Some((protocol @ ("tcp" | "udp"), "dport")), _) => {
                let number = Protocol::from_name(protocol).map(Protocol::number);
                let protocol = number.map(|number| vec![(number, number)]);
                self.rule.packets.protocols = protocol;
                let value = self.values(right, ports);
                self.set(value, "dport", |rule| &mut rule.packets.ports);
            }
            (Some(("th", "dport")), _) => {
                let value = self.values(right, ports);
                self.set(value, "dport", |rule| &mut rule.packets.ports);
            }
            (Some(("ip", "protocol") | ("ip6", "nexthdr")), _) | (_, Some("l4proto")) => {
                let value = self.values(right, protocol);
                self.set(value, "protocol", |rule| &mut rule.packets.protocols);
            }
            // Of an address anyway.
            (_, Some("nfproto" | "protocol")) => {}
            (Some((protocol, field)), _) => self.unclear(&format!("'{protocol} {field}'")),
            (_, Some(key)) => self.unclear(&format!("'meta {key}'")),
            (None, None) => self.unclear("a condition on more than the destination"),
        }
    }

    fn set<T>(&mut self, value: Ranges<T>, name: &str, of: impl Fn(&mut Rule) -> &mut Ranges<T>) {
        match value {
            None => self.unclear(&format!("a value of {name} that is not understood")),
            Some(_) if of(&mut self.rule).is_some() => self.unclear(&format!("{name} twice")),
            value => *of(&mut self.rule) = value,
        }
    }

    /// A value, or all of a set.
    fn values<T>(&self, right: &Value, read: impl Fn(&Value) -> Option<(T, T)>) -> Ranges<T> {
        let named = right.as_str().and_then(|text| text.strip_prefix('@'));
        let elements = match named {
            Some(name) => self.sets.get(&(self.table, name)).copied()?,
            None => match right.get("set") {
                Some(Value::Array(elements)) => elements.as_slice(),
                Some(element) => std::slice::from_ref(element),
                None => std::slice::from_ref(right),
            },
        };
        let value = |element: &Value| {
            let with_more = element.get("elem").and_then(|element| element.get("val"));
            read(with_more.unwrap_or(element))
        };
        elements.iter().map(value).collect()
    }

    fn unclear(&mut self, what: &str) {
        let what = format!("it has {what}");
        self.rule.unclear.get_or_insert(what);
    }
}

fn range(value: &Value) -> Option<(&Value, &Value)> {
    match value.get("range") {
        Some(range) => range.get(0).zip(range.get(1)),
        None => Some((value, value)),
    }
}

fn addresses(value: &Value) -> Option<(IpAddr, IpAddr)> {
    if let Some(prefix) = value.get("prefix") {
        let address: IpAddr = text_of(prefix, "addr")?.parse().ok()?;
        let length = u8::try_from(prefix.get("len")?.as_u64()?).ok()?;
        let network = IpNet::new(address, length).ok()?;
        return Some((network.network(), network.broadcast()));
    }
    let (first, last) = range(value)?;
    Some((first.as_str()?.parse().ok()?, last.as_str()?.parse().ok()?))
}

fn ports(value: &Value) -> Option<(u16, u16)> {
    let (first, last) = range(value)?;
    let port = |value: &Value| u16::try_from(value.as_u64()?).ok();
    port(first).zip(port(last))
}

fn protocol(value: &Value) -> Option<(u8, u8)> {
    let number = match value.as_str() {
        // Others by their names are not balanced.
        Some(name) => Protocol::from_name(name).map_or(u8::MAX, Protocol::number),
        None => u8::try_from(value.as_u64()?).ok()?,
    };
    Some((number, number))
}
