//! The report.

use serde_json::Value;

use super::findings::Findings;
use crate::lab::check::Check;
use crate::lab::page::{self, Page, table};

/// For machines.
pub(crate) fn json(found: &Findings, checks: &[Check]) -> Value {
    page::json("failover", checks, found)
}

/// For people.
pub(crate) fn text(found: &Findings, checks: &[Check]) -> String {
    let intro = format!(
        "{} connections with a heartbeat every {} ms and {} WebSockets, two directors {} state sync.",
        found.connections,
        found.every_ms,
        found.websockets,
        if found.sync { "with" } else { "without" }
    );
    let page = Page {
        scenario: "failover",
        intro: &intro,
        steps: &found.steps,
        log: &found.log,
    };
    page.text([("What happened", events(found))], checks)
}

fn events(found: &Findings) -> String {
    let header = [
        "round",
        "event",
        "s",
        "answered",
        "broken",
        "old",
        "WebSockets",
        "lost",
        "backlog",
        "late ms p50",
        "p99",
        "most",
        "what broke",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(found.events.iter().map(|event| {
        let window = &event.window;
        let ms = |seconds: f64| format!("{:.0}", seconds * 1000.0);
        vec![
            event.round.to_string(),
            event.what.clone(),
            format!("{:.1}", window.seconds),
            format!("{} of {}", window.answered, window.sent),
            window.broken_in_all().to_string(),
            window.grown.to_string(),
            event.sockets.len().to_string(),
            window.lost.to_string(),
            event.dropped.to_string(),
            ms(window.silence.p50),
            ms(window.silence.p99),
            ms(window.silence.max),
            window.breaks(),
        ]
    }));
    let note = "lost: segments sent again that had not arrived; backlog: packets that this machine \
                dropped; late: each connection's longest wait for an answer.";
    format!("{}  {note}\n", table("rlrrrrrrrrrrl", rows))
}
