//! How long a VIP is dark when its director goes: keepalived and xdp-lb in pairs of either and of both,
//! side by side on the same network and configuration.
//!
//! `cargo xtask bench failover [--runs N] [--only TEXT] [--json FILE]`. The client asks the VIP every
//! millisecond; its row is the longest time without an answer. Beside it stands the time from the old
//! master's last advert to the new one's first, which the protocol's formula bounds. All pairs run at
//! once, so compare rows of one run only.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its table and how far it is"
)]

#[path = "failover/events.rs"]
mod events;
#[path = "failover/report.rs"]
mod report;
#[path = "failover/site.rs"]
mod site;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use events::{EVENTS, Event};
use report::{Row, Table};
use site::{Site, VERSIONS, Version};
use xdp_lb_tests::peer::Program;
use xdp_lb_tests::{director, interrupt};

/// How often each event is brought about.
const RUNS: usize = 10;

/// Phases of the interval in which a partition heals: more, because the order of events depends on it.
const HEALS: usize = 20;

/// What is to be measured.
struct Options {
    json: Option<PathBuf>,
    runs: usize,
    /// Only rows that hold this.
    only: String,
}

fn main() -> Result<()> {
    interrupt::watch()?;
    let options = Options::read(std::env::args().skip(1))?;
    let xdp_lb = Program::XdpLb(director::program()?);
    let keepalived = Program::Keepalived;
    let pairs = [
        [keepalived.clone(), keepalived.clone()],
        [xdp_lb.clone(), xdp_lb.clone()],
        [keepalived.clone(), xdp_lb.clone()],
        [xdp_lb, keepalived],
    ];
    let mut table = Table::default();
    for version in VERSIONS {
        table.rows.extend(side_by_side(&pairs, version, &options)?);
    }
    for pair in &pairs {
        table.rows.extend(under_load(pair, &options)?);
    }
    print!("{}", table.text());
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&table)?;
        std::fs::write(file, text + "\n").with_context(|| file.display().to_string())?;
    }
    Ok(())
}

impl Options {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            json: None,
            runs: RUNS,
            only: String::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                let value = arguments.next();
                value.with_context(|| format!("{argument} wants a value"))
            };
            match argument.as_str() {
                "--bench" => {}
                "--json" => options.json = Some(value()?.into()),
                "--runs" => options.runs = value()?.parse().context("--runs wants a number")?,
                "--only" => options.only = value()?,
                other => bail!("unknown argument `{other}`"),
            }
        }
        Ok(options)
    }

    /// How often this event is wanted of this pair.
    fn times(&self, event: Event, version: Version, pair: &[Program; 2]) -> usize {
        if !name(event.name(), version, pair).contains(&self.only) {
            return 0;
        }
        match event {
            Event::Heal | Event::Return => self.runs * HEALS / RUNS,
            _ => self.runs,
        }
    }
}

/// What a row is called, and what `--only` looks at.
fn name(event: &str, version: Version, [master, backup]: &[Program; 2]) -> String {
    let (master, backup) = (master.name(), backup.name());
    format!("{event}, {}, {master} → {backup}", version.name())
}

/// All pairs at once, each with all the events one after the other.
fn side_by_side(pairs: &[[Program; 2]], version: Version, options: &Options) -> Result<Vec<Row>> {
    let of_pair = |(number, pair): (usize, &[Program; 2])| -> Result<Vec<Row>> {
        let wanted = |event: &&Event| options.times(**event, version, pair) > 0;
        let wanted: Vec<_> = EVENTS.iter().filter(wanted).copied().collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut site = Site::start(&format!("fo{number}"), pair, version)?;
        let mut rows = Vec::new();
        for event in wanted {
            let name = name(event.name(), version, pair);
            let mut row = Row::new(&name, event.formula(version));
            for _ in 0..options.times(event, version, pair) {
                let outcome = event.run(&mut site).context(site.logs());
                row.add(&outcome.with_context(|| name.clone())?);
            }
            eprintln!("{name}: done");
            rows.push(row);
        }
        Ok(rows)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .iter()
            .enumerate()
            .map(|pair| scope.spawn(move || of_pair(pair)))
            .collect();
        threads
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect()
    });
    let mut rows = Vec::new();
    for result in results {
        match result {
            Ok(of_pair) => rows.extend(of_pair?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    rows.sort_by_key(|row| EVENTS.iter().position(|event| row.is_of(event.name())));
    Ok(rows)
}

/// One pair alone on a machine without an idle CPU: how often the backup takes over for nothing.
fn under_load(pair: &[Program; 2], options: &Options) -> Result<Option<Row>> {
    let version = Version::V3;
    let name = name(events::LOAD, version, pair);
    if !name.contains(&options.only) {
        return Ok(None);
    }
    let mut site = Site::start("fol", pair, version)?;
    let row = events::under_load(&mut site, &name).context(site.logs())?;
    eprintln!("{name}: done");
    Ok(Some(row))
}
