//! A packet, and its frame.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    IpDscp, IpEcn, IpFragOffset, Ipv4Header, Ipv4Options, Ipv6FlowLabel, Ipv6Header, TcpHeader,
};

use crate::frames::{NEAR, ROUTER, Tag, port_mac};

/// What a frame is made of.
pub(crate) struct Made {
    pub source: [u8; 6],
    pub destination: [u8; 6],
    pub client: SocketAddr,
    pub vip: SocketAddr,
    pub udp: bool,
    pub flags: u8,
    pub ttl: u8,
    /// Type of service, or traffic class.
    pub tos: u8,
    /// Of IPv4.
    pub dont_fragment: bool,
    pub payload: usize,
    /// There is no checksum; a segment then has a wrong one.
    pub unchecked: bool,
    pub options: usize,
    /// Offset, and whether others follow.
    pub fragment: (u16, bool),
    /// Identification.
    pub id: u32,
    /// The outer one first.
    pub tags: Vec<Tag>,
    /// IP protocol, if another one than the transport's.
    pub protocol: Option<u8>,
    /// An ICMP message instead of a transport header and what it carries.
    pub message: Option<Vec<u8>>,
    /// IPv6 extension headers: number, and length in units of eight octets beyond the first.
    pub extensions: Vec<(u8, u8, u8)>,
}

impl Made {
    /// A packet such as a client sends: flags, and octets that it carries.
    pub(crate) fn of(
        (client, vip): (SocketAddr, SocketAddr),
        udp: bool,
        (flags, payload): (u8, usize),
    ) -> Self {
        Self {
            source: ROUTER,
            destination: port_mac(NEAR),
            client,
            vip,
            udp,
            flags,
            ttl: 64,
            tos: 0,
            dont_fragment: true,
            payload,
            unchecked: false,
            options: 0,
            fragment: (0, false),
            id: 0,
            tags: Vec::new(),
            protocol: None,
            message: None,
            extensions: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut frame = self.destination.to_vec();
        frame.extend(self.source);
        let transport = self.transport();
        match (self.client.ip(), self.vip.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([8, 0]);
                frame.extend(self.ipv4(from, to, transport.len()));
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (first, extensions) = self.extensions();
                frame.extend([0x86, 0xdd]);
                let payload = extensions.len() + transport.len();
                let header = Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: u16::try_from(payload).unwrap(),
                    next_header: first.into(),
                    hop_limit: self.ttl,
                    source: from.octets(),
                    destination: to.octets(),
                };
                frame.extend(header.to_bytes());
                frame.extend(extensions);
            }
            mixed => panic!("{mixed:?}"),
        }
        frame.extend(transport);
        for (ethertype, tci) in self.tags.iter().rev() {
            let tag = [ethertype.to_be_bytes(), tci.to_be_bytes()].concat();
            frame.splice(12..12, tag);
        }
        frame
    }

    fn protocol(&self) -> u8 {
        let own = match (&self.message, self.vip, self.udp) {
            (Some(_), SocketAddr::V4(_), _) => 1,
            (Some(_), SocketAddr::V6(_), _) => 58,
            (None, _, true) => 17,
            (None, _, false) => 6,
        };
        self.protocol.unwrap_or(own)
    }

    fn ipv4(&self, from: Ipv4Addr, to: Ipv4Addr, payload: usize) -> Vec<u8> {
        let (offset, more_fragments) = self.fragment;
        let mut header = Ipv4Header {
            more_fragments,
            identification: u16::try_from(self.id).unwrap(),
            dscp: IpDscp::try_new(self.tos >> 2).unwrap(),
            ecn: IpEcn::try_new(self.tos & 3).unwrap(),
            dont_fragment: self.dont_fragment,
            fragment_offset: IpFragOffset::try_new(offset).unwrap(),
            time_to_live: self.ttl,
            protocol: self.protocol().into(),
            source: from.octets(),
            destination: to.octets(),
            options: Ipv4Options::try_from(vec![1; self.options].as_slice()).unwrap(),
            ..Ipv4Header::default()
        };
        header.set_payload_len(payload).unwrap();
        header.header_checksum = header.calc_header_checksum();
        header.to_bytes().to_vec()
    }

    /// Number of the first header behind the IPv6 header, and all up to the transport's.
    fn extensions(&self) -> (u8, Vec<u8>) {
        let mut next = self.protocol();
        let mut octets = Vec::new();
        if self.fragment != (0, false) {
            let (offset, more) = self.fragment;
            octets = vec![next, 0];
            octets.extend((offset << 3 | u16::from(more)).to_be_bytes());
            octets.extend(self.id.to_be_bytes());
            next = 44;
        }
        for (number, length, left) in self.extensions.iter().rev() {
            let mut header = vec![next, *length, 0, *left];
            header.resize((usize::from(*length) + 1) * 8, 0);
            header.extend(octets);
            (next, octets) = (*number, header);
        }
        (next, octets)
    }

    fn transport(&self) -> Vec<u8> {
        let (mut octets, place) = self.unsummed();
        if !self.unchecked {
            let sum = self.checksum(&octets);
            octets[place..place + 2].copy_from_slice(&sum);
        }
        octets
    }

    /// What stands behind the IP headers, with no checksum yet; where that belongs.
    fn unsummed(&self) -> (Vec<u8>, usize) {
        if let Some(message) = &self.message {
            return (message.clone(), 2);
        }
        let (from, to) = (self.client.port(), self.vip.port());
        let payload = vec![0x55; self.payload];
        let (mut octets, place) = if self.udp {
            let length = u16::try_from(8 + payload.len()).unwrap();
            let words = [from, to, length, 0];
            (words.into_iter().flat_map(u16::to_be_bytes).collect(), 6)
        } else {
            let mut header = TcpHeader::new(from, to, 1, 100).to_bytes().to_vec();
            header[13] = self.flags;
            (header, 16)
        };
        octets.extend(payload);
        (octets, place)
    }

    /// The checksum over that, as it stands in its header.
    fn checksum(&self, octets: &[u8]) -> [u8; 2] {
        let mut sum = Sum16BitWords::new().add_slice(octets);
        let length = u32::try_from(octets.len()).unwrap();
        let protocol = [0, self.protocol()];
        let sum = match (self.client.ip(), self.vip.ip()) {
            (IpAddr::V4(_), _) if self.message.is_some() => sum,
            (IpAddr::V4(from), IpAddr::V4(to)) => sum
                .add_4bytes(from.octets())
                .add_4bytes(to.octets())
                .add_2bytes(protocol)
                .add_4bytes(length.to_be_bytes()),
            (IpAddr::V6(from), IpAddr::V6(to)) => sum
                .add_16bytes(from.octets())
                .add_16bytes(to.octets())
                .add_2bytes(protocol)
                .add_4bytes(length.to_be_bytes()),
            mixed => panic!("{mixed:?}"),
        };
        match sum.ones_complement() {
            0 if self.udp && self.message.is_none() => [0xff, 0xff],
            sum => sum.to_ne_bytes(),
        }
    }
}
