//! In which order new connections are placed: IPVS's own.

use xdp_lb_common::reason::Reason;

use crate::case::{Case, Step, check, goes, send, stays};
use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::tables::{Virtual, Words as _, ack, datagram, server_mac, syn, tables, tcp, udp};

/// New connections of clients `first`, … go to these servers.
fn new_connections(first: u32, servers: &[u8]) -> Vec<Step> {
    let fates = servers.iter().map(|n| goes(Reason::TxScheduled, *n));
    (first..)
        .zip(fates)
        .map(|(client, fate)| send(syn(client), fate))
        .collect()
}

fn order(name: &'static str, service: Virtual, servers: &[u8]) -> Case {
    Case {
        name,
        tables: tables([service]),
        steps: new_connections(1, servers),
    }
}

/// The server chosen for consecutive connections, as seen on IPVS.
#[test]
fn the_order_is_that_of_ipvs() {
    let backwards = tcp(80).wrr(&[]).add(2, 2).add(1, 1);
    check(vec![
        order("rr", tcp(80).rr(3), &[3, 2, 1, 3, 2, 1, 3]),
        order("rr of one", tcp(80).rr(1), &[1, 1, 1]),
        order("wrr 1:1", tcp(80).wrr(&[1, 1]), &[2, 1, 2, 1]),
        order("wrr 2:1", tcp(80).wrr(&[2, 1]), &[2, 1, 1, 2, 1, 1]),
        order("wrr 1:2, added backwards", backwards, &[1, 2, 2, 1, 2, 2]),
        order("wrr 4:2", tcp(80).wrr(&[4, 2]), &[2, 1, 1, 2, 1, 1]),
        order(
            "wrr 5:1:0",
            tcp(80).wrr(&[5, 1, 0]),
            &[2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1],
        ),
        order(
            "wrr 3:2:1",
            tcp(80).wrr(&[3, 2, 1]),
            &[3, 2, 1, 1, 2, 1, 3, 2, 1, 1, 2, 1],
        ),
        order(
            "wrr 5:3:2",
            tcp(80).wrr(&[5, 3, 2]),
            &[3, 2, 1, 1, 1, 2, 1, 3, 2, 1, 3],
        ),
        order("wrr 0:0:3", tcp(80).wrr(&[0, 0, 3]), &[3, 3, 3]),
    ]);
}

#[test]
fn rr_knows_weights_only_as_zero_or_not() {
    let service = tcp(80).rr(3).weigh(1, 7).weigh(3, 0);
    check(vec![order("rr 7:1:0", service, &[2, 1, 2, 1])]);
}

#[test]
fn without_an_eligible_server_new_connections_are_refused() {
    let refused = || stays(Reason::TxUnreachable);
    let empty = |name, service: fn(Virtual) -> Virtual| Case {
        name,
        tables: tables([service(tcp(80)), service(udp(80))]),
        steps: vec![
            send(syn(1), refused()),
            send(datagram(1), refused()),
            send(ack(1), stays(Reason::NoConnection)),
            Step::Tables(tables([tcp(80).rr(1), udp(80).rr(1)])),
            send(syn(1), goes(Reason::TxScheduled, 1)),
            send(datagram(1), goes(Reason::TxScheduled, 1)),
        ],
    };
    check(vec![
        empty("no server at all", |service| service.rr(0)),
        empty("wrr of none", |service| service.wrr(&[])),
        empty("all of weight 0", |service| service.wrr(&[0, 0])),
        empty("rr, all of weight 0", |service| service.rr(1).weigh(1, 0)),
        empty("all failed", |service| service.rr(2).fail(1).fail(2)),
        empty("none whose MAC is known", |service| {
            service.rr(1).unresolved(1)
        }),
    ]);
}

#[test]
fn services_take_turns_of_their_own() {
    check(vec![Case {
        name: "what one service schedules does not move another",
        tables: tables([tcp(80).rr(2), tcp(81).rr(2), udp(80).rr(2)]),
        steps: vec![
            send(syn(1), goes(Reason::TxScheduled, 2)),
            send(syn(1).to_port(81), goes(Reason::TxScheduled, 2)),
            send(datagram(1), goes(Reason::TxScheduled, 2)),
            send(syn(2), goes(Reason::TxScheduled, 1)),
            send(syn(2).to_port(81), goes(Reason::TxScheduled, 1)),
            send(datagram(2), goes(Reason::TxScheduled, 1)),
        ],
    }]);
}

#[test]
fn a_server_of_weight_0_keeps_its_connections_and_gets_no_new_ones() {
    check(vec![Case {
        name: "weight 0",
        tables: tables([tcp(80).wrr(&[1, 1]), udp(80).rr(2)]),
        steps: vec![
            send(syn(1), goes(Reason::TxScheduled, 2)),
            send(datagram(1), goes(Reason::TxScheduled, 2)),
            Step::Tables(tables([tcp(80).wrr(&[1, 0]), udp(80).rr(2).weigh(2, 0)])),
            send(ack(1), goes(Reason::TxConnection, 2)),
            send(datagram(1), goes(Reason::TxConnection, 2)),
            send(syn(2), goes(Reason::TxScheduled, 1)),
            send(syn(3), goes(Reason::TxScheduled, 1)),
            send(datagram(2), goes(Reason::TxScheduled, 1)),
            send(datagram(3), goes(Reason::TxScheduled, 1)),
        ],
    }]);
}

/// As seen on IPVS: 1:1, the first raised to 3, then 0, then back to 1.
#[test]
fn wrr_goes_on_at_its_weight_after_an_edit() {
    let weights = |a, b| Step::Tables(tables([tcp(80).wrr(&[a, b])]));
    let mut steps = vec![weights(3, 1)];
    steps.extend(new_connections(1, &[2, 1, 1, 1]));
    steps.push(weights(0, 1));
    steps.extend(new_connections(11, &[2, 2, 2]));
    steps.push(weights(1, 1));
    steps.extend(new_connections(21, &[2, 1, 2, 1]));
    check(vec![Case {
        name: "1:1, 3:1, 0:1, 1:1",
        tables: tables([tcp(80).wrr(&[1, 1])]),
        steps,
    }]);
}

/// What IPVS does, modelled by its state: `rr` remembers the server picked last, `wrr` that and a
/// current weight. Lists run newest first.
struct Ipvs {
    weighted: bool,
    list: Vec<(u8, u32)>,
    /// Position in the list of the last pick; none: the walk begins at the head.
    last: Option<usize>,
    current: u32,
}

impl Ipvs {
    const fn new(weighted: bool) -> Self {
        Self {
            weighted,
            list: Vec::new(),
            last: None,
            current: 0,
        }
    }

    /// Common divisor of the weights, and the current weight that a round starts from.
    fn shape(&self) -> (u32, u32) {
        let weights = self.list.iter().map(|(_, weight)| *weight);
        let divisor = weights.clone().fold(0, divisor).max(1);
        let top = weights.max().unwrap_or(0).saturating_sub(divisor - 1);
        (divisor, top)
    }

    /// `wrr` walks the list anew after every edit, its current weight brought into range.
    fn edited(&mut self) {
        if !self.weighted {
            return;
        }
        let (divisor, top) = self.shape();
        self.last = None;
        if self.current == 0 || self.current > top {
            self.current = top;
        } else if divisor > 1 {
            self.current = self.current / divisor * divisor + 1;
        }
    }

    fn add(&mut self, n: u8, weight: u32) {
        self.list.insert(0, (n, weight));
        self.last = self.last.map(|at| at + 1);
        self.edited();
    }

    fn remove(&mut self, n: u8) {
        let at = self.list.iter().position(|(other, _)| *other == n).unwrap();
        self.list.remove(at);
        // The place of the last pick moves back when that server goes.
        self.last = self.last.and_then(|last| {
            if last >= at {
                last.checked_sub(1)
            } else {
                Some(last)
            }
        });
        self.edited();
    }

    /// The same weight again is no edit: keepalived tells the kernel of differences alone.
    fn weigh(&mut self, n: u8, weight: u32) {
        let mut list = self.list.iter_mut();
        let server = list.find(|(other, _)| *other == n).unwrap();
        if server.1 != weight {
            server.1 = weight;
            self.edited();
        }
    }

    fn pick(&mut self) -> Option<u8> {
        if self.list.iter().all(|(_, weight)| *weight == 0) {
            return None;
        }
        let (divisor, top) = self.shape();
        loop {
            let next = self.last.map_or(0, |at| at + 1);
            if next < self.list.len() {
                self.last = Some(next);
                let (n, weight) = self.list[next];
                let due = if self.weighted {
                    weight >= self.current
                } else {
                    weight > 0
                };
                if due {
                    return Some(n);
                }
                continue;
            }
            self.last = None;
            if self.weighted {
                self.current = self.current.saturating_sub(divisor);
                if self.current == 0 {
                    self.current = top;
                }
            }
        }
    }
}

const fn divisor(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Random histories of edits and connections: the program picks what the model picks.
#[test]
fn the_phase_survives_any_history_of_edits() {
    in_a_network(|| {
        for (seed, weighted) in (1..).zip([true, false, true, false]) {
            play(seed, weighted);
        }
    });
}

fn play(seed: u64, weighted: bool) {
    let mut dice = Dice::new(seed);
    let mut ipvs = Ipvs::new(weighted);
    let mut service = if weighted {
        tcp(80).wrr(&[])
    } else {
        tcp(80).rr(0)
    };
    let mut director = Director::new(&tables([service.clone()]));
    let (mut client, mut history) = (0, Vec::new());
    for _ in 0..150 {
        let n = u8::try_from(dice.roll(5) + 1).unwrap();
        let weight = u32::try_from(dice.roll(7)).unwrap();
        let known = ipvs.list.iter().any(|(other, _)| *other == n);
        let edit = match (known, dice.roll(3)) {
            (false, _) => {
                ipvs.add(n, weight);
                service = service.add(n, weight);
                format!("add {n} of {weight}")
            }
            // keepalived takes a server that fails out of the list, and adds it when it recovers.
            (true, 0) => {
                ipvs.remove(n);
                service = service.remove(n);
                format!("remove {n}")
            }
            (true, _) => {
                ipvs.weigh(n, weight);
                service = service.weigh(n, weight);
                format!("weigh {n} {weight}")
            }
        };
        history.push(edit);
        director.set(&tables([service.clone()]));
        for _ in 0..dice.roll(8) {
            client += 1;
            let outcome = director.send(&syn(client).bytes().unwrap());
            let picked = (1..=5).find(|n| outcome.frame.starts_with(&server_mac(*n)));
            let expected = ipvs.pick();
            let told = history.join(", ");
            assert_eq!(
                picked, expected,
                "seed {seed}, wrr {weighted}, after {told}"
            );
            history.push(picked.map_or_else(|| "→none".to_owned(), |n| format!("→{n}")));
        }
    }
}
