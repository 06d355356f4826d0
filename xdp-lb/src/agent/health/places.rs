//! How many probes may be under way at once.
//!
//! Each holds a descriptor, so all together they are bounded by what this process may open: that limit
//! is raised to what the checks need, as far as it goes. Where it does not reach, those that took long
//! the last time, as their servers are silent, get three quarters of the room and wait for each other;
//! servers that answer find a place in the rest. Commands are processes and have their own, smaller
//! room.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::config::model::Probe;
use crate::sys::limits::allow_open_files;

/// Descriptors that the rest of the agent may need: tables, sockets, those who ask, scripts.
const RESERVE: usize = 512;
/// Room that there is however little may be opened: better an `EMFILE` now and then than no checks.
const LEAST: usize = 64;
/// Commands that may run at once.
const COMMANDS: usize = 128;

/// The room of each kind of probe.
#[derive(Debug)]
pub(in crate::agent) struct Places {
    network: Room,
    commands: Room,
}

#[derive(Debug)]
struct Room {
    all: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    size: AtomicUsize,
}

/// The right to be under way, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    _slow: Option<OwnedSemaphorePermit>,
    _all: Option<OwnedSemaphorePermit>,
}

impl Places {
    /// For so many checks, as far as this process may open as many descriptors.
    pub(super) fn of_this_process(checks: usize) -> Self {
        let places = Self::new(LEAST);
        places.suit(checks);
        places
    }

    /// So many over the network.
    pub(in crate::agent) fn new(size: usize) -> Self {
        Self {
            network: Room::new(size),
            commands: Room::new(COMMANDS),
        }
    }

    /// Makes room for so many checks. Room that is not needed any more stays.
    pub(super) fn suit(&self, checks: usize) {
        let (allowed, refused) = allow_open_files(checks.saturating_add(RESERVE));
        let room = allowed.saturating_sub(RESERVE).max(LEAST);
        // Few servers are silent at once, or the network is down and all of them are.
        if room < checks / 2 {
            let refused = refused
                .map(|error| format!(": {error}"))
                .unwrap_or_default();
            warn!(
                "this process may open {allowed} files, too few for {checks} health checks at \
                 once{refused}; of servers that do not answer only {room} are checked at a time: \
                 raise LimitNOFILE of the service"
            );
        }
        self.network.grow(room.min(checks));
    }

    /// Waits for a place.
    pub(super) async fn take(&self, probe: &Probe, slow: bool) -> Place {
        let room = match probe {
            Probe::Misc(_) => &self.commands,
            Probe::Tcp(_)
            | Probe::Http(_)
            | Probe::Smtp(_)
            | Probe::Dns(_)
            | Probe::Udp(_)
            | Probe::Ping(_)
            | Probe::File(_) => &self.network,
        };
        let slow = if slow {
            Arc::clone(&room.slow).acquire_owned().await.ok()
        } else {
            None
        };
        Place {
            _slow: slow,
            // Nobody closes it.
            _all: Arc::clone(&room.all).acquire_owned().await.ok(),
        }
    }
}

impl Room {
    fn new(size: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(size)),
            slow: Arc::new(Semaphore::new(for_slow(size))),
            size: AtomicUsize::new(size),
        }
    }

    fn grow(&self, size: usize) {
        let size = size.min(Semaphore::MAX_PERMITS);
        let before = self.size.fetch_max(size, Ordering::Relaxed);
        self.all.add_permits(size.saturating_sub(before));
        let more = for_slow(size).saturating_sub(for_slow(before));
        self.slow.add_permits(more);
    }
}

const fn for_slow(size: usize) -> usize {
    size - size / 4
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;
    use crate::config::model::Connection;

    fn tcp() -> Probe {
        let target = SocketAddr::from(([10, 0, 0, 1], 80));
        Probe::Tcp(Connection::to(target, Duration::from_secs(1)))
    }

    fn take(places: &Places, slow: bool) -> Option<Place> {
        places.take(&tcp(), slow).now_or_never()
    }

    #[test]
    fn slow_probes_leave_a_quarter_to_the_others() {
        let places = Places::new(8);
        let mut slow: Vec<_> = (0..6).map(|_| take(&places, true).unwrap()).collect();
        assert!(take(&places, true).is_none());
        let quick: Vec<_> = (0..2).map(|_| take(&places, false).unwrap()).collect();
        assert!(take(&places, false).is_none());
        drop(quick);
        assert!(take(&places, true).is_none(), "the rest is not for them");
        assert!(take(&places, false).is_some());
        slow.pop();
        assert!(take(&places, true).is_some());
    }

    #[test]
    fn room_grows_and_never_shrinks() {
        let places = Places::new(4);
        for (wanted, size) in [(16, 16), (8, 16), (20, 20)] {
            places.network.grow(wanted);
            assert_eq!(places.network.all.available_permits(), size);
            assert_eq!(places.network.slow.available_permits(), for_slow(size));
        }
    }

    #[test]
    fn this_process_may_open_as_many_as_a_few_checks_need() {
        let places = Places::of_this_process(200);
        assert_eq!(places.network.all.available_permits(), 200);
    }
}
