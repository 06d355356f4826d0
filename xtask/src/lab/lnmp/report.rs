//! The report.

use std::collections::BTreeMap;

use serde_json::Value;

use super::findings::Findings;
use crate::lab::check::{Check, seconds};
use crate::lab::page::{self, Page, table};

/// For machines.
pub(crate) fn json(found: &Findings, checks: &[Check]) -> Value {
    page::json("lnmp", checks, found)
}

/// For people.
pub(crate) fn text(found: &Findings, checks: &[Check]) -> String {
    let page = Page {
        scenario: "lnmp",
        intro: "Seed 000: nginx, php-fpm and MariaDB behind one director; curl and mariadb as clients.",
        steps: &found.steps,
        log: &found.log,
    };
    page.text([("What clients got", phases(found))], checks)
}

fn phases(found: &Findings) -> String {
    let header = ["phase", "noticed", "served", "pages", "rows"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(found.phases.iter().map(|phase| {
        let took = |value: Option<f64>| value.map_or_else(String::new, |_| seconds(value));
        vec![
            phase.name.clone(),
            took(phase.noticed),
            took(phase.served),
            counts(&phase.pages),
            counts(&phase.rows),
        ]
    }));
    table("lrrll", rows)
}

/// `web1 40, web2 20`.
pub(super) fn counts(counts: &BTreeMap<String, u32>) -> String {
    let each: Vec<_> = counts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    each.join(", ")
}
