//! One health check: when to probe, and how many failures count as one.
//!
//! As keepalived does it: a server is taken to be up before its first check, or down with `alpha`, and
//! the first check needs no retry to take it out. From then on `retry` further failures in a row are
//! needed, `delay_before_retry` apart; one success brings it back. The first failure with `alpha` is told
//! as that of a server which was up.

use std::sync::Arc;
use std::time::Duration;

use super::{Failure, Outcome, Weighing};
use crate::config::model::{self, Probe};
use crate::machine::Now;

/// A probe that took this long is expected to do so again.
const SLOW: Duration = Duration::from_secs(1);

/// A health check of a real server.
#[derive(Clone, Debug)]
pub struct Check {
    probe: Arc<Probe>,
    rules: Rules,
    next: Next,
    up: bool,
    /// A probe had a verdict before: from here on failures are retried.
    proven: bool,
    /// Failures in a row while up.
    failures: u32,
    /// Why the last probe failed; kept while down.
    failure: Option<Failure>,
    weighing: Option<Weighing>,
    slow: bool,
}

/// All of a check's configuration but the probe.
#[derive(Clone, Copy, Debug)]
struct Rules {
    delay_loop: Duration,
    delay_before_retry: Duration,
    retry: u32,
    log_all_failures: bool,
}

/// What a check waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// A moment.
    At(Now),
    /// The end of a probe.
    InFlight,
    /// Somebody who wakes it up.
    Resting,
}

/// A probe that ended and that is worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A probe passed: the check is up now.
    Up,
    /// Enough probes failed: the check is down now.
    Down {
        /// Why the last of them did.
        failure: Failure,
        /// How many failed in a row.
        failures: u32,
    },
    /// A probe failed and is tried again; only with `log_all_failures`.
    Retried {
        /// Why.
        failure: Failure,
        /// How many failed in a row.
        failures: u32,
        /// How many must.
        needed: u32,
    },
    /// A probe failed of a check that is down; only with `log_all_failures`.
    StillDown(Failure),
}

/// What is known of a check before its first probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prior {
    /// Nothing: with `alpha` down until a probe passes, else taken to be up until one says otherwise.
    Unknown,
    /// Nothing, but the server serves: `alpha` is for servers that start.
    Serving,
    /// It passed before.
    Up,
    /// It failed before: down until a probe passes.
    Down,
}

/// A probe to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// It.
    pub probe: Arc<Probe>,
    /// When it was due.
    pub due: Now,
    /// The last one took long: it must not keep others waiting.
    pub slow: bool,
}

impl Check {
    /// A check whose first probe is due at `first`.
    pub fn new(config: model::Check, first: Now, prior: Prior) -> Self {
        let up = match prior {
            Prior::Unknown => !config.alpha,
            Prior::Serving | Prior::Up => true,
            Prior::Down => false,
        };
        Self {
            rules: Rules::of(&config),
            probe: Arc::new(config.probe),
            next: Next::At(first),
            up,
            proven: matches!(prior, Prior::Up | Prior::Down),
            failures: 0,
            failure: None,
            weighing: None,
            slow: false,
        }
    }

    /// Takes note that a probe starts; nothing is due until it is finished.
    pub fn start(&mut self, now: Now) -> Start {
        let due = self.due().unwrap_or(now);
        self.next = Next::InFlight;
        Start {
            probe: Arc::clone(&self.probe),
            due,
            slow: self.slow,
        }
    }

    /// Takes the outcome of the probe in flight, and how long that took once it was carried out.
    /// Nothing follows it if the check is to rest.
    pub fn finish(
        &mut self,
        now: Now,
        (outcome, took): (Outcome, Duration),
        rests: bool,
    ) -> Option<Turn> {
        if !matches!(outcome, Outcome::Inconclusive(_)) {
            self.slow = took >= SLOW;
        }
        let (delay, turn) = self.judge(outcome);
        self.next = if rests {
            Next::Resting
        } else {
            Next::At(now.after(delay))
        };
        turn
    }

    /// The time to the next probe, and what is to be told.
    fn judge(&mut self, outcome: Outcome) -> (Duration, Option<Turn>) {
        match outcome {
            Outcome::Inconclusive(_) => (self.rules.delay_loop, None),
            Outcome::Passed => (self.rules.delay_loop, self.pass()),
            Outcome::Weighed(weighing) => {
                self.weighing = Some(weighing);
                (self.rules.delay_loop, self.pass())
            }
            Outcome::Failed(failure) => self.fail(failure),
        }
    }

    fn pass(&mut self) -> Option<Turn> {
        let was_up = std::mem::replace(&mut self.up, true);
        self.proven = true;
        self.failures = 0;
        self.failure = None;
        (!was_up).then_some(Turn::Up)
    }

    fn fail(&mut self, failure: Failure) -> (Duration, Option<Turn>) {
        let Rules {
            delay_loop,
            delay_before_retry,
            log_all_failures,
            ..
        } = self.rules;
        if !self.up {
            let is_first = !std::mem::replace(&mut self.proven, true);
            let told = if is_first {
                let (failure, failures) = (failure.clone(), 1);
                Some(Turn::Down { failure, failures })
            } else {
                log_all_failures.then(|| Turn::StillDown(failure.clone()))
            };
            self.failure = Some(failure);
            return (delay_loop, told);
        }
        let needed = self.failures_needed();
        self.proven = true;
        self.failures = self.failures.saturating_add(1);
        let failures = self.failures;
        if failures < needed {
            let told = log_all_failures.then_some(Turn::Retried {
                failure,
                failures,
                needed,
            });
            return (delay_before_retry, told);
        }
        self.up = false;
        self.failures = 0;
        self.failure = Some(failure.clone());
        (delay_loop, Some(Turn::Down { failure, failures }))
    }

    fn failures_needed(&self) -> u32 {
        if self.proven {
            self.rules.retry.saturating_add(1)
        } else {
            1
        }
    }

    /// Takes new rules for the same probe. One that is due later than the new period allows moves
    /// forward to `sooner`, which lies within it: not all of them to its end.
    pub fn retime(&mut self, now: Now, config: &model::Check, sooner: Now) {
        self.rules = Rules::of(config);
        if let Next::At(due) = self.next
            && due > now.after(self.rules.delay_loop)
        {
            self.next = Next::At(sooner);
        }
    }

    /// Starts nothing any more; a probe in flight goes on.
    pub fn rest(&mut self) {
        if let Next::At(_) = self.next {
            self.next = Next::Resting;
        }
    }

    /// Goes on after a rest.
    pub fn wake(&mut self, first: Now) {
        if self.next == Next::Resting {
            self.next = Next::At(first);
        }
    }

    /// When the next probe is due; `None` while one is in flight, and at rest.
    pub fn due(&self) -> Option<Now> {
        match self.next {
            Next::At(due) => Some(due),
            Next::InFlight | Next::Resting => None,
        }
    }

    /// Whether a probe was started whose outcome is not known yet.
    pub fn is_in_flight(&self) -> bool {
        matches!(self.next, Next::InFlight)
    }

    /// The verdict.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Why the last probe failed, of a check that is down.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// What it last made of the weight; a failure changes nothing in that.
    pub fn weighing(&self) -> Option<Weighing> {
        self.weighing
    }

    /// What is probed.
    pub fn probe(&self) -> &Probe {
        &self.probe
    }

    /// Time from one probe to the next.
    pub fn period(&self) -> Duration {
        self.rules.delay_loop
    }
}

impl Rules {
    fn of(config: &model::Check) -> Self {
        Self {
            delay_loop: config.delay_loop,
            delay_before_retry: config.delay_before_retry,
            retry: config.retry,
            log_all_failures: config.log_all_failures,
        }
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
        check.start(now);
        assert_eq!(check.due(), None, "one probe at a time");
        check.finish(now, (outcome, Duration::ZERO), false)
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
        check.retime(Now::ZERO, &faster, seconds(1));
        assert_eq!(check.due(), Some(seconds(1)));
        check.retime(Now::ZERO, &check_config(2), seconds(4));
        assert_eq!(check.due(), Some(seconds(1)), "soon enough");
    }

    #[test]
    fn alpha_is_down_until_a_probe_passes_unless_the_server_serves() {
        let mut config = check_config(2);
        config.alpha = true;
        let mut check = Check::new(config.clone(), Now::ZERO, Prior::Unknown);
        assert!(!check.is_up());
        let (failure, failures) = (Failure::Refused, 1);
        let told = Some(Turn::Down { failure, failures });
        assert_eq!(probed(&mut check, failed()), told, "it has failed");
        assert_eq!(check.failure(), Some(&Failure::Refused));
        assert_eq!(
            check.due(),
            Some(seconds(5)),
            "it is down: nothing to retry"
        );
        assert_eq!(probed(&mut check, failed()), None, "it was told");
        assert_eq!(probed(&mut check, Outcome::Passed), Some(Turn::Up));
        assert_eq!(check.failure(), None);
        assert_eq!(probed(&mut check, failed()), None, "retries count now");
        for prior in [Prior::Serving, Prior::Up] {
            assert!(Check::new(config.clone(), Now::ZERO, prior).is_up());
        }
    }

    #[test]
    fn every_failure_is_told_where_that_is_asked_for() {
        let mut config = check_config(1);
        config.log_all_failures = true;
        let mut check = Check::new(config, Now::ZERO, Prior::Up);
        let failure = Failure::Refused;
        let retried = Turn::Retried {
            failure: failure.clone(),
            failures: 1,
            needed: 2,
        };
        assert_eq!(probed(&mut check, failed()), Some(retried));
        assert_eq!(probed(&mut check, failed()), Some(down(2)));
        assert_eq!(probed(&mut check, failed()), Some(Turn::StillDown(failure)));
    }

    #[test]
    fn a_weight_is_kept_until_another_one_comes() {
        let mut check = check(Prior::Up);
        assert_eq!(check.weighing(), None);
        let five = Weighing::Set(5);
        assert_eq!(probed(&mut check, Outcome::Weighed(five)), None);
        for outcome in [Outcome::Passed, failed(), failed(), failed()] {
            probed(&mut check, outcome);
            assert_eq!(check.weighing(), Some(five));
        }
        let six = Outcome::Weighed(Weighing::Set(6));
        assert_eq!(probed(&mut check, six), Some(Turn::Up));
        assert_eq!(check.weighing(), Some(Weighing::Set(6)));
    }

    #[test]
    fn one_that_took_long_is_slow_until_it_is_quick_again() {
        let mut check = check(Prior::Up);
        let mut took = |outcome, milliseconds| {
            let now = check.due().unwrap();
            let start = check.start(now);
            let took = Duration::from_millis(milliseconds);
            check.finish(now, (outcome, took), false);
            start.slow
        };
        assert!(!took(failed(), 3_000));
        assert!(took(Outcome::Inconclusive(String::new()), 0));
        assert!(took(Outcome::Passed, 1), "nothing was learnt");
        assert!(!took(Outcome::Passed, 1));
    }

    #[test]
    fn at_rest_nothing_is_due_and_what_is_in_flight_counts() {
        let mut check = check(Prior::Up);
        check.start(Now::ZERO);
        check.rest();
        assert!(check.is_in_flight());
        assert_eq!(
            check.finish(seconds(1), (failed(), Duration::ZERO), true),
            None
        );
        assert_eq!(check.due(), None);
        check.wake(seconds(9));
        assert_eq!(check.due(), Some(seconds(9)));
        check.wake(seconds(3));
        assert_eq!(check.due(), Some(seconds(9)), "it was awake");
        check.rest();
        assert_eq!(check.due(), None);
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
