//! Raw sockets that carry adverts.

use std::net::Ipv6Addr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use xdp_lb::net::vrrp_socket::{
    AsyncReceiver, Error, GROUP_V4, GROUP_V6, Listen, Packet, Receiver, Sender, TTL,
};

use crate::frames::{SOON, bytes, captured_pair, frame, ip, sniffer};
use crate::support::can_run;

/// From keepalived 2.2.7: VRID 51, priority 150, VIP 10.9.0.50, password "s3cr3t", from 10.9.0.11.
const ADVERT: &str = "2133960101013375 0a090032 7333637233740000";

fn wait_readable(receiver: &Receiver) {
    let mut fds = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
    let ready = poll(&mut fds, PollTimeout::try_from(SOON).unwrap()).unwrap();
    assert_eq!(ready, 1, "nothing arrived");
}

/// What a receiver gets next, as text.
fn next(receiver: &mut Receiver) -> String {
    wait_readable(receiver);
    let mut seen = Vec::new();
    let drained = receiver
        .drain(1, |packet| seen.push(format!("{packet:x?}")))
        .unwrap();
    assert_eq!(drained.packets, 1);
    seen.remove(0)
}

fn nothing_for(receiver: &mut Receiver, why: &str) {
    let mut seen = Vec::new();
    let drained = receiver.drain(1, |packet| seen.push(format!("{packet:x?}")));
    assert!(seen.is_empty(), "{why}: {seen:?}");
    assert!(!drained.unwrap().more);
}

#[test]
fn adverts_over_ipv4_are_on_the_wire_as_keepalived_sends_them() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    let sniffer = sniffer(&other);
    one.enter(|| {
        let mut sender = Sender::open("eth0", ip("10.9.0.11"), TTL).unwrap();
        sender.send(&bytes(ADVERT), GROUP_V4.into()).unwrap();
        sender.send(&bytes(ADVERT), ip("10.9.0.12")).unwrap();
    });
    let is_vrrp = |frame: &[u8]| frame[12..14] == [8, 0] && frame[23] == 112;
    let multicast = "01005e000012 020000000001 0800 45c0002800010000ff70d07e0a09000be0000012";
    // The second of a sender: its identification is 2, and the checksum one less.
    let unicast = "020000000002 020000000001 0800 45c0002800020000ff70a67b0a09000b0a09000c";
    for header in [multicast, unicast] {
        let expected = bytes(&format!("{header}{ADVERT}"));
        assert_eq!(frame(&sniffer, is_vrrp), expected);
    }
}

#[test]
fn adverts_over_ipv6_are_on_the_wire_as_keepalived_sends_them() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    let sniffer = sniffer(&other);
    let advert = "3133960200643f0cfe800000000000000000000000000050fd000009000000000000000000000050";
    one.enter(|| {
        let mut sender = Sender::open("eth0", ip("fe80::ff:fe00:1"), TTL).unwrap();
        sender.send(&bytes(advert), GROUP_V6.into()).unwrap();
    });
    let is_vrrp = |frame: &[u8]| frame[12..14] == [0x86, 0xdd] && frame[20] == 112;
    let header = "333300000012 020000000001 86dd 6c000000002870ff\
                  fe80000000000000000000fffe000001 ff020000000000000000000000000012";
    assert_eq!(
        frame(&sniffer, is_vrrp),
        bytes(&format!("{header}{advert}"))
    );
}

#[test]
fn what_was_sent_to_the_group_arrives_whole_and_once_and_not_at_the_sender() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    let group = Listen::Group(GROUP_V4.into());
    let mut here = other.enter(|| Receiver::open("eth0", group, Some(1 << 16)).unwrap());
    let mut own = one.enter(|| Receiver::open("eth0", group, None).unwrap());
    let mut unicast =
        other.enter(|| Receiver::open("eth0", Listen::Own(ip("10.9.0.12")), None).unwrap());
    one.enter(|| {
        let mut sender = Sender::open("eth0", ip("10.9.0.11"), TTL).unwrap();
        sender.send(&bytes(ADVERT), GROUP_V4.into()).unwrap();
        sender.send(&bytes(ADVERT), ip("10.9.0.12")).unwrap();
        sender.send(&bytes(ADVERT), ip("224.0.0.99")).unwrap();
    });
    let multicast = bytes(&format!("45c0002800010000ff70d07e0a09000be0000012{ADVERT}"));
    assert_eq!(next(&mut here), format!("{:x?}", Packet::V4(&multicast)));
    let alone = bytes(&format!("45c0002800020000ff70a67b0a09000b0a09000c{ADVERT}"));
    assert_eq!(next(&mut unicast), format!("{:x?}", Packet::V4(&alone)));
    nothing_for(&mut here, "sent to another address");
    nothing_for(&mut unicast, "sent to a group");
    nothing_for(&mut own, "looped back");
}

#[test]
fn over_ipv6_addresses_and_hop_limit_come_with_the_payload() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    let group = Listen::Group(GROUP_V6.into());
    let mut here = other.enter(|| Receiver::open("eth0", group, None).unwrap());
    // An address that nobody has yet may be listened on.
    let mut unicast =
        other.enter(|| Receiver::open("eth0", Listen::Own(ip("fd77::12")), None).unwrap());
    other.ip("addr add fd77::12/64 dev eth0 nodad");
    one.ip("addr add fd77::11/64 dev eth0 nodad");
    one.enter(|| {
        let mut sender = Sender::open("eth0", ip("fe80::1"), 254).unwrap();
        sender.send(&[1, 2, 3], GROUP_V6.into()).unwrap();
        let mut sender = Sender::open("eth0", ip("fd77::11"), TTL).unwrap();
        sender.send(&[4, 5], ip("fd77::12")).unwrap();
    });
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap();
    let multicast = Packet::V6 {
        payload: &[1, 2, 3],
        hop_limit: 254,
        source: v6("fe80::1"),
        destination: GROUP_V6,
    };
    assert_eq!(next(&mut here), format!("{multicast:x?}"));
    let alone = Packet::V6 {
        payload: &[4, 5],
        hop_limit: 255,
        source: v6("fd77::11"),
        destination: v6("fd77::12"),
    };
    assert_eq!(next(&mut unicast), format!("{alone:x?}"));
    nothing_for(&mut here, "sent to another address");
}

#[test]
fn a_task_waits_for_adverts_without_a_thread() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    other.block_on(async || {
        let receiver = Receiver::open("eth0", Listen::Group(GROUP_V4.into()), None).unwrap();
        let mut receiver = AsyncReceiver::new(receiver).unwrap();
        let send = |count: usize| {
            one.enter(|| {
                let mut sender = Sender::open("eth0", ip("10.9.0.11"), TTL).unwrap();
                for _ in 0..count {
                    sender.send(&bytes(ADVERT), GROUP_V4.into()).unwrap();
                }
            });
        };
        // More than one budget, and again after the socket was found empty.
        for count in [3, 1, 2] {
            let empty = tokio::time::timeout(Duration::ZERO, receiver.drain(2, |_| ())).await;
            assert!(empty.is_err(), "{empty:?}");
            send(count);
            let mut received = 0;
            while received < count {
                let waited = tokio::time::timeout(SOON, receiver.drain(2, |_| ())).await;
                received += waited.unwrap().unwrap().packets;
            }
            assert_eq!(received, count);
        }
    });
}

/// Between two timers, and adverts while they run.
const EVERY: Duration = Duration::from_millis(10);
const FORGED: u32 = 20_000;

#[test]
fn a_flood_delays_no_timer_and_takes_no_memory() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    let group = Listen::Group(GROUP_V4.into());
    let mut receiver = other.enter(|| Receiver::open("eth0", group, Some(1 << 18)).unwrap());
    let sent_all = AtomicBool::new(false);
    let (received, lateness) = std::thread::scope(|scope| {
        scope.spawn(|| {
            one.enter(|| flood(FORGED));
            sent_all.store(true, Ordering::Release);
        });
        let mut due = Instant::now() + EVERY;
        let mut lateness = Vec::new();
        let mut received = 0;
        loop {
            let now = Instant::now();
            if now >= due {
                lateness.push(now - due);
                due = now + EVERY;
            }
            let ended = sent_all.load(Ordering::Acquire);
            let drained = receiver.drain(32, |_| ()).unwrap();
            received += drained.packets;
            if ended && !drained.more {
                break (received, lateness);
            }
            if !drained.more {
                let mut fds = [PollFd::new(receiver.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::from(5_u8)).unwrap();
            }
        }
    });
    let late = lateness
        .iter()
        .filter(|late| **late > Duration::from_millis(50));
    let (late, timers) = (late.count(), lateness.len());
    let worst = lateness.iter().max();
    eprintln!(
        "{received} of {FORGED} forged adverts read, {late} of {timers} timers late: {worst:?}"
    );
    assert!(received > 0);
    // A busy machine delays some whatever is received.
    assert!(late * 10 < timers, "{lateness:?}");
}

/// Forged adverts, 10,000 a second.
fn flood(count: u32) {
    let mut sender = Sender::open("eth0", ip("10.9.0.66"), TTL).unwrap();
    let advert = bytes(ADVERT);
    let start = Instant::now();
    for n in 0..count {
        let due = Duration::from_micros(100) * n;
        while start.elapsed() < due {
            std::thread::sleep(Duration::from_micros(500));
        }
        sender.send(&advert, GROUP_V4.into()).unwrap();
    }
}

#[test]
fn a_budget_ends_a_drain_whatever_waits() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    let group = Listen::Group(GROUP_V4.into());
    let mut receiver = other.enter(|| Receiver::open("eth0", group, None).unwrap());
    one.enter(|| {
        let mut sender = Sender::open("eth0", ip("10.9.0.11"), TTL).unwrap();
        for _ in 0..5 {
            sender.send(&bytes(ADVERT), GROUP_V4.into()).unwrap();
        }
    });
    wait_readable(&receiver);
    for (packets, more) in [(2, true), (2, true), (1, false), (0, false)] {
        let drained = receiver.drain(2, |_| ()).unwrap();
        assert_eq!((drained.packets, drained.more), (packets, more));
    }
}

#[test]
fn what_does_not_fit_is_counted() {
    if !can_run() {
        return;
    }
    let (one, other) = captured_pair();
    let group = Listen::Group(GROUP_V4.into());
    let mut receiver = other.enter(|| Receiver::open("eth0", group, Some(4096)).unwrap());
    let send = |count: usize| {
        one.enter(|| {
            let mut sender = Sender::open("eth0", ip("10.9.0.11"), TTL).unwrap();
            for _ in 0..count {
                sender.send(&bytes(ADVERT), GROUP_V4.into()).unwrap();
            }
        });
    };
    send(1000);
    wait_readable(&receiver);
    let first = receiver.drain(10_000, |_| ()).unwrap();
    assert!(first.packets < 100, "{first:?}");
    // The next one that has room brings the count.
    send(1);
    wait_readable(&receiver);
    let second = receiver.drain(10_000, |_| ()).unwrap();
    assert_eq!(first.packets + second.packets + second.lost as usize, 1001);
}

#[test]
fn what_cannot_be_opened_or_sent_says_why() {
    if !can_run() {
        return;
    }
    let (one, _other) = captured_pair();
    one.enter(|| {
        let group = Listen::Group(GROUP_V4.into());
        let missing = Receiver::open("eth7", group, None).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot open a VRRP socket on eth7: cannot find the interface: \
             No such device (os error 19)"
        );
        let mut sender = Sender::open("eth0", ip("10.9.0.11"), TTL).unwrap();
        let mixed = sender.send(&[0], GROUP_V6.into()).unwrap_err();
        assert!(matches!(mixed, Error::Families { .. }), "{mixed}");
        assert!(matches!(
            sender.set_source(ip("fe80::1")),
            Err(Error::Families { .. })
        ));
        sender.set_source(ip("10.9.0.13")).unwrap();
        assert_eq!(sender.source(), ip("10.9.0.13"));
    });
    one.ip("link set eth0 down");
    one.enter(|| {
        let mut sender = Sender::open("eth0", ip("10.9.0.11"), TTL).unwrap();
        let down = sender.send(&bytes(ADVERT), GROUP_V4.into()).unwrap_err();
        assert!(matches!(down, Error::Send { .. }), "{down}");
        eprintln!("{down}");
    });
}
