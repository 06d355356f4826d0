//! Whatever happens, in the end all directors hold the same.

use std::net::SocketAddr;

use xdp_lb::sync::event::Event;
use xdp_lb::sync::incoming::HELD;
use xdp_lb::sync::outgoing::KEPT;
use xdp_lb::sync::record::{Name, Phase, Subject};

use crate::world::{CALM, Weather, World, called, service};

/// Seeds that are tried with each number of directors, unless `XDP_LB_SYNC_SEEDS` says another number.
const SEEDS: u64 = 40;

fn seeds() -> u64 {
    let asked = std::env::var("XDP_LB_SYNC_SEEDS").ok();
    asked.map_or(SEEDS, |number| number.parse().unwrap())
}

fn client(number: u64, v6: bool) -> SocketAddr {
    let port = 1024 + number % 50_000;
    let text = if v6 {
        format!("[2001:db8:1::{:x}]:{port}", number / 7)
    } else {
        format!("203.0.113.{}:{port}", number % 250)
    };
    text.parse().unwrap()
}

fn server(number: u64) -> SocketAddr {
    format!("10.0.0.{}:443", number % 5 + 1).parse().unwrap()
}

/// A client does something at the director that gets the packets of a service.
fn packet(world: &mut World, of: u8) {
    let number = world.random.below(400);
    let (service, called) = (service(of), called(of));
    let v6 = called.vip.is_ipv6();
    let owners: Vec<usize> = (0..world.directors.len())
        .filter(|d| world.directors[*d].table.owned.contains(&service))
        .collect();
    let Some(owner) = owners.get(world.random.index(owners.len().max(1))).copied() else {
        return;
    };
    let flow = Name {
        service,
        subject: Subject::Flow {
            client: client(number, v6),
            called,
        },
    };
    let known = world.directors[owner].table.entries.get(&flow).copied();
    let anew = server(world.random.next());
    let phase = match (v6, world.random.below(10)) {
        (true, _) => Phase::Udp,
        (false, 0) => Phase::Closed,
        (false, 1 | 2) => Phase::Fin,
        (false, _) => Phase::Established,
    };
    let stays = known.map_or(anew, |entry| entry.server);
    world.touch(owner, flow, stays, phase);
    if world.random.percent(20) {
        let client = client(number, v6).ip();
        let template = Name {
            service,
            subject: Subject::Template { client },
        };
        let known = world.directors[owner].table.entries.get(&template).copied();
        let stays = known.map_or(anew, |entry| entry.server);
        world.touch(owner, template, stays, Phase::Template);
    }
}

/// Services go to directors, each to one; a director that is cut off may have taken them as well.
fn share_out(world: &mut World, split: bool) {
    let count = world.directors.len();
    for it in &mut world.directors {
        it.table.owned.clear();
    }
    for of in 0..4 {
        let owner = world.random.index(count);
        world.directors[owner].table.owned.insert(service(of));
        if split {
            let second = world.random.index(count);
            world.directors[second].table.owned.insert(service(of));
        }
    }
}

fn trouble(world: &mut World) {
    let count = world.directors.len();
    match world.random.below(8) {
        0 => {
            let it = world.random.index(count);
            let keeps_tables = world.random.percent(50);
            world.restart(it, keeps_tables);
        }
        1 => {
            let (a, b) = (world.random.index(count), world.random.index(count));
            world.cut.insert((a, b));
            if world.random.percent(70) {
                world.cut.insert((b, a));
            }
            let split = world.random.percent(50);
            share_out(world, split);
        }
        2 => world.cut.clear(),
        3 => share_out(world, false),
        4 => {
            world.weather = Weather {
                lost_percent: world.random.below(60),
                doubled_percent: world.random.below(30),
                slowest: 1 + world.random.below(80),
            };
        }
        5 => world.weather = CALM,
        6 => {
            let burst = world.random.below(600);
            for _ in 0..burst {
                let of = world.random.below(4);
                packet(world, u8::try_from(of).unwrap());
            }
        }
        _ => {
            let pause = world.random.below(6000);
            world.run(pause);
        }
    }
}

fn live_through(directors: usize, seed: u64) -> World {
    let mut world = World::new(directors, seed);
    share_out(&mut world, false);
    for _ in 0..60 {
        if world.random.percent(30) {
            trouble(&mut world);
        }
        for _ in 0..world.random.below(20) {
            let of = world.random.below(4);
            packet(&mut world, u8::try_from(of).unwrap());
        }
        let pause = world.random.below(200);
        world.run(pause);
    }
    // It settles: everybody hears everybody, each service is owned once, packets have stopped.
    world.cut.clear();
    world.weather = CALM;
    share_out(&mut world, false);
    world.run(45_000);
    world
}

/// Whatever the owner of a service holds, the others hold, too. What they hold beyond that is ending:
/// a connection that the owner saw closed, while it was told otherwise by another that did not.
fn all_are_equal(world: &World, seed: u64) {
    for owner in 0..world.directors.len() {
        let owned = &world.directors[owner].table.owned;
        let mut told = world.holds(owner);
        told.retain(|name, _| owned.contains(&name.service));
        for other in 0..world.directors.len() {
            let mut held = world.holds(other);
            held.retain(|name, (_, phase)| {
                let is_ending = matches!(phase, Phase::Fin | Phase::Closed);
                owned.contains(&name.service) && (told.contains_key(name) || !is_ending)
            });
            let differs = told.iter().find(|(name, at)| held.get(name) != Some(at));
            let more = held.iter().find(|(name, _)| !told.contains_key(name));
            assert!(
                differs.is_none() && more.is_none(),
                "seed {seed}: {other} differs from {owner}: {differs:?} there, {:?} here, {more:?}\n{:#?}",
                differs.map(|(name, _)| held.get(name)),
                world.directors[other].said,
            );
        }
    }
    for it in &world.directors {
        assert!(it.up_to_date, "seed {seed}");
        assert!(it.mirror.is_up_to_date(), "seed {seed}");
    }
}

fn memory_is_bounded(world: &World) {
    let (bytes, held) = world.most;
    assert!(bytes <= KEPT, "{bytes}");
    assert!(held <= (HELD + 1) * world.directors.len(), "{held}");
}

#[test]
fn two_directors_end_with_equal_tables() {
    for seed in 0..seeds() {
        let world = live_through(2, seed);
        all_are_equal(&world, seed);
        memory_is_bounded(&world);
    }
}

#[test]
fn three_directors_end_with_equal_tables() {
    for seed in 0..seeds() {
        let world = live_through(3, 1_000_000 + seed);
        all_are_equal(&world, seed);
        memory_is_bounded(&world);
    }
}

/// The order of things at a start: the walk comes first, then the director is up to date.
#[test]
fn a_director_that_returns_is_up_to_date_once_everything_has_come() {
    let mut world = World::new(2, 7);
    world.directors[0].table.owned.extend((0..4).map(service));
    world.run(1000);
    for _ in 0..3000 {
        packet(&mut world, 0);
    }
    world.run(1000);
    assert_eq!(world.holds(0), world.holds(1));
    world.restart(1, false);
    assert!(!world.directors[1].up_to_date);
    let mut waited = 0;
    while !world.directors[1].up_to_date {
        assert!(waited < 3000, "{:#?}", world.directors[1].said);
        world.run(10);
        waited += 10;
    }
    assert_eq!(world.holds(0), world.holds(1), "at the very moment");
    let said: Vec<&Event> = world.directors[1]
        .said
        .iter()
        .map(|(_, event)| event)
        .collect();
    assert!(
        said.iter()
            .any(|event| matches!(event, Event::Synced { .. }))
    );
    let heard: Vec<&Event> = world.directors[0]
        .said
        .iter()
        .map(|(_, event)| event)
        .collect();
    assert!(
        heard
            .iter()
            .any(|event| matches!(event, Event::PeerRestarted { .. }))
    );
}

/// What is new is with the peer within a scan, half of the datagrams being lost or not.
#[test]
fn half_of_all_datagrams_may_be_lost() {
    let mut world = World::new(2, 3);
    world.directors[0].table.owned.extend((0..4).map(service));
    world.weather = Weather {
        lost_percent: 50,
        doubled_percent: 10,
        slowest: 20,
    };
    world.run(5000);
    assert!(
        world.directors[1].up_to_date,
        "{:#?}",
        world.directors[1].said
    );
    for _ in 0..200 {
        for _ in 0..50 {
            packet(&mut world, 0);
            packet(&mut world, 1);
        }
        world.run(50);
    }
    world.run(3000);
    assert_eq!(world.holds(0), world.holds(1));
    assert_eq!(
        world.directors[1].mirror.stats().parts_lost,
        0,
        "all were said again"
    );
    assert!(world.directors[0].mirror.stats().parts_repeated > 0);
}
