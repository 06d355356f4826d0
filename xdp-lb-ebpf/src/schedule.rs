//! Where a new connection goes.

use xdp_lb_common::select::slot;
use xdp_lb_common::service::Slots;
use xdp_lb_common::tick::Tick;

use crate::conn::{Route, Via, backend};
use crate::family::Family;
use crate::maps::{CURSORS, SLOTS};
use crate::packet::Packet;
use crate::persist::Placed;
use crate::{atomic, persist, service};

/// The backend of a new connection: by the client's persistence, else by the scheduler.
#[inline(always)]
pub fn place<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    now: Tick,
) -> Option<Placed> {
    if service.is_persistent() {
        persist::place(packet, service, now, || scheduled(service))
    } else {
        Some(Placed {
            route: scheduled(service)?,
            template: 0,
        })
    }
}

/// The next entry of the service's scheduling table.
#[inline(always)]
fn scheduled(service: &service::Found) -> Option<Route> {
    // SAFETY: a map value; userspace publishes the word whole while packets read.
    let slots = Slots::unpack(unsafe { (&raw const service.get().slots).read_volatile() });
    if slots.len == 0 {
        return None;
    }
    let cursor = CURSORS.get_ptr_mut(service.index)?;
    // SAFETY: eight aligned bytes of a map value.
    let turn = unsafe { atomic::next(cursor) };
    let chosen = SLOTS.get(slots.base.wrapping_add(slot(turn, slots.len)))?;
    backend(*chosen, Via::Scheduled)
}

/// The entry of the service's consistent-hash table: the same for every packet of a flow.
#[inline(always)]
pub fn stateless(service: &service::Found, hash: u64) -> Option<Route> {
    // SAFETY: as in `scheduled`.
    let slots = Slots::unpack(unsafe { (&raw const service.get().fallback).read_volatile() });
    if slots.len == 0 {
        return None;
    }
    let chosen = SLOTS.get(slots.base.wrapping_add(slot(hash >> 16, slots.len)))?;
    backend(*chosen, Via::Stateless)
}
