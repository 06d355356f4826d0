//! The bookkeeping of many connections: who is to be opened, asked or given up, and who broke why. Time
//! comes in as an argument; what is to be done goes out.

use std::time::Duration;

use super::tally::{ByServer, Cause, Resent, Silence, Window, YOUNG, named};
use super::wire::{Answer, Name};

/// From an attempt that failed to the next.
const RETRY: Duration = Duration::from_millis(200);

/// What holds for all connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// From one heartbeat of a connection to the next.
    pub(crate) every: Duration,
    /// Without an answer for so long, a connection counts as broken.
    pub(crate) silence: Duration,
    /// Connections opened per second, at most.
    pub(crate) opens: u32,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            every: Duration::from_millis(100),
            silence: Duration::from_secs(2),
            opens: 2000,
        }
    }
}

/// What is to be done with a connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Todo {
    /// Nothing.
    Nothing,
    /// Open it.
    Open,
    /// Send the heartbeat of this number.
    Ask(u32),
    /// Close it: it is given up.
    GiveUp,
}

/// One connection after the other in the same place.
#[derive(Clone, Debug)]
struct Place {
    state: State,
    /// The longest wait for an answer in this window.
    worst: Duration,
    resent: Resent,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        until: Duration,
    },
    Opening {
        since: Duration,
    },
    Open {
        since: Duration,
        server: Option<Name>,
        number: u32,
        /// When the heartbeat left that is not answered yet.
        asked: Option<Duration>,
    },
}

/// The books.
#[derive(Debug)]
pub(super) struct Books {
    rules: Rules,
    places: Vec<Place>,
    /// The server that last answered each client at each of its addresses.
    homes: Vec<Option<Name>>,
    clients: usize,
    next_open: Duration,
    /// Connections to renew per second.
    renewals: u32,
    next_renewal: Duration,
    /// The place that is renewed next.
    turn: usize,
    begun: Duration,
    window: Window,
    /// Longest waits of connections that broke in this window.
    waits: Vec<Duration>,
}

impl Books {
    /// Books of so many connections, from so many clients to so many targets: the client of a connection
    /// is its number modulo `clients`, and after each round of clients comes the next target.
    pub(super) fn new(rules: Rules, count: usize, (clients, targets): (usize, usize)) -> Self {
        let clients = clients.max(1);
        let place = Place {
            state: State::Closed {
                until: Duration::ZERO,
            },
            worst: Duration::ZERO,
            resent: Resent::default(),
        };
        Self {
            rules,
            places: vec![place; count],
            homes: vec![None; clients * targets.max(1)],
            clients,
            next_open: Duration::ZERO,
            renewals: 0,
            next_renewal: Duration::ZERO,
            turn: 0,
            begun: Duration::ZERO,
            window: Window::of(targets),
            waits: Vec::new(),
        }
    }

    /// What to do with a connection, whose turn comes once in `every`.
    pub(super) fn visit(&mut self, index: usize, now: Duration) -> Todo {
        let Some(place) = self.places.get_mut(index) else {
            return Todo::Nothing;
        };
        match &mut place.state {
            State::Closed { until } if now < *until || now < self.next_open => Todo::Nothing,
            State::Closed { .. } => {
                place.state = State::Opening { since: now };
                // What was missed is not made up for: that would be a burst.
                let pace = Duration::from_secs(1) / self.rules.opens.max(1);
                let behind = now.saturating_sub(self.rules.every);
                self.next_open = self.next_open.max(behind) + pace;
                Todo::Open
            }
            State::Opening { since } if now.saturating_sub(*since) >= self.rules.silence => {
                self.refused(index, now, "no answer to SYN");
                Todo::GiveUp
            }
            State::Opening { .. } => Todo::Nothing,
            State::Open {
                asked: Some(asked), ..
            } => {
                let wait = now.saturating_sub(*asked);
                place.worst = place.worst.max(wait);
                if wait < self.rules.silence {
                    return Todo::Nothing;
                }
                self.broke(index, now, Cause::Silent);
                Todo::GiveUp
            }
            State::Open { number, asked, .. } => {
                *number = number.wrapping_add(1);
                *asked = Some(now);
                self.window.sent += 1;
                Todo::Ask(*number)
            }
        }
    }

    /// How many connections are to be closed and opened anew per second, from now on.
    pub(super) fn renew(&mut self, per_second: u32, now: Duration) {
        self.renewals = per_second;
        self.next_renewal = now;
    }

    /// A connection whose turn it is to be closed in order for a new one.
    pub(super) fn renewal(&mut self, now: Duration) -> Option<usize> {
        if self.renewals == 0 || now < self.next_renewal {
            return None;
        }
        self.next_renewal += Duration::from_secs(1) / self.renewals;
        let count = self.places.len();
        let idle = |index: &usize| {
            let state = self.places.get(*index).map(|place| place.state);
            matches!(
                state,
                Some(State::Open {
                    server: Some(_),
                    asked: None,
                    ..
                })
            )
        };
        let index = (self.turn..count).chain(0..self.turn).find(idle)?;
        self.turn = (index + 1) % count;
        self.window.renewed += 1;
        self.close(index, now);
        Some(index)
    }

    /// It stands. What was sent again until then was no loss of an open connection.
    pub(super) fn connected(&mut self, index: usize, now: Duration, resent: Resent) {
        if let Some(place) = self.places.get_mut(index)
            && let State::Opening { .. } = place.state
        {
            place.state = State::Open {
                since: now,
                server: None,
                number: 0,
                asked: None,
            };
            place.resent = resent;
            self.window.opened += 1;
        }
    }

    /// It could not be opened.
    pub(super) fn refused(&mut self, index: usize, now: Duration, why: &str) {
        *self.window.refused.entry(why.to_owned()).or_default() += 1;
        self.close(index, now + RETRY);
    }

    /// An answer came; whether the connection goes on.
    pub(super) fn answered(&mut self, index: usize, now: Duration, answer: &Answer) -> bool {
        let Some(place) = self.places.get_mut(index) else {
            return false;
        };
        let State::Open {
            server,
            number,
            asked,
            ..
        } = &mut place.state
        else {
            return false;
        };
        if server.is_some_and(|server| server != answer.name) {
            let intruder = answer.name.to_string();
            *self.window.intruders.entry(intruder).or_default() += 1;
            self.broke(index, now, Cause::OtherServer);
            return false;
        }
        let Some(at) = asked.filter(|_| *number == answer.number) else {
            self.broke(index, now, Cause::Garbled);
            return false;
        };
        *asked = None;
        place.worst = place.worst.max(now.saturating_sub(at));
        self.window.answered += 1;
        if server.is_none() {
            *server = Some(answer.name);
            self.came_home(index, answer.name);
        }
        true
    }

    fn came_home(&mut self, index: usize, name: Name) {
        let place = index % self.homes.len();
        let Some(home) = self.homes.get_mut(place) else {
            return;
        };
        let before = home.replace(name);
        if before.is_some_and(|before| before != name)
            && let Some(strayed) = self.window.strayed.get_mut(place / self.clients)
        {
            *strayed += 1;
        }
    }

    /// The socket says that it is over.
    pub(super) fn over(&mut self, index: usize, now: Duration, cause: Cause) {
        match self.places.get(index).map(|place| place.state) {
            Some(State::Open { .. }) => self.broke(index, now, cause),
            Some(State::Opening { .. }) => self.refused(index, now, &cause.to_string()),
            Some(State::Closed { .. }) | None => {}
        }
    }

    /// How many segments the kernel has sent again on it so far.
    pub(super) fn resent(&mut self, index: usize, resent: Resent) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        let all = resent.all.saturating_sub(place.resent.all);
        let needless = resent.needless.saturating_sub(place.resent.needless);
        self.window.lost += u64::from(all.saturating_sub(needless));
        self.window.needless += u64::from(needless.min(all));
        place.resent = resent;
    }

    /// How many stand and know their server; all of them do when it is as many as there are.
    pub(super) fn standing(&self) -> usize {
        let states = self.places.iter().map(|place| place.state);
        states
            .filter(|state| {
                matches!(
                    state,
                    State::Open {
                        server: Some(_),
                        ..
                    }
                )
            })
            .count()
    }

    /// Ends the window and begins another.
    pub(super) fn mark(&mut self, now: Duration) -> Window {
        let mut waits = std::mem::take(&mut self.waits);
        let mut standing = ByServer::new();
        for place in &mut self.places {
            let State::Open { server, asked, .. } = place.state else {
                continue;
            };
            let waits_now = asked.map_or(Duration::ZERO, |asked| now.saturating_sub(asked));
            waits.push(place.worst.max(waits_now));
            place.worst = Duration::ZERO;
            *standing.entry(named(server)).or_default() += 1;
        }
        let next = Window {
            standing,
            ..Window::of(self.window.strayed.len())
        };
        let mut window = std::mem::replace(&mut self.window, next);
        window.seconds = now.saturating_sub(self.begun).as_secs_f64();
        window.silence = Silence::of(waits);
        self.begun = now;
        window
    }

    fn broke(&mut self, index: usize, now: Duration, cause: Cause) {
        let Some(place) = self.places.get_mut(index) else {
            return;
        };
        if let State::Open {
            since,
            server,
            asked,
            ..
        } = place.state
        {
            let wait = asked.map_or(Duration::ZERO, |asked| now.saturating_sub(asked));
            self.waits.push(place.worst.max(wait));
            let causes = self.window.broken.entry(named(server)).or_default();
            *causes.entry(cause).or_default() += 1;
            self.window.grown += u64::from(since + YOUNG <= self.begun);
        }
        self.close(index, now);
    }

    fn close(&mut self, index: usize, until: Duration) {
        if let Some(place) = self.places.get_mut(index) {
            place.state = State::Closed { until };
            place.worst = Duration::ZERO;
        }
    }
}

#[cfg(test)]
#[path = "books_tests.rs"]
mod tests;
