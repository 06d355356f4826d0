//! Packets of both families, whole and as they come out changed: made and checked by another
//! implementation than the program's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{
    IpHeaders, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader,
    UdpHeader,
};
use xdp_lb::config::model::ServiceKey;
use xdp_lb::plan::desired::{Method, Server};
use xdp_lb_common::reason::{Reason, Verdict};
use xdp_lb_tests::packet::{ETHERNET, compare, flags, show};
use xdp_lb_tests::program::{Action, Outcome};

use crate::director::Director;
use crate::tables::{PORT, PORT_MAC, ROUTER_MAC, VIP, Virtual, direct};

/// The IPv6 VIP.
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x200);

/// A packet.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    /// Where it comes from.
    pub from: SocketAddr,
    /// Where it goes; of the same family.
    pub to: SocketAddr,
    /// Flags of TCP; `None` for UDP.
    pub tcp: Option<u8>,
    /// A datagram without a checksum.
    pub unchecked: bool,
    /// TTL or hop limit.
    pub hops: u8,
    /// Type of service or traffic class.
    pub tos: u8,
    /// Routers must not fragment it. Always so of IPv6.
    pub dont_fragment: bool,
    /// Octets of IPv4 options, or of an IPv6 header of destination options.
    pub options: usize,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Source MAC.
    pub source: [u8; 6],
    /// Destination MAC.
    pub destination: [u8; 6],
}

/// The VIP of a family, and a port of it.
pub(crate) fn vip(is_v6: bool, port: u16) -> SocketAddr {
    let ip = if is_v6 { VIP6.into() } else { IpAddr::V4(VIP) };
    SocketAddr::new(ip, port)
}

/// A client of a family, by its number.
pub(crate) fn client(is_v6: bool, n: u8) -> SocketAddr {
    let ip = if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xc, 1, 0xffff, 0, 0x8000, n.into()).into()
    } else {
        IpAddr::from(Ipv4Addr::new(10, 1, 0, n))
    };
    SocketAddr::new(ip, 40_000)
}

/// The address of real server `n` in a family.
pub(crate) fn server(is_v6: bool, n: u8) -> IpAddr {
    if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n.into()).into()
    } else {
        crate::tables::server_ip(n).into()
    }
}

/// The service on the VIP of a family, without servers.
pub(crate) fn on(is_v6: bool, mut made: Virtual) -> Virtual {
    if let ServiceKey::Endpoint(endpoint) = &mut made.key {
        endpoint.vip = vip(is_v6, 0).ip();
    }
    made
}

/// With real server `n` of an address more, as keepalived adds it.
pub(crate) fn with(mut made: Virtual, n: u8, address: SocketAddr, method: Method) -> Virtual {
    let server = Server {
        address,
        weight: 1,
        limit: None,
        serving: true,
        releases_clients: false,
        method,
        reach: Some(direct(n, PORT)),
    };
    made.service.servers.insert(0, server);
    made
}

/// A packet of client `n` to port 80 of the VIP.
pub(crate) fn from_client(is_v6: bool, n: u8, tcp: Option<u8>) -> Wire {
    Wire {
        from: client(is_v6, n),
        to: vip(is_v6, 80),
        tcp,
        unchecked: false,
        hops: 64,
        tos: 0,
        dont_fragment: true,
        options: 0,
        payload: b"payload".to_vec(),
        source: ROUTER_MAC,
        destination: PORT_MAC,
    }
}

/// A SYN.
pub(crate) fn syn(is_v6: bool, n: u8) -> Wire {
    from_client(is_v6, n, Some(flags::SYN))
}

/// An ACK.
pub(crate) fn ack(is_v6: bool, n: u8) -> Wire {
    from_client(is_v6, n, Some(flags::ACK))
}

/// A datagram.
pub(crate) fn datagram(is_v6: bool, n: u8) -> Wire {
    from_client(is_v6, n, None)
}

impl Wire {
    /// The frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2(self.source, self.destination).ip(self.ip());
        let mut frame = Vec::new();
        let (from, to) = (self.from.port(), self.to.port());
        match self.tcp {
            Some(set) => {
                let has = |flag| set & flag != 0;
                let header = TcpHeader {
                    fin: has(flags::FIN),
                    syn: has(flags::SYN),
                    rst: has(flags::RST),
                    ack: has(flags::ACK),
                    ..TcpHeader::new(from, to, 1, 65_535)
                };
                packet.tcp_header(header).write(&mut frame, &self.payload)
            }
            None => packet.udp(from, to).write(&mut frame, &self.payload),
        }
        .unwrap();
        if self.unchecked {
            let at = self.transport() + 6;
            frame[at..at + 2].fill(0);
        }
        if self.options > 0 && self.from.is_ipv6() {
            self.extend(&mut frame);
        }
        frame
    }

    /// Octets of its IP header with what belongs to it.
    pub(crate) fn headers(&self) -> usize {
        let fixed = if self.from.is_ipv4() { 20 } else { 40 };
        fixed + self.options
    }

    /// Where the transport header stands, without an extension.
    fn transport(&self) -> usize {
        match self.from {
            SocketAddr::V4(_) => ETHERNET + 20 + self.options,
            SocketAddr::V6(_) => ETHERNET + 40,
        }
    }

    /// Puts in a header of destination options.
    fn extend(&self, frame: &mut Vec<u8>) {
        const DESTINATION: u8 = 60;
        let mut header = vec![0; self.options];
        header[..4].copy_from_slice(&[frame[ETHERNET + 6], 0, 1, 4]);
        assert_eq!(self.options, 8, "one of eight octets");
        frame.splice(self.transport()..self.transport(), header);
        frame[ETHERNET + 6] = DESTINATION;
        let payload = u16::try_from(frame.len() - ETHERNET - 40).unwrap();
        frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&payload.to_be_bytes());
    }

    fn ip(&self) -> IpHeaders {
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    identification: 77,
                    dont_fragment: self.dont_fragment,
                    time_to_live: self.hops,
                    source: source.octets(),
                    destination: destination.octets(),
                    options: Ipv4Options::try_from(vec![1; self.options].as_slice()).unwrap(),
                    ..Ipv4Header::default()
                };
                (header.dscp, header.ecn) = class(self.tos);
                IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::try_new(0x12345).unwrap(),
                    hop_limit: self.hops,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
            }
            mixed => panic!("{mixed:?}"),
        }
    }

    /// The length of its IP packet.
    pub(crate) fn octets(&self) -> u64 {
        u64::try_from(self.bytes().len() - ETHERNET).unwrap()
    }
}

/// A type of service in the two fields that a header has now.
pub(crate) fn class(tos: u8) -> (etherparse::IpDscp, etherparse::IpEcn) {
    let dscp = etherparse::IpDscp::try_new(tos >> 2).unwrap();
    (dscp, etherparse::IpEcn::try_new(tos & 3).unwrap())
}

/// Sends a frame, which must leave for this reason and for no other.
pub(crate) fn sent(director: &Director, what: &str, frame: &[u8], reason: Reason) -> Outcome {
    sent_by(director, what, (frame, PORT), reason)
}

/// [`sent`], of a frame that came in by a port.
pub(crate) fn sent_by(
    director: &Director,
    what: &str,
    (frame, port): (&[u8], u32),
    reason: Reason,
) -> Outcome {
    if port == PORT
        && let Some(decision) = director.foresee(frame)
    {
        assert_eq!(decision.reason(), Some(reason), "foreseen, {what}");
    }
    let before = director.eyes().tally();
    let outcome = director.program().run(frame, port).unwrap();
    let counted = director.eyes().tally().since(&before);
    let reasons: Vec<_> = counted.reasons.iter().collect();
    assert_eq!(reasons, [(&reason, &1)], "{what}: {}", show(frame));
    let action = match reason.verdict() {
        Verdict::Pass => Action::Pass,
        Verdict::Tx => Action::Tx,
        Verdict::Redirect => Action::Redirect,
        Verdict::Drop => Action::Drop,
    };
    assert_eq!(outcome.action, action, "{what}");
    if action == Action::Pass {
        assert!(outcome.frame == frame, "{what}: passes untouched");
    }
    outcome
}

/// What came against what must.
pub(crate) fn same(what: &str, expected: &[u8], got: &[u8]) {
    assert!(expected == got, "{what}: {}", compare(expected, got));
}

/// A UDP header over an IP header's payload, with its checksum.
pub(crate) fn udp_header(
    (from, to): (SocketAddr, SocketAddr),
    payload: &[u8],
    is_checked: bool,
) -> [u8; 8] {
    let mut header = UdpHeader {
        source_port: from.port(),
        destination_port: to.port(),
        length: u16::try_from(payload.len() + 8).unwrap(),
        checksum: 0,
    };
    if is_checked {
        header.checksum = match (from.ip(), to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                header.calc_checksum_ipv4_raw(source.octets(), destination.octets(), payload)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                header.calc_checksum_ipv6_raw(source.octets(), destination.octets(), payload)
            }
            mixed => panic!("{mixed:?}"),
        }
        .unwrap();
    }
    header.to_bytes()
}
