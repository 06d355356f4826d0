//! What an outsider sends changes nothing.

use xdp_lb::sync::event::Event;
use xdp_lb::sync::record::{Name, Phase, Subject};
use xdp_lb::sync::wire::body::{Heard, Hello, Message, write};
use xdp_lb::sync::wire::{Header, Refusal, seal};

use crate::random::Random;
use crate::world::{World, called, keys, service};

fn flow(port: u16) -> Name {
    Name {
        service: service(0),
        subject: Subject::Flow {
            client: format!("203.0.113.1:{port}").parse().unwrap(),
            called: called(0),
        },
    }
}

/// Two directors that have something to lose.
fn world() -> World {
    let mut world = World::new(2, 1);
    world.directors[0].table.owned.insert(service(0));
    world.run(1000);
    for port in 1..500 {
        world.touch(
            0,
            flow(port),
            "10.0.0.1:80".parse().unwrap(),
            Phase::Established,
        );
    }
    world.run(1000);
    assert_eq!(world.holds(0).len(), 499);
    assert_eq!(world.holds(0), world.holds(1));
    world
}

fn refused(world: &World, refusal: Refusal) -> u64 {
    let stats = world.directors[1].mirror.stats();
    stats.refused.get(&refusal).copied().unwrap_or(0)
}

#[test]
fn a_recording_of_everything_changes_nothing_now_or_after_a_restart() {
    let mut world = world();
    let recorded = world.recorded.clone();
    let before = world.holds(1);
    for (from, datagram) in &recorded {
        world.deliver(1, *from, datagram.clone());
    }
    assert_eq!(world.holds(1), before);
    assert!(refused(&world, Refusal::Replay) > 0);
    // The flows end; nobody may bring them back.
    for port in 1..500 {
        world.touch(0, flow(port), "10.0.0.1:80".parse().unwrap(), Phase::Closed);
    }
    world.run(20_000);
    assert_eq!(world.directors[1].table.entries.len(), 0);
    for (from, datagram) in &recorded {
        world.deliver(1, *from, datagram.clone());
    }
    assert_eq!(world.directors[1].table.entries.len(), 0);
    // A director that knows nothing of the sessions before, and hears the recording first.
    world.cut.extend([(0, 1), (1, 0)]);
    world.restart(1, false);
    for (from, datagram) in &recorded {
        world.deliver(1, *from, datagram.clone());
        world.run(1);
    }
    assert_eq!(world.directors[1].table.entries.len(), 0);
    assert!(!world.directors[1].up_to_date);
    // And it still finds its peer.
    world.cut.clear();
    world.run(5000);
    assert!(
        world.directors[1].up_to_date,
        "{:#?}",
        world.directors[1].said
    );
    // Nor is a recording of the peer before its own restart of use.
    world.restart(0, false);
    world.run(5000);
    let recorded = world.recorded.clone();
    for (from, datagram) in &recorded {
        world.deliver(1, *from, datagram.clone());
        world.deliver(0, *from, datagram.clone());
    }
    world.run(1000);
    assert_eq!(world.directors[0].table.entries.len(), 0);
    assert_eq!(world.directors[1].table.entries.len(), 0);
    assert!(world.directors.iter().all(|it| it.up_to_date));
}

#[test]
fn damage_and_forgery_change_nothing_and_are_said_once_a_minute() {
    let mut world = world();
    let peer = world.directors[0].address;
    let stranger = "203.0.113.66:8848".parse().unwrap();
    let recorded = world.recorded.clone();
    let before = world.holds(1);
    let said_before = world.directors[1].said.len();
    let mut random = Random::new(5);
    // Ten seconds of 10,000 a second.
    for round in 0..1000 {
        for _ in 0..100 {
            let (_, datagram) = &recorded[random.index(recorded.len())];
            let mut datagram = datagram.clone();
            match random.below(4) {
                0 => datagram.truncate(random.index(datagram.len())),
                1 => {
                    let at = random.index(datagram.len());
                    datagram[at] ^= 1 << random.below(8);
                }
                2 => datagram.push(0),
                _ => datagram[4] = 2,
            }
            let from = if round % 10 == 0 { stranger } else { peer };
            world.deliver(1, from, datagram);
        }
        world.run(10);
    }
    assert_eq!(world.holds(1), before);
    assert!(world.directors[1].up_to_date);
    let said = &world.directors[1].said[said_before..];
    let about_peer = said
        .iter()
        .filter(|(_, event)| !matches!(event, Event::Refused { .. }));
    assert_eq!(about_peer.count(), 0, "{said:#?}");
    assert!(said.len() <= Refusal::ALL.len(), "{said:#?}");
    for refusal in [
        Refusal::Digest,
        Refusal::Foreign,
        Refusal::Version,
        Refusal::Stranger,
    ] {
        assert!(refused(&world, refusal) > 0, "{refusal:?}");
    }
}

/// Who has no key can say nothing, and who has one can only speak for itself.
#[test]
fn a_session_counts_only_when_it_repeats_this_directors_own() {
    let mut world = world();
    let peer = world.directors[0].address;
    let hello = |heard: u64, key: u8, session: u64| {
        let heard = Heard {
            session: heard,
            next: 1,
        };
        let message = Message::Hello(Hello {
            next: 1,
            hash_key: 5,
            heard: vec![heard],
        });
        let (kind, body) = write(&message);
        let header = Header {
            cluster: 9,
            session,
            epoch: u64::MAX / 2,
            nonce: 1,
            to: 0,
        };
        seal(&keys(key), &header, kind, &body)
    };
    // The sessions of the directors are 1 << 8 | number.
    let own = 1 << 8 | 2;
    world.deliver(1, peer, hello(own, 2, 77));
    assert_eq!(refused(&world, Refusal::Digest), 1);
    world.deliver(1, peer, hello(own + 1, 1, 77));
    world.run(100);
    let is_restart = |event: &Event| matches!(event, Event::PeerRestarted { .. });
    let restarts = |world: &World| {
        let said = world.directors[1].said.iter();
        said.filter(|(_, event)| is_restart(event)).count()
    };
    assert_eq!(restarts(&world), 0, "it may be of any time");
    world.deliver(1, peer, hello(own, 1, 77));
    assert_eq!(restarts(&world), 1, "it holds the key and is of now");
}
