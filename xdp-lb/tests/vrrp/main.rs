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
#[path = "../support/random.rs"]
mod random;
mod refusals;
mod scenario;

impl random::Random {
    /// One of these.
    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.index(from.len())]
    }
}
