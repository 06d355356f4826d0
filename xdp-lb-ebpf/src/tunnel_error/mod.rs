//! ICMP errors about the packets of tunnels: a router on the way to a real server tells the director, whose
//! address these come from, that one was too long, or did not arrive. Who can do something about it is the
//! client. So it is told, as IPVS does, from the VIP and with what the router quotes of the packet in the
//! tunnel, an MTU less the tunnel's headers; the frame becomes that error, as in [`crate::answer`].
//!
//! A router must have quoted enough to know the connection by, behind the headers of the tunnel; and the table
//! must have that connection, with the real server that the quoted packet was for. Anything else passes.
//! The client is told by the route to it that the kernel has, else by the way that its packets came when the
//! connection was opened.
//!
//! [`mod@see`] reads what is quoted, [`mod@find`] has the connection; here its client is told.

mod find;
mod see;

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::{ICMP, ICMP_V6, Mac};
use xdp_lb_common::answer::TOS;
use xdp_lb_common::flow::{FlowInfo, FlowV4, FlowV6, WayBack};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::{relay, stage};

use self::find::{FOUND, info, tunnel_error_find, tunnel_error_find_v6};
use self::see::{Seen, tunnel_error_see, tunnel_error_see_v6};
use crate::answer::{Answer, Error, spend};
use crate::fragment::GO_ON;
use crate::icmp::{self, ICMP_LEN};
use crate::maps::STAGES;
use crate::packet::{Frame, Packet};
use crate::parse::{ETHERNET, IPV4_MIN, IPV6_LEN};
use crate::translate::Translate;
use crate::{count, decided, forward, parse, reply, service};

/// Tells the client of the ICMP error of a context, if it is about a tunnel; the action. In functions of
/// their own, so that each chain of calls has the whole stack.
#[inline(always)]
pub fn send(ctx: &XdpContext) -> u32 {
    let seen = if parse::is_v4(&Frame::new(ctx.ctx)) {
        tunnel_error_see(ctx.ctx)
    } else {
        tunnel_error_see_v6(ctx.ctx)
    };
    if seen == 0 {
        return others(ctx);
    }
    let is_v6 = Seen(seen).inner_v6();
    let found = if is_v6 {
        tunnel_error_find_v6(ctx.ctx, seen)
    } else {
        tunnel_error_find(ctx.ctx, seen)
    };
    let action = if found & FOUND == 0 {
        found as u32
    } else if is_v6 {
        tunnel_error_tell_v6(ctx.ctx, seen, found as u32)
    } else {
        tunnel_error_tell(ctx.ctx, seen, found as u32)
    };
    match action {
        GO_ON => others(ctx),
        action => action,
    }
}

/// An error that is about no tunnel: on to the program for those about what real servers got, or out.
#[inline(always)]
fn others(ctx: &XdpContext) -> u32 {
    let why = decided::unless();
    if let Reason::NoService = why
        && service::translates()
    {
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(ctx, stage::REPLY_ERROR.index) };
    }
    count::and_act(Err(why))
}

/// What differs between the families of what a tunnel carries.
trait Carried: Answer + Translate {
    /// Its protocol of errors.
    const ICMP: u8;
    /// The connection of the packet that is quoted: its client and its service.
    fn quoted(frame: &Frame, seen: Seen) -> Result<Self, Reason>;
    /// Octets of the packet whose header stands behind Ethernet's.
    fn len(frame: &Frame) -> Option<u32>;
    /// The connection that an entry describes.
    fn of(info: &FlowInfo) -> Self;
}

impl Carried for FlowV4 {
    const ICMP: u8 = ICMP;

    #[inline(always)]
    fn quoted(frame: &Frame, seen: Seen) -> Result<Self, Reason> {
        let message = frame.from(seen.inner_at().wrapping_sub(ICMP_LEN) & 0xff);
        Ok(icmp::quoted(&message, seen.quoted())?.turned())
    }

    #[inline(always)]
    fn len(frame: &Frame) -> Option<u32> {
        if !frame.holds(ETHERNET, IPV4_MIN) {
            return None;
        }
        // SAFETY: checked just now.
        Some(u16::from_be(unsafe { frame.read(ETHERNET + 2) }).into())
    }

    #[inline(always)]
    fn of(info: &FlowInfo) -> Self {
        reply::connection_v4(info)
    }
}

impl Carried for FlowV6 {
    const ICMP: u8 = ICMP_V6;

    #[inline(always)]
    fn quoted(frame: &Frame, seen: Seen) -> Result<Self, Reason> {
        let quote = frame.from(seen.inner_at());
        Ok(icmp::quoted_v6(&quote, seen.inner_at(), seen.quoted())?.turned())
    }

    #[inline(always)]
    fn len(frame: &Frame) -> Option<u32> {
        if !frame.holds(ETHERNET, IPV6_LEN) {
            return None;
        }
        // SAFETY: checked just now.
        let payload = u16::from_be(unsafe { frame.read(ETHERNET + 4) });
        Some(IPV6_LEN as u32 + payload as u32)
    }

    #[inline(always)]
    fn of(info: &FlowInfo) -> Self {
        reply::connection_v6(info)
    }
}

/// Tells the client of the error in a context, which is about the connection of an entry: the action, or
/// [`GO_ON`] if there is nothing to be told.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_tell(ctx: *mut xdp_md, seen: u64, index: u32) -> u32 {
    act(tell::<FlowV4>(ctx, Seen(seen), index))
}

/// [`tunnel_error_tell`] if the tunnel carries IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_tell_v6(ctx: *mut xdp_md, seen: u64, index: u32) -> u32 {
    act(tell::<FlowV6>(ctx, Seen(seen), index))
}

#[inline(always)]
fn act(told: Result<(Reason, u32), Reason>) -> u32 {
    match told {
        Err(Reason::IcmpUnknown) => GO_ON,
        told => count::and_act(told),
    }
}

#[inline(always)]
fn tell<F: Carried>(ctx: *mut xdp_md, seen: Seen, index: u32) -> Result<(Reason, u32), Reason> {
    let frame = Frame::new(ctx);
    let info = info(index)?;
    let flow = F::of(info);
    if !F::are_hosts(flow.client(), flow.vip()) {
        return Err(Reason::IcmpUnknown);
    }
    let len = F::len(&frame.from(seen.inner_at())).ok_or(Reason::IcmpUnknown)?;
    if (len as usize) < F::HEADER + ICMP_LEN {
        return Err(Reason::IcmpUnknown);
    }
    let error = Error {
        kind: seen.kind(),
        rest_be: rest::<F>(&frame, seen, len)?,
        reason: Reason::TxReply,
    };
    let way = WayBack::unpack(info.way_back);
    let tos = if F::ICMP == ICMP { TOS } else { 0 };
    let next = reply::own_next_hop(&frame, (F::ICMP, tos), &flow, &way)?;
    let (ifindex, mac) = next.ok_or(Reason::IcmpUnknown)?;
    spend()?;
    let quoted = seen.quoted() as u32;
    let packet = Packet {
        flow,
        tcp_flags: 0,
        ttl: 0,
        len: if len < quoted { len } else { quoted },
        source: mac,
        destination: Mac(service::mac_of(ifindex)),
        ctx,
    };
    // SAFETY: the kernel checks what it cuts; pointers into the frame are made anew below.
    if unsafe { bpf_xdp_adjust_head(ctx, seen.inner_at() as i32) } != 0 {
        return Err(Reason::Inconsistent);
    }
    F::error(&Frame::new(ctx), &packet, packet.flow.vip(), error)?;
    forward::leave(
        &Frame::new(ctx),
        ifindex,
        error.reason,
        Reason::RedirectReply,
    )
}

/// The second word of what the client is told: an MTU, if its packet of `len` octets was too long.
#[inline(always)]
fn rest<F: Carried>(frame: &Frame, seen: Seen, len: u32) -> Result<u32, Reason> {
    if seen.kind() != F::KINDS[2] {
        return Ok(0);
    }
    let message = frame.from(seen.outer_at().wrapping_sub(ICMP_LEN) & 0xff);
    if !message.holds(ETHERNET, ICMP_LEN) {
        return Err(Reason::IcmpUnknown);
    }
    // SAFETY: checked just now.
    let rest = u32::from_be(unsafe { message.read(ETHERNET + 4) });
    // Of IPv4 the upper half may have the length of what is quoted.
    let told = if seen.outer_v6() { rest } else { rest & 0xffff };
    let grows = (seen.inner_at() - seen.outer_at()) as u32;
    match tunnel_error_mtu(seen.0, told, len, grows) {
        0 => Err(Reason::IcmpUnknown),
        mtu => F::mtu(mtu, len).ok_or(Reason::IcmpUnknown),
    }
}

/// See [`relay::inner_mtu`]; 0 for none.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn tunnel_error_mtu(seen: u64, told: u32, len: u32, grows: u32) -> u32 {
    relay::inner_mtu(Seen(seen).outer_v6(), told, len, grows).unwrap_or(0)
}
