//! Programs for the lab and the benches; never part of the agent.
#![no_std]
#![no_main]

use core::hint::black_box;

use aya_ebpf::Global;
use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_ktime_get_ns;
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
    let Some(generator) = GENERATOR.get_ptr_mut(0) else {
        return xdp_action::XDP_ABORTED;
    };
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
    let sum = g.checksum + (client >> 16) + (client & 0xffff);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let start = ctx.data();
    if start + 54 > ctx.data_end() {
        return xdp_action::XDP_ABORTED;
    }
    // SAFETY: all within the 54 octets checked above; packets have no alignment.
    unsafe {
        (start as *mut u64).write_unaligned(g.low);
        ((start + 8) as *mut u32).write_unaligned(g.high);
        ((start + 22) as *mut u8).write_volatile(64);
        ((start + 24) as *mut u16).write_unaligned((!(sum as u16)).to_be());
        ((start + 26) as *mut u32).write_unaligned(client.to_be());
    }
    // SAFETY: the tail call takes over the context.
    unsafe { TARGET.tail_call(&ctx, 0) };
    xdp_action::XDP_ABORTED
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
