//! The schedulers: against what a real IPVS was seen to do, and against the tables that the XDP
//! program counts through.

use proptest::prelude::*;
use xdp_lb_common::addr::Address;
use xdp_lb_common::hashed::{folded, maglev, maglev_again, multiplied, multiplied_again};
use xdp_lb_common::load::{Cost, Counts, Limits, search};
use xdp_lb_common::schedule::{FALLBACK_TRIES, RULE_FALLBACK, RULE_PORT, Rule};
use xdp_lb_common::select::slot;

use super::*;
use crate::config::model::{ConnectionLimit, Hashing};
use crate::dataplane::schedule::{Entry, Schedule, Tables};

const fn hashing(port: bool, fallback: bool) -> Hashing {
    Hashing { port, fallback }
}

/// Twelve connections that stay open, of clients one by one.
#[test]
fn servers_are_picked_as_ipvs_was_seen_to_pick_them() {
    let cases: [(Scheduler, &[u32], &[u8]); 16] = [
        (Scheduler::RoundRobin, &[1, 1, 1], &[3, 2, 1]),
        (Scheduler::RoundRobin, &[7, 1, 0], &[2, 1]),
        (Scheduler::WeightedRoundRobin, &[2, 1], &[2, 1, 1]),
        (
            Scheduler::WeightedRoundRobin,
            &[5, 1, 0],
            &[2, 1, 1, 1, 1, 1],
        ),
        (
            Scheduler::WeightedRoundRobin,
            &[3, 2, 1],
            &[3, 2, 1, 1, 2, 1],
        ),
        (Scheduler::WeightedRoundRobin, &[4, 2], &[2, 1, 1]),
        (
            Scheduler::WeightedRoundRobin,
            &[5, 3, 2],
            &[3, 2, 1, 1, 1, 2, 1, 3, 2, 1],
        ),
        (Scheduler::LeastConnections, &[1, 1, 1], &[3, 2, 1]),
        (Scheduler::WeightedLeastConnections, &[1, 1, 1], &[3, 2, 1]),
        (
            Scheduler::WeightedLeastConnections,
            &[2, 1, 1],
            &[3, 2, 1, 1],
        ),
        (
            Scheduler::WeightedLeastConnections,
            &[3, 1, 0],
            &[2, 1, 1, 1],
        ),
        (Scheduler::ShortestDelay, &[2, 1, 1], &[1, 3, 2, 1]),
        (
            Scheduler::NeverQueue,
            &[2, 1, 1],
            &[3, 2, 1, 1, 1, 3, 2, 1, 1, 3, 2, 1],
        ),
        (Scheduler::FailOver, &[1, 5, 5], &[3]),
        (
            Scheduler::Overflow,
            &[1, 2],
            &[2, 2, 2, 1, 1, 0, 0, 0, 0, 0, 0, 0],
        ),
        // One destination, so one server, until it has more than its weight and another is half idle.
        (
            Scheduler::LocalityBased,
            &[2, 2],
            &[2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1],
        ),
    ];
    for (scheduler, weights, period) in cases {
        let mut director = Director::new(&service(scheduler, weights));
        let expected: Vec<_> = period.iter().copied().cycle().take(12).collect();
        assert_eq!(
            director.connect(0..12),
            expected,
            "{scheduler:?} {weights:?}"
        );
    }
}

/// Phases after edits, observed as well.
#[test]
fn wrr_keeps_its_current_weight_across_edits() {
    let mut director = Director::new(&service(Scheduler::WeightedRoundRobin, &[1, 1]));
    for (weights, period) in [
        ([3, 1], vec![2, 1, 1, 1]),
        ([0, 1], vec![2, 2]),
        ([1, 1], vec![2, 1]),
    ] {
        director.set(&service(Scheduler::WeightedRoundRobin, &weights));
        assert_eq!(
            director.connect(0..u16::try_from(period.len()).unwrap()),
            period
        );
        director.memory.forget();
    }
}

/// A server of a list as the XDP program would see it.
#[derive(Clone, Copy, Debug)]
struct Held {
    n: u8,
    weight: u32,
    limit: Option<(u8, u8)>,
}

fn any_list() -> impl Strategy<Value = Vec<Held>> {
    let limits = prop::option::weighted(0.3, (1_u8..5).prop_flat_map(|u| (Just(u), 0..u)));
    let weights = prop::sample::select(vec![0_u32, 1, 1, 2, 3, 4, 6, 10, 300]);
    let servers = prop::collection::btree_map(1_u8..6, (weights, limits), 0..6);
    let servers = servers.prop_map(|servers| {
        let held = |(n, (weight, limit))| Held { n, weight, limit };
        servers.into_iter().map(held).collect::<Vec<_>>()
    });
    servers.prop_shuffle()
}

fn any_scheduler() -> impl Strategy<Value = Scheduler> {
    let hashing =
        (any::<bool>(), any::<bool>()).prop_map(|(port, fallback)| hashing(port, fallback));
    prop_oneof![
        Just(Scheduler::RoundRobin),
        Just(Scheduler::WeightedRoundRobin),
        Just(Scheduler::LeastConnections),
        Just(Scheduler::WeightedLeastConnections),
        Just(Scheduler::LocalityBased),
        Just(Scheduler::LocalityBasedReplicated),
        hashing.clone().prop_map(Scheduler::SourceHash),
        hashing.prop_map(Scheduler::Maglev),
        Just(Scheduler::DestinationHash),
        Just(Scheduler::ShortestDelay),
        Just(Scheduler::NeverQueue),
        Just(Scheduler::FailOver),
        Just(Scheduler::Overflow),
        Just(Scheduler::TwoChoices),
    ]
}

#[derive(Clone, Debug)]
enum Act {
    /// Another list.
    List(Vec<Held>),
    /// Another scheduler.
    By(Scheduler),
    /// A client connects, and its connection stays.
    Connect(u16, u16),
    /// The oldest connection is over.
    End,
}

fn any_acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        1 => any_list().prop_map(Act::List),
        1 => any_scheduler().prop_map(Act::By),
        16 => (0_u16..50, 1_u16..50).prop_map(|(client, port)| Act::Connect(client, port)),
        6 => Just(Act::End),
    ];
    prop::collection::vec(act, 1..60)
}

/// The tables of [`Schedule`], used as the XDP program uses them.
#[derive(Default)]
struct Player {
    schedule: Schedule,
    tables: Option<Tables>,
    cursor: u64,
    list: Vec<Held>,
    /// Connections of each server, and whether it is over its limits.
    loads: std::collections::BTreeMap<u8, (u64, bool)>,
    last: Option<u32>,
    used: std::collections::BTreeSet<u32>,
}

impl Player {
    fn set(&mut self, scheduler: Scheduler, list: &[Held]) {
        self.loads
            .retain(|n, _| list.iter().any(|held| held.n == *n));
        let before = std::mem::replace(&mut self.list, list.to_vec());
        for held in list {
            // A higher limit ends a rest.
            let old = before.iter().find(|old| old.n == held.n).copied();
            let (old, new) = (old.map(limits).unwrap_or_default(), limits(*held));
            if new.upper == 0 || new.upper > old.upper {
                self.loads.entry(held.n).or_default().1 = false;
            }
            self.weigh(held.n);
        }
        let entries = list.iter().map(|held| Entry {
            backend: held.n.into(),
            address: SocketAddr::new(server_ip(held.n), 80),
            weight: held.weight,
            limits: limits(*held),
        });
        let entries: Vec<_> = entries.collect();
        if let Some(tables) = self.schedule.update(scheduler, &entries, self.cursor) {
            if tables.begins {
                (self.last, self.used) = Default::default();
            }
            let has_left = |backend: u32| tables.left.contains(&backend);
            self.last = self.last.filter(|n| !has_left(*n));
            self.used.retain(|n| !has_left(*n));
            self.tables = Some(tables);
        }
    }

    fn weigh(&mut self, n: u8) {
        let held = self.list.iter().find(|held| held.n == n).copied();
        let load = self.loads.entry(n).or_default();
        let limits = held.map(limits).unwrap_or_default();
        load.1 = limits.overloaded(load.1, load.0);
    }

    fn add(&mut self, n: u8, by: i8) {
        if let Some(load) = self.loads.get_mut(&n) {
            load.0 = load.0.wrapping_add_signed(by.into());
            self.weigh(n);
        }
    }

    fn seen(&self, backend: u32) -> xdp_lb_common::load::Seen {
        let held = self.list.iter().find(|held| u32::from(held.n) == backend);
        let Some(held) = held else {
            return xdp_lb_common::load::Seen::default();
        };
        let (active, overloaded) = self.loads.get(&held.n).copied().unwrap_or_default();
        xdp_lb_common::load::Seen {
            weight: held.weight,
            counts: Counts(active),
            overloaded,
            member: self.used.contains(&backend),
        }
    }

    fn cheapest(&self, by: u32) -> Option<u32> {
        let slots = &self.tables.as_ref()?.slots;
        let costs = slots
            .iter()
            .filter_map(|at| Some((*at, self.seen(*at).cost(by)?)));
        let is_below = |next: &(u32, Cost), best: &(u32, Cost)| next.1.is_below(best.1);
        costs
            .reduce(|best, next| if is_below(&next, &best) { next } else { best })
            .map(|c| c.0)
    }

    fn is_overloaded(&self, backend: u32) -> bool {
        self.seen(backend).is_crowded() && self.cheapest(search::HALF).is_some()
    }

    fn hashed(&self, rule: Rule, tables: &Tables, client: Ipv4Addr, port: u16) -> Option<u32> {
        let len = u32::try_from(tables.slots.len()).unwrap();
        let (ip, port) = match (rule, tables.rule & RULE_PORT) {
            (Rule::DestinationHash, _) => (VIP, 0),
            (_, 0) => (client, 0),
            _ => (client, port.to_be()),
        };
        let name = folded(Address::from_ip(ip.into()).0.words_be, port);
        let is_maglev = rule == Rule::Maglev;
        let first = if is_maglev {
            maglev(name, len)
        } else {
            multiplied(name)
        };
        let again = |attempt| {
            if is_maglev {
                maglev_again(name, first, attempt, len)
            } else {
                multiplied_again(first, attempt)
            }
        };
        let at = |entry: u32| tables.slots.get(entry as usize).copied();
        let open = |backend: &u32| self.seen(*backend).takes();
        let chosen = at(first)?;
        if open(&chosen) || tables.rule & RULE_FALLBACK == 0 {
            return Some(chosen).filter(open);
        }
        let mut tries = (0..FALLBACK_TRIES).map(again).filter_map(at);
        tries.find(open).or_else(|| {
            let live = u32::try_from(tables.fallback.len()).unwrap();
            let entry = slot(name.into(), live) as usize;
            tables.fallback.get(entry).copied()
        })
    }

    fn pick(&mut self, client: Ipv4Addr, port: u16) -> Option<u32> {
        let tables = self.tables.clone()?;
        let len = u32::try_from(tables.slots.len()).unwrap();
        let at = |entry: u32| tables.slots[entry as usize];
        match Rule::of(tables.rule) {
            Rule::Cycle => {
                let turns = (self.cursor..).take(tables.slots.len());
                let turn = turns
                    .into_iter()
                    .find(|turn| self.seen(at(slot(*turn, len))).takes())?;
                self.cursor = turn + 1;
                Some(at(slot(turn, len)))
            }
            rule @ (Rule::SourceHash | Rule::Maglev | Rule::DestinationHash) => {
                self.hashed(rule, &tables, client, port)
            }
            Rule::LocalityBased => {
                let last = self
                    .last
                    .filter(|at| self.seen(*at).takes() && !self.is_overloaded(*at));
                let chosen = last.or_else(|| self.cheapest(search::WLC))?;
                self.last = Some(chosen);
                Some(chosen)
            }
            Rule::LocalityBasedReplicated => {
                let member = self
                    .cheapest(search::MEMBERS)
                    .filter(|at| !self.is_overloaded(*at));
                let chosen = member.or_else(|| self.cheapest(search::WLC))?;
                self.used.insert(chosen);
                Some(chosen)
            }
            counting => self.cheapest(counting as u32),
        }
    }
}

fn limits(held: Held) -> Limits {
    let (upper, lower) = held.limit.unwrap_or_default();
    Limits {
        upper: upper.into(),
        lower: lower.into(),
    }
}

fn as_service(scheduler: Scheduler, list: &[Held]) -> Service {
    let servers = list.iter().map(|held| Server {
        limit: held.limit.map(|(upper, lower)| ConnectionLimit {
            upper: u32::from(upper).try_into().unwrap(),
            lower: lower.into(),
        }),
        ..server(held.n, held.weight)
    });
    Service {
        servers: servers.collect(),
        ..service(scheduler, &[])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Lists, schedulers and connections as they come.
    #[test]
    fn tables_and_walks_lead_to_the_same_servers(
        scheduler in any_scheduler(), list in any_list(), acts in any_acts(),
    ) {
        let (mut scheduler, mut list) = (scheduler, list);
        let mut director = Director::new(&as_service(scheduler, &list));
        let mut player = Player::default();
        player.set(scheduler, &list);
        let mut held = std::collections::VecDeque::new();
        let mut number = 0_u16;
        for act in acts {
            match act {
                Act::List(new) => list = new,
                Act::By(other) => scheduler = other,
                Act::Connect(client, port) => {
                    number += 1;
                    let frame = tcp(client, SYN).port(port * 100 + number);
                    let ports = port * 100 + number;
                    let ip = Ipv4Addr::new(10, 1, 0, u8::try_from(client).unwrap());
                    let found = director.frame(&frame.bytes());
                    let server = found.traffic.map(|traffic| traffic.server.1.ip());
                    if scheduler == Scheduler::TwoChoices {
                        // Any that takes connections, and nobody if there is none.
                        let takes = |held: &Held| player.seen(held.n.into()).takes();
                        let open: Vec<_> = list.iter().filter(|h| takes(h)).map(|h| server_ip(h.n)).collect();
                        prop_assert_eq!(server.is_none(), open.is_empty());
                        prop_assert!(server.is_none_or(|server| open.contains(&server)));
                    } else {
                        let picked = player.pick(ip, ports).map(|n| server_ip(u8::try_from(n).unwrap()));
                        prop_assert_eq!(server, picked, "{:?} {:?}", scheduler, list);
                    }
                    if let Some(IpAddr::V4(v4)) = server {
                        player.add(v4.octets()[3], 1);
                        held.push_back((client, ports, v4.octets()[3]));
                    }
                }
                Act::End => {
                    if let Some((client, port, n)) = held.pop_front() {
                        // As if its life were over and it had been swept out.
                        let is_known = end(&mut director, client, port);
                        if is_known {
                            player.add(n, -1);
                        }
                    }
                }
            }
            director.set(&as_service(scheduler, &list));
            player.set(scheduler, &list);
        }
    }
}

/// Takes a connection out of the table; whether it counted.
fn end(director: &mut Director, client: u16, port: u16) -> bool {
    let memory = &mut director.memory;
    let client = SocketAddr::from(([10, 1, 0, u8::try_from(client).unwrap()], port));
    let servers = memory.servers.clone();
    let gone = memory.connections.sweep(|entry| entry.key.from() == client);
    let mut counted = false;
    for connection in gone {
        let server = servers.get(&connection.server);
        counted |= server.is_some_and(|server| server.life == connection.life);
        super::super::connection::count(memory, Some(connection), None);
    }
    counted
}
