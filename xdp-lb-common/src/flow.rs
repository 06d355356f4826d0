//! The name of a connection: its five-tuple, as a message for the keyed hash and as cold data.

use crate::addr::{Address, Mac};
#[cfg(any(feature = "user", test))]
use crate::addr::{FAMILY_V4, FAMILY_V6};
use crate::hash::{self, Coefficients, CoefficientsV6, WORDS_V6};
#[cfg(any(feature = "user", test))]
use crate::persist::{template_hash_v4, template_hash_v6};
use crate::pod::{no_padding, pod};
use crate::tick::Tick;

/// An IPv4 five-tuple, every field but the protocol in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowV4 {
    /// Client address.
    pub client_be: u32,
    /// Virtual IP.
    pub vip_be: u32,
    /// Client port.
    pub client_port_be: u16,
    /// Port of the virtual service.
    pub vip_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl FlowV4 {
    /// The keyed hash that stands for the flow in the connection table, see [`hash::key`].
    #[inline(always)]
    pub const fn hash(&self, coefficients: &Coefficients) -> u64 {
        hash::key(hash::universal(coefficients, self.words()))
    }

    /// The keyed hash of a connection as its real server sees it: no flow to a service has the same
    /// words.
    #[inline(always)]
    pub const fn hash_of_replies(&self, coefficients: &Coefficients) -> u64 {
        let [client, server, ports, protocol] = self.words();
        let words = [client, server, ports, protocol | OF_REPLIES];
        hash::key(hash::universal(coefficients, words))
    }

    /// The flow as four words.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        let ports = self.client_port_be as u32 | (self.vip_port_be as u32) << 16;
        [self.client_be, self.vip_be, ports, self.protocol as u32]
    }
}

/// An IPv6 five-tuple, every field but the protocol in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowV6 {
    /// Client address.
    pub client: Address,
    /// Virtual IP.
    pub vip: Address,
    /// Client port.
    pub client_port_be: u16,
    /// Port of the virtual service.
    pub vip_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl FlowV6 {
    /// The keyed hash that stands for the flow in the connection table, see [`hash::key`]: all 256
    /// bits of the addresses take part as they are.
    #[inline(always)]
    pub const fn hash(&self, coefficients: &CoefficientsV6) -> u64 {
        hash::key(hash::universal_v6(coefficients, self.words()))
    }

    /// As [`FlowV4::hash_of_replies`].
    #[inline(always)]
    pub const fn hash_of_replies(&self, coefficients: &CoefficientsV6) -> u64 {
        let mut words = self.words();
        words[WORDS_V6 - 1] |= OF_REPLIES;
        hash::key(hash::universal_v6(coefficients, words))
    }

    /// The flow as words.
    #[inline(always)]
    pub const fn words(&self) -> [u32; WORDS_V6] {
        let ports = self.client_port_be as u32 | (self.vip_port_be as u32) << 16;
        let client = self.client.words_be;
        let vip = self.vip.words_be;
        [
            client[0],
            client[1],
            client[2],
            client[3],
            vip[0],
            vip[1],
            vip[2],
            vip[3],
            ports,
            self.protocol as u32,
        ]
    }
}

/// In the last word of a name: it is a fragment's, and no connection's, which has its protocol there.
const OF_FRAGMENT: u32 = 1 << 8;

/// Beside that: of a real server's reply that is translated.
const OF_REPLY: u32 = 1 << 9;

/// What the fragments of an IPv4 datagram have in common (RFC 791), in network order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentsV4 {
    /// Source address.
    pub source_be: u32,
    /// Destination address.
    pub destination_be: u32,
    /// IP identification.
    pub id_be: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl FragmentsV4 {
    /// The keyed hash that stands for them in the connection table.
    #[inline(always)]
    pub const fn hash(&self, coefficients: &Coefficients) -> u64 {
        self.hash_with(coefficients, 0)
    }

    /// The same, if they are a reply that is to be translated.
    #[inline(always)]
    pub const fn hash_of_reply(&self, coefficients: &Coefficients) -> u64 {
        self.hash_with(coefficients, OF_REPLY)
    }

    #[inline(always)]
    const fn hash_with(&self, coefficients: &Coefficients, more: u32) -> u64 {
        let last = OF_FRAGMENT | more | self.protocol as u32;
        let words = [self.source_be, self.destination_be, self.id_be as u32, last];
        hash::key(hash::universal(coefficients, words))
    }
}

/// What the fragments of an IPv6 packet have in common (RFC 8200, 4.5), in network order. The protocol
/// is not part of it: later fragments need not name the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentsV6 {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Identification.
    pub id_be: u32,
}

impl FragmentsV6 {
    /// The keyed hash that stands for them in the connection table.
    #[inline(always)]
    pub const fn hash(&self, coefficients: &CoefficientsV6) -> u64 {
        self.hash_with(coefficients, 0)
    }

    /// As [`FragmentsV4::hash_of_reply`].
    #[inline(always)]
    pub const fn hash_of_reply(&self, coefficients: &CoefficientsV6) -> u64 {
        self.hash_with(coefficients, OF_REPLY)
    }

    #[inline(always)]
    const fn hash_with(&self, coefficients: &CoefficientsV6, more: u32) -> u64 {
        let source = self.source.words_be;
        let destination = self.destination.words_be;
        let words = [
            source[0],
            source[1],
            source[2],
            source[3],
            destination[0],
            destination[1],
            destination[2],
            destination[3],
            self.id_be,
            OF_FRAGMENT | more,
        ];
        hash::key(hash::universal_v6(coefficients, words))
    }
}

/// The cold half of a way: written once on insert; read by userspace, and by programs for what comes from the
/// servers' side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct FlowInfo {
    /// Client address; for a template, masked by the granularity.
    pub client: Address,
    /// Virtual IP.
    pub vip: Address,
    /// Client port, 0 for a template.
    pub client_port_be: u16,
    /// Port of the virtual service.
    pub vip_port_be: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Address family, see [`crate::addr`].
    pub family: u8,
    /// `FLOW_*` bits.
    pub flags: u16,
    /// Index of the virtual service.
    pub service: u32,
    /// Tick of the insert.
    pub created: u32,
    /// A [`WayBack`]; zeroes if it is not known. Of a connection that is not translated, how it was when the
    /// director opened it; of a template zeroes.
    pub way_back: [u64; 2],
}
pod!(FlowInfo);
no_padding!(
    FlowInfo, Address, Address, u16, u16, u8, u8, u16, u32, u32, [u64; 2]
);

impl FlowInfo {
    /// As eight words, in the order of little-endian memory: BPF has no other here.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 8] {
        let [client, vip] = [self.client.words_be, self.vip.words_be];
        let ports = joined(
            self.client_port_be as u32 | (self.vip_port_be as u32) << 16,
            0,
        );
        let names = (self.protocol as u64) << 32 | (self.family as u64) << 40;
        [
            joined(client[0], client[1]),
            joined(client[2], client[3]),
            joined(vip[0], vip[1]),
            joined(vip[2], vip[3]),
            ports | names | (self.flags as u64) << 48,
            joined(self.service, self.created),
            self.way_back[0],
            self.way_back[1],
        ]
    }
}

/// Two words as one; the first one has the lower address.
#[inline(always)]
const fn joined(first: u32, second: u32) -> u64 {
    first as u64 | (second as u64) << 32
}

/// The entry of a connection's replies, under the hash of the connection as its real server sees it. The
/// addresses beside it are those that the client sees.
pub const FLOW_OF_REPLIES: u16 = 1 << 0;

/// What sets the words of a connection as its real server sees it apart from those of one to a service:
/// no IP protocol has this bit.
const OF_REPLIES: u32 = 1 << 8;

/// Where the packets of a connection's client come from, and when its entries were last touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WayBack {
    /// Source MAC of the client's frames.
    pub mac: Mac,
    /// Interface that they come in by.
    pub ifindex: u32,
    /// When the timers of the connection were last restarted.
    pub touched: Tick,
}

impl WayBack {
    /// As it stands in a [`FlowInfo`].
    #[inline(always)]
    pub const fn pack(self) -> [u64; 2] {
        let when = (self.ifindex as u64) << 32 | self.touched.0 as u64;
        [when, self.mac.0]
    }

    /// From a [`FlowInfo`].
    #[inline(always)]
    pub const fn unpack([when, mac]: [u64; 2]) -> Self {
        Self {
            mac: Mac(mac),
            ifindex: (when >> 32) as u32,
            touched: Tick(when as u32),
        }
    }
}

#[cfg(any(feature = "user", test))]
impl FlowInfo {
    /// The hash that the packet path finds the connection by; `None` for a family that there is not.
    pub fn hash(&self, v4: &Coefficients, v6: &CoefficientsV6) -> Option<u64> {
        let (client_port_be, vip_port_be) = (self.client_port_be, self.vip_port_be);
        match self.family {
            FAMILY_V4 => Some(
                FlowV4 {
                    client_be: self.client.words_be[0],
                    vip_be: self.vip.words_be[0],
                    client_port_be,
                    vip_port_be,
                    protocol: self.protocol,
                }
                .hash(v4),
            ),
            FAMILY_V6 => Some(
                FlowV6 {
                    client: self.client,
                    vip: self.vip,
                    client_port_be,
                    vip_port_be,
                    protocol: self.protocol,
                }
                .hash(v6),
            ),
            _ => None,
        }
    }

    /// The hash that the packet path finds the template by; `mask` as the service has it.
    pub fn template_hash(&self, v4: &Coefficients, v6: &CoefficientsV6, mask: u32) -> Option<u64> {
        match self.family {
            FAMILY_V4 => {
                let client_be = self.client.words_be[0];
                Some(template_hash_v4(v4, self.service, client_be, mask))
            }
            FAMILY_V6 => Some(template_hash_v6(v6, self.service, self.client, mask)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn flow(client_be: u32, client_port_be: u16, protocol: u8) -> FlowV4 {
        FlowV4 {
            client_be,
            vip_be: 1,
            client_port_be,
            vip_port_be: 80,
            protocol,
        }
    }

    proptest! {
        #[test]
        fn every_field_changes_the_words(a: u32, b: u32, p: u16, q: u16) {
            prop_assume!(a != b && p != q);
            let base = flow(a, p, 6).words();
            prop_assert_ne!(base, flow(b, p, 6).words());
            prop_assert_ne!(base, flow(a, q, 6).words());
            prop_assert_ne!(base, flow(a, p, 17).words());
        }

        #[test]
        fn every_bit_of_an_ipv6_flow_changes_its_hash(
            words: [u32; 8], ports: (u16, u16), bit in 0_usize..296, k0: u64, k1: u64,
        ) {
            let flow = |words: [u32; 8], (client_port_be, vip_port_be), protocol| {
                let at = |at: usize| words[at];
                FlowV6 {
                    client: Address { words_be: [at(0), at(1), at(2), at(3)] },
                    vip: Address { words_be: [at(4), at(5), at(6), at(7)] },
                    client_port_be,
                    vip_port_be,
                    protocol,
                }
            };
            let (mut other, mut other_ports, mut protocol) = (words, ports, 6);
            match bit {
                0..256 => other[bit / 32] ^= 1 << (bit % 32),
                256..272 => other_ports.0 ^= 1 << (bit - 256),
                272..288 => other_ports.1 ^= 1 << (bit - 272),
                _ => protocol ^= 1 << (bit - 288),
            }
            let coefficients = CoefficientsV6::of(hash::HashKey { k0, k1 });
            let base = flow(words, ports, 6).hash(&coefficients);
            prop_assert_ne!(base, 0);
            prop_assert_ne!(base, flow(other, other_ports, protocol).hash(&coefficients));
        }

        #[test]
        fn fragments_are_told_apart_from_each_other_and_from_connections(
            a: u32, b: u32, id: u16, other: u16, protocol: u8, k0: u64, k1: u64,
        ) {
            prop_assume!(a != b && id != other);
            let key = hash::HashKey { k0, k1 };
            let coefficients = Coefficients::of(key);
            let named = |source_be, id_be, protocol| {
                FragmentsV4 { source_be, destination_be: 1, id_be, protocol }.hash(&coefficients)
            };
            let base = named(a, id, protocol);
            prop_assert_ne!(base, named(b, id, protocol));
            prop_assert_ne!(base, named(a, other, protocol));
            prop_assert_ne!(base, named(a, id, !protocol));
            let reply = FragmentsV4 { source_be: a, destination_be: 1, id_be: id, protocol };
            prop_assert_ne!(base, reply.hash_of_reply(&coefficients));
            let connection = FlowV4 { vip_port_be: 0, ..flow(a, id, protocol) };
            prop_assert_ne!(base, connection.hash(&coefficients));
            let coefficients = CoefficientsV6::of(key);
            let named = |source, id_be| {
                FragmentsV6 { source: Address::v4(source), destination: Address::v4(1), id_be }
                    .hash(&coefficients)
            };
            prop_assert_ne!(named(a, id.into()), named(b, id.into()));
            prop_assert_ne!(named(a, id.into()), named(a, u32::from(id) | 1 << 16));
        }

        #[test]
        fn replies_have_a_hash_of_their_own(a: u32, p: u16, k0: u64, k1: u64) {
            let coefficients = Coefficients::of(hash::HashKey { k0, k1 });
            let flow = flow(a, p, 17);
            prop_assert_ne!(flow.hash(&coefficients), flow.hash_of_replies(&coefficients));
        }

        #[test]
        fn a_way_back_keeps_its_parts(mac in 0..=Mac::MASK, ifindex: u32, touched: u32) {
            let way = WayBack { mac: Mac(mac), ifindex, touched: Tick(touched) };
            prop_assert_eq!(WayBack::unpack(way.pack()), way);
        }

        #[test]
        fn a_hash_is_never_zero(a: u32, p: u16, k0: u64, k1: u64) {
            let coefficients = Coefficients::of(hash::HashKey { k0, k1 });
            prop_assert_ne!(flow(a, p, 6).hash(&coefficients), 0);
        }
    }
}
