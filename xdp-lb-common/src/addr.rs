//! Addresses as maps hold them.

use crate::pod::pod;

/// An IPv4 or IPv6 address, network order, IPv4 in the first four bytes and zeroes after.
///
/// The address family stands in a field of its own beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Address {
    /// Four 32-bit words whose memory is the address in network order.
    pub words_be: [u32; 4],
}
pod!(Address);

/// The family byte of an unused slot.
pub const FAMILY_NONE: u8 = 0;
/// IPv4.
pub const FAMILY_V4: u8 = 4;
/// IPv6.
pub const FAMILY_V6: u8 = 6;

/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const ICMP_V6: u8 = 58;

impl Address {
    /// The address whose network-order word in memory is `word_be`.
    #[inline(always)]
    pub const fn v4(word_be: u32) -> Self {
        Self {
            words_be: [word_be, 0, 0, 0],
        }
    }

    /// All zeroes.
    pub const ZERO: Self = Self { words_be: [0; 4] };
}

#[cfg(any(feature = "user", test))]
mod user {
    use super::{Address, FAMILY_V4, FAMILY_V6};
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    impl Address {
        /// The address and its family byte, as maps hold them.
        pub fn from_ip(ip: IpAddr) -> (Self, u8) {
            match ip {
                IpAddr::V4(v4) => (Self::v4(u32::from_ne_bytes(v4.octets())), FAMILY_V4),
                IpAddr::V6(v6) => {
                    let octets = v6.octets();
                    let word = |at: usize| {
                        u32::from_ne_bytes([
                            octets[at],
                            octets[at + 1],
                            octets[at + 2],
                            octets[at + 3],
                        ])
                    };
                    (
                        Self {
                            words_be: [word(0), word(4), word(8), word(12)],
                        },
                        FAMILY_V6,
                    )
                }
            }
        }

        /// The address again; `None` for a family byte that is neither IPv4 nor IPv6.
        pub fn to_ip(self, family: u8) -> Option<IpAddr> {
            let [a, b, c, d] = self.words_be.map(u32::to_ne_bytes);
            match family {
                FAMILY_V4 => Some(IpAddr::V4(Ipv4Addr::from(a))),
                FAMILY_V6 => {
                    let mut octets = [0; 16];
                    octets[..4].copy_from_slice(&a);
                    octets[4..8].copy_from_slice(&b);
                    octets[8..12].copy_from_slice(&c);
                    octets[12..].copy_from_slice(&d);
                    Some(IpAddr::V6(Ipv6Addr::from(octets)))
                }
                _ => None,
            }
        }
    }
}

/// A 48-bit Ethernet address in the low bits of a word, first octet lowest, as a little-endian load
/// of the frame yields it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub u64);

impl Mac {
    /// The 48 bits that are the address.
    pub const MASK: u64 = 0xffff_ffff_ffff;

    /// From octets in wire order.
    pub const fn from_octets(o: [u8; 6]) -> Self {
        Self(u64::from_le_bytes([
            o[0], o[1], o[2], o[3], o[4], o[5], 0, 0,
        ]))
    }

    /// Octets in wire order.
    pub const fn octets(self) -> [u8; 6] {
        let b = self.0.to_le_bytes();
        [b[0], b[1], b[2], b[3], b[4], b[5]]
    }

    /// All zeroes: not known.
    pub const fn is_zero(self) -> bool {
        self.0 & Self::MASK == 0
    }
}

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (at, octet) in self.octets().into_iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip() {
        for ip in ["192.168.1.200", "0.0.0.0", "2001:db8::1", "::"] {
            let ip = ip.parse().unwrap();
            let (address, family) = Address::from_ip(ip);
            assert_eq!(address.to_ip(family), Some(ip));
        }
        assert_eq!(Address::ZERO.to_ip(9), None);
    }

    #[test]
    fn a_mac_prints_in_wire_order() {
        let mac = Mac::from_octets([0x02, 0, 0, 0, 0xab, 1]);
        assert_eq!(mac.to_string(), "02:00:00:00:ab:01");
        assert_eq!(Mac::from_octets(mac.octets()), mac);
    }
}
