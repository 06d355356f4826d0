//! Clusters of two and three directors on a virtual clock, with a network that loses, doubles,
//! reorders and parts, and directors that are restarted.
//!
//! - `world`: the directors, their tables, the network between them.
//! - `scenario`: what happens to them, by a seed.
//! - `forged`: what an outsider sends.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod forged;
mod random;
mod scenario;
mod world;
