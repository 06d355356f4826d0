//! Changes of links that must last for a while before they count (`interface_up_down_delays`).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::model::LinkDelay;
use crate::machine::Now;

/// Changes that do not count yet, by interface: to up or not, and when they do.
#[derive(Debug, Default)]
pub(super) struct Delays {
    waiting: BTreeMap<String, (bool, Now)>,
}

impl Delays {
    /// Whether a link counts as up at `now` that is up or not; `counted` is how it counted so far,
    /// `None` at first sight, which is never delayed.
    pub(super) fn judge(
        &mut self,
        now: Now,
        delay: Option<&LinkDelay>,
        interface: &str,
        (is_up, counted): (bool, Option<bool>),
    ) -> bool {
        let Some(counted) = counted.filter(|counted| *counted != is_up) else {
            self.waiting.remove(interface);
            return is_up;
        };
        let delay = match delay {
            Some(delay) if is_up => delay.up,
            Some(delay) => delay.down,
            None => Duration::ZERO,
        };
        let known = self.waiting.get(interface).copied();
        let due = match known {
            Some((to, due)) if to == is_up => due,
            _ => now.after(delay),
        };
        if due <= now {
            self.waiting.remove(interface);
            return is_up;
        }
        self.waiting.insert(interface.to_owned(), (is_up, due));
        counted
    }

    /// When a change counts next.
    pub(super) fn deadline(&self) -> Option<Now> {
        self.waiting.values().map(|(_, due)| *due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Now {
        Now::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn a_change_counts_when_it_has_lasted() {
        let delay = LinkDelay {
            interface: "eth0".to_owned(),
            down: Duration::from_secs(2),
            up: Duration::from_secs(1),
        };
        let mut under = Delays::default();
        let mut counted = None;
        for (millis, is_up, counts, due) in [
            (0, true, true, None),
            (100, false, true, Some(2100)),
            (500, false, true, Some(2100)),
            // It came back in time.
            (2000, true, true, None),
            (3000, false, true, Some(5000)),
            (5000, false, false, None),
            (6000, true, false, Some(7000)),
            (6500, false, false, None),
            (7000, true, false, Some(8000)),
            (9000, true, true, None),
        ] {
            let judged = under.judge(at(millis), Some(&delay), "eth0", (is_up, counted));
            assert_eq!(judged, counts, "after {millis} ms");
            assert_eq!(under.deadline(), due.map(at), "after {millis} ms");
            counted = Some(judged);
        }
        assert!(
            !under.judge(at(0), None, "eth1", (false, Some(true))),
            "no delay"
        );
        let mut other = Delays::default();
        assert!(
            !other.judge(at(0), Some(&delay), "eth0", (false, None)),
            "first sight"
        );
    }
}
