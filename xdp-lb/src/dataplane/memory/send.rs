//! Octets of the frame that goes out: other MACs, a hop less to live, checksums that follow.

use xdp_lb_common::addr::Mac;

use super::frame::ETHERNET;

/// Writes both MACs.
pub(super) fn address(frame: &mut [u8], source: Mac, destination: Mac) {
    put(frame, 0, &destination.octets());
    put(frame, 6, &source.octets());
}

/// The frame with a hop less to live.
pub(super) fn hop_less(frame: &[u8]) -> Vec<u8> {
    let mut sent = frame.to_vec();
    let at = match octet(frame, ETHERNET) >> 4 {
        4 => ETHERNET + 8,
        _ => ETHERNET + 7,
    };
    put(&mut sent, at, &[octet(frame, at).saturating_sub(1)]);
    if at == ETHERNET + 8 {
        let sum = [octet(frame, ETHERNET + 10), octet(frame, ETHERNET + 11)];
        let sum = one_hop_less(u16::from_be_bytes(sum));
        put(&mut sent, ETHERNET + 10, &sum.to_be_bytes());
    }
    sent
}

/// The header checksum after the TTL fell by one. A wrong one stays as wrong as it was: the word of
/// the TTL falls by 256, and so the sum of all words does (RFC 1624, equation 3).
fn one_hop_less(checksum: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(u16::MAX - 0x0100);
    while sum > u32::from(u16::MAX) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

fn octet(frame: &[u8], at: usize) -> u8 {
    frame.get(at).copied().unwrap_or_default()
}

pub(super) fn put(frame: &mut [u8], at: usize, octets: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + octets.len()) {
        place.copy_from_slice(octets);
    }
}
