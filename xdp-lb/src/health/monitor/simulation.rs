//! Hours of flapping servers, overlapping timeouts, reloads and rests, on a virtual clock.
//!
//! A second model knows only what became of each probe and works verdicts out of that history, by the
//! rule as the documentation has it.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::health::testing::check_of;
use crate::health::{Failure, Weighing};
use crate::plan::testing::{server_address, service_key};

/// What a probe will do: after how many milliseconds it ends, and how.
#[derive(Clone, Copy, Debug)]
struct Fate {
    lasts: u64,
    ends: End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Pass,
    Weigh(i64),
    Fail,
    Stuck,
}

/// A configuration: which servers of which service, with which rules.
#[derive(Clone, Debug)]
struct Plan {
    servers: Vec<u8>,
    delay_loop: u64,
    weight: u32,
}

#[derive(Clone, Debug)]
enum Event {
    Reload(Plan),
    Rest(bool, bool),
}

/// A check is named by its server and by where it goes.
type Name = (ServerKey, SocketAddr);

/// What the model knows of a check.
#[derive(Debug)]
struct Known {
    retry: u32,
    begins_down: bool,
    history: Vec<End>,
}

impl Known {
    fn up(&self) -> bool {
        let told = self.history.iter().filter(|end| **end != End::Stuck);
        let failed: Vec<bool> = told.map(|end| *end == End::Fail).collect();
        let failures = failed.iter().rev().take_while(|failed| **failed).count();
        let has_passed = failures < failed.len();
        if has_passed {
            failures <= self.retry as usize
        } else {
            failures == 0 && !self.begins_down
        }
    }

    fn weighing(&self) -> i64 {
        let mut weighed = self.history.iter().rev().filter_map(|end| match end {
            End::Weigh(more) => Some(*more),
            End::Pass | End::Fail | End::Stuck => None,
        });
        weighed.next().unwrap_or(0)
    }
}

/// Servers 0 to 3 are of one service and the others of another; odd ones begin as down, and every
/// third has two checks.
fn key(index: u8) -> ServerKey {
    (service_key(index / 4), server_address(index))
}

fn retry(index: u8) -> u32 {
    u32::from(index % 3)
}

fn goes_to(index: u8) -> Vec<SocketAddr> {
    let address = server_address(index);
    let mut all = vec![address];
    if index.is_multiple_of(3) {
        all.push(SocketAddr::new(address.ip(), 8080));
    }
    all
}

fn target(index: u8, plan: &Plan) -> Target {
    let check = |address| {
        let mut check = check_of(address, retry(index));
        check.delay_loop = Duration::from_millis(plan.delay_loop);
        check.warmup = check.delay_loop;
        check.alpha = index % 2 == 1;
        check
    };
    Target {
        server: key(index),
        weight: plan.weight,
        checks: goes_to(index).into_iter().map(check).collect(),
    }
}

struct World {
    monitor: Monitor,
    /// What the receivers of actions have made of them.
    published: Health,
    plan: Plan,
    resting: BTreeSet<ServiceKey>,
    known: BTreeMap<Name, Known>,
    names: BTreeMap<CheckId, Name>,
    /// Probes under way, by the moment of their end.
    in_flight: BTreeSet<(Now, CheckId)>,
    /// A check that left with a probe under way leaves a probe that nobody waits for.
    left: BTreeSet<CheckId>,
    flips: BTreeMap<ServerKey, (bool, Now)>,
    ends: BTreeMap<CheckId, End>,
}

impl World {
    fn new(plan: Plan) -> Self {
        let targets = plan.servers.iter().map(|index| target(*index, &plan));
        let monitor = Monitor::new(Now::ZERO, targets.collect(), &BTreeMap::new(), 7);
        let mut world = Self {
            published: monitor.health().clone(),
            monitor,
            plan,
            resting: BTreeSet::new(),
            known: BTreeMap::new(),
            names: BTreeMap::new(),
            in_flight: BTreeSet::new(),
            left: BTreeSet::new(),
            flips: BTreeMap::new(),
            ends: BTreeMap::new(),
        };
        world.learn(Now::ZERO);
        world
    }

    /// Takes the plan's checks in, and out what is not in it.
    fn learn(&mut self, now: Now) {
        let mut names = BTreeSet::new();
        for index in &self.plan.servers {
            for address in goes_to(*index) {
                names.insert((key(*index), address));
                let known = Known {
                    retry: retry(*index),
                    begins_down: index % 2 == 1,
                    history: Vec::new(),
                };
                self.known.entry((key(*index), address)).or_insert(known);
            }
        }
        self.known.retain(|name, _| names.contains(name));
        let gone = |name: &Name| !names.contains(name);
        self.left.extend(
            self.names
                .iter()
                .filter(|(_, name)| gone(name))
                .map(|(id, _)| *id),
        );
        self.names.retain(|_, name| names.contains(name));
        let servers: BTreeSet<_> = names.iter().map(|(server, _)| *server).collect();
        self.flips.retain(|server, _| servers.contains(server));
        for server in servers {
            let up = self.up(server);
            self.flips.entry(server).or_insert((up, now));
        }
    }

    fn up(&self, server: ServerKey) -> bool {
        let mut checks = self.known.iter().filter(|((of, _), _)| *of == server);
        checks.all(|(_, known)| known.up())
    }

    fn carry_out(
        &mut self,
        now: Now,
        actions: Vec<Action>,
        fates: &mut impl Iterator<Item = Fate>,
    ) {
        for action in actions {
            match action {
                Action::Probe(id, start) => {
                    let fate = fates.next().unwrap();
                    assert!(
                        !self.in_flight.iter().any(|(_, other)| *other == id),
                        "two of {id:?}"
                    );
                    assert!(start.due <= now, "early: {:?} at {now:?}", start.due);
                    let goes_to = start.probe.target().unwrap();
                    let server = self.monitor.checks[&id].0;
                    assert!(!self.resting.contains(&server.0), "{server:?} rests");
                    self.names.insert(id, (server, goes_to));
                    self.in_flight
                        .insert((now.after(Duration::from_millis(fate.lasts)), id));
                    self.ends.insert(id, fate.ends);
                }
                Action::Verdict(server, health) => {
                    assert_ne!(self.published.get(&server), Some(&health), "no news");
                    self.published.insert(server, health);
                }
                Action::Verdicts => self.published = self.monitor.health().clone(),
                Action::Report(_) | Action::Rest(_) => {}
            }
        }
    }

    fn finish(&mut self, now: Now, id: CheckId) -> Vec<Action> {
        let end = self.ends.remove(&id).unwrap();
        let outcome = match end {
            End::Pass => Outcome::Passed,
            End::Weigh(more) => Outcome::Weighed(Weighing::Add(more)),
            End::Fail => Outcome::Failed(Failure::Refused),
            End::Stuck => Outcome::Inconclusive("no file descriptor".to_owned()),
        };
        let mut actions = Vec::new();
        self.monitor.handle(
            now,
            Input::Finished(id, outcome, Duration::ZERO),
            &mut actions,
        );
        if self.left.remove(&id) {
            assert_eq!(actions, [], "nobody waits for it");
            return actions;
        }
        let name = self.names[&id];
        self.known.get_mut(&name).unwrap().history.push(end);
        let up = self.up(name.0);
        let flip = self.flips.get_mut(&name.0).unwrap();
        if flip.0 != up {
            *flip = (up, now);
        }
        actions
    }

    fn happen(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Reload(plan) => {
                let targets = plan.servers.iter().map(|index| target(*index, &plan));
                let input = Input::Targets(targets.collect());
                self.plan = plan;
                self.monitor.handle(now, input, &mut actions);
                self.learn(now);
            }
            Event::Rest(first, second) => {
                let services = [(first, service_key(0)), (second, service_key(1))];
                let resting = services.into_iter().filter(|(rests, _)| *rests);
                self.resting = resting.map(|(_, service)| service).collect();
                let input = Input::Resting(self.resting.clone());
                self.monitor.handle(now, input, &mut actions);
            }
        }
        actions
    }

    fn check(&self, now: Now) {
        assert_eq!(
            &self.published,
            self.monitor.health(),
            "what is published is what holds"
        );
        let servers: BTreeSet<_> = self.plan.servers.iter().map(|index| key(*index)).collect();
        let judged: BTreeSet<_> = self.published.keys().copied().collect();
        assert_eq!(judged, servers);
        for (server, health) in &self.published {
            assert_eq!(health.up, self.up(*server), "{server:?}: {:?}", self.known);
            assert_eq!(
                (health.up, health.since),
                self.flips[server],
                "{server:?} since"
            );
            assert_eq!(health.reason.is_none(), health.up);
            let checks = self.known.iter().filter(|((of, _), _)| of == server);
            let more: i64 = checks.map(|(_, known)| known.weighing()).sum();
            let weight = i64::from(self.plan.weight) + more;
            assert_eq!(i64::from(health.weight(self.plan.weight)), weight.max(0));
        }
        // Whatever neither rests nor is under way is due within a period.
        let latest = now.after(Duration::from_millis(self.plan.delay_loop.max(1_000)));
        let waiting: BTreeSet<_> = self.monitor.agenda.iter().map(|(_, id)| *id).collect();
        for (id, (server, check)) in &self.monitor.checks {
            let rests = self.resting.contains(&server.0);
            assert_eq!(waiting.contains(id), !rests && !check.is_in_flight());
            assert!(
                check.due().is_none_or(|due| due <= latest),
                "{check:?} at {now:?}"
            );
        }
    }

    /// Until `end`, from one moment at which something happens to the next.
    fn run(&mut self, mut now: Now, end: Now, fates: &mut impl Iterator<Item = Fate>) {
        loop {
            let ending = self.in_flight.first().map(|(end, _)| *end);
            let next = [ending, self.monitor.deadline()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                return;
            };
            assert!(next >= now, "a moment that has passed");
            now = next;
            let actions = match self.in_flight.first().copied() {
                Some((at, id)) if at <= now => {
                    self.in_flight.pop_first();
                    self.finish(now, id)
                }
                _ => {
                    let mut actions = Vec::new();
                    self.monitor.expire(now, &mut actions);
                    assert!(
                        self.monitor
                            .deadline()
                            .is_none_or(|deadline| deadline > now)
                    );
                    actions
                }
            };
            self.carry_out(now, actions, fates);
            self.check(now);
        }
    }
}

fn any_fate() -> impl Strategy<Value = Fate> {
    let ends = prop_oneof![
        6 => Just(End::Pass),
        1 => (-3_i64..4).prop_map(End::Weigh),
        5 => Just(End::Fail),
        1 => Just(End::Stuck),
    ];
    // At once, or longer than a period.
    let lasts = prop_oneof![0_u64..50, Just(3_000), 3_000_u64..9_000];
    (lasts, ends).prop_map(|(lasts, ends)| Fate { lasts, ends })
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let servers = prop::collection::btree_set(0_u8..8, 0..6);
    (servers, 1_000_u64..8_000, 0_u32..5).prop_map(|(servers, delay_loop, weight)| Plan {
        servers: servers.into_iter().collect(),
        delay_loop,
        weight,
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any_plan().prop_map(Event::Reload),
        any::<(bool, bool)>().prop_map(|(first, second)| Event::Rest(first, second)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_are_the_rule_over_the_history_of_probes(
        plan in any_plan(),
        events in prop::collection::vec((0_u64..60_000, any_event()), 0..8),
        fates in prop::collection::vec(any_fate(), 1..200),
    ) {
        let mut fates = fates.into_iter().cycle();
        let mut world = World::new(plan);
        world.check(Now::ZERO);
        let mut now = Now::ZERO;
        for (pause, event) in events {
            let then = now.after(Duration::from_millis(pause));
            world.run(now, then, &mut fates);
            now = then;
            let actions = world.happen(now, event);
            world.carry_out(now, actions, &mut fates);
            world.check(now);
        }
        world.run(now, now.after(Duration::from_mins(2)), &mut fates);
    }
}
