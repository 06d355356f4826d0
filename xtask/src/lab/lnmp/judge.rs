//! PASS or FAIL: a pure function of what a run saw.

use std::collections::BTreeMap;

use super::findings::{Findings, Phase};
use super::report::counts;
use crate::lab::check::{Check, check, seconds};

/// `delay_loop` 1, a retry after 1 s, `connect_timeout` 2 each, and a second for a busy machine.
const NOTICED: f64 = 1.0 + 1.0 + 2.0 * 2.0 + 1.0;

/// What must come of a phase: its name, pages by server, rows by server.
type Expected = (
    &'static str,
    &'static [(&'static str, u32)],
    &'static [(&'static str, u32)],
);

/// The phases in their order, and what comes of each; nothing stands for nobody asked.
pub(super) const EXPECTED: [Expected; 7] = [
    (
        ALL_WELL,
        &[("web1", 40), ("web2", 20)],
        &[("db1", 10), ("db2", 10)],
    ),
    (NO_PHP, &[("web2", 20)], &[]),
    (NO_WEB, &[("backup", 20)], &[]),
    (WEB2_BACK, &[("web2", 20)], &[]),
    (WEB1_BACK, &[("web1", 20), ("web2", 10)], &[]),
    (NO_DB1, &[], &[("db2", 20)]),
    (DB1_BACK, &[], &[("db1", 10), ("db2", 10)]),
];

pub(super) const ALL_WELL: &str = "all is well";
pub(super) const NO_PHP: &str = "php-fpm of web1 killed";
pub(super) const NO_WEB: &str = "nginx of web2 killed, too";
pub(super) const WEB2_BACK: &str = "web2 is back";
pub(super) const WEB1_BACK: &str = "web1 is back";
pub(super) const NO_DB1: &str = "MariaDB of db1 killed";
pub(super) const DB1_BACK: &str = "db1 is back";

/// All verdicts on a run.
pub(crate) fn judge(found: &Findings) -> Vec<Check> {
    let mut checks: Vec<_> = EXPECTED
        .iter()
        .flat_map(|expected| phase(found, expected))
        .collect();
    let (gone, seen) = match &found.stop {
        Some(stop) => (
            stop.success && stop.left.is_empty(),
            format!("{}, left: {}", stop.status, stop.left.join(", ")),
        ),
        None => (true, "kept".to_owned()),
    };
    checks.push(check(
        "SIGTERM ends the director and leaves nothing",
        gone,
        seen,
    ));
    checks
}

fn phase(found: &Findings, (name, pages, rows): &Expected) -> Vec<Check> {
    let Some(seen) = found.phases.iter().find(|phase| phase.name == *name) else {
        return vec![check(*name, false, "did not happen")];
    };
    let mut checks = Vec::new();
    if *name != ALL_WELL {
        checks.push(noticed(seen));
    }
    for (what, expected, got) in [("pages", pages, &seen.pages), ("rows", rows, &seen.rows)] {
        if !expected.is_empty() {
            checks.push(shares(&seen.name, what, expected, got));
        }
    }
    checks
}

fn noticed(seen: &Phase) -> Check {
    check(
        format!("{}: noticed within {NOTICED:.0} s", seen.name),
        seen.noticed.is_some_and(|took| took <= NOTICED),
        seconds(seen.noticed),
    )
}

/// The schedule is exact; a check that takes a server out and back shifts it by one at most.
fn shares(phase: &str, what: &str, expected: &[(&str, u32)], got: &BTreeMap<String, u32>) -> Check {
    let close =
        |&(name, count): &(&str, u32)| got.get(name).is_some_and(|got| got.abs_diff(count) <= 1);
    let wanted = expected
        .iter()
        .map(|&(name, count)| (name.to_owned(), count));
    let wanted = counts(&wanted.collect());
    check(
        format!("{phase}: {what} come from {wanted}"),
        expected.iter().all(close) && got.len() == expected.len(),
        counts(got),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn got(counts: &[(&str, u32)]) -> BTreeMap<String, u32> {
        counts
            .iter()
            .map(|&(name, count)| (name.to_owned(), count))
            .collect()
    }

    #[test]
    fn shares_may_be_off_by_one_and_nobody_else_may_answer() {
        let expected = [("web1", 20), ("web2", 10)];
        let pass = |counts: &[(&str, u32)]| shares("x", "pages", &expected, &got(counts)).pass;
        assert!(pass(&[("web1", 20), ("web2", 10)]));
        assert!(pass(&[("web1", 19), ("web2", 11)]));
        assert!(!pass(&[("web1", 15), ("web2", 15)]));
        assert!(!pass(&[("web1", 20), ("web2", 10), ("backup", 1)]));
        assert!(!pass(&[("web1", 20)]));
    }

    #[test]
    fn a_run_that_saw_nothing_fails_everywhere() {
        let checks = judge(&Findings::default());
        let failed = checks.iter().filter(|check| !check.pass).count();
        assert_eq!(failed, EXPECTED.len());
    }
}
