//! Whose packets are balanced: addressed to this director, its VIP owned, not balanced before.

use std::net::SocketAddr;

use xdp_lb::plan::desired::Method;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::program::Action;

use crate::case::{Case, Step, check, goes, send, stays};
use crate::director::{Director, in_a_network};
use crate::tables::{
    OTHER_PORT, OTHER_PORT_MAC, PORT, Words as _, ack, datagram, direct, server_ip, server_mac,
    syn, tables, tcp, udp,
};
use crate::wire;

#[test]
fn frames_for_other_hosts_pass() {
    let to = |mac| syn(1).to_mac(mac);
    check(vec![Case {
        name: "a frame that a switch floods is its addressee's",
        tables: tables([tcp(80).rr(1)]),
        steps: vec![
            send(to([2, 0, 0, 0, 0, 0x77]), stays(Reason::OtherHost)),
            send(to([0xff; 6]), stays(Reason::OtherHost)),
            send(to([1, 0, 0x5e, 0, 0, 1]), stays(Reason::OtherHost)),
            // Right in the first five octets, and in the last five.
            send(to([2, 0, 0, 0, 0, 3]), stays(Reason::OtherHost)),
            send(to([4, 0, 0, 0, 0, 1]), stays(Reason::OtherHost)),
            // This director's, but of its other port.
            send(to(OTHER_PORT_MAC), stays(Reason::OtherHost)),
            send(syn(1), goes(Reason::TxScheduled, 1)),
            send(ack(1).to_mac(OTHER_PORT_MAC), stays(Reason::OtherHost)),
            send(ack(1), goes(Reason::TxConnection, 1)),
        ],
    }]);
}

#[test]
fn frames_to_the_virtual_mac_of_the_vip_are_ours_wherever_they_come_in() {
    const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
    let to = |mac| syn(1).to_mac(mac);
    check(vec![Case {
        name: "a virtual MAC",
        tables: tables([tcp(80).rr(1).virtual_mac(VIRTUAL), tcp(81).rr(1)]),
        steps: vec![
            // The frame goes on from the port's own MAC: the case compares all of it.
            send(to(VIRTUAL), goes(Reason::TxScheduled, 1)),
            send(ack(1).to_mac(VIRTUAL), goes(Reason::TxConnection, 1)),
            send(ack(1), goes(Reason::TxConnection, 1)),
            send(to([0, 0, 0x5e, 0, 1, 52]), stays(Reason::OtherHost)),
            send(to([0; 6]), stays(Reason::OtherHost)),
            // Of another VIP.
            send(to(VIRTUAL).to_port(81), stays(Reason::OtherHost)),
            send(to([0; 6]).to_port(81), stays(Reason::OtherHost)),
            Step::Tables(tables([tcp(80).rr(1), tcp(81).rr(1)])),
            send(ack(1).to_mac(VIRTUAL), stays(Reason::OtherHost)),
        ],
    }]);
}

#[test]
fn each_port_knows_its_own_mac() {
    in_a_network(|| {
        let director = Director::new(&tables([tcp(80).rr(1)]));
        let run = |packet: xdp_lb_tests::packet::Packet, port| {
            let before = director.eyes().tally();
            let outcome = director
                .program()
                .run(&packet.bytes().unwrap(), port)
                .unwrap();
            let counted = director.eyes().tally().since(&before);
            assert_eq!(counted.packets(), 1);
            (outcome.action, counted.reasons.into_keys().next().unwrap())
        };
        // The two ports collide in the table of interfaces; the second one stands behind the first.
        let there = syn(1).to_mac(OTHER_PORT_MAC);
        let sent = run(there, OTHER_PORT);
        assert_eq!(sent, (Action::Redirect, Reason::RedirectScheduled));
        assert_eq!(run(syn(2), OTHER_PORT), (Action::Pass, Reason::OtherHost));
        let loopback = 1;
        assert_eq!(run(syn(3), loopback), (Action::Pass, Reason::OtherHost));
        // A frame of any reason counts, wherever it came in.
        assert_eq!(
            run(syn(4).to_port(81), loopback),
            (Action::Pass, Reason::NoService)
        );
    });
}

#[test]
fn only_the_owner_of_the_vip_balances() {
    let owner = || tables([tcp(80).rr(2), udp(80).rr(2)]);
    let other = || tables([tcp(80).rr(2).inactive(), udp(80).rr(2)]);
    check(vec![
        Case {
            name: "a backup passes everything",
            tables: other(),
            steps: vec![
                send(syn(1), stays(Reason::NotActive)),
                send(ack(1), stays(Reason::NotActive)),
                send(datagram(1), goes(Reason::TxScheduled, 2)),
            ],
        },
        Case {
            name: "known connections rest while the gate is closed and go on after it",
            tables: owner(),
            steps: vec![
                send(syn(1), goes(Reason::TxScheduled, 2)),
                send(ack(1), goes(Reason::TxConnection, 2)),
                Step::Tables(other()),
                send(ack(1), stays(Reason::NotActive)),
                send(syn(2), stays(Reason::NotActive)),
                Step::Tables(owner()),
                send(ack(1), goes(Reason::TxConnection, 2)),
                // Nothing was scheduled meanwhile.
                send(syn(2), goes(Reason::TxScheduled, 1)),
            ],
        },
    ]);
}

#[test]
fn what_another_director_balanced_passes() {
    let from_server = |n| syn(1).source_mac(server_mac(n));
    let balanced = stays(Reason::AlreadyBalanced);
    check(vec![
        Case {
            name: "a real server's MAC, another's address",
            tables: tables([tcp(80).rr(2), udp(80).rr(2)]),
            steps: vec![
                send(from_server(1), balanced.clone()),
                send(from_server(2), balanced.clone()),
                send(datagram(1).source_mac(server_mac(1)), balanced.clone()),
                send(from_server(1).source_ip(server_ip(2)), balanced.clone()),
                send(from_server(3), goes(Reason::TxScheduled, 2)),
                // The same connection, seen again from a server that balances it in turn.
                send(ack(1).source_mac(server_mac(2)), balanced.clone()),
                send(ack(1), goes(Reason::TxConnection, 2)),
            ],
        },
        Case {
            name: "a real server that is a client itself",
            tables: tables([tcp(80).rr(2)]),
            steps: vec![
                send(
                    from_server(1).source_ip(server_ip(1)),
                    goes(Reason::TxScheduled, 2),
                ),
                send(
                    ack(1).source_mac(server_mac(1)).source_ip(server_ip(1)),
                    goes(Reason::TxConnection, 2),
                ),
            ],
        },
        Case {
            name: "the MAC of a router on the way to a real server",
            tables: tables([tcp(80).rr(2).behind_router(2)]),
            steps: vec![
                send(syn(1), goes(Reason::TxScheduled, 2)),
                send(syn(2), goes(Reason::TxScheduled, 1)),
                // Server 2 itself is not on this link: a frame with its MAC is just a frame.
                send(
                    syn(3).source_mac(server_mac(2)),
                    goes(Reason::TxScheduled, 2),
                ),
                send(syn(4).source_mac(server_mac(1)), balanced),
            ],
        },
    ]);
}

#[test]
fn what_came_from_a_peer_director_passes() {
    let from_server = |n| syn(1).source_mac(server_mac(n));
    let balanced = stays(Reason::AlreadyBalanced);
    check(vec![Case {
        name: "another director's MAC, and it a client itself",
        tables: tables([tcp(80).rr(1).peer(7), tcp(81).rr(1)]),
        steps: vec![
            send(from_server(7), balanced.clone()),
            send(ack(1).source_mac(server_mac(7)), balanced.clone()),
            send(
                from_server(7).source_ip(server_ip(7)),
                goes(Reason::TxScheduled, 1),
            ),
            // It is no director of this service.
            send(from_server(7).to_port(81), goes(Reason::TxScheduled, 1)),
            Step::Tables(tables([tcp(80).rr(1).peer(8), tcp(81).rr(1)])),
            send(from_server(8), balanced.clone()),
            send(
                syn(2).source_mac(server_mac(7)),
                goes(Reason::TxScheduled, 1),
            ),
        ],
    }]);
}

#[test]
fn a_host_counts_for_its_services_as_long_as_it_is_in_the_file() {
    let from_server = |n| syn(1).source_mac(server_mac(n));
    let balanced = stays(Reason::AlreadyBalanced);
    check(vec![
        Case {
            name: "a real server of another service",
            tables: tables([tcp(80).rr(1), tcp(81).rr(2)]),
            steps: vec![
                send(from_server(2), goes(Reason::TxScheduled, 1)),
                send(from_server(2).to_port(81), balanced.clone()),
            ],
        },
        Case {
            name: "a failed real server may still balance; one that is gone does not",
            tables: tables([tcp(80).rr(2)]),
            steps: vec![
                Step::Tables(tables([tcp(80).rr(2).fail(1)])),
                send(from_server(1), balanced.clone()),
                Step::Tables(tables([tcp(80).rr(2).remove(1)])),
                send(from_server(1), goes(Reason::TxScheduled, 2)),
                send(from_server(2), balanced),
            ],
        },
    ]);
}

/// Containers behind a bridge, or addresses behind a proxy for ARP: many servers, one MAC.
#[test]
fn fifty_servers_behind_one_mac_are_one_host_of_fifty_addresses() {
    let made = |is_v6, port, numbers: std::ops::RangeInclusive<u8>| {
        numbers.fold(wire::on(is_v6, tcp(port)), |made, n| {
            let address = SocketAddr::new(wire::server(is_v6, n), port);
            // What the server is reached by is number 99's, its MAC with it.
            let mut made = wire::with(made, n, address, Method::Direct);
            made.service.servers[0].reach = Some(direct(99, PORT));
            made
        })
    };
    in_a_network(|| {
        for is_v6 in [false, true] {
            let services = |last| tables([made(is_v6, 80, 1..=last), made(is_v6, 81, 51..=51)]);
            let mut director = Director::looking(&services(50));
            let from = |n, port| {
                let mut wire = wire::syn(is_v6, 1);
                wire.source = server_mac(99);
                wire.from.set_ip(wire::server(is_v6, n));
                wire.to.set_port(port);
                wire.bytes()
            };
            let (new, balanced) = (Reason::TxScheduled, Reason::AlreadyBalanced);
            for n in 1..=50 {
                wire::sent(&director, "its own", &from(n, 80), new);
                wire::sent(&director, "its own, elsewhere", &from(n, 81), balanced);
            }
            for n in 51..=150 {
                wire::sent(&director, "another's", &from(n, 80), balanced);
            }
            wire::sent(&director, "its only one", &from(51, 81), new);
            director.set(&services(10));
            // Its connection was to a server that is gone.
            wire::sent(&director, "one that stays", &from(10, 80), new);
            wire::sent(&director, "one that went", &from(11, 80), balanced);
        }
    });
}
