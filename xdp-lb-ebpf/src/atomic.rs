//! Atomic operations on map memory. `core::sync::atomic` offers none of 64 bits on BPF; the
//! intrinsics compile to the kernel's own (5.12). All are sequentially consistent: the relaxed form
//! of a fetch-and-add is miscompiled for BPF.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

const SEQ: AtomicOrdering = AtomicOrdering::SeqCst;

/// Replaces the word if it is `old`; whether it was.
///
/// # Safety
/// `word` points to eight aligned bytes of a map value.
#[inline(always)]
pub unsafe fn swap(word: *mut u64, old: u64, new: u64) -> bool {
    // SAFETY: the caller vouches for the pointer.
    let (seen, _) = unsafe { atomic_cxchg::<u64, SEQ, SEQ>(word, old, new) };
    seen == old
}

/// Adds one and returns what was there before.
///
/// # Safety
/// As [`swap`].
#[inline(always)]
pub unsafe fn next(word: *mut u64) -> u64 {
    // SAFETY: the caller vouches for the pointer.
    unsafe { atomic_xadd::<u64, u64, SEQ>(word, 1) }
}

/// Adds a number, wrapping, and returns the sum.
///
/// # Safety
/// As [`swap`].
#[inline(always)]
pub unsafe fn add(word: *mut u64, number: u64) -> u64 {
    // SAFETY: the caller vouches for the pointer.
    unsafe { atomic_xadd::<u64, u64, SEQ>(word, number) }.wrapping_add(number)
}

/// Sets bits.
///
/// # Safety
/// As [`swap`].
#[inline(always)]
pub unsafe fn set_bits(word: *mut u64, bits: u64) {
    // SAFETY: the caller vouches for the pointer.
    let _before = unsafe { atomic_or::<u64, u64, SEQ>(word, bits) };
}
