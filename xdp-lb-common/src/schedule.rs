//! How the new connections of a service are placed, as one word of the service.

/// The word: a number below 256 that says which scheduler, and `RULE_*` bits.
pub type Word = u32;

/// The client's port counts as well as its address (`sh-port`, `mh-port`).
pub const RULE_PORT: Word = 1 << 8;
/// If the hash leads to a server that takes nobody, another one is tried (`sh-fallback`,
/// `mh-fallback`).
pub const RULE_FALLBACK: Word = 1 << 9;
/// Some server has limits, so that one in the table of picks may have to be passed over.
pub const RULE_LIMITED: Word = 1 << 10;

/// Servers that one search looks at. Of a longer list each connection sees the next so many.
pub const SEARCHED: u32 = 256;

/// Servers that one step of a search looks at: the verifier walks a step once.
pub const SEARCH_STEP: u32 = 8;

/// Hashes that a fallback tries before it goes by the consistent hash over the servers that live.
pub const FALLBACK_TRIES: u32 = 64;

/// Which scheduler. The first keep what IPVS would pick next in a table; those by a hash keep what it
/// leads to; the others keep the list of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Rule {
    /// `rr`, `wrr`: the next entry.
    Cycle = 0,
    /// `sh`: by [`crate::hashed::multiplied`] of the client.
    SourceHash = 1,
    /// `mh`: by [`crate::hashed::maglev`] of the client.
    Maglev = 2,
    /// `dh`: by [`crate::hashed::multiplied`] of the VIP.
    DestinationHash = 3,
    /// `lc`.
    LeastConnections = crate::load::search::LC,
    /// `wlc`.
    WeightedLeastConnections = crate::load::search::WLC,
    /// `sed`.
    ShortestDelay = crate::load::search::SED,
    /// `nq`.
    NeverQueue = crate::load::search::NQ,
    /// `fo`.
    FailOver = crate::load::search::FO,
    /// `ovf`.
    Overflow = crate::load::search::OVF,
    /// `lblc`: that of the last time while it is not overloaded, else as `wlc`.
    LocalityBased = 10,
    /// `lblcr`: as `wlc` among those used before, while that one is not overloaded.
    LocalityBasedReplicated = 11,
    /// `twos`: the better one of two entries by chance.
    TwoChoices = 12,
}

impl Rule {
    /// From the word of a service. A number that was never written reads as `wlc`.
    #[inline(always)]
    pub const fn of(word: Word) -> Self {
        match word & 0xff {
            0 => Self::Cycle,
            1 => Self::SourceHash,
            2 => Self::Maglev,
            3 => Self::DestinationHash,
            4 => Self::LeastConnections,
            6 => Self::ShortestDelay,
            7 => Self::NeverQueue,
            8 => Self::FailOver,
            9 => Self::Overflow,
            10 => Self::LocalityBased,
            11 => Self::LocalityBasedReplicated,
            12 => Self::TwoChoices,
            _ => Self::WeightedLeastConnections,
        }
    }

    /// Whether the same client comes to the same server without anything being remembered.
    #[inline(always)]
    pub const fn is_hash(self) -> bool {
        matches!(
            self,
            Self::SourceHash | Self::Maglev | Self::DestinationHash
        )
    }

    /// Whether it looks at how many connections the servers have.
    pub const fn counts(self) -> bool {
        !self.is_hash() && !matches!(self, Self::Cycle | Self::FailOver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_keeps_its_rule() {
        for number in 0..13 {
            let rule = Rule::of(number | RULE_PORT | RULE_LIMITED);
            assert_eq!(rule as u32, number);
        }
    }
}
