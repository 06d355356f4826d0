//! IPv6: what of it is balanced, and that it is as IPv4 is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use etherparse::{Ethernet2Header, IpNumber, Ipv6Header, PacketBuilder};
use xdp_lb::config::model::ServiceKey;
use xdp_lb::plan::desired::{Method, Server};
use xdp_lb_common::reason::{Reason, Verdict};
use xdp_lb_common::watch::NOBODY;
use xdp_lb_tests::packet::{ETHERNET, compare, show};
use xdp_lb_tests::program::Action;

use crate::director::{Director, in_a_network};
use crate::eyes::Tally;
use crate::tables::{PORT, PORT_MAC, ROUTER_MAC, Virtual, direct, server_mac, tables, tcp, udp};

pub(crate) const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0x200);
/// Where the IPv6 header ends.
pub(crate) const AFTER_IP: usize = ETHERNET + 40;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION: u8 = 60;

pub(crate) fn server_ip(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n.into())
}

/// Client `n` of a /64.
pub(crate) fn client(net: u16, n: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0xc, net, 0, 0, 0, n)
}

/// The same service on the IPv6 VIP, round robin over servers 1 to `count`.
pub(crate) fn over_v6(mut made: Virtual, count: u8) -> Virtual {
    if let ServiceKey::Endpoint(endpoint) = &mut made.key {
        endpoint.vip = VIP.into();
    }
    let port = made.key.port();
    let servers = (1..=count).map(|n| Server {
        address: SocketAddr::from((server_ip(n), port)),
        weight: 1,
        limit: None,
        serving: true,
        releases_clients: false,
        method: Method::Direct,
        reach: Some(direct(n, PORT)),
    });
    made.service.servers = servers.collect();
    made
}

/// What a frame is made of.
#[derive(Clone)]
pub(crate) struct Made {
    pub from: Ipv6Addr,
    pub to: Ipv6Addr,
    pub ports: (u16, u16),
    /// `None` for UDP; else whether it is a SYN or an ACK.
    pub syn: Option<bool>,
    pub hops: u8,
    pub source: [u8; 6],
    pub destination: [u8; 6],
    /// Numbers of extension headers with their octets from the second on.
    pub extensions: Vec<(u8, Vec<u8>)>,
}

pub(crate) fn syn(from: Ipv6Addr, port: u16) -> Made {
    Made {
        from,
        to: VIP,
        ports: (port, 80),
        syn: Some(true),
        hops: 64,
        source: ROUTER_MAC,
        destination: PORT_MAC,
        extensions: Vec::new(),
    }
}

pub(crate) fn ack(from: Ipv6Addr, port: u16) -> Made {
    Made {
        syn: Some(false),
        ..syn(from, port)
    }
}

pub(crate) fn datagram(from: Ipv6Addr, port: u16) -> Made {
    Made {
        syn: None,
        ..syn(from, port)
    }
}

impl Made {
    pub(crate) fn behind(mut self, number: u8, rest: &[u8]) -> Self {
        self.extensions.push((number, rest.to_vec()));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2(self.source, self.destination).ipv6(
            self.from.octets(),
            self.to.octets(),
            self.hops,
        );
        let (mut frame, (from, to)) = (Vec::new(), self.ports);
        match self.syn {
            Some(true) => packet.tcp(from, to, 1, 100).syn().write(&mut frame, b"x"),
            Some(false) => packet.tcp(from, to, 1, 100).ack(1).write(&mut frame, b"x"),
            None => packet.udp(from, to).write(&mut frame, b"x"),
        }
        .unwrap();
        extend(&mut frame, &self.extensions);
        frame
    }
}

/// Puts extension headers behind the IPv6 header of a frame: numbers, with their octets from the second
/// on.
pub(crate) fn extend(frame: &mut Vec<u8>, extensions: &[(u8, Vec<u8>)]) {
    let mut next = frame[ETHERNET + 6];
    for (number, rest) in extensions.iter().rev() {
        let mut header = vec![next];
        header.extend(rest);
        frame.splice(AFTER_IP..AFTER_IP, header);
        next = *number;
    }
    frame[ETHERNET + 6] = next;
    let payload = u16::try_from(frame.len() - AFTER_IP).unwrap();
    frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&payload.to_be_bytes());
}

/// The frame as it leaves for server `n`, made by another implementation.
pub(crate) fn forwarded(frame: &[u8], n: u8) -> Vec<u8> {
    let (mut ethernet, rest) = Ethernet2Header::from_slice(frame).unwrap();
    let (mut ip, rest) = Ipv6Header::from_slice(rest).unwrap();
    (ethernet.source, ethernet.destination) = (PORT_MAC, server_mac(n));
    ip.hop_limit -= 1;
    let mut sent = ethernet.to_bytes().to_vec();
    sent.extend_from_slice(&ip.to_bytes());
    sent.extend_from_slice(rest);
    sent
}

/// Sends a frame that must leave for `reason`, to server `n` if that is not 0, and nothing else be
/// counted.
pub(crate) fn hold(director: &Director, what: &str, frame: &[u8], (reason, n): (Reason, u8)) {
    let foreseen = director.foresee(frame);
    let before = director.eyes().tally();
    let outcome = director.send(frame);
    let counted = director.eyes().tally().since(&before);
    let wanted = BTreeMap::from([(reason, 1)]);
    if let Some(foreseen) = foreseen {
        assert_eq!(foreseen.reason(), Some(reason), "{what}, foreseen");
        let sent = counted.backends.keys().next().copied();
        assert_eq!(foreseen.backend, sent.unwrap_or(NOBODY), "{what}, foreseen");
    }
    assert_eq!(counted.reasons, wanted, "{what}: {}", show(frame));
    let action = match reason.verdict() {
        Verdict::Pass => Action::Pass,
        Verdict::Tx => Action::Tx,
        Verdict::Redirect => Action::Redirect,
        Verdict::Drop => Action::Drop,
    };
    assert_eq!(outcome.action, action, "{what}");
    if n == 0 {
        // Answers are looked at among themselves.
        let is_another = action == Action::Drop || reason.is_answer();
        assert!(is_another || outcome.frame == frame, "{what}");
        assert_eq!(
            counted,
            Tally {
                reasons: wanted,
                ..Tally::default()
            },
            "{what}"
        );
        return;
    }
    let expected = forwarded(frame, n);
    let difference = compare(&expected, &outcome.frame);
    assert!(outcome.frame == expected, "{what}: {difference}");
    let opens =
        u64::from(![Reason::TxConnection, Reason::TxIcmp, Reason::TxFragment].contains(&reason));
    let octets = u64::try_from(frame.len() - ETHERNET).unwrap();
    let traffic: Vec<_> = counted
        .services
        .values()
        .chain(counted.backends.values())
        .collect();
    assert_eq!(traffic, [&[opens, 1, octets]; 2], "{what}");
}

const NEW: Reason = Reason::TxScheduled;
const KNOWN: Reason = Reason::TxConnection;

#[test]
fn connections_are_scheduled_and_keep_their_server() {
    in_a_network(|| {
        let made = tables([over_v6(tcp(80), 2), over_v6(udp(80), 2), tcp(80).rr(1)]);
        let director = Director::looking(&made);
        let hold = |what, made: Made, fate| hold(&director, what, &made.bytes(), fate);
        hold("a new one", syn(client(1, 1), 1000), (NEW, 1));
        hold("the next one", syn(client(1, 1), 1001), (NEW, 2));
        hold("the first one", ack(client(1, 1), 1000), (KNOWN, 1));
        hold("the second one", ack(client(1, 1), 1001), (KNOWN, 2));
        hold(
            "no connection",
            ack(client(1, 2), 1000),
            (Reason::NoConnection, 0),
        );
        hold("a datagram", datagram(client(1, 1), 1000), (NEW, 1));
        hold("the same again", datagram(client(1, 1), 1000), (KNOWN, 1));
        for word in 0..8 {
            let mut words = client(1, 1).segments();
            words[word] ^= 0x8000;
            let other = ack(Ipv6Addr::from(words), 1000);
            hold("another client", other, (Reason::NoConnection, 0));
            let mut words = VIP.segments();
            words[word] ^= 1;
            let elsewhere = Made {
                to: words.into(),
                ..syn(client(1, 1), 1000)
            };
            hold("another address", elsewhere, (Reason::NoService, 0));
        }
        let port = Made {
            ports: (1000, 81),
            ..syn(client(1, 1), 0)
        };
        hold("another port", port, (Reason::NoService, 0));
    });
}

#[test]
fn a_service_of_any_port_takes_what_no_other_does() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(0), 1), over_v6(tcp(80), 1)]));
        let to = |port| Made {
            ports: (1000, port),
            ..syn(client(1, 1), 0)
        };
        for port in [80, 81, 65_535] {
            hold(&director, "any port", &to(port).bytes(), (NEW, 1));
        }
    });
}

#[test]
fn extension_headers_are_stepped_over_and_kept() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 1), over_v6(udp(80), 1)]));
        let padding = |units: u8| {
            let mut rest = vec![units];
            rest.resize(usize::from(units) * 8 + 7, 0);
            rest
        };
        let mut port = 1000;
        let mut hold = |what, change: &dyn Fn(Made) -> Made, reason: Reason| {
            port += 1;
            for made in [syn(client(1, 1), port), datagram(client(1, 1), port)] {
                let n = u8::from(reason == NEW);
                hold(&director, what, &change(made).bytes(), (reason, n));
            }
        };
        for number in [HOP_BY_HOP, ROUTING, DESTINATION] {
            for units in [0, 1, 2, 100, 255] {
                let one = |made: Made| made.behind(number, &padding(units));
                hold("one header", &one, NEW);
            }
        }
        let all = |made: Made| {
            [HOP_BY_HOP, DESTINATION, ROUTING, DESTINATION]
                .iter()
                .fold(made, |made, number| made.behind(*number, &padding(1)))
        };
        hold("as many as RFC 8200 has", &all, NEW);
        let many = |made| all(made).behind(DESTINATION, &padding(0));
        hold("more than that", &many, Reason::Ipv6);
        let underway = |made: Made| made.behind(ROUTING, &[0, 4, 1, 0, 0, 0, 0]);
        hold("a route that is not over", &underway, Reason::Ipv6);
        let later = |made: Made| {
            made.behind(HOP_BY_HOP, &padding(0))
                .behind(FRAGMENT, &[0, 1, 0, 0, 0, 0, 1])
        };
        hold("a last fragment, behind options", &later, Reason::Fragment);
        let beyond = |made: Made| made.behind(DESTINATION, &[200, 0, 0, 0, 0, 0, 0]);
        hold("options longer than the packet", &beyond, Reason::Truncated);
    });
}

#[test]
fn every_other_next_header_passes() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 1)]));
        for number in 0..=255 {
            let mut frame = syn(client(1, 1), 1000).bytes();
            if [
                IpNumber::TCP.0,
                IpNumber::UDP.0,
                IpNumber::IPV6_ICMP.0,
                HOP_BY_HOP,
                ROUTING,
                FRAGMENT,
                DESTINATION,
            ]
            .contains(&number)
            {
                continue;
            }
            frame[ETHERNET + 6] = number;
            hold(&director, "a protocol", &frame, (Reason::NotTcpUdp, 0));
        }
        for version in (0..16).filter(|version| *version != 6) {
            let mut frame = syn(client(1, 1), 1000).bytes();
            frame[ETHERNET] = version << 4;
            hold(&director, "a version", &frame, (Reason::Malformed, 0));
        }
    });
}

#[test]
fn a_frame_cut_anywhere_passes_as_truncated() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 1), over_v6(udp(80), 1)]));
        let padding = [1; 15];
        for made in [syn(client(1, 1), 1), datagram(client(1, 1), 1)] {
            for made in [
                made.clone(),
                made.clone()
                    .behind(HOP_BY_HOP, &padding)
                    .behind(DESTINATION, &padding),
            ] {
                let frame = made.bytes();
                // The kernel runs a program on 14 octets at least.
                for length in ETHERNET..frame.len() {
                    let cut = &frame[..length];
                    hold(&director, "a cut frame", cut, (Reason::Truncated, 0));
                }
                let transport = if made.syn.is_some() { 20 } else { 8 };
                let shortest = frame.len() - AFTER_IP - 1;
                for payload in shortest - transport..shortest {
                    let mut frame = frame.clone();
                    let payload = u16::try_from(payload).unwrap().to_be_bytes();
                    frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&payload);
                    hold(&director, "a short length", &frame, (Reason::Truncated, 0));
                }
            }
        }
    });
}

#[test]
fn hops_are_spent_and_the_last_is_not() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 1)]));
        let with = |made: Made, hops| Made { hops, ..made }.bytes();
        hold(&director, "2", &with(syn(client(1, 1), 1), 2), (NEW, 1));
        for hops in 0..=1 {
            let frame = with(ack(client(1, 1), 1), hops);
            hold(&director, "none left", &frame, (Reason::TxTimeExceeded, 0));
        }
        hold(
            &director,
            "255",
            &with(ack(client(1, 1), 1), 255),
            (KNOWN, 1),
        );
    });
}

#[test]
fn clients_of_a_prefix_stick_to_their_server() {
    for (prefix, same) in [(64, true), (128, false), (112, true), (48, true), (1, true)] {
        in_a_network(move || {
            let director = Director::looking(&tables([over_v6(tcp(80), 2).persistent(50, prefix)]));
            hold(
                &director,
                "the first",
                &syn(client(1, 1), 1).bytes(),
                (NEW, 1),
            );
            let fate = if same {
                (Reason::TxPersistent, 1)
            } else {
                (NEW, 2)
            };
            hold(
                &director,
                "the neighbour",
                &syn(client(1, 2), 1).bytes(),
                fate,
            );
            let again = syn(client(1, 1), 2).bytes();
            hold(&director, "again", &again, (Reason::TxPersistent, 1));
            let fate = if prefix < 64 {
                (Reason::TxPersistent, 1)
            } else {
                (NEW, if same { 2 } else { 1 })
            };
            hold(
                &director,
                "another net",
                &syn(client(2, 1), 1).bytes(),
                fate,
            );
        });
    }
}

#[test]
fn what_another_director_balanced_passes_and_a_closed_gate_lets_all_pass() {
    in_a_network(|| {
        let service = || over_v6(tcp(80), 2);
        let director = Director::looking(&tables([service()]));
        let from_server = |from| {
            Made {
                source: server_mac(2),
                ..syn(from, 7)
            }
            .bytes()
        };
        let balanced = from_server(client(1, 1));
        hold(
            &director,
            "balanced",
            &balanced,
            (Reason::AlreadyBalanced, 0),
        );
        hold(&director, "its own", &from_server(server_ip(2)), (NEW, 1));
        let other = Made {
            destination: [2; 6],
            ..syn(client(1, 1), 8)
        }
        .bytes();
        hold(&director, "another host's", &other, (Reason::OtherHost, 0));
        let mut director = director;
        director.set(&tables([service().inactive()]));
        let frame = syn(client(1, 1), 9).bytes();
        hold(&director, "inactive", &frame, (Reason::NotActive, 0));
    });
}

#[test]
fn a_failed_server_is_left() {
    in_a_network(|| {
        let mut made = over_v6(tcp(80), 2);
        let mut director = Director::looking(&tables([made.clone()]));
        hold(&director, "new", &syn(client(1, 1), 1).bytes(), (NEW, 1));
        let failed = IpAddr::V6(server_ip(1));
        made.service
            .servers
            .retain(|server| server.address.ip() != failed);
        director.set(&tables([made]));
        hold(
            &director,
            "purged",
            &ack(client(1, 1), 1).bytes(),
            (Reason::Purged, 0),
        );
        hold(&director, "anew", &syn(client(1, 1), 1).bytes(), (NEW, 2));
        hold(
            &director,
            "known",
            &ack(client(1, 1), 1).bytes(),
            (KNOWN, 2),
        );
    });
}
