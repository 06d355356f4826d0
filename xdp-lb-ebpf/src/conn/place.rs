//! Where a packet without a connection goes, and that it has one from then on.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::TCP;
use xdp_lb_common::conn::state::{tcp, tcp_next};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::stage;
use xdp_lb_common::tick::Tick;

use super::insert::{insert, overwrite};
use super::route::{Packed, Route};
use super::table::{has_overflowed, places};
use super::{by_template, is_midstream};
use crate::family::Family;
use crate::maps::STAGES;
use crate::packet::{Frame, Packet};
use crate::persist::Placed;
use crate::settings::expiry;
use crate::{parse, persist, schedule, service};

/// Places a packet without a connection, or anew (`replace` is 1) over the way of one that is closing
/// or was purged; a [`Packed`]. A function of its own, so that the registers of the packets that have
/// a connection are not spilled for it, and global, so that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn place(ctx: *mut xdp_md, service: u32, hash: u64, now: u32, replace: u32) -> u64 {
    let packet = match parse::ipv4_first(&Frame::new(ctx)) {
        Ok(packet) => packet,
        Err(reason) => return Packed::new(Err(reason)).0,
    };
    let Some(service) = service::at(service) else {
        return Packed::new(Err(Reason::Inconsistent)).0;
    };
    Packed::new(place_in(&packet, &service, hash, Tick(now), replace != 0)).0
}

/// [`place`] of an IPv6 packet, which is a program of its own: the verifier grants a chain of calls no
/// more than 512 bytes of stack, and placing with two long addresses takes most of it.
#[inline(always)]
pub fn place_elsewhere(ctx: *mut xdp_md) -> u64 {
    // SAFETY: the program that it leads to takes the context over.
    unsafe { STAGES.tail_call(&XdpContext::new(ctx), stage::IPV6_NEW.index) };
    Packed::new(Err(Reason::Inconsistent)).0
}

/// Places a packet that [`route`] sent on by [`place_elsewhere`].
#[inline(always)]
pub fn place_here<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Result<Route, Reason> {
    let hash = packet.flow.keyed_hash();
    let found = places(hash).ok_or(Reason::Inconsistent)?.find(hash, now);
    place_in(packet, service, hash, now, found.exists())
}

#[inline(always)]
fn place_in<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    now: Tick,
    replace: bool,
) -> Result<Route, Reason> {
    let midstream = is_midstream(packet);
    let (placed, kind) = if !replace && midstream {
        let route = resumed(packet, service, hash, now)?;
        // Its last packets make it no more than what they leave behind.
        let kind = tcp_next(Kind::Established, packet.tcp_flags).unwrap_or(Kind::Established);
        (Placed { route, template: 0 }, kind)
    } else {
        let placed = schedule::place(packet, service, now).ok_or(Reason::NoRealServer)?;
        (placed, opening_kind(packet))
    };
    let route = placed.route;
    // A firewall mark may be on TCP as well, which is connections all the same.
    if service.is_one_packet() && packet.flow.protocol() != TCP {
        // Counted as opened, as IPVS counts it, and remembered by nothing but the client's template.
        describe_template(packet, service, &placed, now);
        persist::confirm_again(packet, service, route, now);
        return Ok(route.opening().changing(kind));
    }
    let state = State::new(
        hash,
        kind,
        route.backend(),
        route.generation(),
        expiry(kind, now),
    );
    let result = if replace {
        Ok(overwrite(packet, service, hash, state, route, now))
    } else {
        insert(packet, service, hash, state, route, now)
    };
    describe_template(packet, service, &placed, now);
    let route = result?.changing(kind);
    Ok(if midstream { route } else { route.opening() })
}

#[inline(always)]
fn describe_template<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    placed: &Placed,
    now: Tick,
) {
    if let Some(template) = placed.template.checked_sub(1) {
        persist::describe(packet, service, template, now);
    }
}

#[inline(always)]
fn opening_kind<F: Family>(packet: &Packet<F>) -> Kind {
    if packet.flow.protocol() == TCP {
        Kind::Syn
    } else {
        Kind::UdpNew
    }
}

/// A TCP packet in the middle of a connection that is not in the table: persistence may know where it
/// went, or the scheduler's hash of its client does; a connection that found no way went by consistent
/// hash; else the kernel resets it.
#[inline(always)]
fn resumed<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    now: Tick,
) -> Result<Route, Reason> {
    match by_template(packet, service, now) {
        Some(route) => {
            // As good a confirmation as that of a connection which has a way.
            let mask = service.get().client_mask;
            packet
                .flow
                .template_touch(service.index, mask, route.backend(), now.0);
            Ok(route)
        }
        None if service.is_hashed() && packet.tcp_flags & tcp::RST == 0 => {
            schedule::hashed(packet, service).ok_or(Reason::NoRealServer)
        }
        None if has_overflowed(hash) => {
            schedule::stateless(packet, service, hash).ok_or(Reason::NoRealServer)
        }
        None => Err(Reason::NoConnection),
    }
}
