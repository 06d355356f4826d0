//! What the director answers itself, octet by octet: packets without a real server, without a hop left, or
//! longer than the MTU on their way.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use etherparse::icmpv4::{DestUnreachableHeader, TimeExceededCode as TimeExceededCodeV4};
use etherparse::icmpv6::{DestUnreachableCode, TimeExceededCode};
use etherparse::{
    Icmpv4Type, Icmpv6Type, IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader,
};
use xdp_lb::config::model::{Hashing, Scheduler, Tunnel};
use xdp_lb::plan::desired::{Method, Reach};
use xdp_lb_common::answer::empty_pool;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::{ETHERNET, flags};

use crate::director::{Director, in_a_network};
use crate::tables::{
    OTHER_PORT, PORT_MAC, ROUTER_MAC, Virtual, direct, server_mac, tables, tcp, udp,
};
use crate::wire::{Wire, ack, class, datagram, on, same, sent, server, syn, with};

/// What the director says.
#[derive(Clone, Copy)]
pub(crate) enum Said {
    Unreachable,
    TimeExceeded,
    TooBig(u16),
}

/// The answer to a frame, from an address; made by another implementation than the program's.
pub(crate) fn error(frame: &[u8], (from, to): (IpAddr, IpAddr), said: Said) -> Vec<u8> {
    let (to_mac, from_mac) = (frame[6..12].try_into(), frame[..6].try_into());
    let packet = PacketBuilder::ethernet2(from_mac.unwrap(), to_mac.unwrap());
    let limit = if from.is_ipv4() { 576 - 28 } else { 1280 - 48 };
    let quote = &frame[ETHERNET..];
    let quote = &quote[..quote.len().min(limit)];
    let mut made = Vec::new();
    match (from, to) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = Ipv4Header {
                dont_fragment: true,
                time_to_live: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            (header.dscp, header.ecn) = class(0xc0);
            let packet = packet.ip(IpHeaders::Ipv4(
                header,
                etherparse::Ipv4Extensions::default(),
            ));
            let kind =
                match said {
                    Said::Unreachable => {
                        Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Port)
                    }
                    Said::TimeExceeded => {
                        Icmpv4Type::TimeExceeded(TimeExceededCodeV4::TtlExceededInTransit)
                    }
                    Said::TooBig(next_hop_mtu) => Icmpv4Type::DestinationUnreachable(
                        DestUnreachableHeader::FragmentationNeeded { next_hop_mtu },
                    ),
                };
            packet.icmpv4(kind).write(&mut made, quote).unwrap();
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            let packet = packet.ip(IpHeaders::Ipv6(
                header,
                etherparse::Ipv6Extensions::default(),
            ));
            let kind = match said {
                Said::Unreachable => Icmpv6Type::DestinationUnreachable(DestUnreachableCode::Port),
                Said::TimeExceeded => Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded),
                Said::TooBig(mtu) => Icmpv6Type::PacketTooBig { mtu: mtu.into() },
            };
            packet.icmpv6(kind).write(&mut made, quote).unwrap();
        }
        mixed => panic!("{mixed:?}"),
    }
    made
}

/// The answer to a packet to the VIP.
fn answer(wire: &Wire, said: Said) -> Vec<u8> {
    error(&wire.bytes(), (wire.to.ip(), wire.from.ip()), said)
}

/// The reset that answers a segment.
fn reset(wire: &Wire, flags_and_ack: (u8, u32)) -> Vec<u8> {
    let (set, acknowledgment_number) = flags_and_ack;
    let packet = PacketBuilder::ethernet2(wire.destination, wire.source);
    let header = match (wire.to.ip(), wire.from.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                dont_fragment: true,
                time_to_live: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, etherparse::Ipv6Extensions::default())
        }
        mixed => panic!("{mixed:?}"),
    };
    let tcp = TcpHeader {
        rst: true,
        ack: set & flags::ACK != 0,
        acknowledgment_number,
        ..TcpHeader::new(wire.to.port(), wire.from.port(), 0, 0)
    };
    let mut made = Vec::new();
    packet
        .ip(header)
        .tcp_header(tcp)
        .write(&mut made, &[])
        .unwrap();
    made
}

/// TCP and UDP on port 80 of both VIPs, without a server.
fn empty() -> [Virtual; 4] {
    [
        on(false, tcp(80)),
        on(false, udp(80)),
        on(true, tcp(80)),
        on(true, udp(80)),
    ]
}

/// The same, each with server 1.
fn served(method: impl Fn(bool) -> Method) -> [Virtual; 4] {
    empty().map(|made| {
        let is_v6 = made.key.vip_is_v6();
        let address = SocketAddr::new(server(is_v6, 1), 80);
        with(made, 1, address, method(is_v6))
    })
}

trait IsV6 {
    fn vip_is_v6(&self) -> bool;
}

impl IsV6 for xdp_lb::config::model::ServiceKey {
    fn vip_is_v6(&self) -> bool {
        match self {
            Self::Endpoint(endpoint) => endpoint.vip.is_ipv6(),
            Self::Mark(_) | Self::Group { .. } => false,
        }
    }
}

pub(crate) fn ip(words: &[&str]) {
    let status = Command::new("ip").args(words).status().unwrap();
    assert!(status.success(), "{words:?}");
}

/// Octets carried, so that quotes are shorter and longer than their limits; odd ones, too.
const PAYLOADS: [usize; 10] = [0, 1, 7, 63, 64, 500, 521, 1184, 1203, 1400];

#[test]
fn a_client_without_a_server_is_told_that_the_port_is_unreachable() {
    in_a_network(|| {
        let director = Director::looking(&tables(empty()));
        for is_v6 in [false, true] {
            for wire in [syn(is_v6, 1), datagram(is_v6, 1)] {
                for payload in PAYLOADS {
                    let wire = Wire {
                        payload: vec![0xa5; payload],
                        ..wire.clone()
                    };
                    let what = format!("IPv6 {is_v6}, {payload} octets");
                    let got = sent(&director, &what, &wire.bytes(), Reason::TxUnreachable);
                    same(&what, &answer(&wire, Said::Unreachable), &got.frame);
                }
            }
        }
    });
}

#[test]
fn headers_of_any_length_are_quoted() {
    in_a_network(|| {
        let director = Director::looking(&tables(empty()));
        for (is_v6, options) in [(false, 4), (false, 40), (true, 8)] {
            for wire in [syn(is_v6, 1), datagram(is_v6, 1)] {
                let wire = Wire { options, ..wire };
                let what = format!("{options} octets of options, IPv6 {is_v6}");
                let got = sent(&director, &what, &wire.bytes(), Reason::TxUnreachable);
                same(&what, &answer(&wire, Said::Unreachable), &got.frame);
            }
        }
    });
}

/// Ethernet fills short frames up: that is no part of the packet.
#[test]
fn padding_is_not_quoted() {
    in_a_network(|| {
        let director = Director::looking(&tables(empty()));
        for is_v6 in [false, true] {
            let wire = Wire {
                payload: Vec::new(),
                ..datagram(is_v6, 1)
            };
            for padding in [1, 18, 900] {
                let mut frame = wire.bytes();
                frame.resize(frame.len() + padding, 0x77);
                let got = sent(&director, "padded", &frame, Reason::TxUnreachable);
                same("padded", &answer(&wire, Said::Unreachable), &got.frame);
            }
        }
    });
}

#[test]
fn a_sender_whose_packet_has_no_hop_left_is_told_so() {
    in_a_network(|| {
        let tunnel = |is_v6| Method::Tunnel(Tunnel::Ipip, server(is_v6, 250));
        let nat = |_| Method::Nat;
        for (what, made) in [
            ("direct", served(|_| Method::Direct)),
            ("tunnel", served(tunnel)),
            ("nat", served(nat)),
        ] {
            let director = Director::looking(&tables(made));
            for is_v6 in [false, true] {
                for wire in [syn(is_v6, 1), ack(is_v6, 1), datagram(is_v6, 1)] {
                    for hops in [0, 1] {
                        let wire = Wire {
                            hops,
                            ..wire.clone()
                        };
                        let got = sent(&director, what, &wire.bytes(), Reason::TxTimeExceeded);
                        same(what, &answer(&wire, Said::TimeExceeded), &got.frame);
                    }
                }
            }
        }
    });
}

/// Octets of a packet around its payload.
fn around(wire: &Wire) -> usize {
    wire.bytes().len() - wire.payload.len() - ETHERNET
}

pub(crate) fn of_length(wire: &Wire, length: usize) -> Wire {
    Wire {
        payload: vec![0x5a; length - around(wire)],
        ..wire.clone()
    }
}

#[test]
fn a_sender_is_told_the_mtu_that_a_tunnel_leaves() {
    in_a_network(|| {
        for outer_v6 in [false, true] {
            let tunnel = move |_| Method::Tunnel(Tunnel::Ipip, server(outer_v6, 250));
            let made = empty().map(|made| {
                with(
                    made,
                    1,
                    SocketAddr::new(server(outer_v6, 1), 80),
                    tunnel(outer_v6),
                )
            });
            let director = Director::looking(&tables(made));
            let mtu: u16 = if outer_v6 { 1460 } else { 1480 };
            for is_v6 in [false, true] {
                sent(
                    &director,
                    "opens",
                    &syn(is_v6, 1).bytes(),
                    Reason::TxScheduled,
                );
                let fits = of_length(&ack(is_v6, 1), mtu.into());
                sent(&director, "fits", &fits.bytes(), Reason::TxConnection);
                for more in [1, 20] {
                    let long = of_length(&ack(is_v6, 1), usize::from(mtu) + more);
                    let got = sent(&director, "long", &long.bytes(), Reason::TxTooBig);
                    same("long", &answer(&long, Said::TooBig(mtu)), &got.frame);
                }
            }
        }
    });
}

#[test]
fn a_sender_is_told_the_mtu_of_a_narrower_interface() {
    in_a_network(|| {
        ip(&["link", "set", "out", "mtu", "1400"]);
        for method in [Method::Direct, Method::Nat] {
            let mut services = served(|_| method);
            for made in &mut services {
                made.service.servers[0].reach = Some(direct(1, OTHER_PORT));
            }
            let mut made = tables(services);
            made.ports.get_mut(&OTHER_PORT).unwrap().mtu = 1400;
            let mut director = Director::looking(&made);
            for is_v6 in [false, true] {
                let open = syn(is_v6, 1).bytes();
                sent(&director, "opens", &open, Reason::RedirectScheduled);
                let fits = of_length(&ack(is_v6, 1), 1400).bytes();
                sent(&director, "fits", &fits, Reason::RedirectConnection);
                for (length, dont_fragment) in [(1401, true), (1500, true), (1500, false)] {
                    let long = of_length(&ack(is_v6, 1), length);
                    let long = Wire {
                        dont_fragment,
                        ..long
                    };
                    let before = director.eyes().tally();
                    let got = sent(&director, "long", &long.bytes(), Reason::TxTooBig);
                    let counted = director.eyes().tally().since(&before);
                    assert!(counted.services.is_empty(), "no traffic: {counted:?}");
                    same("long", &answer(&long, Said::TooBig(1400)), &got.frame);
                }
                // It was never on the wire: segments that offloading put together.
                let joined = of_length(&ack(is_v6, 1), 1501).bytes();
                sent(&director, "joined", &joined, Reason::RedirectConnection);
            }
            // An MTU that is not known is asked for.
            made.ports.get_mut(&OTHER_PORT).unwrap().mtu = 0;
            director.set(&made);
            let long = of_length(&ack(false, 1), 1401);
            sent(&director, "unknown", &long.bytes(), Reason::TxTooBig);
        }
    });
}

/// No sender of IPv6 needs to make packets shorter than 1,280 octets.
#[test]
fn an_mtu_that_ipv6_does_not_know_is_not_told() {
    in_a_network(|| {
        ip(&["link", "set", "out", "mtu", "1200"]);
        let mut services = served(|_| Method::Direct);
        for made in &mut services {
            made.service.servers[0].reach = Some(direct(1, OTHER_PORT));
        }
        let mut made = tables(services);
        made.ports.get_mut(&OTHER_PORT).unwrap().mtu = 1200;
        let director = Director::looking(&made);
        let long = of_length(&datagram(true, 1), 1300);
        let got = sent(&director, "long", &long.bytes(), Reason::TxTooBig);
        same("long", &answer(&long, Said::TooBig(1280)), &got.frame);
        let least = of_length(&datagram(true, 1), 1280);
        sent(&director, "the least", &least.bytes(), Reason::TooBig);
    });
}

fn with_policy(policy: u32) -> Director {
    let made = tables(empty());
    let mut director = Director::with(&made, |options| options.empty_pool = policy);
    director.look_ahead();
    director
}

#[test]
fn a_reset_refuses_tcp_if_that_is_wanted() {
    in_a_network(|| {
        let director = with_policy(empty_pool::RESET);
        for is_v6 in [false, true] {
            for payload in [0, 7, 1000] {
                let wire = Wire {
                    payload: vec![9; payload],
                    ..syn(is_v6, 1)
                };
                let got = sent(&director, "SYN", &wire.bytes(), Reason::TxReset);
                // The SYN had number 1.
                let next = 2 + u32::try_from(payload).unwrap();
                same("SYN", &reset(&wire, (flags::ACK, next)), &got.frame);
            }
            let mut odd = syn(is_v6, 1);
            odd.options = 8;
            let got = sent(&director, "options", &odd.bytes(), Reason::TxReset);
            same("options", &reset(&odd, (flags::ACK, 9)), &got.frame);
            let both = Wire {
                tcp: Some(flags::SYN | flags::ACK),
                ..syn(is_v6, 1)
            };
            let got = sent(&director, "SYN, ACK", &both.bytes(), Reason::TxReset);
            same("SYN, ACK", &reset(&both, (0, 0)), &got.frame);
            let wire = datagram(is_v6, 1);
            let got = sent(&director, "UDP", &wire.bytes(), Reason::TxUnreachable);
            same("UDP", &answer(&wire, Said::Unreachable), &got.frame);
        }
    });
}

#[test]
fn nobody_is_told_if_that_is_wanted() {
    in_a_network(|| {
        let director = with_policy(empty_pool::SILENT);
        for is_v6 in [false, true] {
            for wire in [syn(is_v6, 1), datagram(is_v6, 1)] {
                sent(&director, "silent", &wire.bytes(), Reason::NoRealServer);
                let last = Wire { hops: 1, ..wire };
                sent(&director, "silent", &last.bytes(), Reason::NoRealServer);
            }
        }
    });
}

/// An error would mean nothing to it, and a kernel's reset does.
#[test]
fn the_middle_of_a_connection_is_the_kernels_to_reset() {
    in_a_network(|| {
        for policy in [empty_pool::UNREACHABLE, empty_pool::RESET] {
            let sh = Scheduler::SourceHash(Hashing::default());
            let made = empty().map(|made| made.by(sh));
            let mut director = Director::with(&tables(made), |options| options.empty_pool = policy);
            director.look_ahead();
            for is_v6 in [false, true] {
                sent(
                    &director,
                    "middle",
                    &ack(is_v6, 1).bytes(),
                    Reason::NoConnection,
                );
            }
        }
    });
}

#[test]
fn only_single_hosts_are_answered() {
    in_a_network(|| {
        let director = Director::looking(&tables(empty()));
        for address in [
            "0.0.0.0",
            "0.0.0.1",
            "127.0.0.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "192.168.1.200",
            "::",
            "::1",
            "ff02::1",
            "ff0e::1",
            "2001:db8:0:1::200",
        ] {
            let from: IpAddr = address.parse().unwrap();
            for wire in [syn(from.is_ipv6(), 1), datagram(from.is_ipv6(), 1)] {
                let wire = Wire {
                    from: SocketAddr::new(from, 999),
                    ..wire
                };
                sent(&director, address, &wire.bytes(), Reason::NoRealServer);
            }
        }
        for is_v6 in [false, true] {
            let group = Wire {
                source: [1, 0, 0x5e, 0, 0, 1],
                ..syn(is_v6, 1)
            };
            sent(&director, "a group", &group.bytes(), Reason::NoRealServer);
            for (to, reason) in [
                ([0xff; 6], Reason::OtherHost),
                (server_mac(1), Reason::OtherHost),
            ] {
                let wire = Wire {
                    destination: to,
                    ..syn(is_v6, 1)
                };
                sent(&director, "for others", &wire.bytes(), reason);
            }
        }
    });
}

/// What is not this director's to balance is not its to answer.
#[test]
fn a_closed_gate_answers_nobody() {
    in_a_network(|| {
        let director = Director::looking(&tables(empty().map(Virtual::inactive)));
        for is_v6 in [false, true] {
            for wire in [syn(is_v6, 1), datagram(is_v6, 1)] {
                let wire = Wire { hops: 1, ..wire };
                sent(&director, "closed", &wire.bytes(), Reason::NotActive);
            }
        }
    });
}

#[test]
fn an_answer_comes_from_the_virtual_mac_that_was_asked() {
    in_a_network(|| {
        let mac = [0, 0, 0x5e, 0, 1, 51];
        let director = Director::looking(&tables(empty().map(|made| made.virtual_mac(mac))));
        for is_v6 in [false, true] {
            for destination in [mac, PORT_MAC] {
                let wire = Wire {
                    destination,
                    ..syn(is_v6, 1)
                };
                let got = sent(&director, "virtual", &wire.bytes(), Reason::TxUnreachable);
                assert_eq!(got.frame[..12], [ROUTER_MAC, destination].concat());
                same("virtual", &answer(&wire, Said::Unreachable), &got.frame);
            }
        }
    });
}

/// Marks the packet of a frame of IPv4 as a fragment.
fn fragment(wire: &Wire, offset: u16, more: bool) -> Vec<u8> {
    let mut frame = wire.bytes();
    let word = offset | if more { 0x2000 } else { 0 };
    frame[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&word.to_be_bytes());
    let (mut header, _) = Ipv4Header::from_slice(&frame[ETHERNET..]).unwrap();
    header.header_checksum = header.calc_header_checksum();
    frame[ETHERNET..ETHERNET + 20].copy_from_slice(&header.to_bytes());
    frame
}

#[test]
fn the_first_fragment_is_answered_and_no_other() {
    in_a_network(|| {
        for policy in [empty_pool::UNREACHABLE, empty_pool::RESET] {
            let director = with_policy(policy);
            for wire in [syn(false, 1), datagram(false, 1)] {
                let ends = (wire.to.ip(), wire.from.ip());
                let wire = Wire {
                    payload: vec![1; 64],
                    ..wire
                };
                let first = fragment(&wire, 0, true);
                let got = sent(&director, "first", &first, Reason::TxUnreachable);
                same("first", &error(&first, ends, Said::Unreachable), &got.frame);
                sent(
                    &director,
                    "later",
                    &fragment(&wire, 9, false),
                    Reason::Fragment,
                );
            }
        }
        let director = Director::looking(&tables(served(|_| Method::Direct)));
        let mut wire = Wire {
            payload: vec![1; 64],
            ..datagram(false, 1)
        };
        sent(
            &director,
            "first",
            &fragment(&wire, 0, true),
            Reason::TxScheduled,
        );
        wire.hops = 1;
        let first = fragment(&wire, 0, true);
        let got = sent(&director, "no hop", &first, Reason::TxTimeExceeded);
        let ends = (wire.to.ip(), wire.from.ip());
        same(
            "no hop",
            &error(&first, ends, Said::TimeExceeded),
            &got.frame,
        );
        sent(
            &director,
            "later",
            &fragment(&wire, 9, false),
            Reason::TtlExpired,
        );
    });
}

#[test]
fn a_frame_cut_anywhere_is_not_answered() {
    in_a_network(|| {
        let director = Director::looking(&tables(empty()));
        for is_v6 in [false, true] {
            for wire in [syn(is_v6, 1), datagram(is_v6, 1)] {
                let frame = Wire { hops: 1, ..wire }.bytes();
                for length in 14..frame.len() {
                    sent(&director, "cut", &frame[..length], Reason::Truncated);
                }
            }
        }
    });
}

#[test]
fn a_frame_longer_than_a_page_is_answered() {
    in_a_network(|| {
        let director = Director::new(&tables(empty()));
        for is_v6 in [false, true] {
            for length in [3000, 5000, 9000, 20_000] {
                let wire = of_length(&datagram(is_v6, 1), length);
                let got = sent(&director, "long", &wire.bytes(), Reason::TxUnreachable);
                same("long", &answer(&wire, Said::Unreachable), &got.frame);
            }
        }
        let director = with_policy(empty_pool::RESET);
        for is_v6 in [false, true] {
            let wire = of_length(&syn(is_v6, 1), 9000);
            let got = director.send(&wire.bytes()).frame;
            let carried = u32::try_from(9000 - around(&wire)).unwrap();
            same("long", &reset(&wire, (flags::ACK, 2 + carried)), &got);
        }
    });
}

#[test]
fn a_cpu_answers_so_many_and_no_more() {
    in_a_network(|| {
        let director = Director::with(&tables(empty()), |options| options.answers_per_second = 5);
        let before = director.eyes().tally();
        let started = std::time::Instant::now();
        let count = 200;
        for _ in 0..count {
            director.send(&syn(false, 1).bytes());
        }
        let limit = 5 * (started.elapsed().as_secs() + 2);
        let counted = director.eyes().tally().since(&before);
        let [told, limited] = [Reason::TxUnreachable, Reason::AnswerLimited].map(|r| counted.of(r));
        assert_eq!(told + limited, count, "{counted:?}");
        assert!(told >= 2, "{counted:?}");
        // This thread may have run on each CPU.
        let cpus = u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert!(told <= limit * cpus, "{counted:?}");
    });
}

#[test]
fn answers_go_out_with_the_tags_that_the_packet_had() {
    use crate::vlan::{TEN, TWENTY, TWENTY_MAC, TWO, networks, tagged};
    in_a_network(|| {
        let director = Director::looking(&networks(empty()));
        for is_v6 in [false, true] {
            for (tags, destination) in [
                (TEN.1, PORT_MAC),
                (TWENTY.1, TWENTY_MAC),
                (TWO.1, PORT_MAC),
                (&[(0x8100, 0x600a)], PORT_MAC),
                (&[(0x8100, 0xe000)], PORT_MAC),
                (&[(0x8100, 0x6000), (0x8100, 10)], PORT_MAC),
            ] {
                let wire = Wire {
                    destination,
                    ..datagram(is_v6, 1)
                };
                let frame = tagged(&wire.bytes(), tags);
                let got = sent(&director, "tagged", &frame, Reason::TxUnreachable);
                let expected = tagged(&answer(&wire, Said::Unreachable), tags);
                same("tagged", &expected, &got.frame);
            }
        }
        // An answer is told apart from what is forwarded after it.
        let mut services = served(|_| Method::Direct);
        services[0].service.servers[0].reach = Some(Reach::Direct {
            ifindex: TEN.0,
            source_mac: xdp_lb_common::addr::Mac::from_octets(PORT_MAC),
            mac: xdp_lb_common::addr::Mac::from_octets(server_mac(1)),
            on_link: true,
        });
        let director = Director::looking(&networks(services));
        for hops in [1, 2, 1, 2] {
            let wire = Wire {
                hops,
                ..syn(false, hops)
            };
            let frame = tagged(&wire.bytes(), TEN.1);
            if hops == 1 {
                let got = sent(&director, "no hop", &frame, Reason::TxTimeExceeded);
                let expected = tagged(&answer(&wire, Said::TimeExceeded), TEN.1);
                same("no hop", &expected, &got.frame);
            } else {
                let got = director.send(&frame);
                assert_eq!(got.frame[..6], server_mac(1));
                assert_eq!(got.frame[12..16], [0x81, 0, 0, 10]);
            }
        }
    });
}
