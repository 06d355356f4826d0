//! The keyed hash of flows, and where in a table it leads.
//!
//! Two functions of the universal multiply-shift family, side by side: each sums the 32-bit words of
//! the flow, multiplied by secret 64-bit coefficients (those of IPv6 by each other), and keeps the upper half (Dietzfelbinger 1996;
//! Thorup, "High speed hashing for integers and strings", section 3.3). Whatever flows somebody
//! chooses without knowing the coefficients, two of them collide in any n bits with a chance of 2^-n,
//! so nobody outside can aim flows at a place of the table. A bijection then mixes the bits: linear
//! functions of neighbouring ports form a lattice, and without the mix a client's ports met in so few
//! places that flows found no way in a table half full.
//!
//! The family is linear: whoever *saw* hash values could solve for the coefficients. Nothing shows
//! them; a collision is not observable either, as a place takes 16 live flows before any of them
//! behaves differently. SipHash-1-3, which withstands observers too, costs 10 ns a packet more
//! (`cargo xtask bench datapath` prints both prices), half of what an established packet costs in all.
//! It derives the coefficients from the cluster's key, which is made once and pinned with the maps.

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

/// The secret coefficients of the two functions: for each word, and one more to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Coefficients {
    /// Of the function that fills the upper half of the hash.
    pub upper: [u64; 5],
    /// Of the one that fills the lower half.
    pub lower: [u64; 5],
}
crate::pod::pod!(Coefficients);

impl Coefficients {
    /// Derived from a key.
    pub const fn of(key: HashKey) -> Self {
        let mut coefficients = Self {
            upper: [0; 5],
            lower: [0; 5],
        };
        let mut at = 0;
        while at < 5 {
            coefficients.upper[at] = siphash13::<0>(key, at as u64, 0);
            coefficients.lower[at] = siphash13::<0>(key, at as u64 + 5, 0);
            at += 1;
        }
        coefficients
    }
}

/// Words of an IPv6 flow.
pub const WORDS_V6: usize = 10;

/// The coefficients of the two functions over [`WORDS_V6`] words, and one more to add. They are apart
/// from [`Coefficients`], so that IPv4 loads no more than it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct CoefficientsV6 {
    /// Of the function that fills the upper half of the hash.
    pub upper: [u64; WORDS_V6 + 1],
    /// Of the one that fills the lower half.
    pub lower: [u64; WORDS_V6 + 1],
}
crate::pod::pod!(CoefficientsV6);

impl CoefficientsV6 {
    /// Derived from a key; independent of those for IPv4.
    pub const fn of(key: HashKey) -> Self {
        let mut coefficients = Self {
            upper: [0; WORDS_V6 + 1],
            lower: [0; WORDS_V6 + 1],
        };
        let mut at = 0;
        while at <= WORDS_V6 {
            coefficients.upper[at] = siphash13::<0>(key, at as u64 + 64, 0);
            coefficients.lower[at] = siphash13::<0>(key, at as u64 + 128, 0);
            at += 1;
        }
        coefficients
    }
}

/// The 64-bit hash of the words of an IPv6 flow. Of so many words two share a product, each added to a
/// coefficient first (Thorup, "pair-multiply-shift"): half of the multiplications, the same promise.
#[inline(always)]
pub const fn universal_v6(coefficients: &CoefficientsV6, words: [u32; WORDS_V6]) -> u64 {
    let upper = pair_multiply_shift(&coefficients.upper, words) & !(u32::MAX as u64);
    mixed(upper | pair_multiply_shift(&coefficients.lower, words) >> 32)
}

/// One function of that family; the result is in the upper 32 bits.
#[inline(always)]
const fn pair_multiply_shift(coefficients: &[u64; WORDS_V6 + 1], words: [u32; WORDS_V6]) -> u64 {
    let mut sum = coefficients[WORDS_V6];
    let mut at = 0;
    while at < WORDS_V6 {
        let (one, other) = (words[at] as u64, words[at + 1] as u64);
        let left = coefficients[at].wrapping_add(other);
        sum = sum.wrapping_add(left.wrapping_mul(coefficients[at + 1].wrapping_add(one)));
        at += 2;
    }
    sum
}

/// One function of the family, over four words; the result is in the upper 32 bits.
#[inline(always)]
const fn multiply_shift(coefficients: &[u64; 5], words: [u32; 4]) -> u64 {
    let [a, b, c, d, sum] = *coefficients;
    sum.wrapping_add(a.wrapping_mul(words[0] as u64))
        .wrapping_add(b.wrapping_mul(words[1] as u64))
        .wrapping_add(c.wrapping_mul(words[2] as u64))
        .wrapping_add(d.wrapping_mul(words[3] as u64))
}

/// The 64-bit hash of four words.
#[inline(always)]
pub const fn universal(coefficients: &Coefficients, words: [u32; 4]) -> u64 {
    let upper = multiply_shift(&coefficients.upper, words) & !(u32::MAX as u64);
    mixed(upper | multiply_shift(&coefficients.lower, words) >> 32)
}

/// A bijection that hides the lattice which neighbouring words form under a linear function: the
/// ports of one client follow each other, and shall not meet in a few places.
#[inline(always)]
const fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ hash >> 32
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
///
/// A product's bit depends on no higher bit of its factors. So the upper quarter is in the result twice:
/// bits 48 and up of the words must reach the lowest bits of it, which are those that tables take.
#[inline(always)]
pub const fn mix(a: u64, b: u64) -> u32 {
    let x = (a ^ b.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (x >> 32 ^ x >> 48) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;
    use proptest::prelude::*;
    use siphasher::sip::SipHasher13;

    /// Both places of 65,536 flows come out even among 1,024.
    fn is_even(hash_of: impl Fn(u32) -> u64) {
        let mut places = [0_u32; 1024];
        let mut seconds = [0_u32; 1024];
        for flow in 0..65_536 {
            let hash = hash_of(flow);
            places[first_place(hash, 1023) as usize] += 1;
            seconds[second_place(hash, 1023) as usize] += 1;
        }
        for spread in [places, seconds] {
            let (least, most) = (spread.iter().min().unwrap(), spread.iter().max().unwrap());
            assert!(*least > 20 && *most < 130, "{least} to {most} of 64");
        }
    }

    #[test]
    fn the_universal_hash_spreads_neighbouring_flows() {
        let coefficients = Coefficients::of(HashKey { k0: 3, k1: 4 });
        is_even(|flow| universal(&coefficients, [(0x0a00_0000 + flow).to_be(), 1, 80, 6]));
    }

    /// Neighbouring ports of neighbouring clients.
    #[test]
    fn the_hash_of_ipv6_spreads_neighbouring_flows() {
        let coefficients = CoefficientsV6::of(HashKey { k0: 3, k1: 4 });
        is_even(|flow| {
            let mut words = [1; WORDS_V6];
            words[3] = (flow >> 8).to_be();
            words[8] = (0x8000 + (flow & 0xff)).to_be() >> 16;
            universal_v6(&coefficients, words)
        });
    }

    #[test]
    fn every_word_of_ipv6_and_their_order_matters() {
        let coefficients = CoefficientsV6::of(HashKey { k0: 3, k1: 4 });
        let words: [u32; WORDS_V6] = core::array::from_fn(|at| at as u32);
        let hash = universal_v6(&coefficients, words);
        for at in 0..WORDS_V6 {
            let mut other = words;
            other[at] ^= 1 << 31;
            assert_ne!(universal_v6(&coefficients, other), hash, "word {at}");
            let mut other = words;
            other.swap(at, (at + 1) % WORDS_V6);
            assert_ne!(universal_v6(&coefficients, other), hash, "words {at} on");
        }
    }

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
