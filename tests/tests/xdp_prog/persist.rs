//! Clients that stick to a real server.

use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::Transport;
use xdp_lb_tests::packet::flags::{ACK, FIN, RST};

use crate::case::{Case, Fate, Step, check, goes, send, stays};
use crate::director::{Director, in_a_network};
use crate::tables::{Words as _, ack, datagram, from_client, server_mac, syn, tables, tcp, udp};

const fn scheduled(server: u8) -> Fate {
    goes(Reason::TxScheduled, server)
}

const fn persistent(server: u8) -> Fate {
    goes(Reason::TxPersistent, server)
}

const fn known(server: u8) -> Fate {
    goes(Reason::TxConnection, server)
}

#[test]
fn all_connections_of_a_client_go_to_one_server() {
    check(vec![
        Case {
            name: "TCP",
            tables: tables([tcp(80).rr(3).persistent(50, 32)]),
            steps: vec![
                send(syn(1), scheduled(3)),
                send(syn(1).port(40_001), persistent(3)),
                send(syn(1).port(40_002), persistent(3)),
                // Only a client's first connection is the scheduler's turn.
                send(syn(2), scheduled(2)),
                send(syn(1).port(40_003), persistent(3)),
                send(syn(3), scheduled(1)),
                send(syn(2).port(40_001), persistent(2)),
                send(ack(1).port(40_002), known(3)),
            ],
        },
        Case {
            name: "UDP",
            tables: tables([udp(80).rr(2).persistent(50, 32)]),
            steps: vec![
                send(datagram(1), scheduled(2)),
                send(datagram(1).port(40_001), persistent(2)),
                send(datagram(1), known(2)),
                send(datagram(2), scheduled(1)),
            ],
        },
        Case {
            name: "ports of a service of any port",
            tables: tables([tcp(0).rr(2).persistent(50, 32)]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(1).to_port(443), persistent(2)),
                send(syn(2).to_port(443), scheduled(1)),
                send(syn(2), persistent(1)),
            ],
        },
        Case {
            name: "services apart",
            tables: tables([
                tcp(80).rr(2).persistent(50, 32),
                tcp(81).rr(2).persistent(50, 32),
                udp(80).rr(2),
            ]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(2), scheduled(1)),
                send(syn(2).to_port(81), scheduled(2)),
                send(syn(1).to_port(81), scheduled(1)),
                send(datagram(2), scheduled(2)),
                send(datagram(2).port(40_001), scheduled(1)),
            ],
        },
    ]);
}

#[test]
fn the_granularity_groups_clients() {
    let of = |prefix| tables([tcp(80).rr(2).persistent(50, prefix)]);
    check(vec![
        Case {
            name: "/24",
            tables: of(24),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(255), persistent(2)),
                send(syn(256), scheduled(1)),
                send(syn(511), persistent(1)),
                Step::Template(syn(7), 24, Some((Kind::TemplateNew, 2))),
            ],
        },
        Case {
            name: "/31",
            tables: of(31),
            steps: vec![
                send(syn(2), scheduled(2)),
                send(syn(3), persistent(2)),
                send(syn(4), scheduled(1)),
            ],
        },
        Case {
            name: "everybody",
            tables: of(0),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(1).source_ip([203, 0, 113, 7].into()), persistent(2)),
            ],
        },
    ]);
}

#[test]
fn a_template_is_confirmed_by_a_connection_of_it() {
    let template = |kind| Step::Template(syn(1), 32, Some((kind, 1)));
    let fin = from_client(1, Transport::Tcp(FIN | ACK));
    check(vec![
        Case {
            name: "TCP",
            tables: tables([tcp(80).rr(1).persistent(50, 32)]),
            steps: vec![
                Step::Template(syn(1), 32, None),
                send(syn(1), scheduled(1)),
                template(Kind::TemplateNew),
                send(syn(1), known(1)),
                send(syn(1).port(40_001), persistent(1)),
                template(Kind::TemplateNew),
                send(ack(1), known(1)),
                template(Kind::Template),
                send(syn(1).port(40_002), persistent(1)),
                send(fin, known(1)),
                template(Kind::Template),
            ],
        },
        Case {
            name: "UDP",
            tables: tables([udp(80).rr(1).persistent(50, 32)]),
            steps: vec![
                send(datagram(1), scheduled(1)),
                Step::Template(datagram(1), 32, Some((Kind::TemplateNew, 1))),
                send(datagram(1), known(1)),
                Step::Template(datagram(1), 32, Some((Kind::Template, 1))),
            ],
        },
    ]);
}

/// A WebSocket that was idle longer than its entry lived goes on where it was.
#[test]
fn a_connection_without_an_entry_goes_to_the_server_of_its_client() {
    let midstream = |flags, port| from_client(1, Transport::Tcp(flags)).port(port);
    check(vec![Case {
        name: "in the middle of a connection",
        tables: tables([tcp(80).rr(2).persistent(50, 32), tcp(81).rr(2)]),
        steps: vec![
            send(ack(1), stays(Reason::NoConnection)),
            send(syn(1), scheduled(2)),
            send(midstream(ACK, 40_001), persistent(2)),
            Step::Connection(ack(1).port(40_001), Some((Kind::Established, 2))),
            Step::Template(syn(1), 32, Some((Kind::Template, 2))),
            send(midstream(ACK, 40_001), known(2)),
            send(midstream(FIN | ACK, 40_002), persistent(2)),
            send(midstream(RST, 40_003), persistent(2)),
            // Another client's is not known, nor is this one's of a service without persistence.
            send(ack(2), stays(Reason::NoConnection)),
            send(ack(1).to_port(81), stays(Reason::NoConnection)),
        ],
    }]);
}

#[test]
fn templates_outlive_weight_0_but_not_a_failure() {
    let service = || tcp(80).rr(2).persistent(50, 32);
    let change = |service| Step::Tables(tables([service]));
    check(vec![
        Case {
            name: "weight 0: old clients stay, new ones do not come",
            tables: tables([service()]),
            steps: vec![
                send(syn(1), scheduled(2)),
                change(service().weigh(2, 0)),
                send(syn(1).port(40_001), persistent(2)),
                send(syn(2), scheduled(1)),
                send(syn(3), scheduled(1)),
                change(service()),
                send(syn(1).port(40_002), persistent(2)),
            ],
        },
        Case {
            name: "failed: its clients go elsewhere, and stay there when it is back",
            tables: tables([service()]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(ack(1), known(2)),
                change(service().fail(2)),
                send(ack(1), stays(Reason::Purged)),
                send(ack(1).port(40_001), stays(Reason::NoConnection)),
                send(syn(1).port(40_002), scheduled(1)),
                Step::Template(syn(1), 32, Some((Kind::TemplateNew, 1))),
                change(service().fail(2).recover(2)),
                send(syn(1).port(40_003), persistent(1)),
                send(ack(1).port(40_002), known(1)),
            ],
        },
        Case {
            name: "failed and back before the client is: it is scheduled as a new one",
            tables: tables([service()]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(syn(2), scheduled(1)),
                change(service().fail(1)),
                change(service().fail(1).recover(1)),
                send(syn(3), scheduled(1)),
                send(syn(2).port(40_001), scheduled(2)),
                send(syn(2).port(40_002), persistent(2)),
            ],
        },
        Case {
            name: "removed",
            tables: tables([service()]),
            steps: vec![
                send(syn(1), scheduled(2)),
                change(service().remove(2)),
                send(syn(1).port(40_001), scheduled(1)),
                change(service().remove(2).add(2, 1)),
                send(syn(1).port(40_002), persistent(1)),
            ],
        },
    ]);
}

#[test]
fn a_server_that_releases_its_clients_keeps_its_connections() {
    let service = || tcp(80).rr(2).persistent(50, 32);
    let change = |service| Step::Tables(tables([service]));
    check(vec![
        Case {
            name: "weight 0 and its clients released: flows go on, the next connection moves",
            tables: tables([service()]),
            steps: vec![
                send(syn(1), scheduled(2)),
                send(ack(1), known(2)),
                send(syn(2), scheduled(1)),
                change(service().weigh(2, 0).release(2)),
                send(ack(1), known(2)),
                send(ack(1).port(40_005), stays(Reason::NoConnection)),
                send(syn(1).port(40_001), scheduled(1)),
                Step::Template(syn(1), 32, Some((Kind::TemplateNew, 1))),
                send(ack(1), known(2)),
                send(syn(1).port(40_002), persistent(1)),
                send(syn(2).port(40_001), persistent(1)),
                change(service()),
                send(ack(1), known(2)),
                send(syn(1).port(40_003), persistent(1)),
            ],
        },
        Case {
            name: "released and wanted again before its client is back: nothing happened",
            tables: tables([service()]),
            steps: vec![
                send(syn(1), scheduled(2)),
                change(service().weigh(2, 0).release(2)),
                change(service()),
                send(syn(1).port(40_001), persistent(2)),
            ],
        },
    ]);
}

#[test]
fn persistence_can_be_switched_on_and_off() {
    let change = |service| Step::Tables(tables([service]));
    check(vec![Case {
        name: "off and on",
        tables: tables([tcp(80).rr(2)]),
        steps: vec![
            send(syn(1), scheduled(2)),
            send(syn(1).port(40_001), scheduled(1)),
            change(tcp(80).rr(2).persistent(50, 32)),
            send(ack(1), known(2)),
            send(syn(1).port(40_002), scheduled(2)),
            send(syn(1).port(40_003), persistent(2)),
            change(tcp(80).rr(2)),
            send(syn(1).port(40_004), scheduled(1)),
        ],
    }]);
}

/// On the real clock, as the program reads it: the test waits for ticks to pass, however long it takes.
#[test]
fn an_idle_template_expires_and_a_busy_one_does_not() {
    in_a_network(|| {
        let service = tcp(80).rr(2).persistent(2, 32);
        let mut director = Director::new(&tables([service.clone()]));
        let server_of = |director: &Director, packet: xdp_lb_tests::packet::Packet| {
            let frame = director.send(&packet.bytes().unwrap()).frame;
            (1..=2)
                .find(|n| frame.starts_with(&server_mac(*n)))
                .unwrap()
        };
        let template = |director: &Director| director.eyes().templates(service.key, &syn(1), 32)[0];
        assert_eq!(server_of(&director, syn(1)), 2);
        let first = template(&director).expiry();
        // Packets of a connection carry the template along with them.
        while first.is_past(director.now()) == 0 {
            assert_eq!(server_of(&director, ack(1)), 2);
        }
        assert_eq!(server_of(&director, syn(1).port(40_001)), 2);
        let last = template(&director).expiry();
        while last.is_past(director.now()) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(server_of(&director, syn(1).port(40_002)), 1);
        // The connection outlives the template, and brings nobody back to it.
        assert_eq!(server_of(&director, ack(1)), 2);
        assert_eq!(server_of(&director, syn(1).port(40_003)), 1);
    });
}
