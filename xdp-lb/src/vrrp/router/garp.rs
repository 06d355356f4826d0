//! When a master announces its addresses.

use super::super::settings::Garp;
use super::Action;
use crate::machine::Now;

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

    /// After a worse master was heard, whose frames clients may have believed.
    pub(super) fn reassert(&mut self, now: Now, garp: &Garp, actions: &mut Vec<Action>) {
        let burst = (garp.lower_prio_repeat, garp.lower_prio_delay);
        self.burst(now, garp, burst, actions);
    }

    fn burst(
        &mut self,
        now: Now,
        garp: &Garp,
        (repeat, delay): (u8, std::time::Duration),
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
        }
        if self.refresh.is_some_and(|due| due <= now) {
            self.refresh = (!garp.refresh.is_zero()).then(|| now.after(garp.refresh));
            push(garp.refresh_repeat, garp, actions);
        }
    }

    pub(super) fn deadline(&self) -> Option<Now> {
        let delayed = self.delayed.map(|(due, _)| due);
        delayed.into_iter().chain(self.refresh).min()
    }
}

fn push(repeat: u8, garp: &Garp, actions: &mut Vec<Action>) {
    if repeat > 0 {
        let gap = garp.gap;
        actions.push(Action::Announce { repeat, gap });
    }
}
