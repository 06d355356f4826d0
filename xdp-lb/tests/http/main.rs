//! `HTTP_GET` and `SSL_GET` against a real nginx, on the loopback interface.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[path = "../support/probes.rs"]
mod probes;

mod certificates;
mod nginx;
mod pages;
mod raw;
mod tls;

use probes::{passes, run, run_with, why};
use xdp_lb::health::{Failure, Outcome};

fn reset(outcome: &Outcome) {
    assert_eq!(outcome, &Outcome::Failed(Failure::Reset));
}
