//! A connection gets a way of the table: a new one, that of its predecessor, or its own once more.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::conn::state::sort;
use xdp_lb_common::conn::table::{Claim, Inserted};
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::opaque::blurred;
use xdp_lb_common::reason::Event;
use xdp_lb_common::tick::Tick;

use super::by_template;
use super::route::{Route, Via, backend_of};
use super::table::{
    claim, conn_claim, conn_publish, mark_overflow, places, publish, spot, write_info,
};
use crate::family::Family;
use crate::packet::{Frame, Packet};
use crate::settings::next_of_sort;
use crate::{count, persist, schedule, service};

/// Puts a connection into the table. One that finds no way goes by its template or consistent hash,
/// if there is any.
#[inline(always)]
pub fn insert<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    state: State,
    route: Route,
    now: Tick,
) -> Option<Route> {
    let inserted = conn_insert(hash, state.0, now.0);
    if inserted == 0 {
        mark_overflow(hash);
        persist::confirm_again(packet, service, route, now);
        // Not what the scheduler picked: the next packet, which asks again, must come to the same.
        return by_template(packet, service, now)
            .or_else(|| schedule::stateless(packet, service, hash));
    }
    match Inserted::unpack(inserted) {
        Inserted::Mine { index, .. } => {
            packet
                .flow
                .describe_conn(packet.ctx, service.index, index, now);
            Some(route)
        }
        Inserted::Other(other) => Some(backend_of(other, Via::Connection).unwrap_or(route)),
        Inserted::Lost => Some(route),
    }
}

/// Puts a connection into the table; 0 if it finds no way. Global and of numbers only, so that the
/// verifier checks it once and not once for every way a packet can get here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_insert(hash: u64, state: u64, now: u32) -> u64 {
    let Some(places) = places(hash) else {
        return 0;
    };
    let (state, now) = (State(state), Tick(now));
    let mut taken = 0;
    // Two attempts: the first may lose its way to another CPU.
    let mut attempt = 0;
    while attempt < 2 && taken == 0 {
        taken = Claim::pack(claim(&places, hash, state, now));
        attempt += 1;
    }
    let Some(claim) = Claim::unpack(blurred(taken, hash)) else {
        count::event(Event::NoWay);
        return 0;
    };
    let inserted = publish(&places, (&claim, taken), hash, state, now);
    match inserted {
        Inserted::Mine { evicted: true, .. } => count::event(Event::Evicted),
        Inserted::Mine { .. } => {}
        Inserted::Other(_) | Inserted::Lost => count::event(Event::RaceLost),
    }
    inserted.pack()
}

/// Gives the way of a connection's predecessor to it.
#[inline(always)]
pub fn overwrite<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
    state: State,
    route: Route,
    now: Tick,
) -> Route {
    let sort = sort(packet.flow.protocol(), packet.tcp_flags);
    let outcome = conn_overwrite(hash, state.0, now.0, sort);
    if let Some(other) = Route::found(outcome) {
        return other;
    }
    if let Some(index) = (outcome as u32).checked_sub(1) {
        packet
            .flow
            .describe_conn(packet.ctx, service.index, index, now);
    }
    route
}

/// Gives the way of a connection's predecessor to it, global as [`conn_insert`] is: the index of the way,
/// plus one; the route that another CPU gave to the connection, if one was first; 0 if the way went.
/// `sort` is the packet's, see [`sort`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_overwrite(hash: u64, state: u64, now: u32, sort: u32) -> u64 {
    let now = Tick(now);
    let Some(spot) = spot(hash, now) else {
        return 0;
    };
    if !spot.exists() {
        // It expired just now: the next packet finds none and takes a way.
        return 0;
    }
    let goes_on = next_of_sort(spot.state.kind_bits(), sort) != Kind::Free as u64;
    if let Some(other) = backend_of(spot.state, Via::Connection)
        && goes_on
    {
        // Another CPU gave the way to this connection already.
        count::event(Event::RaceLost);
        return other.word();
    }
    if spot.update(State(state)) {
        return spot.index as u64 + 1;
    }
    count::event(Event::RaceLost);
    Route::word_of(backend_of(spot.again(hash, now), Via::Connection))
}

/// Once more, for a connection that another CPU changed or evicted while it was being confirmed: this
/// packet goes to its server, so all later ones must. `when` is the service and, in the upper half, the
/// present. Global as [`conn_claim`] is; 1 if it had to be put back.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_confirm(
    ctx: *mut xdp_md,
    when: u64,
    hash: u64,
    state: u64,
    names: u64,
) -> u32 {
    confirm::<FlowV4>(ctx, when, hash, state, names)
}

/// [`conn_confirm`] of an IPv6 connection.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_confirm_v6(
    ctx: *mut xdp_md,
    when: u64,
    hash: u64,
    state: u64,
    names: u64,
) -> u32 {
    confirm::<FlowV6>(ctx, when, hash, state, names)
}

#[inline(always)]
fn confirm<F: Family>(ctx: *mut xdp_md, when: u64, hash: u64, state: u64, names: u64) -> u32 {
    count::event(Event::RaceLost);
    let (service, now) = (when as u32, Tick((when >> 32) as u32));
    let Some(spot) = spot(hash, now) else {
        return 0;
    };
    if spot.exists() {
        let wanted = State(state);
        if (spot.state.backend(), spot.state.generation())
            == (wanted.backend(), wanted.generation())
        {
            let _won = spot.update(wanted);
        }
        return 0;
    }
    let Ok(flow) = F::named(&Frame::new(ctx), names) else {
        return 0;
    };
    let claim = conn_claim(hash, state, now.0);
    if claim == 0 {
        return 0;
    }
    match Inserted::unpack(conn_publish(hash, state, claim, now.0)) {
        Inserted::Mine { index, .. } => {
            flow.describe_conn(ctx, service, index, now);
            1
        }
        Inserted::Other(_) | Inserted::Lost => 0,
    }
}

/// [`Family::describe_conn`] of IPv6: looks at the frame again, so that the addresses need no room on the
/// stack till here.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn conn_describe_v6(
    ctx: *mut xdp_md,
    service: u32,
    index: u32,
    now: u32,
    names: u64,
) -> u32 {
    let frame = Frame::new(ctx);
    match FlowV6::named(&frame, names) {
        Ok(flow) => {
            write_info(&frame, &flow, (service, index), Tick(now));
            1
        }
        Err(_) => 0,
    }
}
