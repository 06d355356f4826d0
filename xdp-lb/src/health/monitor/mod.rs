//! All health checks of all real servers.

mod reload;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::check::{Check, Prior, Start, Turn};
use super::report::{News, Reason, Report, Rest};
use super::target::Target;
use super::weighing::together;
use super::{Failure, Outcome, Weighing};
use crate::config::model::{self, ServiceKey};
use crate::machine::{Machine, Now};
use crate::plan::installed::ServerKey;
use crate::plan::table::{Health, ServerHealth};

/// The checks of a service that stops resting begin within this time, if their period is not shorter.
const WAKING: Duration = Duration::from_secs(1);

/// Names a check for as long as it is configured; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckId(u64);

/// What happens to a [`Monitor`].
#[derive(Clone, Debug)]
pub enum Input {
    /// A probe is over; it took so long once it was carried out.
    Finished(CheckId, Outcome, Duration),
    /// The configuration changed.
    Targets(Vec<Target>),
    /// The checks of these services rest from now on, and no others.
    Resting(BTreeSet<ServiceKey>),
}

/// What a [`Monitor`] wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a probe; its outcome comes back as [`Input::Finished`].
    Probe(CheckId, Start),
    /// The verdict on one server changed, in [`Monitor::health`] too.
    Verdict(ServerKey, ServerHealth),
    /// All of [`Monitor::health`] may have changed.
    Verdicts,
    /// Tell people what became of a server.
    Report(Report),
    /// Tell people that the checks of a service rest, or go on.
    Rest(Rest),
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Monitor {
    checks: BTreeMap<CheckId, (ServerKey, Check)>,
    servers: BTreeMap<ServerKey, Server>,
    health: Health,
    /// Every check that waits for its time, by that time.
    agenda: BTreeSet<(Now, CheckId)>,
    resting: BTreeSet<ServiceKey>,
    next_id: u64,
    joins: u64,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Server {
    weight: u32,
    checks: Vec<CheckId>,
    /// Nobody has been told yet what became of it.
    is_awaited: bool,
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
            resting: BTreeSet::new(),
            next_id: 0,
            joins: 0,
            seed,
        };
        for target in targets {
            let prior = match inherited.get(&target.server) {
                None => Prior::Unknown,
                Some(true) => Prior::Up,
                Some(false) => Prior::Down,
            };
            monitor.admit(now, target, prior, 0);
        }
        monitor.pack();
        monitor
    }

    /// A map that grew by its end has every node half empty; one that is made of all at once has none.
    /// With 20,000 checks that is ten megabytes, here and in every copy of the verdicts.
    fn pack(&mut self) {
        self.checks = std::mem::take(&mut self.checks).into_iter().collect();
        self.servers = std::mem::take(&mut self.servers).into_iter().collect();
        self.health = std::mem::take(&mut self.health).into_iter().collect();
    }

    /// The verdicts.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// How many checks there are.
    pub fn checks(&self) -> usize {
        self.checks.len()
    }

    /// Begins with a server that nothing is known of but this.
    fn admit(&mut self, now: Now, target: Target, prior: Prior, joined: u64) {
        let Target {
            server,
            weight,
            checks,
        } = target;
        let checks = checks.into_iter();
        let checks = checks.map(|config| self.add(now, server, config, prior));
        let checks = checks.collect();
        let is_awaited = prior == Prior::Unknown;
        let entry = Server {
            weight,
            checks,
            is_awaited,
        };
        self.servers.insert(server, entry);
        let up = self.passes(&server);
        let health = ServerHealth {
            up,
            joined,
            since: now,
            weighing: None,
            reason: (!up).then(|| unchecked(prior)),
        };
        self.health.insert(server, health);
    }

    fn add(&mut self, now: Now, server: ServerKey, config: model::Check, prior: Prior) -> CheckId {
        let id = CheckId(self.next_id);
        self.next_id += 1;
        let first = now.after(spread(self.seed, id, config.warmup));
        let mut check = Check::new(config, first, prior);
        if self.resting.contains(&server.0) {
            check.rest();
        }
        self.agenda.extend(check.due().map(|due| (due, id)));
        self.checks.insert(id, (server, check));
        id
    }

    fn finish(
        &mut self,
        now: Now,
        id: CheckId,
        end: (Outcome, Duration),
        actions: &mut Vec<Action>,
    ) {
        // A check that left the configuration while its probe was under way.
        let Some((server, check)) = self.checks.get_mut(&id) else {
            return;
        };
        // Nothing is in flight: not an answer to anything.
        if !check.is_in_flight() {
            return;
        }
        let server = *server;
        let rests = self.resting.contains(&server.0);
        let turn = check.finish(now, end, rests);
        self.agenda.extend(check.due().map(|due| (due, id)));
        let target = check.probe().target();
        let turned = self.judge(now, server, actions);
        let news = turn.map(|turn| news(server, target, turn));
        if let Some(news) = news
            && self.is_to_be_told(server, &news, turned)
        {
            actions.push(Action::Report(Report { server, news }));
        }
    }

    /// A check that turns is news only if its server does so too, or began as down and fails now.
    fn is_to_be_told(&mut self, server: ServerKey, news: &News, turned: bool) -> bool {
        let awaited = self.servers.get_mut(&server).map(|s| &mut s.is_awaited);
        match news {
            News::Up | News::Down { .. } => {
                let is_down = matches!(news, News::Down { .. });
                let was_awaited = (turned || is_down) && awaited.is_some_and(std::mem::take);
                turned || was_awaited
            }
            News::Retried { .. } | News::StillDown { .. } | News::Weighed { .. } => true,
        }
    }

    /// Brings the verdict on a server in line with its checks; whether it went up or down.
    fn judge(&mut self, now: Now, server: ServerKey, actions: &mut Vec<Action>) -> bool {
        let up = self.passes(&server);
        let reason = if up { None } else { self.reason(&server) };
        let (configured, weighing) = self.weighing(&server);
        let Some(health) = self.health.get_mut(&server) else {
            return false;
        };
        let before = health.clone();
        if health.up != up {
            health.since = now;
            if up {
                self.joins += 1;
                health.joined = self.joins;
            }
        }
        health.up = up;
        health.weighing = weighing;
        // What it failed by before the start is the reason until a probe of ours has failed.
        if up || reason.is_some() {
            health.reason = reason;
        }
        if *health == before {
            return false;
        }
        actions.push(Action::Verdict(server, health.clone()));
        let weight = health.weight(configured);
        if weight != before.weight(configured) {
            let news = News::Weighed { weight };
            actions.push(Action::Report(Report { server, news }));
        }
        health.up != before.up
    }

    fn of<'a>(&'a self, server: &ServerKey) -> impl Iterator<Item = &'a Check> + use<'a> {
        let ids = self.servers.get(server).map(|server| &server.checks);
        let checks = ids.into_iter().flatten().map(|id| self.checks.get(id));
        checks.flatten().map(|(_, check)| check)
    }

    fn passes(&self, server: &ServerKey) -> bool {
        self.of(server).all(Check::is_up)
    }

    /// Why it is down: the first of its checks that is and that has failed.
    fn reason(&self, server: &ServerKey) -> Option<Arc<str>> {
        let mut down = self.of(server).filter(|check| !check.is_up());
        let reason = down.find_map(|check| {
            Some(Reason {
                server: server.1,
                target: check.probe().target(),
                failure: check.failure()?,
            })
        });
        let text = reason?.to_string();
        // The same text keeps its place in memory.
        let known = self.health.get(server).and_then(|h| h.reason.clone());
        Some(known.filter(|k| **k == text).unwrap_or_else(|| text.into()))
    }

    fn weighing(&self, server: &ServerKey) -> (u32, Option<Weighing>) {
        let configured = self.servers.get(server).map_or(0, |server| server.weight);
        let each = self.of(server).filter_map(Check::weighing);
        (configured, together(configured, each))
    }

    /// The checks of services that came to rest are taken off the agenda, those of services that wake
    /// up come onto it, spread so that they do not begin all at once. Verdicts are kept.
    fn rest(&mut self, now: Now, resting: BTreeSet<ServiceKey>, actions: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.resting, resting);
        for (id, (server, check)) in &mut self.checks {
            let (rested, rests) = (before.contains(&server.0), self.resting.contains(&server.0));
            if rests == rested {
                continue;
            }
            if let Some(due) = check.due() {
                self.agenda.remove(&(due, *id));
            }
            if rests {
                check.rest();
            } else {
                let within = check.period().min(WAKING);
                check.wake(now.after(spread(self.seed, *id, within)));
            }
            self.agenda.extend(check.due().map(|due| (due, *id)));
        }
        for service in before.symmetric_difference(&self.resting) {
            let rest = Rest {
                service: *service,
                rests: self.resting.contains(service),
            };
            actions.push(Action::Rest(rest));
        }
    }
}

impl Machine for Monitor {
    type Input = Input;
    type Action = Action;

    fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Finished(id, outcome, took) => self.finish(now, id, (outcome, took), actions),
            Input::Targets(targets) => self.reconfigure(now, targets, actions),
            Input::Resting(services) => self.rest(now, services, actions),
        }
    }

    fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        while let Some(&(due, id)) = self.agenda.first()
            && due <= now
        {
            self.agenda.pop_first();
            if let Some((_, check)) = self.checks.get_mut(&id) {
                actions.push(Action::Probe(id, check.start(now)));
            }
        }
    }

    fn deadline(&self) -> Option<Now> {
        self.agenda.first().map(|(due, _)| *due)
    }
}

fn news((_, server): ServerKey, target: Option<SocketAddr>, turn: Turn) -> News {
    let reason = |failure: &Failure| -> Arc<str> {
        let reason = Reason {
            server,
            target,
            failure,
        };
        reason.to_string().into()
    };
    match turn {
        Turn::Up => News::Up,
        Turn::Down { failure, failures } => News::Down {
            reason: reason(&failure),
            failures,
        },
        Turn::Retried {
            failure,
            failures,
            needed,
        } => News::Retried {
            reason: reason(&failure),
            failures,
            needed,
        },
        Turn::StillDown(failure) => News::StillDown {
            reason: reason(&failure),
        },
    }
}

/// Why a server is down that no probe of ours has failed on.
fn unchecked(prior: Prior) -> Arc<str> {
    match prior {
        Prior::Down => "it was down when the agent started, and no check has passed since",
        Prior::Unknown | Prior::Serving | Prior::Up => "no check has passed yet",
    }
    .into()
}

/// A moment within `bound` that looks random and is the same for the same seed (splitmix64).
fn spread(seed: u64, id: CheckId, bound: Duration) -> Duration {
    let mut z = seed ^ id.0.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let bound = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(z.checked_rem(bound).unwrap_or(0))
}
