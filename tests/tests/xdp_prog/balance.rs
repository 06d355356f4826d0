//! Every scheduler, by the sequences that were observed on a real IPVS; limits; one-packet
//! scheduling; and the counts that all of it goes by.

use std::collections::BTreeMap;

use xdp_lb::config::model::{Hashing, Scheduler};
use xdp_lb::dataplane::Dataplane as _;
use xdp_lb_common::addr::Address;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::hashed::{HashServer, MAGLEV_SLOTS, folded, maglev, maglev_table};
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::flags::{ACK, FIN, RST};
use xdp_lb_tests::packet::{Packet, Transport};

use crate::case::{Case, Step, check, goes, send};
use crate::cpus::{Pace, on_two_cpus, roomy};
use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::tables::{
    PORT, Virtual, Words as _, ack, client_ip, datagram, from_client, server_ip, server_mac, syn,
    tables, tcp, udp,
};

fn servers(weights: &[u32]) -> Virtual {
    tcp(80).wrr(weights)
}

/// The server that a packet goes to.
fn run(director: &Director, packet: &Packet) -> Option<u8> {
    let frame = director.send(&packet.bytes().unwrap()).frame;
    (1..=5).find(|n| frame.starts_with(&server_mac(*n)))
}

/// The servers of new connections that all stay open; 0 for none.
fn opened(director: &Director, clients: std::ops::Range<u32>) -> Vec<u8> {
    clients
        .map(|client| run(director, &syn(client)).unwrap_or(0))
        .collect()
}

fn digits(picks: &[u8]) -> String {
    picks.iter().map(u8::to_string).collect()
}

#[test]
fn counting_schedulers_pick_in_the_order_of_ipvs() {
    use Scheduler::{
        FailOver, LeastConnections, NeverQueue, Overflow, ShortestDelay, WeightedLeastConnections,
    };
    let cases: [(Scheduler, &[u32], &str); 9] = [
        (LeastConnections, &[1, 1, 1], "321321321321"),
        (LeastConnections, &[9, 1, 0], "212121212121"),
        (WeightedLeastConnections, &[1, 1, 1], "321321321321"),
        (WeightedLeastConnections, &[2, 1, 1], "321132113211"),
        (WeightedLeastConnections, &[3, 1, 0], "211121112111"),
        (ShortestDelay, &[2, 1, 1], "132113211321"),
        (NeverQueue, &[2, 1, 1], "321113211321"),
        (FailOver, &[1, 5, 5], "333333333333"),
        (Overflow, &[1, 2], "222110000000"),
    ];
    in_a_network(|| {
        for (scheduler, weights, picks) in cases {
            let director = Director::new(&tables([servers(weights).by(scheduler)]));
            let got = digits(&opened(&director, 0..12));
            assert_eq!(got, picks, "{scheduler:?} {weights:?}");
        }
    });
}

/// lc 1:1, two held, then the first closed: the next ones go there, since it has no active one.
#[test]
fn a_connection_that_closes_counts_for_a_256th() {
    in_a_network(|| {
        let service = servers(&[1, 1]).by(Scheduler::LeastConnections);
        let director = Director::new(&tables([service]));
        let mut picks = Vec::new();
        for client in 0..2 {
            picks.push(run(&director, &syn(client)).unwrap());
            run(&director, &ack(client));
        }
        let close = |client| run(&director, &from_client(client, Transport::Tcp(FIN | ACK)));
        close(0);
        for client in 2..5 {
            picks.push(run(&director, &syn(client)).unwrap());
            run(&director, &ack(client));
            close(client);
        }
        assert_eq!(picks, [2, 1, 2, 2, 2]);
    });
}

#[test]
fn of_more_servers_than_one_search_sees_each_gets_its_turn() {
    in_a_network(|| {
        let mut service = tcp(80).rr(0).by(Scheduler::LeastConnections);
        for n in 0..300_u16 {
            let [high, low] = n.to_be_bytes();
            service = service.add(5, 1).behind_router(5);
            let server = &mut service.service.servers[0];
            server.address = ([10, 2, high, low], 80).into();
        }
        let mut director = Director::new(&tables([service.clone()]));
        let _servers = opened(&director, 0..600);
        let counters = director.ebpf().counters().unwrap();
        let served = counters.servers.values().filter(|s| s.active > 0).count();
        assert!(served > 290, "{served}");
    });
}

const fn hashing(port: bool, fallback: bool) -> Hashing {
    Hashing { port, fallback }
}

/// The clients .20 to .59 of the network 10.1.0.0, as with IPVS.
fn spread(director: &Director) -> String {
    digits(&opened(director, 20..60))
}

#[test]
fn sh_leads_clients_where_ipvs_leads_them() {
    in_a_network(|| {
        let sh = |fallback| Scheduler::SourceHash(hashing(false, fallback));
        let service = |weights: &[u32], fallback| tables([servers(weights).by(sh(fallback))]);
        let mut director = Director::new(&service(&[1, 1, 1], false));
        let all = spread(&director);
        assert_eq!(all, "1313132311212331312231321232131213131123");
        let drained = spread_anew(&mut director, &service(&[1, 1, 0], false));
        assert_eq!(drained, all.replace('3', "0"), "its clients are refused");
        let moved = spread_anew(&mut director, &service(&[1, 1, 0], true));
        for (before, after) in all.chars().zip(moved.chars()) {
            assert!(after == before || (before == '3' && "12".contains(after)));
        }
    });
}

/// With tables that remember nobody.
fn spread_anew(director: &mut Director, wanted: &xdp_lb::plan::desired::Desired) -> String {
    *director = Director::new(wanted);
    spread(director)
}

#[test]
fn mh_leads_clients_by_the_table_of_ipvs() {
    in_a_network(|| {
        let mh = |fallback| Scheduler::Maglev(hashing(false, fallback));
        let all = tables([servers(&[1, 1, 1]).by(mh(false))]);
        let mut director = Director::new(&all);
        let before = spread(&director);
        let list = [3_u8, 2, 1].map(|n| HashServer {
            id: n.into(),
            weight: 1,
            address_be: Address::from_ip(server_ip(n).into()).0.words_be,
            port_be: 80_u16.to_be(),
        });
        let table = maglev_table(&list);
        let expected = (20..60).map(|n| {
            let client = Address::from_ip(client_ip(n).into()).0.words_be;
            table[maglev(folded(client, 0), MAGLEV_SLOTS) as usize].to_string()
        });
        assert_eq!(before, expected.collect::<String>());
        // Edited to weight 0: the table stays, and what it leads there is refused or moved.
        let edited = |fallback| tables([servers(&[1, 1, 0]).by(mh(fallback))]);
        director.set(&edited(false));
        let again = |director: &Director| {
            let again = (20..60).map(|client| run(director, &syn(client).port(9)).unwrap_or(0));
            digits(&again.collect::<Vec<_>>())
        };
        assert_eq!(again(&director), before.replace('3', "0"));
        let mut director = Director::new(&tables([servers(&[1, 1, 1]).by(mh(true))]));
        assert_eq!(spread(&director), before);
        director.set(&edited(true));
        for (before, after) in before.chars().zip(again(&director).chars()) {
            assert!(after == before || (before == '3' && "12".contains(after)));
        }
    });
}

#[test]
fn the_port_counts_if_the_flag_says_so() {
    in_a_network(|| {
        for (port, least) in [(false, 1), (true, 2)] {
            for scheduler in [
                Scheduler::SourceHash(hashing(port, false)),
                Scheduler::Maglev(hashing(port, false)),
            ] {
                let director = Director::new(&tables([servers(&[1, 1, 1]).by(scheduler)]));
                let picks = (0..64).map(|n| run(&director, &syn(1).port(1000 + n)));
                let used = picks.collect::<std::collections::BTreeSet<_>>().len();
                assert!(
                    used >= least && (port || used == 1),
                    "{scheduler:?}: {used}"
                );
            }
        }
    });
}

#[test]
fn dh_has_one_server_for_a_virtual_ip() {
    in_a_network(|| {
        let service = servers(&[1, 1, 1]).by(Scheduler::DestinationHash);
        let director = Director::new(&tables([service]));
        let picks = opened(&director, 0..20);
        assert!(
            picks[0] > 0 && picks.iter().all(|n| *n == picks[0]),
            "{picks:?}"
        );
    });
}

/// A director that has never seen the connection leads it where its predecessor did.
#[test]
fn a_packet_in_the_middle_of_a_connection_follows_the_hash() {
    in_a_network(|| {
        let sh = Scheduler::SourceHash(Hashing::default());
        let wanted = tables([servers(&[1, 1, 1]).by(sh)]);
        let before = spread(&Director::new(&wanted));
        let director = Director::new(&wanted);
        let midstream = (20..60).map(|client| run(&director, &ack(client)).unwrap_or(0));
        assert_eq!(digits(&midstream.collect::<Vec<_>>()), before);
        let reset = from_client(77, Transport::Tcp(RST));
        assert_eq!(
            run(&director, &reset),
            None,
            "a reset ends what nobody knows"
        );
    });
}

#[test]
fn lblc_stays_with_a_server_until_it_is_overloaded_and_another_is_half_idle() {
    in_a_network(|| {
        let service = servers(&[2, 2]).by(Scheduler::LocalityBased);
        let director = Director::new(&tables([service]));
        // It has three, more than its weight, and the other one none; then neither is half idle.
        assert_eq!(digits(&opened(&director, 0..9)), "222111111");
    });
}

#[test]
fn lblcr_adds_servers_as_they_are_needed() {
    in_a_network(|| {
        let service = servers(&[2, 2, 2]).by(Scheduler::LocalityBasedReplicated);
        let director = Director::new(&tables([service]));
        // The third has three; the second joins and catches up; then the first.
        assert_eq!(digits(&opened(&director, 0..9)), "333222111");
    });
}

#[test]
fn twos_prefers_the_server_with_fewer_connections() {
    in_a_network(|| {
        let service = servers(&[1, 3, 0]).by(Scheduler::TwoChoices);
        let director = Director::new(&tables([service]));
        let picks = opened(&director, 0..400);
        let share = |n| {
            picks
                .iter()
                .map(|pick| usize::from(*pick == n))
                .sum::<usize>()
        };
        assert_eq!((share(0), share(3)), (0, 0));
        assert!(
            (70..130).contains(&share(1)),
            "{} of 400, fair are 100",
            share(1)
        );
    });
}

#[test]
fn nobody_new_goes_to_a_server_at_its_upper_limit() {
    in_a_network(|| {
        for scheduler in [
            Scheduler::RoundRobin,
            Scheduler::WeightedRoundRobin,
            Scheduler::WeightedLeastConnections,
            Scheduler::TwoChoices,
        ] {
            let service = || servers(&[1, 1]).by(scheduler).limit(1, 2, 1).limit(2, 4, 0);
            let mut director = Director::new(&tables([service()]));
            let mut picks = opened(&director, 0..8);
            picks.sort_unstable();
            assert_eq!(picks, [0, 0, 1, 1, 2, 2, 2, 2], "{scheduler:?}");
            // A limit that is raised ends it.
            director.set(&tables([service().limit(1, 3, 0)]));
            assert_eq!(opened(&director, 10..12), [1, 0], "{scheduler:?}");
        }
    });
}

/// Inactive connections count towards the limits too, as in IPVS: a client that closes makes no room.
#[test]
fn closing_connections_count_towards_the_limit() {
    in_a_network(|| {
        let director = Director::new(&tables([servers(&[1]).limit(1, 2, 1)]));
        assert_eq!(opened(&director, 0..3), [1, 1, 0]);
        for client in 0..2 {
            run(&director, &from_client(client, Transport::Tcp(FIN | ACK)));
        }
        assert_eq!(opened(&director, 3..4), [0]);
    });
}

#[test]
fn each_datagram_is_scheduled_by_itself_with_ops() {
    check(vec![Case {
        name: "one packet scheduling",
        tables: tables([udp(80).rr(2).one_packet()]),
        steps: vec![
            send(datagram(1), goes(Reason::TxScheduled, 2)),
            send(datagram(1), goes(Reason::TxScheduled, 1)),
            Step::Connection(datagram(1), None),
            send(datagram(1), goes(Reason::TxScheduled, 2)),
            send(datagram(1), goes(Reason::TxScheduled, 1)),
            Step::Connection(datagram(1), None),
        ],
    }]);
}

/// Active and inactive connections by server, as counted, against the ways of the table.
fn hold_counts(director: &mut Director, service: &Virtual, when: &str) {
    let mut there = BTreeMap::<u32, (u64, u64)>::new();
    for state in director.eyes().all_ways() {
        if state.generation() != director.eyes().generation(state.backend()) {
            // Void, until the next sweep clears it away.
            continue;
        }
        let active = matches!(state.kind(), Kind::Syn | Kind::Established);
        let (a, i) = there.entry(state.backend()).or_default();
        *(if active { a } else { i }) += 1;
    }
    for server in &service.service.servers {
        let backend = director.eyes().backend(service.key, server.address.ip());
        let counted = director.eyes().counts(backend);
        let expected = there.get(&backend).copied().unwrap_or_default();
        assert_eq!(counted, expected, "{when}: {}", server.address);
    }
}

/// Random packets from two CPUs at once on a table that is far too small, in the middle of which
/// servers fail and come back: once all is quiet what is counted is what is there.
#[test]
fn counts_are_right_whatever_happened() {
    in_a_network(|| {
        let wlc = || servers(&[2, 1, 1]).by(Scheduler::WeightedLeastConnections);
        for (round, mut director) in [Director::new(&tables([wlc()])), roomy(&tables([wlc()]))]
            .into_iter()
            .enumerate()
        {
            for phase in 0..6_u64 {
                let service = match phase {
                    2 => wlc().fail(2),
                    3 => wlc().fail(2).recover(2),
                    4 => wlc().weigh(1, 0),
                    _ => wlc(),
                };
                let wanted = tables([service.clone()]);
                director.set(&wanted);
                let pace = Pace::default();
                let program = director.program();
                on_two_cpus(|cpu| {
                    let mut dice = Dice::new(phase * 2 + cpu as u64 + 1);
                    pace.meet(cpu, 0);
                    for _ in 0..4_000 {
                        let client = u32::try_from(dice.roll(3_000)).unwrap();
                        let packet = match dice.roll(6) {
                            0 | 1 => syn(client),
                            2 => from_client(client, Transport::Tcp(FIN | ACK)),
                            3 => from_client(client, Transport::Tcp(RST)),
                            _ => ack(client),
                        };
                        program.run(&packet.bytes().unwrap(), PORT).unwrap();
                    }
                });
                // Sweeps, if the last time is long enough ago.
                let _counters = director.ebpf().counters().unwrap();
                hold_counts(
                    &mut director,
                    &service,
                    &format!("round {round}, phase {phase}"),
                );
                if phase == 4 {
                    director.restart(&wanted);
                    hold_counts(&mut director, &service, "after a restart");
                }
            }
        }
    });
}
