//! The report.

use serde_json::Value;

use super::findings::Findings;
use crate::lab::check::{Check, seconds};
use crate::lab::masters;
use crate::lab::page::{self, Page, table};

/// For machines.
pub(crate) fn json(found: &Findings, checks: &[Check]) -> Value {
    page::json("nginx-ha", checks, found)
}

/// For people.
pub(crate) fn text(found: &Findings, checks: &[Check]) -> String {
    let intro = format!(
        "Seed 003, both files used unchanged, directors run {}.",
        found.program
    );
    let page = Page {
        scenario: "nginx-ha",
        intro: &intro,
        steps: &found.steps,
        log: &found.log,
    };
    let reigns = table("lrrll", masters::rows(&found.reigns));
    page.text(
        [
            ("Who was master", reigns),
            ("How the VIP moved", moves(found)),
        ],
        checks,
    )
}

fn moves(found: &Findings) -> String {
    let header = [
        "cause",
        "to",
        "after",
        "VIP dark",
        "clients without",
        "failed",
        "notify ran",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(found.moves.iter().map(|seen| {
        let [first, second] = seen.notified.each_ref().map(|words| words.join(" "));
        vec![
            seen.cause.clone(),
            seen.to.clone(),
            seconds(seen.moved),
            format!("{:.0} ms", seen.dark * 1000.0),
            seconds(seen.outage),
            seen.failed.to_string(),
            format!("director1: {first}; director2: {second}"),
        ]
    }));
    table("llrrrrl", rows)
}
