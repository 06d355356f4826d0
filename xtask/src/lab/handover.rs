//! Seed 004's second director at work: the master is stopped, killed, and not heard for a while, and a
//! client asks the VIP every millisecond.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cluster::Cluster;
use super::findings::{Move, Stop};
use super::masters::{Reign, reigns};
use super::seed::Seed;
use super::steps::Steps;

/// Waits are longer than any bound that is judged.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest that the VIP may be dark, s, on a machine that has other things to do; what it really
/// takes is for the bench to say. A master that is asked to go waits for its successor, where keepalived
/// leaves 0.6 s; one that was killed leaves its VIP and its program, where 3.6 s would be allowed; one
/// that comes back announces before the other lets go.
const MOVED: f64 = 0.5;
/// An interval of adverts and 100 ms.
const HEALED: f64 = 1.1;

/// A host that is silent for longer is no master any more, s.
const SILENCE: f64 = 3.0;

/// What was found.
pub(super) struct Found {
    pub(super) moves: Vec<Move>,
    pub(super) reigns: Vec<Reign>,
    pub(super) stop: Option<Stop>,
}

/// Moves the VIP there and back.
pub(super) fn run(cluster: &mut Cluster, seed: &Seed, steps: &mut Steps) -> Result<Found> {
    let origin = Instant::now();
    let mut stopped = None;
    let mut moves = Vec::new();
    moves.push(steps.run("director1 stopped", || {
        watch(
            cluster,
            seed,
            ("director1 is stopped", 1, MOVED),
            |cluster| {
                stopped = Some(cluster.agent.stop(seed.vip)?);
                Ok(())
            },
        )
    })?);
    moves.push(steps.run("director1 started again", || {
        watch(
            cluster,
            seed,
            ("director1 starts again", 0, MOVED),
            start_again,
        )
    })?);
    moves.push(steps.run("director1 killed", || {
        watch(
            cluster,
            seed,
            ("director1 is killed", 1, MOVED),
            |cluster| cluster.agent.kill(),
        )
    })?);
    moves.push(steps.run("director1 started again", || {
        watch(
            cluster,
            seed,
            ("director1 starts after that", 0, MOVED),
            start_again,
        )
    })?);
    moves.push(steps.run("both master, and healed", || heal(cluster, seed))?);
    let hosts = Cluster::directors(seed);
    let names = [&cluster.director.name, &cluster.standby.name];
    let hosts = [(hosts[0], names[0].clone()), (hosts[1], names[1].clone())];
    Ok(Found {
        moves,
        reigns: reigns(&cluster.adverts.since(origin), origin, &hosts, SILENCE),
        stop: stopped,
    })
}

fn start_again(cluster: &mut Cluster) -> Result<()> {
    cluster.agent.start_again(&mut cluster.ledger)
}

/// Does something and watches until the director of this number is the only master.
fn watch(
    cluster: &mut Cluster,
    seed: &Seed,
    (cause, master, bound): (&str, usize, f64),
    act: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<Move> {
    let start = Instant::now();
    act(cluster)?;
    let address = Cluster::directors(seed).into_iter().nth(master);
    let address = address.context("there are two directors")?;
    // What does not happen in time is a finding, and no reason to stop looking.
    let moved = cluster.adverts.wait_master(address, start, PATIENCE).ok();
    let settled = is_calm(cluster, seed, master)?;
    Ok(Move {
        cause: cause.to_owned(),
        moved: moved.map(|at| (at - start).as_secs_f64()),
        dark: cluster.stream.longest_gap(start).as_secs_f64(),
        bound,
        settled,
    })
}

/// Whether the director of this number soon is the only master, and the VIP answers.
fn is_calm(cluster: &Cluster, seed: &Seed, master: usize) -> Result<bool> {
    let address = Cluster::directors(seed).into_iter().nth(master);
    let address = address.context("there are two directors")?;
    let only = cluster
        .adverts
        .wait_only(address, Duration::from_millis(1200), PATIENCE);
    let steady = cluster
        .stream
        .wait_steady(Duration::from_millis(300), PATIENCE);
    Ok(only.is_ok() && steady.is_ok())
}

/// They do not hear each other until both are master; then they do.
fn heal(cluster: &mut Cluster, seed: &Seed) -> Result<Move> {
    let set = |cluster: &Cluster, passes| {
        let hosts = [&cluster.director, &cluster.standby];
        hosts
            .into_iter()
            .try_for_each(|host| cluster.lan.set_multicast(&host.name, passes))
    };
    let start = Instant::now();
    set(cluster, false)?;
    let [_, standby] = Cluster::directors(seed);
    cluster.adverts.wait_master(standby, start, PATIENCE)?;
    watch(cluster, seed, ("a partition heals", 0, HEALED), |cluster| {
        set(cluster, true)
    })
}
