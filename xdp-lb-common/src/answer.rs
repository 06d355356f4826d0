//! Packets that the director makes itself: who is told that a packet goes nowhere, of what, and how often.

use crate::addr::Address;
use crate::conn::state::tcp;
use crate::pod::{no_padding, pod};

/// Packets that each CPU answers a second, as many as Linux sends ICMP errors by default
/// (`icmp_msgs_per_sec`).
pub const PER_SECOND: u32 = 1_000;
/// The longest ICMP error, octets (RFC 1812 4.3.2.3).
pub const LONGEST_V4: u32 = 576;
/// The longest ICMPv6 error, octets: the least MTU (RFC 4443 2.4(c)).
pub const LONGEST_V6: u32 = 1_280;
/// The hops that an answer has to live, as with Linux.
pub const HOPS: u8 = 64;
/// The type of service of ICMP errors: "internetwork control" (RFC 1812 4.3.2.5).
pub const TOS: u8 = 0xc0;

/// What clients of a service without an eligible server are told.
pub mod empty_pool {
    /// "Port unreachable", by ICMP.
    pub const UNREACHABLE: u32 = 0;
    /// A reset, of TCP; else as above.
    pub const RESET: u32 = 1;
    /// Nothing.
    pub const SILENT: u32 = 2;
}

/// How many packets a CPU may answer yet in a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Bucket {
    /// The tick, a [`crate::tick::LongTick`].
    pub tick: u32,
    /// How many it answered in it.
    pub spent: u32,
}
pod!(Bucket);
no_padding!(Bucket, u32, u32);

impl Bucket {
    /// With an answer more now, if a tick allows `limit` of them.
    #[inline(always)]
    pub const fn spend(self, now: u32, limit: u32) -> Option<Self> {
        let spent = if self.tick == now { self.spent } else { 0 };
        if spent >= limit {
            return None;
        }
        Some(Self {
            tick: now,
            spent: spent + 1,
        })
    }
}

/// Whether an IPv4 address is a single host's, so that it can be answered (RFC 1122 3.2.2): neither of
/// this network, nor loopback, multicast, reserved, broadcast.
#[inline(always)]
pub const fn is_host_v4(address_be: u32) -> bool {
    let first = u32::from_be(address_be) >> 24;
    first != 0 && first != 127 && first < 224
}

/// Whether an IPv6 address is a single host's (RFC 4443 2.4(e)): neither multicast, unspecified nor
/// loopback.
#[inline(always)]
pub const fn is_host_v6(address: Address) -> bool {
    let [a, b, c, d] = address.words_be;
    u32::from_be(a) >> 24 != 0xff && (a | b | c | u32::from_be(d) & !1) != 0
}

/// What a reset says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// Flags.
    pub flags: u8,
}

/// The reset that a segment is answered with (RFC 9293 3.10.7.1), given its numbers and the octets that it
/// carries; `None` for a reset.
#[inline(always)]
pub const fn reset(flags: u8, sequence: u32, acknowledgement: u32, octets: u32) -> Option<Reset> {
    if flags & tcp::RST != 0 {
        return None;
    }
    if flags & tcp::ACK != 0 {
        return Some(Reset {
            sequence: acknowledgement,
            acknowledgement: 0,
            flags: tcp::RST,
        });
    }
    let more = (flags & tcp::SYN != 0) as u32 + (flags & tcp::FIN != 0) as u32;
    Some(Reset {
        sequence: 0,
        acknowledgement: sequence.wrapping_add(octets).wrapping_add(more),
        flags: tcp::RST | tcp::ACK,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;
    use proptest::prelude::*;

    fn address(text: &str) -> Address {
        Address::from_ip(text.parse::<IpAddr>().unwrap()).0
    }

    #[test]
    fn only_single_hosts_are_answered() {
        for (text, is_host) in [
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("1.0.0.0", true),
            ("126.255.255.255", true),
            ("127.0.0.1", false),
            ("128.0.0.1", true),
            ("223.255.255.255", true),
            ("224.0.0.1", false),
            ("239.1.2.3", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
        ] {
            let [word, ..] = address(text).words_be;
            assert_eq!(is_host_v4(word), is_host, "{text}");
        }
        for (text, is_host) in [
            ("::", false),
            ("::1", false),
            ("::2", true),
            ("::1:0:1", true),
            ("2001:db8::1", true),
            ("fe80::1", true),
            ("ff02::1", false),
        ] {
            assert_eq!(is_host_v6(address(text)), is_host, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_tick_has_more_answers_than_its_limit(
            limit in 0_u32..5, ticks in prop::collection::vec(0_u32..3, 0..100),
        ) {
            let (mut bucket, mut now) = (Bucket::default(), u32::MAX - 20);
            let mut answered = std::collections::BTreeMap::<u32, (u32, u32)>::new();
            for more in ticks {
                now = now.wrapping_add(more);
                let of_tick = answered.entry(now).or_default();
                of_tick.1 += 1;
                if let Some(next) = bucket.spend(now, limit) {
                    bucket = next;
                    of_tick.0 += 1;
                }
            }
            for (told, asked) in answered.values() {
                prop_assert_eq!(*told, limit.min(*asked));
            }
        }

        /// The peer takes a reset only with the number that it expects.
        #[test]
        fn a_reset_is_one_that_its_receiver_takes(flags: u8, sequence: u32, next: u32, octets in 0_u32..65_536) {
            match reset(flags, sequence, next, octets) {
                None => prop_assert_ne!(flags & tcp::RST, 0),
                Some(reset) if flags & tcp::ACK != 0 => {
                    prop_assert_eq!((reset.sequence, reset.flags), (next, tcp::RST));
                }
                Some(reset) => {
                    let consumed = reset.acknowledgement.wrapping_sub(sequence) - octets;
                    prop_assert_eq!(consumed, u32::from(flags & tcp::SYN != 0) + u32::from(flags & tcp::FIN != 0));
                    prop_assert_eq!(reset.flags, tcp::RST | tcp::ACK);
                }
            }
        }
    }
}
