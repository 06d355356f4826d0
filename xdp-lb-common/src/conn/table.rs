//! Lookup and insertion over the two places of a flow.
//!
//! Written once over the trait [`Place`]; the packet path implements it over map memory, userspace
//! over the mapped table, tests over atomics.

use super::state::{Kind, State};
use crate::limits::WAYS;
use crate::tick::Tick;

/// Ticks after which a claim that was never published is free again. A CPU publishes within
/// nanoseconds of claiming; only one that was stopped in between takes longer, and it then notices.
pub const CLAIM_TICKS: u32 = 4;

/// Ways of the first place that are taken before the emptier place is preferred: flows found in their
/// first place cost one memory access less, and below this load balance does not suffer.
pub const FIRST_PLACE_FILL: u32 = 4;

/// Attempts to take a way before the flow goes without.
const ATTEMPTS: usize = 3;

/// Eight ways in two adjacent cache lines.
pub trait Place {
    /// The key of a way.
    fn key(&self, way: usize) -> u64;
    /// The state of a way.
    fn state(&self, way: usize) -> State;
    /// Replaces the key if it is `old`; whether it was. A full barrier.
    fn swap_key(&self, way: usize, old: u64, new: u64) -> bool;
    /// Replaces the state if it is `old`; whether it was. A full barrier.
    fn swap_state(&self, way: usize, old: State, new: State) -> bool;
}

/// The memory of a place, as maps hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct PlaceMemory {
    /// Key and state of each way.
    pub ways: [[u64; 2]; WAYS],
}
crate::pod::pod!(PlaceMemory);

/// The two candidate places of a flow and their numbers in the table.
#[derive(Clone, Copy, Debug)]
pub struct Places<P> {
    /// First choice.
    pub first: P,
    /// Second choice; may be the same place.
    pub second: P,
    /// Number of the first place.
    pub first_at: u32,
    /// Number of the second place.
    pub second_at: u32,
}

/// A way and the state it was found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether it lies in the second place.
    pub in_second: bool,
    /// Way within the place.
    pub way: usize,
    /// Its state when it was read.
    pub state: State,
}

/// A way taken but not yet published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whether it lies in the second place.
    pub in_second: bool,
    /// Way within the place.
    pub way: usize,
    /// Whether a live entry was evicted for it.
    pub evicted: bool,
    claimed: State,
}

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Published {
    /// The flow is in the table.
    Mine,
    /// Another CPU was first: the flow is in the table with this state.
    Other(State),
    /// The way was lost and the flow is not in the table.
    Lost,
}

/// The way of `hash` in one place, read so that state and key belong together. Expired ways do not
/// count, nor do claims.
#[inline(always)]
fn find_in<P: Place>(place: &P, hash: u64, now: Tick) -> Option<(usize, State)> {
    let mut way = 0;
    while way < WAYS {
        if place.key(way) == hash {
            let state = place.state(way);
            let live = state.is_free(now) == 0 && !matches!(state.kind(), Kind::Claimed);
            if live && state.belongs_to(hash) && place.key(way) == hash {
                return Some((way, state));
            }
        }
        way += 1;
    }
    None
}

impl<P: Place> Places<P> {
    /// The live way of a flow.
    #[inline(always)]
    pub fn find(&self, hash: u64, now: Tick) -> Option<Found> {
        if let Some((way, state)) = find_in(&self.first, hash, now) {
            return Some(Found {
                in_second: false,
                way,
                state,
            });
        }
        find_in(&self.second, hash, now).map(|(way, state)| Found {
            in_second: true,
            way,
            state,
        })
    }

    /// Changes the state of a way that was found; whether nobody else did meanwhile.
    #[inline(always)]
    pub fn update(&self, found: &Found, new: State) -> bool {
        self.place(found.in_second)
            .swap_state(found.way, found.state, new)
    }

    /// Number of a way in the table, which is its index in the cold array.
    #[inline(always)]
    pub fn index(&self, in_second: bool, way: usize) -> u32 {
        let place = if in_second {
            self.second_at
        } else {
            self.first_at
        };
        place * WAYS as u32 + way as u32
    }

    /// Takes a way for a flow that [`Self::find`] did not find. `None` when both places are full of
    /// entries that must stay. After writing the cold data, [`Self::publish`] it.
    #[inline(always)]
    pub fn claim(&self, hash: u64, intended: State, now: Tick) -> Option<Claim> {
        let claimed = intended.with(Kind::Claimed, now.after(CLAIM_TICKS));
        let mut attempt = 0;
        while attempt < ATTEMPTS {
            let (in_second, way, evicted) = match self.free_way(now) {
                Some((in_second, way)) => (in_second, way, false),
                None => {
                    let (in_second, way) = self.victim(now)?;
                    (in_second, way, true)
                }
            };
            let place = self.place(in_second);
            let old = place.state(way);
            let may_go = old.is_free(now) == 1 || (evicted && old.eviction_class().is_some());
            if may_go && place.swap_state(way, old, claimed) {
                let key = place.key(way);
                if place.swap_key(way, key, hash) {
                    return Some(Claim {
                        in_second,
                        way,
                        evicted,
                        claimed,
                    });
                }
            }
            attempt += 1;
        }
        None
    }

    /// Makes a claim visible, unless another CPU has the flow.
    #[inline(always)]
    pub fn publish(&self, claim: &Claim, hash: u64, state: State, now: Tick) -> Published {
        let mine = self.place(claim.in_second);
        if let Some(other) = self.rival(claim, hash, now) {
            let _released = mine.swap_state(claim.way, claim.claimed, State(0));
            return Published::Other(other);
        }
        if mine.swap_state(claim.way, claim.claimed, state) {
            return Published::Mine;
        }
        // A rival in a lower position took the claim away and publishes within nanoseconds.
        match self.rival(claim, hash, now) {
            Some(other) => Published::Other(other),
            None => Published::Lost,
        }
    }

    /// Looks for another way with the same key. Rivals in a higher position are put out of the race;
    /// one that is published, or stands in a lower position, wins.
    #[inline(always)]
    fn rival(&self, claim: &Claim, hash: u64, now: Tick) -> Option<State> {
        let own_at = if claim.in_second {
            self.second_at
        } else {
            self.first_at
        };
        let mut number = 0;
        while number < 2 * WAYS {
            let in_second = number >= WAYS;
            let way = number % WAYS;
            let at = if in_second {
                self.second_at
            } else {
                self.first_at
            };
            let place = self.place(in_second);
            number += 1;
            if place.key(way) != hash || (at == own_at && way == claim.way) {
                continue;
            }
            let state = place.state(way);
            if state.is_free(now) == 1 || !state.belongs_to(hash) {
                continue;
            }
            let lower = (at, way) < (own_at, claim.way);
            if lower || !matches!(state.kind(), Kind::Claimed) {
                return Some(state);
            }
            if !place.swap_state(way, state, State(0)) {
                let state = place.state(way);
                if state.is_free(now) == 0 && state.belongs_to(hash) {
                    return Some(state);
                }
            }
        }
        None
    }

    /// A free way: in the first place while it is not too full, else in the emptier one.
    #[inline(always)]
    fn free_way(&self, now: Tick) -> Option<(bool, usize)> {
        let first = free_mask(&self.first, now);
        let second = free_mask(&self.second, now);
        let first_free = ones(first);
        let in_second = first_free < WAYS as u32 - FIRST_PLACE_FILL && ones(second) > first_free;
        let mask = if in_second { second } else { first };
        if mask == 0 {
            return None;
        }
        let lowest = mask & mask.wrapping_neg();
        Some((in_second, ones(lowest - 1) as usize & (WAYS - 1)))
    }

    /// The way that a full pair of places gives away: the one of the most readily evicted class that
    /// expires first.
    #[inline(always)]
    fn victim(&self, now: Tick) -> Option<(bool, usize)> {
        let mut best = u32::MAX;
        let mut chosen = 0;
        let mut number = 0;
        while number < 2 * WAYS {
            let state = self.place(number >= WAYS).state(number % WAYS);
            if let Some(class) = state.eviction_class() {
                let rank = class << crate::tick::BITS | state.expiry().remaining(now);
                if rank < best {
                    best = rank;
                    chosen = number;
                }
            }
            number += 1;
        }
        if best == u32::MAX {
            None
        } else {
            Some((chosen >= WAYS, chosen % WAYS))
        }
    }

    #[inline(always)]
    fn place(&self, second: bool) -> &P {
        if second { &self.second } else { &self.first }
    }
}

/// A bit per way that a new flow may take.
#[inline(always)]
fn free_mask<P: Place>(place: &P, now: Tick) -> u32 {
    let mut mask = 0;
    let mut way = 0;
    while way < WAYS {
        mask |= place.state(way).is_free(now) << way;
        way += 1;
    }
    mask
}

/// Ones in the low eight bits; BPF has no instruction for it.
#[inline(always)]
const fn ones(bits: u32) -> u32 {
    let pairs = (bits & 0x55) + ((bits >> 1) & 0x55);
    let quads = (pairs & 0x33) + ((pairs >> 2) & 0x33);
    (quads & 0x0f) + (quads >> 4)
}
