//! Times of health checks: who sets them, and what they are when nobody does.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::IGNORED;
use crate::config::ast::Statement;
use crate::config::keywords::Keyword;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;

const DELAY_LOOP: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A year: longer waits between checks are mistakes, and sums of times cannot overflow.
const LONGEST: Duration = Duration::from_hours(365 * 24);
const ABOVE_ZERO: RangeInclusive<Duration> = Duration::from_micros(1)..=LONGEST;
const FROM_ZERO: RangeInclusive<Duration> = Duration::ZERO..=LONGEST;
/// Microseconds in 32 bits: what keepalived takes.
const TIMEOUT: RangeInclusive<Duration> =
    Duration::from_micros(1)..=Duration::from_micros(u32::MAX as u64);

/// Where a time is set: the checker's own settings go before the real server's, those before the
/// virtual server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config::lower) enum Level {
    /// In `virtual_server` or `real_server`.
    Server,
    /// In the checker.
    Checker,
}

/// What one block sets of the times, and of the switches that are inherited with them.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::config::lower) struct Timers {
    delay_loop: Option<Duration>,
    connect_timeout: Option<Duration>,
    retry: Option<u32>,
    delay_before_retry: Option<Duration>,
    warmup: Option<Duration>,
    alpha: Option<bool>,
    log_all_failures: Option<bool>,
}

/// What holds where nobody says anything.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    retry: u32,
    /// `None`: as `delay_loop`.
    delay_before_retry: Option<Duration>,
}

impl Defaults {
    const SECOND: Option<Duration> = Some(Duration::from_secs(1));
    pub(super) const HTTP: Self = Self::new(1, Some(Duration::from_secs(3)));
    pub(super) const DNS: Self = Self::new(3, None);
    pub(super) const MISC: Self = Self::new(0, Self::SECOND);
    pub(super) const OTHER: Self = Self::new(1, Self::SECOND);

    const fn new(retry: u32, delay_before_retry: Option<Duration>) -> Self {
        Self {
            retry,
            delay_before_retry,
        }
    }
}

/// All of it, filled in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) delay_loop: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) retry: u32,
    pub(super) delay_before_retry: Duration,
    pub(super) warmup: Duration,
    pub(super) alpha: bool,
    pub(super) log_all_failures: bool,
}

impl Timing {
    /// Of what is cheap to look at, and counts as soon as it is seen.
    pub(super) const AT_ONCE: Self = Self {
        delay_loop: Duration::from_secs(1),
        connect_timeout: CONNECT_TIMEOUT,
        retry: 0,
        delay_before_retry: Duration::from_secs(1),
        warmup: Duration::ZERO,
        alpha: false,
        log_all_failures: false,
    };
}

impl Timers {
    /// `checker_log_all_failures`: what all inherit.
    pub(in crate::config::lower) const fn logging_all(log_all_failures: bool) -> Self {
        Self {
            delay_loop: None,
            connect_timeout: None,
            retry: None,
            delay_before_retry: None,
            warmup: None,
            alpha: None,
            log_all_failures: Some(log_all_failures),
        }
    }

    /// Takes the statement if it is one of these; whether it was.
    pub(in crate::config::lower) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
        level: Level,
    ) -> bool {
        let mut seconds = |range| context.seconds(statement, range, Tail::Dropped, IGNORED);
        match keyword.name {
            "delay_loop" => self.delay_loop = seconds(ABOVE_ZERO).or(self.delay_loop),
            "connect_timeout" => self.connect_timeout = seconds(TIMEOUT).or(self.connect_timeout),
            "delay_before_retry" => {
                self.delay_before_retry = seconds(FROM_ZERO).or(self.delay_before_retry);
            }
            "warmup" => self.warmup = seconds(FROM_ZERO).or(self.warmup),
            "retry" => {
                let least = match level {
                    Level::Server => 1,
                    Level::Checker => 0,
                };
                let range = least..=u32::MAX;
                let number = context.number(statement, range, Tail::Refused, IGNORED);
                self.set_retry(number);
            }
            "alpha" => self.alpha = context.boolean(keyword, statement).or(self.alpha),
            "log_all_failures" => {
                self.log_all_failures = context
                    .boolean(keyword, statement)
                    .or(self.log_all_failures);
            }
            _ => return false,
        }
        true
    }

    /// `retry`, unless the value was refused.
    pub(super) fn set_retry(&mut self, retry: Option<u32>) {
        self.retry = retry.or(self.retry);
    }

    /// These, and those of the block around where these say nothing.
    pub(in crate::config::lower) fn or(self, outer: Self) -> Self {
        Self {
            delay_loop: self.delay_loop.or(outer.delay_loop),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
            warmup: self.warmup.or(outer.warmup),
            alpha: self.alpha.or(outer.alpha),
            log_all_failures: self.log_all_failures.or(outer.log_all_failures),
        }
    }

    pub(super) fn filled_in(self, defaults: Defaults) -> Timing {
        let delay_loop = self.delay_loop.unwrap_or(DELAY_LOOP);
        let before_retry = self.delay_before_retry.or(defaults.delay_before_retry);
        Timing {
            delay_loop,
            connect_timeout: self.connect_timeout.unwrap_or(CONNECT_TIMEOUT),
            retry: self.retry.unwrap_or(defaults.retry),
            delay_before_retry: before_retry.unwrap_or(delay_loop),
            warmup: self.warmup.unwrap_or(delay_loop),
            alpha: self.alpha.unwrap_or(false),
            log_all_failures: self.log_all_failures.unwrap_or(false),
        }
    }
}
