//! Direct routing: other MACs, one hop less, and nothing else; out of the right port.

use xdp_lb::plan::desired::Desired;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::{ETHERNET, Packet, compare, forwarded};
use xdp_lb_tests::program::Action;

use crate::case::{Case, Fate, Step, check, goes, send, stays};
use crate::director::{Director, in_a_network};
use crate::tables::{
    OTHER_PORT, PORT_MAC, Words as _, ack, datagram, server_mac, syn, tables, tcp, udp,
};

const fn known(server: u8) -> Fate {
    goes(Reason::TxConnection, server)
}

#[test]
fn every_hop_costs_one_ttl_and_the_last_is_not_spent() {
    let expired = || stays(Reason::TxTimeExceeded);
    check(vec![
        Case {
            name: "TTLs of a known connection",
            tables: tables([tcp(80).rr(1)]),
            steps: vec![
                send(syn(1), goes(Reason::TxScheduled, 1)),
                send(ack(1).ttl(255), known(1)),
                send(ack(1).ttl(128), known(1)),
                send(ack(1).ttl(2), known(1)),
                send(ack(1).ttl(1), expired()),
                send(ack(1).ttl(0), expired()),
            ],
        },
        Case {
            name: "TTLs of new connections",
            tables: tables([tcp(80).rr(1), udp(80).rr(1)]),
            steps: vec![
                send(syn(1).ttl(2), goes(Reason::TxScheduled, 1)),
                send(syn(2).ttl(1), expired()),
                send(datagram(3).ttl(0), expired()),
            ],
        },
        Case {
            name: "the director itself is no hop further",
            tables: tables([tcp(80).rr(1).local(1)]),
            steps: vec![send(syn(1).ttl(1), stays(Reason::Local).counts(1, true))],
        },
    ]);
}

/// All 65,535 checksums that a header can have, and the one that only a careless sender writes.
#[test]
fn the_checksum_is_right_whatever_it_was() {
    in_a_network(|| {
        let director = Director::new(&tables([udp(80).rr(1)]));
        let mut seen = vec![false; 65_536];
        let mut of_zero = None;
        for id in 0..=u16::MAX {
            let packet = of_id(id);
            let came = send_and_compare(&director, &packet);
            seen[usize::from(came)] = true;
            if came == 0 {
                of_zero = Some(packet);
            }
        }
        let unseen: Vec<_> = (0..=u16::MAX)
            .filter(|sum| !seen[usize::from(*sum)])
            .collect();
        assert_eq!(unseen, [0xffff], "every other checksum came");
        // 0xffff means the same as 0 to a receiver, and no sum comes to it.
        let careless = of_zero.unwrap().over(ETHERNET + 10, &[0xff, 0xff]);
        assert_eq!(send_and_compare(&director, &careless), 0xffff);
    });
}

fn of_id(id: u16) -> Packet {
    let mut packet = datagram(1);
    packet.id = id;
    packet
}

/// The checksum that came; the one that goes is held against that of another implementation.
fn send_and_compare(director: &Director, packet: &Packet) -> u16 {
    let frame = packet.bytes().unwrap();
    let sent = director.send(&frame).frame;
    let expected = forwarded(&frame, PORT_MAC, server_mac(1)).unwrap();
    assert!(sent == expected, "{}", compare(&expected, &sent));
    u16::from_be_bytes([frame[ETHERNET + 10], frame[ETHERNET + 11]])
}

#[test]
fn a_server_behind_another_port_is_redirected_to() {
    let service = || tcp(80).rr(2).elsewhere(2);
    check(vec![
        Case {
            name: "one server on each side",
            tables: tables([service(), udp(80).rr(1).elsewhere(1)]),
            steps: vec![
                send(syn(1), goes(Reason::RedirectScheduled, 2)),
                send(ack(1), goes(Reason::RedirectConnection, 2)),
                send(syn(2), goes(Reason::TxScheduled, 1)),
                send(ack(2), known(1)),
                send(datagram(1), goes(Reason::RedirectScheduled, 1)),
            ],
        },
        Case {
            name: "persistence",
            tables: tables([service().persistent(50, 32)]),
            steps: vec![
                send(syn(1), goes(Reason::RedirectScheduled, 2)),
                send(syn(1).port(40_001), goes(Reason::RedirectPersistent, 2)),
            ],
        },
    ]);
}

#[test]
fn a_port_that_nobody_may_send_out_of_is_an_error_that_has_a_name() {
    let without_port = Desired {
        ports: {
            let mut ports = tables([]).ports;
            ports.remove(&OTHER_PORT);
            ports
        },
        ..tables([tcp(80).rr(1).elsewhere(1)])
    };
    check(vec![Case {
        name: "the port is not in the map",
        tables: without_port,
        steps: vec![
            send(syn(1), stays(Reason::RedirectFailed).counts(1, true)),
            send(ack(1), stays(Reason::RedirectFailed).counts(1, false)),
            Step::Tables(tables([tcp(80).rr(1).elsewhere(1)])),
            send(ack(1), goes(Reason::RedirectConnection, 1)),
        ],
    }]);
}

#[test]
fn the_director_itself_gets_what_is_its_own() {
    check(vec![Case {
        name: "one real server is the director",
        tables: tables([tcp(80).rr(2).local(2)]),
        steps: vec![
            send(syn(1), stays(Reason::Local).counts(2, true)),
            send(ack(1), stays(Reason::Local).counts(2, false)),
            send(syn(2), goes(Reason::TxScheduled, 1)),
            send(ack(2), known(1)),
        ],
    }]);
}

/// From a port to a server on the other and back: each frame leaves by the port that is not its own.
#[test]
fn the_way_depends_on_where_a_frame_came_in() {
    in_a_network(|| {
        let director = Director::new(&tables([tcp(80).rr(1)]));
        let (here, there) = (crate::tables::PORT, OTHER_PORT);
        let send = |packet: Packet, port| {
            director
                .program()
                .run(&packet.bytes().unwrap(), port)
                .unwrap()
                .action
        };
        assert_eq!(send(syn(1), here), Action::Tx);
        let by_other = ack(1).to_mac(crate::tables::OTHER_PORT_MAC);
        assert_eq!(send(by_other, there), Action::Redirect);
        assert_eq!(send(ack(1), here), Action::Tx);
    });
}
