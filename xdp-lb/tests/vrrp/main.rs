//! VRRP on a virtual clock: scenarios in plain text, and whole LANs at random.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod keepalived;
mod lan;
mod random;
mod scenario;
