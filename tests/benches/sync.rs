//! What state sync costs, and how long it takes: two directors on a switch, each the built agent.
//!
//! `cargo xtask bench sync [--json FILE]`, as root, about two minutes. Connections come to a director by
//! program test-run: the program that its agent attached finds and counts them as if they had come over
//! the wire, and no CPU time is spent on the wire. Three things are measured: a director that returns
//! gets everything; 20,000 new connections a second; the packet path while the tables are looked through.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its table and how far it is"
)]

#[path = "sync/bulk.rs"]
mod bulk;
#[path = "sync/client.rs"]
mod client;
#[path = "sync/known.rs"]
mod known;
#[path = "sync/live.rs"]
mod live;
#[path = "sync/path.rs"]
mod path;
#[path = "sync/site.rs"]
mod site;

use anyhow::Result;
use site::Site;
use xdp_lb_tests::figures::{Figures, json_file};
use xdp_lb_tests::interrupt;

fn main() -> Result<()> {
    interrupt::watch()?;
    let json = json_file(std::env::args().skip(1))?;
    let mut figures = Figures::default();
    // What was measured is shown, also if something went wrong afterwards.
    let measured = measure(&mut figures);
    print!("{}", figures.text("state sync of two directors"));
    measured?;
    figures.finish(json.as_deref())
}

fn measure(figures: &mut Figures) -> Result<()> {
    {
        let mut site = Site::create("bulk", [100, 150])?;
        bulk::measure(figures, &mut site)?;
        path::measure(figures, &mut site)?;
    }
    live::measure(figures, &mut Site::create("live", [150, 100])?)
}
