//! The state word of a way.
//!
//! ```text
//!  63          40 39     32 31        24 23  20 19                 0
//! +--------------+---------+------------+------+--------------------+
//! | expiry tick  |  check  | generation | kind |      backend       |
//! +--------------+---------+------------+------+--------------------+
//! ```
//!
//! The expiry, not the last use, is stored: a scan for a free way needs no timeouts. It changes at
//! most once per tick, so a busy flow costs one compare-and-exchange a tick.

use crate::hash::check_bits;
use crate::tick::{self, Tick};

/// Highest backend index a state word can hold, plus one.
pub const BACKENDS: u32 = 1 << 20;

/// A state word. All zeroes is a way that was never used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State(pub u64);

/// What a way holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Nothing.
    Free = 0,
    /// A CPU is inserting.
    Claimed = 1,
    /// TCP, only SYNs seen.
    Syn = 2,
    /// UDP, one datagram seen.
    UdpNew = 3,
    /// A template of which no flow is confirmed.
    TemplateNew = 4,
    /// TCP, the client sent FIN.
    Fin = 5,
    /// TCP, the client sent RST.
    Closed = 6,
    /// TCP, established.
    Established = 7,
    /// UDP, several datagrams seen.
    Udp = 8,
    /// A template of which a flow was confirmed.
    Template = 9,
    /// The replies of a connection that is not confirmed.
    ReplyNew = 10,
    /// The replies of a connection.
    Reply = 11,
    /// No connection: where the first fragment of a datagram went, for those that follow.
    Fragment = 12,
}

impl Kind {
    /// From the four bits of a state word. Numbers never written read as free.
    #[inline(always)]
    pub const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Claimed,
            2 => Self::Syn,
            3 => Self::UdpNew,
            4 => Self::TemplateNew,
            5 => Self::Fin,
            6 => Self::Closed,
            7 => Self::Established,
            8 => Self::Udp,
            9 => Self::Template,
            10 => Self::ReplyNew,
            11 => Self::Reply,
            12 => Self::Fragment,
            _ => Self::Free,
        }
    }

    /// The name `ipvsadm -Lnc` has for the state.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Free | Self::Claimed | Self::TemplateNew | Self::ReplyNew | Self::Reply => "NONE",
            Self::Syn => "SYN_RECV",
            Self::Fin => "FIN_WAIT",
            Self::Closed => "CLOSE",
            Self::Established => "ESTABLISHED",
            Self::UdpNew | Self::Udp => "UDP",
            Self::Template => "ASSURED",
            Self::Fragment => "FRAGMENT",
        }
    }

    /// Whether a way of this kind is a connection, which is listed, counted and told to other directors.
    pub const fn is_connection(self) -> bool {
        match self {
            Self::Syn | Self::UdpNew | Self::Fin | Self::Closed | Self::Established | Self::Udp => {
                true
            }
            Self::Free
            | Self::Claimed
            | Self::TemplateNew
            | Self::Template
            | Self::ReplyNew
            | Self::Reply
            | Self::Fragment => false,
        }
    }
}

/// A bit per kind that counts as active; IPVS counts UDP as inactive, and templates as neither. Nor does
/// what is kept of a fragment count.
const ACTIVE: u64 = 1 << Kind::Syn as u64 | 1 << Kind::Established as u64;
/// A bit per kind that counts as inactive.
const INACTIVE: u64 = 1 << Kind::UdpNew as u64
    | 1 << Kind::Udp as u64
    | 1 << Kind::Fin as u64
    | 1 << Kind::Closed as u64;

const EXPIRY_SHIFT: u32 = 40;
/// Where the check bits stand,
pub(super) const CHECK_SHIFT: u32 = 32;
/// and all of them.
pub(super) const CHECK_MASK: u64 = 0xff << CHECK_SHIFT;
const GENERATION_SHIFT: u32 = 24;
const KIND_SHIFT: u32 = 20;
const BACKEND_MASK: u64 = (1 << KIND_SHIFT) - 1;

impl State {
    /// A word for the flow of `hash`.
    #[inline(always)]
    pub const fn new(hash: u64, kind: Kind, backend: u32, generation: u8, expiry: Tick) -> Self {
        Self(
            (expiry.0 as u64) << EXPIRY_SHIFT
                | check_bits(hash) << CHECK_SHIFT
                | (generation as u64) << GENERATION_SHIFT
                | (kind as u64) << KIND_SHIFT
                | (backend as u64 & BACKEND_MASK),
        )
    }

    /// The same flow and backend in another kind with another expiry.
    #[inline(always)]
    pub const fn with(self, kind: Kind, expiry: Tick) -> Self {
        self.with_bits(kind as u64, expiry)
    }

    /// [`Self::with`] by the number of a kind.
    #[inline(always)]
    pub const fn with_bits(self, kind: u64, expiry: Tick) -> Self {
        let kept = self.0 & ((0xffff << GENERATION_SHIFT) | BACKEND_MASK);
        Self(kept | (expiry.0 as u64) << EXPIRY_SHIFT | (kind & 0xf) << KIND_SHIFT)
    }

    /// The moment after which the way is free.
    #[inline(always)]
    pub const fn expiry(self) -> Tick {
        Tick((self.0 >> EXPIRY_SHIFT) as u32 & tick::MASK)
    }

    /// What the way holds.
    #[inline(always)]
    pub const fn kind(self) -> Kind {
        Kind::from_bits(self.kind_bits() as u8)
    }

    /// The number of what the way holds.
    #[inline(always)]
    pub const fn kind_bits(self) -> u64 {
        (self.0 >> KIND_SHIFT) & 0xf
    }

    /// The generation of the backend when the flow was placed.
    #[inline(always)]
    pub const fn generation(self) -> u8 {
        (self.0 >> GENERATION_SHIFT) as u8
    }

    /// What a way in this state adds to its backend's [`crate::load::Counts`]. Without a branch.
    #[inline(always)]
    pub const fn counts(self) -> u64 {
        let kind = self.kind_bits();
        (ACTIVE >> kind & 1) | (INACTIVE >> kind & 1) << 32
    }

    /// Whether two words count for the same, but for their expiry.
    #[inline(always)]
    pub const fn counts_as(self, other: Self) -> bool {
        (self.0 ^ other.0) & ((0xff << GENERATION_SHIFT) | (0xf << KIND_SHIFT) | BACKEND_MASK) == 0
    }

    /// Index of the backend.
    #[inline(always)]
    pub const fn backend(self) -> u32 {
        (self.0 & BACKEND_MASK) as u32
    }

    /// Whether the word can belong to the flow of `hash`.
    #[inline(always)]
    pub const fn belongs_to(self, hash: u64) -> bool {
        (self.0 >> CHECK_SHIFT) & 0xff == check_bits(hash)
    }

    /// 1 if a new flow may take the way: never used, released or expired. Without a branch.
    #[inline(always)]
    pub const fn is_free(self, now: Tick) -> u32 {
        let unused = (self.kind_bits().wrapping_sub(1) >> 63) as u32;
        unused | self.expiry().is_past(now)
    }

    /// 1 while a CPU is inserting, else 0. Without a branch.
    #[inline(always)]
    pub const fn is_claimed(self) -> u32 {
        let differs = self.kind_bits() ^ Kind::Claimed as u64;
        (differs.wrapping_sub(1) >> 63) as u32
    }

    /// How readily a full place gives this way away, less being sooner: unconfirmed before closing,
    /// within a class what expires first; [`NEVER_EVICTED`] or more for all others. Without a branch.
    #[inline(always)]
    pub const fn eviction_rank(self, now: Tick) -> u64 {
        let class = (EVICTION_CLASSES >> (self.kind_bits() * 4)) & 0xf;
        let remaining = self.expiry().0.wrapping_sub(now.0) & tick::MASK;
        class << tick::BITS | remaining as u64
    }
}

/// Ranks from here on belong to entries that are never evicted.
pub const NEVER_EVICTED: u64 = 0xf << tick::BITS;

/// A nibble per kind: 0 for SYN, new UDP, new templates, new replies and fragments, 1 for FIN and closed,
/// else never.
const EVICTION_CLASSES: u64 = 0xfff0_f0ff_f110_00ff;

/// TCP flag bits as they stand in octet 13 of the header.
pub mod tcp {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// Life of an idle entry by kind, ticks (`lvs_timeouts` in ticks, with IPVS's defaults in seconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Timeouts {
    /// SYN seen: 60 s.
    pub syn: u32,
    /// Established: 900 s.
    pub established: u32,
    /// FIN seen: 120 s.
    pub fin: u32,
    /// RST seen: 10 s.
    pub closed: u32,
    /// UDP: 300 s.
    pub udp: u32,
    /// What is kept of a first fragment: 30 s, as Linux waits for the rest of a datagram.
    pub fragment: u32,
}
crate::pod::pod!(Timeouts);

impl Timeouts {
    /// IPVS's defaults on a kernel with this clock.
    pub const fn defaults(clock: tick::Clock) -> Self {
        Self {
            syn: clock.ticks(60),
            established: clock.ticks(900),
            fin: clock.ticks(120),
            closed: clock.ticks(10),
            udp: clock.ticks(300),
            fragment: clock.ticks(30),
        }
    }

    /// The timeout of a kind of connection.
    #[inline(always)]
    pub const fn of(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Syn => self.syn,
            Kind::Fin => self.fin,
            Kind::Closed => self.closed,
            Kind::UdpNew | Kind::Udp => self.udp,
            Kind::Fragment => self.fragment,
            Kind::Established
            | Kind::Free
            | Kind::Claimed
            | Kind::TemplateNew
            | Kind::Template
            | Kind::ReplyNew
            | Kind::Reply => self.established,
        }
    }
}

/// Whether a TCP packet opens a connection: SYN without RST, as IPVS judges.
#[inline(always)]
pub const fn opens(flags: u8) -> bool {
    flags & (tcp::SYN | tcp::RST) == tcp::SYN
}

/// The kind of a TCP connection after a packet of the client, as IPVS sees it in direct routing
/// (client half only); `None` when the packet opens a new connection on the closing old one.
///
/// Two deviations from IPVS: a SYN on a closing connection is scheduled anew at once, and data after
/// a RST returns the flow to established, so that a blindly forged RST does not end it.
#[inline(always)]
pub const fn tcp_next(kind: Kind, flags: u8) -> Option<Kind> {
    if flags & tcp::RST != 0 {
        return match kind {
            Kind::Syn => Some(Kind::Syn),
            _ => Some(Kind::Closed),
        };
    }
    if flags & tcp::SYN != 0 {
        return match kind {
            Kind::Fin | Kind::Closed => None,
            other => Some(other),
        };
    }
    if flags & tcp::FIN != 0 {
        return Some(Kind::Fin);
    }
    match kind {
        Kind::Syn | Kind::Closed if flags & tcp::ACK != 0 => Some(Kind::Established),
        other => Some(other),
    }
}

/// What comes of each kind by a packet, a word for each [`sort`] of packets: a nibble for each kind, 0 where
/// the packet opens a new connection. UDP's come to [`Kind::Udp`], TCP's to [`tcp_next`]. A packet's next
/// kind then takes a load and a shift, and no branch on what nobody can foresee.
pub const NEXT_KINDS: [u64; 32] = {
    let mut table = [0; 32];
    let mut at = 0;
    while at < table.len() {
        let flags = (at as u8 & 7) | (at as u8 & 8) << 1;
        let mut bits = 0;
        while bits < 16 {
            let next = if at & 16 != 0 {
                Some(Kind::Udp)
            } else {
                tcp_next(Kind::from_bits(bits), flags)
            };
            if let Some(kind) = next {
                table[at] |= (kind as u64) << (bits * 4);
            }
            bits += 1;
        }
        at += 1;
    }
    table
};

/// A bit for each [`sort`] of packets that are in the middle of a TCP connection.
const MIDSTREAM: u32 = {
    let mut bits = 0;
    let mut at = 0;
    while at < 16 {
        if !opens(at as u8 & 7) {
            bits |= 1 << at;
        }
        at += 1;
    }
    bits
};

/// 1 for a packet in the middle of a TCP connection, else 0. Without a branch.
#[inline(always)]
pub const fn midstream(protocol: u8, flags: u8) -> u64 {
    (MIDSTREAM >> sort(protocol, flags) & 1) as u64
}

/// The number of a packet's sort, below 32: its FIN, SYN, RST and ACK, and the bit of an IP protocol that
/// UDP has and TCP has not.
#[inline(always)]
pub const fn sort(protocol: u8, flags: u8) -> u32 {
    (flags & 7 | (flags & tcp::ACK) >> 1 | protocol & 16) as u32
}

/// The number of the kind that follows one in a word of [`NEXT_KINDS`].
#[inline(always)]
pub const fn next_in(word: u64, kind: u64) -> u64 {
    word >> (kind * 4) & 0xf
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{TCP, UDP};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_word_keeps_its_parts(hash: u64, backend in 0..BACKENDS, generation: u8, at in 0..=tick::MASK) {
            let state = State::new(hash, Kind::Fin, backend, generation, Tick(at));
            prop_assert_eq!(state.kind(), Kind::Fin);
            prop_assert_eq!((state.backend(), state.generation()), (backend, generation));
            prop_assert_eq!(state.expiry(), Tick(at));
            prop_assert!(state.belongs_to(hash));
            let moved = state.with(Kind::Closed, Tick(at ^ 1));
            prop_assert_eq!(moved, State::new(hash, Kind::Closed, backend, generation, Tick(at ^ 1)));
        }
    }

    #[test]
    fn a_way_is_free_when_unused_or_expired() {
        let now = Tick(100);
        let at = |kind, expiry| State::new(7, kind, 1, 0, Tick(expiry)).is_free(now);
        assert_eq!(State::default().is_free(now), 1);
        assert_eq!(at(Kind::Free, 200), 1);
        assert_eq!(at(Kind::Established, 100), 0);
        assert_eq!(at(Kind::Established, 99), 1);
        assert_eq!(at(Kind::Claimed, 104), 0);
    }

    #[test]
    fn established_entries_are_never_evicted() {
        let now = Tick(100);
        let rank = |kind, expiry| State::new(7, kind, 1, 0, Tick(expiry)).eviction_rank(now);
        for kind in [
            Kind::Syn,
            Kind::UdpNew,
            Kind::TemplateNew,
            Kind::ReplyNew,
            Kind::Fragment,
        ] {
            assert!(rank(kind, 300) < rank(Kind::Fin, 101), "{kind:?}");
            assert!(rank(kind, 101) < rank(kind, 102), "{kind:?}");
        }
        assert!(rank(Kind::Closed, 300) < NEVER_EVICTED);
        for kind in [
            Kind::Free,
            Kind::Claimed,
            Kind::Established,
            Kind::Udp,
            Kind::Template,
            Kind::Reply,
        ] {
            assert!(rank(kind, 101) >= NEVER_EVICTED, "{kind:?}");
        }
    }

    #[test]
    fn what_is_no_connection_counts_as_none() {
        for bits in 0..16 {
            let kind = Kind::from_bits(bits);
            let counts = State::new(7, kind, 1, 0, Tick(0)).counts();
            assert_eq!(counts != 0, kind.is_connection(), "{kind:?}");
        }
    }

    #[test]
    fn tcp_follows_the_client_half_as_ipvs_does() {
        use Kind::{Closed, Established, Fin, Syn};
        use tcp::{ACK, FIN, RST, SYN};
        let cases = [
            (Syn, SYN, Some(Syn)),
            (Syn, ACK, Some(Established)),
            (Syn, RST, Some(Syn)),
            (Syn, FIN | ACK, Some(Fin)),
            (Established, SYN, Some(Established)),
            (Established, ACK, Some(Established)),
            (Established, FIN | ACK, Some(Fin)),
            (Established, RST | ACK, Some(Closed)),
            (Fin, ACK, Some(Fin)),
            (Fin, RST, Some(Closed)),
            (Fin, SYN, None),
            (Closed, SYN, None),
            (Closed, ACK, Some(Established)),
            (Closed, 0, Some(Closed)),
        ];
        for (kind, flags, next) in cases {
            assert_eq!(tcp_next(kind, flags), next, "{kind:?} {flags:#x}");
        }
    }

    #[test]
    fn the_table_says_what_follows() {
        for bits in 0..16 {
            let kind = Kind::from_bits(bits);
            for flags in 0..=u8::MAX {
                let word = NEXT_KINDS[sort(TCP, flags) as usize];
                let next = tcp_next(kind, flags).map_or(0, |kind| kind as u64);
                assert_eq!(next_in(word, bits.into()), next, "{kind:?} {flags:#x}");
                assert_eq!(midstream(TCP, flags) == 1, !opens(flags), "{flags:#x}");
            }
            assert_eq!(midstream(UDP, 0), 0);
            let word = NEXT_KINDS[sort(UDP, 0) as usize];
            assert_eq!(next_in(word, bits.into()), Kind::Udp as u64);
        }
    }
}
