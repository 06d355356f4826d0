//! How the members of a sync group move together.

use std::collections::BTreeSet;

use super::super::router::{Membership, Notice, Router, State};
use super::{Action, Group, Member, RouterId, Routers};
use crate::machine::Now;

impl Routers {
    /// Tells each router which group it is in.
    pub(super) fn assign(&mut self, now: Now, actions: &mut Vec<Action>) {
        for id in self.ids() {
            let of = self.get(id).and_then(|router| self.group_of(router));
            let faulty = of.and_then(|group| self.faulty_member(group, id));
            let membership = of.map(|group| Membership {
                group: group.name.clone(),
                weights: group.tracking_weight,
                faulty,
            });
            if self.all.get(&id).is_some_and(|member| !member.is_retired) {
                self.step(id, actions, |router, actions| {
                    router.set_membership(now, membership, actions);
                });
            }
        }
    }

    fn group_of(&self, router: &Router) -> Option<&Group> {
        let name = &router.settings().name;
        self.groups
            .iter()
            .find(|group| group.members.contains(name))
    }

    /// The members of a group that live.
    fn members(&self, group: &Group) -> impl Iterator<Item = (RouterId, &Router)> {
        let is_in = |member: &Member| {
            !member.is_retired && group.members.contains(&member.router.settings().name)
        };
        let members = self.all.iter().filter(move |(_, member)| is_in(member));
        members.map(|(id, member)| (*id, &member.router))
    }

    /// Another member than `but` that has a fault of its own.
    fn faulty_member(&self, group: &Group, but: RouterId) -> Option<String> {
        let mut others = self.members(group).filter(|(id, _)| *id != but);
        let faulty = others.find(|(_, router)| router.own_fault().is_some());
        faulty.map(|(_, router)| router.settings().name.clone())
    }

    /// Brings all members of each group in line.
    pub(super) fn settle(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.groups.is_empty() {
            self.assign(now, actions);
        }
        for group in self.groups.clone() {
            self.step_down(now, &group, actions);
            self.step_up(now, &group, actions);
            self.tell(&group, actions);
        }
        self.all
            .retain(|_, member| !(member.is_retired && member.router.state() == State::Init));
    }

    /// One that accepts a better master takes all with it.
    fn step_down(&mut self, now: Now, group: &Group, actions: &mut Vec<Action>) {
        let down = self
            .members(group)
            .find(|(_, router)| router.accepts_master());
        let Some(name) = down.map(|(_, router)| router.settings().name.clone()) else {
            return;
        };
        let ids: Vec<_> = self.members(group).map(|(id, _)| id).collect();
        for id in ids {
            self.step(id, actions, |router, actions| {
                router.demote(now, &name, actions);
            });
        }
    }

    /// All that want to be master become it when nobody is against it.
    fn step_up(&mut self, now: Now, group: &Group, actions: &mut Vec<Action>) {
        let is_for = |router: &Router| {
            router.is_ready() || (router.state() == State::Master && router.takes_part())
        };
        let ids: Vec<_> = self.members(group).map(|(id, _)| id).collect();
        if self.members(group).all(|(_, router)| is_for(router)) {
            for id in ids {
                self.step(id, actions, |router, actions| router.promote(now, actions));
            }
        }
    }

    /// Tells scripts when the whole group is in another state.
    fn tell(&mut self, group: &Group, actions: &mut Vec<Action>) {
        let states: BTreeSet<_> = self
            .members(group)
            .map(|(_, router)| router.state())
            .collect();
        let all = |state| states.len() == 1 && states.contains(&state);
        let notice = if states.contains(&State::Fault) {
            Notice::Fault
        } else if all(State::Master) {
            Notice::Master
        } else if all(State::Backup) {
            Notice::Backup
        } else if states.is_empty() && self.told.contains_key(&group.name) {
            Notice::Stop
        } else {
            return;
        };
        if self.told.insert(group.name.clone(), notice) != Some(notice) {
            let name = group.name.clone();
            actions.push(Action::Group { name, notice });
        }
    }
}
