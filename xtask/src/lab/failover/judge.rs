//! PASS or FAIL: a pure function of what a run saw.

use super::findings::{Allowed, Event, Findings, Return};
use crate::lab::check::{Check, check, seconds};

/// The longest that a bulk transfer may take, s.
const BULK: f64 = 10.0;
/// Three intervals of adverts, s; a backup would take over after 0.72.
const ADVERTS: f64 = 0.6;

/// All verdicts on a run.
pub(crate) fn judge(found: &Findings) -> Vec<Check> {
    let mut checks: Vec<_> = found
        .events
        .iter()
        .flat_map(|event| of_event(event, found.connections))
        .collect();
    checks.push(check(
        "connections stood and were answered throughout",
        !found.events.is_empty()
            && found
                .events
                .iter()
                .all(|event| event.window.answered > 0 && event.window.stood() > 0),
        format!(
            "{} events, {} connections, {} WebSockets",
            found.events.len(),
            found.connections,
            found.websockets
        ),
    ));
    checks
}

fn of_event(event: &Event, connections: usize) -> Vec<Check> {
    let name = |what: &str| format!("{}: {}: {what}", event.round, event.what);
    let (broken, window) = (event.window.broken_in_all(), &event.window);
    let foreign = |host: &str| {
        let others = window.broken.iter().filter(|(server, _)| *server != host);
        let others: u64 = others.flat_map(|(_, causes)| causes.values()).sum();
        others
            + u64::try_from(event.sockets.iter().filter(|s| *s != host).count()).unwrap_or(u64::MAX)
    };
    let seen = format!(
        "{broken} of {}{}{}; {} of the WebSockets",
        window.stood(),
        if broken == 0 { "" } else { ": " },
        window.breaks(),
        event.sockets.len()
    );
    let calm = event.sockets.is_empty();
    let mut checks = vec![match &event.allowed {
        Allowed::Nothing | Allowed::NothingAndNoPacket => {
            check(name("nothing breaks"), broken == 0 && calm, seen)
        }
        Allowed::Its { host, most } => {
            let its = broken.saturating_sub(foreign(host));
            let pass = foreign(host) == 0 && its <= *most;
            let most = match most {
                &u64::MAX => "those".to_owned(),
                most => most.to_string(),
            };
            let what = format!("only {most} of {host} may break");
            check(name(&what), pass, seen)
        }
        Allowed::Young => {
            let few = broken.saturating_mul(1000) <= u64::try_from(connections).unwrap_or(0);
            let pass = few && window.grown == 0 && calm;
            let seen = format!("{seen}; {} were older than 200 ms", window.grown);
            check(name("0.1 % younger than 200 ms may break"), pass, seen)
        }
    }];
    if event.allowed == Allowed::NothingAndNoPacket {
        checks.push(check(
            name("no packet is lost"),
            window.lost <= event.dropped,
            format!(
                "{} lost, {} of them at most by a full backlog of this machine",
                window.lost, event.dropped
            ),
        ));
    }
    checks.extend(event.back.iter().flat_map(|back| of_return(back, &name)));
    checks
}

fn of_return(back: &Return, name: &dyn Fn(&str) -> String) -> [Check; 3] {
    [
        check(
            name("the peer's table comes within 10 s"),
            back.bulk.is_some_and(|took| took < BULK),
            seconds(back.bulk),
        ),
        check(
            name("it takes over after that"),
            back.in_order && back.master.is_some(),
            seconds(back.master),
        ),
        check(
            name("adverts come on time"),
            back.advert_gap > 0.0 && back.advert_gap < ADVERTS,
            format!("{:.2} s at most", back.advert_gap),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::conncheck::{Cause, Window};

    fn event(allowed: Allowed, broken: u64) -> Event {
        let mut window = Window {
            standing: [("rs1".to_owned(), 1000)].into(),
            answered: 1,
            ..Window::default()
        };
        if broken > 0 {
            let causes = BTreeMap::from([(Cause::Reset, broken)]);
            window.broken.insert("rs1".to_owned(), causes);
        }
        Event {
            round: 1,
            what: "something".to_owned(),
            allowed,
            window,
            sockets: Vec::new(),
            dropped: 0,
            back: None,
        }
    }

    fn failed(event: Event) -> usize {
        let found = Findings {
            connections: 1000,
            events: vec![event],
            ..Findings::default()
        };
        judge(&found).iter().filter(|check| !check.pass).count()
    }

    fn its(host: &str, most: u64) -> Allowed {
        let host = host.to_owned();
        Allowed::Its { host, most }
    }

    #[test]
    fn an_event_may_break_what_is_allowed_and_no_more() {
        assert_eq!(failed(event(Allowed::Nothing, 0)), 0);
        assert_eq!(failed(event(Allowed::Nothing, 1)), 1);
        assert_eq!(failed(event(its("rs1", 5), 5)), 0);
        assert_eq!(failed(event(its("rs1", 5), 6)), 1);
        assert_eq!(failed(event(its("rs2", 5), 1)), 1);
        assert_eq!(failed(event(Allowed::Young, 1)), 0);
        assert_eq!(failed(event(Allowed::Young, 2)), 1);
        let mut old = event(Allowed::Young, 1);
        old.window.grown = 1;
        assert_eq!(failed(old), 1);
        let mut socket = event(Allowed::Nothing, 0);
        socket.sockets.push("rs1".to_owned());
        assert_eq!(failed(socket), 1);
    }

    #[test]
    fn a_lost_packet_is_the_director_s_unless_the_machine_dropped_it() {
        let mut lost = event(Allowed::NothingAndNoPacket, 0);
        lost.window.lost = 3;
        assert_eq!(failed(lost.clone()), 1);
        lost.dropped = 3;
        assert_eq!(failed(lost), 0);
    }

    #[test]
    fn a_director_that_returns_early_or_without_the_table_fails() {
        let good = Return {
            bulk: Some(0.2),
            master: Some(4.0),
            in_order: true,
            advert_gap: 0.2,
        };
        let with = |back| Event {
            back: Some(back),
            ..event(Allowed::Nothing, 0)
        };
        assert_eq!(failed(with(good)), 0);
        let early = Return {
            in_order: false,
            ..good
        };
        assert_eq!(failed(with(early)), 1);
        assert_eq!(failed(with(Return::default())), 3);
    }
}
