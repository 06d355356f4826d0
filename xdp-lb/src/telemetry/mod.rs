//! What monitoring sees: [`logging`] to stderr, [`metrics`] as text, [`http`] to serve it, [`mail`].
//!
//! Metrics are made at scrape time from a snapshot of the agent; the one thing that is kept here is
//! what health checks report as they happen. Nothing here can delay the agent or fail it.

pub mod http;
pub mod logging;
pub mod mail;
pub mod metrics;
