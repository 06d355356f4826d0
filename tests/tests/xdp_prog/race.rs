//! Two CPUs at once: the tables are shared without a lock.
//!
//! **What is guaranteed.** A connection that is confirmed (its ACK, its second datagram, was sent to a
//! real server) goes to that server on every CPU until it ends or the server fails. Of two first
//! packets of one flow that are handled at the very same moment, both find the same server too: the
//! CPU that comes second takes what the first one wrote, and gives its own choice up. (With three
//! CPUs and more, one that gave up early may have followed a CPU that then gave up in turn: its one
//! packet, a repeated SYN, may go astray. The flow itself still has one server.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_tests::packet::{Packet, Transport, flags};

use crate::cpus::{Pace, SERVERS, frames, on_two_cpus, roomy, server_of, wait_for};
use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::tables::{Virtual, Words as _, ack, datagram, from_client, syn, tables, tcp, udp};

/// The same frames on both CPUs, each at the same moment: both send it to the same server.
fn race(director: &Director, frames: [&[Vec<u8>]; 2]) -> Vec<u8> {
    let pace = Pace::default();
    let [first, second] = on_two_cpus(|which| {
        let send = |(step, frame): (usize, &Vec<u8>)| {
            pace.meet(which, step);
            server_of(director.program(), frame).expect("every flow has a server")
        };
        frames[which]
            .iter()
            .enumerate()
            .map(send)
            .collect::<Vec<_>>()
    });
    let differ = first.iter().zip(&second).filter(|(a, b)| a != b).count();
    assert_eq!(
        differ,
        0,
        "of {} flows that both CPUs saw first, so many went two ways",
        first.len()
    );
    first
}

#[test]
fn a_flow_that_two_cpus_insert_at_once_has_one_server_and_one_way() {
    const FLOWS: u32 = 10_000;
    in_a_network(|| {
        let cases = [
            (
                tcp(80),
                syn as fn(u32) -> Packet,
                ack as fn(u32) -> Packet,
                Kind::Established,
            ),
            (udp(80), datagram, datagram, Kind::Udp),
        ];
        for (service, first, later, confirmed) in cases {
            let director = roomy(&tables([service.rr(SERVERS)]));
            let (opening, following) = (frames(0..FLOWS, first), frames(0..FLOWS, later));
            let before = director.eyes().tally();
            let servers = race(&director, [&opening, &opening]);
            let tally = director.eyes().tally().since(&before);
            let lost = tally
                .events
                .get(&Event::RaceLost)
                .copied()
                .unwrap_or_default();
            eprintln!("{lost} of {FLOWS} inserts met another of the same flow");
            assert_eq!(tally.packets(), u64::from(2 * FLOWS));
            assert_eq!(
                tally.services[&0][0],
                u64::from(FLOWS),
                "each flow is one connection"
            );

            for frames in [&following, &opening, &following] {
                assert_eq!(race(&director, [frames, frames]), servers);
            }
            for client in 0..FLOWS {
                let ways = director.eyes().ways(&first(client));
                let kinds: Vec<_> = ways.iter().map(|way| way.kind()).collect();
                assert_eq!(kinds, [confirmed], "client {client}");
            }
            assert_eq!(director.eyes().all_ways().len(), FLOWS as usize);
            assert_eq!(
                servers.iter().collect::<BTreeSet<_>>().len(),
                usize::from(SERVERS)
            );
        }
    });
}

#[test]
fn connections_of_one_client_that_two_cpus_place_at_once_share_a_server() {
    const CLIENTS: u32 = 10_000;
    in_a_network(|| {
        let service = || tcp(80).rr(SERVERS).persistent(300, 32);
        let mut director = roomy(&tables([service()]));
        let of_port = |port| frames(0..CLIENTS, move |client| syn(client).port(port));
        let race_for_template = |director: &Director, ports: [u16; 2]| {
            let [first, second] = ports.map(of_port);
            let servers = race(director, [&first, &second]);
            for client in 0..CLIENTS {
                let templates = director.eyes().templates(service().key, &syn(client), 32);
                assert_eq!(templates.len(), 1, "client {client}");
            }
            servers
        };
        let servers = race_for_template(&director, [1, 2]);
        assert_eq!(race_for_template(&director, [3, 4]), servers);

        // Templates of a failed server are replaced, and there, too, the first one counts.
        director.set(&tables([service().fail(2)]));
        let moved = race_for_template(&director, [5, 6]);
        for (client, (before, after)) in servers.iter().zip(&moved).enumerate() {
            let expected = if *before == 2 {
                *after != 2
            } else {
                before == after
            };
            assert!(expected, "client {client} went from {before} to {after}");
        }
        assert_eq!(race_for_template(&director, [7, 8]), moved);
    });
}

/// A SYN on an ending connection is placed anew, by whichever CPU is first.
#[test]
fn a_connection_that_two_cpus_reopen_at_once_has_one_server() {
    const FLOWS: u32 = 10_000;
    in_a_network(|| {
        let director = roomy(&tables([tcp(80).rr(SERVERS)]));
        let opening = frames(0..FLOWS, syn);
        let confirming = frames(0..FLOWS, ack);
        let ending = frames(0..FLOWS, |n| {
            from_client(n, Transport::Tcp(flags::FIN | flags::ACK))
        });
        for _ in 0..3 {
            let servers = race(&director, [&opening, &opening]);
            for frames in [&confirming, &ending] {
                assert_eq!(race(&director, [frames, frames]), servers);
            }
        }
    });
}

/// Two services, each with servers of its own, in one table that holds a fraction of their flows: a
/// flow that were sent by another one's entry would reach a server of the wrong service half the time.
fn two_services() -> [Virtual; 2] {
    [
        tcp(80).rr(0).add(1, 1).add(2, 1),
        tcp(81).rr(0).add(3, 1).add(4, 1),
    ]
}

/// Service 80 for even clients, 81 for odd ones.
fn mixed(packet: fn(u32) -> Packet) -> impl Fn(u32) -> Packet {
    move |client| packet(client).to_port(80 + u16::from(client % 2 == 1))
}

fn is_of_service(client: u32, server: u8) -> bool {
    (server > 2) == (client % 2 == 1)
}

#[test]
fn flows_that_race_for_the_last_ways_never_take_each_others_servers() {
    const FLOWS: u32 = 6000;
    const ESTABLISHED: u32 = 1000;
    const TIME: Duration = Duration::from_secs(3);
    in_a_network(|| {
        let director = Director::new(&tables(two_services()));
        let opening = frames(0..FLOWS, mixed(syn));
        let confirming = frames(0..ESTABLISHED, mixed(ack));
        let program = director.program();
        let place = |client: usize| {
            let server = server_of(program, &opening[client]).unwrap();
            assert_eq!(server_of(program, &confirming[client]), Some(server));
            server
        };
        let servers: Vec<_> = (0..ESTABLISHED as usize).map(place).collect();
        let before = director.eyes().tally();
        let sent = on_two_cpus(|which| {
            let (mut dice, begin, mut sent) = (Dice::new(which as u64 + 1), Instant::now(), 0_u64);
            while sent % 1000 != 0 || begin.elapsed() < TIME {
                // Both CPUs open the same few flows over and over: each insert pushes another out.
                let client = u32::try_from(dice.roll(FLOWS.into())).unwrap();
                let server = server_of(program, &opening[client as usize]).unwrap();
                assert!(
                    is_of_service(client, server),
                    "client {client} went to {server}"
                );
                if let Some(expected) = servers.get(client as usize) {
                    assert_eq!(server, *expected, "established client {client}");
                }
                sent += 1;
            }
            sent
        });
        let tally = director.eyes().tally().since(&before);
        eprintln!("{sent:?} packets, {:?}", tally.events);
        assert_eq!(tally.packets(), sent.iter().sum::<u64>());
        assert!(tally.events[&Event::Evicted] > 1000, "{:?}", tally.events);
        for (client, server) in servers.iter().enumerate() {
            assert_eq!(
                server_of(program, &confirming[client]),
                Some(*server),
                "client {client}"
            );
        }
        let known = director
            .eyes()
            .tally()
            .since(&before)
            .of(Reason::TxConnection);
        assert!(known >= ESTABLISHED.into());
        // Every flow has one way at most, whoever won.
        for client in 0..FLOWS {
            let ways = director.eyes().ways(&mixed(syn)(client));
            assert!(ways.len() <= 1, "client {client}: {ways:?}");
        }
    });
}

/// Confirmed flows stay where they are, with a way or without, also while each CPU fills the table.
#[test]
fn what_one_cpu_confirmed_the_other_one_keeps_in_a_table_that_overflows() {
    const FLOWS: u32 = 6000;
    in_a_network(|| {
        let director = Director::new(&tables(two_services()));
        let (opening, confirming) = (frames(0..FLOWS, mixed(syn)), frames(0..FLOWS, mixed(ack)));
        let program = director.program();
        let half = FLOWS as usize / 2;
        let placed = on_two_cpus(|which| {
            let own = which * half..(which + 1) * half;
            own.map(|client| {
                server_of(program, &opening[client]);
                // Nothing, if the other CPU took the way of this SYN meanwhile.
                let server = server_of(program, &confirming[client])?;
                assert!(is_of_service(u32::try_from(client).unwrap(), server));
                Some(server)
            })
            .collect::<Vec<_>>()
        });
        let servers: Vec<_> = placed.concat();
        assert!(servers.iter().flatten().count() > FLOWS as usize * 9 / 10);
        // Each CPU now sends what the other one placed.
        on_two_cpus(|which| {
            for round in 0..3 {
                let others = (1 - which) * half..(2 - which) * half;
                for client in others.filter(|client| servers[*client].is_some()) {
                    let server = server_of(program, &confirming[client]);
                    assert_eq!(server, servers[client], "client {client}, round {round}");
                }
            }
        });
    });
}

/// A queue of another CPU for every packet: as when a card spreads by more than the five-tuple.
#[test]
fn a_flow_that_alternates_between_cpus_stays_put() {
    const FLOWS: u32 = 200;
    const PACKETS: usize = 50;
    in_a_network(|| {
        let director = roomy(&tables([
            tcp(80).wrr(&[1, 2, 3, 4]).persistent(300, 24),
            udp(80).wrr(&[1, 2, 3, 4]),
        ]));
        for (first, later) in [
            (frames(0..FLOWS, syn), frames(0..FLOWS, ack)),
            (frames(0..FLOWS, datagram), frames(0..FLOWS, datagram)),
        ] {
            let turn = AtomicUsize::new(0);
            let by_cpu = on_two_cpus(|which| {
                let mut servers = BTreeMap::<usize, BTreeSet<u8>>::new();
                for number in 0..first.len() * PACKETS {
                    // Odd packets of even flows on one CPU, and the other way round.
                    let (flow, packet) = (number / PACKETS, number % PACKETS);
                    if (flow + packet) % 2 != which {
                        continue;
                    }
                    wait_for(|| turn.load(Ordering::SeqCst) == number);
                    let frames = if packet == 0 { &first } else { &later };
                    let server = server_of(director.program(), &frames[flow]).unwrap();
                    servers.entry(flow).or_default().insert(server);
                    turn.store(number + 1, Ordering::SeqCst);
                }
                servers
            });
            let [one, other] = by_cpu;
            for (flow, servers) in &one {
                assert_eq!(servers.len(), 1, "flow {flow} went to {servers:?}");
                assert_eq!(Some(servers), other.get(flow), "flow {flow}");
            }
        }
    });
}
