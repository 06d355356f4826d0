//! Rows, as text and JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// A table of measurements.
#[derive(Serialize)]
pub(crate) struct Table {
    table: &'static str,
    pub(crate) rows: Vec<Row>,
}

/// One measurement.
#[derive(Serialize)]
pub(crate) struct Row {
    case: String,
    unit: &'static str,
    median: f64,
    min: f64,
    max: f64,
    n: usize,
    /// The median less that of the empty program, where there is one.
    net: Option<f64>,
}

impl Row {
    /// A case measured several times; `base` is what the instrument costs.
    pub(crate) fn new(case: &str, unit: &'static str, samples: &[f64], base: f64) -> Self {
        let row = Self::plain(case, unit, samples);
        Self {
            net: Some(round(median(samples) - base)),
            ..row
        }
    }

    /// A case without a cost of the instrument.
    pub(crate) fn plain(case: &str, unit: &'static str, samples: &[f64]) -> Self {
        let (least, most) = (f64::INFINITY, f64::NEG_INFINITY);
        Self {
            case: case.to_owned(),
            unit,
            median: round(median(samples)),
            min: round(samples.iter().copied().fold(least, f64::min)),
            max: round(samples.iter().copied().fold(most, f64::max)),
            n: samples.len(),
            net: None,
        }
    }
}

/// The middle of the samples; 0 if there are none.
pub(crate) fn median(samples: &[f64]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

impl Table {
    /// An empty table.
    pub(crate) fn new(table: &'static str) -> Self {
        Self {
            table,
            rows: Vec::new(),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:45} {:>10} {:>10} {:>10} {:>10} {:>3}  unit\n",
            self.table, "net", "median", "min", "max", "n"
        );
        for row in &self.rows {
            let net = row.net.map_or_else(String::new, |net| format!("{net:.1}"));
            let line = writeln!(
                text,
                "{:45} {net:>10} {:>10.2} {:>10.2} {:>10.2} {:>3}  {}",
                row.case, row.median, row.min, row.max, row.n, row.unit
            );
            debug_assert!(line.is_ok(), "writing to a string");
        }
        text
    }
}
