//! One health check: when to probe, and how many failures count as one.
//!
//! As keepalived does it: a server is taken to be up before its first check, and the first check
//! needs no retry to take it out. From then on `retry` further failures in a row are needed,
//! `delay_before_retry` apart; one success brings it back.

use std::time::Duration;

use super::{Failure, Outcome};
use crate::config::model;
use crate::machine::Now;

/// A health check of a real server.
#[derive(Clone, Debug)]
pub struct Check {
    config: model::Check,
    /// `None` while a probe is in flight.
    due: Option<Now>,
    up: bool,
    /// A probe had a verdict before: from here on failures are retried.
    proven: bool,
    /// Failures in a row while up.
    failures: u32,
}

/// A verdict that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A probe passed.
    Up,
    /// Enough probes failed.
    Down {
        /// Why the last of them did.
        failure: Failure,
        /// How many failed in a row.
        failures: u32,
    },
}

/// What is known of a check before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prior {
    /// Nothing: taken to be up until the first probe says otherwise.
    Unknown,
    /// It passed before.
    Up,
    /// It failed before: down until a probe passes.
    Down,
}

impl Check {
    /// A check whose first probe is due at `first`.
    pub fn new(config: model::Check, first: Now, prior: Prior) -> Self {
        Self {
            config,
            due: Some(first),
            up: prior != Prior::Down,
            proven: prior != Prior::Unknown,
            failures: 0,
        }
    }

    /// Takes note that a probe starts; nothing is due until it is finished.
    pub fn start(&mut self) -> &model::Probe {
        self.due = None;
        &self.config.probe
    }

    /// Takes the outcome of the probe in flight.
    pub fn finish(&mut self, now: Now, outcome: Outcome) -> Option<Turn> {
        let (delay, turn) = self.judge(outcome);
        self.due = Some(now.after(delay));
        turn
    }

    /// The time to the next probe, and the verdict if it changed.
    fn judge(&mut self, outcome: Outcome) -> (Duration, Option<Turn>) {
        let delay_loop = self.config.delay_loop;
        match outcome {
            Outcome::Inconclusive(_) => (delay_loop, None),
            Outcome::Passed | Outcome::Weighed(_) => {
                let was_up = std::mem::replace(&mut self.up, true);
                self.proven = true;
                self.failures = 0;
                (delay_loop, (!was_up).then_some(Turn::Up))
            }
            Outcome::Failed(_) if !self.up => (delay_loop, None),
            Outcome::Failed(failure) => {
                let needed = self.failures_needed();
                self.proven = true;
                self.failures = self.failures.saturating_add(1);
                if self.failures < needed {
                    return (self.config.delay_before_retry, None);
                }
                self.up = false;
                let failures = std::mem::take(&mut self.failures);
                (delay_loop, Some(Turn::Down { failure, failures }))
            }
        }
    }

    fn failures_needed(&self) -> u32 {
        if self.proven {
            self.config.retry.saturating_add(1)
        } else {
            1
        }
    }

    /// Takes new timing for the same probe; a probe that is due later than the new period allows
    /// moves forward.
    pub fn retime(&mut self, now: Now, config: model::Check) {
        let latest = now.after(config.delay_loop);
        self.due = self.due.map(|due| due.min(latest));
        self.config = config;
    }

    /// When the next probe is due; `None` while one is in flight.
    pub fn due(&self) -> Option<Now> {
        self.due
    }

    /// The verdict.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// What is probed.
    pub fn probe(&self) -> &model::Probe {
        &self.config.probe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::testing::check_config;
    use proptest::prelude::*;

    fn seconds(s: u64) -> Now {
        Now(Duration::from_secs(s))
    }

    fn failed() -> Outcome {
        Outcome::Failed(Failure::Refused)
    }

    fn down(failures: u32) -> Turn {
        let failure = Failure::Refused;
        Turn::Down { failure, failures }
    }

    /// `delay_loop 5`, `retry 2`, `delay_before_retry 1`.
    fn check(prior: Prior) -> Check {
        Check::new(check_config(2), Now::ZERO, prior)
    }

    fn probed(check: &mut Check, outcome: Outcome) -> Option<Turn> {
        let now = check.due().unwrap();
        check.start();
        assert_eq!(check.due(), None, "one probe at a time");
        check.finish(now, outcome)
    }

    #[test]
    fn the_first_check_needs_no_retry() {
        let mut check = check(Prior::Unknown);
        assert!(check.is_up());
        assert_eq!(probed(&mut check, failed()), Some(down(1)));
        assert!(!check.is_up());
    }

    #[test]
    fn a_server_that_was_up_is_down_when_the_retries_are_used_up() {
        let mut check = check(Prior::Unknown);
        assert_eq!(probed(&mut check, Outcome::Passed), None);
        assert_eq!(check.due(), Some(seconds(5)));
        assert_eq!(probed(&mut check, failed()), None);
        assert_eq!(check.due(), Some(seconds(6)), "delay_before_retry");
        assert_eq!(probed(&mut check, failed()), None);
        assert_eq!(probed(&mut check, failed()), Some(down(3)));
        assert_eq!(check.due(), Some(seconds(12)), "delay_loop again");
    }

    #[test]
    fn a_success_between_failures_starts_the_count_anew() {
        let mut check = check(Prior::Up);
        for _ in 0..3 {
            assert_eq!(probed(&mut check, failed()), None);
            assert_eq!(probed(&mut check, failed()), None);
            assert_eq!(probed(&mut check, Outcome::Passed), None);
        }
    }

    #[test]
    fn one_success_brings_it_back_and_retries_count_again() {
        let mut check = check(Prior::Down);
        assert!(!check.is_up());
        assert_eq!(probed(&mut check, failed()), None);
        assert_eq!(probed(&mut check, Outcome::Passed), Some(Turn::Up));
        assert_eq!(probed(&mut check, failed()), None);
    }

    #[test]
    fn what_this_host_could_not_probe_changes_nothing() {
        let mut check = check(Prior::Up);
        assert_eq!(probed(&mut check, failed()), None);
        assert_eq!(probed(&mut check, failed()), None);
        let stuck = Outcome::Inconclusive("too many open files".to_owned());
        assert_eq!(probed(&mut check, stuck), None);
        assert!(check.is_up());
        assert_eq!(probed(&mut check, failed()), Some(down(3)));
    }

    #[test]
    fn a_shorter_period_is_in_force_at_once() {
        let mut check = check(Prior::Up);
        probed(&mut check, Outcome::Passed);
        let mut faster = check_config(2);
        faster.delay_loop = Duration::from_secs(2);
        check.retime(Now::ZERO, faster);
        assert_eq!(check.due(), Some(seconds(2)));
    }

    proptest! {
        /// The rule, said differently: up iff no run of `needed` failures since the last success.
        #[test]
        fn the_verdict_follows_the_rule(retry in 0_u32..4, results in prop::collection::vec(any::<bool>(), 0..40)) {
            let mut check = Check::new(check_config(retry), Now::ZERO, Prior::Unknown);
            for (count, passed) in results.iter().enumerate() {
                let before = check.due().unwrap();
                let was_up = check.is_up();
                let turn = probed(&mut check, if *passed { Outcome::Passed } else { failed() });
                let history = &results[..=count];
                let failures = history.iter().rev().take_while(|passed| !**passed).count();
                let never_passed = failures == history.len();
                let up = failures == 0 || (!never_passed && failures <= retry as usize);
                prop_assert_eq!(check.is_up(), up);
                prop_assert_eq!(turn.is_some(), was_up != up);
                prop_assert!(check.due().unwrap() > before);
            }
        }
    }
}
