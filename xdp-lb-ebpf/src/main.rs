//! The XDP program of xdp-lb, in reading order: [`packet`] and [`parse`] with [`extensions`] say what came
//! in, [`service`] whether it is for a virtual service that is ours to balance, [`conn`] where its
//! connection goes, [`family`] what differs between IPv4 and IPv6, [`schedule`] with [`persist`] where
//! a new one goes, [`search`] among servers by their [`load`], [`forward`] sends it there and
//! [`count`] counts, [`watch`] tells who watches. [`icmp`] does the same for errors about a connection,
//! [`fragment`] for fragments, [`tagged`] for frames of VLANs; all but the entry find connections by
//! [`lookup`]. [`decided`] is what programs hand on: [`tunnel`] wraps packets, with [`sums`] over them,
//! [`nat`] translates addresses and [`reply`] those of replies, both by [`translate`], [`quote`] those in
//! ICMP errors about either, [`reply_fragment`] those of fragments; [`answer`] tells senders what goes
//! nowhere, and [`tunnel_error`] clients of errors about tunnels. [`maps`] holds the tables and [`settings`] what the loader sets.
//!
//! Every exit has one [`Reason`]. Whatever the program does not balance passes to the kernel
//! untouched.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(
    internal_features,
    reason = "64-bit compare-and-exchange has no stable spelling on BPF"
)]

mod answer;
mod atomic;
mod conn;
mod count;
mod decided;
mod extensions;
mod family;
mod forward;
mod fragment;
mod icmp;
mod load;
mod lookup;
mod maps;
mod nat;
mod packet;
mod parse;
mod persist;
mod piece;
mod quote;
mod reply;
mod reply_fragment;
mod schedule;
mod search;
mod service;
mod settings;
mod sums;
mod tagged;
mod translate;
mod tunnel;
mod tunnel_error;
mod watch;

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::Reason;
use xdp_lb_common::stage;

use crate::conn::Target;
use crate::family::Family;
use crate::fragment::Placed;
use crate::packet::Frame;

/// The entry: balances a frame or passes it on.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb(ctx: XdpContext) -> u32 {
    watch::begin(ctx.ctx);
    let frame = Frame::new(ctx.ctx);
    let (reason, action) = match balance::<FlowV4>(&frame) {
        Err(Reason::Ipv6) => {
            // SAFETY: the program that it leads to takes the context over. One that is not there is
            // no error: the packet passes, and is counted as IPv6 that is not balanced.
            unsafe { maps::STAGES.tail_call(&ctx, stage::IPV6.index) };
            (Reason::Ipv6, xdp_action::XDP_PASS)
        }
        Err(Reason::NotTcpUdp) => {
            // SAFETY: as above.
            unsafe { maps::STAGES.tail_call(&ctx, stage::ICMP.index) };
            (Reason::NotTcpUdp, xdp_action::XDP_PASS)
        }
        Err(Reason::Fragment) => {
            // SAFETY: as above.
            unsafe { maps::STAGES.tail_call(&ctx, stage::FRAGMENT.index) };
            (Reason::Fragment, xdp_action::XDP_PASS)
        }
        Err(Reason::Vlan) => {
            // SAFETY: as above.
            unsafe { maps::STAGES.tail_call(&ctx, stage::TAGGED.index) };
            (Reason::Vlan, xdp_action::XDP_PASS)
        }
        other => finish(&ctx, other),
    };
    #[cfg(feature = "log")]
    aya_log_ebpf::debug!(&ctx, "packet left by reason {}", reason as u32);
    count::reason(reason);
    action
}

/// What becomes of a packet that leaves for a reason; and on to the program for what may be a reply,
/// and for real servers that direct routing does not reach.
#[inline(always)]
fn finish(ctx: &XdpContext, result: Result<(Reason, u32), Reason>) -> (Reason, u32) {
    match result {
        Ok(sent) => sent,
        Err(Reason::NoService) => {
            if service::translates() {
                // SAFETY: the program that it leads to takes the context over.
                unsafe { maps::STAGES.tail_call(ctx, stage::REPLY.index) };
            }
            (Reason::NoService, xdp_action::XDP_PASS)
        }
        Err(Reason::NoProgram) => {
            decided::go_on(ctx);
            (Reason::NoProgram, xdp_action::XDP_DROP)
        }
        Err(why @ (Reason::TtlExpired | Reason::NoRealServer | Reason::TooBig)) => {
            let _nobody = decided::told::<u32>(ctx, Err(why));
            (why, xdp_action::XDP_DROP)
        }
        Err(reason @ Reason::Inconsistent) => (reason, xdp_action::XDP_DROP),
        Err(reason) => (reason, xdp_action::XDP_PASS),
    }
}

/// Tells userspace the present tick, by a program test-run: nothing else shows it the jiffies. All
/// 32 bits of it.
#[xdp(frags)]
#[inline(always)]
pub fn tick(_ctx: XdpContext) -> u32 {
    settings::now().0
}

/// The entry for IPv6, by a tail call: it begins with a stack of its own, and what it needs costs the
/// packets of IPv4 nothing but the branch on the type of the frame that they have anyway.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_v6(ctx: XdpContext) -> u32 {
    let (reason, action) = match balance::<FlowV6>(&Frame::new(ctx.ctx)) {
        Err(Reason::NotTcpUdp) => {
            // SAFETY: as in `xdp_lb`.
            unsafe { maps::STAGES.tail_call(&ctx, stage::ICMP_V6.index) };
            (Reason::NotTcpUdp, xdp_action::XDP_PASS)
        }
        Err(Reason::Fragment) => {
            // SAFETY: as in `xdp_lb`.
            unsafe { maps::STAGES.tail_call(&ctx, stage::FRAGMENT_V6.index) };
            (Reason::Fragment, xdp_action::XDP_PASS)
        }
        other => finish(&ctx, other),
    };
    count::reason(reason);
    action
}

/// Places IPv4 packets without a connection, by a tail call.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_new(ctx: XdpContext) -> u32 {
    let (reason, action) = finish(&ctx, place::<FlowV4>(&Frame::new(ctx.ctx)));
    count::reason(reason);
    action
}

/// Places IPv4 packets that begin a connection to a persistent service, by a tail call.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_persist(ctx: XdpContext) -> u32 {
    let sent = conn::persist::<FlowV4>(&Frame::new(ctx.ctx));
    count::and_act(decided::told(&ctx, sent))
}

/// The same of IPv6.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_persist_v6(ctx: XdpContext) -> u32 {
    let sent = conn::persist::<FlowV6>(&Frame::new(ctx.ctx));
    count::and_act(decided::told(&ctx, sent))
}

/// Places IPv6 packets without a connection, by a tail call.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_v6_new(ctx: XdpContext) -> u32 {
    let (reason, action) = finish(&ctx, place::<FlowV6>(&Frame::new(ctx.ctx)));
    count::reason(reason);
    action
}

/// The entry for IPv4 packets that are neither TCP nor UDP.
#[xdp(frags)]
pub fn xdp_lb_icmp(ctx: XdpContext) -> u32 {
    let sent = icmp::follow(&Frame::new(ctx.ctx));
    error_goes_on(&ctx, &sent);
    count::and_act(sent)
}

/// The entry for IPv6 packets that are neither TCP nor UDP.
#[xdp(frags)]
pub fn xdp_lb_icmp_v6(ctx: XdpContext) -> u32 {
    let sent = icmp::follow_v6(&Frame::new(ctx.ctx));
    error_goes_on(&ctx, &sent);
    count::and_act(sent)
}

/// On to the program for errors that are to be wrapped or translated, or that may be about what was; returns
/// with all others.
#[inline(always)]
fn error_goes_on(ctx: &XdpContext, sent: &Result<(Reason, u32), Reason>) {
    match sent {
        Err(why @ (Reason::NoService | Reason::IcmpUnknown)) => {
            decided::note_unless(*why);
            // SAFETY: the program that it leads to takes the context over.
            unsafe { maps::STAGES.tail_call(ctx, stage::TUNNEL_ERROR.index) };
        }
        Err(Reason::NoProgram) => decided::go_on_with_error(ctx),
        _ => {}
    }
}

/// Sends packets in tunnels, by a tail call.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_forward(ctx: XdpContext) -> u32 {
    count::and_act(decided::told(&ctx, tunnel::send(ctx.ctx)))
}

/// Translates the addresses of packets to real servers, by a tail call.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_nat(ctx: XdpContext) -> u32 {
    nat::send(ctx.ctx)
}

/// Translates the addresses of packets from real servers, by a tail call.
#[xdp(frags)]
#[inline(always)]
pub fn xdp_lb_reply(ctx: XdpContext) -> u32 {
    count::and_act(decided::told_from(&ctx, reply::send(ctx.ctx)))
}

/// Translates the addresses of ICMP errors to real servers, by a tail call.
#[xdp(frags)]
pub fn xdp_lb_nat_error(ctx: XdpContext) -> u32 {
    quote::send(ctx.ctx)
}

/// Translates the addresses of ICMP errors from the side of real servers, by a tail call.
#[xdp(frags)]
pub fn xdp_lb_reply_error(ctx: XdpContext) -> u32 {
    reply::send_error(ctx.ctx)
}

/// Tells clients of ICMP errors about tunnels, by a tail call.
#[xdp(frags)]
pub fn xdp_lb_tunnel_error(ctx: XdpContext) -> u32 {
    tunnel_error::send(&ctx)
}

/// Translates the addresses of fragments from real servers, by a tail call.
#[xdp(frags)]
pub fn xdp_lb_reply_fragment(ctx: XdpContext) -> u32 {
    reply_fragment::send(&ctx)
}

/// Tells senders why their packets go nowhere, by a tail call.
#[xdp(frags)]
pub fn xdp_lb_answer(ctx: XdpContext) -> u32 {
    answer::send(ctx.ctx)
}

/// The entry for tagged frames.
#[xdp(frags)]
pub fn xdp_lb_tagged(ctx: XdpContext) -> u32 {
    tagged::balance(&ctx)
}

/// The entry for fragments of IPv4 datagrams.
#[xdp(frags)]
pub fn xdp_lb_fragment(ctx: XdpContext) -> u32 {
    fragment::follow::<FlowV4>(&ctx)
}

/// The entry for fragments of IPv6 packets.
#[xdp(frags)]
pub fn xdp_lb_fragment_v6(ctx: XdpContext) -> u32 {
    fragment::follow::<FlowV6>(&ctx)
}

/// The entry for first fragments of IPv4 datagrams, placed already.
#[xdp(frags)]
pub fn xdp_lb_fragment_new(ctx: XdpContext) -> u32 {
    fragment::placed::<FlowV4>(&ctx)
}

/// The entry for first fragments of IPv6 packets, placed already.
#[xdp(frags)]
pub fn xdp_lb_fragment_v6_new(ctx: XdpContext) -> u32 {
    fragment::placed::<FlowV6>(&ctx)
}

/// The path of a packet: `Err` with the reason why it is not sent on.
#[inline(always)]
fn balance<F: Family>(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let packet = F::parse_whole(frame)?;
    let control = service::control()?;
    let service = F::service(control, &packet).ok_or(Reason::NoService)?;
    let now = settings::now();
    service::ours(frame, &packet, &service, control, now)?;
    let target = conn::route(frame, &packet, &service, now.short())?;
    forward::send(frame, &packet, &service, control, target)
}

/// The path of a packet without a connection, from [`conn::route`] on.
#[inline(always)]
fn place<F: Placed>(frame: &Frame) -> Result<(Reason, u32), Reason> {
    let (packet, unplaced) = conn::noted::<F>(frame)?;
    let route = conn::place(&packet, &unplaced, settings::now().short())?;
    fragment::hand_on::<F>(frame, route)?;
    let control = service::control()?;
    forward::send(
        frame,
        &packet,
        unplaced.service(),
        control,
        Target::of(route)?,
    )
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses an endless loop, so a program with a reachable panic does not load.
    loop {}
}

// SAFETY: the kernel reads the section by its name; nothing else in the object bears it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
