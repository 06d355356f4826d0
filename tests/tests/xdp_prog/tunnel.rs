//! Tunnels: the packet behind other headers, octet by octet, whatever the families.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use etherparse::checksum::Sum16BitWords;
use etherparse::{Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header};
use xdp_lb::config::model::{Checksum, Tunnel};
use xdp_lb::plan::desired::{Desired, Method, Reach};
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::{ETHERNET, flags, forwarded};
use xdp_lb_tests::program::Action;

use crate::director::{Director, in_a_network};
use crate::tables::{OTHER_PORT, PORT_MAC, ROUTER_MAC, direct, server_mac, tables, tcp, udp};
use crate::told::{Told, told};
use crate::wire::{
    Wire, ack, class, client, datagram, from_client, on, same, sent, server, syn, udp_header, vip,
    with,
};

const GUE_PORT: u16 = 6080;

/// All that keepalived knows.
fn tunnels() -> Vec<(&'static str, Tunnel)> {
    let gue = |checksum| Tunnel::Gue {
        port: NonZeroU16::new(GUE_PORT).unwrap(),
        checksum,
    };
    vec![
        ("ipip", Tunnel::Ipip),
        ("gue", gue(Checksum::None)),
        ("gue csum", gue(Checksum::Full)),
        ("gue remcsum", gue(Checksum::Remote)),
        ("gre", Tunnel::Gre { checksum: false }),
        ("gre csum", Tunnel::Gre { checksum: true }),
    ]
}

/// The director's address in the family of a real server.
pub(crate) fn own(is_v6: bool) -> IpAddr {
    server(is_v6, 250)
}

/// TCP and UDP on port 80 of the VIP of one family, to one real server of another.
pub(crate) fn through(tunnel: Tunnel, inner_v6: bool, outer_v6: bool) -> Desired {
    let address = SocketAddr::new(server(outer_v6, 1), 80);
    let method = Method::Tunnel(tunnel, own(outer_v6));
    let made = |service| with(on(inner_v6, service), 1, address, method);
    tables([made(tcp(80)), made(udp(80))])
}

/// The packet that the tunnel carries: a hop less than what came.
fn inner(frame: &[u8], is_v4: bool) -> Vec<u8> {
    if is_v4 {
        let sent = forwarded(frame, [0; 6], [0; 6]).unwrap();
        let len = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        return sent[ETHERNET..ETHERNET + len].to_vec();
    }
    let (mut ip, rest) = Ipv6Header::from_slice(&frame[ETHERNET..]).unwrap();
    ip.hop_limit -= 1;
    [&ip.to_bytes()[..], rest].concat()
}

/// What must come out. What the program chooses by itself (the source port of GUE, the identification
/// of a packet that may be fragmented) is taken from what came.
fn expected(wire: &Wire, tunnel: Tunnel, outer_v6: bool, came: &[u8]) -> Vec<u8> {
    let carried = inner(&wire.bytes(), wire.from.is_ipv4());
    expected_around((carried, wire), tunnel, outer_v6, came)
}

/// [`expected`], with something carried that has the fields of this packet's IP header.
fn expected_around(
    (carried, wire): (Vec<u8>, &Wire),
    tunnel: Tunnel,
    outer_v6: bool,
    came: &[u8],
) -> Vec<u8> {
    let number = if wire.from.is_ipv6() { 41 } else { 4 };
    let ethertype = if wire.from.is_ipv6() {
        0x86dd
    } else {
        0x0800_u16
    };
    let after_outer = ETHERNET + if outer_v6 { 40 } else { 20 };
    let (protocol, payload) = match tunnel {
        Tunnel::Ipip => (number, carried),
        Tunnel::Gue { checksum, .. } => {
            let payload = [&[0, number, 0, 0][..], &carried].concat();
            let port = u16::from_be_bytes([came[after_outer], came[after_outer + 1]]);
            assert!((32_768..61_000).contains(&port), "source port {port}");
            let ends = (
                SocketAddr::new(own(outer_v6), port),
                SocketAddr::new(server(outer_v6, 1), GUE_PORT),
            );
            let header = udp_header(ends, &payload, checksum != Checksum::None);
            (17, [&header[..], &payload].concat())
        }
        Tunnel::Gre { checksum } => {
            let kind = ethertype.to_be_bytes();
            let plain = [&[u8::from(checksum) << 7, 0], &kind[..]].concat();
            let summed = [&plain[..], &[0; 4], &carried].concat();
            let sum = Sum16BitWords::new().add_slice(&summed).ones_complement();
            // The library sums words as they stand in memory.
            let sum = [&sum.to_ne_bytes()[..], &[0; 2]].concat();
            let header = if checksum {
                [plain, sum].concat()
            } else {
                plain
            };
            (47, [header, carried].concat())
        }
    };
    let ip = if outer_v6 {
        outer_v6_header(wire, protocol, payload.len())
    } else {
        let id = u16::from_be_bytes([came[ETHERNET + 4], came[ETHERNET + 5]]);
        outer_v4_header(wire, protocol, payload.len(), id)
    };
    let ethernet = Ethernet2Header {
        source: PORT_MAC,
        destination: server_mac(1),
        ether_type: etherparse::EtherType(if outer_v6 { 0x86dd } else { 0x0800 }),
    };
    [&ethernet.to_bytes()[..], &ip, &payload].concat()
}

fn outer_v4_header(wire: &Wire, protocol: u8, len: usize, id: u16) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (own(false), server(false, 1)) else {
        panic!("of IPv4");
    };
    let keeps_whole = wire.dont_fragment && wire.from.is_ipv4();
    let mut header = Ipv4Header {
        total_len: u16::try_from(20 + len).unwrap(),
        identification: if keeps_whole { 0 } else { id },
        dont_fragment: keeps_whole,
        time_to_live: wire.hops - 1,
        protocol: IpNumber(protocol),
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv4Header::default()
    };
    (header.dscp, header.ecn) = class(wire.tos);
    header.header_checksum = header.calc_header_checksum();
    header.to_bytes().to_vec()
}

fn outer_v6_header(wire: &Wire, protocol: u8, len: usize) -> Vec<u8> {
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (own(true), server(true, 1)) else {
        panic!("of IPv6");
    };
    let header = Ipv6Header {
        traffic_class: wire.tos,
        payload_length: u16::try_from(len).unwrap(),
        next_header: IpNumber(protocol),
        hop_limit: wire.hops - 1,
        source: source.octets(),
        destination: destination.octets(),
        ..Ipv6Header::default()
    };
    header.to_bytes().to_vec()
}

/// Runs a check for every tunnel, and all four pairs of families.
pub(crate) fn for_all(check: impl Fn(&Director, &str, Tunnel, (bool, bool)) + Send + Copy) {
    in_a_network(move || {
        let mut director = Director::looking(&tables([]));
        for (name, tunnel) in tunnels() {
            for (inner_v6, outer_v6) in [(false, false), (true, false), (false, true), (true, true)]
            {
                let families = |is_v6| if is_v6 { 6 } else { 4 };
                let (inner, outer) = (families(inner_v6), families(outer_v6));
                let name = format!("{name}, {inner} in {outer}");
                // Without a service in between there is nothing left of its connections.
                director.set(&tables([]));
                director.set(&through(tunnel, inner_v6, outer_v6));
                check(&director, &name, tunnel, (inner_v6, outer_v6));
            }
        }
    });
}

const NEW: Reason = Reason::TxScheduled;
const KNOWN: Reason = Reason::TxConnection;

/// 24 tunnels: an error about what their server sent gets there as the client's packets do.
#[test]
fn errors_arrive_behind_the_same_headers() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        for asked in [syn(inner_v6, 1), datagram(inner_v6, 1)] {
            sent(director, name, &asked.bytes(), NEW);
            let reply = Wire {
                from: asked.to,
                to: asked.from,
                payload: vec![7; 60],
                ..asked.clone()
            };
            for (carried, hops) in [(8, 60), (9, 2), (28, 255), (61, 60)] {
                let told = Told {
                    hops,
                    carried,
                    ..told(&reply)
                };
                let outcome = sent(director, name, &told.bytes(), Reason::TxIcmp);
                let like = Wire {
                    hops,
                    ..asked.clone()
                };
                let carried = inner(&told.bytes(), !inner_v6);
                let came = &outcome.frame;
                let expected = expected_around((carried, &like), tunnel, outer_v6, came);
                same(name, &expected, came);
            }
            let unknown = Wire {
                to: client(inner_v6, 9),
                ..reply.clone()
            };
            let unknown = told(&unknown).bytes();
            sent(director, name, &unknown, Reason::IcmpUnknown);
            let last = Told {
                hops: 1,
                ..told(&reply)
            };
            sent(director, name, &last.bytes(), Reason::TtlExpired);
            let long = Wire {
                payload: vec![7; 1480],
                ..reply
            };
            let long = Told {
                carried: 1436,
                ..told(&long)
            };
            let dropped = sent(director, name, &long.bytes(), Reason::TooBig);
            assert_eq!(
                dropped.action,
                Action::Drop,
                "nobody is told about an error"
            );
        }
    });
}

/// 24 tunnels, a dozen packets each.
#[test]
fn packets_arrive_behind_the_right_headers() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let hold = |what: &str, wire: &Wire, reason| {
            let what = format!("{name}: {what}");
            let outcome = sent(director, &what, &wire.bytes(), reason);
            let expected = expected(wire, tunnel, outer_v6, &outcome.frame);
            same(&what, &expected, &outcome.frame);
        };
        let edit = |mut wire: Wire, change: &dyn Fn(&mut Wire)| {
            change(&mut wire);
            wire
        };
        let known = |change: &dyn Fn(&mut Wire)| edit(ack(inner_v6, 1), change);
        hold("SYN", &syn(inner_v6, 1), NEW);
        hold("ACK", &ack(inner_v6, 1), KNOWN);
        hold("nothing in it", &known(&|w| w.payload.clear()), KNOWN);
        hold(
            "the longest",
            &known(&|w| w.payload = long(inner_v6)),
            KNOWN,
        );
        hold("the last hop but one", &known(&|w| w.hops = 2), KNOWN);
        hold("all hops", &known(&|w| w.hops = 255), KNOWN);
        hold("a class and ECN", &known(&|w| w.tos = 0xb9), KNOWN);
        hold(
            "may be fragmented",
            &known(&|w| w.dont_fragment = false),
            KNOWN,
        );
        hold("options", &known(&|w| w.options = 8), KNOWN);
        hold("datagram", &datagram(inner_v6, 2), NEW);
        for len in [0, 1, 2, 3, 4, 63, 64, 65, 127, 1000, 1300] {
            let bytes: Vec<u8> = (1..=255).cycle().step_by(7).take(len).collect();
            let checked = edit(datagram(inner_v6, 2), &|w| w.payload.clone_from(&bytes));
            hold(&format!("datagram of {len}"), &checked, KNOWN);
            let unchecked = edit(checked, &|w| w.unchecked = true);
            hold(&format!("no checksum, {len}"), &unchecked, KNOWN);
        }
    });
}

/// What fits every tunnel through the ports of 1,500 octets.
fn long(is_v6: bool) -> Vec<u8> {
    let headers = if is_v6 { 40 } else { 20 };
    (0..=255).cycle().take(1500 - headers - 20 - 52).collect()
}

#[test]
fn flows_have_a_source_port_each() {
    let port = |frame: &[u8]| u16::from_be_bytes([frame[ETHERNET + 20], frame[ETHERNET + 21]]);
    in_a_network(move || {
        let director = Director::looking(&through(tunnels()[1].1, false, false));
        let mut ports = std::collections::BTreeSet::new();
        for n in 1..=100 {
            let first = sent(&director, "new", &syn(false, n).bytes(), NEW).frame;
            let next = sent(&director, "known", &ack(false, n).bytes(), KNOWN).frame;
            assert_eq!(port(&first), port(&next), "client {n}");
            ports.insert(port(&first));
        }
        assert!(ports.len() > 95, "{} ports of 100 flows", ports.len());
    });
}

/// An octet more than the MTU leaves room for is one too many.
#[test]
fn packets_that_do_not_fit_with_the_headers_are_dropped() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let between = match tunnel {
            Tunnel::Ipip => 0,
            Tunnel::Gue { .. } => 12,
            Tunnel::Gre { checksum: false } => 4,
            Tunnel::Gre { checksum: true } => 8,
        };
        let room = 1500 - between - if outer_v6 { 40 } else { 20 };
        sent(director, name, &syn(inner_v6, 1).bytes(), NEW);
        let of = |octets: usize| {
            let mut wire = ack(inner_v6, 1);
            let headers = 20 + if inner_v6 { 40 } else { 20 };
            wire.payload = vec![7; octets - headers];
            wire.bytes()
        };
        sent(director, name, &of(room), KNOWN);
        sent(director, name, &of(room + 1), Reason::TxTooBig);
        sent(director, name, &of(1500), Reason::TxTooBig);
    });
}

#[test]
fn the_last_hop_is_not_spent() {
    for_all(|director, name, _, (inner_v6, _)| {
        for hops in [0, 1] {
            let mut wire = syn(inner_v6, 1);
            wire.hops = hops;
            sent(director, name, &wire.bytes(), Reason::TxTimeExceeded);
        }
    });
}

/// Frames cut at each octet pass or are dropped by a reason that has a name, and none goes out with
/// what was not there.
#[test]
fn frames_cut_short_never_leave() {
    for_all(|director, name, _, (inner_v6, _)| {
        sent(director, name, &syn(inner_v6, 1).bytes(), NEW);
        let whole = ack(inner_v6, 1).bytes();
        for len in 14..whole.len() {
            sent(director, name, &whole[..len], Reason::Truncated);
        }
        let mut padded = whole.clone();
        padded.resize(whole.len() + 9, 0);
        let outcome = sent(director, name, &padded, KNOWN);
        let sent = sent(director, name, &whole, KNOWN);
        same(
            name,
            &sent.frame[ETHERNET + 40..],
            &outcome.frame[ETHERNET + 40..sent.frame.len()],
        );
    });
}

/// A director, a tunnel and address translation in one pool; each as its server says.
#[test]
fn real_servers_of_one_service_may_differ() {
    in_a_network(|| {
        let own = own(false);
        let address = |n| SocketAddr::new(server(false, n), 80);
        let made = with(
            on(false, tcp(80)),
            1,
            address(1),
            Method::Tunnel(Tunnel::Ipip, own),
        );
        let made = with(made, 2, address(2), Method::Direct);
        let director = Director::looking(&tables([made]));
        let direct = sent(&director, "direct", &syn(false, 1).bytes(), NEW).frame;
        same(
            "direct",
            &forwarded(&syn(false, 1).bytes(), PORT_MAC, server_mac(2)).unwrap(),
            &direct,
        );
        let wrapped = sent(&director, "tunnel", &syn(false, 2).bytes(), NEW).frame;
        same(
            "tunnel",
            &expected(&syn(false, 2), Tunnel::Ipip, false, &wrapped),
            &wrapped,
        );
    });
}

/// The kind of a server changes, and its connections go on.
#[test]
fn a_server_may_be_reached_otherwise_from_now_on() {
    in_a_network(|| {
        let made = |method| {
            let address = SocketAddr::new(server(false, 1), 80);
            tables([with(on(false, tcp(80)), 1, address, method)])
        };
        let tunnel = Method::Tunnel(Tunnel::Ipip, own(false));
        let mut director = Director::looking(&made(Method::Direct));
        sent(&director, "new", &syn(false, 1).bytes(), NEW);
        director.set(&made(tunnel));
        let ack = ack(false, 1);
        let wrapped = sent(&director, "tunnel", &ack.bytes(), KNOWN).frame;
        same(
            "tunnel",
            &expected(&ack, Tunnel::Ipip, false, &wrapped),
            &wrapped,
        );
        director.set(&made(Method::Direct));
        let direct = sent(&director, "direct", &ack.bytes(), KNOWN).frame;
        same(
            "direct",
            &forwarded(&ack.bytes(), PORT_MAC, server_mac(1)).unwrap(),
            &direct,
        );
    });
}

#[test]
fn a_server_behind_another_port_or_a_router_is_reached_through_it() {
    in_a_network(|| {
        let address = SocketAddr::new(server(false, 1), 80);
        let method = Method::Tunnel(Tunnel::Ipip, own(false));
        let mut made = with(on(false, tcp(80)), 1, address, method);
        made.service.servers[0].reach = Some(direct(1, OTHER_PORT));
        let mut director = Director::looking(&tables([made.clone()]));
        let frame = sent(
            &director,
            "other",
            &syn(false, 1).bytes(),
            Reason::RedirectScheduled,
        )
        .frame;
        assert_eq!(frame[6..12], crate::tables::OTHER_PORT_MAC);
        let Some(Reach::Direct {
            ifindex,
            source_mac,
            ..
        }) = Some(direct(1, crate::tables::PORT))
        else {
            panic!("direct");
        };
        made.service.servers[0].reach = Some(Reach::Direct {
            ifindex,
            source_mac,
            mac: xdp_lb_common::addr::Mac::from_octets(ROUTER_MAC),
            on_link: false,
        });
        director.set(&tables([made]));
        let frame = sent(&director, "router", &ack(false, 1).bytes(), KNOWN).frame;
        assert_eq!(frame[..6], ROUTER_MAC);
        assert_eq!(frame[ETHERNET + 16..ETHERNET + 20], [192, 168, 1, 1]);
    });
}

/// What counts is what the client sent.
#[test]
fn traffic_counts_without_the_outer_headers() {
    for_all(|director, name, _, (inner_v6, _)| {
        let before = director.eyes().tally();
        let wires = [
            syn(inner_v6, 1),
            ack(inner_v6, 1),
            from_client(inner_v6, 1, Some(flags::FIN)),
        ];
        for (wire, reason) in wires.iter().zip([NEW, KNOWN, KNOWN]) {
            sent(director, name, &wire.bytes(), reason);
        }
        let counted = director.eyes().tally().since(&before);
        let octets = wires.iter().map(Wire::octets).sum();
        let services: Vec<_> = counted.services.values().collect();
        assert_eq!(services, [&[1, 3, octets]], "{name}");
        let ports = vip(inner_v6, 80);
        assert_eq!(wires[0].to, ports);
    });
}
