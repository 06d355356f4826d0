//! All virtual routers of a host, those of a sync group moving together.
//!
//! A member of a group that would take over says so and waits; when all are ready or master already,
//! those that wait become master in one go. When one has a fault, all have. When one steps down for a
//! better master, the others step down too, by priority 0, so that whoever takes them need not wait.
//!
//! `sync` is how groups move; what is known of interfaces and trackers is kept here, for routers that come later.

mod input;
mod sync;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::priority::{Condition, Kind};
use super::router::{self, Notice, Predecessor, Router, Snapshot};
use super::settings::Settings;
use super::{Priority, Vrid, Wall};
use crate::machine::{Machine, Now};

pub use input::{Action, Group, Input};

/// Names a router for as long as it lives; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(u64);

#[derive(Clone, Debug)]
struct Member {
    router: Router,
    /// It is no longer configured, and goes when it has stopped.
    is_retired: bool,
}

/// The machine.
#[derive(Clone, Debug, Default)]
pub struct Routers {
    all: BTreeMap<RouterId, Member>,
    groups: Vec<Group>,
    /// What scripts were told of each group.
    told: BTreeMap<String, Notice>,
    known: BTreeMap<(Kind, String), Condition>,
    /// See [`Input::Patience`].
    patience: Option<Duration>,
    next_id: u64,
}

impl Routers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// All routers, in the order they came in.
    pub fn snapshots(&self) -> Vec<(RouterId, Snapshot)> {
        let routers = self.all.iter();
        routers
            .map(|(id, member)| (*id, member.router.snapshot()))
            .collect()
    }

    /// A router.
    pub fn get(&self, id: RouterId) -> Option<&Router> {
        self.all.get(&id).map(|member| &member.router)
    }

    /// The bytes of an advert that a router wants sent.
    pub fn message(
        &mut self,
        id: RouterId,
        priority: Priority,
        destination: IpAddr,
        wall: Wall,
    ) -> Option<Vec<u8>> {
        let member = self.all.get_mut(&id)?;
        Some(member.router.message(priority, destination, wall))
    }

    /// Whom a packet is for: more than one while a router makes place for another of its number.
    pub fn find(&self, interface: &str, is_ipv6: bool, vrid: Vrid) -> Vec<RouterId> {
        let is_it = |settings: &Settings| {
            settings.vrid == vrid
                && settings.interface == interface
                && settings.source.is_ipv6() == is_ipv6
        };
        let found = self.all.iter().filter(|(_, m)| is_it(m.router.settings()));
        found.map(|(id, _)| *id).collect()
    }

    /// All routers of an interface and a family.
    pub fn find_all(&self, interface: &str, is_ipv6: bool) -> Vec<RouterId> {
        let is_it = |settings: &Settings| {
            settings.interface == interface && settings.source.is_ipv6() == is_ipv6
        };
        let found = self.all.iter().filter(|(_, m)| is_it(m.router.settings()));
        found.map(|(id, _)| *id).collect()
    }

    /// Has every router stopped?
    pub fn is_idle(&self) -> bool {
        self.all.is_empty()
    }

    /// Passes an input to a router.
    fn pass(&mut self, now: Now, id: RouterId, input: router::Input, actions: &mut Vec<Action>) {
        self.step(id, actions, |router, actions| {
            router.handle(now, input, actions);
        });
    }

    fn step(
        &mut self,
        id: RouterId,
        actions: &mut Vec<Action>,
        with: impl FnOnce(&mut Router, &mut Vec<router::Action>),
    ) {
        if let Some(member) = self.all.get_mut(&id) {
            let mut wanted = Vec::new();
            with(&mut member.router, &mut wanted);
            actions.extend(wanted.into_iter().map(|action| Action::Router(id, action)));
        }
    }

    fn ids(&self) -> Vec<RouterId> {
        self.all.keys().copied().collect()
    }

    fn configure(
        &mut self,
        now: Now,
        (routers, groups): (Vec<Settings>, Vec<Group>),
        predecessors: &BTreeMap<String, Predecessor>,
        actions: &mut Vec<Action>,
    ) {
        self.groups = groups;
        let mut stay = BTreeSet::new();
        let mut new = Vec::new();
        for settings in routers {
            match self.successor_of(&settings) {
                Some(id) => {
                    stay.insert(id);
                    let known = self.known_of(&settings);
                    self.step(id, actions, |router, actions| {
                        router.reload(now, settings, &known, actions);
                    });
                }
                None => new.push(settings),
            }
        }
        // Those that go make place before others come.
        for id in self.ids().into_iter().filter(|id| !stay.contains(id)) {
            self.retire(now, id, actions);
        }
        let new: Vec<_> = new
            .into_iter()
            .map(|settings| self.add(now, settings))
            .collect();
        self.assign(now, actions);
        for id in new {
            let name = self.get(id).map(|router| router.settings().name.as_str());
            let predecessor = name.and_then(|name| predecessors.get(name)).copied();
            self.pass(now, id, router::Input::Start { predecessor }, actions);
        }
    }

    /// What is known of its trackers: it may not have had all of them.
    fn known_of(&self, settings: &Settings) -> Vec<(Kind, String, Condition)> {
        let trackers = settings.trackers.iter();
        let known = trackers.filter_map(|tracker| {
            let name = tracker.name.clone();
            let condition = self.known.get(&(tracker.kind, name.clone()))?;
            Some((tracker.kind, name, *condition))
        });
        known.collect()
    }

    /// The router that these settings are for, be it under another name.
    fn successor_of(&self, settings: &Settings) -> Option<RouterId> {
        let is_it = |member: &Member| {
            let own = member.router.settings();
            !member.is_retired
                && (&own.interface, own.vrid) == (&settings.interface, settings.vrid)
                && own.source.is_ipv6() == settings.source.is_ipv6()
        };
        let found = self.all.iter().find(|(_, member)| is_it(member));
        found.map(|(id, _)| *id)
    }

    fn retire(&mut self, now: Now, id: RouterId, actions: &mut Vec<Action>) {
        if let Some(member) = self.all.get_mut(&id)
            && !member.is_retired
        {
            member.is_retired = true;
            self.pass(now, id, router::Input::Stop, actions);
        }
    }

    /// As [`Self::retire`]; one that is on its way out already waits for nobody any more.
    fn stop(&mut self, now: Now, id: RouterId, actions: &mut Vec<Action>) {
        if self.all.get(&id).is_some_and(|member| member.is_retired) {
            self.pass(now, id, router::Input::Stop, actions);
        } else {
            self.retire(now, id, actions);
        }
    }

    /// A router that knows what is known, and has not started.
    fn add(&mut self, now: Now, settings: Settings) -> RouterId {
        let id = RouterId(self.next_id);
        self.next_id += 1;
        let mut router = Router::new(now, settings);
        let mut nothing = Vec::new();
        router.handle(now, router::Input::Patience(self.patience), &mut nothing);
        for ((kind, name), condition) in &self.known {
            for input in inputs(router.settings(), *kind, name, *condition) {
                router.handle(now, input, &mut nothing);
            }
        }
        let is_retired = false;
        self.all.insert(id, Member { router, is_retired });
        id
    }

    fn tracked(
        &mut self,
        now: Now,
        (kind, name): (Kind, String),
        condition: Condition,
        actions: &mut Vec<Action>,
    ) {
        for id in self.ids() {
            self.step(id, actions, |router, actions| {
                for input in inputs(router.settings(), kind, &name, condition) {
                    router.handle(now, input, actions);
                }
            });
        }
        self.known.insert((kind, name), condition);
    }
}

/// What a change means to a router: an interface may be its own and tracked besides.
fn inputs(settings: &Settings, kind: Kind, name: &str, condition: Condition) -> Vec<router::Input> {
    let mut inputs = vec![router::Input::Tracked {
        kind,
        name: name.to_owned(),
        condition,
    }];
    if kind == Kind::Interface && settings.interface == name {
        let up = condition == Condition::Up;
        inputs.push(router::Input::Interface { up });
    }
    inputs
}

impl Machine for Routers {
    type Input = Input;
    type Action = Action;

    fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Configure {
                routers,
                groups,
                predecessors,
            } => {
                self.configure(now, (routers, groups), &predecessors, actions);
            }
            Input::Tracked {
                kind,
                name,
                condition,
            } => {
                self.tracked(now, (kind, name), condition, actions);
            }
            Input::Source(id, address) => {
                self.pass(now, id, router::Input::Source(address), actions);
            }
            Input::Received { id, datagram, wall } => {
                self.pass(now, id, router::Input::Received { datagram, wall }, actions);
            }
            Input::Refused(id, refused) => {
                self.pass(now, id, router::Input::Refused(refused), actions);
            }
            Input::Patience(patience) => {
                self.patience = patience;
                for id in self.ids() {
                    self.pass(now, id, router::Input::Patience(patience), actions);
                }
            }
            Input::Stop => {
                for id in self.ids() {
                    self.stop(now, id, actions);
                }
            }
        }
        self.settle(now, actions);
    }

    fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        for id in self.ids() {
            self.step(id, actions, |router, actions| {
                if router.deadline().is_some_and(|deadline| deadline <= now) {
                    router.expire(now, actions);
                }
            });
        }
        self.settle(now, actions);
    }

    fn deadline(&self) -> Option<Now> {
        let routers = self.all.values();
        routers.filter_map(|member| member.router.deadline()).min()
    }
}
