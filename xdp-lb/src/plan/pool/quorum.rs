//! Whether the weight that must be up is up.

use crate::config::model;

/// The quorum of a service, which remembers on which side of its margin it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Quorum {
    is_met: bool,
    is_judged: bool,
}

/// How a quorum changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// It is met now.
    pub is_met: bool,
    /// It was met before, also under a predecessor.
    pub was_met: bool,
    /// It was never judged before.
    pub is_first: bool,
}

impl Quorum {
    /// One that a predecessor judged last: within the margin it stays as it is. What it is now is told
    /// all the same.
    pub(super) const fn recalled(is_met: bool) -> Self {
        let is_judged = false;
        Self { is_met, is_judged }
    }

    /// Judges the weight that is up. Lost at nothing and below `quorum - hysteresis`, gained at
    /// `quorum + hysteresis`; between them it stays as it is. A service that was never judged has to
    /// gain it.
    pub(super) fn judge(&mut self, live: u64, settings: &model::Quorum) -> Option<Turn> {
        let (weight, margin) = (u64::from(settings.weight), u64::from(settings.hysteresis));
        let is_met = if self.is_met {
            live > 0 && live >= weight.saturating_sub(margin)
        } else {
            live > 0 && live >= weight + margin
        };
        let (was_met, is_first) = (self.is_met, !self.is_judged);
        (self.is_met, self.is_judged) = (is_met, true);
        let turn = Turn {
            is_met,
            was_met,
            is_first,
        };
        (is_first || was_met != is_met).then_some(turn)
    }

    /// Whether it was met when it was judged last.
    pub(super) const fn is_met(self) -> bool {
        self.is_met
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(weight: u32, hysteresis: u32) -> model::Quorum {
        model::Quorum {
            weight,
            hysteresis,
            ..model::Quorum::default()
        }
    }

    /// What each weight makes of a quorum of 4 with a margin of 1.
    fn story(weights: &[u64]) -> Vec<bool> {
        let mut quorum = Quorum::default();
        let judged = weights.iter().map(|live| {
            quorum.judge(*live, &settings(4, 1));
            quorum.is_met()
        });
        judged.collect()
    }

    #[test]
    fn it_is_gained_above_the_margin_and_lost_below_it() {
        let weights = [4, 5, 4, 3, 2, 3, 4, 5, 0];
        let expected = [false, true, true, true, false, false, false, true, false];
        assert_eq!(story(&weights), expected);
    }

    #[test]
    fn nothing_is_never_enough() {
        let mut quorum = Quorum::default();
        quorum.judge(0, &settings(0, 0));
        assert!(!quorum.is_met());
        quorum.judge(1, &settings(0, 0));
        assert!(quorum.is_met());
        quorum.judge(0, &settings(1, 1));
        assert!(!quorum.is_met());
    }

    #[test]
    fn only_a_change_is_told_and_the_first_verdict() {
        let mut quorum = Quorum::default();
        let mut turn = |live| {
            let turn = quorum.judge(live, &settings(2, 0));
            turn.map(|turn| (turn.is_met, turn.is_first))
        };
        assert_eq!(turn(2), Some((true, true)));
        assert_eq!(turn(5), None);
        assert_eq!(turn(1), Some((false, false)));
        assert_eq!(turn(0), None);
        assert_eq!(turn(2), Some((true, false)));
    }

    #[test]
    fn after_a_restart_it_is_on_the_side_where_it_was_and_told() {
        let first = |was, live| {
            let mut quorum = Quorum::recalled(was);
            let turn = quorum.judge(live, &settings(4, 1)).unwrap();
            assert!(turn.is_first);
            turn.is_met
        };
        let of = |was| [2, 3, 4, 5].map(|live| first(was, live));
        assert_eq!(of(true), [false, true, true, true]);
        assert_eq!(of(false), [false, false, false, true]);
    }

    proptest! {
        /// Within the margin nothing changes, outside of it the weight alone decides.
        #[test]
        fn the_margin_keeps_what_was(
            weight in 1_u32..20,
            margin in 0_u32..20,
            lives in prop::collection::vec(0_u64..50, 1..20),
        ) {
            let margin = margin.min(weight - 1);
            let mut quorum = Quorum::default();
            for live in lives {
                let before = quorum.is_met();
                quorum.judge(live, &settings(weight, margin));
                let (low, high) = (u64::from(weight - margin), u64::from(weight + margin));
                let expected = if live >= high {
                    true
                } else if live < low {
                    false
                } else {
                    before
                };
                prop_assert_eq!(quorum.is_met(), expected);
            }
        }
    }
}
