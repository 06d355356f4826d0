//! The agent's sign of life to the program, which closes the gates of leased services without it.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{error, info};

use crate::dataplane::Dataplane;
use crate::plan::desired::Desired;

/// The least time between two heartbeats: a quarter of two ticks, the shortest lease.
const SHORTEST: Duration = Duration::from_millis(250);

/// The most.
const LONGEST: Duration = Duration::from_secs(1);

/// When the next heartbeat is due, and whether there is reason for one.
pub struct Pulse {
    every: Duration,
    due: Instant,
    is_alive: Box<dyn Fn() -> bool + Send>,
    trouble: Option<String>,
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse")
            .field("every", &self.every)
            .finish_non_exhaustive()
    }
}

impl Pulse {
    /// One that beats as long as it is called.
    pub fn new() -> Self {
        Self {
            every: SHORTEST,
            due: Instant::now(),
            is_alive: Box::new(|| true),
            trouble: None,
        }
    }

    /// Beats only while this says yes: whoever tells the peers that the VIPs are taken is alive, too.
    pub fn only_while(&mut self, is_alive: impl Fn() -> bool + Send + 'static) {
        self.is_alive = Box::new(is_alive);
    }

    /// Beats four times in the shortest lease.
    pub fn suit(&mut self, wanted: &Desired) {
        let leases = wanted.services.values().filter_map(|service| service.lease);
        let every = leases.min().map_or(LONGEST, |lease| lease / 4);
        self.every = every.clamp(SHORTEST, LONGEST);
        self.due = self.due.min(Instant::now() + self.every);
    }

    /// When the next heartbeat is due.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// The heartbeat that is due, if one is.
    pub fn beat(&mut self, dataplane: &mut impl Dataplane) {
        if self.due <= Instant::now() {
            self.beat_now(dataplane);
        }
    }

    /// A heartbeat out of turn.
    pub fn beat_now(&mut self, dataplane: &mut impl Dataplane) {
        self.due = Instant::now() + self.every;
        let trouble = if (self.is_alive)() {
            dataplane.heartbeat().err().map(|reason| reason.to_string())
        } else {
            Some("VRRP gives no sign of life".to_owned())
        };
        if self.trouble != trouble {
            if let Some(reason) = &trouble {
                error!(
                    "the program is not told that the agent lives, and soon passes packets for \
                     the VIPs to the kernel: {reason}"
                );
            } else {
                info!("the program is told again that the agent lives");
            }
            self.trouble = trouble;
        }
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}
