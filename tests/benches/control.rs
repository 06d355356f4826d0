//! What 20,000 health checks cost: 2,000 virtual services of 10 real servers each, checked every 6 s.
//!
//! `cargo xtask bench control [--json FILE]`, as root, about two minutes. The built agent runs in a
//! namespace of its own, its real servers are the addresses of another one behind a router. Measured
//! are the agent's CPU time and memory; when each server saw its checks, which nobody but the servers
//! says; how late checks began and how long after a verdict the tables obeyed it, as the agent's metrics
//! have it.

#![expect(clippy::print_stdout, reason = "a bench prints its table")]

#[path = "control/farm.rs"]
mod farm;
#[path = "control/report.rs"]
mod report;
#[path = "control/site.rs"]
mod site;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Result;
use report::Table;
use site::{PERIOD, SERVERS, Site};
use xdp_lb_tests::figures::json_file;
use xdp_lb_tests::interrupt;
use xdp_lb_tests::wait::pass;

/// How long each state of the world is looked at.
const WINDOW: Duration = Duration::from_secs(30);
/// Servers that die one after the other.
const SINGLE_DEATHS: u32 = 20;

fn main() -> Result<()> {
    interrupt::watch()?;
    let json = json_file(std::env::args().skip(1))?;
    let mut table = Table::default();
    let mut site = Site::start()?;
    table.memory("at the start", &mut site)?;
    // Each server has been checked, and those that are spread over the first period have been twice.
    pass(2 * PERIOD)?;
    table.window("all up", &mut site, WINDOW)?;
    table.verdicts("a server dies", &mut site, |site| {
        for number in 0..SINGLE_DEATHS {
            site.kill(number * 97)?;
        }
        Ok(())
    })?;
    table.verdicts("250 servers die at once", &mut site, |site| {
        site.reject(Ipv4Addr::new(10, 50, 7, 0), 24)
    })?;
    site.silence(Ipv4Addr::new(10, 50, 32, 0), 21)?;
    // They are known to be silent.
    pass(3 * PERIOD)?;
    table.window("2,048 are silent", &mut site, WINDOW)?;
    table.memory("at the end", &mut site)?;
    let figures = table.0;
    print!("{}", figures.text(&heading()));
    figures.finish(json.as_deref())
}

fn heading() -> String {
    format!("{SERVERS} health checks, one each {} s", PERIOD.as_secs())
}
