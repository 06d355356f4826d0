//! Atomic operations on map memory. `core::sync::atomic` offers none of 64 bits on BPF; the
//! intrinsics compile to the kernel's own (5.12). All are sequentially consistent: the relaxed form
//! of a fetch-and-add is miscompiled for BPF.
//!
//! Packets change tables by these and by [`store`] alone: where the program only looks, they return what
//! they would have, and write nothing.

use core::intrinsics::{AtomicOrdering, atomic_cxchg, atomic_or, atomic_xadd};

use xdp_lb_common::flow::FlowInfo;

use crate::settings::is_dry;

const SEQ: AtomicOrdering = AtomicOrdering::SeqCst;

/// Replaces the word if it is `old`; whether it was.
///
/// # Safety
/// `word` points to eight aligned bytes of a map value.
#[inline(always)]
pub unsafe fn swap(word: *mut u64, old: u64, new: u64) -> bool {
    if is_dry() {
        // SAFETY: the caller vouches for the pointer.
        return unsafe { word.read_volatile() } == old;
    }
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
    if is_dry() {
        // SAFETY: the caller vouches for the pointer.
        return unsafe { word.read_volatile() };
    }
    // SAFETY: the caller vouches for the pointer.
    unsafe { atomic_xadd::<u64, u64, SEQ>(word, 1) }
}

/// Adds a number, wrapping, and returns the sum.
///
/// # Safety
/// As [`swap`].
#[inline(always)]
pub unsafe fn add(word: *mut u64, number: u64) -> u64 {
    if is_dry() {
        // SAFETY: the caller vouches for the pointer.
        return unsafe { word.read_volatile() }.wrapping_add(number);
    }
    // SAFETY: the caller vouches for the pointer.
    unsafe { atomic_xadd::<u64, u64, SEQ>(word, number) }.wrapping_add(number)
}

/// Sets bits.
///
/// # Safety
/// As [`swap`].
#[inline(always)]
pub unsafe fn set_bits(word: *mut u64, bits: u64) {
    if is_dry() {
        return;
    }
    // SAFETY: the caller vouches for the pointer.
    let _before = unsafe { atomic_or::<u64, u64, SEQ>(word, bits) };
}

/// Writes a value that no other CPU writes now.
///
/// # Safety
/// `at` points to a map value that is this CPU's to write.
#[inline(always)]
pub unsafe fn store<T: Copy>(at: *mut T, value: T) {
    if !is_dry() {
        // SAFETY: the caller vouches for the pointer.
        unsafe { at.write(value) };
    }
}

/// Writes the cold half of a way that no other CPU writes now; word by word, as of a whole value the compiler
/// makes loops over octets.
///
/// # Safety
/// `at` points to a map value that is this CPU's to write.
#[inline(always)]
pub unsafe fn store_info(at: *mut FlowInfo, value: &FlowInfo) {
    if is_dry() {
        return;
    }
    let (at, words) = (at.cast::<u64>(), value.words());
    let mut word = 0;
    while word < words.len() {
        // SAFETY: the caller vouches for the pointer; the value has as many words.
        unsafe { at.add(word).write_volatile(words[word]) };
        word += 1;
    }
}

/// Writes a word that other CPUs may read and write.
///
/// # Safety
/// As [`swap`].
#[inline(always)]
pub unsafe fn publish(word: *mut u64, value: u64) {
    if !is_dry() {
        // SAFETY: the caller vouches for the pointer.
        unsafe { word.write_volatile(value) };
    }
}
