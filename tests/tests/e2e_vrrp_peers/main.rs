//! Directors that agree on who is master, whatever happens to them: xdp-lb and real keepalived, mixed.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "part of a test"
)]

mod flood;
mod mixed;
mod roles;
mod site;
