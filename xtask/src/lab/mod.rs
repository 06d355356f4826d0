//! `cargo xtask lab`: the main job on one machine, judged.
//!
//! [`needs`] builds, installs and asks the kernel; [`cluster`] puts up client, director and
//! real servers as namespaces on one switch; [`websocket`] sends real clients through it, breaks a
//! server and brings it back, and returns [`findings`]; [`judge`] turns those into PASS and FAIL;
//! [`report`] prints them. [`ledger`] remembers what stands on the machine, so that `lab down` can
//! remove what `--keep` left or a killed run lost.
//!
//! Nothing is made in the machine's own network namespace.

mod agent;
mod clients;
mod cluster;
mod down;
mod findings;
mod frames;
mod judge;
mod ledger;
mod needs;
mod report;
mod seed;
mod server;
mod steps;
mod websocket;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use xdp_lb_tests::interrupt;

use steps::tell;

/// Runs a cluster in network namespaces, drives real clients through it, and judges what they saw.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct LabArgs {
    /// The scenario to run, or `down` to remove what --keep or a killed run left.
    #[arg(value_enum, default_value = "websocket")]
    what: What,
    /// Leave the cluster up at the end and say how to enter it.
    #[arg(long)]
    keep: bool,
    /// Write the report as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Seed 004: HTTP and WebSockets over LVS-DR with persistence, a server killed and brought back.
    Websocket,
    /// Remove every cluster that no running lab owns.
    Down,
}

/// Runs the lab; a check that does not hold is an error, too, after the report.
pub(crate) fn run(args: &LabArgs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and loads BPF programs: run it as root");
    }
    interrupt::watch()?;
    match args.what {
        What::Down => down::run(),
        What::Websocket => scenario(args),
    }
}

fn scenario(args: &LabArgs) -> Result<()> {
    // Before anything else, so that a file that cannot be written costs no time.
    let json = args.json.as_ref().map(|path| {
        fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))
    });
    let json = json.transpose()?;
    let findings = websocket::run(args.keep)?;
    let checks = judge::judge(&findings);
    let mut out = std::io::stdout().lock();
    write!(out, "{}", report::text(&findings, &checks))?;
    if let Some(mut file) = json {
        serde_json::to_writer_pretty(&file, &report::json(&findings, &checks))?;
        writeln!(file)?;
    }
    if let Some(doors) = &findings.doors {
        tell(doors);
    }
    let failed = checks.iter().filter(|check| !check.pass).count();
    ensure!(
        failed == 0,
        "{failed} of {} checks of the lab do not hold",
        checks.len()
    );
    Ok(())
}
