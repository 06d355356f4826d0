//! The keyed hash of flows, and where in a table it leads.
//!
//! SipHash-1-3, as the standard library's hash maps and the kernel use it: nobody who does not know
//! the key can aim collisions at a set, also not by watching which of their packets collide. (A
//! universal multiply-shift family costs less but is linear: one collision found by timing yields any
//! number of others. `cargo xtask bench datapath` prints what each costs.)
//!
//! The key is made once per cluster and pinned with the maps.

/// The 128-bit key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct HashKey {
    /// First half, little-endian as SipHash reads it.
    pub k0: u64,
    /// Second half.
    pub k1: u64,
}
crate::pod::pod!(HashKey);

struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    #[inline(always)]
    const fn new(key: HashKey) -> Self {
        Self {
            v0: key.k0 ^ 0x736f_6d65_7073_6575,
            v1: key.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: key.k0 ^ 0x6c79_6765_6e65_7261,
            v3: key.k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline(always)]
    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline(always)]
    const fn word(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    const fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

/// SipHash-1-3 of a message of 8 + `TAIL` bytes: `head` as 8 little-endian bytes, then the low `TAIL`
/// bytes of `tail` (the rest of `tail` must be zero). `TAIL` is at most 7.
#[inline(always)]
pub const fn siphash13<const TAIL: u64>(key: HashKey, head: u64, tail: u64) -> u64 {
    let mut sip = Sip::new(key);
    sip.word(head);
    sip.word(tail | ((8 + TAIL) << 56));
    sip.finish()
}

/// A keyed multiply-shift of the same message: the cheaper candidate that `bench` measures beside
/// SipHash. Not used by the packet path.
#[inline(always)]
pub const fn multiply_shift(key: HashKey, head: u64, tail: u64) -> u64 {
    let a = key.k0 | 1;
    let b = key.k1 | 1;
    let low = (head as u32 as u64)
        .wrapping_add(a)
        .wrapping_mul((head >> 32).wrapping_add(b));
    let high = (tail as u32 as u64)
        .wrapping_add(a.rotate_left(32))
        .wrapping_mul((tail >> 32).wrapping_add(b.rotate_left(32)));
    let mixed = low ^ high.rotate_left(32);
    (mixed ^ (mixed >> 29)).wrapping_mul(b)
}

/// A hash as tables hold it: below 2^63, so that two can be compared without a branch, and never 0,
/// which marks a way that was never used. 62 bits are left.
#[inline(always)]
pub const fn key(hash: u64) -> u64 {
    hash & (u64::MAX >> 2) | 1 << 62
}

/// 1 if two keys (or a key and the 0 of an unused way) are equal, else 0. Without a branch.
#[inline(always)]
pub const fn same_key(a: u64, b: u64) -> u32 {
    ((a ^ b).wrapping_sub(1) >> 63) as u32
}

/// The first candidate place of a hash in a table of `mask + 1` places.
#[inline(always)]
pub const fn first_place(hash: u64, mask: u32) -> u32 {
    hash as u32 & mask
}

/// The second candidate place.
#[inline(always)]
pub const fn second_place(hash: u64, mask: u32) -> u32 {
    (hash >> 32) as u32 & mask
}

/// Bits of the hash that a way repeats beside its state.
#[inline(always)]
pub const fn check_bits(hash: u64) -> u64 {
    (hash >> 24) & 0xff
}

/// A fixed mix for open-addressed tables that only userspace fills: no outsider can lengthen their
/// probe sequences, so no key is needed.
#[inline(always)]
pub const fn mix(a: u64, b: u64) -> u32 {
    let x = (a ^ b.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    #[test]
    fn keys_compare_without_a_branch() {
        let (a, b) = (key(0), key(u64::MAX));
        assert_eq!((same_key(a, a), same_key(b, b), same_key(0, 0)), (1, 1, 1));
        assert_eq!((same_key(a, b), same_key(a, 0), same_key(b, 0)), (0, 0, 0));
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference_siphash(k0: u64, k1: u64, head: u64, tail: u64) {
            let key = HashKey { k0, k1 };
            let mut reference = SipHasher13::new_with_keys(k0, k1);
            reference.write(&head.to_le_bytes());
            reference.write(&tail.to_le_bytes()[..5]);
            prop_assert_eq!(siphash13::<5>(key, head, tail & 0xff_ffff_ffff), reference.finish());
        }
    }
}
