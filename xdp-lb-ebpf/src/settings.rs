//! What the loader sets before the program is loaded; the verifier sees these as constants.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::hash::Coefficients;
use xdp_lb_common::tick::{LongTick, Tick};

/// The coefficients of the cluster's hash.
#[unsafe(no_mangle)]
pub static COEFFICIENTS: Global<Coefficients> = Global::new(Coefficients {
    upper: [0; 5],
    lower: [0; 5],
});

/// Places of the connection table, minus one.
#[unsafe(no_mangle)]
pub static CONN_MASK: Global<u32> = Global::new(0);

/// Places of the template table, minus one.
#[unsafe(no_mangle)]
pub static TEMPLATE_MASK: Global<u32> = Global::new(0);

/// Jiffies are shifted right by this to give ticks.
#[unsafe(no_mangle)]
pub static TICK_SHIFT: Global<u32> = Global::new(7);

/// Timeouts by kind, ticks.
#[unsafe(no_mangle)]
pub static TIMEOUTS: Global<[u32; 16]> = Global::new([1; 16]);

/// The present.
#[inline(always)]
pub fn now() -> LongTick {
    // SAFETY: the helper takes no argument and reads one word of the kernel.
    let jiffies = unsafe { bpf_jiffies64() };
    LongTick::from_jiffies(jiffies, TICK_SHIFT.load())
}

/// When a connection of this kind expires if nothing more is heard of it.
#[inline(always)]
pub fn expiry(kind: Kind, now: Tick) -> Tick {
    let first = (&raw const TIMEOUTS).cast::<u32>();
    // SAFETY: the index is below 16, the length of the array.
    let timeout = unsafe { first.add(kind as usize & 15) };
    // SAFETY: as above; volatile because the loader writes the value that the compiler sees as 1.
    now.after(unsafe { timeout.read_volatile() })
}
