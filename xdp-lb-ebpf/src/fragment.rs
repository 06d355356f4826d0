//! Fragments. The first one of a datagram has the ports: it is balanced as any packet, and where it goes
//! is kept in the connection table under what its fragments have in common. Later ones follow it.
//!
//! One that comes before its first passes to the kernel, as one does whose first was not balanced: the
//! two cannot be told apart, and the kernel gets whole what is for this host. What it keeps of a datagram
//! of which another host has the first part, it forgets after half a minute, without a word. (IPVS has
//! the kernel collect all fragments before it looks. A program that sees one frame at a time cannot, and
//! a sender that hears nothing sends again.)

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::addr::{TCP, UDP};
use xdp_lb_common::conn::table::Inserted;
use xdp_lb_common::conn::{Kind, State};
use xdp_lb_common::decided::LATER as SPECIAL_LATER;
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::stage::{self, Stage};
use xdp_lb_common::tick::{LongTick, Tick};

use crate::conn::{Route, Target, Via, conn_claim, conn_publish, target_of};
use crate::family::Family;
use crate::maps::{DECIDED, STAGES};
use crate::packet::{Frame, Packet};
use crate::parse::{ETHERNET, FRAGMENT_BE, TCP_MIN};
use crate::piece::{Piece, Pieces};
use crate::settings::expiry;
use crate::{conn, count, decided, forward, lookup, service, settings};

/// No action: another program sends the packet.
pub const GO_ON: u32 = u32::MAX;

/// What differs between the families when a first fragment was placed. In functions of their own, each with
/// its share of the stack.
pub trait Placed: Pieces {
    /// The program that goes on with it.
    const PLACED: Stage;
    /// Whether a packet may be a fragment.
    fn may_be_fragment(frame: &Frame) -> Result<bool, Reason>;
    /// See [`fragment_keep_v4`].
    fn keep(ctx: *mut xdp_md, word: u64) -> u32;
    /// See [`fragment_send_v4`].
    fn send(ctx: *mut xdp_md, word: u64) -> u32;
}

impl Placed for FlowV4 {
    const PLACED: Stage = stage::FRAGMENT_NEW;

    #[inline(always)]
    fn may_be_fragment(frame: &Frame) -> Result<bool, Reason> {
        const BITS: usize = ETHERNET + 6;
        if !frame.holds(BITS, 2) {
            return Err(Reason::Truncated);
        }
        // SAFETY: checked just now.
        Ok(unsafe { frame.read::<u16>(BITS) } & FRAGMENT_BE != 0)
    }

    #[inline(always)]
    fn keep(ctx: *mut xdp_md, word: u64) -> u32 {
        fragment_keep_v4(ctx, word)
    }

    #[inline(always)]
    fn send(ctx: *mut xdp_md, word: u64) -> u32 {
        fragment_send_v4(ctx, word)
    }
}

impl Placed for FlowV6 {
    const PLACED: Stage = stage::FRAGMENT_V6_NEW;

    #[inline(always)]
    fn may_be_fragment(frame: &Frame) -> Result<bool, Reason> {
        const NEXT: usize = ETHERNET + 6;
        if !frame.holds(NEXT, 1) {
            return Err(Reason::Truncated);
        }
        // SAFETY: checked just now.
        let next: u8 = unsafe { frame.read(NEXT) };
        Ok(next != TCP && next != UDP)
    }

    #[inline(always)]
    fn keep(ctx: *mut xdp_md, word: u64) -> u32 {
        fragment_keep_v6(ctx, word)
    }

    #[inline(always)]
    fn send(ctx: *mut xdp_md, word: u64) -> u32 {
        fragment_send_v6(ctx, word)
    }
}

/// Sends a fragment; the action.
#[inline(always)]
pub fn follow<F: Placed>(ctx: &XdpContext) -> u32 {
    let sent = send_any::<F>(&Frame::new(ctx.ctx));
    match sent {
        Err(Reason::NoProgram) => decided::go_on(ctx),
        Err(reason) => may_be_reply(ctx, reason),
        Ok(_) => {}
    }
    count::and_act(decided::told(ctx, sent))
}

/// On to the program for what may be a fragment of a reply; returns if it is none.
#[inline(always)]
fn may_be_reply(ctx: &XdpContext, reason: Reason) {
    if matches!(reason, Reason::NoService | Reason::Fragment) && service::translates() {
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(ctx, stage::REPLY_FRAGMENT.index) };
    }
}

/// Counts what was sent; the action, or [`GO_ON`] if another program does that.
#[inline(always)]
fn act(sent: Result<(Reason, u32), Reason>) -> u32 {
    match sent {
        Err(Reason::NoProgram) => GO_ON,
        Err(why) if decided::is_told(why) => {
            decided::note_why(why);
            GO_ON
        }
        other => count::and_act(other),
    }
}

/// A later fragment is sent. A first one goes on to the program of [`placed`]; that of a new connection by
/// the program that places it.
#[inline(always)]
fn send_any<F: Placed>(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let packet = F::parse_any(frame)?;
    let piece = F::piece(frame)?;
    let control = service::control()?;
    let now = settings::now();
    if piece.offset > 0 {
        let hash = F::hash_of_pieces(&packet, &piece);
        let target = later(frame, &packet, piece.offset, hash, (control, now))?;
        return send_later(frame, &packet, control, target);
    }
    let service = F::service(control, &packet).ok_or(Reason::NoService)?;
    service::ours(frame, &packet, &service, control, now)?;
    is_sound(&packet, &piece)?;
    let target = conn::route(frame, &packet, &service, now.short())?;
    hand_on::<F>(frame, target.route)?;
    Err(Reason::Fragment)
}

/// Where a fragment's first one went, if that went to a real server.
#[inline(always)]
fn later<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    offset: u16,
    hash: u64,
    (control, now): (service::Words, LongTick),
) -> Result<Target, Reason> {
    let found = lookup::find(hash, now.short());
    if !found.exists() {
        return Err(Reason::Fragment);
    }
    let target = target_of(found.state, Via::Connection).ok_or(Reason::Purged)?;
    let service = service_of(target)?;
    service::ours(frame, packet, &service, control, now)?;
    if packet.flow.protocol() == TCP && offset == 1 {
        // It would be written over the flags that the first one was judged by (RFC 3128).
        return Err(Reason::FragmentTiny);
    }
    Ok(target)
}

/// The service of the backend that a first fragment went to.
#[inline(always)]
fn service_of(target: Target) -> Result<service::Found, Reason> {
    // SAFETY: a map value; while the backend has this generation, it is the same service's.
    let service = unsafe { (*target.backend).service };
    service::at(service).ok_or(Reason::Inconsistent)
}

#[inline(always)]
fn send_later<F: Family>(
    frame: &Frame,
    packet: &Packet<F>,
    control: service::Words,
    target: Target,
) -> Result<(Reason, u32), Reason> {
    let service = service_of(target)?;
    let sent = forward::send(frame, packet, &service, control, target);
    if let Err(Reason::NoProgram) = sent {
        decided::note_special(SPECIAL_LATER);
    }
    let (reason, action) = sent?;
    let reason = match action {
        xdp_action::XDP_TX => Reason::TxFragment,
        xdp_action::XDP_REDIRECT => Reason::RedirectFragment,
        _ => reason,
    };
    Ok((reason, action))
}

/// A first fragment has the flags of its TCP header, or nobody knows what it does (RFC 1858).
#[inline(always)]
pub fn is_sound<F: Family>(packet: &Packet<F>, piece: &Piece) -> Result<(), Reason> {
    if packet.flow.protocol() != TCP || piece.len >= TCP_MIN {
        return Ok(());
    }
    Err(if piece.more {
        Reason::FragmentTiny
    } else {
        Reason::Truncated
    })
}

/// Keeps where a first fragment goes. Of those that are whole there is nothing to keep.
#[inline(always)]
fn keep<F: Family>(packet: &Packet<F>, service: u32, hash: u64, route: Route, now: Tick) {
    let state = State::new(
        hash,
        Kind::Fragment,
        route.backend(),
        route.generation(),
        expiry(Kind::Fragment, now),
    );
    if let Some(index) = fragment_keep(hash, state.0, now.0).checked_sub(1) {
        packet.flow.describe_conn(packet.ctx, service, index, now);
    }
}

/// Puts the state of a first fragment into the table: the index of its way, plus one, if the way is new
/// or says something new; else 0. Global as [`conn_claim`] is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fragment_keep(hash: u64, state: u64, now: u32) -> u32 {
    let found = lookup::find(hash, Tick(now));
    if found.exists() {
        // The datagram was sent again, or its number was: the last first fragment is right.
        if found.state.0 == state || !lookup::update(hash, &found, State(state)) {
            return 0;
        }
        return lookup::index(hash, &found) + 1;
    }
    // Two attempts: the first may lose its way to another CPU.
    let claim = match conn_claim(hash, state, now) {
        0 => conn_claim(hash, state, now),
        claim => claim,
    };
    if claim == 0 {
        count::event(Event::NoFragmentWay);
        return 0;
    }
    match Inserted::unpack(conn_publish(hash, state, claim, now)) {
        Inserted::Mine { index, evicted } => {
            if evicted {
                count::event(Event::Evicted);
            }
            index + 1
        }
        Inserted::Other(_) | Inserted::Lost => {
            count::event(Event::RaceLost);
            0
        }
    }
}

/// Goes on to the program of [`placed`] with a packet that was placed, if it may be a fragment: by then
/// placing has used up what stack there is. An error if there is no such program: to some kernels, Linux
/// 6.12 among them, a tail call that failed may have changed the frame, so nothing must touch that any more.
#[inline(always)]
pub fn hand_on<F: Placed>(frame: &Frame, route: Route) -> Result<(), Reason> {
    // Anew, as in `forward::send`.
    if !F::may_be_fragment(&Frame::new(frame.context()))? {
        return Ok(());
    }
    if let Some(decided) = DECIDED.get_ptr_mut(0) {
        // SAFETY: this CPU's own copy.
        unsafe { (*decided).route = route.word() };
        let ctx = XdpContext::new(frame.context());
        // SAFETY: the program that it leads to takes the context over.
        unsafe { STAGES.tail_call(&ctx, F::PLACED.index) };
    }
    Err(Reason::Inconsistent)
}

/// Sends the packet of a context where [`hand_on`] says, and keeps that if it is a first fragment; the
/// action.
#[inline(always)]
pub fn placed<F: Placed>(ctx: &XdpContext) -> u32 {
    let Some(decided) = DECIDED.get_ptr(0) else {
        return count::and_act(Err(Reason::Inconsistent));
    };
    // SAFETY: this CPU's own copy, which the program before this one wrote.
    let word = unsafe { (*decided).route };
    if F::keep(ctx.ctx, word) == 0 {
        return count::and_act(Err(Reason::Fragment));
    }
    match F::send(ctx.ctx, word) {
        GO_ON => {
            decided::go_on(ctx);
            count::and_act(Err(Reason::NoProgram))
        }
        action => action,
    }
}

/// Sends the IPv4 packet in a context by its route: the action, or [`GO_ON`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fragment_send_v4(ctx: *mut xdp_md, word: u64) -> u32 {
    act(send_placed::<FlowV4>(&Frame::new(ctx), Route::of(word)))
}

/// [`fragment_send_v4`] of an IPv6 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fragment_send_v6(ctx: *mut xdp_md, word: u64) -> u32 {
    act(send_placed::<FlowV6>(&Frame::new(ctx), Route::of(word)))
}

#[inline(always)]
fn send_placed<F: Placed>(frame: &Frame, route: Route) -> Result<(Reason, u32), Reason> {
    let packet = F::parse(frame)?;
    let control = service::control()?;
    let service = F::service(control, &packet).ok_or(Reason::NoService)?;
    forward::send(frame, &packet, &service, control, Target::of(route)?)
}

/// [`keep`] for the IPv4 packet of a context, if it is a fragment; 0 if it is one that cannot be followed.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fragment_keep_v4(ctx: *mut xdp_md, word: u64) -> u32 {
    keep_placed::<FlowV4>(ctx, word)
}

/// [`fragment_keep_v4`] of an IPv6 packet.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn fragment_keep_v6(ctx: *mut xdp_md, word: u64) -> u32 {
    keep_placed::<FlowV6>(ctx, word)
}

#[inline(always)]
fn keep_placed<F: Placed>(ctx: *mut xdp_md, word: u64) -> u32 {
    let (frame, route) = (Frame::new(ctx), Route::of(word));
    let (Ok(piece), Ok(packet)) = (F::piece(&frame), F::parse(&frame)) else {
        return 1;
    };
    // A number in any case, as seen from here: the compiler would ask for both outcomes in one, and the
    // verifier of Linux 6.1 takes that for a way on from where there is no service.
    let service = Target::of(route).and_then(service_of);
    let service = core::hint::black_box(service.map_or(u32::MAX, |service| service.index));
    if service == u32::MAX {
        return 0;
    }
    if piece.more {
        let hash = F::hash_of_pieces(&packet, &piece);
        let now = settings::now().short();
        keep(&packet, service, hash, route, now);
    }
    1
}
