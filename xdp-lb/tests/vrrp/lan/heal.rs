//! Failovers whose client-visible gap has a bound: partitions that heal, stops, kills, restarts.

use std::time::Duration;

use xdp_lb::vrrp::timing;

use super::watch::{Watch, interval, longest_wait, masters};
use super::world::{Node, World};
use super::{nodes, run, seeds, settings};
use crate::keepalived::Keepalived;
use crate::random::Random;
use xdp_lb::machine::{Machine as _, Now};
use xdp_lb::vrrp::router::{Input, Router};
use xdp_lb::vrrp::settings::Settings;
use xdp_lb::vrrp::{Interval, Priority, Version};

/// A LAN at rest whose first site is master.
fn at_rest(seed: u64, random: &mut Random, keepalived: u64) -> (World, Watch) {
    let mut world = World::new(seed, nodes(random, keepalived));
    let mut watch = Watch::default();
    for site in 0..world.sites.len() {
        world.start(site);
    }
    let settle = longest_wait(&world) * 2 + Duration::from_secs(6);
    run(&mut world, &mut watch, settle);
    Watch::at_rest(&world);
    (world, watch)
}

#[test]
fn after_a_partition_heals_clients_find_the_winner_within_an_interval() {
    for seed in seeds().take(400) {
        let mut random = Random::new(seed ^ 0x4ea1);
        let (mut world, mut watch) = at_rest(seed, &mut random, 0);
        without_refresh(&mut world);
        let master = masters(&world, 0)[0];
        world.sites[master].part = 1;
        world.note("the master is alone");
        watch.disturb(world.now);
        let apart = longest_wait(&world) * 2 + Duration::from_millis(random.below(3_000));
        run(&mut world, &mut watch, apart);
        assert_eq!(
            masters(&world, 0).len(),
            1,
            "seed {seed}: the others have a master"
        );
        world.sites[master].part = 0;
        world.note("healed");
        watch.disturb(world.now);
        let bound = interval(&world) + Duration::from_millis(100);
        run(&mut world, &mut watch, bound);
        let winners = masters(&world, 0);
        let [winner] = winners.as_slice() else {
            world.fail(&format!(
                "an interval after the heal {winners:?} are masters"
            ));
        };
        let lost = world
            .sites
            .iter()
            .position(|site| site.belief != Some(*winner));
        if let Some(lost) = lost {
            world.fail(&format!("the client at {lost} does not find {winner}"));
        }
    }
}

/// Refreshes would hide that nobody announced.
fn without_refresh(world: &mut World) {
    let now = world.now;
    for site in 0..world.sites.len() {
        let mut settings = world.settings(site).clone();
        settings.garp.refresh = Duration::ZERO;
        let input = Input::Reload(Box::new(settings));
        world.ours(site, |router, actions| router.handle(now, input, actions));
    }
}

/// Ours as the worse of two, keepalived's as the better, or the other way round.
fn pair(seed: u64, ours: u8, theirs: u8, interval: u16) -> World {
    let with = |site, priority| Settings {
        version: Version::V3,
        interval: Interval::from_centis(interval).unwrap(),
        priority: Priority::new(priority).unwrap(),
        ..settings(site)
    };
    let (first, second) = (with(0, ours), with(1, theirs));
    let nodes = vec![
        Node::Ours(Box::new(Router::new(Now::ZERO, first))),
        Node::Keepalived(Box::new(Keepalived::new(second))),
    ];
    World::new(seed, nodes)
}

#[test]
fn a_keepalived_that_wins_is_made_to_announce_itself() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut world = pair(seed, 100, 150, 100);
        let mut watch = Watch::default();
        world.start(1);
        world.start(0);
        run(&mut world, &mut watch, Duration::from_secs(7));
        world.sites[1].part = 1;
        watch.disturb(world.now);
        run(
            &mut world,
            &mut watch,
            Duration::from_millis(5_000 + random.below(3_000)),
        );
        assert!(world.is_master(0) && world.is_master(1), "seed {seed}");
        world.sites[1].part = 0;
        world.note("healed");
        watch.disturb(world.now);
        run(&mut world, &mut watch, Duration::from_millis(1_100));
        if !world.is_master(1) || world.is_master(0) || world.sites[0].belief != Some(1) {
            world.fail("the client beside ours does not find keepalived");
        }
    }
}

#[test]
fn a_keepalived_that_yields_without_a_word_leaves_no_client_behind() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut world = pair(seed, 150, 100, 100);
        let mut settings = world.settings(0).clone();
        // As the agent has it of a file that does not say.
        settings.garp.refresh = settings.interval.duration();
        let input = Input::Reload(Box::new(settings));
        world.ours(0, |router, actions| {
            router.handle(Now::ZERO, input, actions);
        });
        let mut watch = Watch::default();
        world.start(0);
        world.start(1);
        run(&mut world, &mut watch, Duration::from_secs(7));
        world.sites[1].part = 1;
        watch.disturb(world.now);
        let apart = Duration::from_millis(9_000 + random.below(3_000));
        run(&mut world, &mut watch, apart);
        assert!(world.is_master(0) && world.is_master(1), "seed {seed}");
        assert_eq!(world.sites[1].belief, Some(1), "seed {seed}");
        world.sites[1].part = 0;
        world.note("healed");
        watch.disturb(world.now);
        let bound = Duration::from_millis(1_100);
        run(&mut world, &mut watch, bound);
        if world.is_master(1) || !world.is_master(0) || world.sites[1].belief != Some(0) {
            world.fail("the client beside keepalived does not find ours");
        }
    }
}

/// Runs until somebody else than `old` holds the addresses; how long nobody did.
fn gap(world: &mut World, old: usize, limit: Duration) -> Duration {
    let end = world.now.after(limit);
    let mut dark = Duration::ZERO;
    while let Some(next) = world.next().filter(|next| *next <= end) {
        let held = world.sites.iter().any(|site| site.holds);
        if !held {
            dark += world.now.until(next);
        }
        world.advance();
        let successor = (0..world.sites.len()).any(|site| site != old && world.sites[site].holds);
        if successor && !world.sites[old].holds {
            return dark;
        }
    }
    world.fail("nobody took over");
}

#[test]
fn a_master_that_stops_leaves_no_gap_whoever_follows() {
    for seed in seeds().take(400) {
        let mut random = Random::new(seed ^ 0x0570);
        let (mut world, _) = at_rest(seed, &mut random, 50);
        let master = masters(&world, 0)[0];
        if !world.is_ours(master) {
            continue;
        }
        world.stop(master);
        let dark = gap(&mut world, master, Duration::from_secs(3));
        if !dark.is_zero() {
            world.fail(&format!("dark for {dark:?}"));
        }
    }
}

#[test]
fn a_master_that_vanishes_is_replaced_by_the_formula_of_the_rfc() {
    for seed in seeds().take(400) {
        let mut random = Random::new(seed ^ 0xdead);
        let (mut world, _) = at_rest(seed, &mut random, 30);
        let master = masters(&world, 0)[0];
        world.kill(master);
        world.sites[master].holds = false;
        let others = (0..world.sites.len()).filter(|site| *site != master);
        let wait = others.map(|site| {
            let s = world.settings(site);
            timing::master_down(s.version, s.priority, s.interval, s.down_timer_adverts)
        });
        // The last advert took up to 8 ms, and whoever heard it first is not who is fastest.
        let bound = wait.min().unwrap() + Duration::from_millis(10);
        let dark = gap(&mut world, master, Duration::from_secs(9));
        if dark > bound {
            world.fail(&format!("dark for {dark:?}, more than {bound:?}"));
        }
    }
}

#[test]
fn a_master_killed_and_started_within_the_down_timer_goes_on_alone() {
    for seed in seeds().take(400) {
        let mut random = Random::new(seed ^ 0x0ff0);
        let (mut world, mut watch) = at_rest(seed, &mut random, 30);
        let master = masters(&world, 0)[0];
        if !world.is_ours(master) {
            continue;
        }
        // The last advert is up to an interval old when the process dies.
        let twice = interval(&world) * 2;
        let pause = twice.mul_f64(f64::from(u32::try_from(random.below(95)).unwrap()) / 100.0);
        let before = take_overs(&world);
        world.kill(master);
        watch.disturb(world.now);
        run(&mut world, &mut watch, pause);
        world.start(master);
        let wait = longest_wait(&world) * 2;
        run(&mut world, &mut watch, wait);
        if masters(&world, 0) != [master] {
            world.fail("it is not the only master");
        }
        if take_overs(&world) > before {
            world.fail("somebody took over meanwhile");
        }
    }
}

fn take_overs(world: &World) -> usize {
    let ours = world.journal.matches("MASTER: no advert").count();
    ours + world.journal.matches("keepalived is MASTER").count()
}
