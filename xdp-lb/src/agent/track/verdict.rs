//! What the runs of a script add up to.

use crate::vrrp::priority::Condition;

/// How many results in a row it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Failures in a row that count as failed.
    pub fall: u32,
    /// Successes in a row that count as good.
    pub rise: u32,
}

/// Counts results. The first one decides by itself, whatever the thresholds, as under keepalived
/// 2.2.7: a director that starts on a broken host must not be master for some runs first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict(State);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Unknown,
    Good {
        failures: u32,
    },
    Failed {
        successes: u32,
    },
}

impl Verdict {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there has been a result.
    pub fn is_known(self) -> bool {
        self.0 != State::Unknown
    }

    /// A run ended. What is returned is new.
    pub fn count(&mut self, succeeded: bool, thresholds: Thresholds) -> Option<Condition> {
        let (state, news) = match (self.0, succeeded) {
            (State::Unknown, true) => (State::Good { failures: 0 }, Some(Condition::Up)),
            (State::Unknown, false) => failed(1),
            (State::Good { .. }, true) => (State::Good { failures: 0 }, None),
            (State::Good { failures }, false) => {
                let failures = failures.saturating_add(1);
                if failures >= thresholds.fall {
                    failed(failures)
                } else {
                    (State::Good { failures }, None)
                }
            }
            (State::Failed { .. }, false) => (State::Failed { successes: 0 }, None),
            (State::Failed { successes }, true) => {
                let successes = successes.saturating_add(1);
                if successes >= thresholds.rise {
                    (State::Good { failures: 0 }, Some(Condition::Up))
                } else {
                    (State::Failed { successes }, None)
                }
            }
        };
        self.0 = state;
        news
    }
}

const fn failed(failures: u32) -> (State, Option<Condition>) {
    let news = Condition::Down { failures };
    (State::Failed { successes: 0 }, Some(news))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(fall: u32, rise: u32, runs: &str) -> Vec<(usize, Condition)> {
        let mut verdict = Verdict::new();
        let runs = runs.chars().enumerate();
        let news = runs.filter_map(|(n, run)| {
            let news = verdict.count(run == '+', Thresholds { fall, rise });
            news.map(|news| (n, news))
        });
        news.collect()
    }

    #[test]
    fn the_first_result_decides_and_then_it_takes_as_many_as_configured() {
        let down = |failures| Condition::Down { failures };
        assert_eq!(told(3, 3, "+"), [(0, Condition::Up)]);
        assert_eq!(told(3, 3, "-"), [(0, down(1))]);
        assert_eq!(
            told(2, 1, "+-+--+"),
            [(0, Condition::Up), (4, down(2)), (5, Condition::Up)]
        );
        assert_eq!(told(1, 3, "-++-+++"), [(0, down(1)), (6, Condition::Up)]);
    }

    proptest! {
        /// Against the plain reading of the manual: the last `fall` or `rise` results are alike.
        #[test]
        fn a_verdict_changes_exactly_when_enough_results_in_a_row_contradict_it(
            fall in 1_u32..5,
            rise in 1_u32..5,
            runs in prop::collection::vec(any::<bool>(), 1..60),
        ) {
            let mut verdict = Verdict::new();
            let mut good = runs[0];
            for n in 0..runs.len() {
                let news = verdict.count(runs[n], Thresholds { fall, rise });
                let needed = if good { fall } else { rise } as usize;
                let row = runs[..=n].iter().rev().take_while(|run| **run != good).count();
                // The row began after the verdict that it contradicts.
                let changes = row >= needed;
                if changes {
                    good = !good;
                }
                prop_assert_eq!(news.is_some(), changes || n == 0, "run {}", n);
                if let Some(news) = news {
                    prop_assert_eq!(news == Condition::Up, good);
                }
            }
        }
    }
}
