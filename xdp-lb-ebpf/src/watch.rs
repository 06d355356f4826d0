//! What becomes of a packet, told to those who watch, or to whoever asked what would become of it.
//!
//! A program that is entered [`begin`]s with what came in; [`crate::count`] passes on where the packet
//! goes and why it leaves. While the program only forwards, the verifier takes out all of this but the
//! reading of a constant in each. (None of it is marked as cold: the loader links one section of
//! functions.)

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_get_prandom_u32, bpf_ktime_get_ns};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::watch::{Decision, FILTERS, MARK, NOBODY, mode};

use crate::conn::Route;
use crate::family::Family;
use crate::maps::{BACKENDS, DECISIONS, FILTER, NOTE, UNSHOWN};
use crate::packet::{Frame, Packet};
use crate::{parse, service, settings};

/// Looks at the frame of a context while it is as it came in.
#[inline(always)]
pub fn begin(ctx: *mut xdp_md) {
    if settings::mode() != mode::FORWARD {
        describe(ctx);
    }
}

/// The packet goes to a real server. Whether that is to be counted.
#[inline(always)]
pub fn goes(service: u32, route: Route) -> bool {
    settings::mode() == mode::FORWARD || placed(service, route.word()) != 0
}

/// The packet leaves, by the reason of this number. Whether that is to be counted.
#[inline(always)]
pub fn leaves(reason: u32) -> bool {
    settings::mode() == mode::FORWARD || decided(reason) != 0
}

/// What the program is about to decide, on this CPU.
#[inline(always)]
fn noted() -> Option<*mut Decision> {
    NOTE.get_ptr_mut(0)
}

/// 1 if what the program does counts, 0 if it only looks.
#[inline(always)]
fn counts() -> u32 {
    (settings::mode() != mode::DRY) as u32
}

/// Begins a decision with what a frame is. Global, as all here, so that the verifier checks it once;
/// returns nothing that matters.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn describe(ctx: *mut xdp_md) -> u32 {
    let Some(note) = noted() else { return 0 };
    let frame = Frame::new(ctx);
    // SAFETY: this CPU's own copy.
    let note = unsafe { &mut *note };
    *note = Decision {
        service: NOBODY,
        backend: NOBODY,
        ifindex: frame.ifindex(),
        ..Decision::default()
    };
    match parse::ipv4_first(&frame) {
        Ok(packet) => {
            let control = service::control().ok();
            if let Some(found) = control.and_then(|control| service::find(control, &packet)) {
                note.service = found.index;
            }
            set_flow(note, &packet);
        }
        Err(Reason::Ipv6) => {
            describe_v6(ctx);
        }
        Err(_) => {}
    }
    0
}

/// [`describe`] of an IPv6 frame.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn describe_v6(ctx: *mut xdp_md) -> u32 {
    let Some(note) = noted() else { return 0 };
    // SAFETY: this CPU's own copy.
    let note = unsafe { &mut *note };
    if let Ok(packet) = parse::ipv6_first(&Frame::new(ctx)) {
        let control = service::control().ok();
        if let Some(found) = control.and_then(|control| service::find_v6(control, &packet)) {
            note.service = found.index;
        }
        set_flow(note, &packet);
    }
    0
}

#[inline(always)]
fn set_flow<F: Family>(note: &mut Decision, packet: &Packet<F>) {
    let flow = &packet.flow;
    note.client = flow.client();
    note.vip = flow.vip();
    (note.client_port_be, note.vip_port_be) = flow.ports_be();
    note.protocol = flow.protocol();
    note.family = F::NUMBER;
}

/// [`goes`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn placed(service: u32, route: u64) -> u32 {
    let Some(note) = noted() else { return counts() };
    let route = Route::of(route);
    // SAFETY: this CPU's own copy.
    let note = unsafe { &mut *note };
    note.service = service;
    note.backend = route.backend();
    note.via = route.via() as u8;
    if let Some(backend) = BACKENDS.get_ptr(note.backend) {
        // SAFETY: a map value; a server that is replaced meanwhile is told as either.
        note.server = unsafe { (*backend).address };
    }
    counts()
}

/// [`leaves`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn decided(reason: u32) -> u32 {
    let Some(note) = noted() else { return counts() };
    // SAFETY: this CPU's own copy.
    let note = unsafe { &mut *note };
    // SAFETY: the helper takes no argument.
    note.time_ns = unsafe { bpf_ktime_get_ns() };
    note.reason = reason;
    note.mark = MARK;
    // Whoever asked reads it where it stands.
    if settings::mode() == mode::WATCHED {
        show();
    }
    counts()
}

/// Shows the decision to those who want to see it.
#[inline(always)]
fn show() {
    let mut filters = 0;
    let mut at = 0;
    while at < FILTERS {
        filters |= is_wanted(at) << at;
        at += 1;
    }
    if filters == 0 {
        return;
    }
    let Some(note) = noted() else { return };
    // SAFETY: this CPU's own copy.
    unsafe { (*note).filters = filters };
    // SAFETY: as above; the ring takes a copy.
    if DECISIONS.output::<Decision>(unsafe { &*note }, 0).is_err() {
        leave_out(filters);
    }
}

/// 1 if a filter wants the decision, and its sample is due, else 0.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_wanted(at: u32) -> u32 {
    let (Some(filter), Some(note)) = (FILTER.get(at & (FILTERS - 1)), noted()) else {
        return 0;
    };
    // SAFETY: this CPU's own copy.
    if !filter.wants(unsafe { &*note }) {
        return 0;
    }
    // SAFETY: the helper takes no argument and changes nothing but its own state.
    filter.samples(unsafe { bpf_get_prandom_u32() }) as u32
}

/// The ring is full.
#[inline(always)]
fn leave_out(filters: u32) {
    let Some(unshown) = UNSHOWN.get_ptr_mut(0) else {
        return;
    };
    let mut at = 0;
    while at < FILTERS as usize {
        // SAFETY: this CPU's own copy; the index is below the length.
        unsafe { (*unshown).by_filter[at & (FILTERS as usize - 1)] += (filters >> at & 1) as u64 };
        at += 1;
    }
}
