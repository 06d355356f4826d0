//! When gratuitous ARP is due for the VIPs that came here.
//!
//! As keepalived: a burst at once and another five seconds later. While the interface has no carrier
//! nobody would hear it: a burst waits until it has.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::machine::Now;
use crate::plan::desired::OwnedAddress;

/// Bursts for a VIP that came here.
const BURSTS: u8 = 2;

/// From one burst to the next, keepalived's `vrrp_garp_master_delay`.
const DELAY: Duration = Duration::from_secs(5);

/// Until an interface without carrier is looked at again.
const NO_CARRIER: Duration = Duration::from_secs(1);

/// The bursts that are still to come.
#[derive(Clone, Debug, Default)]
pub struct Announcements {
    pending: BTreeMap<OwnedAddress, Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    due: Now,
    left: u8,
}

impl Announcements {
    /// A VIP came here.
    pub fn start(&mut self, now: Now, address: OwnedAddress) {
        let pending = Pending {
            due: now,
            left: BURSTS,
        };
        self.pending.insert(address, pending);
    }

    /// Only these VIPs are here: nothing more is said of any other.
    pub fn keep(&mut self, standing: &BTreeSet<OwnedAddress>) {
        self.pending.retain(|address, _| standing.contains(address));
    }

    /// When [`Announcements::take`] has something to give.
    pub fn deadline(&self) -> Option<Now> {
        self.pending.values().map(|pending| pending.due).min()
    }

    /// The VIPs that a burst is due for. `has_carrier` knows an interface by its index.
    pub fn take(&mut self, now: Now, has_carrier: impl Fn(u32) -> bool) -> Vec<OwnedAddress> {
        let mut due = Vec::new();
        for (address, pending) in &mut self.pending {
            if pending.due > now {
                continue;
            }
            if has_carrier(address.ifindex) {
                due.push(address.clone());
                pending.left -= 1;
                pending.due = now.after(DELAY);
            } else {
                pending.due = now.after(NO_CARRIER);
            }
        }
        self.pending.retain(|_, pending| pending.left > 0);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vip() -> OwnedAddress {
        OwnedAddress {
            ifindex: 2,
            address: "192.168.1.200/24".parse().unwrap(),
            label: None,
            broadcast: None,
            scope: 0,
        }
    }

    fn at(seconds: u64) -> Now {
        Now(Duration::from_secs(seconds))
    }

    #[test]
    fn a_burst_at_once_and_one_after_five_seconds() {
        let mut announcements = Announcements::default();
        announcements.start(at(1), vip());
        assert_eq!(announcements.take(at(1), |_| true), [vip()]);
        assert_eq!(announcements.deadline(), Some(at(6)));
        assert_eq!(announcements.take(at(5), |_| true), []);
        assert_eq!(announcements.take(at(6), |_| true), [vip()]);
        assert_eq!(announcements.deadline(), None);
    }

    #[test]
    fn a_vip_that_left_is_not_announced() {
        let mut announcements = Announcements::default();
        announcements.start(at(0), vip());
        announcements.take(at(0), |_| true);
        announcements.keep(&BTreeSet::new());
        assert_eq!(announcements.take(at(5), |_| true), []);
    }

    #[test]
    fn a_burst_waits_for_the_carrier() {
        let mut announcements = Announcements::default();
        announcements.start(at(0), vip());
        assert_eq!(announcements.take(at(0), |_| false), []);
        assert_eq!(announcements.take(at(1), |_| true), [vip()]);
        assert_eq!(announcements.deadline(), Some(at(6)));
    }
}
