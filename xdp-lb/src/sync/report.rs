//! State sync at one moment, for those who look.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::Stats;
use super::mirror::PeerStatus;
use super::record::{ServiceName, Summary};

/// State sync at one moment.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Whether this director holds what its peers hold.
    pub is_up_to_date: bool,
    /// The other directors.
    pub peers: Vec<PeerStatus>,
    /// What was counted.
    pub stats: Stats,
    /// The services here.
    pub services: BTreeMap<ServiceName, Summary>,
    /// How long the last scan of the tables took.
    pub scan: Duration,
    /// How often there is one.
    pub scan_every: Duration,
}
