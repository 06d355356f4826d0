//! Checks other than those by TCP and HTTP, against real servers, commands and files. Those that need
//! a network have namespaces of their own and need root.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[path = "../support/probes.rs"]
mod probes;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "not every suite looks at MACs")]
mod support;

mod dns;
mod dnsmasq;
mod file;
mod misc;
mod ping;
mod raw;
mod smtp;
mod udp;

use std::time::Duration;

use probes::{passes, run, run_with, why};

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
const SOON: Duration = Duration::from_secs(30);
