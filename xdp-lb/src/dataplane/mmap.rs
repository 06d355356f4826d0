//! Arrays of the kernel in this process's memory: the one file here with `unsafe`.
//!
//! A map created with `BPF_F_MMAPABLE` is mapped shared, so a store here is a store in the table that
//! packets read. Everything is accessed as 64-bit atomics: a word is never seen half written.
#![expect(unsafe_code, reason = "mapping kernel memory and viewing it as words")]

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// A mapped array of `T`.
///
/// `T` must be as long as its slot in the kernel's array, which is rounded up to 8 bytes; a shorter
/// integer stands in the low bytes of its word.
#[derive(Debug)]
pub struct MappedArray<T> {
    start: NonNull<AtomicU64>,
    bytes: NonZeroUsize,
    len: u32,
    value: PhantomData<T>,
}

// SAFETY: the memory is shared with the kernel and other processes anyway; all accesses are atomic.
unsafe impl<T> Send for MappedArray<T> {}

// SAFETY: as for `Send`.
unsafe impl<T> Sync for MappedArray<T> {}

impl<T: Pod> MappedArray<T> {
    const WORDS: usize = size_of::<T>().div_ceil(8);

    /// Maps an array of `len` values.
    pub fn new(map: impl AsFd, len: u32) -> Result<Self, nix::Error> {
        let bytes = Self::WORDS.saturating_mul(8).saturating_mul(len as usize);
        let bytes = NonZeroUsize::new(bytes).ok_or(nix::Error::EINVAL)?;
        let flags = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a fresh shared mapping of a file descriptor; nothing else points into it.
        let start = unsafe { mmap(None, bytes, flags, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self {
            start: start.cast(),
            bytes,
            len,
            value: PhantomData,
        })
    }

    /// Number of values.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether there is no value; never true.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The words of a value; none if the index is out of range.
    pub fn words(&self, index: u32) -> &[AtomicU64] {
        if index >= self.len {
            return &[];
        }
        // SAFETY: the index is in range, so the value lies within the mapping.
        let first = unsafe { self.start.add(index as usize * Self::WORDS) };
        // SAFETY: within the mapping, which lives as long as `self`; atomics allow shared writes.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), Self::WORDS) }
    }

    /// All words, value after value.
    pub fn all_words(&self) -> &[AtomicU64] {
        // SAFETY: the whole mapping, which lives as long as `self`; atomics allow shared writes.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes.get() / 8) }
    }

    /// Reads a value word by word; all zeroes if the index is out of range.
    pub fn read(&self, index: u32) -> T {
        // SAFETY: `Pod` allows all bit patterns, zeroes too.
        let mut value: T = unsafe { std::mem::zeroed() };
        for (at, word) in self.words(index).iter().enumerate() {
            let bytes = word.load(Ordering::Acquire).to_ne_bytes();
            let first = at * 8;
            let count = 8.min(size_of::<T>() - first);
            let target = (&raw mut value).cast::<u8>().wrapping_add(first);
            // SAFETY: `count` bytes from `first` lie within the value.
            unsafe { target.copy_from_nonoverlapping(bytes.as_ptr(), count) };
        }
        value
    }

    /// Writes a value word by word, the first word last, so that a value whose first word says that
    /// it is valid becomes so only when the rest is there.
    pub fn write(&self, index: u32, value: &T) {
        for (at, word) in self.words(index).iter().enumerate().rev() {
            let mut bytes = [0; 8];
            let first = at * 8;
            let count = 8.min(size_of::<T>() - first);
            let source = std::ptr::from_ref(value).cast::<u8>().wrapping_add(first);
            // SAFETY: `count` bytes from `first` lie within the value.
            unsafe { source.copy_to_nonoverlapping(bytes.as_mut_ptr(), count) };
            word.store(u64::from_ne_bytes(bytes), Ordering::Release);
        }
    }

    /// Writes one word of a value.
    pub fn store(&self, index: u32, word: usize, value: u64) {
        if let Some(word) = self.words(index).get(word) {
            word.store(value, Ordering::Release);
        }
    }

    /// Reads one word of a value; 0 if out of range.
    pub fn load(&self, index: u32, word: usize) -> u64 {
        self.words(index)
            .get(word)
            .map_or(0, |word| word.load(Ordering::Acquire))
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`; nothing borrows from a dropped value.
        let unmapped = unsafe { munmap(self.start.cast(), self.bytes.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of an own mapping");
    }
}
