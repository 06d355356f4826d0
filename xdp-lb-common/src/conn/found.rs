//! What a look-up in a connection table comes to.

use super::state::{CHECK_MASK, CHECK_SHIFT, State};
use crate::hash::check_bits;
use crate::limits::WAYS;

/// A way and the state it was found in; or none, with all fields zero. (Not an `Option`: the compiler
/// leaves the fields of a `None` unset, and the verifier refuses to see them copied.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether it lies in the second place.
    pub in_second: bool,
    /// Way within the place.
    pub way: usize,
    /// Its state when it was read.
    pub state: State,
}

impl Found {
    const IN_SECOND: u64 = 1 << CHECK_SHIFT << 3;

    /// Whether there is a way at all.
    #[inline(always)]
    pub const fn exists(&self) -> bool {
        self.state.0 != 0
    }

    /// As one word, see [`Claim::pack`]; 0 for none. Where the way lies takes the place of the check bits,
    /// which are the hash's.
    #[inline(always)]
    pub const fn pack(self) -> u64 {
        if !self.exists() {
            return 0;
        }
        let second = if self.in_second { Self::IN_SECOND } else { 0 };
        self.state.0 & !CHECK_MASK | second | (self.way as u64) << CHECK_SHIFT
    }

    /// From one word, and the hash.
    #[inline(always)]
    pub const fn unpack(word: u64, hash: u64) -> Self {
        if word == 0 {
            return Self {
                in_second: false,
                way: 0,
                state: State(0),
            };
        }
        Self {
            in_second: word & Self::IN_SECOND != 0,
            way: (word >> CHECK_SHIFT) as usize & (WAYS - 1),
            state: State(word & !CHECK_MASK | check_bits(hash) << CHECK_SHIFT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conn::Kind;
    use crate::hash::key;
    use crate::tick::Tick;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_found_is_so_again_from_one_word(
            hash: u64, in_second: bool, way in 0..WAYS, kind in 1_u8..13, backend in 0_u32..1 << 20,
            generation: u8, expiry in 0_u32..1 << 24,
        ) {
            let (hash, kind) = (key(hash), Kind::from_bits(kind));
            let state = State::new(hash, kind, backend, generation, Tick(expiry));
            let found = Found { in_second, way, state };
            prop_assert_eq!(Found::unpack(found.pack(), hash), found);
        }
    }

    #[test]
    fn nothing_is_nothing_again() {
        let nothing = Found {
            in_second: false,
            way: 0,
            state: State(0),
        };
        assert_eq!(nothing.pack(), 0);
        assert_eq!(Found::unpack(0, 1 << 62), nothing);
    }
}
