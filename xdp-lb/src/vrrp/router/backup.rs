//! BACKUP: listening, and taking over when there is nothing to hear (RFC 9568 section 6.4.2).

use std::net::IpAddr;

use super::super::{Interval, Priority, timing};
use super::{Action, Event, Heard, Phase, Router, Why};
use crate::machine::Now;

/// What a backup knows.
#[derive(Clone, Debug)]
pub(super) struct Backup {
    /// When to take over; `None`: it wants to, and waits for its sync group.
    down_at: Option<Now>,
    /// Since when it listens.
    since: Now,
    /// The master whose adverts it accepts.
    master: Option<Heard>,
    /// That master sent priority 0.
    gave_up: bool,
    /// A worse master that it is about to take over from.
    ignored: Option<(IpAddr, Priority)>,
    /// Since when there is a worse master, which is left alone for `preempt_delay` and until state sync
    /// is up to date.
    patient_since: Option<Now>,
    /// Why it wants to be master.
    wish: Option<Why>,
    /// It was driven late and listened once more already.
    listened_again: bool,
}

impl Backup {
    pub(super) const fn new(now: Now, down_at: Now, master: Option<Heard>) -> Self {
        Self {
            down_at: Some(down_at),
            since: now,
            master,
            gave_up: false,
            ignored: None,
            patient_since: None,
            wish: None,
            listened_again: false,
        }
    }

    /// One that does not wait for its down timer, only for its group.
    pub(super) fn ready(now: Now, wish: Why) -> Self {
        Self {
            down_at: None,
            wish: Some(wish),
            ..Self::new(now, now, None)
        }
    }

    pub(super) fn master(&self) -> Option<IpAddr> {
        self.master.map(|master| master.from)
    }

    pub(super) const fn deadline(&self) -> Option<Now> {
        self.down_at
    }

    pub(super) const fn is_ready(&self) -> bool {
        self.down_at.is_none()
    }

    /// Why the down timer ran out.
    fn reason(&self, now: Now, own: Priority) -> Why {
        match (self.ignored, self.master) {
            (Some((from, theirs)), _) => Why::Preempts { own, theirs, from },
            (None, Some(master)) if self.gave_up => Why::GaveUp { from: master.from },
            (None, Some(master)) => Why::NoAdvert {
                from: Some(master.from),
                silent_for: master.at.until(now),
            },
            (None, None) => Why::NoAdvert {
                from: None,
                silent_for: self.since.until(now),
            },
        }
    }

    /// Is a worse master to be left alone yet?
    fn is_patient(&mut self, now: Now, delay: std::time::Duration) -> bool {
        let since = *self.patient_since.get_or_insert(now);
        now < since.after(delay)
    }
}

impl Router {
    /// How long after an advert of that interval this router takes over.
    pub(super) fn down_timer(&self, interval: Interval) -> std::time::Duration {
        let (version, adverts) = (self.settings.version, self.settings.down_timer_adverts);
        timing::master_down(version, self.priority, interval, adverts)
    }

    pub(super) fn heard_as_backup(&mut self, now: Now, heard: Heard) {
        if heard.priority == Priority::RELEASE {
            self.master_gave_up(now, heard);
            return;
        }
        let down_at = now.after(self.down_timer(heard.interval));
        let own = self.priority;
        let delay = self.settings.preempt_delay;
        let delay = self.patience.map_or(delay, |patience| delay.max(patience));
        let preempts = own > heard.priority && (self.settings.preempt || own.is_owner());
        let Phase::Backup(backup) = &mut self.phase else {
            return;
        };
        if preempts && !backup.is_patient(now, delay) {
            backup.ignored = Some((heard.from, heard.priority));
            return;
        }
        if !preempts {
            backup.patient_since = None;
        }
        backup.down_at = Some(down_at);
        backup.master = Some(heard);
        backup.gave_up = false;
        backup.ignored = None;
        backup.wish = None;
        backup.listened_again = false;
    }

    /// Priority 0: what is left of the wait is the skew time. Only the master's own counts, and it
    /// never makes the wait longer.
    fn master_gave_up(&mut self, now: Now, heard: Heard) {
        let skew = timing::skew(self.settings.version, self.priority, heard.interval);
        let Phase::Backup(backup) = &mut self.phase else {
            return;
        };
        if backup
            .master
            .is_some_and(|master| master.from != heard.from)
        {
            return;
        }
        backup.master = Some(heard);
        backup.gave_up = true;
        let at = now.after(skew);
        backup.down_at = backup.down_at.map(|down_at| down_at.min(at));
    }

    pub(super) fn expire_backup(&mut self, now: Now, actions: &mut Vec<Action>) {
        let (own, is_member) = (self.priority, self.membership.is_some());
        let (version, interval) = (self.settings.version, self.settings.interval);
        let Phase::Backup(backup) = &mut self.phase else {
            return;
        };
        let Some(down_at) = backup.down_at.filter(|down_at| *down_at <= now) else {
            return;
        };
        // A host that was halted has lost what was sent to it meanwhile, so its silence says nothing:
        // it listens for as long as a living master can be silent, once.
        let interval = backup.master.map_or(interval, |master| master.interval);
        let late = down_at.until(now);
        if late >= interval.duration() && !backup.listened_again {
            backup.listened_again = true;
            let listen = interval.duration() + timing::skew(version, own, interval);
            backup.down_at = Some(now.after(listen));
            actions.push(Action::Log(Event::ListensAgain { late }));
            return;
        }
        let why = backup.reason(now, own);
        if is_member {
            backup.down_at = None;
            backup.wish = Some(why);
        } else {
            self.become_master(now, why, actions);
        }
    }

    /// Would it be master, but for its sync group?
    pub(in crate::vrrp) fn is_ready(&self) -> bool {
        matches!(&self.phase, Phase::Backup(backup) if backup.is_ready())
    }

    /// Does it accept a master, and not want to be one itself?
    pub(in crate::vrrp) fn accepts_master(&self) -> bool {
        match &self.phase {
            Phase::Backup(backup) => !backup.is_ready() && backup.master.is_some(),
            Phase::Idle | Phase::Delayed { .. } | Phase::Fault | Phase::Master(_) => false,
        }
    }

    /// Its sync group is ready, or it left it.
    pub(in crate::vrrp) fn promote(&mut self, now: Now, actions: &mut Vec<Action>) {
        let wish = match &mut self.phase {
            Phase::Backup(backup) if backup.is_ready() => backup.wish.take(),
            Phase::Idle | Phase::Delayed { .. } | Phase::Fault | Phase::Master(_) => return,
            Phase::Backup(_) => None,
        };
        let group = self.membership.as_ref().map(|of| of.group.clone());
        let ready = group.map(|group| Why::GroupReady { group });
        if let Some(why) = wish.or(ready) {
            self.become_master(now, why, actions);
        }
    }
}
