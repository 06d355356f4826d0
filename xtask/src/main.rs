//! Builds, runs, tests and measures xdp-lb.
fn main() {}
