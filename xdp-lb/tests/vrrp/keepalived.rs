//! A director that behaves like keepalived 2.2.7, as far as an election goes: what was observed of it.

use std::time::Duration;

use xdp_lb::machine::Now;
use xdp_lb::vrrp::packet::Advert;
use xdp_lb::vrrp::settings::Settings;
use xdp_lb::vrrp::{Interval, Priority, timing};

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Advert(Priority),
    Take,
    Drop,
    Announce,
}

#[derive(Clone, Debug)]
enum State {
    Stopped,
    Backup {
        down_at: Now,
    },
    Master {
        next: Now,
        second_burst: Option<Now>,
        refresh: Now,
    },
}

/// The director.
#[derive(Clone, Debug)]
pub(crate) struct Keepalived {
    settings: Settings,
    state: State,
}

impl Keepalived {
    pub(crate) fn new(settings: Settings) -> Self {
        let state = State::Stopped;
        Self { settings, state }
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) const fn is_master(&self) -> bool {
        matches!(self.state, State::Master { .. })
    }

    pub(crate) const fn runs(&self) -> bool {
        !matches!(self.state, State::Stopped)
    }

    pub(crate) fn start(&mut self, now: Now) {
        self.listen(now, self.settings.interval);
    }

    /// Priority 0, and gone.
    pub(crate) fn stop(&mut self) -> Vec<Deed> {
        let was_master = self.is_master();
        self.state = State::Stopped;
        if was_master {
            vec![Deed::Advert(Priority::RELEASE), Deed::Drop]
        } else {
            Vec::new()
        }
    }

    pub(crate) fn set_priority(&mut self, priority: Priority) {
        self.settings.priority = priority;
    }

    pub(crate) fn deadline(&self) -> Option<Now> {
        match self.state {
            State::Stopped => None,
            State::Backup { down_at } => Some(down_at),
            State::Master {
                next,
                second_burst,
                refresh,
            } => Some(second_burst.map_or(next, |at| at.min(next)).min(refresh)),
        }
    }

    fn listen(&mut self, now: Now, interval: Interval) {
        let Settings {
            version,
            priority,
            down_timer_adverts,
            ..
        } = self.settings;
        let wait = timing::master_down(version, priority, interval, down_timer_adverts);
        self.state = State::Backup {
            down_at: now.after(wait),
        };
    }

    pub(crate) fn hear(&mut self, now: Now, from: std::net::IpAddr, advert: &Advert) -> Vec<Deed> {
        let Settings {
            version,
            priority,
            interval,
            preempt,
            source,
            ..
        } = self.settings;
        let theirs = advert.priority;
        match &mut self.state {
            State::Stopped => Vec::new(),
            State::Backup { down_at } => {
                if theirs == Priority::RELEASE {
                    // Each time anew, whoever sent it.
                    *down_at = now.after(timing::skew(version, priority, advert.interval));
                } else if theirs >= priority || !preempt {
                    self.listen(now, advert.interval);
                }
                Vec::new()
            }
            State::Master { next, .. } if theirs == Priority::RELEASE => {
                *next = now.after(interval.duration());
                vec![Deed::Advert(priority)]
            }
            State::Master { .. } if (theirs, from) > (priority, source) => {
                // Without a word: vrrp_higher_prio_send_advert is off.
                self.listen(now, advert.interval);
                vec![Deed::Drop]
            }
            State::Master {
                next, second_burst, ..
            } => {
                *next = now.after(interval.duration());
                *second_burst = Some(now.after(Duration::from_secs(5)));
                vec![Deed::Advert(priority), Deed::Announce]
            }
        }
    }

    pub(crate) fn expire(&mut self, now: Now) -> Vec<Deed> {
        let Settings {
            priority, interval, ..
        } = self.settings;
        let pace = self.settings.garp.refresh;
        match &mut self.state {
            State::Stopped => Vec::new(),
            State::Backup { down_at } if *down_at > now => Vec::new(),
            State::Backup { .. } => {
                self.state = State::Master {
                    next: now.after(interval.duration()),
                    second_burst: Some(now.after(Duration::from_secs(5))),
                    refresh: now.after(pace),
                };
                vec![Deed::Advert(priority), Deed::Take, Deed::Announce]
            }
            State::Master {
                next,
                second_burst,
                refresh,
            } => {
                let mut deeds = Vec::new();
                if *next <= now {
                    *next = now.after(interval.duration());
                    deeds.push(Deed::Advert(priority));
                }
                if second_burst.is_some_and(|at| at <= now) {
                    *second_burst = None;
                    deeds.push(Deed::Announce);
                }
                if *refresh <= now {
                    *refresh = now.after(pace);
                    deeds.push(Deed::Announce);
                }
                deeds
            }
        }
    }
}
