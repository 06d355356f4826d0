//! `cargo xtask lab`: the main job on one machine, judged.
//!
//! [`needs`] builds, installs and asks the kernel; [`cluster`] puts up client, director and
//! real servers as namespaces on one switch; [`websocket`] sends real clients through it, breaks a
//! server and brings it back, and returns [`findings`]; [`judge`] turns those into PASS and FAIL;
//! [`report`] prints them. [`ledger`] remembers what stands on the machine, so that `lab down` can
//! remove what `--keep` left or a killed run lost.
//!
//! [`ipvs_diff`] and [`kernels`] are about other kernels, each in an emulated [`guest`]: whom IPVS chooses, and
//! what its verifier says of the programs.
//!
//! Nothing is made in the machine's own network namespace.

mod agent;
mod check;
mod churn;
mod clients;
mod cluster;
mod down;
mod failover;
mod findings;
mod frames;
mod guest;
mod handover;
mod ipvs_diff;
mod judge;
mod kernels;
mod ledger;
mod lnmp;
mod localnode;
mod masters;
mod needs;
mod nginx_ha;
mod node;
mod page;
mod pair;
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
use serde_json::Value;
use xdp_lb_tests::interrupt;
use xdp_lb_tests::peer::Program;

use check::Check;
use needs::Built;
use steps::tell;

/// Runs a cluster in network namespaces, drives real clients through it, and judges what they saw.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct LabArgs {
    /// The scenario to run, or `down` to remove what --keep or a killed run left.
    #[arg(value_enum, default_value = "websocket")]
    what: What,
    /// What the directors of nginx-ha and localnode run.
    #[arg(long, value_enum, default_value = "xdp-lb")]
    director: Director,
    /// How many connections `failover` holds, WebSockets aside.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    connections: usize,
    /// How often `failover` goes through all of its events.
    #[arg(long, value_name = "N", default_value_t = 3)]
    repeats: u32,
    /// Milliseconds between heartbeats of a connection in `failover`; by default 100, or more where that
    /// would be more than 10,000 heartbeats a second.
    #[arg(long, value_name = "MS")]
    every: Option<u64>,
    /// Leave state sync out of the files of `failover`, to see what it is good for.
    #[arg(long)]
    without_sync: bool,
    /// Leave the cluster up at the end and say how to enter it.
    #[arg(long)]
    keep: bool,
    /// Write the report as JSON, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Of ipvs-diff and kernels: only this kernel; can be given more than once.
    #[arg(long = "kernel", value_enum, value_name = "SERIES")]
    kernels: Vec<guest::Kernel>,
    /// Of ipvs-diff: keep what IPVS chose, for the test suite to compare with.
    #[arg(long)]
    record: bool,
}

impl LabArgs {
    fn kernels<'a>(&'a self, usual: &'a [guest::Kernel]) -> &'a [guest::Kernel] {
        if self.kernels.is_empty() {
            usual
        } else {
            &self.kernels
        }
    }
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Seed 004: HTTP and WebSockets over LVS-DR with persistence, a server killed and brought back.
    Websocket,
    /// Seed 003: two hosts with nginx and a director; what moves the VIP between them.
    NginxHa,
    /// Seed 001: two hosts, each director and real server; the master powered off and on.
    Localnode,
    /// Seed 000: nginx, php-fpm and MariaDB, weights 2 and 1 and a hot backup; parts killed and back.
    Lnmp,
    /// Four real servers that fail, drain, change weight and leave in random order for a minute.
    Churn,
    /// IPVS in an emulated guest and the XDP program: the same services, clients and edits.
    IpvsDiff,
    /// What the verifiers of other kernels, in emulated guests, say of every program.
    Kernels,
    /// Thousands of long connections through two directors: reload, restart, upgrade, failover, return.
    Failover,
    /// Remove every cluster that no running lab owns.
    Down,
}

/// What plays the directors.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Director {
    /// The built agent.
    XdpLb,
    /// The installed keepalived, its VRRP part alone: what it does without the kernel's `ip_vs`.
    Keepalived,
}

impl Director {
    fn program(self, built: &Built) -> Program {
        match self {
            Self::XdpLb => Program::XdpLb(built.xdp_lb.clone()),
            Self::Keepalived => Program::Keepalived,
        }
    }
}

/// A run that came to its end, told and judged.
struct Outcome {
    text: String,
    json: Value,
    checks: Vec<Check>,
    /// How to enter what `--keep` left.
    doors: Option<String>,
}

/// Runs the lab; a check that does not hold is an error, too, after the report.
pub(crate) fn run(args: &LabArgs) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the lab makes network namespaces and loads BPF programs: run it as root");
    }
    interrupt::watch()?;
    match args.what {
        What::Down => down::run(),
        What::Websocket => scenario(args, websocket::run),
        What::NginxHa => scenario(args, nginx_ha::run),
        What::Localnode => scenario(args, localnode::run),
        What::Lnmp => scenario(args, lnmp::run),
        What::Churn => scenario(args, churn::run),
        What::IpvsDiff => ipvs_diff::run(args.kernels(&guest::Kernel::WITH_MODULES), args.record),
        What::Kernels => kernels::run(args.kernels(&guest::Kernel::ALL)),
        What::Failover => scenario(args, failover::run),
    }
}

fn scenario(args: &LabArgs, run: fn(&LabArgs) -> Result<Outcome>) -> Result<()> {
    // Before anything else, so that a file that cannot be written costs no time.
    let json = args.json.as_ref().map(|path| {
        fs::File::create(path).with_context(|| format!("cannot write {}", path.display()))
    });
    let json = json.transpose()?;
    let outcome = run(args)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", outcome.text)?;
    if let Some(mut file) = json {
        serde_json::to_writer_pretty(&file, &outcome.json)?;
        writeln!(file)?;
    }
    if let Some(doors) = &outcome.doors {
        tell(doors);
    }
    let failed = outcome.checks.iter().filter(|check| !check.pass).count();
    ensure!(
        failed == 0,
        "{failed} of {} checks of the lab do not hold",
        outcome.checks.len()
    );
    Ok(())
}

/// Passes a result on; the log explains an error, unless it is an interrupt.
fn or_tell<T>(result: Result<T>, log: &str) -> Result<T> {
    if result.is_err() && interrupt::check().is_ok() {
        tell(&format!("The log ends\n{log}\n"));
    }
    result
}
