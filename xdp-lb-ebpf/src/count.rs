//! Counters, one set per CPU: no atomics, no shared lines. A program that only looks counts nothing.

use aya_ebpf::bindings::xdp_action;
use xdp_lb_common::reason::{Event, Reason, Verdict};

use crate::conn::Route;
use crate::maps::{BACKEND_STATS, COUNTERS, SERVICE_STATS};
use crate::settings::is_dry;
use crate::watch;

/// Counts an exit of the program: every way out goes through here once.
#[inline(always)]
pub fn reason(reason: Reason) {
    exit(reason as u32);
}

/// [`reason`] by its number.
#[inline(always)]
fn exit(number: u32) {
    if !watch::leaves(number) {
        return;
    }
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // The compiler knows that reasons are below 64 and would leave the mask out, but the verifier of
        // Linux 6.1 forgets a number that was on the stack as 32 bits.
        let number = core::hint::black_box(number as usize) & 63;
        // SAFETY: this CPU's own copy; the reason's number is below the length of the array.
        unsafe { (*counters).reasons[number] += 1 };
    }
}

/// Counts the reason, and gives the action that belongs to it.
#[inline(always)]
pub fn and_act(result: Result<(Reason, u32), Reason>) -> u32 {
    match result {
        Ok((reason, action)) => leave(reason as u32, action),
        Err(reason) => leave(reason as u32, BY_REASON),
    }
}

/// The action is the reason's own.
const BY_REASON: u32 = u32::MAX;
/// A bit for each reason by which packets pass.
const PASSES: u64 = {
    let (mut bits, mut at) = (0, 0);
    while at < Reason::ALL.len() {
        if let Verdict::Pass = Reason::ALL[at].verdict() {
            bits |= 1 << at;
        }
        at += 1;
    }
    bits
};

/// See [`and_act`]. Global, so that the verifier walks it once and not once for every reason.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn leave(number: u32, action: u32) -> u32 {
    exit(number);
    if action != BY_REASON {
        return action;
    }
    if PASSES >> (number & 63) & 1 == 0 {
        xdp_action::XDP_DROP
    } else {
        xdp_action::XDP_PASS
    }
}

/// Counts something that happened on the way.
#[inline(always)]
pub fn event(event: Event) {
    if is_dry() {
        return;
    }
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: as in `reason`.
        unsafe { (*counters).events[event as usize & 15] += 1 };
    }
}

/// Counts a backend's reply that is sent on to a client.
#[inline(always)]
pub fn reply(service: u32, backend: u32, bytes: u64) {
    if is_dry() {
        return;
    }
    for stats in [
        SERVICE_STATS.get_ptr_mut(service),
        BACKEND_STATS.get_ptr_mut(backend),
    ] {
        let Some(stats) = stats else { continue };
        // SAFETY: this CPU's own copy.
        let stats = unsafe { &mut *stats };
        stats.reply_packets += 1;
        stats.reply_bytes += bytes;
    }
}

/// Counts a packet sent to a backend, before anything of it is changed.
#[inline(always)]
pub fn traffic(service: u32, route: Route, bytes: u64) {
    if !watch::goes(service, route) {
        return;
    }
    for stats in [
        SERVICE_STATS.get_ptr_mut(service),
        BACKEND_STATS.get_ptr_mut(route.backend()),
    ] {
        let Some(stats) = stats else { continue };
        // SAFETY: this CPU's own copy.
        let stats = unsafe { &mut *stats };
        stats.packets += 1;
        stats.bytes += bytes;
        stats.connections += route.opens();
    }
}
