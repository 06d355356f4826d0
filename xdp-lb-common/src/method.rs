//! How packets are changed on their way to a real server, where that is more than their MACs.

use crate::addr::FAMILY_V6;
use crate::hash::mix;

/// What is done to packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Nothing but direct routing.
    Direct = 0,
    /// Another IP header in front (RFC 2003, 2473, 4213).
    Ipip = 1,
    /// Another IP header, UDP, and generic UDP encapsulation (draft-ietf-intarea-gue, version 0).
    Gue = 2,
    /// Another IP header and GRE (RFC 2784).
    Gre = 3,
    /// The address and the port of the real server take the place of the service's.
    Nat = 4,
}

impl Kind {
    const fn from_bits(bits: u8) -> Self {
        match bits {
            1 => Self::Ipip,
            2 => Self::Gue,
            3 => Self::Gre,
            4 => Self::Nat,
            _ => Self::Direct,
        }
    }
}

/// A method in one word of a [`crate::backend::Backend`]: kind (8 bits), family of the real server (8),
/// port in network order (16), whether there is a checksum (1). The rest is for things to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Method(pub u64);

const CHECKSUM: u64 = 1 << 32;

impl Method {
    /// Direct routing.
    pub const DIRECT: Self = Self(0);

    /// Packs the parts. `family` is the real server's, and so that of an outer header; `port_be` is the
    /// real server's, or GUE's; 0 leaves the port as it is.
    pub const fn new(kind: Kind, family: u8, port_be: u16, checksum: bool) -> Self {
        let checksum = if checksum { CHECKSUM } else { 0 };
        Self(kind as u64 | (family as u64) << 8 | (port_be as u64) << 16 | checksum)
    }

    /// What is done.
    #[inline(always)]
    pub const fn kind(self) -> Kind {
        Kind::from_bits(self.0 as u8)
    }

    /// Whether the real server has an IPv6 address.
    #[inline(always)]
    pub const fn is_v6(self) -> bool {
        (self.0 >> 8) as u8 == FAMILY_V6
    }

    /// Port, network order.
    #[inline(always)]
    pub const fn port_be(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Whether GUE or GRE carry a checksum.
    #[inline(always)]
    pub const fn has_checksum(self) -> bool {
        self.0 & CHECKSUM != 0
    }

    /// Octets of the outer IP header.
    #[inline(always)]
    pub const fn outer_len(self) -> u32 {
        if self.is_v6() { 40 } else { 20 }
    }

    /// Octets between the outer IP header and the inner one.
    #[inline(always)]
    pub const fn middle_len(self) -> u32 {
        match (self.kind(), self.has_checksum()) {
            (Kind::Gue, _) => UDP_LEN + GUE_LEN,
            (Kind::Gre, true) => 8,
            (Kind::Gre, false) => 4,
            (Kind::Direct | Kind::Ipip | Kind::Nat, _) => 0,
        }
    }
}

/// Octets of a UDP header.
pub const UDP_LEN: u32 = 8;
/// Octets of a GUE header without options.
pub const GUE_LEN: u32 = 4;

/// IP protocol numbers of what tunnels are made of.
pub mod protocol {
    /// IPv4 within IP.
    pub const IPV4: u8 = 4;
    /// IPv6 within IP.
    pub const IPV6: u8 = 41;
    /// Generic routing encapsulation.
    pub const GRE: u8 = 47;
}

/// The UDP source port of a flow in GUE, network order: of the range that Linux uses
/// (`net.ipv4.ip_local_port_range`), by its folded addresses and both ports. It spreads flows over the
/// queues of a server and the paths there. The keyed hash stays secret, so this is another one.
#[inline(always)]
pub const fn source_port_be(addresses: u64, ports: u32) -> u16 {
    const FIRST: u32 = 32_768;
    const COUNT: u64 = 28_232;
    let mixed = mix(addresses, ports as u64) as u64;
    ((FIRST + ((mixed * COUNT) >> 32) as u32) as u16).to_be()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::FAMILY_V4;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_method_keeps_its_parts() {
        let kinds = [Kind::Direct, Kind::Ipip, Kind::Gue, Kind::Gre, Kind::Nat];
        for kind in kinds {
            for (family, checksum) in [(FAMILY_V4, true), (FAMILY_V6, false)] {
                let method = Method::new(kind, family, 0x1234, checksum);
                let kept = (method.kind(), method.is_v6(), method.port_be());
                assert_eq!(kept, (kind, family == FAMILY_V6, 0x1234));
                assert_eq!(method.has_checksum(), checksum);
            }
        }
    }

    proptest! {
        #[test]
        fn the_source_port_is_one_of_the_range(addresses: u64, ports: u32) {
            let port = u16::from_be(source_port_be(addresses, ports));
            prop_assert!((32_768..61_000).contains(&port), "{}", port);
        }
    }

    #[test]
    fn neighbouring_flows_have_other_source_ports() {
        let of =
            |client: u32, port: u16| source_port_be(client.to_be().into(), port.to_be().into());
        let by_port: BTreeSet<_> = (1024..2048).map(|port| of(0x0a00_0001, port)).collect();
        let by_client: BTreeSet<_> = (0..1024).map(|n| of(0x0a00_0001 + n, 1024)).collect();
        let (ports, clients) = (by_port.len(), by_client.len());
        assert!(
            ports > 900 && clients > 900,
            "{ports} and {clients} of 1024"
        );
    }
}
