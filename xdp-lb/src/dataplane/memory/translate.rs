//! Addresses and ports of packets, replaced by others, with the checksums over them (RFC 3022).

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::checksum;
use super::frame::{ETHERNET, FRAGMENT, Packet, behind_extensions, octets};
use super::send::put;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// Octets of an ICMP error's header.
const ICMP_LEN: usize = 8;

/// What of a packet is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::Source => Self::Destination,
            Self::Destination => Self::Source,
        }
    }
}

/// Where in a packet that stands.
#[derive(Clone, Debug)]
struct Places {
    address: Range<usize>,
    /// Checksum of an IPv4 header.
    header_sum: Option<usize>,
    /// Of all but later fragments.
    port: Option<usize>,
    /// Checksum of the transport, if it has one, and it is there.
    sum: Option<usize>,
    is_udp: bool,
}

/// A frame whose packet has another address, and another port if that is not 0.
pub(super) fn packet(frame: &[u8], packet: &Packet, side: Side, by: SocketAddr) -> Option<Vec<u8>> {
    let len = usize::try_from(packet.len).ok()?;
    let mut frame = frame.to_vec();
    let ip = frame.get_mut(ETHERNET..ETHERNET + len)?;
    let places = places(ip, side)?;
    replace(ip, &places, by);
    Some(frame)
}

/// The same of a later fragment, which has no ports.
pub(super) fn later(frame: &[u8], side: Side, by: IpAddr) -> Option<Vec<u8>> {
    let mut frame = frame.to_vec();
    let ip = frame.get_mut(ETHERNET..)?;
    let places = address(ip, side)?;
    replace(ip, &places, SocketAddr::new(by, 0));
    Some(frame)
}

/// The same of an ICMP error: its own address, and the other side of the packet that it quotes.
pub(super) fn error(frame: &[u8], packet: &Packet, side: Side, by: SocketAddr) -> Option<Vec<u8>> {
    let len = usize::try_from(packet.len).ok()?;
    let mut frame = frame.to_vec();
    let ip = frame.get_mut(ETHERNET..ETHERNET + len)?;
    let outer = address(ip, side)?;
    let (at, _) = transport(ip)?;
    let before = ip.to_vec();
    let quoted = ip.get_mut(at + ICMP_LEN..)?;
    let inner = places(quoted, side.other())?;
    replace(quoted, &inner, by);
    replace(ip, &outer, SocketAddr::new(by.ip(), 0));
    // ICMPv6 covers the addresses of its packet, too.
    let covers = |ip: &[u8]| {
        let own = if outer.header_sum.is_none() {
            ip.get(outer.address.clone())?
        } else {
            &[]
        };
        Some([own, ip.get(at..)?].concat())
    };
    let [was, is] = [&before, &*ip].map(covers);
    let sum = u16::from_be_bytes(octets(ip, at + 2).ok()?);
    let sum = checksum::follow(sum, &[&was?], &[&is?]);
    put(ip, at + 2, &sum.to_be_bytes());
    Some(frame)
}

/// Where an address stands.
fn address(ip: &[u8], side: Side) -> Option<Places> {
    let is_v4 = ip.first()? >> 4 == 4;
    let address = match (is_v4, side) {
        (true, Side::Source) => 12..16,
        (true, Side::Destination) => 16..20,
        (false, Side::Source) => 8..24,
        (false, Side::Destination) => 24..40,
    };
    Some(Places {
        address,
        header_sum: is_v4.then_some(10),
        port: None,
        sum: None,
        is_udp: false,
    })
}

/// Where the transport header begins, and its protocol.
fn transport(ip: &[u8]) -> Option<(usize, u8)> {
    if ip.first()? >> 4 == 4 {
        return Some((usize::from(ip.first()? & 15) * 4, *ip.get(9)?));
    }
    let (mut protocol, mut rest) = behind_extensions(*ip.get(6)?, ip.get(40..)?).ok()?;
    if protocol == FRAGMENT {
        (protocol, rest) = (*rest.first()?, rest.get(8..)?);
    }
    Some((ip.len() - rest.len(), protocol))
}

/// Where address and port stand in a packet, of which the end may be missing.
fn places(ip: &[u8], side: Side) -> Option<Places> {
    let (at, protocol) = transport(ip)?;
    let sum = match protocol {
        TCP => at + 16,
        UDP => at + 6,
        _ => return None,
    };
    // A datagram without a checksum stays without.
    let there = octets::<2>(ip, sum).ok();
    let has_sum = there.is_some_and(|octets| protocol == TCP || octets != [0, 0]);
    Some(Places {
        port: Some(match side {
            Side::Source => at,
            Side::Destination => at + 2,
        }),
        sum: has_sum.then_some(sum),
        is_udp: protocol == UDP,
        ..address(ip, side)?
    })
}

fn replace(ip: &mut [u8], places: &Places, by: SocketAddr) {
    let place = |at: usize, len: usize| at..at + len;
    let was = |ip: &[u8], at: Range<usize>| ip.get(at).unwrap_or_default().to_vec();
    let (old, new) = (was(ip, places.address.clone()), bytes(by.ip()));
    put(ip, places.address.start, &new);
    if let Some(at) = places.header_sum {
        let sum = follow(&was(ip, place(at, 2)), (&old, &[]), (&new, &[]));
        put(ip, at, &sum.to_be_bytes());
    }
    let Some(port) = places.port else { return };
    let old_port = was(ip, place(port, 2));
    let new_port = match by.port() {
        0 => old_port.clone(),
        port => port.to_be_bytes().to_vec(),
    };
    put(ip, port, &new_port);
    if let Some(at) = places.sum {
        let sum = follow(&was(ip, place(at, 2)), (&old, &old_port), (&new, &new_port));
        let sum = if places.is_udp {
            checksum::of_udp(sum)
        } else {
            sum
        };
        put(ip, at, &sum.to_be_bytes());
    }
}

fn follow(sum: &[u8], (address, port): (&[u8], &[u8]), new: (&[u8], &[u8])) -> u16 {
    let sum = octets(sum, 0).map_or(0, u16::from_be_bytes);
    checksum::follow(sum, &[address, port], &[new.0, new.1])
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
