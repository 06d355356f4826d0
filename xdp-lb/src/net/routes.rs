//! Routes and routing rules that come and go with VIPs, put in place and taken out many at a time.
//!
//! For a thread without a runtime. They bear keepalived's protocol number unless told otherwise, so
//! that `ip route show proto keepalived` finds them.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::rule::{RuleAction as Action, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc::{EEXIST, ENODEV, ENOENT, ESRCH};

use super::Error;
use super::addresses::Added;
use super::batch::{Batch, Request};
use super::netlink::family;

pub use crate::plan::belongings::{Fate, KEEPALIVED, MAIN, Route, Rule};

/// Adds and removes routes and rules in the network namespace of the thread that opened it.
///
/// What is there already is no error to add, what is not there is none to remove. The results are in
/// the order of the arguments; a call as a whole fails only if the kernel did not answer.
#[derive(Debug)]
pub struct Routes {
    kernel: Batch,
}

impl Routes {
    /// Opens a connection to the kernel.
    pub fn open() -> Result<Self, Error> {
        Batch::open().map(|kernel| Self { kernel })
    }

    /// Adds routes. A route to the same destination that differs, the user's perhaps, stays and is
    /// taken again when ours goes; ours comes before it, as keepalived has it (IPv4; of IPv6 routes
    /// of one metric both are used).
    pub fn add(&mut self, routes: &[Route]) -> Result<Vec<Result<Added, Error>>, Error> {
        let requests = routes.iter().map(|route| Request {
            message: RouteNetlinkMessage::NewRoute(route_message(route)),
            flags: NLM_F_CREATE,
        });
        let answers = self.kernel.run(requests.collect(), "add routes")?;
        Ok(added(answers, |n| describe_route("add", routes.get(n))))
    }

    /// Removes routes, the last one first, as one may lead to the gateway of the next.
    pub fn remove(&mut self, routes: &[Route]) -> Result<Vec<Result<(), Error>>, Error> {
        let requests = routes.iter().rev().map(|route| Request {
            message: RouteNetlinkMessage::DelRoute(route_message(route)),
            flags: 0,
        });
        let mut answers = self.kernel.run(requests.collect(), "remove routes")?;
        answers.reverse();
        Ok(removed(answers, |n| {
            describe_route("remove", routes.get(n))
        }))
    }

    /// Adds rules.
    pub fn add_rules(&mut self, rules: &[Rule]) -> Result<Vec<Result<Added, Error>>, Error> {
        let requests = rules.iter().map(|rule| Request {
            message: RouteNetlinkMessage::NewRule(rule_message(rule)),
            flags: NLM_F_CREATE | NLM_F_EXCL,
        });
        let answers = self.kernel.run(requests.collect(), "add rules")?;
        Ok(added(answers, |n| describe_rule("add", rules.get(n))))
    }

    /// Removes rules, the last one first.
    pub fn remove_rules(&mut self, rules: &[Rule]) -> Result<Vec<Result<(), Error>>, Error> {
        let requests = rules.iter().rev().map(|rule| Request {
            message: RouteNetlinkMessage::DelRule(rule_message(rule)),
            flags: 0,
        });
        let mut answers = self.kernel.run(requests.collect(), "remove rules")?;
        answers.reverse();
        Ok(removed(answers, |n| describe_rule("remove", rules.get(n))))
    }
}

fn added(
    answers: Vec<io::Result<()>>,
    operation: impl Fn(usize) -> String,
) -> Vec<Result<Added, Error>> {
    let become_of = |(n, answer): (usize, io::Result<()>)| match answer {
        Ok(()) => Ok(Added::New),
        Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(Added::Existed),
        Err(source) => Err(Error::Refused {
            operation: operation(n),
            source,
        }),
    };
    answers.into_iter().enumerate().map(become_of).collect()
}

fn removed(
    answers: Vec<io::Result<()>>,
    operation: impl Fn(usize) -> String,
) -> Vec<Result<(), Error>> {
    let become_of = |(n, answer): (usize, io::Result<()>)| match answer {
        Ok(()) => Ok(()),
        Err(error) if matches!(error.raw_os_error(), Some(ESRCH | ENOENT | ENODEV)) => Ok(()),
        Err(source) => Err(Error::Refused {
            operation: operation(n),
            source,
        }),
    };
    answers.into_iter().enumerate().map(become_of).collect()
}

fn describe_route(verb: &str, route: Option<&Route>) -> String {
    route.map_or_else(
        || format!("{verb} a route"),
        |route| format!("{verb} the route to {}", route.destination),
    )
}

fn describe_rule(verb: &str, rule: Option<&Rule>) -> String {
    let Some(rule) = rule else {
        return format!("{verb} a routing rule");
    };
    let from = rule.from.map(|from| format!(" from {from}"));
    let to = rule.to.map(|to| format!(" to {to}"));
    let priority = rule.priority.map(|n| format!(" of priority {n}"));
    let which = [from, to, priority].into_iter().flatten();
    format!("{verb} the routing rule{}", which.collect::<String>())
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.destination.addr());
    header.destination_prefix_length = route.destination.prefix_len();
    header.tos = route.tos;
    header.protocol = RouteProtocol::from(route.protocol);
    header.scope = route.scope.into();
    header.kind = match route.fate {
        Fate::Forward => RouteType::Unicast,
        Fate::Blackhole => RouteType::BlackHole,
        Fate::Unreachable => RouteType::Unreachable,
        Fate::Prohibit => RouteType::Prohibit,
    };
    header.flags.set(RouteFlags::Onlink, route.on_link);
    header.table = short_table(route.table);
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if route.destination.prefix_len() > 0 {
        let network = route.destination.network();
        attributes.push(RouteAttribute::Destination(network.into()));
    }
    if let Some(gateway) = route.gateway {
        attributes.push(match (route.destination, gateway) {
            // RFC 5549: an IPv4 route by an IPv6 gateway.
            (IpNet::V4(_), IpAddr::V6(gateway)) => RouteAttribute::Via(RouteVia::Inet6(gateway)),
            _ => RouteAttribute::Gateway(gateway.into()),
        });
    }
    attributes.extend(route.ifindex.map(RouteAttribute::Oif));
    attributes.extend(route.metric.map(RouteAttribute::Priority));
    let source = route.source;
    attributes.extend(source.map(|ip| RouteAttribute::PrefSource(ip.into())));
    let metrics = [
        route.mtu.map(RouteMetric::Mtu),
        route.advmss.map(RouteMetric::Advmss),
        route.initcwnd.map(RouteMetric::InitCwnd),
        route.initrwnd.map(RouteMetric::InitRwnd),
    ];
    let metrics: Vec<_> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = if rule.v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    header.tos = rule.tos;
    header.action = match rule.fate {
        Fate::Forward => Action::ToTable,
        Fate::Blackhole => Action::Blackhole,
        Fate::Unreachable => Action::Unreachable,
        Fate::Prohibit => Action::Prohibit,
    };
    header.flags.set(RuleFlags::Invert, rule.not);
    let attributes = &mut message.attributes;
    if rule.fate == Fate::Forward {
        header.table = short_table(rule.table);
        attributes.push(RuleAttribute::Table(rule.table));
    }
    if let Some(from) = rule.from {
        header.src_len = from.prefix_len();
        attributes.push(RuleAttribute::Source(from.network()));
    }
    if let Some(to) = rule.to {
        header.dst_len = to.prefix_len();
        attributes.push(RuleAttribute::Destination(to.network()));
    }
    if let Some((mark, mask)) = rule.mark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.push(RuleAttribute::FwMask(mask));
    }
    attributes.extend(rule.in_interface.clone().map(RuleAttribute::Iifname));
    attributes.extend(rule.out_interface.clone().map(RuleAttribute::Oifname));
    attributes.extend(rule.priority.map(RuleAttribute::Priority));
    let protocol = RouteProtocol::from(rule.protocol);
    attributes.push(RuleAttribute::Protocol(protocol));
    message
}

/// The header has room for a small number only; the attribute counts.
fn short_table(table: u32) -> u8 {
    u8::try_from(table).unwrap_or_default()
}
