//! Direct routing: the frame goes to the real server as it is, but for its MACs and TTL. For servers
//! that need more, other programs go on: [`crate::tunnel`] and [`crate::nat`].

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_check_mtu;
use xdp_lb_common::addr::Mac;
use xdp_lb_common::backend::{BACKEND_LOCAL, BACKEND_NAT, BACKEND_TUNNEL, Backend, Identity};
use xdp_lb_common::decided::LATER;
use xdp_lb_common::reason::Reason;
use xdp_lb_common::vlan;

use crate::conn::{Target, identity};
use crate::decided::Noted;
use crate::family::Family;
use crate::maps::TX_PORTS;
use crate::packet::{Frame, Packet};
use crate::parse::ETHERNET;
use crate::{count, decided, service, tagged};

/// Sends a packet to its real server.
#[inline(always)]
pub fn send<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    control: service::Words,
    Target { route, backend }: Target,
) -> Result<(Reason, u32), Reason> {
    let identity = identity(backend);
    let special = identity.flags() & (BACKEND_LOCAL | BACKEND_TUNNEL | BACKEND_NAT);
    let is_local = special & BACKEND_LOCAL != 0;
    if packet.ttl <= 1 && !is_local {
        return Err(Reason::TtlExpired);
    }
    if packet.len > control.smallest_mtu() && special & (BACKEND_LOCAL | BACKEND_TUNNEL) == 0 {
        // SAFETY: a map value, see below.
        let ifindex = unsafe { (*backend).ifindex };
        if is_too_long(frame.context(), ifindex, packet.len) != 0 {
            return Err(Reason::TooBig);
        }
    }
    count::traffic(service.index, route, packet.len as u64);
    if special != 0 {
        if is_local {
            return Err(Reason::Local);
        }
        decided::note(packet, route, service.index, special);
        // The entry goes on; it has the context that a tail call takes.
        return Err(Reason::NoProgram);
    }
    rewrite(frame, packet, backend, identity)?;
    // SAFETY: a map value. While a server moves to another interface, a packet may meet the old one
    // with the new MAC; the network drops it, as it would have a moment before.
    let ifindex = unsafe { (*backend).ifindex };
    out(frame, ifindex, route.via())
}

/// 1 if a packet of `len` octets is longer than the MTU of the interface that it is to leave by; the MTU is
/// noted. Global, so that what is for few packets lies apart.
///
/// A packet that is longer than the MTU of the interface it came in by was never on a wire: offloading put
/// segments together, and takes them apart again as they leave.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_too_long(ctx: *mut xdp_md, ifindex: u32, len: u32) -> u32 {
    // The helper takes the length of the packet here, and leaves the MTU.
    let mut mtu = len;
    // SAFETY: `mtu` outlives the call. Neither the frame nor pointers into it are changed.
    let is_short = unsafe { bpf_check_mtu(ctx.cast(), ifindex, &raw mut mtu, 0, 0) } <= 0;
    if is_short || is_put_together(ctx, len) != 0 {
        return 0;
    }
    decided::note_mtu(mtu as u16);
    1
}

/// 1 if a packet of `len` octets is longer than the MTU of the interface that it came in by. Global as
/// [`is_too_long`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn is_put_together(ctx: *mut xdp_md, len: u32) -> u32 {
    let mut own = len;
    // SAFETY: as in `is_too_long`; 0 is the interface that it came in by.
    (unsafe { bpf_check_mtu(ctx.cast(), 0, &raw mut own, 0, 0) } > 0) as u32
}

/// Sends a frame that is finished to its real server; `via` tells how that was found.
#[inline(always)]
fn out(frame: &Frame, ifindex: u32, via: u32) -> Result<(Reason, u32), Reason> {
    leave(frame, ifindex, reason(TX, via), reason(REDIRECT, via))
}

/// [`out`], for what was noted.
#[inline(always)]
pub fn out_noted(frame: &Frame, ifindex: u32, noted: &Noted) -> Result<(Reason, u32), Reason> {
    let via = noted.route.via();
    let (tx, redirect) = match noted.special {
        0 => (reason(TX, via), reason(REDIRECT, via)),
        LATER => (Reason::TxFragment, Reason::RedirectFragment),
        _error => (Reason::TxIcmp, Reason::RedirectIcmp),
    };
    leave(frame, ifindex, tx, redirect)
}

/// Sends a frame that is finished out of an interface; of one that is a VLAN, with its tags out of the
/// interface below it.
#[inline(always)]
pub fn leave(
    frame: &Frame,
    ifindex: u32,
    tx: Reason,
    redirect: Reason,
) -> Result<(Reason, u32), Reason> {
    if ifindex == frame.ifindex() {
        return Ok((tx, xdp_action::XDP_TX));
    }
    let ifindex = match tagged::vlan_of(ifindex) {
        0 => ifindex,
        network if tagged::push(frame.context(), network) == 0 => {
            return Ok((Reason::NoHeadroom, xdp_action::XDP_DROP));
        }
        network if vlan::parent(network) == frame.ifindex() => {
            return Ok((tx, xdp_action::XDP_TX));
        }
        network => vlan::parent(network),
    };
    match TX_PORTS.redirect(ifindex, 0) {
        Ok(action) => Ok((redirect, action)),
        Err(_) => Ok((Reason::RedirectFailed, xdp_action::XDP_DROP)),
    }
}

/// Reasons by how the route was found.
const TX: [Reason; 4] = [
    Reason::TxConnection,
    Reason::TxScheduled,
    Reason::TxPersistent,
    Reason::TxStateless,
];
const REDIRECT: [Reason; 4] = [
    Reason::RedirectConnection,
    Reason::RedirectScheduled,
    Reason::RedirectPersistent,
    Reason::RedirectStateless,
];

#[inline(always)]
fn reason(by_via: [Reason; 4], via: u32) -> Reason {
    match via & 3 {
        0 => by_via[0],
        1 => by_via[1],
        2 => by_via[2],
        _ => by_via[3],
    }
}

/// Writes both MACs and lowers the TTL, as IPVS does.
#[inline(always)]
fn rewrite<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    backend: *const Backend,
    identity: Identity,
) -> Result<(), Reason> {
    // The frame anew: the verifier then has nothing to tell apart by what was read of it.
    let frame = &Frame::new(frame.context());
    if !frame.holds(0, ETHERNET + F::HEADER) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: a map value; userspace changes the word whole while packets read.
    let source = Mac(unsafe { (&raw const (*backend).source_mac).read_volatile() });
    // SAFETY: the two headers lie within the frame, checked above.
    unsafe {
        write_macs(frame, identity.mac(), source);
        F::lower_hops(frame, packet.ttl - 1);
    }
    Ok(())
}

/// Writes both MACs.
///
/// # Safety
/// As [`Frame::write`], for the first 12 octets.
#[inline(always)]
pub unsafe fn write_macs(frame: &Frame, destination: Mac, source: Mac) {
    // SAFETY: as the caller checked.
    unsafe {
        frame.write(0, destination.0 | source.0 << 48);
        frame.write(8, (source.0 >> 16) as u32);
    }
}
