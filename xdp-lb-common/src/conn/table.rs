//! Lookup and insertion over the two places of a flow.
//!
//! Written once over the trait [`Place`]; the packet path implements it over map memory, userspace
//! over the mapped table, tests over atomics.

pub use super::found::Found;
use super::state::{Kind, NEVER_EVICTED, State};
use crate::hash::same_key;
use crate::limits::WAYS;
use crate::opaque::{blurred, hidden};
use crate::tick::Tick;

/// Ticks after which a claim that was never published is free again. A CPU publishes within
/// nanoseconds of claiming; only one that was stopped in between takes longer, and it then notices.
pub const CLAIM_TICKS: u32 = 4;

/// Ways of the first place that are taken before the emptier place is preferred: flows found in their
/// first place cost one memory access less, and below this load balance does not suffer.
pub const FIRST_PLACE_FILL: u32 = 4;

/// Other ways with the same key that an insertion looks at; more than one needs several CPUs that
/// insert the same flow at once.
const MAX_RIVALS: u32 = 3;

/// No number of a way.
const NO_WAY: u32 = u32::MAX;

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
    /// Told by the one CPU that changed a way so: connections are counted here. Changes of the expiry
    /// alone are told too.
    #[inline(always)]
    fn moved(&self, _old: State, _new: State) {}
}

/// Replaces the state of a way and has the change counted; whether it was `old`.
#[inline(always)]
pub fn change<P: Place>(place: &P, way: usize, old: State, new: State) -> bool {
    let won = place.swap_state(way, old, new);
    if won {
        place.moved(old, new);
    }
    won
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

/// A way taken but not yet published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whether it lies in the second place.
    pub in_second: bool,
    /// Way within the place.
    pub way: usize,
    /// Whether a live entry was evicted for it.
    pub evicted: bool,
}

impl Claim {
    const SOME: u64 = 1 << 7;

    /// A claim, or none, as one word: functions that the verifier checks on their own return nothing
    /// larger.
    #[inline(always)]
    pub const fn pack(claim: Option<Self>) -> u64 {
        match claim {
            None => 0,
            Some(c) => {
                Self::SOME | (c.evicted as u64) << 4 | (c.in_second as u64) << 3 | c.way as u64
            }
        }
    }

    /// From one word.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Option<Self> {
        if word == 0 {
            return None;
        }
        let way = word as usize & (WAYS - 1);
        Some(Self {
            in_second: word & 8 != 0,
            way,
            evicted: word & 16 != 0,
        })
    }
}

/// The state of a way that is claimed for a flow.
#[inline(always)]
const fn claimed(state: State, now: Tick) -> State {
    state.with(Kind::Claimed, now.after(CLAIM_TICKS))
}

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The flow is in the table, in the way of this index.
    Mine {
        /// Index of the way.
        index: u32,
        /// Whether a live entry was evicted for it.
        evicted: bool,
    },
    /// Another CPU was first: the flow is in the table with this state (its expiry is not told).
    Other(State),
    /// The way was lost to another CPU and the flow is not in the table.
    Lost,
}

impl Inserted {
    const MINE: u64 = 1 << 62;
    const OTHER: u64 = 2 << 62;
    const LOST: u64 = 3 << 62;
    const EVICTED: u64 = 1 << 61;
    /// A state word without its expiry.
    const STATE: u64 = (1 << 40) - 1;

    /// As one word, see [`Claim::pack`].
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        match self {
            Self::Mine { index, evicted } => {
                Self::MINE | index as u64 | if evicted { Self::EVICTED } else { 0 }
            }
            Self::Other(state) => Self::OTHER | state.0 & Self::STATE,
            Self::Lost => Self::LOST,
        }
    }

    /// From one word.
    #[inline(always)]
    pub const fn unpack(word: u64) -> Self {
        match word & Self::LOST {
            Self::MINE => Self::Mine {
                index: word as u32,
                evicted: word & Self::EVICTED != 0,
            },
            Self::OTHER => Self::Other(State(word & Self::STATE)),
            _ => Self::Lost,
        }
    }
}

/// The way of `hash` in one place, read so that state and key belong together; state 0 if there is
/// none. Expired ways do not count, nor do claims.
#[inline(always)]
pub fn find_in<P: Place>(place: &P, hash: u64, now: Tick) -> (usize, State) {
    let mut way = 0;
    while way < WAYS {
        if place.key(way) == hash {
            let state = place.state(way);
            let live = (state.is_free(now) | state.is_claimed()) == 0;
            if live && state.belongs_to(hash) && place.key(way) == hash {
                return (blurred(way as u64, hash) as usize, state);
            }
        }
        way += 1;
    }
    (0, State(0))
}

impl<P: Place> Places<P> {
    /// The live way of a flow.
    #[inline(always)]
    pub fn find(&self, hash: u64, now: Tick) -> Found {
        let (way, state) = find_in(&self.first, hash, now);
        if state.0 != 0 {
            return Found {
                in_second: false,
                way,
                state,
            };
        }
        let (way, state) = find_in(&self.second, hash, now);
        Found {
            in_second: state.0 != 0,
            way,
            state,
        }
    }

    /// Changes the state of a way that was found; whether nobody else did meanwhile.
    #[inline(always)]
    pub fn update(&self, found: &Found, new: State) -> bool {
        change(self.place(found.in_second), found.way, found.state, new)
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
    /// entries that must stay, or when another CPU took the chosen way first: a second attempt tells.
    /// [`Self::publish`] makes the way visible.
    #[inline(always)]
    pub fn claim(&self, hash: u64, state: State, now: Tick) -> Option<Claim> {
        self.claim_by(hash, (state, now), || self.victim(now))
    }

    /// [`Self::claim`] with a function of the caller's own for what only a flow without a free way needs,
    /// see [`Self::victim`].
    #[inline(always)]
    pub fn claim_by(
        &self,
        hash: u64,
        (state, now): (State, Tick),
        victim: impl Fn() -> u32,
    ) -> Option<Claim> {
        let free = self.free_way(hash, now);
        let evicted = free == NO_WAY;
        let number = if evicted { victim() } else { free };
        if number == NO_WAY {
            return None;
        }
        let (in_second, way) = numbered(number & (2 * WAYS as u32 - 1));
        let place = self.place(in_second);
        let old = place.state(way);
        let may_go = old.is_free(now) == 1 || (evicted && old.eviction_rank(now) < NEVER_EVICTED);
        if may_go && change(place, way, old, claimed(state, now)) {
            let key = place.key(way);
            if place.swap_key(way, key, hash) {
                return Some(Claim {
                    in_second,
                    way,
                    evicted,
                });
            }
        }
        None
    }

    /// Makes a claim visible, unless another CPU has the flow. `state` and `now` are those of the
    /// claim. The caller writes the cold data afterwards; whoever reads it checks that it belongs to
    /// the key.
    #[inline(always)]
    pub fn publish(&self, claim: &Claim, hash: u64, state: State, now: Tick) -> Inserted {
        let strongest = |rivals| self.strongest(rivals, claim, hash, now);
        self.publish_by(claim, hash, (state, now), strongest)
    }

    /// [`Self::publish`] with a function of the caller's own for what is hardly ever done, see
    /// [`Self::strongest`].
    #[inline(always)]
    pub fn publish_by(
        &self,
        claim: &Claim,
        hash: u64,
        (state, now): (State, Tick),
        strongest: impl Fn(u32) -> State,
    ) -> Inserted {
        let mine = self.place(claim.in_second);
        let claimed = claimed(state, now);
        let mut attempt = 0;
        while attempt < 2 {
            let rivals = self.rivals(claim, hash);
            if rivals != 0 {
                let other = strongest(rivals);
                if other.0 != 0 {
                    let _released = mine.swap_state(claim.way, claimed, State(0));
                    return Inserted::Other(other);
                }
            }
            if change(mine, claim.way, claimed, state) {
                let index = self.index(claim.in_second, claim.way);
                return Inserted::Mine {
                    index,
                    evicted: claim.evicted,
                };
            }
            // A rival in a lower position took the claim away: it is to be found now.
            attempt += 1;
        }
        Inserted::Lost
    }

    /// A bit for each other way with the same key.
    #[inline(always)]
    fn rivals(&self, claim: &Claim, hash: u64) -> u32 {
        let same = same_keys(&self.first, hash) | same_keys(&self.second, hash) << WAYS;
        same & !self.own(claim)
    }

    /// The state of the winner among some rivals and a claim; 0 if the claim wins. A rival that is published
    /// wins, and so does a claim in a lower position; a claim in a higher position is put out of the race.
    /// (The claims above that one see this claim below them, and yield.)
    #[inline(always)]
    pub fn strongest(&self, rivals: u32, claim: &Claim, hash: u64, now: Tick) -> State {
        let mut others = rivals;
        let mut lowest = NO_WAY;
        let mut claimed = State(0);
        let mut seen = 0;
        while others != 0 && seen < MAX_RIVALS {
            let number = ones((others & others.wrapping_neg()) - 1) & (2 * WAYS as u32 - 1);
            others &= others - 1;
            seen += 1;
            let state = self.rival_state(number, hash, now);
            if state.0 == 0 {
                continue;
            }
            if state.is_claimed() == 0 {
                return state;
            }
            if lowest == NO_WAY {
                (lowest, claimed) = (number, state);
            }
        }
        if lowest == NO_WAY {
            return State(0);
        }
        let (in_second, way) = numbered(lowest);
        if self.index(in_second, way) < self.index(claim.in_second, claim.way) {
            return claimed;
        }
        if self.place(in_second).swap_state(way, claimed, State(0)) {
            return State(0);
        }
        // Its CPU published it meanwhile, and then it wins; or gave it up for this one.
        let state = self.rival_state(lowest, hash, now);
        if state.0 != 0 && state.is_claimed() == 0 {
            state
        } else {
            State(0)
        }
    }

    /// The state of a way that bore the key of `hash` a moment ago, 0 unless it is the flow's. While a
    /// CPU takes the way from this flow, or for it, the key is one flow's and the state another's:
    /// the check bits tell, and the key once more for a way that changed hands altogether.
    #[inline(always)]
    fn rival_state(&self, number: u32, hash: u64, now: Tick) -> State {
        let (in_second, way) = numbered(number);
        let place = self.place(in_second);
        let state = place.state(way);
        if state.is_free(now) == 0 && state.belongs_to(hash) && place.key(way) == hash {
            state
        } else {
            State(0)
        }
    }

    /// The bits of a claim's own way: two if both places are the same.
    #[inline(always)]
    fn own(&self, claim: &Claim) -> u32 {
        let way = 1 << claim.way;
        match (self.first_at == self.second_at, claim.in_second) {
            (true, _) => way | way << WAYS,
            (false, true) => way << WAYS,
            (false, false) => way,
        }
    }

    /// Number of a free way: in the first place while it is not too full, else in the emptier one. All ones
    /// for none.
    #[inline(always)]
    fn free_way(&self, hash: u64, now: Tick) -> u32 {
        let first = free_mask(&self.first, now);
        let first_free = ones(first);
        let mut chosen = first;
        if first_free < WAYS as u32 - FIRST_PLACE_FILL {
            let second = free_mask(&self.second, now);
            if ones(second) > first_free {
                chosen = second << WAYS;
            }
        }
        let chosen = blurred(chosen.into(), hash) as u32;
        if chosen == 0 {
            return NO_WAY;
        }
        let lowest = chosen & chosen.wrapping_neg();
        ones(lowest - 1)
    }

    /// Number of the way that a full pair of places gives away, the one of the lowest rank; those of the
    /// second place follow those of the first. All ones if all must stay.
    #[inline(always)]
    pub fn victim(&self, now: Tick) -> u32 {
        let mut best = u64::MAX >> 1;
        let mut number = 0;
        while number < 2 * WAYS {
            let state = self.place(number >= WAYS).state(number % WAYS);
            best = lesser(best, state.eviction_rank(now) << 4 | number as u64);
            number += 1;
        }
        if best >> 4 >= NEVER_EVICTED {
            NO_WAY
        } else {
            (best & 15) as u32
        }
    }

    #[inline(always)]
    fn place(&self, second: bool) -> &P {
        if second { &self.second } else { &self.first }
    }
}

/// Place and way of a number below 16.
#[inline(always)]
const fn numbered(number: u32) -> (bool, usize) {
    (number >= WAYS as u32, number as usize % WAYS)
}

/// A bit per way that bears a key, whatever its state. Without a branch, as nearly always there is
/// none.
#[inline(always)]
fn same_keys<P: Place>(place: &P, hash: u64) -> u32 {
    let mut mask = 0;
    let mut way = 0;
    while way < WAYS {
        mask |= same_key(place.key(way), hash) << way;
        way += 1;
    }
    mask
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

/// The lesser of two numbers below 2^63, without a branch: the verifier would walk both arms of all
/// sixteen comparisons.
#[inline(always)]
fn lesser(a: u64, b: u64) -> u64 {
    let a_is_less = hidden((a.wrapping_sub(b) as i64 >> 63) as u64);
    b ^ ((a ^ b) & a_is_less)
}

/// Ones in the low sixteen bits; BPF has no instruction for it.
#[inline(always)]
const fn ones(bits: u32) -> u32 {
    let pairs = (bits & 0x5555) + ((bits >> 1) & 0x5555);
    let quads = (pairs & 0x3333) + ((pairs >> 2) & 0x3333);
    let octets = (quads & 0x0f0f) + ((quads >> 4) & 0x0f0f);
    (octets & 0xff) + (octets >> 8)
}
