//! What must hold of a LAN, at every step and when it has come to rest.

use std::collections::BTreeMap;
use std::time::Duration;

use xdp_lb::machine::Now;
use xdp_lb::vrrp::timing;

use super::world::{Node, World};

/// What the watch remembers.
#[derive(Default)]
pub(crate) struct Watch {
    /// Since when each part has more than one master.
    double: BTreeMap<u8, Now>,
    /// Since when each part has none who holds the addresses.
    dark: BTreeMap<u8, Now>,
    /// The last time that something was done to the LAN.
    disturbed: Now,
}

impl Watch {
    /// Something was done to the LAN: waits begin anew.
    pub(crate) fn disturb(&mut self, now: Now) {
        self.disturbed = now;
        self.double.clear();
        self.dark.clear();
    }

    /// After each step.
    pub(crate) fn look(&mut self, world: &World) {
        for site in 0..world.sites.len() {
            let state = &world.sites[site];
            if world.is_ours(site) && state.is_alive && state.holds != state.gate {
                world.fail(&format!(
                    "site {site}: gate {} but addresses {}",
                    state.gate, state.holds
                ));
            }
            if world.is_ours(site) && world.is_master(site) && !state.holds {
                world.fail(&format!("site {site}: MASTER without addresses"));
            }
        }
        for part in parts(world) {
            self.look_at_part(world, part);
        }
    }

    fn look_at_part(&mut self, world: &World, part: u8) {
        let masters = masters(world, part);
        if masters.len() > 1 {
            let since = *self.double.entry(part).or_insert(world.now);
            // The first advert of the better one ends it; it may come an interval after the other's.
            let limit = interval(world) + Duration::from_millis(20);
            if world.loss == 0 && since.until(world.now) > limit && self.is_calm(world) {
                world.fail(&format!("sites {masters:?} are masters, since {since:?}"));
            }
        } else {
            self.double.remove(&part);
        }
        let eligible = members(world, part).any(|site| world.is_eligible(site));
        let held = members(world, part).any(|site| world.sites[site].holds);
        if held || !eligible {
            self.dark.remove(&part);
        } else {
            let since = *self.dark.entry(part).or_insert(world.now);
            if since.until(world.now) > longest_wait(world) * 2 {
                world.fail(&format!(
                    "nobody in part {part} has the addresses, since {since:?}"
                ));
            }
        }
    }

    fn is_calm(&self, world: &World) -> bool {
        self.disturbed.until(world.now) > interval(world) * 2
    }

    /// When nothing was done and nothing lost for long enough.
    pub(crate) fn at_rest(world: &World) {
        for part in parts(world) {
            let eligible: Vec<_> = members(world, part)
                .filter(|s| world.is_eligible(*s))
                .collect();
            let masters = masters(world, part);
            if masters.len() != usize::from(!eligible.is_empty()) {
                world.fail(&format!(
                    "at rest, of {eligible:?} these are masters: {masters:?}"
                ));
            }
            let Some(&master) = masters.first() else {
                continue;
            };
            let priority = |site: usize| world.settings(site).priority;
            let best = eligible.iter().map(|site| priority(*site)).max();
            let preempts = eligible.iter().all(|site| world.settings(*site).preempt);
            if preempts && best != Some(priority(master)) {
                world.fail(&format!(
                    "at rest, site {master} is master, but not the best"
                ));
            }
            for site in members(world, part) {
                let holds = world.sites[site].holds && world.sites[site].is_alive;
                if holds != (site == master) {
                    world.fail(&format!(
                        "at rest, site {site} holds the addresses: {holds}"
                    ));
                }
                if world.sites[site].belief != Some(master) {
                    let belief = world.sites[site].belief;
                    world.fail(&format!(
                        "at rest, the client at {site} has the MAC of {belief:?}"
                    ));
                }
            }
        }
    }
}

pub(crate) fn interval(world: &World) -> Duration {
    world.settings(0).interval.duration()
}

/// The longest down timer of all.
pub(crate) fn longest_wait(world: &World) -> Duration {
    let wait = |site| {
        let settings = world.settings(site);
        let adverts = settings.down_timer_adverts;
        timing::master_down(
            settings.version,
            settings.priority,
            settings.interval,
            adverts,
        )
    };
    (0..world.sites.len()).map(wait).max().unwrap_or_default()
}

pub(crate) fn parts(world: &World) -> Vec<u8> {
    let mut parts: Vec<_> = world.sites.iter().map(|site| site.part).collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

pub(crate) fn members(world: &World, part: u8) -> impl Iterator<Item = usize> {
    (0..world.sites.len()).filter(move |site| world.sites[*site].part == part)
}

pub(crate) fn masters(world: &World, part: u8) -> Vec<usize> {
    let runs = |site: &usize| match &world.sites[*site].node {
        Node::Ours(_) | Node::Keepalived(_) => {
            world.is_master(*site) && world.sites[*site].halted.is_none()
        }
    };
    members(world, part).filter(runs).collect()
}
