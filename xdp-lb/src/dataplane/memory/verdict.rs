//! What becomes of a frame.

use xdp_lb_common::reason::{self, Event, Reason};

use crate::config::model::ServiceKey;
use crate::plan::installed::ServerKey;

/// What becomes of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where it goes.
    pub action: reason::Verdict,
    /// Why.
    pub reason: Reason,
    /// The frame as it goes there; `None` if it goes nowhere.
    pub frame: Option<Vec<u8>>,
    /// Index of the interface it leaves by, if it is sent.
    pub port: Option<u32>,
    /// What it is counted as.
    pub traffic: Option<Traffic>,
    /// What else happened.
    pub events: Vec<Event>,
}

impl Verdict {
    /// The frame passes as it came, or goes nowhere; what else happens is filled in later.
    pub(super) const fn of(reason: Reason) -> Self {
        Self {
            action: reason.verdict(),
            reason,
            frame: None,
            port: None,
            traffic: None,
            events: Vec::new(),
        }
    }
}

/// A packet that counts for a service and a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The service it is for.
    pub service: ServiceKey,
    /// The real server that it goes to, which may be another service's if its connection is.
    pub server: ServerKey,
    /// It opens a connection.
    pub opens: bool,
    /// It comes from the real server.
    pub is_reply: bool,
    /// Octets of the IP packet.
    pub octets: u32,
}
