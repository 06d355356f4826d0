//! How loaded a backend is: its connections as they stand, its limits, and what the counting
//! schedulers make of both.
//!
//! Whoever wins the change of a state word moves the counts by one atomic addition, see
//! [`crate::conn::table::Place::moved`]. Active and inactive connections share a word, so that a
//! reader never sees a connection in both or in neither. There are two such words, for odd and even
//! generations: what becomes of the entries of a purged generation then touches nothing that counts.

use crate::conn::State;
use crate::pod::{no_padding, pod};

/// What schedulers need of a backend: one cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Load {
    /// [`Counts`] of the connections of the even generation and of the odd one.
    pub counts: [u64; 2],
    /// See [`Limits`].
    pub limits: u64,
    /// See [`Standing`].
    pub standing: u64,
    /// 1 from when the upper limit is reached until the connections fell to the lower one.
    pub overloaded: u64,
    /// 1 if `lblcr` uses the backend.
    pub member: u64,
    /// Fills the cache line.
    pub reserved: [u64; 2],
}
pod!(Load);
no_padding!(Load, [u64; 2], u64, u64, u64, u64, [u64; 2]);

/// Words of a [`Load`].
pub mod word {
    /// The counts of a generation.
    pub const fn counts(generation: u8) -> usize {
        (generation & 1) as usize
    }
    /// The limits.
    pub const LIMITS: usize = 2;
    /// Weight and generation.
    pub const STANDING: usize = 3;
    /// Whether it is overloaded.
    pub const OVERLOADED: usize = 4;
    /// Whether `lblcr` uses it.
    pub const MEMBER: usize = 5;
}

/// Connections of a backend: `inactive << 32 + active`, added up with wrapping. A CPU may be about to
/// add what another one took away already, so each half can be below zero for a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub u64);

impl Counts {
    /// What one established or opening connection adds.
    pub const ACTIVE: u64 = 1;
    /// What any other connection adds.
    pub const INACTIVE: u64 = 1 << 32;

    /// Connections that IPVS lists as active.
    #[inline(always)]
    pub const fn active(self) -> u32 {
        at_least_0(self.0 as u32 as i32)
    }

    /// All others.
    #[inline(always)]
    pub const fn inactive(self) -> u32 {
        let active = self.0 as u32 as i32 as i64;
        at_least_0((self.0.wrapping_sub(active as u64) >> 32) as i32)
    }

    /// Both together, which the limits are about.
    #[inline(always)]
    pub const fn total(self) -> u64 {
        self.active() as u64 + self.inactive() as u64
    }
}

/// Without a branch.
#[inline(always)]
const fn at_least_0(number: i32) -> u32 {
    (number & !(number >> 31)) as u32
}

/// What must be added to the counts of backend and generation when a way goes from one state to
/// another; `None` if the two are of different ones.
#[inline(always)]
pub const fn shift(old: State, new: State) -> Option<u64> {
    if old.backend() == new.backend() && old.generation() == new.generation() {
        Some(new.counts().wrapping_sub(old.counts()))
    } else {
        None
    }
}

/// `uthreshold` and `lthreshold`; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// With so many connections it takes no new ones.
    pub upper: u32,
    /// Below this it takes new ones again; 0 for three quarters of `upper`.
    pub lower: u32,
}

impl Limits {
    /// As held in [`Load`].
    pub const fn pack(self) -> u64 {
        (self.lower as u64) << 32 | self.upper as u64
    }

    /// From [`Load`].
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            upper: word as u32,
            lower: (word >> 32) as u32,
        }
    }

    /// Whether a backend with so many connections is overloaded, if it was before. As in IPVS it
    /// becomes so by a connection more, and ceases to be by one less.
    #[inline(always)]
    pub const fn overloaded(self, was: bool, total: u64) -> bool {
        if self.upper == 0 {
            return false;
        }
        if total >= self.upper as u64 {
            return true;
        }
        let rested = if self.lower > 0 {
            total < self.lower as u64
        } else {
            total * 4 < self.upper as u64 * 3
        };
        was && !rested
    }
}

/// Weight of a backend and the generation whose connections count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Weight; 0 takes no new connections.
    pub weight: u32,
    /// Generation.
    pub generation: u8,
}

impl Standing {
    /// As held in [`Load`].
    pub const fn pack(self) -> u64 {
        (self.generation as u64) << 32 | self.weight as u64
    }

    /// From [`Load`].
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        Self {
            weight: word as u32,
            generation: (word >> 32) as u8,
        }
    }
}

/// A load as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Weight.
    pub weight: u32,
    /// Connections.
    pub counts: Counts,
    /// It is over its limits.
    pub overloaded: bool,
    /// `lblcr` uses it.
    pub member: bool,
}

/// How the list of a service is searched. The numbers are those of [`crate::schedule::Rule`].
pub mod search {
    /// `lc`.
    pub const LC: u32 = 4;
    /// `wlc`.
    pub const WLC: u32 = 5;
    /// `sed`.
    pub const SED: u32 = 6;
    /// `nq`.
    pub const NQ: u32 = 7;
    /// `fo`.
    pub const FO: u32 = 8;
    /// `ovf`.
    pub const OVF: u32 = 9;
    /// `wlc` among those that `lblcr` uses.
    pub const MEMBERS: u32 = 16;
    /// The first that `lblc` and `lblcr` take to be at most half loaded.
    pub const HALF: u32 = 17;
}

/// A candidate of a search: the lowest `cost / per` wins, and of equal ones the first in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// What it costs.
    pub cost: u64,
    /// The weight that bears it.
    pub per: u32,
}

impl Seen {
    /// Whether schedulers may pick it.
    #[inline(always)]
    pub const fn takes(&self) -> bool {
        self.weight > 0 && !self.overloaded
    }

    /// What IPVS takes the backend's connections to cost: an active one 256 times an inactive one.
    #[inline(always)]
    pub const fn overhead(&self) -> u64 {
        ((self.counts.active() as u64) << 8) + self.counts.inactive() as u64
    }

    /// Whether `lblc` takes it to be overloaded, provided that another one is half idle.
    #[inline(always)]
    pub const fn is_crowded(&self) -> bool {
        self.counts.active() > self.weight
    }

    /// What the backend costs in a search; `None` if it is not to be picked.
    #[inline(always)]
    pub const fn cost(&self, search: u32) -> Option<Cost> {
        if !self.takes() {
            return None;
        }
        let active = self.counts.active() as u64;
        let (cost, per) = match search {
            search::LC => (self.overhead(), 1),
            search::SED => (active + 1, self.weight),
            search::NQ => (if active == 0 { 0 } else { active + 1 }, self.weight),
            search::OVF if self.is_crowded() => return None,
            search::FO | search::OVF => ((u32::MAX - self.weight) as u64, 1),
            search::MEMBERS if !self.member => return None,
            search::HALF if active * 2 >= self.weight as u64 => return None,
            search::HALF => (0, 1),
            _ => (self.overhead(), self.weight),
        };
        Some(Cost { cost, per })
    }
}

impl Cost {
    /// Of a server that is not to be picked: nothing costs more, and it costs less than nothing.
    pub const NONE: Self = Self { cost: 1, per: 0 };

    /// Whether it wins over one that stands before it in the list. By cross-multiplication, as
    /// IPVS compares; at most 2^40 times 2^31 may wrap, which takes 2^32 connections.
    #[inline(always)]
    pub const fn is_below(self, best: Self) -> bool {
        best.cost.wrapping_mul(self.per as u64) > self.cost.wrapping_mul(best.per as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Kind;
    use crate::tick::Tick;
    use proptest::prelude::*;

    /// Servers 1, 2, … of these weights, added in this order, so listed newest first; then so many
    /// connections that stay open.
    fn held(search: u32, weights: &[u32], connections: usize) -> Vec<usize> {
        let mut list: Vec<_> = weights.iter().map(|w| (*w, Counts(0))).collect();
        let picks = (0..connections).filter_map(|_| {
            let at = pick(search, &list)?;
            list[at].1.0 += Counts::ACTIVE;
            Some(at + 1)
        });
        picks.collect()
    }

    /// As the packet path searches: from the head of the list, which is the last added.
    fn pick(search: u32, added: &[(u32, Counts)]) -> Option<usize> {
        let seen = |(weight, counts): (u32, Counts)| Seen {
            weight,
            counts,
            ..Seen::default()
        };
        let costs = (0..added.len()).rev();
        let costs = costs.filter_map(|at| Some((at, seen(added[at]).cost(search)?)));
        let best = costs.reduce(|best, next| if next.1.is_below(best.1) { next } else { best });
        best.map(|(at, _)| at)
    }

    /// Sequences observed on a real IPVS.
    #[test]
    fn servers_are_picked_in_the_order_of_ipvs() {
        let cases: [(u32, &[u32], &[usize]); 6] = [
            (
                search::LC,
                &[1, 1, 1],
                &[3, 2, 1, 3, 2, 1, 3, 2, 1, 3, 2, 1],
            ),
            (
                search::WLC,
                &[1, 1, 1],
                &[3, 2, 1, 3, 2, 1, 3, 2, 1, 3, 2, 1],
            ),
            (
                search::WLC,
                &[2, 1, 1],
                &[3, 2, 1, 1, 3, 2, 1, 1, 3, 2, 1, 1],
            ),
            (
                search::WLC,
                &[3, 1, 0],
                &[2, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1],
            ),
            (
                search::SED,
                &[2, 1, 1],
                &[1, 3, 2, 1, 1, 3, 2, 1, 1, 3, 2, 1],
            ),
            (
                search::NQ,
                &[2, 1, 1],
                &[3, 2, 1, 1, 1, 3, 2, 1, 1, 3, 2, 1],
            ),
        ];
        for (search, weights, picks) in cases {
            assert_eq!(held(search, weights, 12), picks, "{search} {weights:?}");
        }
    }

    #[test]
    fn an_active_connection_costs_256_inactive_ones() {
        let list = [(1, Counts(256 * Counts::INACTIVE)), (1, Counts(1))];
        assert_eq!(
            pick(search::LC, &list),
            Some(1),
            "a tie: the head of the list"
        );
        let list = [(1, Counts(255 * Counts::INACTIVE)), (1, Counts(1))];
        assert_eq!(pick(search::LC, &list), Some(0));
    }

    #[test]
    fn the_heaviest_server_takes_all_and_ovf_up_to_its_weight() {
        assert_eq!(held(search::FO, &[1, 5, 5], 3), [3, 3, 3]);
        // Up to one more than its weight, as in IPVS.
        assert_eq!(held(search::OVF, &[1, 2], 9), [2, 2, 2, 1, 1]);
    }

    #[test]
    fn an_overloaded_server_rests_until_the_lower_limit() {
        let limits = |upper, lower| Limits { upper, lower };
        let cases = [
            (limits(0, 0), true, 9, false),
            (limits(4, 0), false, 3, false),
            (limits(4, 0), false, 4, true),
            (limits(4, 0), true, 3, true),
            (limits(4, 0), true, 2, false),
            (limits(4, 1), true, 1, true),
            (limits(4, 1), true, 0, false),
        ];
        for (limits, was, total, is) in cases {
            assert_eq!(
                limits.overloaded(was, total),
                is,
                "{limits:?} {was} {total}"
            );
        }
    }

    proptest! {
        #[test]
        fn packed_words_keep_their_parts(a: u32, b: u32, generation: u8) {
            let limits = Limits { upper: a, lower: b };
            prop_assert_eq!(Limits::unpack(limits.pack()), limits);
            let standing = Standing { weight: a, generation };
            prop_assert_eq!(Standing::unpack(standing.pack()), standing);
        }

        /// In whatever order CPUs add, and below zero on the way.
        #[test]
        fn counts_add_up(kinds in prop::collection::vec((0_u8..10, 0_u8..10), 0..50)) {
            let state = |kind| State::new(7, Kind::from_bits(kind), 1, 0, Tick(9));
            let word = kinds.iter().fold(0_u64, |word, (old, new)| {
                word.wrapping_add(shift(state(*old), state(*new)).unwrap())
            });
            let sum = |of: fn(State) -> u64| kinds.iter().fold(0_i64, |sum, (old, new)| {
                sum + of(state(*new)) as i64 - of(state(*old)) as i64
            });
            let active = sum(|s| u64::from(s.counts() == Counts::ACTIVE));
            let inactive = sum(|s| u64::from(s.counts() == Counts::INACTIVE));
            prop_assert_eq!(i64::from(Counts(word).active()), active.max(0));
            prop_assert_eq!(i64::from(Counts(word).inactive()), inactive.max(0));
        }
    }
}
