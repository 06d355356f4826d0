//! What stands in the connection table, found by a call: [`Places::find`] has an exit for each way of
//! two places, and the verifier would walk all that follows once for each. (The entry has it inline, as
//! the packets of known connections are to be fast.)
//!
//! [`Places::find`]: xdp_lb_common::conn::table::Places::find

use xdp_lb_common::conn::State;
use xdp_lb_common::conn::table::Found;
use xdp_lb_common::hash::{first_place, second_place};
use xdp_lb_common::limits::WAYS;
use xdp_lb_common::tick::Tick;

use crate::conn::places;
use crate::settings::CONN_MASK;

/// The live way of a hash.
#[inline(always)]
pub fn find(hash: u64, now: Tick) -> Found {
    Found::unpack(conn_find(hash, now.0), hash)
}

/// See [`find`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_find(hash: u64, now: u32) -> u64 {
    match places(hash) {
        Some(places) => places.find(hash, Tick(now)).pack(),
        None => 0,
    }
}

/// Index of a way that was found.
#[inline(always)]
pub fn index(hash: u64, found: &Found) -> u32 {
    let mask = CONN_MASK.load();
    let place = if found.in_second {
        second_place(hash, mask)
    } else {
        first_place(hash, mask)
    };
    place * WAYS as u32 + found.way as u32
}

/// Changes the state of a way that was found; whether nobody else did meanwhile.
#[inline(always)]
pub fn update(hash: u64, found: &Found, new: State) -> bool {
    conn_update(hash, found.pack(), new.0) != 0
}

/// See [`update`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_update(hash: u64, found: u64, new: u64) -> u32 {
    let Some(places) = places(hash) else { return 0 };
    places.update(&Found::unpack(found, hash), State(new)) as u32
}
