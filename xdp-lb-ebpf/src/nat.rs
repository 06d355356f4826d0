//! Address translation on the way to the real server: its address and port take the place of the
//! service's. Beside the connection the table holds a second entry, by which the server's replies
//! find back (see [`crate::reply`]): it is kept as long as the connection, and checked whenever the
//! connection's own entry changes, so once a tick.

use aya_ebpf::bindings::xdp_md;
use xdp_lb_common::conn::table::Inserted;
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::decided::LATER;
use xdp_lb_common::flow::{FLOW_OF_REPLIES, FlowInfo, FlowV4, FlowV6, WayBack};
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::tick::Tick;

use crate::conn::{conn_claim, conn_publish};
use crate::decided::{self, Noted, noted};
use crate::maps::CONN_INFO;
use crate::packet::{Frame, Packet};
use crate::settings::{self, expiry};
use crate::translate::{Side, Translate, translate, translate_later};
use crate::{atomic, count, forward, lookup, parse};

/// Sends the packet of a context as it was noted; its action. All of it happens in functions of their
/// own, so that the chains of calls that they begin have the whole stack.
#[inline(always)]
pub fn send(ctx: *mut xdp_md) -> u32 {
    let is_v4 = parse::is_v4(&Frame::new(ctx));
    if changes() {
        let stands = if is_v4 {
            expect_replies(ctx)
        } else {
            expect_replies_v6(ctx)
        };
        if stands == 0 {
            return count::and_act(Err(Reason::NoReplyWay));
        }
    }
    if is_v4 {
        nat_to_server(ctx)
    } else {
        nat_to_server_v6(ctx)
    }
}

/// Whether the entry of the packet's connection changed, or there is a new one.
#[inline(always)]
fn changes() -> bool {
    noted().is_ok_and(|noted| noted.route.kind() != Kind::Free)
}

/// Translates and sends; the action.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nat_to_server(ctx: *mut xdp_md) -> u32 {
    count::and_act(to_server::<FlowV4>(&Frame::new(ctx)))
}

/// [`nat_to_server`] for an IPv6 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn nat_to_server_v6(ctx: *mut xdp_md) -> u32 {
    count::and_act(to_server::<FlowV6>(&Frame::new(ctx)))
}

#[inline(always)]
fn to_server<F: Translate>(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let noted = noted()?;
    let server = (noted.address(), noted.method.port_be());
    if noted.special == LATER {
        translate_later::<F>(frame, Side::Destination, server.0)?;
    } else {
        translate(frame, &F::parse(frame)?, Side::Destination, server)?;
    }
    to_hop(frame, &noted)
}

/// Sends a frame that is translated to its real server.
#[inline(always)]
pub fn to_hop(frame: &Frame, noted: &Noted) -> Result<(Reason, u32), Reason> {
    if !frame.holds(0, parse::ETHERNET) {
        return Err(Reason::Inconsistent);
    }
    // SAFETY: checked just now.
    unsafe { forward::write_macs(frame, noted.identity.mac(), noted.source_mac()) };
    // SAFETY: a map value, see `forward::send`.
    let ifindex = unsafe { (*noted.backend).ifindex };
    forward::out_noted(frame, ifindex, noted)
}

/// Makes sure that replies find back, as long as the connection lives: 1 if they do. Global, so that
/// the verifier checks it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn expect_replies(ctx: *mut xdp_md) -> u32 {
    expect::<FlowV4>(ctx)
}

/// [`expect_replies`] for an IPv6 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn expect_replies_v6(ctx: *mut xdp_md) -> u32 {
    expect::<FlowV6>(ctx)
}

#[inline(always)]
fn expect<F: Translate>(ctx: *mut xdp_md) -> u32 {
    let frame = Frame::new(ctx);
    let (Ok(noted), Ok(packet)) = (noted(), F::parse(&frame)) else {
        return 0;
    };
    let now = settings::now().short();
    let at_server = packet
        .flow
        .at_server(noted.address(), noted.method.port_be());
    let (hash, kind) = (at_server.reply_hash(), noted.route.kind());
    let is_new = kind == Kind::Syn || kind == Kind::UdpNew;
    let state = State::new(
        hash,
        if is_new { Kind::ReplyNew } else { Kind::Reply },
        noted.route.backend(),
        noted.route.generation(),
        expiry(kind, now),
    );
    let found = lookup::find(hash, now);
    let index = if found.exists() {
        // A lost race is dropped: the winner wrote much the same.
        let _won = lookup::update(hash, &found, state);
        lookup::index(hash, &found) + 1
    } else {
        insert(hash, state, now)
    };
    if let Some(index) = index.checked_sub(1) {
        describe(&frame, &packet, (noted.service, index), now);
        return 1;
    }
    0
}

/// Index of the way that the entry got, plus one; 0 if it got none.
#[inline(always)]
fn insert(hash: u64, state: State, now: Tick) -> u32 {
    // Each attempt may lose its way to another CPU.
    let mut attempt = 0;
    while attempt < 3 {
        attempt += 1;
        let claim = conn_claim(hash, state.0, now.0);
        if claim == 0 {
            continue;
        }
        if settings::is_dry() {
            // There is a way that it would get; nothing will be written beside it either.
            return 1;
        }
        match Inserted::unpack(conn_publish(hash, state.0, claim, now.0)) {
            Inserted::Mine { index, evicted } => {
                if evicted {
                    count::event(Event::Evicted);
                }
                return index + 1;
            }
            // Another CPU was first, and the next packet of the connection finds its entry.
            Inserted::Other(_) | Inserted::Lost => count::event(Event::RaceLost),
        }
    }
    count::event(Event::NoWay);
    0
}

/// Writes what a reply needs to know, and where the client's packets come from.
#[inline(always)]
fn describe<F: Translate>(
    frame: &Frame,
    packet: &Packet<F>,
    (service, index): (u32, u32),
    now: Tick,
) {
    let Some(info) = CONN_INFO.get_ptr_mut(index) else {
        return;
    };
    let flow = &packet.flow;
    let value = FlowInfo {
        client: flow.client(),
        vip: flow.vip(),
        client_port_be: flow.ports_be().0,
        vip_port_be: flow.ports_be().1,
        protocol: flow.protocol(),
        family: F::NUMBER,
        flags: FLOW_OF_REPLIES,
        service,
        created: now.0,
        way_back: WayBack {
            mac: packet.source,
            ifindex: decided::network(frame),
            touched: now,
        }
        .pack(),
    };
    // SAFETY: a map value that belongs to the way of this connection; whoever else writes it writes
    // the same.
    unsafe { atomic::store_info(info, &value) };
}
