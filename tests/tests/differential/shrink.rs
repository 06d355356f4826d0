//! A case that fails, made short: steps left out in ever smaller parts, as long as it still fails.

use std::time::{Duration, Instant};

use crate::case::{Case, Step};
use crate::rig::Played;
use crate::world::Virtual;

/// How long to go on leaving things out.
const PATIENCE: Duration = Duration::from_secs(20);

/// The shortest case found that still fails, and how it does.
pub(crate) fn shrink(
    case: &Case,
    why: String,
    mut play: impl FnMut(&Case) -> Played,
) -> (Case, String) {
    let (mut best, mut best_why, start) = (case.clone(), why, Instant::now());
    let mut try_out = |candidate: Case, best: &mut Case, best_why: &mut String| {
        if start.elapsed() > PATIENCE {
            return false;
        }
        match play(&candidate) {
            Played::Differs(why) => {
                (*best, *best_why) = (candidate, why);
                true
            }
            Played::Same(_) => false,
        }
    };
    let mut part = best.steps.len();
    while part > 0 {
        let mut from = 0;
        while from < best.steps.len() {
            let mut candidate = best.clone();
            let to = (from + part).min(candidate.steps.len());
            candidate.steps.drain(from..to);
            if !try_out(candidate, &mut best, &mut best_why) {
                from += part;
            }
        }
        part /= 2;
    }
    for candidate in simpler_worlds(&best) {
        try_out(candidate, &mut best, &mut best_why);
    }
    (best, best_why)
}

/// The case with one service or server less, in all its tables.
fn simpler_worlds(case: &Case) -> Vec<Case> {
    let mut keys: Vec<_> = case.world.services.iter().map(Virtual::key).collect();
    keys.dedup();
    let without = |key| {
        let mut other = case.clone();
        other.world.services.retain(|service| service.key() != key);
        for step in &mut other.steps {
            if let Step::Tables(world) | Step::Begun(world, _) = step {
                world.services.retain(|service| service.key() != key);
            }
        }
        other
    };
    keys.into_iter().map(without).collect()
}
