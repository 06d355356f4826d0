//! Verdicts, their reasons and times, as a table of stories.

use std::net::SocketAddr;

use super::*;
use crate::health::testing::check_of;
use crate::health::{Failure, Weighing};
use crate::plan::testing::{server_address, service_key};

fn server(index: u8) -> ServerKey {
    (service_key(0), server_address(index))
}

fn target(index: u8, retry: u32) -> Target {
    let server = server(index);
    Target {
        server,
        weight: 1,
        checks: vec![check_of(server.1, retry)],
    }
}

fn monitor(targets: Vec<Target>) -> Monitor {
    Monitor::new(Now::ZERO, targets, &BTreeMap::new(), 1)
}

/// Starts what is due at the deadline.
fn due(monitor: &mut Monitor) -> (Now, Vec<CheckId>) {
    let now = monitor.deadline().unwrap();
    let mut actions = Vec::new();
    monitor.expire(now, &mut actions);
    let probes = actions.into_iter().map(|action| match action {
        Action::Probe(id, _) => id,
        other => panic!("{other:?}"),
    });
    (now, probes.collect())
}

fn finish(monitor: &mut Monitor, now: Now, id: CheckId, passed: bool) -> Vec<String> {
    let outcome = if passed {
        Outcome::Passed
    } else {
        Outcome::Failed(Failure::TimedOut(Duration::from_secs(3)))
    };
    let mut actions = Vec::new();
    monitor.handle(
        now,
        Input::Finished(id, outcome, Duration::ZERO),
        &mut actions,
    );
    reports(&actions)
}

fn reports(actions: &[Action]) -> Vec<String> {
    let report = |action: &Action| match action {
        Action::Report(report) => Some(report.to_string()),
        Action::Probe(..) | Action::Verdict(..) | Action::Verdicts | Action::Rest(_) => None,
    };
    actions.iter().filter_map(report).collect()
}

#[test]
fn a_change_is_told_in_one_line_with_its_reason() {
    let mut monitor = monitor(vec![target(0, 2)]);
    let (now, ids) = due(&mut monitor);
    assert_eq!(finish(&mut monitor, now, ids[0], true), [""; 0]);
    for lines in [0, 0, 1] {
        let (now, ids) = due(&mut monitor);
        let said = finish(&mut monitor, now, ids[0], false);
        assert_eq!(said.len(), lines);
        if lines == 1 {
            let line = "192.168.1.101:80 down: connect timed out after 3 s (3 of 3)";
            assert_eq!(said, [line]);
        }
    }
    let (now, ids) = due(&mut monitor);
    let said = finish(&mut monitor, now, ids[0], true);
    assert_eq!(said, ["192.168.1.101:80 up: its checks pass"]);
}

#[test]
fn a_server_lives_while_all_of_its_checks_pass() {
    let other = SocketAddr::from(([10, 0, 0, 1], 8080));
    let mut both = target(0, 0);
    both.checks.push(check_of(other, 0));
    let mut monitor = monitor(vec![both]);
    let (now, ids) = due(&mut monitor);
    let line = "192.168.1.101:80 down: 10.0.0.1:8080: connect timed out after 3 s (1 of 1)";
    assert_eq!(finish(&mut monitor, now, ids[1], false), [line]);
    assert_eq!(
        finish(&mut monitor, now, ids[0], false),
        [""; 0],
        "it is down already"
    );
    let (now, ids) = due(&mut monitor);
    assert_eq!(
        finish(&mut monitor, now, ids[0], true),
        [""; 0],
        "the other still fails"
    );
    assert!(!monitor.health()[&server(0)].up);
    assert_eq!(finish(&mut monitor, now, ids[1], true).len(), 1);
    assert!(monitor.health()[&server(0)].up);
}

#[test]
fn whoever_comes_back_joins_last() {
    let mut monitor = monitor(vec![target(0, 0), target(1, 0)]);
    let joined = |monitor: &Monitor, index| monitor.health()[&server(index)].joined;
    assert_eq!((joined(&monitor, 0), joined(&monitor, 1)), (0, 0));
    let (now, ids) = due(&mut monitor);
    finish(&mut monitor, now, ids[0], false);
    finish(&mut monitor, now, ids[1], false);
    let (now, ids) = due(&mut monitor);
    finish(&mut monitor, now, ids[1], true);
    finish(&mut monitor, now, ids[0], true);
    assert!(joined(&monitor, 0) > joined(&monitor, 1));
    assert!(joined(&monitor, 1) > 0);
}

#[test]
fn a_server_that_had_failed_under_a_predecessor_waits_for_a_success() {
    let inherited = [(server(0), false), (server(1), true)].into();
    let targets = vec![target(0, 2), target(1, 2)];
    let mut monitor = Monitor::new(Now::ZERO, targets, &inherited, 1);
    assert!(!monitor.health()[&server(0)].up);
    assert!(monitor.health()[&server(1)].up);
    let (now, ids) = due(&mut monitor);
    assert_eq!(
        finish(&mut monitor, now, ids[1], false),
        [""; 0],
        "retries apply"
    );
    assert_eq!(finish(&mut monitor, now, ids[0], true).len(), 1);
}

#[test]
fn a_server_without_checks_is_up() {
    let bare = Target {
        server: server(0),
        weight: 1,
        checks: Vec::new(),
    };
    let inherited = [(server(0), false)].into();
    let monitor = Monitor::new(Now::ZERO, vec![bare], &inherited, 1);
    assert!(monitor.health()[&server(0)].up);
    assert_eq!(monitor.deadline(), None);
}

#[test]
fn first_checks_are_spread_over_the_warm_up() {
    let targets = (0..100).map(|index| {
        let mut target = target(index, 0);
        target.checks[0].warmup = Duration::from_secs(10);
        target
    });
    let monitor = monitor(targets.collect());
    let moments: Vec<_> = monitor
        .agenda
        .iter()
        .map(|(due, _)| due.0.as_secs())
        .collect();
    assert!(moments.iter().all(|moment| *moment < 10));
    for half in [0_u64..5, 5..10] {
        let within = moments.iter().filter(|m| half.contains(*m)).count();
        assert!((30..=70).contains(&within), "{within} of 100 in {half:?} s");
    }
}

#[test]
fn a_reload_keeps_verdicts_and_retries_of_what_is_checked_as_before() {
    let mut monitor = monitor(vec![target(0, 0), target(1, 0)]);
    let (now, ids) = due(&mut monitor);
    finish(&mut monitor, now, ids[0], false);
    let mut actions = Vec::new();
    // The first keeps its check with new timing, the second leaves, a third comes.
    let targets = vec![target(0, 3), target(2, 0)];
    monitor.handle(now, Input::Targets(targets), &mut actions);
    assert_eq!(actions, [Action::Verdicts]);
    assert!(!monitor.health()[&server(0)].up);
    assert!(!monitor.health().contains_key(&server(1)));
    assert!(
        monitor.health()[&server(2)].joined > 0,
        "it joins those that stand"
    );
    assert_eq!(
        finish(&mut monitor, now, ids[1], false),
        [""; 0],
        "an answer too late"
    );
}

#[test]
fn a_server_whose_failing_check_is_removed_is_up() {
    let mut monitor = monitor(vec![target(0, 0)]);
    let (now, ids) = due(&mut monitor);
    finish(&mut monitor, now, ids[0], false);
    let unchecked = Target {
        server: server(0),
        weight: 1,
        checks: Vec::new(),
    };
    let mut actions = Vec::new();
    monitor.handle(now, Input::Targets(vec![unchecked]), &mut actions);
    assert_eq!(reports(&actions), ["192.168.1.101:80 up: its checks pass"]);
    assert!(monitor.health()[&server(0)].up);
}

fn alpha(mut target: Target) -> Target {
    for check in &mut target.checks {
        check.alpha = true;
    }
    target
}

#[test]
fn with_alpha_a_server_is_down_until_its_first_check_has_passed() {
    let mut monitor = monitor(vec![alpha(target(0, 0))]);
    let reason = |monitor: &Monitor| monitor.health()[&server(0)].reason.clone();
    assert!(!monitor.health()[&server(0)].up);
    assert_eq!(reason(&monitor).as_deref(), Some("no check has passed yet"));
    let (now, ids) = due(&mut monitor);
    // keepalived runs `notify_down` with the first failure, though it was not up.
    let said = finish(&mut monitor, now, ids[0], false);
    let timed_out = "connect timed out after 3 s";
    assert_eq!(
        said,
        [format!("192.168.1.101:80 down: {timed_out} (1 of 1)")]
    );
    let (now, ids) = due(&mut monitor);
    assert_eq!(finish(&mut monitor, now, ids[0], false), [""; 0]);
    assert_eq!(reason(&monitor).as_deref(), Some(timed_out));
    assert_eq!(monitor.health()[&server(0)].since, Now::ZERO);
    let (now, ids) = due(&mut monitor);
    let said = finish(&mut monitor, now, ids[0], true);
    assert_eq!(said, ["192.168.1.101:80 up: its checks pass"]);
    assert_eq!(monitor.health()[&server(0)].since, now);
    assert_eq!(reason(&monitor), None);
}

#[test]
fn with_alpha_and_several_checks_the_first_failure_is_told_once() {
    let mut target = target(0, 0);
    let other = SocketAddr::from(([10, 0, 0, 1], 8080));
    target.checks.push(check_of(other, 0));
    let mut monitor = monitor(vec![alpha(target)]);
    let mut told = Vec::new();
    for _ in 0..6 {
        let (now, ids) = due(&mut monitor);
        for id in ids {
            told.extend(finish(&mut monitor, now, id, false));
        }
    }
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn alpha_added_by_a_reload_takes_no_server_out() {
    let mut monitor = monitor(vec![target(0, 0)]);
    let mut other = alpha(target(0, 0));
    other.checks[0] = check_of(SocketAddr::from(([10, 0, 0, 1], 80)), 0);
    other.checks[0].alpha = true;
    let targets = vec![other, alpha(target(1, 0))];
    monitor.handle(Now::ZERO, Input::Targets(targets), &mut Vec::new());
    assert!(monitor.health()[&server(0)].up, "it serves");
    assert!(!monitor.health()[&server(1)].up, "it starts");
}

#[test]
fn the_reason_is_that_of_the_first_check_that_fails_and_is_published_as_it_changes() {
    let mut both = target(0, 0);
    both.checks
        .push(check_of(SocketAddr::from(([10, 0, 0, 1], 8080)), 0));
    let mut monitor = monitor(vec![both]);
    let (now, ids) = due(&mut monitor);
    let mut told = |id: CheckId, failure: Failure| {
        let mut actions = Vec::new();
        let outcome = Outcome::Failed(failure);
        monitor.handle(
            now,
            Input::Finished(id, outcome, Duration::ZERO),
            &mut actions,
        );
        let verdict = actions.into_iter().find_map(|action| match action {
            Action::Verdict(_, health) => Some(health.reason.unwrap().to_string()),
            _ => None,
        });
        verdict.unwrap()
    };
    let second = told(ids[1], Failure::Refused);
    assert_eq!(second, "10.0.0.1:8080: connection refused");
    assert_eq!(told(ids[0], Failure::Reset), "connection reset");
}

#[test]
fn failures_that_are_retried_are_told_where_that_is_asked_for() {
    let mut target = target(0, 1);
    target.checks[0].log_all_failures = true;
    let mut monitor = monitor(vec![target]);
    let (now, ids) = due(&mut monitor);
    finish(&mut monitor, now, ids[0], true);
    let expected = [
        "192.168.1.101:80 fails: connect timed out after 3 s (1 of 2)",
        "192.168.1.101:80 down: connect timed out after 3 s (2 of 2)",
        "192.168.1.101:80 still down: connect timed out after 3 s",
    ];
    for line in expected {
        let (now, ids) = due(&mut monitor);
        assert_eq!(finish(&mut monitor, now, ids[0], false), [line]);
    }
}

#[test]
fn a_check_moves_the_weight_and_one_line_says_so() {
    let mut weighted = target(0, 0);
    weighted.weight = 10;
    let mut monitor = monitor(vec![weighted.clone()]);
    let weighed = |monitor: &mut Monitor, weighing| {
        let (now, ids) = due(monitor);
        let mut actions = Vec::new();
        let outcome = Outcome::Weighed(weighing);
        monitor.handle(
            now,
            Input::Finished(ids[0], outcome, Duration::ZERO),
            &mut actions,
        );
        reports(&actions)
    };
    let line = "192.168.1.101:80 weight 7: its checks say so";
    assert_eq!(weighed(&mut monitor, Weighing::Add(-3)), [line]);
    assert_eq!(weighed(&mut monitor, Weighing::Add(-3)), [""; 0]);
    assert_eq!(monitor.health()[&server(0)].weight(10), 7);
    assert_eq!(weighed(&mut monitor, Weighing::Set(7)), [""; 0], "the same");
    // A new weight of the file moves nothing of what the check sets.
    weighted.weight = 20;
    monitor.handle(Now::ZERO, Input::Targets(vec![weighted]), &mut Vec::new());
    assert_eq!(monitor.health()[&server(0)].weight(20), 7);
}

#[test]
fn checks_rest_with_their_verdicts_and_begin_again_apart() {
    let services: BTreeSet<_> = [service_key(0)].into();
    let targets = (0..50).map(|index| target(index, 0));
    let mut monitor = monitor(targets.collect());
    let (now, ids) = due(&mut monitor);
    finish(&mut monitor, now, ids[0], false);
    let mut actions = Vec::new();
    monitor.handle(now, Input::Resting(services.clone()), &mut actions);
    assert_eq!(actions.len(), 1, "{actions:?}");
    assert_eq!(monitor.deadline(), None);
    // What was under way counts, and nothing follows it.
    finish(&mut monitor, now, ids[1], false);
    assert!(!monitor.health()[&server(1)].up);
    assert_eq!(monitor.deadline(), None);
    // Nor does a reload wake anybody up.
    let targets = (0..51).map(|index| target(index, 0)).collect();
    monitor.handle(now, Input::Targets(targets), &mut Vec::new());
    assert_eq!(monitor.deadline(), None);
    assert!(!monitor.health()[&server(0)].up, "as it was");
    for id in &ids[2..] {
        finish(&mut monitor, now, *id, true);
    }
    let later = now.after(Duration::from_secs(100));
    monitor.handle(later, Input::Resting(BTreeSet::new()), &mut actions);
    let moments: BTreeSet<_> = monitor.agenda.iter().map(|(due, _)| *due).collect();
    assert_eq!(moments.len(), 51, "not all at once");
    let end = later.after(Duration::from_secs(1));
    assert!(moments.iter().all(|moment| (later..end).contains(moment)));
}

#[test]
fn a_shorter_period_does_not_gather_the_checks_at_its_end() {
    let slow = |index| {
        let mut target = target(index, 0);
        target.checks[0].delay_loop = Duration::from_mins(10);
        target
    };
    let mut monitor = monitor((0..100).map(slow).collect());
    let (now, ids) = due(&mut monitor);
    for id in ids {
        finish(&mut monitor, now, id, true);
    }
    let faster = (0..100).map(|index| target(index, 0));
    monitor.handle(now, Input::Targets(faster.collect()), &mut Vec::new());
    let early = monitor
        .agenda
        .iter()
        .filter(|(due, _)| due.0.as_millis() < 2_500);
    assert!((30..=70).contains(&early.count()));
    assert!(monitor.agenda.iter().all(|(due, _)| due.0.as_secs() < 5));
}
