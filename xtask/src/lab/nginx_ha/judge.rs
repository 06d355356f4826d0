//! PASS or FAIL: a pure function of what a run saw.

use super::findings::{Findings, Holder, Move};
use crate::lab::check::{Check, check, seconds};
use crate::lab::masters::longest_overlap;

/// Label and prefix that the files give the VIP.
const LABEL: &str = "eth0:0";
const PREFIX: u8 = 16;

/// A hand-over between two that live loses the VIP for as long as a neighbour takes to hear of it.
const DARK: f64 = 0.5;

/// Two of different priority hear each other within one advert.
const OVERLAP: f64 = 1.1;

/// All verdicts on a run.
pub(crate) fn judge(found: &Findings) -> Vec<Check> {
    let mut checks = vec![holds(
        "director1 is the first master, its VIP with label and prefix of the file",
        &found.holders,
        "director1",
    )];
    checks.extend(found.moves.iter().flat_map(of_move));
    let overlap = longest_overlap(&found.reigns);
    checks.push(check(
        "there are never two masters for longer than an advert",
        overlap <= OVERLAP && !found.reigns.is_empty(),
        format!("{overlap:.1} s"),
    ));
    let left = found.left.join(", ");
    checks.push(check(
        "SIGTERM ends both directors and leaves no address",
        found.left.is_empty(),
        if left.is_empty() {
            "nothing left"
        } else {
            &left
        },
    ));
    checks
}

fn of_move(seen: &Move) -> Vec<Check> {
    let Move {
        cause,
        to,
        from,
        bound,
        ..
    } = seen;
    let in_time = |value: Option<f64>| value.is_some_and(|took| took <= *bound);
    // A client may have been between two attempts.
    let served = seen.outage.is_some_and(|took| took <= bound + 1.0);
    let notified = |host: &str, word: &str| {
        let number = usize::from(host == "director2");
        seen.notified
            .get(number)
            .is_some_and(|words| *words == [word])
    };
    vec![
        check(
            format!("{cause}: the VIP moves to {to} within {bound:.1} s"),
            in_time(seen.moved),
            seconds(seen.moved),
        ),
        holds(
            &format!("{cause}: {to} alone has the VIP"),
            &seen.holders,
            to,
        ),
        check(
            format!("{cause}: the VIP is never dark for longer than {DARK:.1} s"),
            seen.dark <= DARK,
            format!("{:.0} ms", seen.dark * 1000.0),
        ),
        check(
            format!("{cause}: clients get {to}'s nginx"),
            served,
            format!(
                "after {} at worst, {} requests failed",
                seconds(seen.outage),
                seen.failed
            ),
        ),
        check(
            format!("{cause}: notify.sh runs once on each"),
            notified(to, "master") && notified(from, "backup"),
            format!(
                "director1: {}; director2: {}",
                seen.notified[0].join(", "),
                seen.notified[1].join(", ")
            ),
        ),
    ]
}

fn holds(what: &str, holders: &[Holder], host: &str) -> Check {
    let expected = Holder {
        host: host.to_owned(),
        prefix: PREFIX,
        label: LABEL.to_owned(),
    };
    let shown: Vec<_> = holders
        .iter()
        .map(|holder| format!("{}: /{}, {}", holder.host, holder.prefix, holder.label))
        .collect();
    check(what, holders == [expected], shown.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::masters::Reign;

    fn holder(host: &str) -> Holder {
        Holder {
            host: host.to_owned(),
            prefix: 16,
            label: "eth0:0".to_owned(),
        }
    }

    fn good() -> Findings {
        Findings {
            holders: vec![holder("director1")],
            moves: vec![Move {
                cause: "cause".to_owned(),
                from: "director1".to_owned(),
                to: "director2".to_owned(),
                bound: 9.0,
                moved: Some(8.0),
                dark: 0.01,
                outage: Some(8.5),
                failed: 3,
                notified: [vec!["backup".to_owned()], vec!["master".to_owned()]],
                holders: vec![holder("director2")],
            }],
            reigns: vec![Reign {
                host: "director1".to_owned(),
                from: 0.0,
                to: 9.0,
                priorities: vec![101, 99],
                resigned: false,
            }],
            ..Findings::default()
        }
    }

    fn failed(spoil: impl FnOnce(&mut Findings)) -> Vec<String> {
        let mut findings = good();
        spoil(&mut findings);
        let checks = judge(&findings).into_iter();
        checks
            .filter(|check| !check.pass)
            .map(|check| check.what)
            .collect()
    }

    #[test]
    fn a_good_run_passes() {
        assert_eq!(failed(|_| ()), Vec::<String>::new());
    }

    #[test]
    fn each_fault_fails_one_check() {
        let spoils: [fn(&mut Findings); 9] = [
            |found| found.holders.push(holder("director2")),
            |found| found.holders[0].label = "eth0".to_owned(),
            |found| found.moves[0].moved = None,
            |found| found.moves[0].holders[0].prefix = 32,
            |found| found.moves[0].dark = 0.6,
            |found| found.moves[0].outage = None,
            |found| found.moves[0].notified[1].push("master".to_owned()),
            |found| {
                let reign = Reign {
                    host: "director2".to_owned(),
                    from: 5.0,
                    ..found.reigns[0].clone()
                };
                found.reigns.push(reign);
            },
            |found| found.left.push("the VIP on director1".to_owned()),
        ];
        for (number, spoil) in spoils.into_iter().enumerate() {
            assert_eq!(failed(spoil).len(), 1, "spoil {number}");
        }
    }
}
