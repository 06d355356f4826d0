//! When a master announces its addresses.

use std::time::Duration;

use super::super::settings::Garp;
use super::Action;
use crate::machine::Now;

/// A refresh so soon after a burst would say nothing new.
const SOON: Duration = Duration::from_millis(50);

/// How long after an advert a refresh waits, at most: a better master that hears the advert answers first,
/// and then nothing is announced that is not true any more.
const LAG: Duration = Duration::from_millis(50);

/// The announcements that are still to come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Announcer {
    delayed: Option<(Now, u8)>,
    refresh: Option<Now>,
}

impl Announcer {
    /// At once, again after `delay`, then every `refresh`.
    pub(super) fn take_over(&mut self, now: Now, garp: &Garp, actions: &mut Vec<Action>) {
        self.burst(now, garp, (garp.repeat, garp.delay), actions);
        self.reconfigure(now, garp);
    }

    /// An advert was just sent. Whoever steps down because of it is made up for soon, but not at once: it
    /// may be better, and tell the segment so.
    pub(super) fn follow_advert(&mut self, now: Now, interval: Duration) {
        let soonest = now.after(LAG.min(interval / 2));
        self.refresh = self.refresh.map(|due| due.max(soonest));
    }

    /// After a worse master was heard, whose frames clients may have believed. It comes with an advert, and
    /// so do the refreshes from then on.
    pub(super) fn reassert(&mut self, now: Now, garp: &Garp, actions: &mut Vec<Action>) {
        let burst = (garp.lower_prio_repeat, garp.lower_prio_delay);
        self.burst(now, garp, burst, actions);
        if garp.lower_prio_repeat > 0 {
            self.refresh = self.refresh.map(|_| now.after(garp.refresh));
        }
    }

    fn burst(
        &mut self,
        now: Now,
        garp: &Garp,
        (repeat, delay): (u8, Duration),
        actions: &mut Vec<Action>,
    ) {
        push(repeat, garp, actions);
        self.delayed = (!delay.is_zero()).then(|| (now.after(delay), repeat));
    }

    /// Other settings: a refresh starts, ends or changes its pace.
    pub(super) fn reconfigure(&mut self, now: Now, garp: &Garp) {
        let next = now.after(garp.refresh);
        self.refresh = match self.refresh {
            _ if garp.refresh.is_zero() => None,
            Some(due) if due <= next => Some(due),
            Some(_) | None => Some(next),
        };
    }

    pub(super) fn expire(&mut self, now: Now, garp: &Garp, actions: &mut Vec<Action>) {
        if let Some((due, repeat)) = self.delayed
            && due <= now
        {
            self.delayed = None;
            push(repeat, garp, actions);
            let soon = now.after(SOON);
            let refresh = self.refresh.filter(|due| *due <= soon);
            if let Some(due) = refresh.filter(|_| repeat >= garp.refresh_repeat) {
                self.refresh = next(due, now, garp);
            }
        }
        if let Some(due) = self.refresh.filter(|due| *due <= now) {
            self.refresh = next(due, now, garp);
            push(garp.refresh_repeat, garp, actions);
        }
    }

    pub(super) fn deadline(&self) -> Option<Now> {
        let delayed = self.delayed.map(|(due, _)| due);
        delayed.into_iter().chain(self.refresh).min()
    }
}

/// The refresh after that of `due`: on its beat, unless that was lost.
fn next(due: Now, now: Now, garp: &Garp) -> Option<Now> {
    let on_beat = due.after(garp.refresh);
    let next = if on_beat > now {
        on_beat
    } else {
        now.after(garp.refresh)
    };
    (!garp.refresh.is_zero()).then_some(next)
}

fn push(repeat: u8, garp: &Garp, actions: &mut Vec<Action>) {
    if repeat > 0 {
        let gap = garp.gap;
        actions.push(Action::Announce { repeat, gap });
    }
}
