//! MASTER: advertising, and meeting others that do (RFC 9568 section 6.4.3).

use std::net::IpAddr;

use super::super::settings::Settings;
use super::super::{Priority, timing};
use super::change::Farewell;
use super::garp::Announcer;
use super::{Action, Event, Heard, Notice, Phase, Router, Why};
use crate::machine::Now;

/// What a master has to do next.
#[derive(Clone, Debug)]
pub(super) struct Master {
    next_advert: Now,
    last_advert: Now,
    /// When another master was answered last.
    last_answer: Option<Now>,
    /// When it is answered next, if it said something since.
    answer_at: Option<Now>,
    announcer: Announcer,
    /// When a change was advertised last, and the priority then.
    told_at: Option<(Now, Priority)>,
    leaving: Option<Leaving>,
}

/// A master that gave up.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// It holds on until then at most.
    until: Now,
    /// When priority 0 is sent once more.
    again: Option<Now>,
}

/// How long after the first priority 0 the second follows: the first may be lost, or overtaken by the
/// advert before it, and then everybody would wait for the down timer.
const AGAIN: std::time::Duration = std::time::Duration::from_millis(10);

impl Master {
    pub(super) fn new(now: Now) -> Self {
        Self {
            next_advert: now,
            last_advert: now,
            last_answer: None,
            answer_at: None,
            announcer: Announcer::default(),
            told_at: None,
            leaving: None,
        }
    }

    pub(super) fn deadline(&self) -> Now {
        if let Some(Leaving { until, again }) = self.leaving {
            return again.unwrap_or(until);
        }
        let others = self.answer_at.into_iter().chain(self.announcer.deadline());
        others.fold(self.next_advert, Now::min)
    }

    pub(super) fn reconfigure(&mut self, now: Now, settings: &Settings) {
        let soonest = now.after(settings.interval.duration());
        self.next_advert = self.next_advert.min(soonest);
        self.announcer.reconfigure(now, &settings.garp);
    }
}

impl Router {
    pub(super) const fn is_leaving(&self) -> bool {
        matches!(&self.phase, Phase::Master(master) if master.leaving.is_some())
    }

    /// Sends an advert to all; the next one follows in an interval.
    pub(super) fn advertise(&mut self, now: Now, actions: &mut Vec<Action>) {
        self.push_adverts(self.priority, actions);
        let interval = self.settings.interval.duration();
        if let Phase::Master(master) = &mut self.phase {
            master.last_advert = now;
            master.next_advert = now.after(interval);
            master.announcer.follow_advert(now, interval);
        }
    }

    /// Something in the adverts changed, or their way: others should know. One advert is enough for
    /// all that changes in one moment.
    pub(super) fn advertise_change(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Phase::Master(master) = &self.phase else {
            return;
        };
        if master.leaving.is_none() && master.told_at != Some((now, self.priority)) {
            self.advertise(now, actions);
            let told = Some((now, self.priority));
            if let Phase::Master(master) = &mut self.phase {
                master.told_at = told;
            }
        }
    }

    pub(super) fn push_adverts(&mut self, priority: Priority, actions: &mut Vec<Action>) {
        for destination in self.settings.destinations() {
            actions.push(Action::Advert {
                priority,
                destination,
            });
            self.stats.adverts_sent += 1;
            if priority == Priority::RELEASE {
                self.stats.releases_sent += 1;
            }
        }
    }

    /// Announces the addresses as if just taken over.
    pub(super) fn announce(&mut self, now: Now, actions: &mut Vec<Action>) {
        if self.is_leaving() {
            return;
        }
        if let Phase::Master(master) = &mut self.phase {
            master
                .announcer
                .take_over(now, &self.settings.garp, actions);
        }
    }

    pub(super) fn heard_as_master(&mut self, now: Now, heard: Heard, actions: &mut Vec<Action>) {
        if self.is_leaving() {
            if heard.priority != Priority::RELEASE {
                self.finish_leaving(now, Some(heard.from), actions);
            }
            return;
        }
        if self.priority.is_owner() && self.settings.owner_ignore_adverts {
            return;
        }
        self.stats.other_masters += 1;
        self.stats.last_other_master = Some(heard);
        let (own, source) = (self.priority, self.settings.source);
        let theirs = (heard.priority, heard.from);
        if theirs > (own, source) {
            let last = self.settings.higher_prio_send_advert;
            let farewell = if last { Farewell::Last } else { Farewell::None };
            self.release(farewell, actions);
            let down_at = now.after(self.down_timer(heard.interval));
            let why = lost(own, source, heard);
            self.become_backup(now, why, down_at, Some(heard), actions);
        } else {
            self.meet_worse(now, heard, actions);
        }
    }

    /// The other one has to hear of this one, and clients must forget the other one's MAC. Answered at
    /// once, but no more than four times an interval: a flood of forgeries is not amplified.
    fn meet_worse(&mut self, now: Now, heard: Heard, actions: &mut Vec<Action>) {
        // Who was just taken over from sends a last advert; that is no news.
        let interval = self.settings.interval.duration();
        if heard.priority != Priority::RELEASE && self.since.until(now) >= interval {
            let priorities = (heard.priority, self.priority);
            let event = self.receiver.other_master(now, heard.from, priorities);
            actions.extend(event.map(Action::Log));
        }
        let pause = interval / 4;
        let Phase::Master(master) = &mut self.phase else {
            return;
        };
        let earliest = master.last_answer.map(|last| last.after(pause));
        if let Some(later) = earliest.filter(|earliest| *earliest > now) {
            master.answer_at = Some(later);
            return;
        }
        self.answer(now, actions);
        if heard.priority != Priority::RELEASE {
            let (notice, priority) = (Notice::MasterRxLowerPriority, self.priority);
            actions.push(Action::Notify { notice, priority });
        }
    }

    fn answer(&mut self, now: Now, actions: &mut Vec<Action>) {
        if !self.settings.lower_prio_no_advert {
            self.advertise(now, actions);
        }
        if let Phase::Master(master) = &mut self.phase {
            master.last_answer = Some(now);
            master.answer_at = None;
            master.announcer.reassert(now, &self.settings.garp, actions);
        }
    }

    pub(super) fn expire_master(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Phase::Master(master) = &mut self.phase else {
            return;
        };
        if let Some(leaving) = &mut master.leaving {
            if leaving.until <= now {
                self.finish_leaving(now, None, actions);
            } else if leaving.again.take_if(|again| *again <= now).is_some() {
                self.push_adverts(Priority::RELEASE, actions);
            }
            return;
        }
        let due = |at: Now| at <= now;
        let (answer, advert) = (master.answer_at.is_some_and(due), due(master.next_advert));
        if answer {
            self.answer(now, actions);
        }
        if advert {
            self.advertise_on_time(now, actions);
        }
        if let Phase::Master(master) = &mut self.phase {
            master.announcer.expire(now, &self.settings.garp, actions);
        }
    }

    /// As [`Self::advertise`], but the beat is that of the adverts before, not of late timers.
    fn advertise_on_time(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Phase::Master(master) = &self.phase else {
            return;
        };
        let due = master.next_advert;
        // An answer was just sent, and was an advert.
        if due > now {
            return;
        }
        self.advertise(now, actions);
        let next = due.after(self.settings.interval.duration());
        if let Phase::Master(master) = &mut self.phase
            && next > now
        {
            master.next_advert = next;
        }
    }

    /// Was this master silent for so long that another may have taken over? Then clients may be
    /// elsewhere, and nobody has told this one: it announces itself again, upon which the better of
    /// the two wins. With `nopreempt` that would take back what another has, so it steps down and
    /// listens for as long as a living master could be silent.
    pub(super) fn check_lateness(&mut self, now: Now, actions: &mut Vec<Action>) {
        let Phase::Master(master) = &self.phase else {
            return;
        };
        let settings = &self.settings;
        let (version, interval) = (settings.version, settings.interval);
        let silent_for = master.last_advert.until(now);
        let limit = timing::soonest_successor(version, interval, settings.down_timer_adverts);
        if master.leaving.is_some() || silent_for < limit {
            return;
        }
        self.stats.late += 1;
        let yields = !settings.preempt && !self.priority.is_owner();
        actions.push(Action::Log(Event::Late { silent_for, yields }));
        if yields {
            let listen = interval.duration() + timing::skew(version, self.priority, interval);
            self.release(Farewell::None, actions);
            let why = Why::Late { silent_for };
            self.become_backup(now, why, now.after(listen), None, actions);
        } else {
            self.advertise(now, actions);
            self.announce(now, actions);
        }
    }

    /// Gives up, but goes on holding and forwarding until somebody takes over.
    pub(super) fn leave(&mut self, now: Now, actions: &mut Vec<Action>) {
        let wait = timing::hand_over(self.settings.version, self.settings.interval);
        self.push_adverts(Priority::RELEASE, actions);
        if let Phase::Master(master) = &mut self.phase {
            let (until, again) = (now.after(wait), Some(now.after(AGAIN)));
            master.leaving = Some(Leaving { until, again });
        }
        actions.push(Action::Log(Event::HandingOver { wait }));
    }

    /// Somebody took over, or nobody did in time.
    pub(super) fn finish_leaving(
        &mut self,
        now: Now,
        successor: Option<IpAddr>,
        actions: &mut Vec<Action>,
    ) {
        self.release(Farewell::None, actions);
        self.halt(now, successor, actions);
    }
}

fn lost(own: Priority, source: IpAddr, heard: Heard) -> Why {
    let (theirs, from) = (heard.priority, heard.from);
    if theirs > own {
        Why::Outranked { own, theirs, from }
    } else {
        let (priority, own) = (own, source);
        Why::TieLost {
            priority,
            own,
            from,
        }
    }
}
