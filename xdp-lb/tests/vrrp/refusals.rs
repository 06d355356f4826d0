//! What a router makes of datagrams that it should not listen to, and of HMACs between two of ours.

use std::net::IpAddr;
use std::time::Duration;

use xdp_lb::machine::{Machine as _, Now};
use xdp_lb::vrrp::packet::hmac::{self, Mode, Secret};
use xdp_lb::vrrp::packet::refusal::Kind;
use xdp_lb::vrrp::packet::{Datagram, HOPS, ip};
use xdp_lb::vrrp::router::{Action, Input, Router, State};
use xdp_lb::vrrp::settings::{Peer, Settings, Transport};
use xdp_lb::vrrp::{Priority, Vrid, Wall};

fn settings(host: u8, priority: u8) -> Settings {
    let (source, vips) = (
        IpAddr::from([10, 9, 0, host]),
        vec![IpAddr::from([10, 9, 0, 50])],
    );
    Settings {
        priority: Priority::new(priority).unwrap(),
        ..Settings::new("VI_1", Vrid::new(51).unwrap(), source, vips)
    }
}

fn started(settings: Settings) -> Router {
    let mut router = Router::new(Now::ZERO, settings);
    router.handle(
        Now::ZERO,
        Input::Start { predecessor: None },
        &mut Vec::new(),
    );
    router
}

/// An advert of `from` as it arrives at others.
fn advert(from: &mut Router, wall: Wall) -> Datagram {
    let settings = from.settings();
    let (source, priority) = (settings.source, settings.priority);
    let destination = settings.destinations()[0];
    let message = from.message(priority, destination, wall);
    Datagram {
        source,
        destination,
        hops: HOPS,
        message,
    }
}

/// Why `to` refuses it; `None`: it does not.
fn refusal(to: &mut Router, datagram: Datagram, wall: Wall) -> Option<Kind> {
    let before = to.snapshot().stats;
    let input = Input::Received { datagram, wall };
    to.handle(Now(Duration::from_millis(1)), input, &mut Vec::new());
    let after = to.snapshot().stats;
    let count = |stats: &xdp_lb::vrrp::router::Stats, kind| stats.refused.get(kind).copied();
    let refused = Kind::ALL
        .iter()
        .find(|kind| count(&before, kind) != count(&after, kind));
    let accepted = after.adverts_received > before.adverts_received;
    assert_eq!(refused.is_none(), accepted, "counted as one or the other");
    refused.copied()
}

fn with_hmac(host: u8, mode: Mode, send_key: u8) -> Router {
    let secret = |byte| Secret::new(vec![byte; 32]).unwrap();
    let keys = [(1, secret(1)), (2, secret(2))].into();
    let hmac = hmac::Settings {
        mode,
        send_key,
        keys,
    };
    started(Settings {
        hmac: Some(hmac),
        ..settings(host, 150)
    })
}

const WALL: Wall = Wall(Duration::from_secs(1_700_000_000));

/// A step of a migration, and a router that has taken it.
type Step = (&'static str, fn(u8) -> Router);

#[test]
fn the_three_steps_to_enforced_hmacs_never_part_a_pair() {
    let plain = || started(settings(11, 150));
    let steps: [Step; 4] = [
        ("receive-only", |host| with_hmac(host, Mode::ReceiveOnly, 1)),
        ("permissive", |host| with_hmac(host, Mode::Permissive, 1)),
        ("enforce", |host| with_hmac(host, Mode::Enforce, 1)),
        ("enforce, the next key", |host| {
            with_hmac(host, Mode::Enforce, 2)
        }),
    ];
    let mut before = plain();
    for (step, with) in steps {
        // One director is a step ahead of the other; each hears the other.
        let mut ahead = with(12);
        let datagram = advert(&mut before, WALL);
        assert_eq!(refusal(&mut ahead, datagram, WALL), None, "{step}");
        let datagram = advert(&mut ahead, WALL);
        assert_eq!(refusal(&mut before, datagram, WALL), None, "{step}");
        before = with(11);
    }
    let mut enforcing = with_hmac(12, Mode::Enforce, 1);
    let datagram = advert(&mut plain(), WALL);
    assert_eq!(
        refusal(&mut enforcing, datagram, WALL),
        Some(Kind::HmacMissing)
    );
    let datagram = advert(&mut enforcing, WALL);
    assert_eq!(
        refusal(&mut plain(), datagram, WALL),
        Some(Kind::HmacUnexpected)
    );
}

#[test]
fn a_replayed_advert_does_not_keep_a_backup_waiting() {
    let mut master = with_hmac(11, Mode::Enforce, 1);
    let mut backup = with_hmac(12, Mode::Enforce, 1);
    let datagram = advert(&mut master, WALL);
    assert_eq!(refusal(&mut backup, datagram.clone(), WALL), None);
    let deadline = backup.deadline();
    assert_eq!(
        refusal(&mut backup, datagram.clone(), WALL),
        Some(Kind::HmacReplay)
    );
    assert_eq!(backup.deadline(), deadline);
    // Seen or not: what is older than the window is refused, and a reload forgets nothing.
    let reload = Settings {
        priority: Priority::new(99).unwrap(),
        ..backup.settings().clone()
    };
    backup.handle(
        Now(Duration::from_millis(2)),
        Input::Reload(Box::new(reload)),
        &mut Vec::new(),
    );
    assert_eq!(
        refusal(&mut backup, datagram.clone(), WALL),
        Some(Kind::HmacReplay)
    );
    let later = Wall(WALL.0 + Duration::from_secs(6));
    let mut newcomer = with_hmac(13, Mode::Enforce, 1);
    assert_eq!(
        refusal(&mut newcomer, datagram, later),
        Some(Kind::HmacStale)
    );
}

#[test]
fn what_cannot_be_read_is_counted_and_told_with_its_sender() {
    let mut router = started(settings(12, 100));
    // keepalived with auth_type AH, VRID 53.
    let packet: Vec<u8> = [
        "45c0004000010000ff33226aac100c3de0000012",
        "70040000ac100c3d00000001",
        "63144d54c867519137815000",
        "2135960102018dbc",
        "ac100cfb",
        "0000000000000000",
    ]
    .concat()
    .as_bytes()
    .chunks(2)
    .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
    .collect();
    let refused = ip::parse(&packet).unwrap_err();
    let mut actions = Vec::new();
    router.handle(Now::ZERO, Input::Refused(refused), &mut actions);
    let [Action::Log(event)] = actions.as_slice() else {
        panic!("{actions:?}");
    };
    assert!(event.is_warning());
    assert_eq!(
        event.to_string(),
        "refused an advert from 172.16.12.61: it carries an IPsec authentication header: AH \
         authentication is not supported, use PASS or auth_hmac on all routers"
    );
    let stats = router.snapshot().stats;
    assert_eq!(stats.refused, [(Kind::AuthHeader, 1)].into());
    let last = &stats.last_refused[&Kind::AuthHeader];
    let sender = Some(IpAddr::from([172, 16, 12, 61]));
    assert_eq!((last.refused.sender, last.at), (sender, Now::ZERO));
}

#[test]
fn a_unicast_peer_may_be_bound_to_a_distance() {
    let near = IpAddr::from([10, 9, 0, 11]);
    let peer = Peer {
        min_ttl: 255,
        ..Peer::new(near)
    };
    let transport = Transport::Unicast {
        peers: vec![peer],
        check_source: false,
    };
    let mut router = started(Settings {
        transport,
        ..settings(12, 100)
    });
    let to_us = Transport::Unicast {
        peers: vec![Peer::new(IpAddr::from([10, 9, 0, 12]))],
        check_source: false,
    };
    for (host, hops, expected) in [
        (11, 255, None),
        (11, 254, Some(Kind::Ttl)),
        (77, 3, None), // no peer, and sources are not checked
        (12, 255, Some(Kind::OwnPacket)),
    ] {
        let mut from = started(Settings {
            transport: to_us.clone(),
            ..settings(host, 200)
        });
        let mut datagram = advert(&mut from, WALL);
        datagram.hops = hops;
        assert_eq!(
            refusal(&mut router, datagram, WALL),
            expected,
            "{host}, TTL {hops}"
        );
    }
}

#[test]
fn every_reason_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.label()).collect();
    assert_eq!(labels.len(), Kind::ALL.len());
    let is_plain = |label: &&str| label.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    assert!(labels.iter().all(is_plain), "{labels:?}");
}

#[test]
fn a_snapshot_says_who_is_master_and_why() {
    let mut router = started(settings(12, 100));
    let datagram = advert(&mut started(settings(11, 150)), WALL);
    let input = Input::Received {
        datagram,
        wall: WALL,
    };
    router.handle(Now(Duration::from_secs(1)), input, &mut Vec::new());
    let snapshot = router.snapshot();
    assert_eq!(snapshot.master, Some(IpAddr::from([10, 9, 0, 11])));
    assert_eq!(snapshot.stats.last_master.unwrap().priority.get(), 150);
    let deadline = router.deadline().unwrap();
    router.expire(deadline, &mut Vec::new());
    let snapshot = router.snapshot();
    assert_eq!((snapshot.state, snapshot.since), (State::Master, deadline));
    assert_eq!(snapshot.master, Some(IpAddr::from([10, 9, 0, 12])));
    assert_eq!(
        snapshot.why.unwrap().to_string(),
        "no advert from 10.9.0.11 for 3.61 s"
    );
    assert_eq!(
        (snapshot.stats.became_master, snapshot.stats.adverts_sent),
        (1, 1)
    );
    assert_eq!(snapshot.stats.last_other_master, None, "it was backup");
}

#[test]
fn a_snapshot_names_the_master_that_was_heard_while_it_was_master_itself() {
    let mut router = started(settings(12, 100));
    let deadline = router.deadline().unwrap();
    router.expire(deadline, &mut Vec::new());
    let datagram = advert(&mut started(settings(11, 90)), WALL);
    let input = Input::Received {
        datagram,
        wall: WALL,
    };
    let at = deadline.after(Duration::from_secs(2));
    router.handle(at, input, &mut Vec::new());
    let stats = router.snapshot().stats;
    let other = stats.last_other_master.unwrap();
    let seen = (
        stats.other_masters,
        other.from,
        other.priority.get(),
        other.at,
    );
    assert_eq!(seen, (1, IpAddr::from([10, 9, 0, 11]), 90, at));
}
