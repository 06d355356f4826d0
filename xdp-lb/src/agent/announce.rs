//! When the segment is told where VIPs are: gratuitous ARP and neighbour advertisements.
//!
//! Which bursts there are is decided elsewhere; here their frames are paced, and those for an interface
//! without carrier, where nobody would hear them, wait until it has one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::machine::Now;
use crate::plan::desired::OwnedAddress;

/// Until an interface without carrier is looked at again.
const NO_CARRIER: Duration = Duration::from_secs(1);

/// A burst of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Frames for each VIP.
    pub repeat: u8,
    /// Time from one frame to the next on the link, whichever VIP it is for.
    pub gap: Duration,
}

/// The frames that are still to come.
#[derive(Clone, Debug, Default)]
pub struct Announcements {
    pending: BTreeMap<OwnedAddress, Pending>,
    /// When the next frame may follow on an interface, by its index.
    free: BTreeMap<u32, Now>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    due: Now,
    left: u32,
    /// To the next frame on the interface.
    gap: Duration,
    /// To the next frame for the same VIP.
    pause: Duration,
}

impl Announcements {
    /// These VIPs are to be announced from now on, which replaces what was to come for them.
    pub fn start(&mut self, now: Now, addresses: Vec<OwnedAddress>, pace: Pace) {
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let pause = pace.gap.saturating_mul(count);
        let mut due = now;
        for address in addresses {
            let pending = Pending {
                due,
                left: pace.repeat.into(),
                gap: pace.gap,
                pause,
            };
            self.pending.insert(address, pending);
            due = due.after(pace.gap);
        }
        self.pending.retain(|_, pending| pending.left > 0);
    }

    /// Only these VIPs are here: nothing more is said of any other.
    pub fn keep(&mut self, standing: &BTreeSet<OwnedAddress>) {
        self.pending.retain(|address, _| standing.contains(address));
    }

    /// When [`Announcements::take`] has something to give.
    pub fn deadline(&self) -> Option<Now> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// The VIPs that frames are due for, and how many. `has_carrier` knows an interface by its index.
    pub fn take(
        &mut self,
        now: Now,
        has_carrier: impl Fn(u32) -> bool,
    ) -> Vec<(OwnedAddress, u32)> {
        let mut due = Vec::new();
        for (address, pending) in &mut self.pending {
            if pending.due > now {
                continue;
            }
            if !has_carrier(address.ifindex) {
                pending.due = now.after(NO_CARRIER);
                continue;
            }
            if pending.gap.is_zero() {
                due.push((address.clone(), std::mem::take(&mut pending.left)));
                continue;
            }
            let free = self.free.entry(address.ifindex).or_insert(now);
            if *free > now {
                pending.due = *free;
                continue;
            }
            *free = now.after(pending.gap);
            due.push((address.clone(), 1));
            pending.left -= 1;
            pending.due = now.after(pending.pause);
        }
        self.free.retain(|_, free| *free > now);
        self.pending.retain(|_, pending| pending.left > 0);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_ONCE: Pace = Pace {
        repeat: 5,
        gap: Duration::ZERO,
    };

    fn vip(last: u8) -> OwnedAddress {
        OwnedAddress::new(2, format!("192.168.1.{last}/24").parse().unwrap())
    }

    fn at(millis: u64) -> Now {
        Now(Duration::from_millis(millis))
    }

    #[test]
    fn a_burst_without_a_gap_goes_at_once() {
        let mut announcements = Announcements::default();
        announcements.start(at(1), vec![vip(1), vip(2)], AT_ONCE);
        let all = announcements.take(at(1), |_| true);
        assert_eq!(all, [(vip(1), 5), (vip(2), 5)]);
        assert_eq!(announcements.deadline(), None);
    }

    #[test]
    fn frames_of_all_vips_keep_the_gap() {
        let mut announcements = Announcements::default();
        let pace = Pace {
            repeat: 2,
            gap: Duration::from_millis(10),
        };
        announcements.start(at(0), vec![vip(1), vip(2)], pace);
        let mut sent = Vec::new();
        while let Some(due) = announcements.deadline() {
            sent.push((due, announcements.take(due, |_| true)));
        }
        let expected = [(0, 1), (10, 2), (20, 1), (30, 2)];
        assert_eq!(
            sent,
            expected.map(|(due, last)| (at(due), vec![(vip(last), 1)]))
        );
    }

    #[test]
    fn bursts_that_meet_on_an_interface_keep_the_gap_too() {
        let mut announcements = Announcements::default();
        let pace = Pace {
            repeat: 2,
            gap: Duration::from_millis(10),
        };
        announcements.start(at(0), vec![vip(1)], pace);
        announcements.start(at(0), vec![vip(2)], pace);
        let mut sent = Vec::new();
        while let Some(due) = announcements.deadline() {
            sent.extend(announcements.take(due, |_| true).iter().map(|_| due));
        }
        assert_eq!(sent, [0, 10, 20, 30].map(at));
    }

    #[test]
    fn a_vip_that_left_is_not_announced() {
        let mut announcements = Announcements::default();
        announcements.start(at(0), vec![vip(1)], AT_ONCE);
        announcements.keep(&BTreeSet::new());
        assert_eq!(announcements.take(at(5), |_| true), []);
    }

    #[test]
    fn a_burst_waits_for_the_carrier() {
        let mut announcements = Announcements::default();
        announcements.start(at(0), vec![vip(1)], AT_ONCE);
        assert_eq!(announcements.take(at(0), |_| false), []);
        assert_eq!(announcements.deadline(), Some(at(1000)));
        assert_eq!(announcements.take(at(1000), |_| true), [(vip(1), 5)]);
    }

    #[test]
    fn a_burst_of_nothing_is_none() {
        let mut announcements = Announcements::default();
        let pace = Pace {
            repeat: 0,
            ..AT_ONCE
        };
        announcements.start(at(0), vec![vip(1)], pace);
        assert_eq!(announcements.deadline(), None);
    }
}
