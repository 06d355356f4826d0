//! Two directors that are each other's real servers: whoever gets a packet balances it, and whoever is
//! handed one serves it.

use std::collections::BTreeMap;

use xdp_lb::plan::desired::{Desired, Reach};
use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::Packet;
use xdp_lb_tests::program::Action;

use crate::director::{Director, in_a_network};
use crate::tables::{PORT, Words as _, ack, server_mac, syn, tables, tcp};

/// The tables of director `me` of 1 and 2; both own the VIP.
fn of(me: u8) -> Desired {
    let other = 3 - me;
    let service = tcp(80).wrr(&[1, 5]).persistent(50, 32);
    let mut tables = tables([service.local(me).peer(other)]);
    let mine = Mac::from_octets(server_mac(me));
    if let Some(port) = tables.ports.get_mut(&PORT) {
        port.mac = mine;
    }
    let services = tables.services.values_mut();
    for server in services.flat_map(|service| &mut service.servers) {
        if let Some(Reach::Direct { source_mac, .. }) = &mut server.reach {
            *source_mac = mine;
        }
    }
    tables
}

/// What became of a frame, and why.
fn meets(director: &Director, frame: &[u8]) -> (Action, Reason, Vec<u8>) {
    let before = director.eyes().tally();
    let outcome = director.send(frame);
    let counted = director.eyes().tally().since(&before);
    assert_eq!(counted.packets(), 1);
    let reason = counted.reasons.into_keys().next().unwrap();
    (outcome.action, reason, outcome.frame)
}

/// A client's packet at director `first`: the director that serves it. Whatever goes to the other one
/// must reach that one's stack as it was sent.
fn served_by(directors: &[Director; 2], first: u8, packet: Packet) -> u8 {
    let at = |n: u8| &directors[usize::from(n) - 1];
    let frame = packet.to_mac(server_mac(first)).bytes().unwrap();
    let (action, reason, sent) = meets(at(first), &frame);
    if action == Action::Pass {
        assert_eq!(reason, Reason::Local);
        assert_eq!(sent, frame, "untouched");
        return first;
    }
    assert_eq!(action, Action::Tx, "{reason:?}");
    let second = 3 - first;
    assert_eq!(sent[..6], server_mac(second));
    assert_eq!(sent[6..12], server_mac(first));
    let (action, reason, kept) = meets(at(second), &sent);
    assert_eq!((action, reason), (Action::Pass, Reason::AlreadyBalanced));
    assert_eq!(kept, sent, "untouched");
    second
}

#[test]
fn no_packet_bounces_while_both_are_master() {
    in_a_network(|| {
        let directors = [1, 2].map(|me| Director::new(&of(me)));
        for first in [1, 2] {
            let mut served = BTreeMap::new();
            for number in 0..60 {
                // Not the clients of the other turn.
                let client = u32::from(first) * 1000 + number;
                let server = served_by(&directors, first, syn(client));
                *served.entry(server).or_insert(0) += 1;
                // The rest of the connection, and the next one of a client that sticks.
                for packet in [ack(client), syn(client).port(50_000)] {
                    assert_eq!(served_by(&directors, first, packet), server);
                }
            }
            assert_eq!(served, [(1, 10), (2, 50)].into(), "first at {first}");
        }
    });
}

#[test]
fn what_a_master_sends_a_backup_serves_and_the_other_way_round() {
    in_a_network(|| {
        let mut directors = [1, 2].map(|me| Director::new(&of(me)));
        let mut backup = of(2);
        for service in backup.services.values_mut() {
            service.active = false;
        }
        directors[1].set(&backup);
        let [master, backup] = &directors;
        let passed = (0..6).map(|client| {
            let frame = syn(client).to_mac(server_mac(1)).bytes().unwrap();
            let (action, _, sent) = meets(master, &frame);
            if action == Action::Pass {
                return None;
            }
            let (action, reason, _) = meets(backup, &sent);
            assert_eq!((action, reason), (Action::Pass, Reason::NotActive));
            Some(())
        });
        assert_eq!(passed.flatten().count(), 5);
    });
}
