//! The Internet checksum (RFC 1071), with and without a pseudo-header.

use std::net::IpAddr;

use super::PROTOCOL;

/// The ones' complement sum of `bytes` in 16-bit words, odd bytes padded with zero, carried over from
/// `sum`.
fn add(sum: u32, bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    });
    words.fold(sum, |sum, word| fold(sum + word))
}

const fn fold(sum: u32) -> u32 {
    (sum & 0xffff) + (sum >> 16)
}

fn finish(sum: u32) -> u16 {
    let [_, _, high, low] = fold(fold(sum)).to_be_bytes();
    !u16::from_be_bytes([high, low])
}

/// Over `bytes` alone: version 2, IPv4 headers, and version 3 on IPv4 as RFC 9568 section 5.2.8 has it.
/// Zero if the bytes hold their right checksum already.
pub fn plain(bytes: &[u8]) -> u16 {
    finish(add(0, bytes))
}

/// Over a pseudo-header of `source` and `destination` too: version 3 on IPv6 (RFC 8200 section 8.1),
/// and on IPv4 as keepalived sends it.
pub fn with_pseudo_header(source: IpAddr, destination: IpAddr, bytes: &[u8]) -> u16 {
    let sum = [source, destination]
        .into_iter()
        .fold(0, |sum, address| match address {
            IpAddr::V4(address) => add(sum, &address.octets()),
            IpAddr::V6(address) => add(sum, &address.octets()),
        });
    // Both families sum to the same words: protocol and length, each with zeros before it.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let sum = add(sum, &length.to_be_bytes());
    finish(add(add(sum, &[0, PROTOCOL]), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(plain(&bytes), !0xddf2);
        assert_eq!(plain(&[]), 0xffff);
    }

    proptest! {
        #[test]
        fn whatever_holds_its_checksum_sums_to_zero(
            mut bytes in prop::collection::vec(any::<u8>(), 2..300), a: [u8; 16], b: [u8; 4]
        ) {
            bytes[..2].fill(0);
            let addresses = (IpAddr::from(a), IpAddr::from(b));
            let sum = with_pseudo_header(addresses.0, addresses.1, &bytes);
            bytes[..2].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(with_pseudo_header(addresses.0, addresses.1, &bytes), 0);
            bytes[..2].fill(0);
            let sum = plain(&bytes);
            bytes[..2].copy_from_slice(&sum.to_be_bytes());
            prop_assert_eq!(plain(&bytes), 0);
        }
    }
}
