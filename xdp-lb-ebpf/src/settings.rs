//! What the loader sets before the program is loaded; the verifier sees these as constants.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_jiffies64;
use xdp_lb_common::answer;
use xdp_lb_common::conn::Kind;
use xdp_lb_common::conn::state::{self, next_in, sort};
use xdp_lb_common::hash::{Coefficients, CoefficientsV6, WORDS_V6};
use xdp_lb_common::opaque::hidden;
use xdp_lb_common::tick::{LongTick, Tick};
use xdp_lb_common::watch;

/// The coefficients of the cluster's hash.
#[unsafe(no_mangle)]
pub static COEFFICIENTS: Global<Coefficients> = Global::new(Coefficients {
    upper: [0; 5],
    lower: [0; 5],
});

/// The coefficients of the cluster's hash of IPv6 flows.
#[unsafe(no_mangle)]
static COEFFICIENTS_V6: Global<CoefficientsV6> = Global::new(CoefficientsV6 {
    upper: [0; WORDS_V6 + 1],
    lower: [0; WORDS_V6 + 1],
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

/// What clients of a service without an eligible server are told: one of [`answer::empty_pool`].
#[unsafe(no_mangle)]
pub static EMPTY_POOL: Global<u32> = Global::new(answer::empty_pool::UNREACHABLE);

/// Packets that each CPU answers a tick at most.
#[unsafe(no_mangle)]
pub static ANSWERS_A_TICK: Global<u32> = Global::new(0);

/// 1 if frames may come in several buffers.
#[unsafe(no_mangle)]
pub static BUFFERS: Global<u32> = Global::new(0);

/// Whether frames may come in several buffers: longer ones than a page. It takes Linux 5.18.
#[inline(always)]
pub fn has_buffers() -> bool {
    BUFFERS.load() != 0
}

/// What this load of the object is for: one of [`watch::mode`].
#[unsafe(no_mangle)]
pub static MODE: Global<u32> = Global::new(watch::mode::FORWARD);

/// What this load of the object is for.
#[inline(always)]
pub fn mode() -> u32 {
    MODE.load()
}

/// Whether this load only looks: then nothing is written to a table. All writes that packets bring about
/// ask for it, see [`crate::atomic`] and [`crate::count`].
#[inline(always)]
pub fn is_dry() -> bool {
    mode() == watch::mode::DRY
}

/// The coefficients for IPv6 where they are: a copy would take a third of the stack.
#[inline(always)]
pub fn coefficients_v6() -> &'static CoefficientsV6 {
    // The compiler must not see which static it is: it would take the zeroes for its value.
    let at = core::hint::black_box((&raw const COEFFICIENTS_V6).cast::<CoefficientsV6>());
    // SAFETY: the static, which nobody writes once the loader has filled it.
    unsafe { &*at }
}

/// The present.
#[inline(always)]
pub fn now() -> LongTick {
    // SAFETY: the helper takes no argument and reads one word of the kernel.
    let jiffies = unsafe { bpf_jiffies64() };
    LongTick::from_jiffies(jiffies, TICK_SHIFT.load())
}

/// See [`state::NEXT_KINDS`].
static NEXT_KINDS: [u64; 32] = state::NEXT_KINDS;

/// The number of the kind that a connection has after a packet; 0 if the packet opens a new one.
#[inline(always)]
pub fn next_kind(kind: u64, protocol: u8, tcp_flags: u8) -> u64 {
    next_of_sort(kind, sort(protocol, tcp_flags))
}

/// [`next_kind`] by the [`sort`] of the packet.
#[inline(always)]
pub fn next_of_sort(kind: u64, sort: u32) -> u64 {
    let first = (&raw const NEXT_KINDS).cast::<u64>();
    let index = hidden(sort.into()) as usize & 31;
    // SAFETY: the index is below 32, the length of the array.
    let word = unsafe { first.add(index) };
    // SAFETY: as above; volatile so that it is read, and not reckoned.
    next_in(unsafe { word.read_volatile() }, kind)
}

/// When a way of this kind expires if nothing more is heard of it.
#[inline(always)]
pub fn expiry(kind: Kind, now: Tick) -> Tick {
    expiry_of(kind as u64, now)
}

/// [`expiry`] by the number of a kind.
#[inline(always)]
pub fn expiry_of(kind: u64, now: Tick) -> Tick {
    let first = (&raw const TIMEOUTS).cast::<u32>();
    // The compiler, which knows the kinds, would leave the mask out; the verifier does not know them.
    let index = hidden(kind) as usize & 15;
    // SAFETY: the index is below 16, the length of the array.
    let timeout = unsafe { first.add(index) };
    // SAFETY: as above; volatile because the loader writes the value that the compiler sees as 1.
    now.after(unsafe { timeout.read_volatile() })
}
