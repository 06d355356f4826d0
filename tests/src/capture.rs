//! Counting frames as the switch sees them, by tcpdump on one of its ports.
//!
//! What a director's XDP program takes never reaches that host's stack, so nothing on the director
//! can see it. The switch's end of the cable sees every frame, each way.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::netns::Netns;
use crate::process::Process;
use crate::wait;

/// Which way frames go at a port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the switch to the host.
    ToHost,
    /// From the host to the switch.
    FromHost,
}

/// A running count.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    /// What tcpdump had counted and missed when it began.
    before: (u64, u64),
}

impl Capture {
    /// Counts frames on `port` of `switch` that match `filter`, as tcpdump writes it. Returns once
    /// it counts.
    pub fn start(
        (name, folder): (&str, &Path),
        (switch, port): (&Netns, &str),
        way: Way,
        filter: &str,
    ) -> Result<Self> {
        // In the filter and not by -Q, which tcpdump applies only after the kernel has counted.
        let direction = match way {
            Way::ToHost => "outbound",
            Way::FromHost => "inbound",
        };
        // `-Z root`: it would otherwise become a user who cannot read the namespace's devices.
        let mut command = Command::new("tcpdump");
        command
            .args(["-Z", "root", "-n", "-p", "-U", "-s", "96", "-B", "8192"])
            .args(["-i", port, "-w", "-"])
            .arg(format!("{direction} and ({filter})"));
        let mut process = Process::start(name, switch, &mut command, folder)?;
        wait::until("tcpdump listens", Duration::from_secs(5), || {
            process.expect_running()?;
            Ok(process.log_tail(1).contains("listening on").then_some(()))
        })?;
        // Its socket takes every frame until the filter is set, and the kernel counts those, too.
        process.signal(Signal::SIGUSR1)?;
        let (before, _) = wait::until("tcpdump counts", Duration::from_secs(5), || {
            process.expect_running()?;
            Ok(totals(&process.log_tail(1)))
        })?;
        Ok(Self { process, before })
    }

    /// The process that counts.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// Ends the count and returns it.
    ///
    /// # Errors
    /// When the kernel dropped frames instead of counting them: then the count says nothing.
    pub fn finish(self) -> Result<u64> {
        let Self {
            mut process,
            before,
        } = self;
        process.signal(Signal::SIGINT)?;
        process.wait(Duration::from_secs(5))?;
        let log = process.log_tail(3);
        let (received, dropped) =
            totals(&log).with_context(|| format!("tcpdump ended without its totals: {log}"))?;
        if dropped != before.1 {
            bail!("{}: tcpdump missed {dropped} frames", process.name());
        }
        Ok(received - before.0)
    }
}

/// Frames that matched and frames that were missed: tcpdump's last lines, or the one that it answers a
/// signal with.
fn totals(log: &str) -> Option<(u64, u64)> {
    let count = |what: &str| {
        let mut counts = log.lines().flat_map(|line| line.split(", "));
        let count = counts.find(|count| count.contains(what))?;
        let count = count.trim_start_matches("tcpdump: ");
        count.split_whitespace().next()?.parse().ok()
    };
    Some((count("received by filter")?, count("dropped by kernel")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_read_from_the_last_lines() {
        let log = "12 packets captured\n14 packets received by filter\n2 packets dropped by kernel";
        assert_eq!(totals(log), Some((14, 2)));
        assert_eq!(totals("tcpdump: no such device"), None);
        let line = "tcpdump: 0 packets captured, 12 packets received by filter, 1 packet dropped by kernel";
        assert_eq!(totals(line), Some((12, 1)));
        // One of anything is singular.
        let log = "1 packet captured\n1 packet received by filter\n0 packets dropped by kernel";
        assert_eq!(totals(log), Some((1, 0)));
    }
}
