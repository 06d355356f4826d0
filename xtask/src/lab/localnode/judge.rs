//! PASS or FAIL: a pure function of what a run saw.

use super::findings::{Findings, Phase};
use crate::lab::check::{Check, check, seconds};
use crate::lab::clients::HttpRun;
use crate::lab::pair::NAMES;

/// Three adverts of 1 s, a skew of (256 - 80) / 256 s, and a second for a busy machine.
const TAKE_OVER: f64 = 3.0 + 176.0 / 256.0 + 1.0;

/// The script runs each second, and nginx has to start.
const RESTART: f64 = 3.0;

/// The script gives up, and the director says so by an advert of priority 0: skew time, after the run
/// of the script.
const GIVE_UP: f64 = RESTART + 176.0 / 256.0 + 1.0;

/// An interval of adverts and 100 ms.
const HEAL: f64 = 1.1;

/// All verdicts on a run.
pub(crate) fn judge(found: &Findings) -> Vec<Check> {
    let balances = found.program == "xdp-lb";
    let mut checks = vec![answered("one master", &found.one.http)];
    if balances {
        checks.extend(balanced(found));
    }
    checks.push(no_bounce("one master", &found.one));
    for (asked, phase) in found.both.iter().enumerate() {
        let when = format!("both are master, {} is asked", NAMES[asked]);
        checks.push(answered(&when, &phase.http));
        checks.push(one_balances(&when, phase, asked, balances));
    }
    checks.push(check(
        format!("after both were master one is again, and the VIP is dark for {HEAL:.1} s at most"),
        found.healed_calm && found.healed_dark <= HEAL,
        format!("{:.0} ms", found.healed_dark * 1000.0),
    ));
    checks.extend(monitor(found));
    checks.extend(power(found));
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

fn answered(when: &str, run: &HttpRun) -> Check {
    let (asked, answered) = (run.connections(), run.answered());
    check(
        format!("{when}: every request is answered"),
        asked > 0 && answered == asked,
        format!("{answered} of {asked}; {}", run.errors()),
    )
}

/// What only a program that balances does.
fn balanced(found: &Findings) -> Vec<Check> {
    let [first, second] = NAMES.map(|name| found.one.http.sources_of(name).len());
    let sources = found.one.http.sources.len();
    vec![
        check(
            "clients are split as wrr 1:5 says, and each stays where it was",
            first > 0 && second == 5 * first && first + second == sources,
            format!("{first} + {second} of {sources}"),
        ),
        check(
            "the master sends on what is for the other, and serves its own",
            found.one.from_directors[0] > 0 && found.one.from_directors[0] < found.one.from_client,
            format!(
                "{} of {} frames sent on",
                found.one.from_directors[0], found.one.from_client
            ),
        ),
        check(
            "the one without power is taken from the table",
            found.power.removed.is_some(),
            seconds(found.power.removed),
        ),
    ]
}

/// A frame of a client leaves one director at most, and that once.
fn no_bounce(when: &str, phase: &Phase) -> Check {
    let [first, second] = phase.from_directors;
    check(
        format!("{when}: no frame goes from director to director and back"),
        first.min(second) == 0 && first + second <= phase.from_client && phase.from_client > 0,
        format!(
            "clients sent {}, directors sent on {first} and {second}",
            phase.from_client
        ),
    )
}

/// The one that is asked sends frames on, each once, and the other none of those that it gets.
fn one_balances(when: &str, phase: &Phase, asked: usize, balances: bool) -> Check {
    let sent = phase.from_directors;
    let (own, others) = (sent[asked], sent[1 - asked]);
    check(
        format!("{when}: no frame goes from director to director and back"),
        others == 0 && (own > 0) == balances && own <= phase.from_client,
        format!(
            "clients sent {}, directors sent on {} and {}",
            phase.from_client, sent[0], sent[1]
        ),
    )
}

fn monitor(found: &Findings) -> Vec<Check> {
    let monitor = &found.monitor;
    let within = |value: Option<f64>, bound| value.is_some_and(|took| took <= bound);
    vec![
        check(
            format!("the script starts nginx again within {RESTART:.0} s"),
            within(monitor.restarted, RESTART),
            seconds(monitor.restarted),
        ),
        check(
            format!("where it cannot, `killall keepalived` moves the VIP within {GIVE_UP:.1} s"),
            within(monitor.gave_up, GIVE_UP),
            seconds(monitor.gave_up),
        ),
    ]
}

fn power(found: &Findings) -> Vec<Check> {
    let power = &found.power;
    let within = |value: Option<f64>| value.is_some_and(|took| took <= TAKE_OVER);
    vec![
        check(
            format!("director1 without power: director2 is master within {TAKE_OVER:.1} s"),
            within(power.taken_over),
            seconds(power.taken_over),
        ),
        check(
            format!("the VIP is dark for no longer than {TAKE_OVER:.1} s"),
            power.dark <= TAKE_OVER,
            format!("{:.2} s", power.dark),
        ),
        check(
            "new clients are all served by director2",
            power.alone.answered_by(NAMES[1]) == power.alone.connections()
                && power.alone.connections() > 0,
            format!(
                "{} of {}; {}",
                power.alone.answered(),
                power.alone.connections(),
                power.alone.errors()
            ),
        ),
        check(
            "director1 with power is master again",
            power.returned.is_some(),
            seconds(power.returned),
        ),
        answered("director1 is back", &power.again.http),
        no_bounce("director1 is back", &power.again),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lab::clients::HttpSource;
    use crate::lab::localnode::findings::{Monitor, Power};

    fn run(counts: [usize; 2]) -> HttpRun {
        let source = |name: &str| HttpSource {
            connections: 1,
            answers: BTreeMap::from([(name.to_owned(), 1)]),
            ..HttpSource::default()
        };
        let of = |number: usize| std::iter::repeat_n(source(NAMES[number]), counts[number]);
        HttpRun {
            seconds: 1.0,
            sources: of(0).chain(of(1)).collect(),
        }
    }

    fn phase() -> Phase {
        Phase {
            http: run([2, 10]),
            from_client: 60,
            from_directors: [50, 0],
        }
    }

    fn good() -> Findings {
        Findings {
            program: "xdp-lb".to_owned(),
            one: phase(),
            both: [
                phase(),
                Phase {
                    from_directors: [0, 10],
                    ..phase()
                },
            ],
            healed_calm: true,
            healed_dark: 0.05,
            monitor: Monitor {
                restarted: Some(1.0),
                gave_up: Some(2.0),
            },
            power: Power {
                taken_over: Some(3.7),
                dark: 3.7,
                removed: Some(20.0),
                alone: run([0, 10]),
                returned: Some(4.0),
                again: phase(),
            },
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
        let spoils: [fn(&mut Findings); 16] = [
            |found| found.both[0].http.sources[0].connections = 2,
            |found| found.one.http = run([6, 6]),
            |found| found.one.from_directors[0] = 0,
            |found| found.one.from_directors[1] = 1,
            |found| found.both[0].from_directors[0] = 61,
            |found| found.both[0].from_directors[1] = 1,
            |found| found.both[1].from_directors[0] = 1,
            |found| found.both[1].from_directors[1] = 0,
            |found| found.healed_dark = 1.2,
            |found| found.monitor.restarted = None,
            |found| found.monitor.gave_up = Some(6.0),
            |found| found.power.taken_over = None,
            |found| found.power.dark = 5.0,
            |found| found.power.alone = run([1, 9]),
            |found| found.power.removed = None,
            |found| found.left.push("the VIP on director1".to_owned()),
        ];
        for (number, spoil) in spoils.into_iter().enumerate() {
            assert_eq!(failed(spoil).len(), 1, "spoil {number}");
        }
    }

    #[test]
    fn keepalived_without_ip_vs_need_not_balance() {
        let master_alone = |found: &mut Findings| {
            found.program = "keepalived".to_owned();
            found.one.http = run([12, 0]);
            found.one.from_directors = [0, 0];
            for both in &mut found.both {
                both.from_directors = [0, 0];
            }
            found.power.removed = None;
        };
        assert_eq!(failed(master_alone), Vec::<String>::new());
    }
}
