//! What the VRRP driver is made of, against a real kernel, in namespaces of its own. Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[path = "../support/mod.rs"]
mod support;

mod frames;

mod routes;
mod socket;
mod vips;
