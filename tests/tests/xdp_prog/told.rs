//! ICMP errors of both families, made by another implementation than the program's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{IpHeaders, Ipv4Header, Ipv4Options, Ipv6Header, PacketBuilder};
use xdp_lb_tests::packet::ETHERNET;

use crate::tables::{PORT_MAC, ROUTER_MAC};
use crate::wire::{Wire, class};

/// An error.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Who tells.
    pub from: IpAddr,
    /// Who is told.
    pub to: IpAddr,
    /// Type and code.
    pub kind: (u8, u8),
    /// TTL or hop limit.
    pub hops: u8,
    /// Octets of options in its own IPv4 header.
    pub options: usize,
    /// The packet that it is about.
    pub about: Wire,
    /// How many octets of it are quoted behind its IP headers.
    pub carried: usize,
    /// Source MAC.
    pub source: [u8; 6],
    /// Destination MAC.
    pub destination: [u8; 6],
}

/// A router on the way; nobody's neighbour.
pub(crate) fn router(is_v6: bool) -> IpAddr {
    if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 7).into()
    } else {
        Ipv4Addr::new(203, 0, 113, 7).into()
    }
}

/// What path-MTU discovery lives by.
pub(crate) const fn too_long(is_v6: bool) -> (u8, u8) {
    if is_v6 { (2, 0) } else { (3, 4) }
}

/// A router tells the sender of a packet that it was too long, and quotes as little as it may.
pub(crate) fn told(about: &Wire) -> Told {
    let is_v6 = about.from.is_ipv6();
    Told {
        from: router(is_v6),
        to: about.from.ip(),
        kind: too_long(is_v6),
        hops: 60,
        options: 0,
        about: about.clone(),
        carried: 8,
        source: ROUTER_MAC,
        destination: PORT_MAC,
    }
}

impl Told {
    /// The frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let whole = self.about.bytes();
        let end = ETHERNET + self.about.headers() + self.carried;
        self.quoting(&whole[ETHERNET..end.min(whole.len())])
    }

    /// The frame, with something else in it.
    pub(crate) fn quoting(&self, quote: &[u8]) -> Vec<u8> {
        let (from, to) = (self.from, self.to);
        let message = Message {
            from,
            to,
            hops: self.hops,
            tos: 0,
            id: 5,
            options: self.options,
            kind: self.kind,
            rest: 1280_u32.to_be_bytes(),
            quote: quote.to_vec(),
            source: self.source,
            destination: self.destination,
        };
        message.bytes()
    }
}

/// An ICMP error, of either family.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// Who tells.
    pub from: IpAddr,
    /// Who is told.
    pub to: IpAddr,
    /// TTL or hop limit.
    pub hops: u8,
    /// Type of service of IPv4.
    pub tos: u8,
    /// Identification of IPv4.
    pub id: u16,
    /// Octets of options in its own IPv4 header.
    pub options: usize,
    /// Type and code.
    pub kind: (u8, u8),
    /// The second word of its header.
    pub rest: [u8; 4],
    /// What is quoted.
    pub quote: Vec<u8>,
    /// Source MAC.
    pub source: [u8; 6],
    /// Destination MAC.
    pub destination: [u8; 6],
}

impl Message {
    /// The frame.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2(self.source, self.destination).ip(self.ip());
        let ((kind, code), mut frame) = (self.kind, Vec::new());
        match self.to {
            IpAddr::V4(_) => packet
                .icmpv4_raw(kind, code, self.rest)
                .write(&mut frame, &self.quote),
            IpAddr::V6(_) => packet
                .icmpv6_raw(kind, code, self.rest)
                .write(&mut frame, &self.quote),
        }
        .unwrap();
        frame
    }

    fn ip(&self) -> IpHeaders {
        match (self.from, self.to) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header {
                    identification: self.id,
                    dont_fragment: true,
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

    /// The same, with these octets in the quote from there on.
    pub(crate) fn over(mut self, at: usize, octets: &[u8]) -> Self {
        self.quote[at..at + octets.len()].copy_from_slice(octets);
        self
    }

    /// The same, which quotes so much.
    pub(crate) fn quoting(mut self, octets: usize) -> Self {
        self.quote.truncate(octets);
        self
    }

    /// The same, which says this MTU.
    pub(crate) fn mtu(mut self, mtu: u16) -> Self {
        self.rest[2..].copy_from_slice(&mtu.to_be_bytes());
        self
    }
}
