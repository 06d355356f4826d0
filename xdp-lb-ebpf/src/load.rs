//! How many connections each backend has, and whether it takes more.

use xdp_lb_common::conn::State;
use xdp_lb_common::load::{Counts, Limits, Load, Seen, Standing, shift, word as at};

use crate::atomic;
use crate::maps::LOADS;

/// A word of a load, as it is at this moment.
#[inline(always)]
fn word(load: *mut Load, at: usize) -> u64 {
    // SAFETY: a map value of eight words; userspace and other CPUs change them whole.
    unsafe { load.cast::<u64>().add(at & 7).read_volatile() }
}

#[inline(always)]
fn set_word(load: *mut Load, at: usize, value: u64) {
    // SAFETY: as in `word`.
    unsafe { atomic::publish(load.cast::<u64>().add(at & 7), value) }
}

/// Counts a way of the connection table that went from one state to another. Global, so that the
/// verifier checks it once; returns nothing that matters.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_moved(old: u64, new: u64) -> u32 {
    let (old, new) = (State(old), State(new));
    match shift(old, new) {
        Some(by) => add(new, by),
        None => {
            add(old, old.counts().wrapping_neg());
            add(new, new.counts());
        }
    }
    0
}

/// Adds to the counts of a backend, unless it went on to another generation: then these connections
/// are void and count no more.
#[inline(always)]
fn add(state: State, by: u64) {
    if by == 0 {
        return;
    }
    let Some(load) = LOADS.get_ptr_mut(state.backend()) else {
        return;
    };
    let generation = state.generation();
    let standing = Standing::unpack(word(load, at::STANDING));
    if standing.generation != generation {
        return;
    }
    let of = at::counts(generation);
    // SAFETY: eight aligned bytes of a map value.
    let counts = Counts(unsafe { atomic::add(load.cast::<u64>().add(of & 1), by) });
    let limits = Limits::unpack(word(load, at::LIMITS));
    if limits.upper > 0 {
        weigh(load, limits, counts);
    }
}

/// Notes whether a backend is over its limits now.
#[inline(always)]
fn weigh(load: *mut Load, limits: Limits, counts: Counts) {
    let was = word(load, at::OVERLOADED) != 0;
    let is = limits.overloaded(was, counts.total());
    if is != was {
        set_word(load, at::OVERLOADED, is as u64);
    }
}

/// What a backend carries. One without a load looks as if it took nobody.
#[inline(always)]
pub fn seen(backend: u32) -> Seen {
    let Some(load) = LOADS.get_ptr_mut(backend) else {
        return Seen::default();
    };
    let standing = Standing::unpack(word(load, at::STANDING));
    let of = at::counts(standing.generation);
    let counts = Counts(word(load, of));
    let limits = Limits::unpack(word(load, at::LIMITS));
    let was = word(load, at::OVERLOADED) != 0;
    Seen {
        weight: standing.weight,
        counts,
        // Judged anew: two CPUs may have noted the contrary of each other.
        overloaded: limits.overloaded(was, counts.total()),
        member: word(load, at::MEMBER) != 0,
    }
}

/// Lets `lblcr` use a backend from here on.
#[inline(always)]
pub fn join(backend: u32) {
    if let Some(load) = LOADS.get_ptr_mut(backend) {
        set_word(load, at::MEMBER, 1);
    }
}
