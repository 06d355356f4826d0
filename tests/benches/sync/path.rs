//! What the packet path pays for the thread that looks through the tables: it shares the caches.
//!
//! That thread is stopped and let go again, and the packets of established connections are timed each
//! way, turn about, with the program and the tables that they are in: nothing else differs.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use xdp_lb_tests::figures::Figures;
use xdp_lb_tests::interrupt;
use xdp_lb_tests::process::{cpu_time, threads};
use xdp_lb_tests::stream;

use crate::bulk::FLOWS;
use crate::client::{Client, Inside};
use crate::site::{A, B, Site, sync_thread};

/// Rounds; each times every case both ways.
const ROUNDS: usize = 9;
/// Packets of a turn: a few looks through the tables long.
const TURNS: u32 = 1 << 22;

/// What state sync may cost a packet of an established connection, ns.
const LIMIT_NS: f64 = 3.0;

/// The CPU of the packets, and that of the agent.
const PACKETS: usize = 0;
const AGENT: usize = 1;

/// By how many connections the packets are of.
const CASES: [(u32, &str); 3] = [
    (1, "path, 1 connection"),
    (1 << 16, "path, 65,536 connections"),
    (FLOWS, "path, 1,048,576 connections"),
];

/// What was timed of a case, round by round, in ns.
#[derive(Default)]
struct Times {
    with: Vec<f64>,
    without: Vec<f64>,
    alone: Vec<f64>,
}

/// Needs the second director with all connections, as the master; ends the first, which would take the
/// CPU of the second.
pub(crate) fn measure(figures: &mut Figures, site: &mut Site) -> Result<()> {
    site.director(A)?.end_by(Signal::SIGTERM)?;
    let pid = site.director(B)?.pid()?;
    for (thread, _) in threads(pid)? {
        keep_on(Pid::from_raw(thread.cast_signed()), AGENT)?;
    }
    let looker = Looker {
        process: pid,
        thread: sync_thread(pid)?,
    };
    let mut client = Client::of(site, B)?;
    let before = site.director(B)?.packets("tx_connection")?;
    let times = client.inside(|inside| rounds(inside, looker))?;
    let packets = site.director(B)?.packets("tx_connection")? - before;
    let sent = (ROUNDS * CASES.len() * 2) as u64 * u64::from(TURNS);
    ensure!(
        packets >= sent,
        "only {packets} of {sent} packets were of connections"
    );
    for ((_, when), times) in CASES.into_iter().zip(&times) {
        let alone = median(&times.alone);
        let [with, without] = [&times.with, &times.without].map(|all| median(all) - alone);
        let pairs = times.with.iter().zip(&times.without);
        let costs: Vec<f64> = pairs.map(|(with, without)| with - without).collect();
        figures.add(
            when,
            "a packet, tables not looked through",
            (without, "ns"),
            None,
        );
        figures.add(when, "a packet, tables looked through", (with, "ns"), None);
        let cost = median(&costs);
        figures.add(
            when,
            "the difference, round by round",
            (cost, "ns"),
            Some(LIMIT_NS),
        );
    }
    Ok(())
}

fn rounds(inside: &mut Inside<'_>, looker: Looker) -> Result<Vec<Times>> {
    keep_on(Pid::from_raw(0), PACKETS)?;
    stream::be_prompt();
    let mut all: Vec<Times> = CASES.map(|_| Times::default()).into();
    let (mut looking, mut stopped) = (Duration::ZERO, Duration::ZERO);
    for round in 0..ROUNDS {
        interrupt::check()?;
        eprintln!("round {} of {ROUNDS}", round + 1);
        for ((flows, _), times) in CASES.into_iter().zip(&mut all) {
            times.alone.push(inside.time_alone(flows, TURNS)?);
            for turn in 0..2 {
                let before = looker.used()?;
                if (round + turn) % 2 == 0 {
                    times.with.push(inside.time(flows, TURNS)?);
                    looking += looker.used()?.saturating_sub(before);
                } else {
                    let held = looker.stop()?;
                    times.without.push(inside.time(flows, TURNS)?);
                    drop(held);
                    stopped += looker.used()?.saturating_sub(before);
                }
            }
        }
    }
    // A tick of its clock for each turn.
    ensure!(
        looking > stopped * 4,
        "the thread ran for {looking:?} while it was let go and for {stopped:?} while it was not"
    );
    Ok(all)
}

fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn keep_on(thread: Pid, cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu)?;
    sched_setaffinity(thread, &cpus)
        .with_context(|| format!("cannot stay on CPU {cpu}; this takes two"))
}

/// The thread that looks through the tables.
#[derive(Clone, Copy)]
struct Looker {
    process: u32,
    thread: u32,
}

impl Looker {
    fn used(self) -> Result<Duration> {
        cpu_time(self.process, Some(self.thread))
    }

    /// Stops it until the value is dropped, by the thread that stopped it. All others go on, those that
    /// hold the service's lease among them. Should this process end, the kernel lets it go.
    fn stop(self) -> Result<Stopped> {
        let thread = Pid::from_raw(self.thread.cast_signed());
        ptrace::seize(thread, ptrace::Options::empty()).context("cannot trace the agent")?;
        let stopped = Stopped(thread);
        ptrace::interrupt(thread)?;
        waitpid(thread, Some(WaitPidFlag::__WALL))?;
        Ok(stopped)
    }
}

struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        // Nobody is left to tell.
        ptrace::detach(self.0, None).ok();
    }
}
