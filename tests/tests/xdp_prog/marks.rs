//! Services of a firewall mark, and of any port: many ways in, one schedule, one template.

use std::net::{Ipv4Addr, SocketAddrV4};

use xdp_lb::config::model::{Endpoint, Protocol};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::Packet;

use crate::case::{Case, Fate, Step, check, goes, send, stays};
use crate::tables::{Virtual, Words as _, ack, datagram, endpoint, marked, syn, tables, tcp, udp};

/// Another VIP.
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 201);

const fn scheduled(server: u8) -> Fate {
    goes(Reason::TxScheduled, server)
}

const fn persistent(server: u8) -> Fate {
    goes(Reason::TxPersistent, server)
}

const fn known(server: u8) -> Fate {
    goes(Reason::TxConnection, server)
}

const fn http() -> Endpoint {
    endpoint(80, Protocol::Tcp)
}

const fn https() -> Endpoint {
    endpoint(443, Protocol::Tcp)
}

/// The same packet to a port of the other VIP.
fn elsewhere(mut packet: Packet, port: u16) -> Packet {
    packet.to = SocketAddrV4::new(OTHER, port);
    packet
}

/// Ports of both protocols, and one of the other VIP.
fn shop() -> Virtual {
    let other = Endpoint {
        vip: OTHER.into(),
        ..endpoint(8080, Protocol::Tcp)
    };
    let dns = endpoint(53, Protocol::Udp);
    marked(1, &[http(), https(), dns, other])
}

#[test]
fn all_that_has_one_mark_is_one_service() {
    check(vec![
        Case {
            name: "ports, protocols and VIPs take turns in one schedule",
            tables: tables([shop().rr(3)]),
            steps: vec![
                send(syn(1), scheduled(3)),
                send(syn(1).to_port(443), scheduled(2)),
                send(datagram(1).to_port(53), scheduled(1)),
                send(elsewhere(syn(1), 8080), scheduled(3)),
                send(ack(1), known(3)),
                send(ack(1).to_port(443), known(2)),
            ],
        },
        Case {
            name: "and share the template of a client",
            tables: tables([shop().rr(3).persistent(50, 32)]),
            steps: vec![
                send(syn(1), scheduled(3)),
                send(syn(1).to_port(443), persistent(3)),
                send(datagram(1).to_port(53), persistent(3)),
                send(elsewhere(syn(1), 8080), persistent(3)),
                send(syn(2).to_port(443), scheduled(2)),
                send(syn(2), persistent(2)),
                Step::Template(syn(1).to_port(443), 32, Some((Kind::TemplateNew, 3))),
            ],
        },
    ]);
}

#[test]
fn a_mark_is_open_or_closed_and_counts_as_a_whole() {
    check(vec![
        Case {
            name: "one packet is a matter of UDP: TCP has connections all the same",
            tables: tables([shop().rr(2).one_packet()]),
            steps: vec![
                send(datagram(1).to_port(53), scheduled(2)),
                send(datagram(1).to_port(53), scheduled(1)),
                send(syn(1), scheduled(2)),
                send(ack(1), known(2)),
            ],
        },
        Case {
            name: "what has no mark passes",
            tables: tables([shop().rr(2)]),
            steps: vec![
                send(syn(1).to_port(81), stays(Reason::NoService)),
                send(datagram(1), stays(Reason::NoService)),
                send(elsewhere(syn(1), 80), stays(Reason::NoService)),
            ],
        },
        Case {
            name: "two marks are two services",
            tables: tables([
                marked(1, &[http()]).rr(2).persistent(50, 32),
                marked(2, &[https()]).rr(2).persistent(50, 32),
            ]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(2).to_port(443), scheduled(2)),
                send(syn(1).to_port(443), scheduled(1)),
            ],
        },
        Case {
            name: "the gate of a mark is that of all its packets",
            tables: tables([shop().rr(2).inactive()]),
            steps: vec![
                send(syn(1), stays(Reason::NotActive)),
                send(elsewhere(syn(1), 8080), stays(Reason::NotActive)),
                Step::Tables(tables([shop().rr(2)])),
                send(syn(1).to_port(443), scheduled(2)),
            ],
        },
    ]);
}

#[test]
fn a_server_that_fails_fails_for_every_packet_of_the_mark() {
    let shop = || marked(1, &[http(), https()]).rr(2).persistent(50, 32);
    check(vec![Case {
        name: "its template and its connections are void",
        tables: tables([shop()]),
        steps: vec![
            send(syn(1), scheduled(2)),
            send(syn(1).to_port(443), persistent(2)),
            Step::Tables(tables([shop().fail(2)])),
            send(ack(1), stays(Reason::Purged)),
            send(syn(1).to_port(443), scheduled(1)),
            send(syn(1).port(40_001), persistent(1)),
        ],
    }]);
}

#[test]
fn a_mark_goes_before_an_address() {
    check(vec![
        Case {
            name: "the same port",
            tables: tables([tcp(80).rr(1), marked(1, &[http()]).rr(2)]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(2), scheduled(1)),
                // The rule is another one: the port is the address's again.
                Step::Tables(tables([tcp(80).rr(1), marked(1, &[https()]).rr(2)])),
                send(syn(3), scheduled(1)),
                send(syn(1).to_port(443), scheduled(2)),
            ],
        },
        Case {
            name: "any port",
            tables: tables([
                tcp(80).rr(1),
                udp(80).rr(1),
                marked(1, &[endpoint(0, Protocol::Tcp)]).rr(2),
            ]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(2).to_port(8080), scheduled(1)),
                send(datagram(1), scheduled(1)),
            ],
        },
        Case {
            name: "its port goes before any port of another mark",
            tables: tables([
                marked(1, &[http()]).rr(1),
                marked(2, &[endpoint(0, Protocol::Tcp)]).rr(2),
            ]),
            steps: vec![
                send(syn(1), scheduled(1)),
                send(syn(2), scheduled(1)),
                send(syn(1).to_port(443), scheduled(2)),
            ],
        },
    ]);
}

#[test]
fn any_port_is_one_service_and_each_port_a_connection_of_its_own() {
    let ftp = || tcp(0).rr(2).persistent(50, 32);
    check(vec![
        Case {
            name: "control and data of FTP",
            tables: tables([ftp(), tcp(80).rr(1)]),
            steps: vec![
                send(syn(1).to_port(21), scheduled(2)),
                send(ack(1).to_port(21), known(2)),
                // The same client port: the port of the service tells the two apart.
                send(syn(1).to_port(50_000), persistent(2)),
                Step::Connection(syn(1).to_port(50_000), Some((Kind::Syn, 2))),
                Step::Connection(syn(1).to_port(21), Some((Kind::Established, 2))),
                send(ack(1).to_port(50_000), known(2)),
                send(syn(2).to_port(21), scheduled(1)),
                // A service of that very port goes first, with a schedule of its own.
                send(syn(1), scheduled(1)),
                send(datagram(1).to_port(21), stays(Reason::NoService)),
            ],
        },
        Case {
            name: "the VIP alone",
            tables: tables([ftp()]),
            steps: vec![
                send(elsewhere(syn(1), 21), stays(Reason::NoService)),
                send(syn(1).to_port(1), scheduled(2)),
                send(syn(1).to_port(65_535), persistent(2)),
            ],
        },
    ]);
}
