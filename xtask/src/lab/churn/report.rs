//! The report.

use serde_json::Value;

use super::findings::Findings;
use crate::lab::check::Check;
use crate::lab::page::{self, Page, indented, table};

/// For machines.
pub(crate) fn json(found: &Findings, checks: &[Check]) -> Value {
    page::json("churn", checks, found)
}

/// For people.
pub(crate) fn text(found: &Findings, checks: &[Check]) -> String {
    let intro = format!(
        "Four real servers fail, drain, change weight, leave and come back in random order (seed {}).",
        found.seed
    );
    let page = Page {
        scenario: "churn",
        intro: &intro,
        steps: &found.steps,
        log: &found.log,
    };
    let mut sections = vec![
        ("What happened", events(found)),
        ("Clients", clients(found)),
    ];
    if !found.innocent.is_empty() {
        let lines = found.innocent.join("\n");
        sections.push(("Broken without a failure", indented(&lines)));
    }
    page.text(sections, checks)
}

fn events(found: &Findings) -> String {
    let header = ["after", "event", "WebSockets broken"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(found.events.iter().map(|event| {
        vec![
            format!("{:.1} s", event.at),
            event.what.clone(),
            event.broken.to_string(),
        ]
    }));
    table("rlr", rows)
}

fn clients(found: &Findings) -> String {
    let sum = |count: fn(&crate::lab::clients::WebSocket) -> u64| {
        found.websockets.iter().map(count).sum::<u64>().to_string()
    };
    let http = &found.http;
    let rows = [
        ("WebSocket clients", found.websockets.len().to_string()),
        ("messages sent", sum(|socket| socket.sent)),
        ("messages back", sum(|socket| socket.echoed)),
        ("messages back wrong", sum(|socket| socket.wrong)),
        ("connections broken", sum(|socket| socket.broken)),
        ("HTTP clients", http.sources.len().to_string()),
        ("requests", http.connections().to_string()),
        ("requests failed", http.failed().to_string()),
    ];
    table("lr", rows.map(|(name, value)| vec![name.to_owned(), value]))
}
