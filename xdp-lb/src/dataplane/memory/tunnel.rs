//! Tunnels: other headers in front of a packet (RFC 2003, 2473, 4213; GUE: draft-ietf-intarea-gue; GRE:
//! RFC 2784).

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};
use xdp_lb_common::addr::Address;
use xdp_lb_common::hashed::folded;
use xdp_lb_common::method::source_port_be;

use crate::config::model::{Checksum, Tunnel};

use super::checksum;
use super::frame::{ETHERNET, Packet, number, octets};

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

/// Where a tunnel begins, and where it ends.
pub(super) type Ends = (IpAddr, IpAddr);

/// Octets that a tunnel puts in front of a packet.
pub(super) const fn octets_of(tunnel: Tunnel, (_, to): Ends) -> usize {
    let outer = if to.is_ipv4() { 20 } else { 40 };
    outer
        + match tunnel {
            Tunnel::Ipip => 0,
            Tunnel::Gue { .. } => 12,
            Tunnel::Gre { checksum: false } => 4,
            Tunnel::Gre { checksum: true } => 8,
        }
}

/// The frame of a packet, whose hop is spent, with the headers of a tunnel. Its MACs stay as they are.
pub(super) fn wrap(
    frame: &[u8],
    packet: &Packet,
    (tunnel, ends): (Tunnel, Ends),
    identification: &mut dyn FnMut() -> u16,
) -> Option<Vec<u8>> {
    let inner = frame.get(ETHERNET..)?;
    let len = usize::try_from(packet.len).ok()?;
    let whole = inner.get(..len)?;
    let middle = match tunnel {
        Tunnel::Ipip => Vec::new(),
        Tunnel::Gue { port, checksum } => gue(
            packet,
            whole,
            ends,
            (port.get(), checksum != Checksum::None),
        )?,
        Tunnel::Gre { checksum } => gre(packet, whole, checksum)?,
    };
    let carries = match tunnel {
        Tunnel::Ipip if packet.vip.is_ipv4() => IpNumber::IPV4,
        Tunnel::Ipip => IpNumber::IPV6,
        Tunnel::Gue { .. } => IpNumber::UDP,
        Tunnel::Gre { .. } => IpNumber::GRE,
    };
    let (ethertype, outer) = outer(whole, ends, (carries, middle.len()), identification)?;
    let macs = frame.get(..12)?;
    // What stands behind the packet in its frame, padding, stays there.
    Some([macs, &ethertype.to_be_bytes(), &outer, &middle, inner].concat())
}

/// The outer header, and the type of its frame. It has the hops left, the type of service and "don't
/// fragment" of the inner one.
fn outer(
    inner: &[u8],
    ends: Ends,
    (carries, middle): (IpNumber, usize),
    identification: &mut dyn FnMut() -> u16,
) -> Option<(u16, Vec<u8>)> {
    let [first, second, ..] = octets::<2>(inner, 0).ok()?;
    let (tos, hops, dont_fragment) = if first >> 4 == 4 {
        let [hops] = octets(inner, 8).ok()?;
        (second, hops, number(inner, 6).ok()? & 0x4000 != 0)
    } else {
        let [hops] = octets(inner, 7).ok()?;
        (first << 4 | second >> 4, hops, false)
    };
    let len = u16::try_from(middle + inner.len()).ok()?;
    match ends {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4Header {
                dscp: etherparse::IpDscp::try_new(tos >> 2).unwrap_or_default(),
                ecn: etherparse::IpEcn::try_new(tos & 3).unwrap_or_default(),
                // One that routers may not fragment needs no name (RFC 6864).
                identification: if dont_fragment { 0 } else { identification() },
                dont_fragment,
                time_to_live: hops,
                protocol: carries,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            header.set_payload_len(len.into()).ok()?;
            header.header_checksum = header.calc_header_checksum();
            Some((IPV4, header.to_bytes().to_vec()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: tos,
                flow_label: Ipv6FlowLabel::ZERO,
                payload_length: len,
                next_header: carries,
                hop_limit: hops,
                source: source.octets(),
                destination: destination.octets(),
            };
            Some((IPV6, header.to_bytes().to_vec()))
        }
        _ => None,
    }
}

/// UDP and GUE: version 0, data, no options.
fn gue(
    packet: &Packet,
    inner: &[u8],
    (from, to): Ends,
    (port, has_checksum): (u16, bool),
) -> Option<Vec<u8>> {
    let len = u16::try_from(12 + inner.len()).ok()?;
    let protocol = if packet.vip.is_ipv4() { 4 } else { 41 };
    let [len_high, len_low] = len.to_be_bytes();
    let [from_high, from_low] = source_port(packet).to_be_bytes();
    let [to_high, to_low] = port.to_be_bytes();
    let mut header = vec![
        from_high, from_low, to_high, to_low, len_high, len_low, 0, 0, 0, protocol, 0, 0,
    ];
    if has_checksum {
        let [from, to] = [from, to].map(bytes);
        let pseudo = [0, UDP, len_high, len_low];
        let covered = covered(inner)?.to_be_bytes();
        let sum = checksum::sum(&[&from, &to, &pseudo, &header, &covered]);
        super::send::put(&mut header, 6, &checksum::of_udp(!sum).to_be_bytes());
    }
    Some(header)
}

/// GRE, with a checksum or without.
fn gre(packet: &Packet, inner: &[u8], has_checksum: bool) -> Option<Vec<u8>> {
    let [high, low] = if packet.vip.is_ipv4() { IPV4 } else { IPV6 }.to_be_bytes();
    if !has_checksum {
        return Some(vec![0, 0, high, low]);
    }
    let header = [0x80, 0, high, low];
    let sum = checksum::sum(&[&header, &covered(inner)?.to_be_bytes()]);
    Some([&header[..], &(!sum).to_be_bytes(), &[0, 0]].concat())
}

/// The source port that spreads flows over paths and queues; every director has it alike.
fn source_port(packet: &Packet) -> u16 {
    let fold = |ip| u64::from(folded(Address::from_ip(ip).0.words_be, 0));
    let (client, vip) = (packet.client, packet.vip);
    let ports = u32::from(client.port().to_be()) | u32::from(vip.port().to_be()) << 16;
    u16::from_be(source_port_be(
        fold(vip.ip()) << 32 | fold(client.ip()),
        ports,
    ))
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The sum over a packet, as its own checksums say: were they wrong, the tunnel's would be as wrong.
fn covered(packet: &[u8]) -> Option<u16> {
    let [first] = octets::<1>(packet, 0).ok()?;
    let (header, protocol, ends) = if first >> 4 == 4 {
        let fragment = number(packet, 6).ok()? & 0x3fff;
        let [protocol] = octets(packet, 9).ok()?;
        (
            usize::from(first & 15) * 4,
            (fragment == 0).then_some(protocol),
            12..20,
        )
    } else {
        let [protocol] = octets(packet, 6).ok()?;
        (40, Some(protocol), 8..40)
    };
    let segment = packet.get(header..).unwrap_or_default();
    let has_checksum = match protocol {
        Some(TCP) => true,
        Some(UDP) => number(segment, 6).ok()? != 0,
        _ => false,
    };
    let (Some(protocol), true) = (protocol, has_checksum) else {
        return Some(checksum::sum(&[packet]));
    };
    // Whatever it is of, a checksum makes the sum of all that it covers 0xffff.
    let len = u16::try_from(segment.len()).ok()?;
    let ends = packet.get(ends).unwrap_or_default();
    let rest = !checksum::sum(&[ends, &[0, protocol], &len.to_be_bytes()]);
    let before = if first >> 4 == 4 {
        u16::MAX
    } else {
        checksum::sum(&[packet.get(..header).unwrap_or_default()])
    };
    Some(checksum::sum(&[&before.to_be_bytes(), &rest.to_be_bytes()]))
}
