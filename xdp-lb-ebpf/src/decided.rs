//! What the entry decided about a packet, for the program that it goes on to by a tail call.

use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::Address;
use xdp_lb_common::backend::{BACKEND_NAT, Backend, Identity};
use xdp_lb_common::hashed::folded;
use xdp_lb_common::method::{Method, source_port_be};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::stage;

use crate::conn::{Route, identity};
use crate::family::Family;
use crate::maps::{BACKENDS, DECIDED, STAGES};
use crate::packet::{Frame, Packet};

/// Notes where a packet goes, for [`go_on`].
#[inline(always)]
pub fn note<F: Family>(packet: &Packet<F>, route: Route, service: u32, flags: u8) {
    let Some(decided) = DECIDED.get_ptr_mut(0) else {
        return;
    };
    let client = folded(packet.flow.client().words_be, 0) as u64;
    let vip = folded(packet.flow.vip().words_be, 0) as u64;
    let (from_be, to_be) = packet.flow.ports_be();
    let ports = from_be as u32 | (to_be as u32) << 16;
    let stage = if flags & BACKEND_NAT != 0 {
        stage::NAT
    } else {
        stage::FORWARD
    };
    // Field by field: of a whole value the compiler makes a loop over octets.
    // SAFETY: this CPU's own copy, and nothing interrupts a program of this CPU with another one of
    // the same kind.
    unsafe {
        (*decided).route = route.word();
        (*decided).service = service;
        (*decided).stage = stage.index;
        (*decided).source_port_be = source_port_be(vip << 32 | client, ports);
        (*decided).special = 0;
    }
}

/// Goes on to the program that does what was noted; returns if there is none.
#[inline(always)]
pub fn go_on(ctx: &XdpContext) {
    let Some(decided) = DECIDED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own copy.
    let stage = unsafe { (*decided).stage };
    // Calls with constants: the kernel makes plain jumps of those.
    if stage == stage::ANSWER.index {
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(ctx, stage::ANSWER.index) };
    } else if stage == stage::NAT.index {
        // SAFETY: as above.
        unsafe { STAGES.tail_call(ctx, stage::NAT.index) };
    } else {
        // SAFETY: as above.
        unsafe { STAGES.tail_call(ctx, stage::FORWARD.index) };
    }
}

/// Notes what is out of the ordinary about a packet, see [`Decided::special`].
#[inline(always)]
pub fn note_special(special: u32) {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy.
        unsafe { (*decided).special = special };
    }
}

/// [`go_on`] with an ICMP error, which quotes a packet.
#[inline(always)]
pub fn go_on_with_error(ctx: &XdpContext) {
    let Some(decided) = DECIDED.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: this CPU's own copy.
    let stage = unsafe { (*decided).stage };
    if stage == stage::NAT.index {
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(ctx, stage::NAT_ERROR.index) };
    } else {
        // SAFETY: as above.
        unsafe { STAGES.tail_call(ctx, stage::FORWARD.index) };
    }
}

/// What was noted, and the backend that it leads to.
pub struct Noted {
    /// Where the packet goes.
    pub route: Route,
    /// Index of its service.
    pub service: u32,
    /// UDP source port for a tunnel.
    pub source_port_be: u16,
    /// See [`Decided::special`].
    pub special: u32,
    /// The backend.
    pub backend: *const Backend,
    /// Its identity at this moment.
    pub identity: Identity,
    /// How packets get there at this moment.
    pub method: Method,
}

/// Reads what was noted.
#[inline(always)]
pub fn noted() -> Result<Noted, Reason> {
    let decided = DECIDED.get_ptr_mut(0).ok_or(Reason::Inconsistent)?;
    // SAFETY: this CPU's own copy.
    let (word, service, source_port_be, special) = unsafe {
        (
            (*decided).route,
            (*decided).service,
            (*decided).source_port_be,
            (*decided).special,
        )
    };
    let route = Route::of(word);
    let backend = BACKENDS
        .get_ptr(route.backend())
        .ok_or(Reason::Inconsistent)?;
    // SAFETY: a map value; userspace changes the word whole while packets read.
    let method = Method(unsafe { (&raw const (*backend).method).read_volatile() });
    Ok(Noted {
        route,
        service,
        source_port_be,
        special,
        backend,
        identity: identity(backend),
        method,
    })
}

/// Notes the network of a frame whose tags were taken off; 0 when that is over.
#[inline(always)]
pub fn note_network(ifindex: u32) {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy.
        unsafe { (*decided).network = ifindex };
    }
}

/// Index of the interface that is the network which a frame came from: the VLAN's if it had tags.
#[inline(always)]
pub fn network(frame: &Frame) -> u32 {
    match DECIDED.get_ptr(0) {
        // SAFETY: this CPU's own copy.
        Some(decided) => match unsafe { (*decided).network } {
            0 => frame.ifindex(),
            network => network,
        },
        None => frame.ifindex(),
    }
}

/// What comes next is no answer yet.
#[inline(always)]
pub fn begin() {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy.
        unsafe { (*decided).answered = 0 };
    }
}

/// Whether what leaves is an answer, since [`begin`].
#[inline(always)]
pub fn is_answer() -> bool {
    match DECIDED.get_ptr(0) {
        // SAFETY: this CPU's own copy.
        Some(decided) => unsafe { (*decided).answered != 0 },
        None => false,
    }
}

/// Whether a sender is told of this.
#[inline(always)]
pub fn is_told(why: Reason) -> bool {
    matches!(
        why,
        Reason::TtlExpired | Reason::NoRealServer | Reason::TooBig
    )
}

/// Notes what a packet's sender is to be told, for [`go_on`].
#[inline(always)]
pub fn note_why(why: Reason) {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy, as all here.
        unsafe {
            (*decided).stage = stage::ANSWER.index;
            (*decided).why = why as u32;
            (*decided).has_source = 0;
        }
    }
}

/// Notes for what reason an ICMP error leaves that is about no tunnel's packet either.
#[inline(always)]
pub fn note_unless(why: Reason) {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: as in `note_why`.
        unsafe { (*decided).why = why as u32 };
    }
}

/// What [`note_unless`] noted: one of the two reasons that there are.
#[inline(always)]
pub fn unless() -> Reason {
    match DECIDED.get_ptr(0) {
        // SAFETY: as in `note_why`.
        Some(decided) if unsafe { (*decided).why } == Reason::NoService as u32 => Reason::NoService,
        _ => Reason::IcmpUnknown,
    }
}

/// [`note_why`] for the packet of a server that answers from a VIP, see [`note_source`].
#[inline(always)]
pub fn note_why_from(why: Reason) {
    note_why(why);
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: as in `note_why`.
        unsafe { (*decided).has_source = 1 };
    }
}

/// Has the sender of a packet told that it goes nowhere; returns if nobody is told of that.
#[inline(always)]
pub fn told<T: Copy>(ctx: &XdpContext, result: Result<T, Reason>) -> Result<T, Reason> {
    if let Err(why) = result
        && is_told(why)
    {
        note_why(why);
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(ctx, stage::ANSWER.index) };
    }
    result
}

/// [`told`] for the packet of a server that answers from a VIP: that is where the sender is told from.
#[inline(always)]
pub fn told_from(
    ctx: &XdpContext,
    result: Result<(Reason, u32), Reason>,
) -> Result<(Reason, u32), Reason> {
    if let Err(why) = result
        && is_told(why)
    {
        note_why_from(why);
        // SAFETY: as in `told`.
        unsafe { STAGES.tail_call(ctx, stage::ANSWER.index) };
    }
    result
}

/// Notes from which address the sender of a packet is told of it.
#[inline(always)]
pub fn note_source(source: Address) {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: as in `note_why`.
        unsafe { (*decided).source = source };
    }
}

/// Notes the size that a packet may have, for whoever tells its sender.
#[inline(always)]
pub fn note_mtu(mtu: u16) {
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy.
        unsafe { (*decided).mtu = mtu };
    }
}
