//! Headers of the packets that are sent with a header of our own making. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::vrrp_socket::PROTOCOL;

/// DSCP CS6, network control (RFC 5798 does not ask for it, keepalived sends it).
const TRAFFIC_CLASS: u8 = 0xc0;

/// IPv4 header of an advert, as keepalived has it: no options, DF clear. `None` if the packet would
/// be too long for its length field.
pub(crate) fn ipv4_header(
    id: u16,
    ttl: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload: usize,
) -> Option<[u8; 20]> {
    let length = u16::try_from(payload.checked_add(20)?).ok()?;
    let [length_high, length_low] = length.to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    let mut header = [0; 20];
    let (fixed, addresses) = header.split_at_mut(12);
    fixed.copy_from_slice(&[
        0x45,
        TRAFFIC_CLASS,
        length_high,
        length_low,
        id_high,
        id_low,
        0,
        0,
        ttl,
        PROTOCOL,
        0,
        0,
    ]);
    let (from, to) = addresses.split_at_mut(4);
    from.copy_from_slice(&source.octets());
    to.copy_from_slice(&destination.octets());
    let [high, low] = checksum(&[&header]).to_be_bytes();
    header[10] = high;
    header[11] = low;
    Some(header)
}

/// IPv6 header of an advert. `None` if the payload is too long for its length field.
pub(crate) fn ipv6_header(
    hop_limit: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    payload: usize,
) -> Option<[u8; 40]> {
    let length = u16::try_from(payload).ok()?;
    Some(ipv6(
        TRAFFIC_CLASS,
        length,
        PROTOCOL,
        hop_limit,
        source,
        destination,
    ))
}

/// An IPv6 header with flow label 0.
pub(crate) fn ipv6(
    traffic_class: u8,
    length: u16,
    next: u8,
    hop_limit: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) -> [u8; 40] {
    let [length_high, length_low] = length.to_be_bytes();
    let mut header = [0; 40];
    let (fixed, addresses) = header.split_at_mut(8);
    fixed.copy_from_slice(&[
        0x60 | traffic_class >> 4,
        traffic_class << 4,
        0,
        0,
        length_high,
        length_low,
        next,
        hop_limit,
    ]);
    let (from, to) = addresses.split_at_mut(16);
    from.copy_from_slice(&source.octets());
    to.copy_from_slice(&destination.octets());
    header
}

/// The Internet checksum (RFC 1071) over parts, each but the last of even length.
pub(crate) fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let high = pair.first().copied().unwrap_or_default();
            let low = pair.get(1).copied().unwrap_or_default();
            sum += u32::from(u16::from_be_bytes([high, low]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
    }
    let [.., high, low] = (!sum).to_be_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        let digits =
            |byte: &u8| [byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16));
        bytes.iter().flat_map(digits).flatten().collect()
    }

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv4_header_is_the_one_keepalived_sends() {
        // Captured from keepalived 2.2.7; the third is its eleventh packet.
        let group = "224.0.0.18";
        let cases = [
            (
                1,
                "10.9.0.11",
                group,
                20,
                "45c0002800010000ff70d07e0a09000be0000012",
            ),
            (
                1,
                "10.9.0.11",
                "10.9.0.12",
                12,
                "45c0002000010000ff70a6840a09000b0a09000c",
            ),
            (
                11,
                "10.9.0.11",
                group,
                24,
                "45c0002c000b0000ff70d0700a09000be0000012",
            ),
            (
                1,
                "172.16.12.61",
                group,
                24,
                "45c0002c00010000ff702241ac100c3de0000012",
            ),
        ];
        for (id, from, to, payload, captured) in cases {
            let header = ipv4_header(id, 255, v4(from), v4(to), payload).unwrap();
            assert_eq!(hex(&header), captured);
        }
    }

    #[test]
    fn an_ipv6_header_is_the_one_keepalived_sends_but_for_the_flow_label() {
        let from = "fe80::ff:fe00:1".parse().unwrap();
        let to = "ff02::12".parse().unwrap();
        let header = ipv6_header(255, from, to, 40).unwrap();
        let captured = "6c000000002870fffe80000000000000000000fffe000001\
                        ff020000000000000000000000000012";
        assert_eq!(hex(&header), captured);
    }

    #[test]
    fn what_no_packet_holds_has_no_header() {
        let (four, six) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        assert!(ipv4_header(1, 255, four, four, 65_515).is_some());
        assert_eq!(ipv4_header(1, 255, four, four, 65_516), None);
        assert!(ipv6_header(255, six, six, 65_535).is_some());
        assert_eq!(ipv6_header(255, six, six, 65_536), None);
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        let example = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&example]), !0xddf2);
        let (left, right) = example.split_at(4);
        assert_eq!(checksum(&[left, right]), !0xddf2);
        assert_eq!(checksum(&[&[1, 2, 3]]), !0x0402);
    }
}
