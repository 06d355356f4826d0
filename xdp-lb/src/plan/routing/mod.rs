//! Routes and rules from the words of `ip route` and `ip rule`.
//!
//! Numbers stand for the names that a host has for tables and the like by then, but for those that
//! are the same on every host.

use std::iter::Peekable;
use std::net::IpAddr;

use ipnet::IpNet;

use super::belongings::{Belonging, Fate, Route, Rule};
use super::table::Network;
use crate::config::model::{Config, OwnRoute, OwnRule, VrrpInstance};

/// Why a route or a rule is not put in place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It has an option that does not work yet.
    #[error("'{0}' does not work yet")]
    Option(String),
    /// This host has no such name.
    #[error("'{name}' is no {what} of this host")]
    Name {
        /// The name.
        name: String,
        /// What it should be the name of.
        what: &'static str,
    },
    /// It leads nowhere.
    #[error("it has no destination")]
    NoDestination,
}

/// Those that stand as long as the file says so.
pub(super) fn static_ones(config: &Config, network: &Network) -> Vec<Belonging> {
    belongings(&config.static_routes, &config.static_rules, network)
}

/// Those of an instance.
pub(super) fn of_instance(instance: &VrrpInstance, network: &Network) -> Vec<Belonging> {
    belongings(&instance.routes, &instance.rules, network)
}

fn belongings(routes: &[OwnRoute], rules: &[OwnRule], network: &Network) -> Vec<Belonging> {
    let routes = routes
        .iter()
        .filter_map(|own| placed(route(own).ok()?, network));
    let rules = rules.iter().filter_map(|own| rule(own).ok());
    routes
        .map(Belonging::Route)
        .chain(rules.map(Belonging::Rule))
        .collect()
}

/// A route, and the interface that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// The route, without the interface.
    pub route: Route,
    /// `dev`.
    pub device: Option<String>,
}

/// On its interface, if that exists.
fn placed(unplaced: Unplaced, network: &Network) -> Option<Route> {
    let ifindex = match unplaced.device {
        Some(device) => Some(network.links.get(&device)?.ifindex),
        None => None,
    };
    Some(Route {
        ifindex,
        ..unplaced.route
    })
}

/// What cannot be put in place of a configuration whose names are numbers by now, and why.
pub fn refused(config: &Config) -> Vec<String> {
    let routes = config.vrrp_instances.iter().flat_map(|i| &i.routes);
    let routes = routes.chain(&config.static_routes);
    let routes = routes.filter_map(|own| {
        let reason = route(own).err()?;
        Some(format!(
            "the route '{}' is left out: {reason}",
            own.words.join(" ")
        ))
    });
    let rules = config.vrrp_instances.iter().flat_map(|i| &i.rules);
    let rules = rules.chain(&config.static_rules).filter_map(|own| {
        let reason = rule(own).err()?;
        Some(format!(
            "the rule '{}' is left out: {reason}",
            own.words.join(" ")
        ))
    });
    routes.chain(rules).collect()
}

/// Reads a route.
///
/// # Errors
///
/// [`Refused`].
pub fn route(own: &OwnRoute) -> Result<Unplaced, Refused> {
    let mut words = own.words.iter().map(String::as_str).peekable();
    let fate = take_if(&mut words, fate_of).unwrap_or_default();
    if words.peek() == Some(&"unicast") {
        words.next();
    }
    let mut destination = take_if(&mut words, network_of);
    // A route to anywhere, of the family of its gateway or source.
    let mut anywhere = None;
    let mut route = Route::to(IpNet::default());
    let mut device = None;
    while let Some(option) = words.next() {
        let refused = || Refused::Option(option.to_owned());
        if option == "onlink" {
            route.on_link = true;
            continue;
        }
        let mut value = words.next().ok_or_else(refused)?;
        if option == "via" && matches!(value, "inet" | "inet6") {
            value = words.next().ok_or_else(refused)?;
        }
        let number = || value.parse().ok().map(Some).ok_or_else(refused);
        let address = || value.parse().ok().map(Some).ok_or_else(refused);
        match option {
            "to" => destination = Some(network_of(value).ok_or_else(refused)?),
            "via" => route.gateway = address()?,
            "src" => route.source = address()?,
            "dev" | "oif" => device = Some(value.to_owned()),
            "table" => route.table = named(value, TABLES, "routing table")?,
            "scope" => route.scope = small(value, SCOPES, "scope")?,
            "protocol" => route.protocol = small(value, PROTOCOLS, "routing protocol")?,
            "tos" | "dsfield" => route.tos = small(value, &[], "kind of service")?,
            "metric" | "priority" | "preference" => route.metric = number()?,
            "mtu" => route.mtu = number()?,
            "advmss" => route.advmss = number()?,
            "initcwnd" => route.initcwnd = number()?,
            "initrwnd" => route.initrwnd = number()?,
            _ => return Err(refused()),
        }
        anywhere = route.source.or(route.gateway);
    }
    route.fate = fate;
    route.destination = match destination.ok_or(Refused::NoDestination)? {
        Destination::Network(network) => network,
        Destination::Anywhere => all(anywhere.is_some_and(|ip| ip.is_ipv6())),
    };
    Ok(Unplaced { route, device })
}

/// Reads a rule.
///
/// # Errors
///
/// [`Refused`].
pub fn rule(own: &OwnRule) -> Result<Rule, Refused> {
    let mut words = own.words.iter().map(String::as_str);
    let mut rule = Rule::all(false, 0);
    while let Some(option) = words.next() {
        let refused = || Refused::Option(option.to_owned());
        match option {
            "not" => {
                rule.not = true;
                continue;
            }
            "blackhole" | "unreachable" | "prohibit" => {
                rule.fate = fate_of(option).unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let value = words.next().ok_or_else(refused)?;
        match option {
            "from" => rule.from = select(value).ok_or_else(refused)?,
            "to" => rule.to = select(value).ok_or_else(refused)?,
            "iif" | "dev" => rule.in_interface = Some(value.to_owned()),
            "oif" => rule.out_interface = Some(value.to_owned()),
            "fwmark" => rule.mark = Some(mark_of(value).ok_or_else(refused)?),
            "tos" | "dsfield" => rule.tos = small(value, &[], "kind of service")?,
            "preference" | "priority" | "order" | "pref" => {
                rule.priority = Some(value.parse().ok().ok_or_else(refused)?);
            }
            "protocol" => rule.protocol = small(value, PROTOCOLS, "routing protocol")?,
            "table" | "lookup" => rule.table = named(value, TABLES, "routing table")?,
            _ => return Err(refused()),
        }
    }
    let networks = [rule.from, rule.to];
    rule.v6 = networks.iter().flatten().any(|net| net.addr().is_ipv6());
    Ok(rule)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Destination {
    Network(IpNet),
    Anywhere,
}

fn network_of(word: &str) -> Option<Destination> {
    match word {
        "default" | "all" | "any" => Some(Destination::Anywhere),
        _ => net(word).map(Destination::Network),
    }
}

/// `None` for all.
#[expect(
    clippy::option_option,
    reason = "no network, and a network that selects nothing, are two things"
)]
fn select(word: &str) -> Option<Option<IpNet>> {
    match network_of(word)? {
        Destination::Network(network) => Some(Some(network)),
        Destination::Anywhere => Some(None),
    }
}

fn net(word: &str) -> Option<IpNet> {
    let network = word.parse::<IpNet>();
    let network = network.or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
    network.ok()
}

fn all(is_v6: bool) -> IpNet {
    if is_v6 {
        IpNet::V6(ipnet::Ipv6Net::default())
    } else {
        IpNet::V4(ipnet::Ipv4Net::default())
    }
}

fn fate_of(word: &str) -> Option<Fate> {
    match word {
        "blackhole" => Some(Fate::Blackhole),
        "unreachable" => Some(Fate::Unreachable),
        "prohibit" => Some(Fate::Prohibit),
        _ => None,
    }
}

/// `MARK[/MASK]`; all bits count without a mask.
fn mark_of(word: &str) -> Option<(u32, u32)> {
    match word.split_once('/') {
        Some((mark, mask)) => Some((number(mark)?, number(mask)?)),
        None => Some((number(word)?, u32::MAX)),
    }
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// Names that are the same everywhere, as rtnetlink numbers them.
type Names = &'static [(&'static str, u32)];
const TABLES: Names = &[("default", 253), ("main", 254), ("local", 255)];
const SCOPES: Names = &[
    ("global", 0),
    ("universe", 0),
    ("site", 200),
    ("link", 253),
    ("host", 254),
    ("nowhere", 255),
];
const PROTOCOLS: Names = &[
    ("redirect", 1),
    ("kernel", 2),
    ("boot", 3),
    ("static", 4),
    ("ra", 9),
    ("keepalived", 18),
];

fn named(word: &str, names: Names, what: &'static str) -> Result<u32, Refused> {
    let known = names.iter().find(|(name, _)| *name == word);
    let found = known.map(|(_, number)| *number).or_else(|| number(word));
    found.ok_or_else(|| Refused::Name {
        name: word.to_owned(),
        what,
    })
}

fn small(word: &str, names: Names, what: &'static str) -> Result<u8, Refused> {
    let number = u8::try_from(named(word, names, what)?).ok();
    number.ok_or_else(|| Refused::Name {
        name: word.to_owned(),
        what,
    })
}

/// Takes the next word if it means something.
fn take_if<'w, T>(
    words: &mut Peekable<impl Iterator<Item = &'w str>>,
    meaning: impl Fn(&str) -> Option<T>,
) -> Option<T> {
    let meant = meaning(words.peek()?)?;
    words.next();
    Some(meant)
}

#[cfg(test)]
mod tests;
