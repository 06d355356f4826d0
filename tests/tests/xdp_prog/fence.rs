//! Gates that close by themselves when the agent gives no sign of life, and those that do not.

use std::time::Duration;

use xdp_lb::dataplane::Dataplane as _;
use xdp_lb_common::lease;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::Packet;

use crate::director::{Director, in_a_network};
use crate::tables::{Words as _, ack, syn, tables, tcp};

/// So long that no test lasts for a noticeable part of it.
const LEASE: Duration = Duration::from_hours(1);

/// The reason by which a packet leaves.
fn reason(director: &Director, packet: &Packet) -> Reason {
    let before = director.eyes().tally();
    director.send(&packet.bytes().unwrap());
    let counted = director.eyes().tally().since(&before);
    assert_eq!(counted.packets(), 1);
    counted.reasons.into_keys().next().unwrap()
}

/// A lease in ticks.
fn ticks(director: &Director, lease: Duration) -> u32 {
    let millis = u32::try_from(lease.as_millis()).unwrap();
    lease::ticks(director.clock(), millis)
}

#[test]
fn a_gate_closes_when_its_lease_ends_and_opens_with_the_next_heartbeat() {
    in_a_network(|| {
        let mut director = Director::new(&tables([
            tcp(80).rr(1).leased(LEASE),
            tcp(81).rr(1).leased(2 * LEASE),
            tcp(82).rr(1),
        ]));
        let leased = ticks(&director, LEASE);
        let longer = ticks(&director, 2 * LEASE);
        assert_eq!(reason(&director, &syn(1)), Reason::TxScheduled);
        for (silent, at_80, at_81) in [
            (0, Reason::TxConnection, Reason::NoConnection),
            (leased / 2, Reason::TxConnection, Reason::NoConnection),
            (leased + 1, Reason::LeaseOver, Reason::NoConnection),
            (longer + 1, Reason::LeaseOver, Reason::LeaseOver),
            // The ticks of the tables have come round, once and often.
            (1 << 24, Reason::LeaseOver, Reason::LeaseOver),
            (9 << 24, Reason::LeaseOver, Reason::LeaseOver),
        ] {
            director.be_silent_for(silent);
            assert_eq!(reason(&director, &ack(1)), at_80, "silent for {silent}");
            let second = ack(1).to_port(81);
            assert_eq!(reason(&director, &second), at_81, "silent for {silent}");
            let without = ack(1).to_port(82);
            assert_eq!(reason(&director, &without), Reason::NoConnection);
        }
        director.ebpf().heartbeat().unwrap();
        assert_eq!(reason(&director, &ack(1)), Reason::TxConnection);
    });
}

#[test]
fn a_frame_of_a_fenced_vip_is_left_as_it_is() {
    in_a_network(|| {
        let mut director = Director::new(&tables([tcp(80).rr(1).leased(LEASE)]));
        let over = ticks(&director, LEASE) + 1;
        director.be_silent_for(over);
        let frame = syn(1).bytes().unwrap();
        let outcome = director.send(&frame);
        assert_eq!(outcome.action, xdp_lb_tests::program::Action::Pass);
        assert_eq!(outcome.frame, frame);
        assert!(director.eyes().ways(&syn(1)).is_empty());
    });
}

#[test]
fn a_lease_comes_and_goes_with_the_file() {
    in_a_network(|| {
        let without = tables([tcp(80).rr(1)]);
        let mut director = Director::new(&without);
        let over = ticks(&director, LEASE) + 1;
        director.be_silent_for(over);
        assert_eq!(reason(&director, &syn(1)), Reason::TxScheduled);
        director.set(&tables([tcp(80).rr(1).leased(LEASE)]));
        assert_eq!(reason(&director, &ack(1)), Reason::LeaseOver);
        director.set(&without);
        assert_eq!(reason(&director, &ack(1)), Reason::TxConnection);
    });
}

#[test]
fn a_successor_within_the_lease_finds_the_gate_open_and_renews_it() {
    in_a_network(|| {
        let wanted = tables([tcp(80).rr(1).leased(LEASE)]);
        let mut director = Director::new(&wanted);
        assert_eq!(reason(&director, &syn(1)), Reason::TxScheduled);
        let leased = ticks(&director, LEASE);
        director.be_silent_for(leased / 2);
        director.reopen();
        let silent = director.silent_for();
        assert!(
            silent < leased.cast_signed() / 4,
            "it speaks at once: {silent}"
        );
        let services = &director.ebpf().inherited().services;
        assert_eq!(services.values().collect::<Vec<_>>(), [&true]);
        assert_eq!(reason(&director, &ack(1)), Reason::TxConnection);
    });
}

#[test]
fn a_successor_after_the_lease_keeps_the_gate_closed_until_it_owns_the_vip() {
    in_a_network(|| {
        let wanted = tables([tcp(80).rr(1).leased(LEASE), tcp(81).rr(1)]);
        let mut director = Director::new(&wanted);
        assert_eq!(reason(&director, &syn(1)), Reason::TxScheduled);
        let over = ticks(&director, LEASE) + 1;
        director.be_silent_for(over);
        director.reopen();
        director.ebpf().heartbeat().unwrap();
        assert_eq!(reason(&director, &ack(1)), Reason::NotActive);
        let other = ack(1).to_port(81);
        assert_eq!(reason(&director, &other), Reason::NoConnection);
        let inherited = director.ebpf().inherited().clone();
        let open = |port| inherited.services[&tcp(port).key];
        assert_eq!((open(80), open(81)), (false, true));
        let notes = director.ebpf().notes().join("\n");
        assert!(notes.contains("1 virtual service"), "{notes}");
        director.set(&wanted);
        assert_eq!(reason(&director, &ack(1)), Reason::TxConnection);
    });
}

/// A successor sets one service after the other, and all of them are served meanwhile.
#[test]
fn a_successor_serves_all_services_after_each_of_its_steps() {
    in_a_network(|| {
        let ports = [80, 81, 82];
        let wanted = tables(ports.map(|port| tcp(port).rr(3)));
        let mut director = Director::new(&wanted);
        for port in ports {
            let opened = reason(&director, &syn(1).to_port(port));
            assert_eq!(opened, Reason::TxScheduled);
            let known = reason(&director, &ack(1).to_port(port));
            assert_eq!(known, Reason::TxConnection);
        }
        director.reopen();
        let all = director.steps_to(&wanted);
        assert!(all.len() > ports.len(), "{all:?}");
        for change in all {
            director.apply(&change);
            for port in ports {
                let known = reason(&director, &ack(1).to_port(port));
                assert_eq!(known, Reason::TxConnection, "{port} after {change:?}");
            }
        }
    });
}
