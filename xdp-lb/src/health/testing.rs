//! Configurations of checks.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::model::{Check, Connection, Probe};

/// `delay_loop 5`, `delay_before_retry 1`, no warm-up, of 192.168.1.102:80.
pub(crate) fn check_config(retry: u32) -> Check {
    check_of(SocketAddr::from(([192, 168, 1, 102], 80)), retry)
}

pub(crate) fn check_of(target: SocketAddr, retry: u32) -> Check {
    Check {
        probe: Probe::Tcp(Connection::to(target, Duration::from_secs(3))),
        delay_loop: Duration::from_secs(5),
        retry,
        delay_before_retry: Duration::from_secs(1),
        warmup: Duration::ZERO,
        alpha: false,
        log_all_failures: false,
    }
}
