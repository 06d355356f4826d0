//! Verdicts in words.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Failure;
use crate::config::model::ServiceKey;
use crate::plan::installed::ServerKey;

/// Something that people are to know of a real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which.
    pub server: ServerKey,
    /// What.
    pub news: News,
}

/// What became of a real server, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It is up: all checks pass.
    Up,
    /// It is down: a check failed.
    Down {
        /// Why, as [`Reason`] says it.
        reason: Arc<str>,
        /// How many probes failed in a row, which is as many as were needed.
        failures: u32,
    },
    /// A check failed, and is tried again.
    Retried {
        /// Why, as [`Reason`] says it.
        reason: Arc<str>,
        /// How many probes failed in a row.
        failures: u32,
        /// How many must.
        needed: u32,
    },
    /// A check of a server that is down failed again.
    StillDown {
        /// Why, as [`Reason`] says it.
        reason: Arc<str>,
    },
    /// Its checks give it another weight.
    Weighed {
        /// The weight it has now.
        weight: u32,
    },
}

impl fmt::Display for Report {
    /// `192.168.1.102:80 down: connect timed out after 3 s (3 of 3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, address) = self.server;
        match &self.news {
            News::Up => write!(f, "{address} up: its checks pass"),
            News::Down { reason, failures } => {
                write!(f, "{address} down: {reason} ({failures} of {failures})")
            }
            News::Retried {
                reason,
                failures,
                needed,
            } => write!(f, "{address} fails: {reason} ({failures} of {needed})"),
            News::StillDown { reason } => write!(f, "{address} still down: {reason}"),
            News::Weighed { weight } => write!(f, "{address} weight {weight}: its checks say so"),
        }
    }
}

/// Why a check of a server fails, with what was probed where that is not the server itself.
#[derive(Clone, Copy, Debug)]
pub struct Reason<'a> {
    /// The address of the server.
    pub server: SocketAddr,
    /// What was probed; a command goes nowhere.
    pub target: Option<SocketAddr>,
    /// Why.
    pub failure: &'a Failure,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(target) = self.target.filter(|target| *target != self.server) {
            write!(f, "{target}: ")?;
        }
        write!(f, "{}", self.failure)
    }
}

/// Why a service's checks rest, in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// Which.
    pub service: ServiceKey,
    /// Whether they rest now.
    pub rests: bool,
}

impl fmt::Display for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vip = match self.service {
            ServiceKey::Endpoint(endpoint) => endpoint.vip.to_string(),
            ServiceKey::Mark(_) | ServiceKey::Group { .. } => "its address".to_owned(),
        };
        if self.rests {
            write!(
                f,
                "its servers are not checked while {vip} is not on this director"
            )
        } else {
            write!(f, "{vip} is on this director: its servers are checked")
        }
    }
}
