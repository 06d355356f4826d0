//! All health checks of all real servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::Outcome;
use super::check::{Check, Prior, Turn};
use super::report::{Report, Verdict};
use super::target::Target;
use crate::config::model::{self, Probe};
use crate::machine::{Machine, Now};
use crate::plan::installed::ServerKey;
use crate::plan::table::{Health, ServerHealth};

/// Names a check for as long as it is configured; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckId(u64);

/// What happens to a [`Monitor`].
#[derive(Clone, Debug)]
pub enum Input {
    /// A probe is over.
    Finished(CheckId, Outcome),
    /// The configuration changed.
    Targets(Vec<Target>),
}

/// What a [`Monitor`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a probe; its outcome comes back as [`Input::Finished`].
    Probe(CheckId, Probe),
    /// Tell people that a verdict changed.
    Report(Report),
    /// [`Monitor::health`] changed.
    Publish,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Monitor {
    checks: BTreeMap<CheckId, (ServerKey, Check)>,
    servers: BTreeMap<ServerKey, Vec<CheckId>>,
    health: Health,
    /// Every check that has no probe in flight, by the time of its next one.
    agenda: BTreeSet<(Now, CheckId)>,
    next_id: u64,
    joins: u64,
    seed: u64,
}

impl Monitor {
    /// Watches `targets`, those that are `false` in `inherited` being down until a check passes.
    /// First checks are spread over their warm-up by `seed`.
    pub fn new(
        now: Now,
        targets: Vec<Target>,
        inherited: &BTreeMap<ServerKey, bool>,
        seed: u64,
    ) -> Self {
        let mut monitor = Self {
            checks: BTreeMap::new(),
            servers: BTreeMap::new(),
            health: Health::new(),
            agenda: BTreeSet::new(),
            next_id: 0,
            joins: 0,
            seed,
        };
        for Target { server, checks } in targets {
            let prior = match inherited.get(&server) {
                None => Prior::Unknown,
                Some(true) => Prior::Up,
                Some(false) => Prior::Down,
            };
            let ids = checks
                .into_iter()
                .map(|c| monitor.add(now, server, c, prior));
            let ids = ids.collect();
            monitor.servers.insert(server, ids);
            let up = monitor.passes(&server);
            let joined = 0;
            monitor.health.insert(
                server,
                ServerHealth {
                    up,
                    joined,
                    ..ServerHealth::default()
                },
            );
        }
        monitor
    }

    /// The verdicts.
    pub fn health(&self) -> &Health {
        &self.health
    }

    fn add(&mut self, now: Now, server: ServerKey, config: model::Check, prior: Prior) -> CheckId {
        let id = CheckId(self.next_id);
        self.next_id += 1;
        let first = now.after(spread(self.seed, id, config.warmup));
        self.agenda.insert((first, id));
        let check = Check::new(config, first, prior);
        self.checks.insert(id, (server, check));
        id
    }

    fn finish(&mut self, now: Now, id: CheckId, outcome: Outcome, actions: &mut Vec<Action>) {
        // A check that left the configuration while its probe was under way.
        let Some((server, check)) = self.checks.get_mut(&id) else {
            return;
        };
        // Nothing is in flight: not an answer to anything.
        if check.due().is_some() {
            return;
        }
        let turn = check.finish(now, outcome);
        self.agenda.extend(check.due().map(|due| (due, id)));
        // A command goes nowhere: it is named by the server that it is about.
        let target = check.probe().target().unwrap_or(server.1);
        let server = *server;
        if let Some(turn) = turn {
            self.turn(server, target, turn, actions);
        }
    }

    /// A check changed its verdict: does the server?
    fn turn(
        &mut self,
        server: ServerKey,
        target: SocketAddr,
        turn: Turn,
        actions: &mut Vec<Action>,
    ) {
        let verdict = match turn {
            Turn::Up => Verdict::Up,
            Turn::Down { failure, failures } => Verdict::Down {
                target,
                failure,
                failures,
            },
        };
        if self.judge(server) {
            actions.push(Action::Report(Report { server, verdict }));
            actions.push(Action::Publish);
        }
    }

    /// Brings the verdict on a server in line with its checks; whether it changed.
    fn judge(&mut self, server: ServerKey) -> bool {
        let up = self.passes(&server);
        let Some(health) = self.health.get_mut(&server) else {
            return false;
        };
        let changed = health.up != up;
        if changed && up {
            self.joins += 1;
            health.joined = self.joins;
        }
        health.up = up;
        changed
    }

    fn passes(&self, server: &ServerKey) -> bool {
        let mut ids = self.servers.get(server).into_iter().flatten();
        ids.all(|id| self.checks.get(id).is_none_or(|(_, check)| check.is_up()))
    }

    fn reconfigure(&mut self, now: Now, targets: Vec<Target>, actions: &mut Vec<Action>) {
        let mut gone = std::mem::take(&mut self.servers);
        for target in targets {
            match gone.remove(&target.server) {
                None => self.join(now, target),
                Some(had) => self.retarget(now, target, had, actions),
            }
        }
        for (server, ids) in gone {
            self.health.remove(&server);
            self.drop_checks(ids);
        }
        actions.push(Action::Publish);
    }

    /// A server that comes while others stand joins them last.
    fn join(&mut self, now: Now, target: Target) {
        let Target { server, checks } = target;
        let ids = checks
            .into_iter()
            .map(|c| self.add(now, server, c, Prior::Unknown));
        let ids = ids.collect();
        self.servers.insert(server, ids);
        self.joins += 1;
        let (up, joined) = (true, self.joins);
        self.health.insert(
            server,
            ServerHealth {
                up,
                joined,
                ..ServerHealth::default()
            },
        );
    }

    /// Checks of the same probe go on where they are, whatever their timing is now; others start
    /// from the server's verdict.
    fn retarget(
        &mut self,
        now: Now,
        target: Target,
        mut had: Vec<CheckId>,
        actions: &mut Vec<Action>,
    ) {
        let Target { server, checks } = target;
        let is_down = self.health.get(&server).is_some_and(|health| !health.up);
        let prior = if is_down { Prior::Down } else { Prior::Unknown };
        let ids = checks.into_iter().map(|config| {
            let kept = self.keep(now, &mut had, &config);
            kept.unwrap_or_else(|| self.add(now, server, config, prior))
        });
        let ids = ids.collect();
        self.servers.insert(server, ids);
        self.drop_checks(had);
        // Its failing check may be gone; none that is new can fail yet.
        if self.judge(server) {
            let verdict = Verdict::Up;
            actions.push(Action::Report(Report { server, verdict }));
        }
    }

    fn keep(
        &mut self,
        now: Now,
        candidates: &mut Vec<CheckId>,
        config: &model::Check,
    ) -> Option<CheckId> {
        let same = |id: &CheckId| {
            let check = self.checks.get(id);
            check.is_some_and(|(_, check)| *check.probe() == config.probe)
        };
        let position = candidates.iter().position(same)?;
        let id = candidates.remove(position);
        let (_, check) = self.checks.get_mut(&id)?;
        let before = check.due();
        check.retime(now, config.clone());
        if let (Some(before), Some(after)) = (before, check.due()) {
            self.agenda.remove(&(before, id));
            self.agenda.insert((after, id));
        }
        Some(id)
    }

    fn drop_checks(&mut self, ids: Vec<CheckId>) {
        for id in ids {
            if let Some(due) = self.checks.remove(&id).and_then(|(_, check)| check.due()) {
                self.agenda.remove(&(due, id));
            }
        }
    }
}

impl Machine for Monitor {
    type Input = Input;
    type Action = Action;

    fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Finished(id, outcome) => self.finish(now, id, outcome, actions),
            Input::Targets(targets) => self.reconfigure(now, targets, actions),
        }
    }

    fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some(&(due, id)) = self.agenda.first()
            && due <= now
        {
            self.agenda.pop_first();
            if let Some((_, check)) = self.checks.get_mut(&id) {
                actions.push(Action::Probe(id, check.start().clone()));
            }
        }
    }

    fn deadline(&self) -> Option<Now> {
        self.agenda.first().map(|(due, _)| *due)
    }
}

/// A moment within `warmup` that looks random and is the same for the same seed (splitmix64).
fn spread(seed: u64, id: CheckId, warmup: Duration) -> Duration {
    let mut z = seed ^ id.0.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let bound = u64::try_from(warmup.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(z.checked_rem(bound).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Failure;
    use crate::health::testing::check_of;
    use crate::plan::testing::{server_address, service_key};
    use proptest::prelude::*;

    fn server(index: u8) -> ServerKey {
        (service_key(0), server_address(index))
    }

    fn target(index: u8, retry: u32) -> Target {
        let server = server(index);
        Target {
            server,
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
        monitor.handle(now, Input::Finished(id, outcome), &mut actions);
        reports(&actions)
    }

    fn reports(actions: &[Action]) -> Vec<String> {
        let report = |action: &Action| match action {
            Action::Report(report) => Some(report.to_string()),
            Action::Probe(..) | Action::Publish => None,
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
        assert_eq!(actions, [Action::Publish]);
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
            checks: Vec::new(),
        };
        let mut actions = Vec::new();
        monitor.handle(now, Input::Targets(vec![unchecked]), &mut actions);
        assert_eq!(reports(&actions), ["192.168.1.101:80 up: its checks pass"]);
        assert!(monitor.health()[&server(0)].up);
    }

    /// What a test does next.
    #[derive(Clone, Debug)]
    enum Step {
        /// Time passes, up to or beyond the deadline.
        Wait(u64),
        /// The n-th probe in flight ends.
        Finish(usize, bool),
        /// These servers are configured.
        Targets(Vec<(u8, u32)>),
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let targets = prop::collection::btree_map(0_u8..4, 0_u32..2, 0..4);
        prop_oneof![
            3 => (0_u64..7).prop_map(Step::Wait),
            4 => (0_usize..4, any::<bool>()).prop_map(|(nth, passed)| Step::Finish(nth, passed)),
            1 => targets.prop_map(|targets| Step::Targets(targets.into_iter().collect())),
        ]
    }

    proptest! {
        #[test]
        fn one_probe_at_a_time_and_no_deadline_in_the_past(
            steps in prop::collection::vec(any_step(), 1..80)
        ) {
            let mut monitor = monitor(vec![target(0, 1), target(1, 0)]);
            let mut now = Now::ZERO;
            let mut in_flight: Vec<CheckId> = Vec::new();
            for step in steps {
                let mut actions = Vec::new();
                let before = monitor.health().clone();
                match step {
                    Step::Wait(seconds) => {
                        now = now.after(Duration::from_secs(seconds));
                        monitor.expire(now, &mut actions);
                        prop_assert!(monitor.deadline().is_none_or(|deadline| deadline > now));
                    }
                    Step::Finish(nth, passed) if nth < in_flight.len() => {
                        finish(&mut monitor, now, in_flight.remove(nth), passed);
                    }
                    Step::Finish(..) => {}
                    Step::Targets(targets) => {
                        let targets = targets.into_iter().map(|(i, retry)| target(i, retry));
                        let targets: Vec<_> = targets.collect();
                        let servers: BTreeSet<_> = targets.iter().map(|t| t.server).collect();
                        monitor.handle(now, Input::Targets(targets), &mut actions);
                        let known: BTreeSet<_> = monitor.health().keys().copied().collect();
                        prop_assert_eq!(known, servers);
                        in_flight.retain(|id| monitor.checks.contains_key(id));
                    }
                }
                for action in actions {
                    if let Action::Probe(id, _) = action {
                        prop_assert!(!in_flight.contains(&id), "two probes of {:?}", id);
                        in_flight.push(id);
                    }
                }
                prop_assert_eq!(monitor.agenda.len() + in_flight.len(), monitor.checks.len());
                for (server, health) in monitor.health() {
                    prop_assert_eq!(health.up, monitor.passes(server));
                    let rejoined = before.get(server).is_some_and(|was| !was.up && health.up);
                    let others = before.values().map(|was| was.joined).max().unwrap_or(0);
                    prop_assert!(!rejoined || health.joined > others);
                }
            }
        }
    }
}
