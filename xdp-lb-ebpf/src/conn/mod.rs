//! Where the connection of a packet goes: found here, else placed by [`mod@place`], which has it
//! [`insert`]ed into the [`table`]. The answer is a [`route`].

mod insert;
mod place;
mod route;
mod table;

use xdp_lb_common::addr::TCP;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::conn::state::{opens, tcp_next};
use xdp_lb_common::conn::table::{Found, Places};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::tick::Tick;

pub use self::insert::{conn_confirm, conn_confirm_v6, conn_describe_v6};
pub use self::place::{place, place_elsewhere, place_here};
use self::route::Packed;
pub use self::route::{Route, Via, backend, backend_of, identity};
use self::table::has_overflowed;
pub use self::table::{Counted, MapPlace, conn_claim, conn_publish, places, write_info};
use crate::family::Family;
use crate::packet::{Frame, Packet};
use crate::settings::expiry;
use crate::{lookup, persist, schedule, service};

/// Finds the connection, or places it.
#[inline(always)]
pub fn route<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Result<Route, Reason> {
    let hash = packet.flow.keyed_hash();
    let places = places(hash).ok_or(Reason::Inconsistent)?;
    let found = places.find(hash, now);
    if !found.exists() {
        return Packed(F::place(frame.context(), service.index, hash, now.0, 0)).unpack();
    }
    match backend_of(found.state, Via::Connection) {
        Some(route) => match next(found.state.kind(), packet) {
            Some(kind) => {
                if touch(frame, packet, service, (hash, &places, &found), kind, now) {
                    Ok(route.changing(kind))
                } else {
                    Ok(route)
                }
            }
            None => Packed(F::place(frame.context(), service.index, hash, now.0, 1)).unpack(),
        },
        None if is_midstream(packet) => Err(Reason::Purged),
        None => Packed(F::place(frame.context(), service.index, hash, now.0, 1)).unpack(),
    }
}

#[inline(always)]
fn is_midstream<F: Family>(packet: &Packet<F>) -> bool {
    packet.flow.protocol() == TCP && !opens(packet.tcp_flags)
}

/// The kind of a connection after a packet; `None` when the packet opens a new one.
#[inline(always)]
fn next<F: Family>(kind: Kind, packet: &Packet<F>) -> Option<Kind> {
    if packet.flow.protocol() == TCP {
        tcp_next(kind, packet.tcp_flags)
    } else {
        Some(Kind::Udp)
    }
}

/// Moves the expiry (at most once per tick) and the kind; whether there was anything to move. A lost
/// race is dropped: the winner wrote much the same, unless it took the way of a connection that this
/// packet confirms.
#[inline(always)]
fn touch<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    service: &service::Found,
    (hash, places, found): (u64, &Places<Counted>, &Found),
    kind: Kind,
    now: Tick,
) -> bool {
    let state = found.state.with(kind, expiry(kind, now));
    if state == found.state {
        return false;
    }
    if !places.update(found, state) && found.state.kind() != kind {
        F::confirm(frame.context(), service.index, hash, state.0, now.0);
    }
    if service.is_persistent() && kind > Kind::Closed {
        packet
            .flow
            .confirm_template(frame.context(), service.index, state.backend(), now.0);
    }
    true
}

/// Where the connection of a quoted packet goes, in the order of [`resumed`]. It takes no way, moves no
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
