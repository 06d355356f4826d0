//! A real server of a service: how to get there, and how many connections it has.

use xdp_lb_common::service::Stats;

use crate::plan::desired::{Method, Reach};

use super::connection::State;

/// A life of a server, between being added or failing and the next time. Connections and templates
/// belong to one; numbers are never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Life(pub u64);

/// `uthreshold` and `lthreshold`; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub upper: u32,
    pub lower: u32,
}

/// How packets get to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub reach: Reach,
    pub method: Method,
}

/// A real server of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub life: Life,
    /// The way known last; `None` since it failed.
    pub path: Option<Path>,
    /// Its addresses were translated, as far as was last told.
    pub translates: bool,
    /// Its templates are void.
    pub releases: bool,
    pub weight: u32,
    /// The last weight that was not 0, since it is in the list.
    pub last_weight: u32,
    pub limits: Limits,
    pub active: u64,
    pub inactive: u64,
    /// It reached its upper limit and has not fallen to the lower one since.
    pub rests: bool,
    pub stats: Stats,
}

impl Server {
    /// One connection goes from a state to another; `None` where there is none.
    pub(super) fn count(&mut self, old: Option<State>, new: Option<State>) {
        let of = |state: Option<State>, active| {
            let counts = |state: State| state.is_connection() && state.is_active() == active;
            u64::from(state.is_some_and(counts))
        };
        let before = (self.active, self.inactive);
        self.active = (self.active + of(new, true)).saturating_sub(of(old, true));
        self.inactive = (self.inactive + of(new, false)).saturating_sub(of(old, false));
        if before != (self.active, self.inactive) {
            self.weigh();
        }
    }

    /// Settles whether it is over its limits: from the upper one on, until it is below the lower one,
    /// or below three quarters of the upper one if there is no lower.
    fn weigh(&mut self) {
        let total = self.active + self.inactive;
        let (upper, lower) = (u64::from(self.limits.upper), u64::from(self.limits.lower));
        let has_rested = match lower {
            0 => total * 4 < upper * 3,
            lower => total < lower,
        };
        self.rests = upper > 0 && (total >= upper || (self.rests && !has_rested));
    }

    /// Takes new settings over. A higher upper limit ends its rest.
    pub(super) fn set(&mut self, weight: u32, limits: Limits) {
        self.weight = weight;
        if weight > 0 {
            self.last_weight = weight;
        }
        if self.limits != limits {
            let raised = limits.upper == 0 || limits.upper > self.limits.upper;
            self.rests &= !raised;
            self.limits = limits;
            self.weigh();
        }
    }

    /// It failed or went: what was its is void.
    pub(super) fn die(&mut self, next: Life) {
        *self = Self {
            life: next,
            limits: self.limits,
            releases: false,
            translates: self.translates,
            stats: self.stats,
            ..Self::default()
        };
    }
}
