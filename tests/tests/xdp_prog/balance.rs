//! Every scheduler, by the sequences that were observed on a real IPVS; limits; one-packet
//! scheduling; and the counts that all of it goes by.

use std::collections::BTreeMap;

use xdp_lb::config::model::{Hashing, Scheduler};
use xdp_lb::dataplane::Dataplane as _;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::flags::{ACK, FIN, RST};
use xdp_lb_tests::packet::{Packet, Transport};

use crate::case::{Case, Step, check, goes, send, stays};
use crate::cpus::{Pace, on_two_cpus, roomy};
use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::tables::{
    PORT, Virtual, Words as _, ack, datagram, from_client, server_mac, syn, tables, tcp, udp,
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
            service = service.add(5, 1);
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
        assert_eq!(all, "1313132312331312331231321232131213131123".replace("331312", "211312"));
        director.set(&service(&[1, 1, 0], false));
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
