//! What becomes of packets.

use std::time::Duration;

use proptest::prelude::*;
use xdp_lb_common::reason::{Event, Reason, Verdict as Action};

use super::*;
use crate::config::model::{ConnectionLimit, Persistence};

const ROUND_ROBIN: Scheduler = Scheduler::RoundRobin;

fn sticky(mut service: Service, seconds: u64, prefix_len: u8) -> Service {
    service.persistence = Some(Persistence {
        timeout: Duration::from_secs(seconds),
        prefix_len,
    });
    service
}

#[test]
fn a_connection_keeps_its_server_until_it_ends() {
    let mut director = Director::new(&service(ROUND_ROBIN, &[1, 1]));
    for (packet, expected) in [
        (tcp(1, ACK), (Reason::NoConnection, 0)),
        (tcp(1, SYN), (Reason::TxScheduled, 2)),
        (tcp(1, SYN), (Reason::TxConnection, 2)),
        (tcp(2, SYN), (Reason::TxScheduled, 1)),
        (tcp(1, ACK), (Reason::TxConnection, 2)),
        (tcp(1, FIN_ACK), (Reason::TxConnection, 2)),
        (tcp(1, ACK), (Reason::TxConnection, 2)),
        // The turn was that of server 2, and a new connection is a new one.
        (tcp(3, SYN), (Reason::TxScheduled, 2)),
        (tcp(1, SYN), (Reason::TxScheduled, 1)),
        (tcp(1, RST), (Reason::TxConnection, 1)),
        (udp(1), (Reason::TxScheduled, 2)),
        (udp(1), (Reason::TxConnection, 2)),
    ] {
        assert_eq!(director.send(packet), expected);
    }
}

/// Each state lives as long as its timeout says, to the tick, across the wrap of the clock.
#[test]
fn each_state_has_its_timeout() {
    let lives: [(&[Made], u32); 6] = [
        (&[tcp(1, SYN)], TIMEOUTS.syn),
        (&[tcp(1, SYN), tcp(1, RST)], TIMEOUTS.syn),
        (&[tcp(1, SYN), tcp(1, ACK)], TIMEOUTS.established),
        (&[tcp(1, SYN), tcp(1, FIN_ACK)], TIMEOUTS.fin),
        (&[tcp(1, SYN), tcp(1, ACK), tcp(1, RST)], TIMEOUTS.closed),
        (
            &[tcp(1, SYN), tcp(1, ACK), tcp(1, RST), tcp(1, ACK)],
            TIMEOUTS.established,
        ),
    ];
    for (packets, life) in lives {
        for (passed, reason) in [
            (life, Reason::TxConnection),
            (life + 1, Reason::NoConnection),
        ] {
            let mut director = Director::new(&service(ROUND_ROBIN, &[1]));
            for packet in packets {
                director.send(*packet);
            }
            assert_eq!(
                director.later(passed).send(tcp(1, ACK)).0,
                reason,
                "{life} {passed}"
            );
        }
    }
}

#[test]
fn a_client_sticks_to_its_server_as_long_as_it_comes() {
    // 50 s are 98 ticks of 512 ms.
    let mut director = Director::new(&sticky(service(ROUND_ROBIN, &[1, 1]), 50, 24));
    assert_eq!(director.send(tcp(1, SYN)), (Reason::TxScheduled, 2));
    assert_eq!(
        director.later(98).send(tcp(2, SYN)),
        (Reason::TxPersistent, 2)
    );
    assert_eq!(director.send(tcp(0x100, SYN)), (Reason::TxScheduled, 1));
    // In the middle of a connection that is not known it is known where the client went.
    assert_eq!(
        director.later(98).send(tcp(3, ACK)),
        (Reason::TxPersistent, 2)
    );
    assert_eq!(
        director.later(99).send(tcp(4, ACK)),
        (Reason::NoConnection, 0)
    );
    assert_eq!(director.send(tcp(4, SYN)), (Reason::TxScheduled, 2));
}

#[test]
fn what_was_of_a_server_that_failed_is_void() {
    let mut service = sticky(service(ROUND_ROBIN, &[1, 1]), 50, 32);
    let mut director = Director::new(&service);
    for client in [1, 2, 3, 4] {
        director.send(tcp(client, SYN));
        director.send(tcp(client, ACK));
    }
    service.servers[0].serving = false;
    director.set(&service);
    assert_eq!(director.send(tcp(1, ACK)), (Reason::Purged, 0));
    assert_eq!(director.send(tcp(2, ACK)), (Reason::TxConnection, 1));
    assert_eq!(director.send(tcp(1, SYN)), (Reason::TxScheduled, 1));
    service.servers[0].serving = true;
    director.set(&service);
    // Back, it knows nothing of what it had.
    assert_eq!(director.send(tcp(3, ACK)), (Reason::Purged, 0));
    assert_eq!(director.send(tcp(1, ACK)), (Reason::TxConnection, 1));
}

#[test]
fn a_server_that_releases_its_clients_keeps_their_connections() {
    let mut service = sticky(service(ROUND_ROBIN, &[1, 1]), 50, 32);
    let mut director = Director::new(&service);
    assert_eq!(director.send(tcp(1, SYN)), (Reason::TxScheduled, 2));
    service.servers[0].releases_clients = true;
    service.servers[0].weight = 0;
    director.set(&service);
    assert_eq!(director.send(tcp(1, ACK)), (Reason::TxConnection, 2));
    assert_eq!(director.send(tcp(1, SYN).port(1)), (Reason::TxScheduled, 1));
    assert_eq!(
        director.send(tcp(1, SYN).port(2)),
        (Reason::TxPersistent, 1)
    );
}

#[test]
fn each_datagram_of_a_one_packet_service_is_scheduled() {
    let mut service = service(ROUND_ROBIN, &[1, 1]);
    service.one_packet = true;
    let mut director = Director::new(&service);
    let servers = [2, 1, 2].map(|server| (Reason::TxScheduled, server));
    assert_eq!([udp(1); 3].map(|packet| director.send(packet)), servers);
    assert!(director.memory.connection_ways().is_empty());
}

#[test]
fn limits_rest_a_server_until_it_fell_to_the_lower_one() {
    let mut service = service(Scheduler::FailOver, &[1, 2]);
    service.servers[0].limit = Some(ConnectionLimit {
        upper: 2.try_into().unwrap(),
        lower: 1,
    });
    let mut director = Director::new(&service);
    assert_eq!(director.connect(1..5), [2, 2, 1, 1]);
    director.later(TIMEOUTS.syn + 1).memory.tend().unwrap();
    assert_eq!(director.connect(1..4), [2, 2, 1]);
}

#[test]
fn the_gate_the_lease_and_the_macs_are_looked_at_in_this_order() {
    let mut service = service(ROUND_ROBIN, &[1]);
    service.lease = Some(Duration::from_secs(10));
    let mut director = Director::new(&service);
    let mut frame = tcp(1, SYN).bytes();
    frame[6..12].copy_from_slice(&server_mac(1));
    assert_eq!(director.frame(&frame).reason, Reason::AlreadyBalanced);
    frame[..6].copy_from_slice(&ROUTER_MAC);
    assert_eq!(director.frame(&frame).reason, Reason::OtherHost);
    director.later(21);
    assert_eq!(director.frame(&frame).reason, Reason::LeaseOver);
    service.active = false;
    director.set(&service);
    assert_eq!(director.frame(&frame).reason, Reason::NotActive);
}

/// Its own packets are a server's affair: it is a client like others.
#[test]
fn a_host_of_the_pool_may_be_a_client() {
    let mut director = Director::new(&service(ROUND_ROBIN, &[1, 1]));
    let mut frame = tcp(1, SYN).bytes();
    frame[6..12].copy_from_slice(&server_mac(1));
    frame[26..30].copy_from_slice(&[192, 168, 1, 1]);
    assert_eq!(director.frame(&frame).reason, Reason::TxScheduled);
    frame[26..30].copy_from_slice(&[192, 168, 1, 2]);
    assert_eq!(director.frame(&frame).reason, Reason::AlreadyBalanced);
}

#[test]
fn a_packet_without_a_hop_left_goes_to_this_director_alone() {
    let mut service = service(ROUND_ROBIN, &[1]);
    let mut director = Director::new(&service);
    for (ttl, reason) in [
        (2, Reason::TxScheduled),
        (1, Reason::TxTimeExceeded),
        (0, Reason::TxTimeExceeded),
    ] {
        let client = u16::from(ttl);
        let verdict = director.frame(&tcp(client, SYN).ttl(ttl).bytes());
        assert_eq!(verdict.reason, reason);
        assert_eq!(verdict.frame.is_none(), reason.verdict() == Action::Drop);
    }
    service.servers[0].reach = Some(Reach::Local);
    director.set(&service);
    assert_eq!(director.send(tcp(9, SYN).ttl(1)), (Reason::Local, 1));
}

#[test]
fn a_server_behind_another_port_is_sent_to_if_there_is_such_a_port() {
    let mut service = service(ROUND_ROBIN, &[1]);
    let direct = |ifindex| {
        Some(Reach::Direct {
            ifindex,
            source_mac: Mac::from_octets([2, 0, 0, 0, 0, 4]),
            mac: Mac::from_octets(server_mac(1)),
            on_link: true,
        })
    };
    service.servers[0].reach = direct(OTHER_PORT);
    let mut director = Director::new(&service);
    let verdict = director.frame(&tcp(1, SYN).bytes());
    assert_eq!(
        (verdict.reason, verdict.port),
        (Reason::RedirectScheduled, Some(OTHER_PORT))
    );
    let frame = verdict.frame.unwrap();
    assert_eq!(
        (&frame[..6], &frame[6..12]),
        (&server_mac(1)[..], &[2, 0, 0, 0, 0, 4][..])
    );
    service.servers[0].reach = direct(77);
    director.set(&service);
    assert_eq!(director.send(tcp(1, ACK)), (Reason::RedirectFailed, 1));
}

/// SYNs give way to SYNs, never a connection that is established.
#[test]
fn a_full_table_gives_unconfirmed_connections_away() {
    let mut director = Director::new(&service(ROUND_ROBIN, &[1, 1]));
    for client in 0..100 {
        director.send(tcp(client, SYN));
        director.send(tcp(client, ACK));
    }
    for client in 1000..20_000 {
        director.send(tcp(client, SYN));
    }
    let counters = director.memory.counters().unwrap();
    assert_eq!(counters.tables["connections"].entries, 2048);
    assert!(counters.events[&Event::Evicted] > 10_000);
    assert_eq!(counters.events[&Event::NoWay], 0);
    for client in 0..100 {
        assert_eq!(
            director.send(tcp(client, ACK)).0,
            Reason::TxConnection,
            "{client}"
        );
    }
    let counters = director.memory.counters().unwrap();
    let live: u64 = counters.servers.values().map(|server| server.active).sum();
    assert_eq!(live, 2048);
}

/// What finds no way goes to the same server with every packet.
#[test]
fn a_connection_that_finds_no_way_has_its_server_still() {
    let mut director = Director::new(&service(ROUND_ROBIN, &[1, 1, 1]));
    for client in 0..3000 {
        director.send(tcp(client, SYN));
        director.send(tcp(client, ACK));
    }
    let counters = director.memory.counters().unwrap();
    assert!(counters.events[&Event::NoWay] > 100);
    let mut stateless = 0;
    for client in 0..3000 {
        let first = director.send(tcp(client, ACK));
        stateless += usize::from(first.0 == Reason::TxStateless);
        assert!(
            matches!(first.0, Reason::TxStateless | Reason::TxConnection),
            "{client} {first:?}"
        );
        assert_eq!(director.send(tcp(client, ACK)).1, first.1);
    }
    assert!(stateless > 100);
}

proptest! {
    /// A router's arithmetic, for any header: the checksum is as right as it was.
    #[test]
    fn a_frame_that_goes_out_differs_in_macs_hops_and_checksum(
        client: u16, ttl in 2_u8..=255, tos: u8, id: u16, off in prop::option::of(1_u16..),
    ) {
        let mut director = Director::new(&service(ROUND_ROBIN, &[1]));
        let mut frame = tcp(client, SYN).ttl(ttl).bytes();
        frame[15] = tos;
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        let sum = |frame: &[u8]| {
            let (header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap();
            header.calc_header_checksum()
        };
        let right = sum(&frame);
        let written = off.map_or(right, |off| right.wrapping_add(off));
        frame[24..26].copy_from_slice(&written.to_be_bytes());
        let sent = director.frame(&frame).frame.unwrap();
        let found = u16::from_be_bytes([sent[24], sent[25]]);
        if off.is_none() {
            // Zero has two names in one's complement.
            prop_assert!(found == sum(&sent) || (found ^ sum(&sent)) == 0xffff);
        } else {
            prop_assert_ne!(found, sum(&sent));
        }
        let differs: Vec<_> = (0..frame.len()).filter(|at| frame[*at] != sent[*at]).collect();
        prop_assert!(differs.iter().all(|at| *at < 12 || [22, 24, 25].contains(at)), "{:?}", differs);
        prop_assert_eq!(sent[22], ttl - 1);
    }

    /// Whatever a frame is, something becomes of it.
    #[test]
    fn no_frame_is_too_odd(
        octets in prop::collection::vec(any::<u8>(), 0..100), cut in 0_usize..60, at in 0_usize..54,
        with: u8,
    ) {
        let mut director = Director::new(&service(ROUND_ROBIN, &[1]));
        director.frame(&octets);
        let mut frame = tcp(1, SYN).bytes();
        frame[at] = with;
        frame.truncate(cut);
        let verdict = director.frame(&frame);
        prop_assert!(cut >= 54 || verdict.action == Action::Pass);
    }
}
