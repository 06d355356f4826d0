//! What health checks report as they happen.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::table;

/// Bounds of the duration's buckets, seconds: from a server on the same link to the longest timeout
/// anybody sets.
const BUCKETS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// How a health check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// The server answered as it should.
    Success,
    /// It refused, or answered otherwise.
    Failure,
    /// It did not answer in time.
    Timeout,
}

impl CheckResult {
    /// All results.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failure, Self::Timeout];

    /// The value of the metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
        }
    }
}

type ResultLabels = [(&'static str, &'static str); 1];

/// Counters of health checks. Clones share them.
#[derive(Clone, Debug)]
pub struct HealthMetrics {
    checks: Family<ResultLabels, Counter>,
    durations: Histogram,
    lateness: Histogram,
    delays: Histogram,
}

impl Default for HealthMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl HealthMetrics {
    /// All zero, every result present from the start.
    pub fn new() -> Self {
        let metrics = Self {
            checks: Family::default(),
            durations: Histogram::new(BUCKETS),
            lateness: Histogram::new(BUCKETS),
            delays: Histogram::new(BUCKETS),
        };
        for result in CheckResult::ALL {
            metrics.counter(result).inc_by(0);
        }
        metrics
    }

    /// Takes note of how long after its time a check began.
    pub fn began(&self, late: Duration) {
        self.lateness.observe(late.as_secs_f64());
    }

    /// Takes note of how long after a verdict the tables obeyed it.
    pub fn obeyed(&self, delay: Duration) {
        self.delays.observe(delay.as_secs_f64());
    }

    /// Counts a check that ended.
    pub fn observe(&self, result: CheckResult, duration: Duration) {
        self.counter(result).inc();
        self.durations.observe(duration.as_secs_f64());
    }

    fn counter(&self, result: CheckResult) -> Counter {
        self.checks
            .get_or_create_owned(&[("result", result.name())])
    }

    /// Makes them part of what a scrape yields.
    pub(super) fn register(&self, registry: &mut Registry) {
        // A registry ends the help text with a full stop of its own.
        let help = |metric: &table::Metric| metric.help.trim_end_matches('.');
        registry.register(
            table::HEALTH_CHECKS.name,
            help(&table::HEALTH_CHECKS),
            self.checks.clone(),
        );
        let histograms = [
            (&table::HEALTH_CHECK_DURATION, &self.durations),
            (&table::HEALTH_CHECK_LATENESS, &self.lateness),
            (&table::VERDICT_DELAY, &self.delays),
        ];
        for (metric, histogram) in histograms {
            registry.register(metric.name, help(metric), histogram.clone());
        }
    }
}
