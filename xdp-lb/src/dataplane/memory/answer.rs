//! What the director answers itself: packets without a real server, without a hop left, or too long for
//! their way.

use std::net::IpAddr;

use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode as TimeExceededV4};
use etherparse::icmpv6::{DestUnreachableCode, TimeExceededCode};
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpDscp, IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader,
};
use xdp_lb_common::answer::empty_pool;
use xdp_lb_common::reason::Reason;

use crate::config::model::Protocol;

use super::Memory;
use super::decide::Passage;
use super::frame::{ETHERNET, Packet, octets};

/// The longest ICMP errors: RFC 1812 4.3.2.3, RFC 4443 2.4(c).
const LONGEST_V4: usize = 576;
const LONGEST_V6: usize = 1280;
/// The least MTU of IPv6.
const LEAST_V6: u32 = 1280;
const HOPS: u8 = 64;
/// "Internetwork control", RFC 1812 4.3.2.5.
const PRECEDENCE: u8 = 0x30;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// What an ICMP error says.
#[derive(Clone, Copy)]
enum Said {
    Unreachable,
    TimeExceeded,
    TooBig(u32),
}

/// Why a packet leaves that goes nowhere for a reason, and what its sender gets if that is told.
pub(super) fn to(
    memory: &Memory,
    passage: &Passage<'_>,
    (packet, is_whole): (&Packet, bool),
    why: Reason,
) -> (Reason, Option<Vec<u8>>) {
    let (frame, mtu) = (passage.frame, passage.mtu);
    let from = passage.answers_from.unwrap_or_else(|| packet.vip.ip());
    let to = packet.client.ip();
    let groups = [packet.source, packet.destination].map(|mac| mac.octets()[0] & 1 != 0);
    if packet.is_error || groups.contains(&true) || !is_host(from) || !is_host(to) || from == to {
        return (why, None);
    }
    let (reason, said) = match why {
        Reason::TtlExpired => (Reason::TxTimeExceeded, Said::TimeExceeded),
        Reason::TooBig => {
            let mtu = if from.is_ipv6() {
                mtu.max(LEAST_V6)
            } else {
                mtu
            };
            if packet.len <= mtu {
                return (why, None);
            }
            (Reason::TxTooBig, Said::TooBig(mtu))
        }
        _ => match memory.options.empty_pool {
            empty_pool::SILENT => return (why, None),
            _ if packet.protocol == Protocol::Tcp && packet.flags & (SYN | RST) != SYN => {
                return (Reason::NoConnection, None);
            }
            empty_pool::RESET if packet.protocol == Protocol::Tcp && is_whole => {
                return reset(frame, packet)
                    .map_or((why, None), |made| (Reason::TxReset, Some(made)));
            }
            _ => (Reason::TxUnreachable, Said::Unreachable),
        },
    };
    match error(frame, packet, from, said) {
        Some(_) if passage.room < headers(packet) => (Reason::NoHeadroom, None),
        Some(made) => (reason, Some(made)),
        None => (why, None),
    }
}

/// Octets that an error has in front of what it quotes.
const fn headers(packet: &Packet) -> usize {
    if packet.vip.is_ipv4() { 28 } else { 48 }
}

/// Whether an address is that of a single host (RFC 1122 3.2.2, RFC 4443 2.4(e)).
fn is_host(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [first, ..] = ip.octets();
            first != 0 && first < 224 && !ip.is_loopback()
        }
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unspecified() && !ip.is_loopback(),
    }
}

/// The IP header of an answer.
fn header(ends: (IpAddr, IpAddr), dscp: u8) -> Option<IpHeaders> {
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                dscp: IpDscp::try_new(dscp).ok()?,
                dont_fragment: true,
                time_to_live: HOPS,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            Some(IpHeaders::Ipv4(
                header,
                etherparse::Ipv4Extensions::default(),
            ))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                hop_limit: HOPS,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            Some(IpHeaders::Ipv6(
                header,
                etherparse::Ipv6Extensions::default(),
            ))
        }
        _ => None,
    }
}

fn error(frame: &[u8], packet: &Packet, from: IpAddr, said: Said) -> Option<Vec<u8>> {
    let made = PacketBuilder::ethernet2(packet.destination.octets(), packet.source.octets());
    let made = made.ip(header((from, packet.client.ip()), PRECEDENCE)?);
    let quote = frame.get(ETHERNET..)?;
    let len = usize::try_from(packet.len).ok()?.min(quote.len());
    let mut answer = Vec::new();
    if packet.vip.is_ipv4() {
        let kind = match said {
            Said::Unreachable => Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port),
            Said::TimeExceeded => Icmpv4Type::TimeExceeded(TimeExceededV4::TtlExceededInTransit),
            Said::TooBig(mtu) => {
                let next_hop_mtu = u16::try_from(mtu).ok()?;
                let header = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu };
                Icmpv4Type::DestinationUnreachable(header)
            }
        };
        let quote = quote.get(..len.min(LONGEST_V4 - 28))?;
        made.icmpv4(kind).write(&mut answer, quote).ok()?;
    } else {
        let kind = match said {
            Said::Unreachable => Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port),
            Said::TimeExceeded => Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded),
            Said::TooBig(mtu) => Icmpv6Type::PacketTooBig { mtu },
        };
        let quote = quote.get(..len.min(LONGEST_V6 - 48))?;
        made.icmpv6(kind).write(&mut answer, quote).ok()?;
    }
    Some(answer)
}

/// The reset that refuses a SYN (RFC 9293 3.10.7.1), unless its header is longer than the packet.
fn reset(frame: &[u8], packet: &Packet) -> Option<Vec<u8>> {
    // The TCP header, and what it carries, is the end of the packet.
    let len = usize::try_from(packet.len).ok()?;
    let ip = frame.get(ETHERNET..ETHERNET + len)?;
    let before = if packet.vip.is_ipv4() {
        usize::from(ip.first()? & 0xf) * 4
    } else {
        let rest = ip.get(40..)?;
        let (_, transport) = super::frame::behind_extensions(*ip.get(6)?, rest).ok()?;
        len - transport.len()
    };
    let tcp = ip.get(before..)?;
    let number = |at| octets(tcp, at).map(u32::from_be_bytes).ok();
    let header_len = usize::from(tcp.get(12)? >> 4) * 4;
    let carried = u32::try_from(tcp.len().checked_sub(header_len)?).ok()?;
    let flags = packet.flags;
    let answer = if flags & ACK != 0 {
        TcpHeader {
            sequence_number: number(8)?,
            ..TcpHeader::default()
        }
    } else {
        let consumed = carried + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        TcpHeader {
            ack: true,
            acknowledgment_number: number(4)?.wrapping_add(consumed),
            ..TcpHeader::default()
        }
    };
    let answer = TcpHeader {
        source_port: packet.vip.port(),
        destination_port: packet.client.port(),
        rst: true,
        window_size: 0,
        ..answer
    };
    let made = PacketBuilder::ethernet2(packet.destination.octets(), packet.source.octets());
    let made = made
        .ip(header((packet.vip.ip(), packet.client.ip()), 0)?)
        .tcp_header(answer);
    let mut sent = Vec::new();
    made.write(&mut sent, &[]).ok()?;
    Some(sent)
}
