//! Fragments of replies that are translated. The first one has the ports and is translated as any reply;
//! of the others the address alone. What the first one says is kept for them in the connection table, as
//! [`crate::fragment`] does for those to real servers.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::flow::{FLOW_OF_REPLIES, FlowInfo, FlowV4, FlowV6, WayBack};
use xdp_lb_common::reason::Reason;

use crate::fragment::{GO_ON, fragment_keep, is_sound};
use crate::maps::CONN_INFO;
use crate::packet::Frame;
use crate::piece::Pieces;
use crate::reply::{self, Entry};
use crate::settings::{self, expiry};
use crate::translate::{Side, Translate, translate, translate_later};
use crate::{atomic, count, decided, parse, service};

/// In a word that names an entry: there is one,
const FOUND: u64 = 1 << 63;
/// and the fragment is a later one. Above that stands the backend, below it the entry.
const LATER: u64 = 1 << 32;
const BACKEND: u32 = 33;

/// The word of an entry.
#[inline(always)]
fn word(entry: &reply::Entry) -> u64 {
    FOUND | (entry.state.backend() as u64) << BACKEND | entry.index as u64
}

/// Sends the fragment of a context to the client, if it is one of a reply; the action. In functions of
/// their own, so that each chain of calls has the whole stack.
#[inline(always)]
pub fn send(ctx: &XdpContext) -> u32 {
    let is_v4 = parse::is_v4(&Frame::new(ctx.ctx));
    let word = if is_v4 {
        reply_piece_find(ctx.ctx)
    } else {
        reply_piece_find_v6(ctx.ctx)
    };
    if word & FOUND == 0 {
        return word as u32;
    }
    if word & LATER == 0 {
        // A result that nobody looks at is left out, and the verifier misses it.
        core::hint::black_box(if is_v4 {
            reply_piece_keep(ctx.ctx)
        } else {
            reply_piece_keep_v6(ctx.ctx)
        });
    }
    let action = if is_v4 {
        reply_piece_send(ctx.ctx, word)
    } else {
        reply_piece_send_v6(ctx.ctx, word)
    };
    match action {
        GO_ON => {
            decided::go_on(ctx);
            count::and_act(Err(Reason::NoProgram))
        }
        action => action,
    }
}

/// The entry that a fragment's reply is translated by, as one word, or the action. Global, as all here, so
/// that the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_piece_find(ctx: *mut xdp_md) -> u64 {
    find::<FlowV4>(&Frame::new(ctx))
}

/// [`reply_piece_find`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_piece_find_v6(ctx: *mut xdp_md) -> u64 {
    find::<FlowV6>(&Frame::new(ctx))
}

#[inline(always)]
fn find<F: Translate + Pieces>(frame: &Frame) -> u64 {
    match found::<F>(frame) {
        Ok(word) => word,
        Err(reason) => count::and_act(Err(reason)) as u64,
    }
}

#[inline(always)]
fn found<F: Translate + Pieces>(frame: &Frame) -> Result<u64, Reason> {
    let (packet, piece) = (F::parse_any(frame)?, F::piece(frame)?);
    let (asked, now) = (packet.flow.turned(), settings::now());
    if piece.offset > 0 {
        let hash = F::hash_of_reply_pieces(&packet, &piece);
        let entry = reply::entry(hash, now.short())?.ok_or(Reason::Fragment)?;
        if !is_of(entry.info, &asked) {
            return Err(Reason::Fragment);
        }
        reply::is_ours(frame, &packet, entry.info, now)?;
        return Ok(LATER | word(&entry));
    }
    let hash = asked.reply_hash();
    let entry = reply::entry(hash, now.short())?.ok_or(Reason::NoService)?;
    if !reply::is_of(entry.info, &asked) {
        return Err(Reason::NoService);
    }
    reply::is_ours(frame, &packet, entry.info, now)?;
    is_sound(&packet, &piece)?;
    if WayBack::unpack(entry.info.way_back).touched != now.short() {
        reply::keep_alive(hash, entry.index, now.short().0);
    }
    Ok(word(&entry))
}

/// Whether what was kept is of a reply to this client.
#[inline(always)]
fn is_of<F: Translate>(info: &FlowInfo, asked: &F) -> bool {
    info.flags & FLOW_OF_REPLIES != 0
        && info.family == F::NUMBER
        && service::is_same(info.client, asked.client())
}

/// Keeps what the first fragment of a reply says, if others follow; returns nothing that matters.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_piece_keep(ctx: *mut xdp_md) -> u32 {
    keep::<FlowV4>(&Frame::new(ctx))
}

/// [`reply_piece_keep`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_piece_keep_v6(ctx: *mut xdp_md) -> u32 {
    keep::<FlowV6>(&Frame::new(ctx))
}

#[inline(always)]
fn keep<F: Translate + Pieces>(frame: &Frame) -> u32 {
    let (Ok(packet), Ok(piece)) = (F::parse_any(frame), F::piece(frame)) else {
        return 0;
    };
    if !piece.more {
        return 0;
    }
    let now = settings::now().short();
    let Ok(Some(Entry { state, info, .. })) = reply::entry(packet.flow.turned().reply_hash(), now)
    else {
        return 0;
    };
    let hash = F::hash_of_reply_pieces(&packet, &piece);
    let (backend, generation) = (state.backend(), state.generation());
    let expiry = expiry(Kind::Fragment, now);
    let state = State::new(hash, Kind::Fragment, backend, generation, expiry);
    let Some(index) = fragment_keep(hash, state.0, now.0).checked_sub(1) else {
        return 0;
    };
    let Some(to) = CONN_INFO.get_ptr_mut(index) else {
        return 0;
    };
    let (from, to) = ((&raw const *info).cast::<u64>(), to.cast::<u64>());
    // Word by word: the compiler of BPF programs breaks on a copy of the whole.
    for word in 0..size_of::<FlowInfo>() / size_of::<u64>() {
        // SAFETY: within two map values, of which the latter belongs to the way this CPU holds.
        unsafe { atomic::publish(to.add(word), from.add(word).read_volatile()) };
    }
    1
}

/// Translates a fragment by the entry that a word names, and sends it: the action, or [`GO_ON`] if its sender is
/// to be told that it cannot be sent.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_piece_send(ctx: *mut xdp_md, word: u64) -> u32 {
    act(to_client::<FlowV4>(&Frame::new(ctx), word))
}

/// [`reply_piece_send`] for IPv6.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn reply_piece_send_v6(ctx: *mut xdp_md, word: u64) -> u32 {
    act(to_client::<FlowV6>(&Frame::new(ctx), word))
}

#[inline(always)]
fn act(sent: Result<(Reason, u32), Reason>) -> u32 {
    match sent {
        Err(why) if decided::is_told(why) => {
            decided::note_why_from(why);
            GO_ON
        }
        other => count::and_act(other),
    }
}

#[inline(always)]
fn to_client<F: Translate + Pieces>(frame: &Frame, word: u64) -> Result<(Reason, u32), Reason> {
    let packet = F::parse_any(frame)?;
    let info = CONN_INFO.get_ptr(word as u32).ok_or(Reason::Inconsistent)?;
    // SAFETY: a map value; other CPUs write it, but nothing else as long as it is this connection's.
    let info = unsafe { &*info };
    let (source, to) = ((info.vip, info.vip_port_be), info.client_port_be);
    let way = WayBack::unpack(info.way_back);
    reply::has_hops(&packet, source.0)?;
    let next = reply::next_hop(frame, &packet, &way, (&source, to))?;
    if word & LATER != 0 {
        translate_later::<F>(frame, Side::Source, source.0)?;
    } else {
        translate(frame, &packet, Side::Source, source)?;
    }
    let of = reply::Of {
        service: info.service,
        backend: ((word & !FOUND) >> BACKEND) as u32,
        len: packet.len,
    };
    reply::leave(frame, next, &of)
}
