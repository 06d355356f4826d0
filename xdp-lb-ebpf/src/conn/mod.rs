//! Where the connection of a packet goes: found here, else placed by [`mod@place`], which has it
//! [`insert`]ed into the [`table`]. The answer is a [`route`].

mod insert;
mod place;
mod route;
mod table;

use xdp_lb_common::conn::state::{midstream, tcp};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::tick::Tick;

pub use self::insert::{conn_confirm, conn_confirm_v6, conn_describe_v6};
use self::place::place_elsewhere;
pub use self::place::{noted, persist, place};
pub use self::route::{Route, Target, Via, backend, backend_of, identity, target_of};
pub use self::table::{MapPlace, conn_claim, conn_publish, places, spot, write_info};
use self::table::{Spot, expect_info, has_overflowed};
use crate::family::Family;
use crate::packet::{Frame, Packet};
use crate::settings::{expiry_of, next_kind};
use crate::{lookup, persist, schedule, service};

/// Finds the connection; one that is not found, or that begins anew, goes on to the program that places it.
#[inline(always)]
pub fn route<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Result<Target, Reason> {
    let hash = packet.flow.keyed_hash();
    // What opens a connection will need more of the memory than the search: have it come meanwhile.
    if packet.tcp_flags & (tcp::SYN | tcp::ACK) == tcp::SYN {
        expect_info(hash);
        if service.is_persistent() {
            persist::expect(packet, service);
        }
    }
    let spot = spot(hash, now).ok_or(Reason::Inconsistent)?;
    if !spot.exists() {
        return Err(place_elsewhere(frame, packet, service, (hash, false)));
    }
    let target = match target_of(spot.state, Via::Connection) {
        Some(target) => target,
        None if is_midstream(packet) => return Err(Reason::Purged),
        None => return Err(place_elsewhere(frame, packet, service, (hash, true))),
    };
    let kind = next_kind(
        spot.state.kind_bits(),
        packet.flow.protocol(),
        packet.tcp_flags,
    );
    if kind == Kind::Free as u64 {
        return Err(place_elsewhere(frame, packet, service, (hash, true)));
    }
    let state = spot.state.with_bits(kind, expiry_of(kind, now));
    if state == spot.state {
        return Ok(target);
    }
    touch(frame, packet, service, (hash, &spot, state), now);
    Ok(target.changing(kind))
}

#[inline(always)]
fn is_midstream<F: Family>(packet: &Packet<F>) -> bool {
    midstream(packet.flow.protocol(), packet.tcp_flags) != 0
}

/// Moves the expiry (at most once per tick) and the kind. A lost race is dropped: the winner wrote much the
/// same, unless it took the way of a connection that this packet confirms.
#[inline(always)]
fn touch<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    (hash, spot, state): (u64, &Spot, State),
    now: Tick,
) {
    let kind = state.kind_bits();
    if !spot.update(state) && spot.state.kind_bits() != kind {
        let when = service.index as u64 | (now.0 as u64) << 32;
        F::confirm(frame.context(), when, hash, state.0, packet.flow.names());
    }
    if service.is_persistent() && kind > Kind::Closed as u64 {
        packet
            .flow
            .confirm_template(frame.context(), service.index, state.backend(), now.0);
    }
}

/// Where the connection of a quoted packet goes, in the order of `resumed`. It takes no way, moves no
/// timer and schedules nothing: anybody can send an ICMP error.
#[inline(always)]
pub fn look_up<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Result<Route, Reason> {
    let hash = packet.flow.keyed_hash();
    let found = lookup::find(hash, now);
    if found.exists() {
        return backend_of(found.state, Via::Connection).ok_or(Reason::Purged);
    }
    match by_template(packet, service, now) {
        Some(route) => Ok(route),
        None if service.is_hashed() => {
            schedule::hashed(packet, service).ok_or(Reason::NoRealServer)
        }
        None if has_overflowed(hash) => {
            schedule::stateless(packet, service, hash).ok_or(Reason::NoRealServer)
        }
        None => Err(Reason::IcmpUnknown),
    }
}

/// Where the client's template says, if its service is persistent and it has one.
#[inline(always)]
fn by_template<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Option<Route> {
    if service.is_persistent() {
        persist::find(packet, service, now)
    } else {
        None
    }
}
