//! A table without room: what goes, what stays, and how flows that find no way agree on a server.

use std::collections::BTreeMap;

use xdp_lb::config::model::{Protocol, ServiceKey};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_tests::packet::flags::{ACK, FIN};
use xdp_lb_tests::packet::{Packet, Transport};
use xdp_lb_tests::program::{Action, Outcome};

use crate::director::{Director, in_a_network};
use crate::tables::{
    Virtual, Words as _, ack, datagram, from_client, server_mac, syn, tables, tcp, udp,
};

/// Ways of the smallest table.
const WAYS: usize = 2048;
const SERVERS: u8 = 4;

fn server_of(outcome: &Outcome) -> u8 {
    assert_eq!(outcome.action, Action::Tx);
    let server = (1..=SERVERS).find(|n| outcome.frame.starts_with(&server_mac(*n)));
    server.expect("it went to a real server")
}

fn send(director: &Director, packet: &Packet) -> u8 {
    server_of(&director.send(&packet.bytes().unwrap()))
}

/// The packets of one flow, and which server each client's went to first.
struct Flows {
    first: fn(u32) -> Packet,
    later: fn(u32) -> Packet,
    servers: BTreeMap<u32, u8>,
}

impl Flows {
    const fn tcp() -> Self {
        let (first, later) = (syn as fn(u32) -> Packet, ack as fn(u32) -> Packet);
        Self {
            first,
            later,
            servers: BTreeMap::new(),
        }
    }

    const fn udp() -> Self {
        let (first, later) = (datagram as fn(u32) -> Packet, datagram as fn(u32) -> Packet);
        Self {
            first,
            later,
            servers: BTreeMap::new(),
        }
    }

    /// Opens and confirms a flow of each of these clients.
    fn establish(&mut self, director: &Director, clients: std::ops::Range<u32>) {
        for client in clients {
            let server = send(director, &(self.first)(client));
            let confirmed = send(director, &(self.later)(client));
            assert_eq!(confirmed, server, "client {client}");
            self.servers.insert(client, server);
        }
    }

    /// Every flow is where it was; returns how many of them the table knew.
    fn verify(&self, director: &Director) -> u64 {
        let before = director.eyes().tally();
        for (client, server) in &self.servers {
            assert_eq!(
                send(director, &(self.later)(*client)),
                *server,
                "client {client}"
            );
        }
        let tally = director.eyes().tally().since(&before);
        let (known, stateless) = (
            tally.of(Reason::TxConnection),
            tally.of(Reason::TxStateless),
        );
        assert_eq!(known + stateless, self.servers.len() as u64, "{tally:?}");
        known
    }
}

fn service(service: Virtual) -> Virtual {
    service.wrr(&[1, 2, 1, 2])
}

#[test]
fn established_flows_stay_and_the_rest_agree_on_a_server() {
    in_a_network(|| {
        for (made, flows) in [(tcp(80), Flows::tcp()), (udp(80), Flows::udp())] {
            overfill(&service(made), flows);
        }
    });
}

/// Four times as many flows as there are ways, all of them confirmed.
fn overfill(service: &Virtual, mut flows: Flows) {
    let director = Director::new(&tables([service.clone()]));
    flows.establish(&director, 0..4 * u32::try_from(WAYS).unwrap());
    let tally = director.eyes().tally();
    let ways = director.eyes().all_ways();
    let kinds: Vec<_> = ways.iter().map(|way| way.kind()).collect();
    assert!(
        kinds
            .iter()
            .all(|kind| matches!(kind, Kind::Established | Kind::Udp))
    );
    assert_eq!(ways.len(), WAYS, "no way is left");
    assert_eq!(flows.verify(&director), ways.len() as u64);
    assert_eq!(
        flows.verify(&director),
        ways.len() as u64,
        "nor does that change anything"
    );
    assert!(tally.events[&Event::NoWay] > 0 && tally.of(Reason::TxStateless) > 0);
    let is_tcp = |key: &ServiceKey| match key {
        ServiceKey::Endpoint(endpoint) => endpoint.protocol == Protocol::Tcp,
        ServiceKey::Mark(_) | ServiceKey::Group { .. } => false,
    };
    if is_tcp(&service.key) {
        let connections = director.eyes().tally().services[&0][0];
        assert_eq!(
            connections,
            flows.servers.len() as u64,
            "each counts once, way or not"
        );
    }

    // The flows without a way are spread over all servers, as the weights say.
    let mut shares = BTreeMap::<u8, u32>::new();
    for server in flows.servers.values() {
        *shares.entry(*server).or_default() += 1;
    }
    let sixth = u32::try_from(flows.servers.len()).unwrap() / 6;
    for (server, share) in shares {
        let fair = if server % 2 == 0 { 2 * sixth } else { sixth };
        let close = share.abs_diff(fair) < fair / 10;
        assert!(close, "server {server}: {share} of {fair}");
    }
}

#[test]
fn a_flood_pushes_out_no_established_connection() {
    in_a_network(|| {
        for (made, mut flows, flood) in [
            (tcp(80), Flows::tcp(), syn as fn(u32) -> Packet),
            (udp(80), Flows::udp(), datagram as fn(u32) -> Packet),
        ] {
            let director = Director::new(&tables([service(made)]));
            flows.establish(&director, 0..1000);
            let spoofed = 100_000..120_000;
            for client in spoofed {
                send(&director, &flood(client));
            }
            assert_eq!(flows.verify(&director), 1000);
            let tally = director.eyes().tally();
            assert!(tally.events[&Event::Evicted] > 10_000, "{:?}", tally.events);
            // Newcomers that are confirmed find room in the midst of it.
            flows.establish(&director, 1000..1200);
            let known = flows.verify(&director);
            assert!(known >= 1199, "{known} of 1200");
        }
    });
}

/// Connections that are closing go when there is nothing unconfirmed, and only then.
#[test]
fn unconfirmed_flows_go_before_closing_ones_and_these_before_established() {
    in_a_network(|| {
        let director = Director::new(&tables([service(tcp(80))]));
        let count = |wanted: Kind| {
            let ways = director.eyes().all_ways();
            ways.iter().filter(|way| way.kind() == wanted).count()
        };
        let mut established = Flows::tcp();
        established.establish(&director, 0..400);
        let mut closing = Flows::tcp();
        closing.establish(&director, 1000..1400);
        for client in 1000..1400 {
            send(&director, &from_client(client, Transport::Tcp(FIN | ACK)));
        }
        assert_eq!((count(Kind::Established), count(Kind::Fin)), (400, 400));
        // Unconfirmed flows fill what is left, several times over: they replace each other.
        for client in 10_000..20_000 {
            send(&director, &syn(client));
        }
        assert_eq!(
            (count(Kind::Established), count(Kind::Syn)),
            (400, WAYS - 800)
        );
        assert_eq!(count(Kind::Fin), 400);
        // Confirmed newcomers leave nothing unconfirmed, then nothing that is closing.
        established.establish(&director, 30_000..40_000);
        assert_eq!(count(Kind::Established), WAYS);
        assert_eq!(established.verify(&director), WAYS as u64);
    });
}

/// A flow that found no way is let in once there is room, at the server it has.
#[test]
fn a_connection_without_a_way_comes_in_when_there_is_room() {
    in_a_network(|| {
        let director = Director::new(&tables([service(tcp(80))]));
        let mut flows = Flows::tcp();
        flows.establish(&director, 0..4 * u32::try_from(WAYS).unwrap());
        let known = flows.verify(&director);
        for client in 0..8000 {
            if director.eyes().ways(&syn(client)).is_empty() {
                continue;
            }
            send(&director, &from_client(client, Transport::Tcp(FIN | ACK)));
            flows.servers.remove(&client);
        }
        assert_eq!(flows.verify(&director), 0, "none of the rest had a way");
        assert_eq!(
            flows.verify(&director),
            known,
            "and now all ways are theirs"
        );
    });
}

/// With both tables full, a client without a template goes by its flow's hash, all packets alike.
#[test]
fn a_persistent_service_agrees_with_itself_without_a_way_and_without_a_template() {
    in_a_network(|| {
        let service = service(tcp(80)).persistent(300, 32);
        let director = Director::new(&tables([service]));
        let mut flows = Flows::tcp();
        flows.establish(&director, 0..4 * u32::try_from(WAYS).unwrap());
        let events = director.eyes().tally().events;
        assert!(
            events[&Event::NoWay] > 0 && events[&Event::NoTemplateWay] > 0,
            "{events:?}"
        );
        for (client, server) in &flows.servers {
            assert_eq!(send(&director, &ack(*client)), *server, "client {client}");
            assert_eq!(
                send(&director, &syn(*client)),
                *server,
                "client {client}, SYN again"
            );
        }
    });
}

/// A spoofed flood fills the table of templates with unconfirmed ones: real clients keep theirs.
#[test]
fn a_flood_pushes_out_no_confirmed_template() {
    in_a_network(|| {
        let service = service(tcp(80)).persistent(300, 32);
        let director = Director::new(&tables([service]));
        let mut flows = Flows::tcp();
        flows.establish(&director, 0..500);
        for client in 100_000..120_000 {
            send(&director, &syn(client));
        }
        for (client, server) in &flows.servers {
            let before = director.eyes().tally();
            assert_eq!(
                send(&director, &syn(*client).port(50_000)),
                *server,
                "client {client}"
            );
            let tally = director.eyes().tally().since(&before);
            assert_eq!(tally.of(Reason::TxPersistent), 1, "{tally:?}");
        }
    });
}

/// Flows without a way follow a table that is made anew when a server fails: none goes there any more,
/// and most of the others stay.
#[test]
fn flows_without_a_way_leave_a_failed_server_and_few_others_move() {
    in_a_network(|| {
        let mut director = Director::new(&tables([service(tcp(80))]));
        let mut flows = Flows::tcp();
        flows.establish(&director, 0..4 * u32::try_from(WAYS).unwrap());
        let has_way = |client: &u32| !director.eyes().ways(&syn(*client)).is_empty();
        let (with, without): (Vec<_>, Vec<_>) = flows.servers.keys().copied().partition(has_way);
        director.set(&tables([service(tcp(80)).fail(2)]));
        let now = |client: u32| {
            let outcome = director.send(&ack(client).bytes().unwrap());
            (outcome.action == Action::Tx).then(|| server_of(&outcome))
        };
        for client in with {
            let before = flows.servers[&client];
            let expected = (before != 2).then_some(before);
            assert_eq!(now(client), expected, "client {client}, which has a way");
        }
        let (mut stayed, mut moved) = (0, 0);
        for client in without {
            let after = now(client).expect("some server takes it");
            assert_ne!(after, 2, "client {client}");
            match flows.servers[&client] {
                2 => {}
                before if before == after => stayed += 1,
                _ => moved += 1,
            }
        }
        assert!(moved * 10 < stayed, "{moved} moved, {stayed} stayed");
    });
}
