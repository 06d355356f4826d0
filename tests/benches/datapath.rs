//! What a packet costs: the program runs in the kernel's program test-run, driven by a generator
//! program whose own cost is subtracted.
//!
//! `cargo xtask bench datapath [--json FILE] [--only PART_OF_A_NAME]`. All cases take turns in every round, so that what the
//! machine does besides hits all of them alike; compare rows of one run only.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its table and how far it is"
)]

#[path = "datapath/cases.rs"]
mod cases;
#[path = "datapath/churn.rs"]
mod churn;
#[path = "datapath/director.rs"]
mod director;
#[path = "datapath/frames.rs"]
mod frames;
#[path = "datapath/report.rs"]
mod report;

use anyhow::{Context as _, Result, bail};
use cases::{Case, Target};
use director::Director;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use report::{Row, Table};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};
use xdp_lb_tests::generator::Rig;

/// Rounds; each runs every case once.
const ROUNDS: usize = 9;

fn main() -> Result<()> {
    let Arguments { json, only } = arguments()?;
    // Programs run where this thread runs.
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")?;
    stay_ahead();
    let mut table = Table::new("datapath");
    packets(&mut table, only.as_deref())?;
    if only.is_none() {
        table.rows.extend(churn::rows());
    }
    print!("{}", table.text());
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&table)?;
        std::fs::write(&file, text + "\n").with_context(|| file.clone())?;
    }
    Ok(())
}

/// Has the thread go before others on its CPU: what a busy machine does besides then costs its rows a tenth, and
/// not half of what they say.
fn stay_ahead() {
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    if let Err(why) =
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy)
    {
        eprintln!("others on this CPU will disturb it: no real-time priority ({why:?})");
    }
}

/// What the command line says.
#[derive(Default)]
struct Arguments {
    /// File for the table as JSON.
    json: Option<String>,
    /// Cases whose names contain this alone, and what their generators cost.
    only: Option<String>,
}

/// `--json FILE`, `--only PART_OF_A_NAME`; cargo adds `--bench`.
fn arguments() -> Result<Arguments> {
    let mut told = Arguments::default();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--json" => told.json = Some(arguments.next().context("--json wants a file")?),
            "--only" => told.only = Some(arguments.next().context("--only wants a name")?),
            other => bail!("unknown argument `{other}`"),
        }
    }
    Ok(told)
}

fn packets(table: &mut Table, only: Option<&str>) -> Result<()> {
    let mut rig = Rig::load()?;
    let mut directors = Vec::new();
    for (kind, flows) in cases::directors() {
        eprintln!("filling a table with {flows} established connections");
        let mut director = Director::open(kind)?;
        director.establish(&mut rig, flows)?;
        directors.push(director);
    }
    let mut cases = cases::cases();
    cases.retain(|case| case.is_generator() || only.is_none_or(|only| case.name.contains(only)));
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for case in &mut cases {
            let sample = measure(&mut rig, &mut directors, case)
                .with_context(|| format!("in case \"{}\"", case.name))?;
            case.samples.push(sample);
        }
    }
    for case in &cases {
        let base = cases.iter().find(|base| base.is_base_of(case));
        let base = base.map_or(0.0, |base| report::median(&base.samples));
        table
            .rows
            .push(Row::new(&case.name, "ns", &case.samples, base));
    }
    Ok(())
}

/// Nanoseconds per turn.
fn measure(rig: &mut Rig, directors: &mut [Director], case: &Case) -> Result<f64> {
    let mut empty;
    let director = match case.target {
        Target::Known(number) => directors.get_mut(number).context("no such director")?,
        Target::New(kind) => {
            empty = Director::open(kind)?;
            &mut empty
        }
        Target::Rig(program) => {
            rig.aim_at(program)?;
            return rig.run(case.frame, case.flows, case.turns);
        }
    };
    rig.aim(director.program()?)?;
    let before = director.left_by(case.reason)?;
    let ns = rig.run(case.frame, case.flows, case.turns)?;
    let counted = director.left_by(case.reason)? - before;
    if counted < u64::from(case.turns) {
        bail!(
            "only {counted} of {} packets left as they should",
            case.turns
        );
    }
    Ok(ns)
}
