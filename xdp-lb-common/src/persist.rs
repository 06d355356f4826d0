//! The name of a persistence template: (virtual service, client masked by the granularity).
//!
//! IPVS keys its template by protocol, client, VIP and port; the service index stands for the last
//! three here, so a service that covers several ports shares one template per client.

use crate::addr::Address;
use crate::hash::{self, Coefficients, CoefficientsV6};

/// The hash of the template of `client_be & mask_be` on a service, see [`hash::key`].
#[inline(always)]
pub const fn template_hash_v4(
    coefficients: &Coefficients,
    service: u32,
    client_be: u32,
    mask_be: u32,
) -> u64 {
    hash::key(hash::universal(
        coefficients,
        [client_be & mask_be, service, 0, 0],
    ))
}

/// The network-order mask of an IPv4 prefix length (0 to 32).
pub const fn mask_v4(prefix_len: u8) -> u32 {
    match prefix_len {
        0 => 0,
        len if len >= 32 => u32::MAX,
        len => (u32::MAX << (32 - len)).to_be(),
    }
}

/// The hash of the template of a client's IPv6 prefix on a service, see [`hash::key`].
#[inline(always)]
pub const fn template_hash_v6(
    coefficients: &CoefficientsV6,
    service: u32,
    client: Address,
    prefix_len: u32,
) -> u64 {
    let [a, b, c, d] = masked_v6(client, prefix_len).words_be;
    hash::key(hash::universal_v6(
        coefficients,
        [a, b, c, d, service, 0, 0, 0, 0, 0],
    ))
}

/// The prefix of an IPv6 address; lengths from 128 to 255 count as 128.
#[inline(always)]
pub const fn masked_v6(address: Address, prefix_len: u32) -> Address {
    let (high, low) = mask_v6(prefix_len);
    let [a, b, c, d] = address.words_be;
    Address {
        words_be: [
            a & ((high >> 32) as u32).to_be(),
            b & (high as u32).to_be(),
            c & ((low >> 32) as u32).to_be(),
            d & (low as u32).to_be(),
        ],
    }
}

/// The upper and the lower 64 bits of a prefix's mask. Without a branch, as it stands in the path of packets.
#[inline(always)]
const fn mask_v6(prefix_len: u32) -> (u64, u64) {
    let partial = !(u64::MAX >> (prefix_len & 63));
    let (from_64, from_128) = (prefix_len >> 6, prefix_len >> 7);
    let high = partial | ones_if(from_64 | from_128);
    let low = (partial & ones_if(from_64)) | ones_if(from_128);
    (high, low)
}

/// All ones if the lowest bit is set, else 0.
#[inline(always)]
const fn ones_if(bit: u32) -> u64 {
    (bit as u64 & 1).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn an_ipv6_prefix_keeps_its_bits_alone() {
        let all = Address {
            words_be: [u32::MAX; 4],
        };
        for length in 0..=128 {
            let bits = masked_v6(all, length).words_be.map(u32::from_be);
            let joined = bits
                .iter()
                .fold(0, |all: u128, w| all << 32 | u128::from(*w));
            assert_eq!(
                (joined.leading_ones(), joined.count_ones()),
                (length, length)
            );
        }
        assert_eq!(masked_v6(all, 200), all);
    }

    fn be(ip: &str) -> u32 {
        u32::from_ne_bytes(ip.parse::<Ipv4Addr>().unwrap().octets())
    }

    #[test]
    fn clients_of_one_prefix_share_a_template() {
        let key = Coefficients::of(hash::HashKey { k0: 1, k1: 2 });
        let hash = |service, ip, len| template_hash_v4(&key, service, be(ip), mask_v4(len));
        assert_eq!(hash(1, "10.1.0.10", 24), hash(1, "10.1.0.99", 24));
        assert_ne!(hash(1, "10.1.0.10", 24), hash(1, "10.1.1.10", 24));
        assert_ne!(hash(1, "10.1.0.10", 32), hash(1, "10.1.0.11", 32));
        assert_ne!(hash(1, "10.1.0.10", 32), hash(2, "10.1.0.10", 32));
        assert_eq!(hash(1, "10.1.0.10", 0), hash(1, "192.0.2.1", 0));
    }
}
