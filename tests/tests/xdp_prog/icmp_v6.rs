//! ICMPv6 errors go to the real server whose packet they are about.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::ETHERNET;

use crate::director::{Director, in_a_network};
use crate::ipv6::{
    self, AFTER_IP, DESTINATION, FRAGMENT, HOP_BY_HOP, Made, ROUTING, VIP, ack, client, datagram,
    hold, over_v6, server_ip, syn,
};
use crate::tables::{PORT_MAC, ROUTER_MAC, server_mac, tables, tcp, udp};

/// A router on the way to the clients.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 1);
const TOO_BIG: u8 = 2;

/// An ICMPv6 message.
#[derive(Clone)]
struct Told {
    from: Ipv6Addr,
    to: Ipv6Addr,
    source: [u8; 6],
    destination: [u8; 6],
    kind: u8,
    hops: u8,
    /// Extension headers before it: number and octets from the second on.
    extensions: Vec<(u8, Vec<u8>)>,
    quote: Vec<u8>,
}

/// What the server sent to the client of a packet, up to so many octets of its transport header.
fn reply(packet: &Made, carried: usize) -> Vec<u8> {
    let reply = Made {
        from: packet.to,
        to: packet.from,
        ports: (packet.ports.1, packet.ports.0),
        ..packet.clone()
    };
    let bytes = reply.bytes();
    let headers: usize = packet
        .extensions
        .iter()
        .map(|(_, rest)| rest.len() + 1)
        .sum();
    bytes[ETHERNET..AFTER_IP + headers + carried].to_vec()
}

fn about(packet: &Made) -> Told {
    Told {
        from: ROUTER,
        to: VIP,
        source: ROUTER_MAC,
        destination: PORT_MAC,
        kind: TOO_BIG,
        hops: 60,
        extensions: Vec::new(),
        quote: reply(packet, 8),
    }
}

impl Told {
    fn kind(mut self, kind: u8) -> Self {
        self.kind = kind;
        self
    }

    fn behind(mut self, number: u8, rest: &[u8]) -> Self {
        self.extensions.push((number, rest.to_vec()));
        self
    }

    fn over(mut self, at: usize, octets: &[u8]) -> Self {
        self.quote[at..at + octets.len()].copy_from_slice(octets);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.source, self.destination)
            .ipv6(self.from.octets(), self.to.octets(), self.hops)
            .icmpv6_raw(self.kind, 0, 1280_u32.to_be_bytes())
            .write(&mut frame, &self.quote)
            .unwrap();
        ipv6::extend(&mut frame, &self.extensions);
        frame
    }
}

/// Client 1 has a TCP connection and a UDP flow, both on server 1; client 2 a connection on server 2.
fn balanced() -> Director {
    let director = Director::new(&tables([over_v6(tcp(80), 2), over_v6(udp(80), 2)]));
    for made in [
        syn(client(1, 1), 1000),
        syn(client(1, 2), 1000),
        datagram(client(1, 1), 1000),
    ] {
        director.send(&made.bytes());
    }
    director
}

fn padding(units: u8) -> Vec<u8> {
    let mut rest = vec![units];
    rest.resize(usize::from(units) * 8 + 7, 0);
    rest
}

fn one() -> Made {
    ack(client(1, 1), 1000)
}

const FOLLOWED: (Reason, u8) = (Reason::TxIcmp, 1);
const UNKNOWN: (Reason, u8) = (Reason::IcmpUnknown, 0);
const TRUNCATED: (Reason, u8) = (Reason::Truncated, 0);

#[test]
fn errors_go_to_the_server_of_the_connection_and_the_rest_to_the_kernel() {
    in_a_network(|| {
        let director = balanced();
        let hold = |what, told: Told, fate| hold(&director, what, &told.bytes(), fate);
        let two = ack(client(1, 2), 1000);
        for kind in 0..=255 {
            if (1..=4).contains(&kind) {
                hold("TCP", about(&one()).kind(kind), FOLLOWED);
                hold("the second", about(&two).kind(kind), (Reason::TxIcmp, 2));
                let of_udp = about(&datagram(client(1, 1), 1000));
                hold("UDP", of_udp.kind(kind), FOLLOWED);
            } else {
                hold("no error", about(&one()).kind(kind), (Reason::Icmp, 0));
            }
        }
        for carried in 0..=21 {
            let told = Told {
                quote: reply(&one(), carried),
                ..about(&one())
            };
            let fate = if carried < 8 { TRUNCATED } else { FOLLOWED };
            hold("a short quote", told, fate);
        }
        for (hops, fate) in [(255, FOLLOWED), (2, FOLLOWED), (1, (Reason::TtlExpired, 0))] {
            let told = Told {
                hops,
                ..about(&one())
            };
            hold("hops", told, fate);
        }
    });
}

#[test]
fn extension_headers_are_stepped_over_outside_and_inside() {
    in_a_network(|| {
        let director = balanced();
        let hold = |what, told: Told, fate| hold(&director, what, &told.bytes(), fate);
        for number in [HOP_BY_HOP, ROUTING, DESTINATION] {
            for units in [0, 1, 5, 20] {
                let padding = padding(units);
                let outside = about(&one()).behind(number, &padding);
                hold("outside", outside, FOLLOWED);
                let inside = about(&one().behind(number, &padding));
                hold("inside", inside.clone(), FOLLOWED);
                hold("both", inside.behind(number, &padding), FOLLOWED);
            }
        }
        let four = (0..4).fold(one(), |made, _| made.behind(DESTINATION, &padding(1)));
        hold("four inside", about(&four), FOLLOWED);
        let five = four.behind(DESTINATION, &padding(1));
        hold("five inside", about(&five), (Reason::Ipv6, 0));
        let first = one().behind(FRAGMENT, &[0, 0, 1, 0, 0, 0, 9]);
        hold("about a first fragment", about(&first), FOLLOWED);
        let first = first.behind(DESTINATION, &padding(0));
        hold("options behind that", about(&first), UNKNOWN);
        let later = one().behind(FRAGMENT, &[0, 0, 8, 0, 0, 0, 9]);
        hold("about a later fragment", about(&later), UNKNOWN);
        let fragment = about(&one()).behind(FRAGMENT, &[0, 0, 1, 0, 0, 0, 9]);
        hold("itself a fragment", fragment, (Reason::IcmpFragment, 0));
    });
}

#[test]
fn what_is_about_nothing_known_or_not_ours_is_the_kernels() {
    in_a_network(|| {
        let director = balanced();
        let hold = |what, told: Told, fate| hold(&director, what, &told.bytes(), fate);
        for word in 0..8 {
            let mut words = client(1, 1).segments();
            words[word] ^= 0x8000;
            hold("another client", about(&ack(words.into(), 1000)), UNKNOWN);
            let mut words = VIP.segments();
            words[word] ^= 1;
            let told = Told {
                to: words.into(),
                ..about(&one())
            };
            hold("to another address", told, UNKNOWN);
        }
        let port = Made {
            ports: (1000, 81),
            ..one()
        };
        hold("another port", about(&port), (Reason::NoService, 0));
        hold("no port known", about(&ack(client(1, 1), 7)), UNKNOWN);
        hold("about ICMPv6", about(&one()).over(6, &[58]), UNKNOWN);
        let malformed = (Reason::Malformed, 0);
        hold("about IPv4", about(&one()).over(0, &[0x45]), malformed);
        let from = |n, from| Told {
            source: server_mac(n),
            from,
            ..about(&one())
        };
        let twice = (Reason::AlreadyBalanced, 0);
        hold("balanced already", from(2, ROUTER), twice);
        hold("from the client", from(2, client(1, 1)), twice);
        hold("a server tells", from(2, server_ip(2)), FOLLOWED);
        let other = Told {
            destination: [2, 0, 0, 0, 0, 0x77],
            ..about(&one())
        };
        hold("another host", other, (Reason::OtherHost, 0));
    });
}

#[test]
fn an_error_cut_anywhere_passes_as_truncated() {
    in_a_network(|| {
        let director = balanced();
        let told = about(&one().behind(DESTINATION, &padding(0)));
        let frame = told.behind(HOP_BY_HOP, &padding(0)).bytes();
        hold(&director, "whole", &frame, FOLLOWED);
        for length in ETHERNET..frame.len() {
            hold(&director, "a cut frame", &frame[..length], TRUNCATED);
        }
        for payload in 0..frame.len() - AFTER_IP {
            let mut frame = frame.clone();
            let payload = u16::try_from(payload).unwrap().to_be_bytes();
            frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&payload);
            hold(&director, "a short length", &frame, TRUNCATED);
        }
    });
}

#[test]
fn a_fragment_header_behind_the_end_of_the_packet_tells_nothing() {
    in_a_network(|| {
        let director = balanced();
        let told = about(&one()).behind(FRAGMENT, &[0, 0, 1, 0, 0, 0, 9]);
        let frame = told.bytes();
        for payload in 0..=frame.len() - AFTER_IP {
            let mut frame = frame.clone();
            let octets = u16::try_from(payload).unwrap().to_be_bytes();
            frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&octets);
            let reason = if payload < 8 {
                Reason::Truncated
            } else {
                Reason::IcmpFragment
            };
            hold(&director, "padding behind it", &frame, (reason, 0));
        }
    });
}
