//! `cargo xtask conncheck`: many long TCP connections through a VIP, and which of them break, why.
//!
//! Each connection sends a heartbeat, ten times a second unless told otherwise, and its server answers
//! with its name ([`wire`]). A connection is broken when it is reset, when it ends, when an answer takes
//! two seconds, or when another server answers; it is then opened again. [`books`] decides all of that
//! and has no effects; [`client`] drives sockets, [`serve`] is the other side, [`tally`] is what is
//! reported. The lab uses [`Checker`] without a process in between.

mod books;
mod client;
mod serve;
mod sockets;
mod tally;
mod wire;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use xdp_lb_tests::interrupt;

pub(crate) use books::Rules;
pub(crate) use client::{Checker, Plan};
#[cfg(test)]
pub(crate) use tally::Cause;
pub(crate) use tally::Window;
use wire::Name;

/// What it may take until all connections stand, beyond what their pace asks for.
const SETTLE: Duration = Duration::from_secs(20);

/// Holds connections through a VIP and counts which of them break, or serves them.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ConnCheckArgs {
    /// Where to connect to; several share the connections.
    #[arg(long, value_name = "ADDR:PORT", num_args = 1.., value_delimiter = ',')]
    #[arg(required_unless_present = "serve")]
    connect: Vec<SocketAddrV4>,
    /// The clients' addresses; several when one has not enough ports.
    #[arg(long, value_name = "ADDR", num_args = 1.., value_delimiter = ',')]
    from: Vec<Ipv4Addr>,
    /// How many connections.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1000)]
    count: usize,
    /// How long to watch once all of them stand.
    #[arg(long = "for", value_name = "SECS", default_value_t = 10)]
    seconds: u64,
    /// Milliseconds from one heartbeat of a connection to the next.
    #[arg(long, value_name = "MS", default_value_t = 100)]
    every: u64,
    /// Connections to close in order and open anew per second.
    #[arg(long, value_name = "N", default_value_t = 0)]
    renew: u32,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Be the server of this name instead.
    #[arg(
        long,
        value_name = "NAME",
        requires = "listen",
        conflicts_with = "connect"
    )]
    serve: Option<Name>,
    /// Where the server listens.
    #[arg(long, value_name = "ADDR:PORT", num_args = 1.., value_delimiter = ',')]
    listen: Vec<SocketAddr>,
}

/// Checks or serves; connections that break are an error, after the report.
pub(crate) fn run(args: &ConnCheckArgs) -> Result<()> {
    if let Some(name) = args.serve {
        return serve::run(name, &args.listen);
    }
    interrupt::watch()?;
    let from = if args.from.is_empty() {
        vec![Ipv4Addr::UNSPECIFIED]
    } else {
        args.from.clone()
    };
    let rules = Rules {
        every: Duration::from_millis(args.every.max(1)),
        ..Rules::default()
    };
    let mut checker = Checker::start(Plan {
        to: args.connect.clone(),
        from,
        count: args.count,
        rules,
    })?;
    let pace = Duration::from_secs(1) / rules.opens;
    checker.wait_open(SETTLE + pace * u32::try_from(args.count)?)?;
    checker.renew(args.renew)?;
    checker.mark()?;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(args.seconds) {
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(50));
    }
    let window = checker.mark()?;
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &window)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&window))?;
    }
    let broken = window.broken_in_all();
    ensure!(
        broken == 0,
        "{broken} of {} connections broke",
        window.stood()
    );
    Ok(())
}

/// The report for people.
fn text(window: &Window) -> String {
    let silence = &window.silence;
    let rows = [
        ("seconds", format!("{:.1}", window.seconds)),
        ("connections", list(&window.standing)),
        (
            "heartbeats",
            format!("{} sent, {} answered", window.sent, window.answered),
        ),
        ("broken", window.broken_in_all().to_string()),
        ("  by server", window.breaks()),
        ("  answered instead", list(&window.intruders)),
        ("  older than 200 ms", window.grown.to_string()),
        ("opened", window.opened.to_string()),
        ("  renewed", window.renewed.to_string()),
        ("attempts that failed", list(&window.refused)),
        ("packets lost", window.lost.to_string()),
        ("  sent for nothing", window.needless.to_string()),
        (
            "longest silence, ms",
            format!(
                "p50 {:.0}, p99 {:.0}, at most {:.0}",
                silence.p50 * 1000.0,
                silence.p99 * 1000.0,
                silence.max * 1000.0
            ),
        ),
    ];
    let lines = rows.map(|(what, value)| format!("{what:<22}{value}").trim_end().to_owned() + "\n");
    lines.concat()
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    let counts = counts.iter().map(|(name, count)| format!("{name} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
