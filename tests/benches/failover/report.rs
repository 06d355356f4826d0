//! Rows, as text and JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::events::Outcome;

/// The table.
#[derive(Default, Serialize)]
pub(crate) struct Table {
    pub(crate) rows: Vec<Row>,
}

/// One event on one pair.
#[derive(Serialize)]
pub(crate) struct Row {
    name: String,
    /// The longest times without an answer, ms.
    gap_ms: Vec<f64>,
    /// From the old master's last advert to the new one's first, ms.
    taken_over_ms: Vec<f64>,
    /// What the protocol's formula gives, ms.
    formula_ms: Option<f64>,
    formula: Option<&'static str>,
    /// Take-overs, where they are what is counted.
    take_overs: Option<usize>,
}

impl Row {
    /// A row without samples.
    pub(crate) fn new(name: &str, formula: Option<(Duration, &'static str)>) -> Self {
        Self {
            name: name.to_owned(),
            gap_ms: Vec::new(),
            taken_over_ms: Vec::new(),
            formula_ms: formula.map(|(time, _)| ms(time)),
            formula: formula.map(|(_, how)| how),
            take_overs: None,
        }
    }

    /// Adds a sample.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        self.gap_ms.push(ms(outcome.gap));
        self.taken_over_ms.extend(outcome.taken_over.map(ms));
        if let Some(count) = outcome.take_overs {
            *self.take_overs.get_or_insert(0) += count;
        }
    }

    /// Adds what was counted, and the longest gap meanwhile.
    pub(crate) fn count(&mut self, take_overs: usize, gap: Duration) {
        self.take_overs = Some(take_overs);
        self.gap_ms.push(ms(gap));
    }

    /// Whether it is about an event of this name.
    pub(crate) fn is_of(&self, event: &str) -> bool {
        let rest = self.name.strip_prefix(event);
        rest.is_some_and(|rest| rest.starts_with(','))
    }
}

impl Table {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:67} {:>26}  {:>26}  {:>3}  formula\n{:67} {:>26}  {:>26}\n",
            "failover, ms: min / median / max",
            "without an answer",
            "last advert to first",
            "n",
            "",
            "(client)",
            "(wire)"
        );
        for row in &self.rows {
            let formula = match (row.formula_ms, row.formula) {
                (Some(time), Some(how)) => format!("{time:.0} = {how}"),
                _ => String::new(),
            };
            let wire = match row.take_overs {
                Some(count) => format!("{count} take-overs"),
                None => spread(&row.taken_over_ms),
            };
            let line = writeln!(
                text,
                "{:67} {:>26}  {wire:>26}  {:>3}  {formula}",
                row.name,
                spread(&row.gap_ms),
                row.gap_ms.len()
            );
            debug_assert!(line.is_ok(), "writing to a string");
        }
        text
    }
}

fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// `min / median / max`.
fn spread(samples: &[f64]) -> String {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.get(sorted.len() / 2), sorted.last()) {
        (Some(min), Some(median), Some(max)) => format!("{min:.1} / {median:.1} / {max:.1}"),
        _ => "–".to_owned(),
    }
}
