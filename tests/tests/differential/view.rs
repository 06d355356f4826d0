//! What a frame is, in the eyes of `etherparse`: a third opinion beside the program's and the model's,
//! which both were written here.

use std::net::{IpAddr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use etherparse::err::Layer;
use etherparse::err::packet::SliceError;
use etherparse::{
    IpNumber, LaxNetSlice, LaxSlicedPacket, LinkSlice, NetSlice, SlicedPacket, TransportSlice,
};
use xdp_lb::config::model::Protocol;
use xdp_lb::dataplane::memory::Packet;
use xdp_lb_common::reason::Reason;

/// Whether the model's view of a frame is that of `etherparse`, as far as that tells.
pub(crate) fn check(frame: &[u8]) -> Result<(), String> {
    let model = Packet::of(frame);
    let differs = |what: String| Err(format!("etherparse: {what}; the model: {model:?}"));
    match SlicedPacket::from_ethernet(frame) {
        Err(error) if is_of_no_concern(&error) => match model {
            Ok(_)
            | Err(
                Reason::Truncated
                | Reason::Fragment
                | Reason::NotTcpUdp
                | Reason::Ipv6
                | Reason::NotIp
                | Reason::Vlan
                | Reason::Icmp
                | Reason::IcmpFragment
                | Reason::IcmpUnknown
                | Reason::Malformed,
            ) => Ok(()),
            Err(_) => differs(format!("{error}")),
        },
        Err(error) => match model {
            Err(_) => Ok(()),
            Ok(_) => differs(format!("{error}")),
        },
        Ok(sliced) => {
            let expected = expected(frame, &sliced);
            if expected
                .iter()
                .any(|reasons| reasons.is_ok_and_equals(&model))
            {
                Ok(())
            } else {
                differs(format!("{expected:?}"))
            }
        }
    }
}

/// What the model may say.
#[derive(Debug)]
enum Expected {
    Packet(SocketAddr, SocketAddr, Protocol, u8, u8),
    /// An ICMP error about a packet between these, if there is one to be seen; or other ICMP.
    Icmp(Option<(IpAddr, IpAddr)>),
    Not(Reason),
}

impl Expected {
    fn is_ok_and_equals(&self, model: &Result<Packet, Reason>) -> bool {
        match (self, model) {
            (Self::Packet(client, vip, protocol, flags, ttl), Ok(packet)) => {
                !packet.is_error
                    && (
                        packet.client,
                        packet.vip,
                        packet.protocol,
                        packet.flags,
                        packet.ttl,
                    ) == (*client, *vip, *protocol, *flags, *ttl)
            }
            (Self::Not(reason), Err(found)) => reason == found,
            (Self::Icmp(ends), Ok(packet)) => {
                packet.is_error && *ends == Some((packet.vip.ip(), packet.client.ip()))
            }
            // What an error quotes may be anything; and ICMP of the other family is none.
            (Self::Icmp(_), Err(found)) => matches!(
                found,
                Reason::Icmp
                    | Reason::IcmpUnknown
                    | Reason::NotTcpUdp
                    | Reason::Truncated
                    | Reason::Malformed
                    | Reason::Ipv6
            ),
            (Self::Packet(..), Err(_)) | (Self::Not(_), Ok(_)) => false,
        }
    }
}

/// Lengths and offsets in the transport header are the receiver's business.
fn is_of_no_concern(error: &SliceError) -> bool {
    match error {
        // Options that do not come first are stepped over all the same.
        SliceError::Tcp(_) | SliceError::Ipv6Exts(_) => true,
        SliceError::Len(error) => matches!(
            error.layer,
            Layer::TcpHeader
                | Layer::UdpHeader
                | Layer::UdpPayload
                | Layer::Icmpv4
                | Layer::Icmpv6
                | Layer::Igmp
                | Layer::Icmpv4Timestamp
                | Layer::Icmpv4TimestampReply
        ),
        _ => false,
    }
}

fn expected(frame: &[u8], sliced: &SlicedPacket<'_>) -> Vec<Expected> {
    let Some(LinkSlice::Ethernet2(_)) = &sliced.link else {
        return vec![Expected::Not(Reason::Truncated)];
    };
    // Tags are not looked behind.
    if !sliced.link_exts.is_empty() {
        return vec![Expected::Not(Reason::Vlan), Expected::Not(Reason::NotIp)];
    }
    match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            if ip.is_payload_fragmented() {
                return [Reason::Fragment, Reason::IcmpFragment]
                    .map(Expected::Not)
                    .into();
            }
            if ip.extensions().auth.is_some() {
                return vec![Expected::Not(Reason::NotTcpUdp)];
            }
            let ends = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            vec![transport(sliced, ends, header.ttl())]
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let ends = (
                header.source_addr().into(),
                header.destination_addr().into(),
            );
            let extensions = ip.extensions();
            // How many extension headers are followed, and which, is the balancer's own affair; and so
            // is a payload of length 0, which etherparse takes for "up to the end".
            let own = [
                Reason::Ipv6,
                Reason::Fragment,
                Reason::IcmpFragment,
                Reason::NotTcpUdp,
                Reason::Icmp,
                Reason::IcmpUnknown,
                Reason::Malformed,
                Reason::Truncated,
            ];
            let mut expected = vec![transport(sliced, ends, header.hop_limit())];
            if !extensions.is_empty() || frame.get(18..20) == Some(&[0, 0]) {
                expected.extend(own.map(Expected::Not));
            }
            expected
        }
        Some(NetSlice::Arp(_)) | None => vec![Expected::Not(Reason::NotIp)],
    }
}

fn transport(sliced: &SlicedPacket<'_>, (from, to): (IpAddr, IpAddr), ttl: u8) -> Expected {
    let ends = |ports: (u16, u16)| (SocketAddr::new(from, ports.0), SocketAddr::new(to, ports.1));
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let (client, vip) = ends((tcp.source_port(), tcp.destination_port()));
            let bits = [
                tcp.fin(),
                tcp.syn(),
                tcp.rst(),
                tcp.psh(),
                tcp.ack(),
                tcp.urg(),
                tcp.ece(),
                tcp.cwr(),
            ];
            let flags = (0..)
                .zip(bits)
                .fold(0, |all, (at, set)| all | u8::from(set) << at);
            Expected::Packet(client, vip, Protocol::Tcp, flags, ttl)
        }
        Some(TransportSlice::Udp(udp)) => {
            let (client, vip) = ends((udp.source_port(), udp.destination_port()));
            Expected::Packet(client, vip, Protocol::Udp, 0, ttl)
        }
        Some(TransportSlice::Icmpv4(icmp)) => Expected::Icmp(quoted(icmp.payload())),
        Some(TransportSlice::Icmpv6(icmp)) => Expected::Icmp(quoted(icmp.payload())),
        Some(TransportSlice::Igmp(_)) | None => Expected::Not(Reason::NotTcpUdp),
    }
}

/// Source and destination of a packet that may be cut short.
fn quoted(packet: &[u8]) -> Option<(IpAddr, IpAddr)> {
    match LaxSlicedPacket::from_ip(packet).ok()?.net? {
        LaxNetSlice::Ipv4(ip) => {
            let header = ip.header();
            let ends = (header.source_addr(), header.destination_addr());
            Some((ends.0.into(), ends.1.into()))
        }
        LaxNetSlice::Ipv6(ip) => {
            let header = ip.header();
            let ends = (header.source_addr(), header.destination_addr());
            Some((ends.0.into(), ends.1.into()))
        }
        LaxNetSlice::Arp(_) => None,
    }
}

/// Whether what is sent has right checksums if what came had. (What is within a tunnel is not looked at.)
pub(crate) fn check_sent(came: &[u8], went: &[u8]) -> Result<(), String> {
    let [header_came, came] = sums(came).map(|right| right != Some(false));
    let [header_went, went] = sums(went).map(|right| right != Some(false));
    if (header_came && !header_went) || (header_came && came && !went) {
        return Err("etherparse: what was sent has a wrong checksum".to_owned());
    }
    Ok(())
}

/// Whether the checksums of an IPv4 header, and of the transport or ICMP, are right, as far as there are any.
fn sums(frame: &[u8]) -> [Option<bool>; 2] {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else {
        return [None; 2];
    };
    let (pseudo, header) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let right = header.to_header().calc_header_checksum() == header.header_checksum();
            let sum = Sum16BitWords::new()
                .add_4bytes(header.source())
                .add_4bytes(header.destination());
            (sum, Some(right))
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header();
            let sum = Sum16BitWords::new()
                .add_16bytes(header.source())
                .add_16bytes(header.destination());
            (sum, None)
        }
        Some(NetSlice::Arp(_)) | None => return [None; 2],
    };
    let Some(carried) = sliced.net.as_ref().and_then(NetSlice::ip_payload_ref) else {
        return [header, None];
    };
    let has_sum = match carried.ip_number {
        _ if carried.fragmented => false,
        IpNumber::TCP | IpNumber::ICMP | IpNumber::IPV6_ICMP => true,
        IpNumber::UDP => carried.payload.get(6..8) != Some(&[0, 0]),
        _ => false,
    };
    let sum = if carried.ip_number == IpNumber::ICMP {
        Sum16BitWords::new()
    } else {
        let length = u32::try_from(carried.payload.len()).unwrap();
        pseudo
            .add_2bytes([0, carried.ip_number.0])
            .add_4bytes(length.to_be_bytes())
    };
    let right = sum.add_slice(carried.payload).ones_complement() == 0;
    [header, has_sum.then_some(right)]
}
