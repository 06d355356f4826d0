//! `slow_start`: how a server that came back grows to its full weight.

use std::time::Duration;

use crate::machine::Now;

/// In so many steps of equal length: each is a new schedule.
pub(super) const STEPS: u32 = 10;

/// Slots of a schedule up to which weights are scaled, so that a tenth of 1 is something.
const MOST_SLOTS: u64 = 65_536;

/// How far a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Growth {
    /// The tenths of its weight that it has, 1 to [`STEPS`].
    pub tenths: u32,
    /// When it has the next; `None` once it has all.
    pub next: Option<Now>,
}

/// When a server came back. It may have been before the agent started, which [`Now`] cannot say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Return {
    /// Since when this agent knows of it.
    seen: Now,
    /// For how long it had been back by then.
    before: Duration,
}

impl Return {
    /// It comes back now.
    pub(super) const fn at(now: Now) -> Self {
        Self::earlier(now, Duration::ZERO)
    }

    /// It came back so long ago.
    pub(super) const fn earlier(now: Now, before: Duration) -> Self {
        Self { seen: now, before }
    }

    /// How long it has been back.
    pub(super) const fn age(self, now: Now) -> Duration {
        self.before.saturating_add(self.seen.until(now))
    }
}

/// Of a server that came back at `began` and grows for `time`.
pub(super) fn growth(began: Return, time: Duration, now: Now) -> Growth {
    let (step, age) = (time / STEPS, began.age(now));
    let growing = (1..STEPS).find(|tenths| age < step * *tenths);
    Growth {
        tenths: growing.unwrap_or(STEPS),
        next: growing.map(|tenths| now.after((step * tenths).saturating_sub(age))),
    }
}

/// Weights to schedule by, from full weights and the tenths of each that count. Nobody that has a
/// weight gets none.
pub(super) fn weights(full: &[(u32, u32)]) -> Vec<u32> {
    let sum: u64 = full.iter().map(|(weight, _)| u64::from(*weight)).sum();
    let is_growing = full.iter().any(|(_, tenths)| *tenths < STEPS);
    let is_scaled = is_growing && sum * u64::from(STEPS) <= MOST_SLOTS;
    let scaled = |&(weight, tenths): &(u32, u32)| {
        let product = u64::from(weight) * u64::from(tenths);
        let share = if is_scaled {
            product
        } else {
            product.div_ceil(STEPS.into())
        };
        // It is at most the weight, or a slot number.
        u32::try_from(share).unwrap_or(weight)
    };
    full.iter().map(scaled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_takes_ten_steps_of_a_tenth_of_the_time() {
        let began = Now::ZERO.after(Duration::from_secs(5));
        let at = |millis| {
            let now = began.after(Duration::from_millis(millis));
            growth(Return::at(began), Duration::from_secs(30), now).tenths
        };
        assert_eq!([at(0), at(2_999), at(3_000), at(26_999)], [1, 1, 2, 9]);
        assert_eq!([at(27_000), at(100_000)], [10, 10]);
        let next = growth(Return::at(began), Duration::from_secs(30), began).next;
        assert_eq!(next, Some(began.after(Duration::from_secs(3))));
        let done = growth(Return::at(began), Duration::ZERO, began);
        assert_eq!((done.tenths, done.next), (10, None));
    }

    #[test]
    fn what_grew_before_the_start_counts() {
        let began = Return::earlier(Now::ZERO, Duration::from_secs(10));
        let at = |seconds| {
            let now = Now::ZERO.after(Duration::from_secs(seconds));
            growth(began, Duration::from_secs(30), now)
        };
        assert_eq!([at(0).tenths, at(2).tenths, at(17).tenths], [4, 5, 10]);
        let next = Now::ZERO.after(Duration::from_secs(2));
        assert_eq!(at(0).next, Some(next));
    }

    #[test]
    fn a_tenth_of_1_is_a_tenth_of_what_the_others_get() {
        assert_eq!(weights(&[(1, 1), (1, 10), (2, 10)]), [1, 10, 20]);
        assert_eq!(weights(&[(1, 10), (2, 10)]), [1, 2], "nobody grows");
        assert_eq!(weights(&[(0, 1), (3, 10)]), [0, 30]);
        assert_eq!(weights(&[(100_000, 1), (100_000, 10)]), [10_000, 100_000]);
    }

    proptest! {
        #[test]
        fn nobody_loses_all_and_nobody_gets_more_than_its_share(
            full in prop::collection::vec((0_u32..=0x7fff_ffff, 1_u32..=STEPS), 1..8),
        ) {
            let weights = weights(&full);
            let scale = |weight: u32| u64::from(weight) * u64::from(STEPS);
            for (&(weight, _), &share) in full.iter().zip(&weights) {
                prop_assert_eq!(weight == 0, share == 0);
                prop_assert!(u64::from(share) <= scale(weight));
            }
        }

        #[test]
        fn steps_are_as_many_as_promised(seconds in 1_u64..1000) {
            let time = Duration::from_secs(seconds);
            let (mut now, mut steps) = (Now::ZERO, 1);
            while let Some(next) = growth(Return::at(Now::ZERO), time, now).next {
                prop_assert!(next > now);
                now = next;
                steps += 1;
            }
            prop_assert_eq!(steps, STEPS);
            prop_assert!(now <= Now::ZERO.after(time));
        }
    }
}
