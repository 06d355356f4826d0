//! Verdicts in words.

use std::fmt;
use std::net::SocketAddr;

use super::Failure;
use crate::plan::installed::ServerKey;

/// A verdict that changed, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whose.
    pub server: ServerKey,
    /// The verdict.
    pub verdict: Verdict,
}

/// Up or down, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All checks pass.
    Up,
    /// A check failed.
    Down {
        /// What was probed.
        target: SocketAddr,
        /// Why the last probe failed.
        failure: Failure,
        /// How many failed in a row, which is as many as were needed.
        failures: u32,
    },
}

impl fmt::Display for Report {
    /// `192.168.1.102:80 down: connect timed out after 3 s (3 of 3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, address) = self.server;
        match &self.verdict {
            Verdict::Up => write!(f, "{address} up: its checks pass"),
            Verdict::Down {
                target,
                failure,
                failures,
            } => {
                write!(f, "{address} down: ")?;
                if *target != address {
                    write!(f, "{target}: ")?;
                }
                write!(f, "{failure} ({failures} of {failures})")
            }
        }
    }
}
