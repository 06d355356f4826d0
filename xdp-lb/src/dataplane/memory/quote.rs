//! What an ICMP error is about: the packet that it quotes (RFC 792, RFC 4443).
//!
//! A real server sent that packet, from the VIP to a client. So its source is the VIP, and the two ends
//! stand the other way round than in a packet of the client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xdp_lb_common::reason::Reason;

use crate::config::model::Protocol;

use super::frame::{FRAGMENT, behind_extensions, number, octets};

/// Octets of the header of an error.
const ICMP_LEN: usize = 8;
/// Octets of the quoted packet's transport header that an error has at least (RFC 792).
const QUOTED: usize = 8;

/// The two ends of a connection.
pub(super) struct Quote {
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub protocol: Protocol,
}

/// What a message to `receiver` is about.
pub(super) fn of(message: &[u8], receiver: IpAddr) -> Result<Quote, Reason> {
    let [kind, ..] = octets::<ICMP_LEN>(message, 0)?;
    let packet = message.get(ICMP_LEN..).unwrap_or_default();
    let is_error = match receiver {
        // Unreachable, time exceeded, parameter problem. A source quench means nothing any more (RFC
        // 6633), and a redirect is for hosts of its sender's link.
        IpAddr::V4(_) => matches!(kind, 3 | 11 | 12),
        // Unreachable, packet too big, time exceeded, parameter problem.
        IpAddr::V6(_) => matches!(kind, 1..=4),
    };
    if !is_error {
        return Err(Reason::Icmp);
    }
    let (from, to, protocol, transport) = match receiver {
        IpAddr::V4(_) => ipv4(packet)?,
        IpAddr::V6(_) => ipv6(packet)?,
    };
    let protocol = match protocol {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        _ => return Err(Reason::IcmpUnknown),
    };
    octets::<QUOTED>(transport, 0)?;
    if from != receiver {
        // Whoever sent that had another address than the one that is told.
        return Err(Reason::IcmpUnknown);
    }
    Ok(Quote {
        client: SocketAddr::new(to, number(transport, 2)?),
        vip: SocketAddr::new(from, number(transport, 0)?),
        protocol,
    })
}

/// Source, destination, protocol and what is quoted of the payload. The length in the quoted header is
/// that of the packet, most of which is not here.
fn ipv4(packet: &[u8]) -> Result<(IpAddr, IpAddr, u8, &[u8]), Reason> {
    let fixed = octets::<20>(packet, 0)?;
    let (version, header_len) = (fixed[0] >> 4, usize::from(fixed[0] & 15) * 4);
    if version != 4 || header_len < 20 {
        return Err(Reason::Malformed);
    }
    if number(packet, 6)? & 0x1fff != 0 {
        return Err(Reason::IcmpUnknown);
    }
    let [from, to] = [12, 16].map(|at| octets::<4>(packet, at).map(Ipv4Addr::from));
    let payload = packet.get(header_len..).unwrap_or_default();
    Ok((from?.into(), to?.into(), fixed[9], payload))
}

/// The same of IPv6. Of fragments only the first has ports.
fn ipv6(packet: &[u8]) -> Result<(IpAddr, IpAddr, u8, &[u8]), Reason> {
    let fixed = octets::<40>(packet, 0)?;
    if fixed[0] >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    let [from, to] = [8, 24].map(|at| octets::<16>(packet, at).map(Ipv6Addr::from));
    let rest = packet.get(40..).unwrap_or_default();
    let (mut protocol, mut rest) = behind_extensions(fixed[6], rest)?;
    if protocol == FRAGMENT {
        let [next, _, high, low, ..] = octets::<8>(rest, 0)?;
        if u16::from_be_bytes([high, low]) >> 3 != 0 {
            return Err(Reason::IcmpUnknown);
        }
        (protocol, rest) = (next, rest.get(8..).unwrap_or_default());
    }
    Ok((from?.into(), to?.into(), protocol, rest))
}
