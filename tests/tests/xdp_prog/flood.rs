//! Floods of ten times the table, and twice as many live flows as it has ways: what becomes of those that
//! live, whatever the family, the scheduler and the kind of forwarding.
//!
//! **What is guaranteed.** A connection that has a way and is confirmed (its ACK, its second datagram)
//! keeps its real server, whoever floods and whatever servers come meanwhile. One without a way keeps it
//! as long as the servers stay the same and nothing comes free. With address translation a connection has
//! two entries, and a live one keeps both.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};

use xdp_lb::config::model::{Hashing, Scheduler, Tunnel};
use xdp_lb::plan::desired::{Desired, Method};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_tests::packet::flags::{ACK, SYN};
use xdp_lb_tests::program::Action;

use crate::cpus::{on_two_cpus, wait_for};
use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::eyes::Tally;
use crate::tables::{Virtual, server_mac, tables, tcp, udp};
use crate::wire::{Wire, from_client, on, server, with};

/// Connections that live through all of it.
const LIVE: usize = 1000;
/// Servers that there are at first, and the one that is added.
const SERVERS: u8 = 4;
const ADDED: u8 = SERVERS + 1;

/// A service, as tests vary it.
#[derive(Clone, Copy, Debug)]
struct Setting {
    is_v6: bool,
    is_tcp: bool,
    scheduler: Scheduler,
    is_persistent: bool,
    method: Method,
}

impl Setting {
    fn tables(self, servers: u8) -> Desired {
        let mut made = on(self.is_v6, if self.is_tcp { tcp(80) } else { udp(80) });
        if self.is_persistent {
            made = made.persistent(300, if self.is_v6 { 128 } else { 32 });
        }
        let add = |made: Virtual, n| {
            let address = SocketAddr::new(server(self.is_v6, n), 80);
            with(made, n, address, self.method)
        };
        tables([(1..=servers).fold(made.by(self.scheduler), add)])
    }

    /// A packet of client `n`; the first one of its connection, or a later one.
    fn packet(self, n: u32, first: bool) -> Wire {
        let tcp = self.is_tcp.then_some(if first { SYN } else { ACK });
        let mut wire = from_client(self.is_v6, 0, tcp);
        let [_, b, c, d] = n.to_be_bytes();
        let ip: IpAddr = if self.is_v6 {
            let net = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 2, 0, 0, 0, 0);
            Ipv6Addr::from_bits(net.to_bits() + u128::from(n)).into()
        } else {
            Ipv4Addr::new(10, b, c, d).into()
        };
        wire.from.set_ip(ip);
        wire
    }

    /// A packet that opens a connection, from anywhere.
    fn spoofed(self, dice: &mut Dice) -> Wire {
        let mut wire = self.packet(0, true);
        let mut roll = || u16::try_from(dice.roll(1 << 16)).unwrap();
        let ip: IpAddr = if self.is_v6 {
            Ipv6Addr::new(
                0x2a00,
                roll(),
                roll(),
                roll(),
                roll(),
                roll(),
                roll(),
                roll(),
            )
            .into()
        } else {
            let [a, b] = roll().to_be_bytes();
            let [c, d] = roll().to_be_bytes();
            Ipv4Addr::new(20 + a % 100, b, c, d).into()
        };
        wire.from = SocketAddr::new(ip, roll() | 1);
        wire
    }
}

/// Settings by number: 1 is IPv6, 2 is TCP, 4 is persistence.
fn settings(
    scheduler: Scheduler,
    method: impl Fn(bool) -> Method,
    numbers: impl IntoIterator<Item = u8>,
) -> Vec<Setting> {
    let setting = |number: u8| {
        let is = |bit| number & bit != 0;
        Setting {
            is_v6: is(1),
            is_tcp: is(2),
            scheduler,
            is_persistent: is(4),
            method: method(is(1)),
        }
    };
    numbers.into_iter().map(setting).collect()
}

fn direct(_is_v6: bool) -> Method {
    Method::Direct
}

fn tunnel(is_v6: bool) -> Method {
    Method::Tunnel(Tunnel::Ipip, server(is_v6, 250))
}

const HASHING: Hashing = Hashing {
    port: false,
    fallback: false,
};

/// Where a frame goes; `None` if nowhere.
fn send(director: &Director, wire: &Wire) -> Option<u8> {
    let outcome = director.send(&wire.bytes());
    let server = || (1..=ADDED).find(|n| outcome.frame.starts_with(&server_mac(*n)));
    (outcome.action == Action::Tx).then(|| server().expect("it went to a real server"))
}

/// Opens connections and confirms them; the server of each.
fn establish(director: &Director, setting: Setting, clients: std::ops::Range<u32>) -> Vec<u8> {
    let one = |n| {
        let server = send(director, &setting.packet(n, true)).expect("it is balanced");
        let confirmed = send(director, &setting.packet(n, false));
        assert_eq!(confirmed, Some(server), "{setting:?}: client {n}");
        server
    };
    clients.map(one).collect()
}

/// How many of the connections, client 0's first, go elsewhere now; and what was counted.
fn broken(director: &Director, setting: Setting, servers: &[u8]) -> (usize, Tally) {
    let before = director.eyes().tally();
    let moved =
        |(n, server): &(u32, &u8)| send(director, &setting.packet(*n, false)) != Some(**server);
    let count = (0..).zip(servers).filter(moved).count();
    (count, director.eyes().tally().since(&before))
}

/// Ways of a table for so many connections.
const fn ways(connections: u32) -> u32 {
    2 * connections
}

/// 1,000 connections, a flood of ten times the table with a server added in the midst of it, and the
/// connections are used all the while.
fn flood(setting: Setting) {
    // With two entries to a connection the table is twice as large.
    let connections = if setting.method == Method::Nat {
        2048
    } else {
        1024
    };
    let mut director = Director::with(&setting.tables(SERVERS), |options| {
        options.connections = connections;
    });
    let servers = establish(&director, setting, 0..u32::try_from(LIVE).unwrap());
    let (mut dice, rounds) = (Dice::new(6), 20);
    let before = director.eyes().tally();
    for round in 0..rounds {
        if round == rounds / 2 {
            director.set(&setting.tables(ADDED));
        }
        for number in 0..10 * ways(connections) / rounds {
            send(&director, &setting.spoofed(&mut dice));
            // Every so often one of those that live has a packet.
            if number % 64 == 0 {
                let n = u32::try_from(dice.roll(LIVE as u64)).unwrap();
                let to = send(&director, &setting.packet(n, false));
                assert_eq!(to, Some(servers[n as usize]), "{setting:?}: client {n}");
            }
        }
    }
    let flooded = director.eyes().tally().since(&before);
    let (count, tally) = broken(&director, setting, &servers);
    assert_eq!(
        count, 0,
        "{setting:?}: of {LIVE} so many are broken: {tally:?}"
    );
    let known = tally.of(Reason::TxConnection);
    assert_eq!(
        known, LIVE as u64,
        "{setting:?}: each has its way: {tally:?}"
    );
    let event = |event| flooded.events.get(&event).copied().unwrap_or_default();
    let evicted = event(Event::Evicted);
    eprintln!(
        "{setting:?}: {} packets of the flood, {evicted} evicted, {} without a way; 0 of {LIVE} broken",
        10 * ways(connections),
        event(Event::NoWay)
    );
    assert!(
        evicted > 10_000,
        "{setting:?}: the table was full: {flooded:?}"
    );
    // New ones go to the added server, too; in the flood's midst.
    // (A translated one takes a second way, for its answers. In a table full of unconfirmed ways that expire in
    // the same tick that may be the way of its own first packet, and its second packet is placed anew.)
    if !setting.is_persistent && setting.method != Method::Nat {
        let newcomers = establish(&director, setting, 5000..5200);
        assert!(newcomers.contains(&ADDED), "{setting:?}");
    }
}

#[test]
fn a_flood_of_ten_times_the_table_breaks_no_connection_weighted_round_robin() {
    in_a_network(|| {
        for setting in settings(Scheduler::WeightedRoundRobin, direct, [1, 2, 4, 7]) {
            flood(setting);
        }
    });
}

#[test]
fn a_flood_of_ten_times_the_table_breaks_no_connection_source_hash() {
    in_a_network(|| {
        for setting in settings(Scheduler::SourceHash(HASHING), direct, [0, 7]) {
            flood(setting);
        }
    });
}

#[test]
fn a_flood_of_ten_times_the_table_breaks_no_connection_maglev() {
    in_a_network(|| {
        for setting in settings(Scheduler::Maglev(HASHING), direct, [3, 4]) {
            flood(setting);
        }
    });
}

#[test]
fn a_flood_of_ten_times_the_table_breaks_no_connection_through_a_tunnel() {
    in_a_network(|| {
        for setting in settings(Scheduler::WeightedLeastConnections, tunnel, [2, 5]) {
            flood(setting);
        }
    });
}

#[test]
fn a_flood_of_ten_times_the_table_breaks_no_translated_connection() {
    in_a_network(|| {
        for setting in settings(Scheduler::WeightedRoundRobin, |_| Method::Nat, [1, 2]) {
            flood(setting);
        }
    });
}

/// Twice as many as there are ways, all of them alive; the servers stay the same.
fn twice(setting: Setting) {
    let connections = 1024;
    let director = Director::with(&setting.tables(SERVERS), |options| {
        options.connections = connections;
    });
    let flows = 2 * ways(connections);
    let servers = establish(&director, setting, 0..flows);
    for _ in 0..2 {
        let (count, tally) = broken(&director, setting, &servers);
        assert_eq!(
            count, 0,
            "{setting:?}: of {flows} so many are broken: {tally:?}"
        );
        assert!(tally.of(Reason::TxConnection) < flows.into(), "{tally:?}");
    }
    let kept = director.eyes().all_ways();
    let live = |kind| matches!(kind, Kind::Established | Kind::Udp);
    assert!(kept.iter().all(|way| live(way.kind())), "{setting:?}");
    eprintln!(
        "{setting:?}: {flows} flows, {} of them with a way; 0 broken",
        kept.len()
    );
}

#[test]
fn twice_as_many_live_flows_as_ways_keep_their_servers() {
    in_a_network(|| {
        for setting in [
            settings(Scheduler::WeightedRoundRobin, direct, [1, 2, 4, 5, 7]),
            settings(Scheduler::LeastConnections, direct, [0, 4]),
            settings(Scheduler::SourceHash(HASHING), direct, [5]),
            settings(Scheduler::Maglev(HASHING), direct, [0]),
            settings(Scheduler::RoundRobin, tunnel, [3, 4]),
        ]
        .concat()
        {
            twice(setting);
        }
    });
}

/// Two connections of a persistent client, the first of which found neither a way nor a template: the
/// template that the second one brings must not take the first one's packets elsewhere.
#[test]
fn a_template_that_comes_late_takes_no_connection_without_a_way_along() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let setting = Setting {
                is_v6,
                is_tcp: true,
                scheduler: Scheduler::WeightedRoundRobin,
                is_persistent: true,
                method: Method::Direct,
            };
            let director = Director::new(&setting.tables(SERVERS));
            let servers = establish(&director, setting, 0..4096);
            let mut other = Vec::new();
            for n in 0..4096 {
                let mut wire = setting.packet(n, true);
                wire.from.set_port(50_000);
                other.push(send(&director, &wire));
            }
            let (count, tally) = broken(&director, setting, &servers);
            assert_eq!(count, 0, "{setting:?}: {tally:?}");
        }
    });
}

/// Every packet of a flow comes by another CPU than the one before.
fn alternate(setting: Setting) {
    const FLOWS: usize = 60;
    const PACKETS: usize = 8;
    let director = Director::with(&setting.tables(SERVERS), |options| {
        options.connections = 1 << 13;
    });
    let turn = AtomicUsize::new(0);
    let by_cpu = on_two_cpus(|which| {
        let mut servers = vec![BTreeSet::new(); FLOWS];
        for number in 0..FLOWS * PACKETS {
            let (flow, packet) = (number / PACKETS, number % PACKETS);
            if (flow + packet) % 2 != which {
                continue;
            }
            wait_for(|| turn.load(Ordering::SeqCst) == number);
            let wire = setting.packet(u32::try_from(flow).unwrap(), packet == 0);
            servers[flow].insert(send(&director, &wire).expect("it is balanced"));
            turn.store(number + 1, Ordering::SeqCst);
        }
        servers
    });
    let [one, other] = by_cpu;
    for (flow, servers) in one.iter().enumerate() {
        assert_eq!(servers.len(), 1, "{setting:?}: flow {flow}: {servers:?}");
        assert_eq!(servers, &other[flow], "{setting:?}: flow {flow}");
    }
    let eyes = director.eyes();
    let backends: BTreeSet<u32> = eyes.all_ways().iter().map(|way| way.backend()).collect();
    let counts = backends.iter().map(|backend| eyes.counts(*backend));
    let (active, inactive) = counts.fold((0_u64, 0_u64), |sum, (active, inactive)| {
        (sum.0 + active, sum.1 + inactive)
    });
    // As in IPVS, a flow of datagrams counts as inactive.
    let flows = FLOWS as u64;
    let expected = if setting.is_tcp {
        (flows, 0)
    } else {
        (0, flows)
    };
    assert_eq!(
        (active, inactive),
        expected,
        "{setting:?}: each flow is counted once"
    );
    assert_eq!(backends.len(), usize::from(SERVERS), "{setting:?}");
}

#[test]
fn a_flow_that_alternates_between_cpus_stays_put_and_counts_once() {
    in_a_network(|| {
        for setting in [
            settings(Scheduler::WeightedLeastConnections, direct, [1, 3]),
            settings(Scheduler::RoundRobin, |_| Method::Nat, [0, 3]),
            settings(Scheduler::LeastConnections, tunnel, [1, 2]),
        ]
        .concat()
        {
            alternate(setting);
        }
    });
}
