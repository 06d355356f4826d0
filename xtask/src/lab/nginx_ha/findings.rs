//! What a run saw: numbers and names, no judgement.

use serde::Serialize;

use crate::lab::masters::Reign;
use crate::lab::steps::Step;

/// Everything a run saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// What the directors ran.
    pub(crate) program: String,
    /// Who had the VIP after the first election.
    pub(crate) holders: Vec<Holder>,
    /// How it moved.
    pub(crate) moves: Vec<Move>,
    /// Who was master when.
    pub(crate) reigns: Vec<Reign>,
    /// What the directors left when they were stopped.
    pub(crate) left: Vec<String>,
    /// What was done and how long it took.
    pub(crate) steps: Vec<Step>,
    /// The ends of the directors' logs.
    #[serde(skip)]
    pub(crate) log: String,
}

/// A host that has the VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Holder {
    /// The host.
    pub(crate) host: String,
    /// Length of the VIP's prefix there.
    pub(crate) prefix: u8,
    /// Its label.
    pub(crate) label: String,
}

/// Something happened that is to move the VIP.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Move {
    /// What.
    pub(crate) cause: String,
    /// Who had the VIP.
    pub(crate) from: String,
    /// Who is to have it.
    pub(crate) to: String,
    /// Seconds that the configuration allows.
    pub(crate) bound: f64,
    /// Seconds to the new master's first advert; `None`: not within the wait.
    pub(crate) moved: Option<f64>,
    /// The longest time, s, in which the VIP itself did not answer.
    pub(crate) dark: f64,
    /// Seconds from a client's last answer of the one nginx to its first of the other, at worst.
    pub(crate) outage: Option<f64>,
    /// Requests that failed meanwhile.
    pub(crate) failed: u64,
    /// What notify.sh was called with, on each host.
    pub(crate) notified: [Vec<String>; 2],
    /// Who has the VIP now.
    pub(crate) holders: Vec<Holder>,
}
