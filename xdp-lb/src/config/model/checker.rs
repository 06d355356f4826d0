//! Health checks.

use std::net::SocketAddr;
use std::time::Duration;

/// A health check of a real server, with every inherited value filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is probed.
    pub probe: Probe,
    /// `delay_loop`: time from one check to the next.
    pub delay_loop: Duration,
    /// `retry`: further failures in a row that are needed after the first.
    pub retry: u32,
    /// `delay_before_retry`: time from a failed check to the retry.
    pub delay_before_retry: Duration,
    /// `warmup`: the first check starts at a random moment within this time.
    pub warmup: Duration,
}

/// What a health check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// `TCP_CHECK`: a connection is established.
    Tcp(TcpProbe),
}

/// `TCP_CHECK`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProbe {
    /// `connect_ip` and `connect_port`, by default those of the real server.
    pub target: SocketAddr,
    /// `bindto` and `bind_port`.
    pub source: Option<SocketAddr>,
    /// `connect_timeout`.
    pub connect_timeout: Duration,
}
