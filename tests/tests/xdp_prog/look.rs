//! What the program says of its decisions: what it would do with a packet, and what it did.
//!
//! [`crate::case`] has it foresee every packet of every fixture, and holds all tables against the
//! question. Here stands what is not a packet's fate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use xdp_lb::config::model::{Protocol, Scheduler};
use xdp_lb::dataplane::decision::{Lens as _, Question, Verdict};
use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;
use xdp_lb_common::watch::{NOBODY, Via};
use xdp_lb_tests::packet::Packet;
use xdp_lb_tests::program::SHORTEST;

use crate::director::{Director, in_a_network};
use crate::tables::{
    OTHER_PORT, PORT, PORT_MAC, VIP, Words as _, ack, client_ip, datagram, server_ip, syn, tables,
    tcp, udp,
};

/// The question about a packet of client `n` to a port of the VIP.
fn question(n: u32, port: u16, protocol: Protocol) -> Question {
    Question {
        client: SocketAddr::from((client_ip(n), 40_000)),
        vip: SocketAddr::from((VIP, port)),
        protocol,
        midstream: false,
        ifindex: PORT,
        mac: Mac::from_octets(PORT_MAC),
    }
}

fn ask(director: &mut Director, question: &Question) -> Verdict {
    let mut trace = director.ebpf().glass().trace().unwrap();
    trace.ask(question).unwrap()
}

fn server(n: u8, port: u16) -> SocketAddr {
    SocketAddr::from((server_ip(n), port))
}

#[test]
fn a_verdict_names_service_server_and_way() {
    in_a_network(|| {
        let services = [
            tcp(80).rr(2),
            tcp(81).rr(1).elsewhere(1),
            tcp(82).rr(1).local(1),
            udp(53).rr(1),
        ];
        let mut director = Director::new(&tables(services));
        let cases = [
            (
                80,
                Protocol::Tcp,
                Reason::TxScheduled,
                Some(server(2, 80)),
                Some(PORT),
            ),
            (
                81,
                Protocol::Tcp,
                Reason::RedirectScheduled,
                Some(server(1, 81)),
                Some(OTHER_PORT),
            ),
            (82, Protocol::Tcp, Reason::Local, Some(server(1, 82)), None),
            (
                53,
                Protocol::Udp,
                Reason::TxScheduled,
                Some(server(1, 53)),
                Some(PORT),
            ),
            (53, Protocol::Tcp, Reason::NoService, None, None),
        ];
        for (port, protocol, reason, server, out) in cases {
            let verdict = ask(&mut director, &question(1, port, protocol));
            assert_eq!(
                (verdict.reason, verdict.server, verdict.out),
                (reason, server, out)
            );
            let name = format!("{}/{VIP}:{port}", protocol.name());
            let key = verdict.service.map(|key| key.to_string());
            assert_eq!(key, server.map(|_| name));
            assert_eq!((verdict.connection, verdict.template), (None, None));
        }
    });
}

#[test]
fn a_closed_gate_and_a_lease_that_is_over_are_told() {
    in_a_network(|| {
        let lease = Duration::from_mins(2);
        let services = [tcp(80).rr(1).inactive(), tcp(81).rr(1).leased(lease)];
        let mut director = Director::new(&tables(services));
        let closed = ask(&mut director, &question(1, 80, Protocol::Tcp));
        assert_eq!(closed.reason, Reason::NotActive);
        assert_eq!(closed.service.map(|key| key.port()), Some(80));
        let held = ask(&mut director, &question(1, 81, Protocol::Tcp));
        assert_eq!(held.reason, Reason::TxScheduled);
        director.be_silent_for(1000);
        let over = ask(&mut director, &question(1, 81, Protocol::Tcp));
        assert_eq!(over.reason, Reason::LeaseOver);
    });
}

#[test]
fn entries_are_told_with_their_age_and_what_is_left() {
    in_a_network(|| {
        let service = tcp(80).rr(2).persistent(300, 24);
        let mut director = Director::new(&tables([service.clone()]));
        let begun = Instant::now();
        director.send(&syn(1).bytes().unwrap());
        director.send(&ack(1).bytes().unwrap());
        let known = ask(
            &mut director,
            &Question {
                midstream: true,
                ..question(1, 80, Protocol::Tcp)
            },
        );
        assert_eq!(
            (known.reason, known.via),
            (Reason::TxConnection, Via::Connection)
        );
        let entry = known.connection.unwrap();
        assert_eq!((entry.state, entry.server), ("ESTABLISHED", known.server));
        // A tick is up to a second, and the question loads programs first.
        let age = u32::try_from(begun.elapsed().as_secs()).unwrap() + 3;
        assert!(entry.age_s <= age && entry.timeout_s == 900, "{entry:?}");
        assert!((900 - age..=900).contains(&entry.expires_s), "{entry:?}");
        let template = known.template.unwrap();
        assert_eq!((template.state, template.server), ("ASSURED", known.server));
        assert!(
            template.timeout_s == 300 && !template.is_void,
            "{template:?}"
        );

        // Another port of the client has no connection, and the client's template.
        let mut other = question(1, 80, Protocol::Tcp);
        other.client.set_port(0);
        let sticky = ask(&mut director, &other);
        assert_eq!(
            (sticky.reason, sticky.via),
            (Reason::TxPersistent, Via::Persistent)
        );
        assert_eq!(sticky.connection, None);

        let Some(SocketAddr::V4(kept)) = known.server else {
            panic!("no server");
        };
        let number = kept.ip().octets()[3];
        director.set(&tables([service.fail(number)]));
        let void = ask(&mut director, &question(1, 80, Protocol::Tcp));
        assert_eq!(void.reason, Reason::TxScheduled);
        assert_ne!(void.server, known.server);
        assert!(void.connection.is_some_and(|entry| entry.is_void));
    });
}

/// Each scheduler: the answer is what the next packet gets, however often one asks before.
#[test]
fn no_scheduler_takes_a_step_for_a_question() {
    in_a_network(|| {
        // One of them throws dice.
        let steady = |scheduler: &Scheduler| *scheduler != Scheduler::TwoChoices;
        for scheduler in Scheduler::ALL.into_iter().filter(steady) {
            let service = tcp(80).wrr(&[3, 2, 1, 2]).by(scheduler).limit(2, 3, 1);
            let mut director = Director::new(&tables([service]));
            let mut trace = director.ebpf().glass().trace().unwrap();
            for client in 1..=12 {
                let before = director.eyes().memory();
                let foreseen = trace.ask(&question(client, 80, Protocol::Tcp)).unwrap();
                let again = trace.ask(&question(client, 80, Protocol::Tcp)).unwrap();
                assert_eq!(foreseen, again);
                assert_eq!(before.difference(&director.eyes().memory()), None);
                director.send(&syn(client).bytes().unwrap());
                director.send(&ack(client).bytes().unwrap());
                let midstream = Question {
                    midstream: true,
                    ..question(client, 80, Protocol::Tcp)
                };
                let known = trace.ask(&midstream).unwrap();
                assert_eq!(
                    known.server, foreseen.server,
                    "{scheduler:?}, client {client}"
                );
            }
        }
    });
}

/// A packet cut at each length, and with each octet changed: the answer is what happens.
#[test]
fn whatever_comes_is_foreseen() {
    in_a_network(|| {
        let director = Director::looking(&tables([tcp(80).rr(2), udp(80).rr(2)]));
        let whole = |packet: Packet| packet.payload(&[7; 8]).bytes().unwrap();
        for frame in [whole(syn(1)), whole(datagram(2)), whole(ack(3))] {
            let cut = (SHORTEST..=frame.len()).map(|length| frame[..length].to_vec());
            let changed = (0..frame.len()).map(|at| {
                let mut frame = frame.clone();
                frame[at] ^= 0x11;
                frame
            });
            for frame in cut.chain(changed) {
                let foreseen = director.foresee(&frame).unwrap();
                let before = director.eyes().tally();
                director.send(&frame);
                let counted = director.eyes().tally().since(&before);
                let reason = counted.reasons.keys().next().copied();
                assert_eq!(foreseen.reason(), reason, "{frame:02x?}");
                let backend = counted.backends.keys().next().copied();
                assert_eq!(foreseen.backend, backend.unwrap_or(NOBODY), "{frame:02x?}");
            }
        }
    });
}
