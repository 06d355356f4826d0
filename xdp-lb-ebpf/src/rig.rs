//! Programs for the lab and the benches; never part of the agent.
#![no_std]
#![no_main]

use core::hint::black_box;

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;
use xdp_lb_common::hash::{Coefficients, HashKey, siphash13, universal};

/// Passes everything: what a veth needs at its far end for XDP_TX to arrive.
#[xdp(frags)]
pub fn pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// Does nothing: what a program costs before it does anything.
#[xdp(frags)]
pub fn empty(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// What the generator writes. The first words are the frame's, in its byte order.
#[repr(C)]
pub struct Generator {
    /// Octets 0 to 7: destination MAC and the start of the source MAC.
    low: u64,
    /// Octets 8 to 11: the rest of the source MAC.
    high: u32,
    /// Number of the first client, host order; a flow's number is added to it.
    client: u32,
    /// Flows, minus one; a power of two minus one.
    flow_mask: u32,
    /// IP header checksum with the client's address 0, host order.
    checksum: u32,
    /// Turns so far.
    turn: u64,
    /// Octets 30 to 37 and 50 to 51: what follows the client's address, or begins with it in IPv6.
    middle: u64,
    tcp_checksum: u32,
    /// Octets of the frame.
    len: u32,
    /// The clock at every 2^16th turn, ns.
    marks: [u64; 256],
}

/// The generator's settings and results.
#[map]
static GENERATOR: Array<Generator> = Array::with_max_entries(1, 0);

/// The program under test.
#[map]
static TARGET: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Puts the frame back as it was, picks the next flow and runs the program under test. Stores have
/// the width of the loads in that program: a narrower one would make them miss store forwarding and
/// charge it some 5 ns that no real packet costs.
#[xdp(frags)]
pub fn generate(ctx: XdpContext) -> u32 {
    let Some(flow) = next_flow() else {
        return xdp_action::XDP_ABORTED;
    };
    if write_v4(&ctx, &flow).is_none() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: the tail call takes over the context.
    unsafe { TARGET.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// [`generate`] for programs that translate addresses or put headers in front, which are taken off.
#[xdp(frags)]
pub fn generate_whole(ctx: XdpContext) -> u32 {
    let Some(flow) = next_flow() else {
        return xdp_action::XDP_ABORTED;
    };
    // Else the compiler would take the difference of halves of pointers, which the verifier forbids.
    let len = black_box(ctx.data_end() - ctx.data());
    let more = len as i32 - flow.g.len as i32;
    // SAFETY: the kernel checks the room; pointers into the frame are made below.
    if more != 0 && unsafe { bpf_xdp_adjust_head(ctx.ctx, more) } != 0 {
        return xdp_action::XDP_ABORTED;
    }
    let Some(start) = write_v4(&ctx, &flow) else {
        return xdp_action::XDP_ABORTED;
    };
    // SAFETY: within the 54 octets that were checked; packets have no alignment.
    unsafe {
        ((start + 12) as *mut u16).write_unaligned(0x0800_u16.to_be());
        ((start + 30) as *mut u32).write_unaligned(flow.g.middle as u32);
        ((start + 34) as *mut u32).write_unaligned((flow.g.middle >> 32) as u32);
        ((start + 50) as *mut u16).write_unaligned(flow.g.tcp_checksum as u16);
    }
    // SAFETY: the tail call takes over the context.
    unsafe { TARGET.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// [`generate`] for IPv6.
#[xdp(frags)]
pub fn generate_v6(ctx: XdpContext) -> u32 {
    let Some(flow) = next_flow() else {
        return xdp_action::XDP_ABORTED;
    };
    let start = ctx.data();
    if start + 74 > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: all within the 74 octets checked above; packets have no alignment.
    unsafe {
        ((start) as *mut u64).write_unaligned(flow.g.low);
        ((start + 8) as *mut u32).write_unaligned(flow.g.high);
        ((start + 21) as *mut u8).write_volatile(64);
        ((start + 30) as *mut u64)
            .write_unaligned(flow.g.middle | (flow.client.to_be() as u64) << 32);
    }
    // SAFETY: the tail call takes over the context.
    unsafe { TARGET.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
}

/// A turn.
struct Flow {
    g: &'static Generator,
    client: u32,
}

/// Takes the time, and picks the next flow.
#[inline(always)]
fn next_flow() -> Option<Flow> {
    let generator = GENERATOR.get_ptr_mut(0)?;
    // SAFETY: a map value; a bench runs on one CPU.
    let g = unsafe { &mut *generator };
    if g.turn & 0xffff == 0 {
        // SAFETY: the helper takes no argument.
        g.marks[(g.turn >> 16) as usize & 255] = unsafe { bpf_ktime_get_ns() };
    }
    // An odd multiplier: all flows, in scattered order.
    let flow = (g.turn as u32).wrapping_mul(2_654_435_761) & g.flow_mask;
    g.turn += 1;
    let client = g.client.wrapping_add(flow);
    Some(Flow { g, client })
}

/// Puts an IPv4 frame back as far as direct routing changes it, with the flow's client; where it starts.
#[inline(always)]
fn write_v4(ctx: &XdpContext, flow: &Flow) -> Option<usize> {
    let client = flow.client;
    let sum = flow.g.checksum + (client >> 16) + (client & 0xffff);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let start = ctx.data();
    if start + 54 > ctx.data_end() {
        return None;
    }
    // SAFETY: all within the 54 octets checked above; packets have no alignment.
    unsafe {
        (start as *mut u64).write_unaligned(flow.g.low);
        ((start + 8) as *mut u32).write_unaligned(flow.g.high);
        ((start + 22) as *mut u8).write_volatile(64);
        ((start + 24) as *mut u16).write_unaligned((!(sum as u16)).to_be());
        ((start + 26) as *mut u32).write_unaligned(client.to_be());
    }
    Some(start)
}

/// A key that the compiler cannot see through.
#[inline(always)]
fn key() -> HashKey {
    black_box(HashKey {
        k0: 0x0706_0504_0302_0100,
        k1: 0x0f0e_0d0c_0b0a_0908,
    })
}

/// Coefficients, as the program holds them: read from read-only data.
#[unsafe(no_mangle)]
static RIG_COEFFICIENTS: Global<Coefficients> = Global::new(Coefficients::of(HashKey {
    k0: 0x0706_0504_0302_0100,
    k1: 0x0f0e_0d0c_0b0a_0908,
}));

/// The flow of a frame as the program packs it.
#[inline(always)]
fn message(ctx: &XdpContext) -> Option<(u64, u64)> {
    let start = ctx.data();
    if start + 54 > ctx.data_end() {
        return None;
    }
    // SAFETY: within the 54 octets checked above; packets have no alignment.
    unsafe {
        let client = ((start + 26) as *const u32).read_unaligned();
        let vip = ((start + 30) as *const u32).read_unaligned();
        let ports = ((start + 34) as *const u32).read_unaligned();
        Some((client as u64 | (vip as u64) << 32, ports as u64 | 6 << 32))
    }
}

/// The price of SipHash-1-3.
#[xdp(frags)]
pub fn price_siphash(ctx: XdpContext) -> u32 {
    let Some((head, tail)) = message(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    2 + (black_box(siphash13::<5>(key(), head, tail)) as u32 & 1)
}

/// The price of the hash in use.
#[xdp(frags)]
pub fn price_universal(ctx: XdpContext) -> u32 {
    let Some((head, tail)) = message(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    2 + (black_box(universal(
        &RIG_COEFFICIENTS.load(),
        [head as u32, (head >> 32) as u32, tail as u32, 6],
    )) as u32
        & 1)
}

/// The price of reading the flow alone.
#[xdp(frags)]
pub fn price_no_hash(ctx: XdpContext) -> u32 {
    let Some((head, tail)) = message(&ctx) else {
        return xdp_action::XDP_ABORTED;
    };
    2 + (black_box(key().k0 ^ head ^ tail) as u32 & 1)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

// SAFETY: the kernel reads the section by its name; nothing else in the object bears it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
