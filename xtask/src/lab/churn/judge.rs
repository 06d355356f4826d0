//! PASS or FAIL: a pure function of what a run saw.

use super::findings::Findings;
use crate::lab::check::{Check, check};

/// All verdicts on a run.
pub(crate) fn judge(found: &Findings) -> Vec<Check> {
    let broken: u64 = found.websockets.iter().map(|socket| socket.broken).sum();
    let wrong: u64 = found.websockets.iter().map(|socket| socket.wrong).sum();
    let silent = found.websockets.iter().filter(|socket| socket.echoed == 0);
    let silent = silent.count();
    let kinds = ["fails", "drained", "weight", "removed"];
    let happened = |kind: &&str| found.events.iter().any(|event| event.what.contains(*kind));
    let missing: Vec<_> = kinds.into_iter().filter(|kind| !happened(kind)).collect();
    let gap = |gaps: &mut dyn Iterator<Item = f64>| gaps.fold(0.0, f64::max);
    let outages = found.websockets.iter().flat_map(|socket| &socket.outages);
    let outage = gap(&mut outages.copied());
    let dark = gap(&mut found.http.sources.iter().map(|source| source.gap));
    let mut checks = vec![
        check(
            "every kind of event happens",
            missing.is_empty(),
            format!("{} events", found.events.len()),
        ),
        check(
            "only connections to servers that failed break",
            found.innocent.is_empty() && broken > 0,
            format!(
                "{broken} broken, {} of them without a failure",
                found.innocent.len()
            ),
        ),
        check(
            "every message comes back as it was sent, from its connection's server",
            wrong == 0 && silent == 0 && !found.websockets.is_empty(),
            format!("{wrong} wrong, {silent} clients without any"),
        ),
        check(
            format!(
                "a WebSocket that broke is open again within {:.0} s",
                found.bound
            ),
            outage <= found.bound,
            format!("{outage:.1} s"),
        ),
        check(
            format!(
                "no client of short requests is without an answer for more than {:.0} s",
                found.bound
            ),
            dark <= found.bound && !found.http.sources.is_empty(),
            format!("{dark:.1} s"),
        ),
    ];
    if let Some(stop) = &found.stop {
        checks.push(check(
            "SIGTERM ends the director and leaves nothing",
            stop.success && stop.left.is_empty(),
            format!("{}, left: {}", stop.status, stop.left.join(", ")),
        ));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::churn::findings::Event;
    use crate::lab::clients::{HttpRun, HttpSource, WebSocket};

    fn good() -> Findings {
        let event = |what: &str| Event {
            at: 1.0,
            what: what.to_owned(),
            broken: 1,
        };
        let socket = WebSocket {
            broken: 1,
            echoed: 5,
            outages: vec![0.5],
            ..WebSocket::default()
        };
        Findings {
            events: ["rs1 fails", "rs1 drained", "rs1 weight 3", "rs1 removed"]
                .map(event)
                .to_vec(),
            websockets: vec![socket],
            http: HttpRun {
                sources: vec![HttpSource {
                    gap: 1.0,
                    ..HttpSource::default()
                }],
                ..HttpRun::default()
            },
            bound: 5.0,
            ..Findings::default()
        }
    }

    fn failed(found: &Findings) -> usize {
        judge(found).iter().filter(|check| !check.pass).count()
    }

    #[test]
    fn each_fault_fails_its_check() {
        assert_eq!(failed(&good()), 0);
        let mut found = good();
        found.innocent.push("rs2: reset".to_owned());
        found.websockets[0].wrong = 1;
        found.websockets[0].outages = vec![9.0];
        found.http.sources[0].gap = 9.0;
        found.events.pop();
        assert_eq!(failed(&found), 5);
    }
}
