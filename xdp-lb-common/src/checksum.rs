//! The Internet's checksum (RFC 1071), whole and in steps (RFC 1624).
//!
//! Words go in as they stand in memory: the sum is the same in any byte order.

/// A sum of 16-bit words in ones' complement, not folded yet. Room for 2^32 words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(pub u64);

impl Sum {
    /// Of what a checksum covers, given the checksum as it stands in its header.
    #[inline(always)]
    pub const fn under(checksum: u16) -> Self {
        Self(!checksum as u64)
    }

    /// With two more words, or one in either half.
    #[inline(always)]
    pub const fn plus(self, words: u32) -> Self {
        Self(self.0 + words as u64)
    }

    /// With four more words.
    #[inline(always)]
    pub const fn plus_long(self, words: u64) -> Self {
        self.plus(words as u32).plus((words >> 32) as u32)
    }

    /// With an address more.
    #[inline(always)]
    pub const fn plus_address(self, address: crate::addr::Address) -> Self {
        let [a, b, c, d] = address.words_be;
        self.plus(a).plus(b).plus(c).plus(d)
    }

    /// Without two words that are in it.
    #[inline(always)]
    pub const fn minus(self, words: u32) -> Self {
        self.plus(!words)
    }

    /// Without an address that is in it.
    #[inline(always)]
    pub const fn minus_address(self, address: crate::addr::Address) -> Self {
        let [a, b, c, d] = address.words_be;
        self.minus(a).minus(b).minus(c).minus(d)
    }

    /// The sum in 16 bits.
    #[inline(always)]
    pub const fn folded(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }

    /// The checksum over it, as it stands in a header.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }

    /// The checksum over it, as it stands in a UDP header: 0 there says that there is none.
    #[inline(always)]
    pub const fn checksum_udp(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            sum => sum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Address;
    use proptest::prelude::*;

    /// By the book: words one by one, carries at once.
    fn reference(words: &[u16]) -> u16 {
        let mut sum = 0_u32;
        for word in words {
            sum += u32::from(*word);
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    fn halves(word: u32) -> [u16; 2] {
        [(word & 0xffff) as u16, (word >> 16) as u16]
    }

    proptest! {
        #[test]
        fn a_sum_is_that_of_its_words(words: Vec<u32>, long: u64) {
            let sum = words.iter().fold(Sum::default(), |sum, word| sum.plus(*word));
            let mut all: Vec<_> = words.iter().flat_map(|word| halves(*word)).collect();
            prop_assert_eq!(sum.checksum(), reference(&all));
            all.extend([long as u32, (long >> 32) as u32].into_iter().flat_map(halves));
            prop_assert_eq!(sum.plus_long(long).checksum(), reference(&all));
        }

        /// What was replaced shows in nothing but itself. (All words 0 is no header: protocol numbers
        /// are in every sum.)
        #[test]
        fn a_step_is_as_good_as_a_new_sum(
            old: u32, new: u32, rest in 1_u32.., from: [u32; 4], to: [u32; 4],
        ) {
            let address = |words_be| Address { words_be };
            let before = Sum::default().plus(rest).plus(old).plus_address(address(from));
            let after = Sum::default().plus(rest).plus(new).plus_address(address(to));
            let step = Sum::under(before.checksum()).minus(old).plus(new);
            let step = step.minus_address(address(from)).plus_address(address(to));
            prop_assert_eq!(step.checksum(), after.checksum());
            prop_assert_ne!(step.checksum_udp(), 0);
        }
    }

    #[test]
    fn a_careless_senders_checksum_means_the_same() {
        let step = |sum| Sum::under(sum).minus(7).plus(9).checksum();
        assert_eq!(step(0xffff), step(0));
    }
}
