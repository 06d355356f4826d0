//! VRRP on a virtual clock: scenarios in plain text, and whole LANs at random.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod group;
mod keepalived;
mod lan;
mod properties;
mod random;
mod refusals;
mod scenario;
