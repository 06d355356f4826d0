//! The name of a persistence template: (virtual service, client masked by the granularity).
//!
//! IPVS keys its template by protocol, client, VIP and port; the service index stands for the last
//! three here, so a service that covers several ports shares one template per client.

use crate::hash::{self, Coefficients};

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

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

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
