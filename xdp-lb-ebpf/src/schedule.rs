//! Where a new connection goes.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use xdp_lb_common::hashed::{folded, maglev, maglev_again, multiplied, multiplied_again};
use xdp_lb_common::load::search;
use xdp_lb_common::schedule::{FALLBACK_TRIES, RULE_FALLBACK, RULE_LIMITED, RULE_PORT, Rule, Word};
use xdp_lb_common::select::slot;
use xdp_lb_common::service::Slots;

use crate::conn::{Route, Via, backend};
use crate::family::Family;
use crate::load::{join, seen};
use crate::maps::{CURSORS, SLOTS};
use crate::packet::Packet;
use crate::search::{cheapest, cost, first_open, slot_is_open};
use crate::{atomic, service};

/// No backend.
const NOBODY: u32 = u32::MAX;

/// The scheduler's choice. The plain turn, which most services have, is taken here and now: a call costs as
/// much as it does.
#[inline(always)]
pub fn scheduled<F: Family>(packet: &Packet<F>, service: &service::Found) -> Option<Route> {
    let server = if service.rule() == Rule::Cycle as Word {
        cycled(service, Rule::Cycle as Word).unwrap_or(NOBODY)
    } else {
        schedule(service.index, names(packet))
    };
    backend(server, Via::Scheduled)
}

/// The choice of a scheduler that hashes: the same for every packet of a client.
#[inline(always)]
pub fn hashed<F: Family>(packet: &Packet<F>, service: &service::Found) -> Option<Route> {
    backend(schedule(service.index, names(packet)), Via::Stateless)
}

/// The entry of the service's consistent-hash table: the same for every packet of a flow. A scheduler
/// that hashes has a table as good, and its own choice is what other directors know.
#[inline(always)]
pub fn stateless<F: Family>(
    packet: &Packet<F>,
    service: &service::Found,
    hash: u64,
) -> Option<Route> {
    if service.is_hashed() {
        return hashed(packet, service);
    }
    let slots = fallback_table(service);
    let chosen = SLOTS.get(slots.base.wrapping_add(entry(hash >> 16, slots)?))?;
    backend(*chosen, Via::Stateless)
}

/// What schedulers know of a packet: the folded client (lower half) and VIP, and the client's port in
/// the third word.
#[inline(always)]
fn names<F: Family>(packet: &Packet<F>) -> (u64, u16) {
    let flow = &packet.flow;
    let client = folded(flow.client().words_be, 0) as u64;
    let vip = folded(flow.vip().words_be, 0) as u64;
    (vip << 32 | client, flow.ports_be().0)
}

/// The scheduler's choice by what it knows of a packet; [`NOBODY`] if no server is to be had.
#[inline(always)]
fn schedule(service: u32, (addresses, port_be): (u64, u16)) -> u32 {
    schedule_by(service, addresses, port_be.into())
}

/// Global, as are those below that it calls, so that the verifier checks each once and not once for
/// every way to get there.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn schedule_by(service: u32, addresses: u64, port_be: u32) -> u32 {
    let Some(found) = service::at(service) else {
        return NOBODY;
    };
    let word = found.rule();
    match Rule::of(word) {
        Rule::Cycle => schedule_cycle(service, word),
        Rule::SourceHash | Rule::Maglev => {
            let port = u16::from_be(port_be as u16) as u32;
            let port = if word & RULE_PORT != 0 { port } else { 0 };
            schedule_hash(service, word, (addresses as u32).wrapping_add(port))
        }
        Rule::DestinationHash => schedule_hash(service, word, (addresses >> 32) as u32),
        Rule::LocalityBased => schedule_lblc(service),
        Rule::LocalityBasedReplicated => schedule_lblcr(service),
        Rule::TwoChoices => schedule_twos(service),
        _ => cheapest(table(&found), word & 0xff, turn(&found)).unwrap_or(NOBODY),
    }
}

/// The next entry of the table.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn schedule_cycle(service: u32, word: Word) -> u32 {
    let found = service::at(service);
    found
        .and_then(|service| cycled(&service, word))
        .unwrap_or(NOBODY)
}

/// The server that a hash leads to.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn schedule_hash(service: u32, word: Word, name: u32) -> u32 {
    let found = service::at(service);
    found
        .and_then(|service| by_hash(&service, word, name))
        .unwrap_or(NOBODY)
}

/// `lblc`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn schedule_lblc(service: u32) -> u32 {
    service::at(service)
        .and_then(|service| locality(&service))
        .unwrap_or(NOBODY)
}

/// `lblcr`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn schedule_lblcr(service: u32) -> u32 {
    service::at(service)
        .and_then(|service| replicated(&service))
        .unwrap_or(NOBODY)
}

/// `twos`.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn schedule_twos(service: u32) -> u32 {
    service::at(service)
        .and_then(|service| better_of_two(&service))
        .unwrap_or(NOBODY)
}

/// The service's table of picks, or list.
#[inline(always)]
fn table(service: &service::Found) -> Slots {
    // SAFETY: a map value; userspace publishes the word whole while packets read.
    Slots::unpack(unsafe { (&raw const service.get().slots).read_volatile() })
}

#[inline(always)]
fn fallback_table(service: &service::Found) -> Slots {
    // SAFETY: as in `table`.
    Slots::unpack(unsafe { (&raw const service.get().fallback).read_volatile() })
}

/// The entry of a number in a table, if the table has any.
#[inline(always)]
fn entry(number: u64, table: Slots) -> Option<u32> {
    if table.len == 0 {
        None
    } else {
        Some(slot(number, table.len))
    }
}

/// Whose turn it is, for lists too long for one search.
#[inline(always)]
fn turn(service: &service::Found) -> u64 {
    if table(service).len <= xdp_lb_common::schedule::SEARCHED {
        return 0;
    }
    match CURSORS.get_ptr_mut(service.index) {
        // SAFETY: eight aligned bytes of a map value.
        Some(cursor) => unsafe { atomic::next(cursor) },
        None => 0,
    }
}

/// The next entry of the table; servers over their limits are passed over.
#[inline(always)]
fn cycled(service: &service::Found, word: Word) -> Option<u32> {
    let table = table(service);
    let cursor = CURSORS.get_ptr_mut(service.index)?;
    if table.len == 0 {
        return None;
    }
    // SAFETY: eight aligned bytes of a map value.
    let turn = unsafe { atomic::next(cursor) };
    let mut at = slot(turn, table.len);
    if word & RULE_LIMITED != 0 {
        // Nobody's turn is over if nobody could be picked.
        let behind = first_open(table, at).map_or(u64::MAX, u64::from);
        if behind > 0 {
            // SAFETY: as above.
            unsafe { atomic::add(cursor, behind) };
        }
        if behind == u64::MAX {
            return None;
        }
        at = slot(at as u64 + behind, table.len);
    }
    SLOTS.get(table.base.wrapping_add(at)).copied()
}

/// What a hash leads to.
#[inline(always)]
fn by_hash(service: &service::Found, word: Word, name: u32) -> Option<u32> {
    let table = table(service);
    if table.len == 0 {
        return None;
    }
    let first = entry_again(word, name, 0, (table.len as u64) << 32 | NOBODY as u64);
    let mut at = table.base.wrapping_add(first);
    if slot_is_open(at) == 0 {
        if word & RULE_FALLBACK == 0 {
            return None;
        }
        at = match fallback(
            table.base,
            (table.len as u64) << 32 | first as u64,
            word,
            name,
        ) {
            NOBODY => {
                let live = fallback_table(service);
                live.base.wrapping_add(entry(name.into(), live)?)
            }
            slot => slot,
        };
    }
    SLOTS.get(at).copied()
}

/// The slot that a fallback comes to, [`NOBODY`] if its tries find none; `table` is its length (upper
/// half) and the first entry.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fallback(base: u32, table: u64, word: Word, name: u32) -> u32 {
    let mut attempt = 0;
    while attempt < FALLBACK_TRIES {
        let slot = base.wrapping_add(entry_again(word, name, attempt, table));
        if slot_is_open(slot) != 0 {
            return slot;
        }
        attempt += 1;
    }
    NOBODY
}

/// The entry of a try; `table` is as for [`fallback`], with [`NOBODY`] for the first entry itself.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn entry_again(word: Word, name: u32, attempt: u32, table: u64) -> u32 {
    let (len, first) = ((table >> 32) as u32, table as u32);
    let is_maglev = word & 0xff == Rule::Maglev as u32;
    match (is_maglev, first) {
        (true, NOBODY) => maglev(name, len),
        (true, first) => maglev_again(name, first, attempt, len),
        (false, NOBODY) => multiplied(name).checked_rem(len).unwrap_or(0),
        (false, first) => multiplied_again(first, attempt)
            .checked_rem(len)
            .unwrap_or(0),
    }
}

/// `lblc`, of which a service is one destination: the server of the last time, as long as it is up and
/// not overloaded while another one is half idle; else as `wlc`. The cursor holds it, plus one.
#[inline(always)]
fn locality(service: &service::Found) -> Option<u32> {
    let cursor = CURSORS.get_ptr_mut(service.index)?;
    let list = table(service);
    // SAFETY: eight aligned bytes of a map value that other CPUs change whole.
    let last = (unsafe { cursor.read_volatile() } as u32).wrapping_sub(1);
    if seen(last).takes() && !is_overloaded(list, last) {
        return Some(last);
    }
    let chosen = cheapest(list, search::WLC, 0)?;
    // SAFETY: as above.
    unsafe { atomic::publish(cursor, chosen as u64 + 1) };
    Some(chosen)
}

/// `lblcr`: the least loaded of those used before, unless that one is overloaded while another one is
/// half idle: then the least loaded of all, which is used from then on.
#[inline(always)]
fn replicated(service: &service::Found) -> Option<u32> {
    let list = table(service);
    if let Some(member) = cheapest(list, search::MEMBERS, 0)
        && !is_overloaded(list, member)
    {
        return Some(member);
    }
    let chosen = cheapest(list, search::WLC, 0)?;
    join(chosen);
    Some(chosen)
}

#[inline(always)]
fn is_overloaded(list: Slots, backend: u32) -> bool {
    seen(backend).is_crowded() && cheapest(list, search::HALF, 0).is_some()
}

/// `twos`: two picks by chance, by weight, and of these the one that `wlc` prefers.
#[inline(always)]
fn better_of_two(service: &service::Found) -> Option<u32> {
    let table = table(service);
    let (first, second) = (by_chance(table)?, by_chance(table)?);
    let one = cost(first, search::WLC);
    let other = cost(second, search::WLC);
    let chosen = if other.is_below(one) { second } else { first };
    if slot_is_open(chosen) != 0 {
        return SLOTS.get(chosen).copied();
    }
    let at = chosen.wrapping_sub(table.base);
    let behind = first_open(table, at)?;
    let next = slot(at as u64 + behind as u64, table.len);
    SLOTS.get(table.base.wrapping_add(next)).copied()
}

#[inline(always)]
fn by_chance(table: Slots) -> Option<u32> {
    // SAFETY: the helper takes no argument and changes nothing but its own state.
    let number = unsafe { bpf_get_prandom_u32() };
    Some(table.base.wrapping_add(entry(number.into(), table)?))
}
