//! What a packet costs: the program runs in the kernel's program test-run, driven by a generator
//! program whose own cost is subtracted.
//!
//! `cargo xtask bench datapath [--json FILE]`. All cases take turns in every round, so that what the
//! machine does besides hits all of them alike; compare rows of one run only.

#[path = "datapath/case.rs"]
mod case;
#[path = "datapath/churn.rs"]
mod churn;
#[path = "datapath/report.rs"]
mod report;
#[path = "datapath/rig.rs"]
mod rig;

use anyhow::{Context as _, Result, bail};
use case::Director;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use report::{Row, Table};
use rig::{Frame, Rig};
use xdp_lb_common::reason::Reason;

/// Rounds; each runs every case once.
const ROUNDS: usize = 9;

/// Turns of a run.
const TURNS: u32 = 1 << 21;

/// Flows in the connection table of the cases with established connections.
const FLOWS: u32 = 1 << 20;

/// New flows per run: they fill the table to half of its ways.
const NEW_FLOWS: u32 = 1 << 20;

fn main() -> Result<()> {
    let json = arguments()?;
    // Programs run where this thread runs.
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")?;
    let mut table = Table::new("datapath");
    packets(&mut table)?;
    table.rows.extend(churn::rows());
    print!("{}", table.text());
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&table)?;
        std::fs::write(&file, text + "\n").with_context(|| file.clone())?;
    }
    Ok(())
}

/// `--json FILE`; cargo adds `--bench`.
fn arguments() -> Result<Option<String>> {
    let mut json = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--json" => json = Some(arguments.next().context("--json wants a file")?),
            other => bail!("unknown argument `{other}`"),
        }
    }
    Ok(json)
}

/// What the generator calls.
#[derive(Clone, Copy)]
enum Target {
    /// A program of the rig.
    Rig(&'static str),
    /// The program under test with the tables of a director.
    Director(usize),
}

/// One thing to measure.
struct Case {
    name: &'static str,
    target: Target,
    frame: Frame,
    flows: u32,
    turns: u32,
    /// The reason that every packet must leave by.
    reason: Option<Reason>,
    samples: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, target: Target, frame: Frame, flows: u32) -> Self {
        Self {
            name,
            target,
            frame,
            flows,
            turns: TURNS,
            reason: None,
            samples: Vec::new(),
        }
    }

    fn leaving_by(self, reason: Reason) -> Self {
        Self {
            reason: Some(reason),
            ..self
        }
    }

    /// Each turn is a flow that the table does not hold.
    fn all_new(self) -> Self {
        Self {
            turns: NEW_FLOWS,
            flows: NEW_FLOWS,
            ..self
        }
    }
}

fn cases() -> Vec<Case> {
    let (ack, syn) = (Frame::ack(), Frame::syn());
    let rig = |name, program| Case::new(name, Target::Rig(program), ack, 1);
    let known = |name, frame, flows| Case::new(name, Target::Director(0), frame, flows);
    vec![
        rig("generator alone", "empty"),
        rig("price: reading the flow", "price_no_hash"),
        rig("price: SipHash-1-3", "price_siphash"),
        rig("price: universal hash (in use)", "price_universal"),
        known("established, 1 flow", ack, 1).leaving_by(Reason::TxConnection),
        known("established, 65,536 flows", ack, 1 << 16).leaving_by(Reason::TxConnection),
        known("established, 1,048,576 flows", ack, FLOWS).leaving_by(Reason::TxConnection),
        known("not a VIP", Frame::elsewhere(), 1 << 16).leaving_by(Reason::NoService),
        Case::new("new flow", Target::Director(1), syn, 1)
            .all_new()
            .leaving_by(Reason::TxScheduled),
        Case::new(
            "new flow of a new client, persistence",
            Target::Director(2),
            syn,
            1,
        )
        .all_new()
        .leaving_by(Reason::TxScheduled),
    ]
}

fn packets(table: &mut Table) -> Result<()> {
    let mut rig = Rig::load()?;
    let mut directors = [
        Director::open("known", false)?,
        Director::open("plain", false)?,
        Director::open("sticky", true)?,
    ];
    eprintln!("filling a table with {FLOWS} established connections");
    let [known, ..] = &mut directors;
    known.establish(&mut rig, FLOWS)?;
    let mut cases = cases();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for case in &mut cases {
            let sample = measure(&mut rig, &mut directors, case)
                .with_context(|| format!("in case \"{}\"", case.name))?;
            case.samples.push(sample);
        }
    }
    let base = cases
        .first()
        .map_or(0.0, |case| report::median(&case.samples));
    for case in &cases {
        table
            .rows
            .push(Row::new(case.name, "ns", &case.samples, base));
    }
    Ok(())
}

/// Nanoseconds per turn.
fn measure(rig: &mut Rig, directors: &mut [Director], case: &Case) -> Result<f64> {
    let number = match case.target {
        Target::Director(number) => number,
        Target::Rig(program) => {
            rig.aim_at(program)?;
            return rig.run(&case.frame, case.flows, case.turns);
        }
    };
    let director = directors.get_mut(number).context("no such director")?;
    if case.flows == case.turns {
        director.forget()?;
    }
    rig.aim(director.program()?)?;
    let before = director.left_by(case.reason)?;
    let ns = rig.run(&case.frame, case.flows, case.turns)?;
    let counted = director.left_by(case.reason)? - before;
    if counted < u64::from(case.turns) {
        bail!(
            "only {counted} of {} packets left as they should",
            case.turns
        );
    }
    Ok(ns)
}
