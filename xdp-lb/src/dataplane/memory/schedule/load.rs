//! The schedulers that look at connections and weights. Of equal servers the first in the list is
//! taken.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::Seen;

/// What the connections of a server cost: an active one as much as 256 others.
const fn cost(server: &Seen) -> u64 {
    server.active * 256 + server.inactive
}

/// The first of the least.
fn first_least<'a>(
    servers: impl Iterator<Item = &'a Seen>,
    order: impl Fn(&Seen, &Seen) -> Ordering,
) -> Option<SocketAddr> {
    let least = servers.reduce(|best, next| match order(next, best) {
        Ordering::Less => next,
        Ordering::Equal | Ordering::Greater => best,
    });
    least.map(|server| server.address)
}

fn open(seen: &[Seen]) -> impl Iterator<Item = &Seen> {
    seen.iter().filter(|server| server.takes())
}

/// Two numbers, each by the weight of its server.
fn by_weight(one: (u64, &Seen), other: (u64, &Seen)) -> Ordering {
    let product = |number: u64, weight: u32| u128::from(number) * u128::from(weight);
    product(one.0, other.1.weight).cmp(&product(other.0, one.1.weight))
}

fn by_cost(one: &Seen, other: &Seen) -> Ordering {
    by_weight((cost(one), one), (cost(other), other))
}

/// `lc`.
pub(super) fn least(seen: &[Seen]) -> Option<SocketAddr> {
    first_least(open(seen), |one, other| cost(one).cmp(&cost(other)))
}

/// `wlc`.
pub(super) fn weighted_least(seen: &[Seen]) -> Option<SocketAddr> {
    first_least(open(seen), by_cost)
}

/// `sed`: what the connection would have to wait for, itself included.
pub(super) fn shortest_delay(seen: &[Seen]) -> Option<SocketAddr> {
    first_least(open(seen), |one, other| {
        by_weight((one.active + 1, one), (other.active + 1, other))
    })
}

/// `nq`: the first that is idle, else as `sed`.
pub(super) fn never_queue(seen: &[Seen]) -> Option<SocketAddr> {
    let idle = open(seen).find(|server| server.active == 0);
    idle.map(|server| server.address)
        .or_else(|| shortest_delay(seen))
}

/// `fo`.
pub(super) fn heaviest(seen: &[Seen]) -> Option<SocketAddr> {
    first_least(open(seen), |one, other| other.weight.cmp(&one.weight))
}

/// `ovf`: the heaviest of those that have at most as many active connections as they weigh.
pub(super) fn not_full(seen: &[Seen]) -> Option<SocketAddr> {
    let not_full = open(seen).filter(|server| server.active <= u64::from(server.weight));
    first_least(not_full, |one, other| other.weight.cmp(&one.weight))
}

/// Whether a server is overloaded, to `lblc` and `lblcr`: it has more active connections than it
/// weighs, while another one has less than half of that.
fn is_overloaded(server: &Seen, seen: &[Seen]) -> bool {
    let half_idle = |other: &Seen| other.active * 2 < u64::from(other.weight);
    server.active > u64::from(server.weight) && open(seen).any(half_idle)
}

/// `lblc`: the server of the last time, if it can be had.
pub(super) fn again(last: Option<SocketAddr>, seen: &[Seen]) -> Option<SocketAddr> {
    let server = seen.iter().find(|server| Some(server.address) == last)?;
    (server.takes() && !is_overloaded(server, seen)).then_some(server.address)
}

/// `lblcr`: the least loaded of the servers used so far, unless it is overloaded.
pub(super) fn among(used: &BTreeSet<SocketAddr>, seen: &[Seen]) -> Option<SocketAddr> {
    let members = open(seen).filter(|server| used.contains(&server.address));
    let least = first_least(members, by_cost)?;
    let server = seen.iter().find(|server| server.address == least)?;
    (!is_overloaded(server, seen)).then_some(least)
}
