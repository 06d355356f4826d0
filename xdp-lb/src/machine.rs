//! The shape of every state machine of the control plane: events and time in, actions out.
//!
//! A machine owns no socket, clock, task or random source. Time is [`Now`], an argument of each
//! call; what it wants done is pushed onto a list that the caller carries out. So a test steps it
//! through hours in microseconds, and one small driver runs all of them.

use std::time::Duration;

/// A moment: time since the agent started, on a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Now(pub Duration);

impl Now {
    /// The moment of the start.
    pub const ZERO: Self = Self(Duration::ZERO);

    /// The moment `delay` later; the end of time if that cannot be represented.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay))
    }

    /// How long it is from here until `later`; zero if that has passed.
    pub const fn until(self, later: Self) -> Duration {
        later.0.saturating_sub(self.0)
    }
}

/// A state machine.
///
/// The driver calls [`Machine::expire`] once [`Machine::deadline`] is reached, and only the
/// comparison with the clock decides whether it is; waking up early or late is not the machine's
/// concern.
pub trait Machine {
    /// What happens to it.
    type Input;
    /// What it wants done.
    type Action;

    /// Takes an input that arrived at `now`.
    fn handle(&mut self, now: Now, input: Self::Input, actions: &mut Vec<Self::Action>);

    /// Does what is due at `now`. Afterwards the deadline is later than `now`.
    fn expire(&mut self, now: Now, actions: &mut Vec<Self::Action>);

    /// When [`Machine::expire`] is to be called; `None`: not before another input.
    fn deadline(&self) -> Option<Now>;
}
