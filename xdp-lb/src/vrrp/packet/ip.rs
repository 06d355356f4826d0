//! The IPv4 header around a message.

use std::net::{IpAddr, Ipv4Addr};

use super::super::Vrid;
use super::{Datagram, PROTOCOL, Refusal, Refused, checksum};

const HEADER: usize = 20;
/// Internetwork control (RFC 791), as keepalived sends it.
const TOS: u8 = 0xc0;
/// The header of IP security (RFC 4302).
const AUTH_HEADER: u8 = 51;

/// Reads a packet as a raw socket gives it: IPv4 header and all. What follows the header's total
/// length is padding of the link.
pub fn parse(packet: &[u8]) -> Result<Datagram, Refused> {
    let damaged = |sender| Refused {
        sender,
        vrid: None,
        reason: Refusal::Header,
    };
    let Some((header, _)) = packet.split_first_chunk::<HEADER>() else {
        return Err(damaged(None));
    };
    let [
        version_ihl,
        _,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        hops,
        protocol,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = *header;
    let source = IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3));
    let header_length = usize::from(version_ihl & 0xf) * 4;
    let total = usize::from(u16::from_be_bytes([l0, l1]));
    let options = packet
        .get(..header_length)
        .filter(|_| header_length >= HEADER);
    let (Some(header), Some(message)) = (options, packet.get(header_length..total)) else {
        return Err(damaged(Some(source)));
    };
    if version_ihl >> 4 != 4 || checksum::plain(header) != 0 {
        return Err(damaged(Some(source)));
    }
    let fragment = u16::from_be_bytes([f0, f1]) & 0x3fff != 0;
    match refusal_of(protocol, fragment, message) {
        Some((reason, vrid)) => Err(Refused {
            sender: Some(source),
            vrid,
            reason,
        }),
        None => Ok(Datagram {
            source,
            destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
            hops,
            message: message.to_vec(),
        }),
    }
}

fn refusal_of(protocol: u8, fragment: bool, payload: &[u8]) -> Option<(Refusal, Option<Vrid>)> {
    if fragment {
        return Some((Refusal::Fragment, None));
    }
    match protocol {
        PROTOCOL => None,
        AUTH_HEADER => Some(behind_auth_header(payload)),
        protocol => Some((Refusal::Protocol { protocol }, None)),
    }
}

/// What the authentication header protects is read just far enough to say whose advert it is:
/// next header, then its own length in words less two (RFC 4302 section 2.2).
fn behind_auth_header(payload: &[u8]) -> (Refusal, Option<Vrid>) {
    match *payload {
        [PROTOCOL, words, ..] => {
            let message = payload.get((usize::from(words) + 2) * 4..);
            let vrid = message.and_then(|message| message.get(1));
            (Refusal::AuthHeader, vrid.copied().and_then(Vrid::new))
        }
        [protocol, ..] => (Refusal::Protocol { protocol }, None),
        [] => (Refusal::Header, None),
    }
}

/// The packet around `message`, byte for byte as keepalived sends it. `id` is the IP identification,
/// which counts from 1 there.
pub fn wrap(source: Ipv4Addr, destination: Ipv4Addr, hops: u8, id: u16, message: &[u8]) -> Vec<u8> {
    let total = u16::try_from(HEADER + message.len()).unwrap_or(u16::MAX);
    let [l0, l1] = total.to_be_bytes();
    let [i0, i1] = id.to_be_bytes();
    let [s0, s1, s2, s3] = source.octets();
    let [d0, d1, d2, d3] = destination.octets();
    let header = |[c0, c1]: [u8; 2]| {
        [
            0x45, TOS, l0, l1, i0, i1, 0, 0, hops, PROTOCOL, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3,
        ]
    };
    let sum = checksum::plain(&header([0, 0]));
    let mut packet = header(sum.to_be_bytes()).to_vec();
    packet.extend_from_slice(message);
    packet
}
