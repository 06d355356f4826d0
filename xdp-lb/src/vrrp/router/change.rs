//! How a router gets from one state to another.

use std::net::IpAddr;

use super::super::priority::Cause;
use super::super::settings::Transport;
use super::super::{Priority, timing};
use super::backup::Backup;
use super::master::Master;
use super::{
    Action, Event, Fault, Heard, Membership, Notice, Phase, Predecessor, Router, State, Why,
};
use crate::machine::Now;

/// The last advert of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// None.
    None,
    /// One as ever, upon which a better master announces itself.
    Last,
    /// Priority 0: somebody else should take over.
    Release,
}

impl Router {
    pub(super) fn start(
        &mut self,
        now: Now,
        predecessor: Option<Predecessor>,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        let assessment = self.assess();
        self.priority = assessment;
        if let Some(Predecessor { silent_for }) = predecessor {
            if self.may_resume(silent_for) {
                self.become_master(now, Why::Resumed { silent_for }, actions);
                return;
            }
            self.drop_inherited(silent_for, actions);
        }
        let delay = self.settings.startup_delay;
        if delay.is_zero() || self.fault().is_some() {
            self.begin(now, Why::Started, actions);
        } else {
            let until = now.after(delay);
            self.phase = Phase::Delayed { until };
        }
    }

    /// Nobody can have taken over from the agent before, unless it was slower than it says.
    fn may_resume(&self, silent_for: std::time::Duration) -> bool {
        silent_for < self.soonest_successor() && self.fault().is_none()
    }

    fn soonest_successor(&self) -> std::time::Duration {
        let (version, interval) = (self.settings.version, self.settings.interval);
        timing::soonest_successor(version, interval, self.settings.down_timer_adverts)
    }

    fn drop_inherited(&self, silent_for: std::time::Duration, actions: &mut Vec<Action>) {
        let limit = self.soonest_successor();
        if silent_for >= limit {
            let event = Event::StalePredecessor { silent_for, limit };
            actions.push(Action::Log(event));
        }
        actions.extend([Action::DropAddresses, Action::CloseGate]);
    }

    /// Takes part, after the start or a fault: owners at once, others after listening.
    pub(super) fn begin(&mut self, now: Now, why: Why, actions: &mut Vec<Action>) {
        if let Some(fault) = self.fault() {
            self.become_faulty(now, fault, actions);
        } else if !self.priority.is_owner() {
            let down_at = now.after(self.down_timer(self.settings.interval));
            self.become_backup(now, why, down_at, None, actions);
        } else if self.membership.is_some() {
            let from = self.state();
            self.phase = Phase::Backup(Backup::ready(now, Why::Owner));
            self.record(now, from, why, actions);
        } else {
            self.become_master(now, Why::Owner, actions);
        }
    }

    /// The gate opens first: whoever learns of the addresses is served.
    pub(super) fn become_master(&mut self, now: Now, why: Why, actions: &mut Vec<Action>) {
        let from = self.state();
        self.phase = Phase::Master(Master::new(now));
        self.stats.became_master += 1;
        actions.push(Action::OpenGate);
        self.advertise(now, actions);
        actions.push(Action::TakeAddresses);
        self.announce(now, actions);
        self.record(now, from, why, actions);
    }

    pub(super) fn become_backup(
        &mut self,
        now: Now,
        why: Why,
        down_at: Now,
        master: Option<Heard>,
        actions: &mut Vec<Action>,
    ) {
        let from = self.state();
        self.phase = Phase::Backup(Backup::new(now, down_at, master));
        self.record(now, from, why, actions);
    }

    fn become_faulty(&mut self, now: Now, fault: Fault, actions: &mut Vec<Action>) {
        let from = self.state();
        if self.is_leaving() {
            self.finish_leaving(now, None, actions);
            return;
        }
        if from == State::Master {
            self.release(Farewell::Release, actions);
        }
        self.phase = Phase::Fault;
        self.record(now, from, Why::Fault(fault), actions);
    }

    /// What a master gives back, in reverse of how it took it. The caller decides what it is next.
    pub(super) fn release(&mut self, farewell: Farewell, actions: &mut Vec<Action>) {
        match farewell {
            Farewell::None => {}
            Farewell::Last => self.push_adverts(self.priority, actions),
            Farewell::Release => self.push_adverts(Priority::RELEASE, actions),
        }
        self.stats.released_master += 1;
        actions.extend([Action::DropAddresses, Action::CloseGate]);
    }

    /// A member of its sync group stepped down, and so does it.
    pub(in crate::vrrp) fn demote(&mut self, now: Now, member: &str, actions: &mut Vec<Action>) {
        let Some(membership) = &self.membership else {
            return;
        };
        let why = Why::GroupBackup {
            group: membership.group.clone(),
            member: member.to_owned(),
        };
        if matches!(self.phase, Phase::Master(_)) && !self.is_leaving() {
            self.release(Farewell::Release, actions);
            let down_at = now.after(self.down_timer(self.settings.interval));
            self.become_backup(now, why, down_at, None, actions);
        }
    }

    pub(super) fn stop(&mut self, now: Now, actions: &mut Vec<Action>) {
        match &self.phase {
            Phase::Master(_) if self.is_leaving() => self.finish_leaving(now, None, actions),
            Phase::Master(_) => self.leave(now, actions),
            Phase::Idle | Phase::Delayed { .. } | Phase::Backup(_) | Phase::Fault => {
                self.halt(now, None, actions);
            }
        }
    }

    pub(super) fn halt(&mut self, now: Now, successor: Option<IpAddr>, actions: &mut Vec<Action>) {
        let from = self.state();
        self.phase = Phase::Idle;
        self.record(now, from, Why::Stopped { successor }, actions);
        actions.push(Action::Stopped);
    }

    /// Tells people and scripts.
    fn record(&mut self, now: Now, from: State, why: Why, actions: &mut Vec<Action>) {
        let to = self.state();
        self.stats.transitions += 1;
        self.since = now;
        self.why = Some(why.clone());
        actions.push(Action::Log(Event::Transition { from, to, why }));
        let notice = match to {
            State::Init => Notice::Stop,
            State::Backup => Notice::Backup,
            State::Master => Notice::Master,
            State::Fault => Notice::Fault,
        };
        let priority = self.priority;
        actions.push(Action::Notify { notice, priority });
    }

    /// The effective priority.
    fn assess(&self) -> Priority {
        let weights = self.membership.as_ref().is_none_or(|of| of.weights);
        self.trackers
            .assess(self.settings.priority, weights)
            .priority
    }

    /// Why it cannot take part by itself, whatever its group.
    pub(in crate::vrrp) fn own_fault(&self) -> Option<Fault> {
        if !self.is_interface_up && !self.settings.dont_track_primary {
            return Some(Fault::Interface(self.settings.interface.clone()));
        }
        if matches!(&self.settings.transport, Transport::Unicast { peers, .. } if peers.is_empty())
        {
            return Some(Fault::NoPeer);
        }
        if !self.has_source {
            return Some(Fault::Source(self.settings.source));
        }
        let base = self.settings.priority;
        self.trackers.assess(base, true).fault.map(Fault::Tracker)
    }

    fn fault(&self) -> Option<Fault> {
        let of_group = || {
            let of = self.membership.as_ref()?;
            Some(Fault::Group {
                group: of.group.clone(),
                member: of.faulty.clone()?,
            })
        };
        self.own_fault().or_else(of_group)
    }

    /// Something that priority and faults depend on may have changed.
    pub(super) fn reassess(&mut self, now: Now, cause: Option<Cause>, actions: &mut Vec<Action>) {
        let priority = self.assess();
        if priority != self.priority {
            self.change_priority(now, priority, cause, actions);
        }
        let fault = self.fault();
        match (&self.phase, fault) {
            (Phase::Delayed { .. } | Phase::Backup(_) | Phase::Master(_), Some(fault)) => {
                self.become_faulty(now, fault, actions);
            }
            (Phase::Fault, None) => {
                if matches!(self.settings.transport, Transport::Unicast { .. }) {
                    actions.push(Action::AnnounceSource);
                }
                self.begin(now, Why::FaultCleared, actions);
            }
            (Phase::Idle, _)
            | (Phase::Fault, Some(_))
            | (Phase::Delayed { .. } | Phase::Backup(_) | Phase::Master(_), None) => {}
        }
    }

    fn change_priority(
        &mut self,
        now: Now,
        to: Priority,
        cause: Option<Cause>,
        actions: &mut Vec<Action>,
    ) {
        let from = std::mem::replace(&mut self.priority, to);
        actions.push(Action::Log(Event::Priority { from, to, cause }));
        let notice = match self.state() {
            State::Master => Notice::MasterPriority,
            State::Backup => Notice::BackupPriority,
            State::Init | State::Fault => return,
        };
        let priority = to;
        actions.push(Action::Notify { notice, priority });
        // A better backup need not wait for the next advert to know that it is better.
        self.advertise_change(now, actions);
    }

    /// Joins or leaves a sync group, or learns how its other members are.
    pub(in crate::vrrp) fn set_membership(
        &mut self,
        now: Now,
        membership: Option<Membership>,
        actions: &mut Vec<Action>,
    ) {
        if membership != self.membership {
            self.membership = membership;
            self.reassess(now, None, actions);
            if self.membership.is_none() {
                // Nobody is left to wait for.
                self.promote(now, actions);
            }
        }
    }

    /// Is it taking part, and means to go on?
    pub(in crate::vrrp) const fn takes_part(&self) -> bool {
        match &self.phase {
            Phase::Idle | Phase::Delayed { .. } => false,
            Phase::Backup(_) | Phase::Fault => true,
            Phase::Master(_) => !self.is_leaving(),
        }
    }
}
