//! What a frame is: the first question, and the answer that most frames leave with.
//!
//! Read octet by octet from the RFCs, with nothing of the XDP program's parser in it. A frame that is
//! several things at once gets the reason that `docs/dataplane.md` names first.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;

use crate::config::model::Protocol;

use super::quote::{self, Quote};

/// Octets of an Ethernet header.
pub(super) const ETHERNET: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;

/// Extension headers that are stepped over at most.
const EXTENSIONS: usize = 4;
/// Numbers of the extension headers that are known.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(super) const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

/// Protocol numbers of ICMP and ICMPv6.
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;

/// A packet that could be a service's, or an ICMP error about one that a service sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The client: where it comes from. Of an error, where the packet went that it is about.
    pub client: SocketAddr,
    /// Where it goes to.
    pub vip: SocketAddr,
    /// Who sent it: the client, or whoever tells of the error.
    pub sender: IpAddr,
    /// It is an ICMP error.
    pub is_error: bool,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Octet 13 of the TCP header; 0 for UDP.
    pub flags: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Octets of the IP packet.
    pub len: u32,
    /// Source MAC.
    pub source: Mac,
    /// Destination MAC.
    pub destination: Mac,
}

/// What the IP header says.
struct Header {
    from: IpAddr,
    to: IpAddr,
    ttl: u8,
    len: u32,
}

impl Packet {
    /// The packet of a frame, or why it is none that can be balanced.
    pub fn of(frame: &[u8]) -> Result<Self, Reason> {
        let ethernet = octets::<ETHERNET>(frame, 0)?;
        let rest = frame.get(ETHERNET..).ok_or(Reason::Truncated)?;
        let (header, protocol, transport) = match (ethernet[12], ethernet[13]) {
            (0x08, 0x00) => ipv4(rest)?,
            (0x86, 0xdd) => ipv6(rest)?,
            (0x81, 0x00) | (0x88, 0xa8) => return Err(Reason::Vlan),
            _ => return Err(Reason::NotIp),
        };
        let is_error = protocol == icmp_of(header.to);
        let (quote, flags) = if is_error {
            (quote::of(transport, header.to)?, 0)
        } else {
            ends(&header, protocol, transport)?
        };
        Ok(Self {
            client: quote.client,
            vip: quote.vip,
            sender: header.from,
            is_error,
            protocol: quote.protocol,
            flags,
            ttl: header.ttl,
            len: header.len,
            source: Mac::from_octets(octets(frame, 6)?),
            destination: Mac::from_octets(octets(frame, 0)?),
        })
    }
}

/// ICMP's number in the family of an address; that of the other family means nothing there.
const fn icmp_of(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => ICMP,
        IpAddr::V6(_) => ICMP_V6,
    }
}

/// Both ends of a TCP or UDP packet, and octet 13 of a TCP header.
fn ends(header: &Header, protocol: u8, transport: &[u8]) -> Result<(Quote, u8), Reason> {
    let (protocol, need) = match protocol {
        6 => (Protocol::Tcp, TCP_LEN),
        17 => (Protocol::Udp, UDP_LEN),
        _ => return Err(Reason::NotTcpUdp),
    };
    if transport.len() < need {
        return Err(Reason::Truncated);
    }
    let flags = match protocol {
        Protocol::Tcp => octets::<1>(transport, 13)?[0],
        Protocol::Udp | Protocol::Sctp => 0,
    };
    let ends = Quote {
        client: SocketAddr::new(header.from, number(transport, 0)?),
        vip: SocketAddr::new(header.to, number(transport, 2)?),
        protocol,
    };
    Ok((ends, flags))
}

/// The octets from `at` on.
pub(super) fn octets<const N: usize>(from: &[u8], at: usize) -> Result<[u8; N], Reason> {
    from.get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .ok_or(Reason::Truncated)
}

pub(super) fn number(from: &[u8], at: usize) -> Result<u16, Reason> {
    octets(from, at).map(u16::from_be_bytes)
}

/// Header, protocol and payload of an IPv4 packet (RFC 791).
fn ipv4(packet: &[u8]) -> Result<(Header, u8, &[u8]), Reason> {
    let fixed = octets::<IPV4_LEN>(packet, 0)?;
    let (version, header_len) = (fixed[0] >> 4, usize::from(fixed[0] & 15) * 4);
    let len = number(packet, 2)?;
    if version != 4 || header_len < IPV4_LEN || usize::from(len) < header_len {
        return Err(Reason::Malformed);
    }
    let whole = packet.get(..len.into()).ok_or(Reason::Truncated)?;
    let (more_fragments, offset) = (fixed[6] & 0x20 != 0, number(packet, 6)? & 0x1fff);
    if more_fragments || offset != 0 {
        return Err(fragment_of(fixed[9] == ICMP));
    }
    let header = Header {
        from: Ipv4Addr::from(octets(packet, 12)?).into(),
        to: Ipv4Addr::from(octets(packet, 16)?).into(),
        ttl: fixed[8],
        len: len.into(),
    };
    Ok((
        header,
        fixed[9],
        whole.get(header_len..).unwrap_or_default(),
    ))
}

/// Why a fragment is left to the kernel.
const fn fragment_of(is_icmp: bool) -> Reason {
    if is_icmp {
        Reason::IcmpFragment
    } else {
        Reason::Fragment
    }
}

/// Header, protocol and payload of an IPv6 packet (RFC 8200).
fn ipv6(packet: &[u8]) -> Result<(Header, u8, &[u8]), Reason> {
    let fixed = octets::<IPV6_LEN>(packet, 0)?;
    if fixed[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let len = number(packet, 4)?;
    let payload = packet.get(IPV6_LEN..).unwrap_or_default();
    let payload = payload.get(..len.into()).ok_or(Reason::Truncated)?;
    let (protocol, payload) = behind_extensions(fixed[6], payload)?;
    if protocol == FRAGMENT {
        octets::<8>(payload, 0)?;
        return Err(fragment_of(payload.first() == Some(&ICMP_V6)));
    }
    let header = Header {
        from: Ipv6Addr::from(octets(packet, 8)?).into(),
        to: Ipv6Addr::from(octets(packet, 24)?).into(),
        ttl: fixed[7],
        len: 40 + u32::from(len),
    };
    Ok((header, protocol, payload))
}

/// Steps over extension headers, to a fragment's or to what is none.
pub(super) fn behind_extensions(first: u8, payload: &[u8]) -> Result<(u8, &[u8]), Reason> {
    let (mut next, mut rest) = (first, payload);
    // A header may say that it is longer than the packet: then nothing is left of what follows.
    let mut is_cut = false;
    for _ in 0..EXTENSIONS {
        if ![HOP_BY_HOP, ROUTING, DESTINATION].contains(&next) {
            break;
        }
        if is_cut {
            return Err(Reason::Truncated);
        }
        let [after, length, _, segments_left, ..] = octets::<8>(rest, 0)?;
        if next == ROUTING && segments_left > 0 {
            return Err(Reason::Ipv6);
        }
        match rest.get((usize::from(length) + 1) * 8..) {
            Some(behind) => rest = behind,
            None => is_cut = true,
        }
        next = after;
    }
    match next {
        HOP_BY_HOP | ROUTING | DESTINATION => Err(Reason::Ipv6),
        _ if is_cut => Ok((next, &[])),
        _ => Ok((next, rest)),
    }
}
