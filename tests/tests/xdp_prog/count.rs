//! What the data plane itself tells of all this, and what it finds when it starts again.

use std::net::SocketAddr;

use xdp_lb::dataplane::{Counters, Dataplane as _, Fill, ServerCounters};
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::service::Stats;
use xdp_lb_tests::packet::flags::{ACK, FIN};
use xdp_lb_tests::packet::{Packet, Transport};

use crate::case::{Case, check, goes, send};
use crate::director::{Director, in_a_network};
use crate::nat;
use crate::tables::{
    Virtual, Words as _, ack, datagram, from_client, server_ip, server_mac, syn, tables, tcp, udp,
};
use crate::wire::{self, Wire, sent};

fn run(director: &Director, packet: &Packet) -> Option<u8> {
    let frame = director.send(&packet.bytes().unwrap()).frame;
    (1..=3).find(|n| frame.starts_with(&server_mac(*n)))
}

fn server(counters: &Counters, service: &Virtual, n: u8) -> ServerCounters {
    let address = SocketAddr::from((server_ip(n), service.key.port()));
    counters.servers[&(service.key, address)]
}

const fn stats(connections: u64, packets: u64, bytes: u64) -> Stats {
    Stats {
        connections,
        packets,
        bytes,
        reply_packets: 0,
        reply_bytes: 0,
    }
}

/// Replies are counted where their addresses are translated, apart from what came from clients; what is
/// only looked at is not.
#[test]
fn replies_that_are_translated_count_for_their_service_and_their_server() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let tables = nat::web(is_v6);
            let mut director = Director::looking(&tables);
            let syn = wire::syn(is_v6, 1);
            let ip_len = |wire: &Wire| wire.bytes().len() as u64 - 14;
            let reply = nat::answer(&syn, 8080);
            let early = reply.bytes();
            sent(&director, "too early", &early, Reason::NoService);
            sent(&director, "asked", &syn.bytes(), Reason::TxScheduled);
            for _ in 0..3 {
                sent(&director, "answered", &reply.bytes(), Reason::TxReply);
            }
            // It has no way to go further: nothing is sent, nothing counted.
            let last_hop = Wire {
                hops: 1,
                ..reply.clone()
            };
            sent(
                &director,
                "no hop",
                &last_hop.bytes(),
                Reason::TxTimeExceeded,
            );
            let counters = director.ebpf().counters().unwrap();
            let wanted = Stats {
                reply_packets: 3,
                reply_bytes: 3 * ip_len(&reply),
                ..stats(1, 1, ip_len(&syn))
            };
            for key in tables.services.keys() {
                let is_tcp = key.to_string().starts_with("tcp");
                let wanted = if is_tcp { wanted } else { Stats::default() };
                assert_eq!(counters.services[key], wanted, "{key}");
                let server = SocketAddr::new(wire::server(is_v6, 1), 8080);
                assert_eq!(counters.servers[&(*key, server)].stats, wanted, "{key}");
            }
        }
    });
}

#[test]
fn the_data_plane_counts_what_was_sent() {
    in_a_network(|| {
        let (web, names) = (tcp(80).rr(2).persistent(50, 32), udp(80).rr(2));
        let mut director = Director::new(&tables([web.clone(), names.clone()]));
        // Client 1 on server 2: open; client 2 on server 1: opening; client 3 on server 2: closing.
        let fin = from_client(3, Transport::Tcp(FIN | ACK)).payload(&[7; 60]);
        for packet in [syn(1), ack(1), syn(2), syn(3), ack(3), fin] {
            assert!(run(&director, &packet).is_some());
        }
        for packet in [datagram(1), datagram(1), datagram(2), ack(9)] {
            run(&director, &packet);
        }
        let counters = director.ebpf().counters().unwrap();
        assert_eq!(counters.services[&web.key], stats(3, 6, 6 * 40 + 60));
        assert_eq!(counters.services[&names.key], stats(2, 3, 3 * 28));

        let second = server(&counters, &web, 2);
        assert_eq!(second.stats, stats(2, 5, 5 * 40 + 60));
        assert_eq!(
            (second.active, second.inactive, second.templates),
            (1, 1, 2)
        );
        let first = server(&counters, &web, 1);
        assert_eq!(first.stats, stats(1, 1, 40));
        assert_eq!((first.active, first.inactive, first.templates), (1, 0, 1));
        // UDP is inactive, as in IPVS.
        let of_udp = server(&counters, &names, 2);
        assert_eq!(
            (of_udp.active, of_udp.inactive, of_udp.templates),
            (0, 1, 0)
        );

        let packets = |reason| counters.packets[&reason];
        assert_eq!(packets(Reason::TxScheduled), 5);
        assert_eq!(packets(Reason::TxConnection), 4);
        assert_eq!(packets(Reason::NoConnection), 1);
        assert_eq!(counters.packets.values().sum::<u64>(), 10);
        assert_eq!(counters.events[&Event::Evicted], 0);
        let fill = |name| counters.tables[name];
        let capacity = 2048;
        assert_eq!(
            fill("connections"),
            Fill {
                entries: 5,
                capacity
            }
        );
        assert_eq!(
            fill("templates"),
            Fill {
                entries: 3,
                capacity
            }
        );
    });
}

/// A census must not count flows of a server that failed, and it clears them away.
#[test]
fn purged_flows_count_no_more() {
    in_a_network(|| {
        let service = || tcp(80).rr(2);
        let mut director = Director::new(&tables([service()]));
        for client in 0..10 {
            run(&director, &syn(client));
        }
        director.set(&tables([service().fail(2)]));
        let counters = director.ebpf().counters().unwrap();
        assert_eq!(server(&counters, &service(), 1).active, 5);
        assert_eq!(server(&counters, &service(), 2).active, 0);
        assert_eq!(counters.tables["connections"].entries, 5);
        assert_eq!(director.eyes().all_ways().len(), 5);
    });
}

#[test]
fn what_one_run_placed_the_next_one_keeps() {
    in_a_network(|| {
        let wanted = || tables([tcp(80).wrr(&[2, 1]).persistent(50, 32), udp(80).rr(3)]);
        let mut director = Director::new(&wanted());
        let servers: Vec<_> = (0..9).map(|client| run(&director, &syn(client))).collect();
        let datagrams: Vec<_> = (0..9)
            .map(|client| run(&director, &datagram(client)))
            .collect();
        director.restart(&wanted());
        for (client, server) in (0..).zip(&servers) {
            assert_eq!(run(&director, &ack(client)), *server, "client {client}");
            assert_eq!(
                run(&director, &syn(client).port(50_000)),
                *server,
                "its template"
            );
        }
        for (client, server) in (0..).zip(&datagrams) {
            assert_eq!(
                run(&director, &datagram(client)),
                *server,
                "client {client}"
            );
        }
        let counters = director.ebpf().counters().unwrap();
        assert_eq!(counters.packets.values().sum::<u64>(), 18 + 27);
        assert_eq!(counters.packets[&Reason::TxConnection], 18);
        assert_eq!(counters.packets[&Reason::TxPersistent], 9);
    });
}

/// Every exit is for one reason; no way through the program is counted twice, or by no one.
#[test]
fn services_count_apart() {
    check(vec![Case {
        name: "one address, three services, one real server each",
        tables: tables([
            tcp(80).rr(0).add(1, 1),
            tcp(81).rr(0).add(1, 1),
            udp(80).rr(0).add(1, 1),
        ]),
        steps: vec![
            send(syn(1), goes(Reason::TxScheduled, 1)),
            send(syn(1).to_port(81), goes(Reason::TxScheduled, 1)),
            send(datagram(1), goes(Reason::TxScheduled, 1)),
            send(ack(1).to_port(81), goes(Reason::TxConnection, 1)),
        ],
    }]);
}
