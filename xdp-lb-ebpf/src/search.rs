//! The server of a list that costs least, and the first of a table that takes anybody.
//!
//! Lists are walked in steps of a few servers, each a call of a global function: the verifier walks
//! one step once, whatever the length of the list.

use xdp_lb_common::load::Cost;
use xdp_lb_common::opaque::hidden;
use xdp_lb_common::schedule::{SEARCH_STEP, SEARCHED};
use xdp_lb_common::service::Slots;

use crate::load::seen;
use crate::maps::SLOTS;

/// No position.
const NONE: u32 = u32::MAX;

/// The server of the list that costs least in this search, if any takes connections. Of a list longer
/// than a search, each `turn` looks at another part.
#[inline(always)]
pub fn cheapest(list: Slots, search: u32, turn: u64) -> Option<u32> {
    let parts = list.len.div_ceil(SEARCHED);
    let part = (turn as u32).checked_rem(parts).unwrap_or(0);
    let best = search_from(list.base, list.len, search, part * SEARCHED);
    if best == NONE {
        return None;
    }
    SLOTS.get(list.base.wrapping_add(best)).copied()
}

/// The position of the cheapest server from `first` on. Global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn search_from(base: u32, len: u32, search: u32, first: u32) -> u32 {
    let mut best = NONE;
    let mut from = 0;
    while from < SEARCHED {
        let next = first.wrapping_add(from);
        if next >= len {
            return best;
        }
        best = search_step(base, len, search, (next as u64) << 32 | best as u64);
        from += SEARCH_STEP;
    }
    best
}

/// The better one of the best so far and a few servers of a list; `at` is where they begin (upper
/// half) and the position of the best so far.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn search_step(base: u32, len: u32, search: u32, at: u64) -> u32 {
    let from = (at >> 32) as u32;
    let mut position = at as u32 as u64;
    let mut best = Cost::NONE;
    if position != NONE as u64 {
        best = cost(base.wrapping_add(position as u32), search);
    }
    let mut step = 0;
    while step < SEARCH_STEP {
        let next = from.wrapping_add(step);
        if next >= len {
            break;
        }
        let price = cost(base.wrapping_add(next), search);
        // Without a branch: the verifier would walk all that comes of each server being the best.
        let wins = hidden((price.is_below(best) as u64).wrapping_neg());
        position ^= (position ^ next as u64) & wins;
        best.cost ^= (best.cost ^ price.cost) & wins;
        best.per ^= (best.per ^ price.per) & wins as u32;
        step += 1;
    }
    position as u32
}

/// What the server of a slot costs, [`Cost::NONE`] if it is not to be picked.
#[inline(always)]
pub fn cost(slot: u32, search: u32) -> Cost {
    let packed = server_cost(slot, search);
    Cost {
        cost: packed >> 32,
        per: packed as u32,
    }
}

/// Cost (upper half) and weight of the server of a slot; [`Cost::NONE`] if it is not to be picked.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn server_cost(slot: u32, search: u32) -> u64 {
    let Some(backend) = SLOTS.get(slot) else {
        return Cost::NONE.cost << 32;
    };
    let Cost { cost, per } = seen(*backend).cost(search).unwrap_or(Cost::NONE);
    cost << 32 | per as u64
}

/// How far behind `start` the first entry of a table stands whose server takes connections, at most
/// [`SEARCHED`]: the next ones first, then some all over the table. `None` if none is among them.
#[inline(always)]
pub fn first_open(table: Slots, start: u32) -> Option<u32> {
    match open_from(table.base, table.len, start) {
        NONE => None,
        behind => Some(behind),
    }
}

/// As [`first_open`]. Global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_from(base: u32, len: u32, start: u32) -> u32 {
    let wide = (len / SEARCHED + 1) as u64;
    let mut from = 0;
    while from < SEARCHED {
        let stride = if from < SEARCHED / 2 { 1 } else { wide };
        let found = open_step(base, len, start, stride << 32 | from as u64);
        if found != NONE {
            return found;
        }
        from += SEARCH_STEP;
    }
    NONE
}

/// [`first_open`] for a few entries; `steps` is the stride (upper half) and how many strides were
/// made.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn open_step(base: u32, len: u32, start: u32, steps: u64) -> u32 {
    let (stride, from) = ((steps >> 32) as u32, steps as u32);
    let mut step = 0;
    while step < SEARCH_STEP {
        let behind = from.wrapping_add(step).wrapping_mul(stride);
        let at = start.wrapping_add(behind).checked_rem(len).unwrap_or(0);
        if slot_is_open(base.wrapping_add(at)) != 0 {
            return behind;
        }
        step += 1;
    }
    NONE
}

/// 1 if the server of a slot takes connections, else 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn slot_is_open(slot: u32) -> u32 {
    SLOTS
        .get(slot)
        .is_some_and(|backend| seen(*backend).takes()) as u32
}
