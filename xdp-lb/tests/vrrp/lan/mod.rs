//! Two to four directors on a lossy, reordering, partitioning LAN; some of them like keepalived.
//!
//! A failure names its seed and step. `XDP_LB_LAN_SEED=7` runs that seed alone, `XDP_LB_LAN_SEEDS=50000`
//! so many of them.

mod heal;
mod watch;
mod world;

use std::net::IpAddr;
use std::time::Duration;

use xdp_lb::machine::Now;
use xdp_lb::vrrp::priority::{Kind, Tracker};
use xdp_lb::vrrp::router::Router;
use xdp_lb::vrrp::settings::Settings;
use xdp_lb::vrrp::{Interval, Priority, Version, Vrid};

use crate::keepalived::Keepalived;
use crate::random::Random;
use watch::{Watch, longest_wait};
use world::{Node, World, address};

/// Seeds of a normal run.
const SEEDS: u64 = 1_000;

/// The seeds to run.
fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a number"))
    };
    match number("XDP_LB_LAN_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("XDP_LB_LAN_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn every_lan_comes_to_rest_with_one_master_per_part() {
    for seed in seeds() {
        let mut random = Random::new(seed ^ 0x5eed);
        let mut world = World::new(seed, nodes(&mut random, 30));
        world.loss = random.pick(&[0, 0, 1, 5, 20]);
        let mut watch = Watch::default();
        for site in 0..world.sites.len() {
            world.start(site);
        }
        for _ in 0..4 + random.below(8) {
            let pause = Duration::from_millis(random.below(9_000));
            run(&mut world, &mut watch, pause);
            disturb(&mut world, &mut watch, &mut random);
        }
        let loss = std::mem::replace(&mut world.loss, 0);
        watch.disturb(world.now);
        world.note(&format!("nothing is done any more, no loss after {loss} %"));
        let rest = longest_wait(&world) * 4 + Duration::from_secs(12);
        run(&mut world, &mut watch, rest);
        Watch::at_rest(&world);
    }
}

/// Two to four directors of one configuration, so many of 100 like keepalived.
fn nodes(random: &mut Random, keepalived: u64) -> Vec<Node> {
    let (version, centis) = random.pick(&[
        (Version::V2, 100),
        (Version::V3, 100),
        (Version::V3, 10),
        (Version::V3, 25),
    ]);
    let no_preempt = random.percent(25);
    let count = 2 + random.index(3);
    let node = |site| {
        let settings = Settings {
            version,
            priority: priority(random),
            interval: Interval::from_centis(centis).unwrap(),
            preempt: !(no_preempt && random.percent(50)),
            ..settings(site)
        };
        if random.percent(keepalived) {
            Node::Keepalived(Box::new(Keepalived::new(settings)))
        } else {
            Node::Ours(Box::new(Router::new(Now::ZERO, settings)))
        }
    };
    (0..count).map(node).collect()
}

/// A director's settings but for what a test varies. A refresh is what brings back clients that
/// believed a master which went before it met the other.
fn settings(site: usize) -> Settings {
    let vips = vec![IpAddr::from([10, 9, 0, 50])];
    let mut settings = Settings::new("VI_1", Vrid::new(51).unwrap(), address(site), vips);
    settings.garp.refresh = Duration::from_secs(5);
    settings.trackers = vec![Tracker {
        kind: Kind::Script,
        name: "fatal".to_owned(),
        weight: 0,
        reverse: false,
    }];
    settings
}

/// Few values, so that there are ties.
fn priority(random: &mut Random) -> Priority {
    Priority::new(random.pick(&[50, 99, 100, 101, 150, 200, 254])).unwrap()
}

fn run(world: &mut World, watch: &mut Watch, time: Duration) {
    let end = world.now.after(time);
    while world.next().is_some_and(|next| next <= end) {
        world.advance();
        watch.look(world);
    }
    world.now = end;
}

/// Does something to the LAN.
fn disturb(world: &mut World, watch: &mut Watch, random: &mut Random) {
    let site = random.index(world.sites.len());
    let is_alive = world.sites[site].is_alive;
    match random.below(10) {
        _ if !is_alive => world.start(site),
        0 | 1 => world.stop(site),
        2 | 3 => world.kill(site),
        4 | 5 => cut_or_heal(world, random),
        6 => world.set_priority(site, priority(random)),
        7 if world.is_ours(site) => {
            let failed = !world.sites[site].has_fault;
            world.set_fault(site, failed);
        }
        8 if world.is_ours(site) => {
            let halt = Duration::from_millis(random.below(6_000));
            world.note(&format!("site {site}: is halted for {halt:?}"));
            world.sites[site].halted = Some(world.now.after(halt));
        }
        _ => {}
    }
    watch.disturb(world.now);
}

fn cut_or_heal(world: &mut World, random: &mut Random) {
    let is_cut = world.sites.iter().any(|site| site.part != 0);
    for site in &mut world.sites {
        site.part = if is_cut {
            0
        } else {
            u8::from(random.percent(50))
        };
    }
    let parts: Vec<_> = world.sites.iter().map(|site| site.part).collect();
    world.note(&format!("the LAN is in parts {parts:?}"));
}
