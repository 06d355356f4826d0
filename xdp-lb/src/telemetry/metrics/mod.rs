//! Prometheus metrics: a [`Snapshot`] and what health checks reported go in, text comes out.
//!
//! [`table`] names every metric; `collector` and `vrrp` fill it from a snapshot; `health` counts health
//! checks; [`docs`] writes docs/metrics.md from the same table. Beside those counts no value is
//! kept between scrapes.

use std::fmt::Write;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::control::Snapshot;

mod collector;
pub mod docs;
mod health;
mod sync;
pub mod table;
mod vrrp;

pub use health::{CheckResult, HealthMetrics};

/// A text format that Prometheus reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4: what people and older tools read.
    Text,
    /// `OpenMetrics` 1.0: what Prometheus asks for.
    OpenMetrics,
}

impl Format {
    /// The format for a client whose request has this `Accept` header.
    pub fn accepted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// The value of `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All metrics at the moment of the snapshot.
pub fn encode(
    snapshot: &Arc<Snapshot>,
    health: &HealthMetrics,
    format: Format,
) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("xdp_lb");
    registry.register_collector(Box::new(collector::SnapshotCollector(snapshot.clone())));
    health.register(&mut registry);
    let mut open_metrics = String::new();
    text::encode(&mut open_metrics, &registry)?;
    match format {
        Format::OpenMetrics => Ok(open_metrics),
        Format::Text => to_text_format(&open_metrics),
    }
}

/// Turns `OpenMetrics`, as far as it is used here, into the Prometheus text format: there the metadata
/// of a counter name its samples, `_total` and all, and nothing marks the end.
///
/// Label values cannot be taken for metadata: samples start with a metric's name, and newlines in
/// labels are escaped.
fn to_text_format(open_metrics: &str) -> Result<String, std::fmt::Error> {
    let mut out = String::with_capacity(open_metrics.len() + 1024);
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap_or((rest, "untyped"));
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                writeln!(out, "# HELP {name}{suffix} {help}")?;
            }
            writeln!(out, "# TYPE {name}{suffix} {kind}")?;
        } else if line != "# EOF" {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
