//! ICMP errors about the packets of tunnels: a router between the director and a real server tells the director,
//! and the client must hear of it, from the VIP, with what it sent itself in it. What routers quote is what the
//! program sent a moment ago.

use std::net::{IpAddr, SocketAddr};

use xdp_lb::config::model::Tunnel;
use xdp_lb::plan::desired::{Desired, Method};
use xdp_lb_common::reason::{Reason, Verdict};
use xdp_lb_tests::packet::ETHERNET;
use xdp_lb_tests::program::Action;

use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::nat::{by_the_routes, edited};
use crate::tables::{
    OTHER_PORT, OTHER_PORT_MAC, PORT_MAC, ROUTER_MAC, direct, server_mac, tables, tcp, udp,
};
use crate::told::{Message, router, too_long};
use crate::tunnel::{for_all, own, through};
use crate::wire::{Wire, ack, client, datagram, on, same, sent, sent_by, server, with};

/// What narrow links carry.
const NARROW: u16 = 1400;
/// Octets of the packets that are too long for them, and in no tunnel for a port.
const LONG: usize = 1440;

/// The second word of an error that tells an MTU: IPv4 has it in the lower half.
fn mtu(mtu: usize) -> [u8; 4] {
    u32::try_from(mtu).unwrap().to_be_bytes()
}

/// A router's error about a frame of a tunnel: a link is narrow.
fn about(frame: &[u8]) -> Message {
    let outer_v6 = frame[ETHERNET] >> 4 == 6;
    Message {
        from: router(outer_v6),
        to: own(outer_v6),
        hops: 60,
        tos: 0,
        id: 5,
        options: 0,
        kind: too_long(outer_v6),
        rest: mtu(NARROW.into()),
        quote: frame[ETHERNET..].to_vec(),
        source: server_mac(1),
        destination: PORT_MAC,
    }
}

/// Octets of headers in front of what a tunnel carries.
fn grows(tunnel: Tunnel, outer_v6: bool) -> usize {
    let between = match tunnel {
        Tunnel::Ipip => 0,
        Tunnel::Gue { .. } => 12,
        Tunnel::Gre { checksum: false } => 4,
        Tunnel::Gre { checksum: true } => 8,
    };
    between + if outer_v6 { 40 } else { 20 }
}

/// What the client must hear of an error, if it has `grows` octets of headers before the client's packet.
fn heard(error: &Message, asked: &Wire, grows: usize, kind: (u8, u8), rest: [u8; 4]) -> Message {
    let is_v6 = asked.from.is_ipv6();
    let limit = if is_v6 { 1280 - 48 } else { 576 - 28 };
    let quote = &error.quote[grows..];
    Message {
        from: asked.to.ip(),
        to: asked.from.ip(),
        hops: 64,
        tos: if is_v6 { 0 } else { 0xc0 },
        id: 0,
        options: 0,
        kind,
        rest,
        quote: quote[..quote.len().min(limit)].to_vec(),
        source: PORT_MAC,
        destination: ROUTER_MAC,
    }
}

/// What narrow links leave to a client of a tunnel.
fn left(grows: usize, is_v6: bool) -> [u8; 4] {
    let left = usize::from(NARROW) - grows;
    mtu(if is_v6 { left.max(1280) } else { left })
}

/// A packet of so many octets.
fn of_length(wire: Wire, octets: usize) -> Wire {
    let transport = if wire.tcp.is_some() { 20 } else { 8 };
    let carried = octets - wire.headers() - transport;
    edited(wire, &|w| {
        w.payload = (0..=255).cycle().take(carried).collect();
    })
}

/// Sends a client's first packet and a long one, both by the tunnel: that one, and its frame.
fn passing(director: &Director, name: &str, first: &Wire) -> (Wire, Vec<u8>) {
    let opens = edited(first.clone(), &|w| {
        w.tcp = w.tcp.map(|_| xdp_lb_tests::packet::flags::SYN);
    });
    sent(director, name, &opens.bytes(), Reason::TxScheduled);
    let long = of_length(first.clone(), LONG);
    let frame = sent(director, name, &long.bytes(), Reason::TxConnection).frame;
    (long, frame)
}

/// A connection and a flow.
fn both(is_v6: bool) -> [Wire; 2] {
    [ack(is_v6, 1), datagram(is_v6, 2)]
}

/// How an error leaves that no client is told of. Of GUE it quotes a datagram, which could be anybody's.
const fn passes(tunnel: Tunnel) -> Reason {
    match tunnel {
        Tunnel::Gue { .. } => Reason::NoService,
        Tunnel::Ipip | Tunnel::Gre { .. } => Reason::IcmpUnknown,
    }
}

/// 24 tunnels, both transports, and quotes from as little as is enough to all of the packet.
#[test]
fn a_client_hears_of_a_narrow_link_to_its_real_server() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let grows = grows(tunnel, outer_v6);
        for first in both(inner_v6) {
            let (long, frame) = passing(director, name, &first);
            let enough = grows + long.headers() + 8;
            let all = frame.len() - ETHERNET;
            for quoted in [enough, enough + 1, enough + 33, 548, 1231, 1232, all] {
                let error = about(&frame).quoting(quoted);
                let what = format!("{name}: {quoted} octets");
                let came = sent(director, &what, &error.bytes(), Reason::TxReply);
                let rest = left(grows, inner_v6);
                let heard = heard(&error, &long, grows, too_long(inner_v6), rest);
                same(&what, &heard.bytes(), &came.frame);
            }
        }
    });
}

/// Eight octets behind the outer header are what a router must quote. They are not enough.
#[test]
fn a_quote_that_is_too_short_to_know_the_connection_passes() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let (long, frame) = passing(director, name, &ack(inner_v6, 1));
        let outer = if outer_v6 { 40 } else { 20 };
        for quoted in outer + 8..grows(tunnel, outer_v6) + long.headers() + 8 {
            let error = about(&frame).quoting(quoted);
            let what = format!("{name}: {quoted} octets");
            sent(director, &what, &error.bytes(), passes(tunnel));
        }
    });
}

/// Cut off at each octet, and with a length that ends there.
#[test]
fn an_error_cut_anywhere_passes() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let (long, frame) = passing(director, name, &ack(inner_v6, 1));
        let enough = grows(tunnel, outer_v6) + long.headers() + 8;
        let whole = about(&frame).quoting(enough).bytes();
        for length in ETHERNET..whole.len() {
            sent(director, name, &whole[..length], Reason::Truncated);
        }
        let header = if outer_v6 { 40 } else { 20 };
        let (at, counted) = if outer_v6 { (4, 40) } else { (2, 0) };
        for length in header..whole.len() - ETHERNET {
            let mut shorter = whole.clone();
            let says = u16::try_from(length - counted).unwrap().to_be_bytes();
            shorter[ETHERNET + at..ETHERNET + at + 2].copy_from_slice(&says);
            let outcome = director.send(&shorter);
            assert_eq!(outcome.action, Action::Pass, "{name}: {length}");
            assert!(outcome.frame == shorter, "{name}: {length}");
        }
    });
}

/// All errors but those about the tunnel's own header, each as what comes nearest.
#[test]
fn every_error_becomes_what_comes_nearest() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let grows = grows(tunnel, outer_v6);
        let (long, frame) = passing(director, name, &ack(inner_v6, 1));
        let (unreachable, exceeded) = if outer_v6 { (1, 3) } else { (3, 11) };
        let codes = (0..=15).filter(|code| outer_v6 || *code != 4);
        for code in codes {
            let nearest = match (outer_v6, inner_v6) {
                (false, true) => (1, 3),
                (true, false) => (3, 1),
                _ => (unreachable, code),
            };
            let told = |kind, nearest| {
                let error = Message {
                    kind,
                    rest: [0; 4],
                    ..about(&frame)
                };
                let came = sent(director, name, &error.bytes(), Reason::TxReply);
                let heard = heard(&error, &long, grows, nearest, [0; 4]);
                same(&format!("{name}: {kind:?}"), &heard.bytes(), &came.frame);
            };
            told((unreachable, code), nearest);
            told((exceeded, code), (if inner_v6 { 3 } else { 11 }, code));
        }
        let parameter = Message {
            kind: if outer_v6 { (4, 0) } else { (12, 0) },
            ..about(&frame)
        };
        sent(director, name, &parameter.bytes(), passes(tunnel));
    });
}

/// MTUs that no router means, and those that leave less than the least there is.
#[test]
fn an_mtu_is_told_that_the_client_can_make_something_of() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let grows = grows(tunnel, outer_v6);
        let (long, frame) = passing(director, name, &ack(inner_v6, 1));
        // A router older than RFC 1191: the next kind of link.
        let plateau = if LONG + grows > 1492 { 1492 } else { 1006 };
        let least = if outer_v6 { 1280 } else { 68 };
        for told in [
            0, 1, 67, 68, 87, 88, 120, 121, 576, 1279, 1280, 1281, 1300, 1399, 1439,
        ] {
            let believed = match told {
                0 if !outer_v6 => Some(plateau),
                _ => (told >= least).then_some(told),
            };
            let rest = believed.map(|mtu| {
                let rest = usize::from(mtu).saturating_sub(grows);
                rest.max(if inner_v6 { 1280 } else { 68 })
            });
            let error = about(&frame).mtu(told);
            let what = format!("{name}: {told}");
            match rest {
                Some(rest) => {
                    let came = sent(director, &what, &error.bytes(), Reason::TxReply);
                    let heard = heard(&error, &long, grows, too_long(inner_v6), mtu(rest));
                    same(&what, &heard.bytes(), &came.frame);
                }
                None => drop(sent(director, &what, &error.bytes(), passes(tunnel))),
            }
        }
        // What fits is not too long, whoever says so.
        for told in [LONG + grows, 1500, 9000, 65_535] {
            let error = about(&frame).mtu(u16::try_from(told).unwrap());
            sent(director, name, &error.bytes(), passes(tunnel));
        }
        if outer_v6 {
            let more = Message {
                rest: [1, 0, 5, 120],
                ..about(&frame)
            };
            sent(director, name, &more.bytes(), passes(tunnel));
        }
        if inner_v6 {
            // An IPv6 packet as short as links must carry cannot be shorter.
            let short = of_length(ack(true, 1), 1280);
            let frame = sent(director, name, &short.bytes(), Reason::TxConnection).frame;
            let error = about(&frame).mtu(1300);
            sent(director, name, &error.bytes(), passes(tunnel));
        }
    });
}

/// Sends an error that must pass.
fn pass(director: &Director, what: &str, error: &Message, reason: Reason) {
    let outcome = sent(director, what, &error.bytes(), reason);
    assert_eq!(outcome.action, Action::Pass, "{what}");
}

/// Errors about what this director did not send there.
#[test]
fn an_error_about_nothing_known_passes() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let (_, frame) = passing(director, name, &ack(inner_v6, 1));
        let (source, destination) = if outer_v6 { (8, 24) } else { (12, 16) };
        let inner = grows(tunnel, outer_v6);
        let (client, vip) = if inner_v6 { (8, 24) } else { (12, 16) };
        let ports = inner + if inner_v6 { 40 } else { 20 };
        let unknown = passes(tunnel);
        let changed = |what: &str, at: usize, reason| {
            let octet = frame[ETHERNET + at] ^ 1;
            let error = about(&frame).over(at, &[octet]);
            pass(director, &format!("{name}: {what}"), &error, reason);
        };
        changed("from another address", source + 3, Reason::IcmpUnknown);
        changed("to another server", destination + 3, unknown);
        changed("another client", inner + client + 3, unknown);
        changed("another VIP", inner + vip + 3, unknown);
        changed("a port of the client", ports + 1, unknown);
        changed("a port of the VIP", ports + 3, unknown);
        let mut broken = about(&frame).bytes();
        let last = broken.len() - 1;
        broken[last] ^= 1;
        sent(director, "a checksum that is wrong", &broken, unknown);
        let elsewhere = Message {
            to: server(outer_v6, 251),
            ..about(&frame)
        };
        pass(director, name, &elsewhere, Reason::IcmpUnknown);
        let flooded = Message {
            destination: [2, 0, 0, 0, 0, 0x77],
            ..about(&frame)
        };
        pass(director, name, &flooded, Reason::OtherHost);
    });
}

/// Headers, of the tunnel's packet and of the client's, that this director does not send so.
#[test]
fn an_error_about_other_headers_passes() {
    for_all(|director, name, _, (inner_v6, outer_v6)| {
        let (_, frame) = passing(director, name, &ack(inner_v6, 1));
        let at = if outer_v6 { 6 } else { 9 };
        for protocol in [if outer_v6 { 58 } else { 1 }, 50, 132, 255] {
            let other = about(&frame).over(at, &[protocol]);
            pass(director, name, &other, Reason::IcmpUnknown);
        }
        if !outer_v6 {
            let later = about(&frame).over(6, &[0, 9]);
            pass(director, name, &later, Reason::IcmpUnknown);
        }
    });
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let (_, frame) = passing(director, name, &ack(inner_v6, 1));
        let inner = grows(tunnel, outer_v6);
        let unknown = passes(tunnel);
        for version in [0x05, 0x55, 0x75] {
            let other = about(&frame).over(inner, &[version]);
            pass(director, name, &other, unknown);
        }
        let (at, icmp) = if inner_v6 { (6, 58) } else { (9, 1) };
        let other = about(&frame).over(inner + at, &[icmp]);
        pass(director, name, &other, unknown);
        if !inner_v6 {
            let later = about(&frame).over(inner + 6, &[0, 9]);
            pass(director, name, &later, unknown);
        }
    });
}

/// What stands between the two headers, or that nothing does.
#[test]
fn an_error_about_another_kind_of_tunnel_passes() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let (_, frame) = passing(director, name, &ack(inner_v6, 1));
        let unknown = passes(tunnel);
        let outer = if outer_v6 { 40 } else { 20 };
        let changed = |at: usize, bit: u8| {
            let octet = frame[ETHERNET + at] ^ bit;
            let error = about(&frame).over(at, &[octet]);
            pass(director, &format!("{name}: {at}"), &error, unknown);
        };
        match tunnel {
            // Its port, and all of GUE's header.
            Tunnel::Gue { .. } => {
                for at in [3, 8, 9, 10, 11] {
                    changed(outer + at, 1);
                }
            }
            Tunnel::Gre { .. } => {
                changed(outer, 0x80);
                for at in 0..4 {
                    changed(outer + at, 1);
                }
            }
            Tunnel::Ipip => {
                let of_the_other = if inner_v6 { 4 } else { 41 };
                let at = if outer_v6 { 6 } else { 9 };
                let error = about(&frame).over(at, &[of_the_other]);
                pass(director, name, &error, unknown);
            }
        }
    });
}

/// TCP by one kind of tunnel, or whatever, to real server 1.
fn to_one(method: Method) -> Desired {
    let address = SocketAddr::new(server(false, 1), 80);
    tables([with(on(false, tcp(80)), 1, address, method)])
}

#[test]
fn an_error_is_about_the_tunnel_that_there_is_now() {
    in_a_network(|| {
        let mut director = Director::looking(&through(Tunnel::Ipip, false, false));
        let (_, frame) = passing(&director, "IPIP", &ack(false, 1));
        let error = about(&frame).bytes();
        sent(&director, "known", &error, Reason::TxReply);
        let gre = Method::Tunnel(Tunnel::Gre { checksum: false }, own(false));
        let other = Method::Tunnel(Tunnel::Ipip, server(false, 251));
        for method in [gre, other, Method::Direct, Method::Nat] {
            director.set(&to_one(method));
            sent(&director, "another kind", &error, Reason::IcmpUnknown);
        }
        director.set(&through(Tunnel::Ipip, false, false));
        sent(&director, "again", &error, Reason::TxReply);
        let mut closed = through(Tunnel::Ipip, false, false);
        for service in closed.services.values_mut() {
            service.active = false;
        }
        director.set(&closed);
        sent(&director, "the VIP is another's", &error, Reason::NotActive);
        let mut failed = through(Tunnel::Ipip, false, false);
        for service in failed.services.values_mut() {
            service.servers[0].serving = false;
        }
        director.set(&failed);
        sent(&director, "its server failed", &error, Reason::IcmpUnknown);
        director.set(&tables([]));
        sent(&director, "no service", &error, Reason::IcmpUnknown);
    });
}

/// Nobody can make the director send what a client would believe about a connection of another server.
#[test]
fn an_error_must_be_of_the_connections_own_server() {
    in_a_network(|| {
        let address = |n| SocketAddr::new(server(false, n), 80);
        let method = Method::Tunnel(Tunnel::Ipip, own(false));
        let made = with(on(false, tcp(80)), 1, address(1), method);
        let director = Director::looking(&tables([with(made, 2, address(2), method)]));
        let (_, second) = passing(&director, "server 2", &ack(false, 1));
        let (_, first) = passing(&director, "server 1", &ack(false, 2));
        for (frame, other) in [(second, 1), (first, 2)] {
            sent(&director, "own", &about(&frame).bytes(), Reason::TxReply);
            let error = about(&frame).over(19, &[other]);
            sent(&director, "other", &error.bytes(), Reason::IcmpUnknown);
        }
    });
}

/// Extensions behind what is quoted (RFC 4884) are not the client's.
#[test]
fn what_follows_the_quote_is_left_out() {
    for_all(|director, name, tunnel, (inner_v6, outer_v6)| {
        let grows = grows(tunnel, outer_v6);
        let (long, frame) = passing(director, name, &ack(inner_v6, 1));
        // The length is in units of four octets, of ICMPv6 in those of eight; too big has none there.
        let (kind, at, unit) = if outer_v6 {
            ((1, 0), 0, 8)
        } else {
            ((3, 1), 1, 4)
        };
        let nearest = match (outer_v6, inner_v6) {
            (false, true) => (1, 3),
            (true, false) => (3, 1),
            _ => kind,
        };
        let mut error = Message {
            kind,
            rest: [0; 4],
            ..about(&frame).quoting(128)
        };
        error.rest[at] = 128 / unit;
        let expected = heard(&error, &long, grows, nearest, [0; 4]);
        error.quote.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]);
        let came = sent(director, name, &error.bytes(), Reason::TxReply);
        same(name, &expected.bytes(), &came.frame);
        // A packet shorter than 128 octets is filled up with zeroes.
        let short = of_length(ack(inner_v6, 1), 64);
        let frame = sent(director, name, &short.bytes(), Reason::TxConnection).frame;
        let mut error = Message {
            kind,
            rest: [0; 4],
            ..about(&frame)
        };
        let expected = heard(&error, &short, grows, nearest, [0; 4]);
        error.quote.resize(128, 0);
        error.rest[at] = 128 / unit;
        let came = sent(director, name, &error.bytes(), Reason::TxReply);
        same(name, &expected.bytes(), &came.frame);
        // A length that says less than is needed.
        error.rest[at] = 5;
        sent(director, name, &error.bytes(), passes(tunnel));
    });
}

/// Options of the error's own header, of the outer one and of the client's.
#[test]
fn headers_of_any_length_are_stepped_over() {
    in_a_network(|| {
        let director = Director::looking(&through(Tunnel::Ipip, false, false));
        let (long, frame) = passing(&director, "options", &ack(false, 1));
        for options in (0..=40).step_by(4) {
            let error = Message {
                options,
                ..about(&frame)
            };
            let came = sent(&director, "its own", &error.bytes(), Reason::TxReply);
            let expected = heard(&error, &long, 20, (3, 4), left(20, false));
            same("its own", &expected.bytes(), &came.frame);
            let mut error = about(&frame);
            error.quote[0] = 0x45 + u8::try_from(options / 4).unwrap();
            error.quote.splice(20..20, vec![1; options]);
            let came = sent(&director, "the outer", &error.bytes(), Reason::TxReply);
            let grown = 20 + options;
            let expected = heard(&error, &long, grown, (3, 4), left(grown, false));
            same("the outer", &expected.bytes(), &came.frame);
        }
        for (inner_v6, options) in [(false, 4), (false, 40), (true, 8)] {
            let director = Director::looking(&through(Tunnel::Ipip, inner_v6, false));
            let first = edited(ack(inner_v6, 1), &|w| w.options = options);
            let (long, frame) = passing(&director, "the client's", &first);
            let error = about(&frame);
            let came = sent(&director, "the client's", &error.bytes(), Reason::TxReply);
            let rest = left(20, inner_v6);
            let expected = heard(&error, &long, 20, too_long(inner_v6), rest);
            same("the client's", &expected.bytes(), &came.frame);
        }
    });
}

/// The routing table decides; where it has no answer, the packet that opened the connection tells.
#[test]
fn a_client_is_told_by_the_route_to_it() {
    in_a_network(|| {
        let director = Director::looking(&through(Tunnel::Ipip, false, false));
        let (long, frame) = passing(&director, "route", &ack(false, 1));
        let error = about(&frame);
        let back = |what: &str, mac| {
            let came = sent(&director, what, &error.bytes(), Reason::TxReply).frame;
            let expected = Message {
                destination: mac,
                ..heard(&error, &long, 20, (3, 4), left(20, false))
            };
            same(what, &expected.bytes(), &came);
        };
        by_the_routes(&director, &error.bytes(), back);
    });
}

/// The real server is behind the other port.
#[test]
fn a_client_behind_another_port_is_told() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let address = SocketAddr::new(server(is_v6, 1), 80);
            let method = Method::Tunnel(Tunnel::Ipip, own(is_v6));
            let mut made = with(on(is_v6, udp(80)), 1, address, method);
            made.service.servers[0].reach = Some(direct(1, OTHER_PORT));
            let director = Director::looking(&tables([made]));
            let long = of_length(datagram(is_v6, 1), LONG);
            let reason = Reason::RedirectScheduled;
            let frame = sent(&director, "asked", &long.bytes(), reason).frame;
            let error = Message {
                destination: OTHER_PORT_MAC,
                ..about(&frame)
            };
            let by = (&*error.bytes(), OTHER_PORT);
            let came = sent_by(&director, "told", by, Reason::RedirectReply).frame;
            let grows = if is_v6 { 40 } else { 20 };
            let rest = left(grows, is_v6);
            let expected = heard(&error, &long, grows, too_long(is_v6), rest);
            same("told", &expected.bytes(), &came);
        }
    });
}

/// It is the connection's first packet whose way is known.
#[test]
fn a_connection_whose_way_is_not_known_passes() {
    in_a_network(|| {
        let director = Director::looking(&through(Tunnel::Ipip, false, false));
        let (_, frame) = passing(&director, "asked", &ack(false, 1));
        let error = about(&frame).bytes();
        director.eyes().forget_ways_back();
        sent(&director, "forgotten", &error, Reason::IcmpUnknown);
    });
}

#[test]
fn an_error_counts_for_nobody_and_keeps_nothing_alive() {
    in_a_network(|| {
        let mut director = Director::new(&through(Tunnel::Ipip, false, false));
        let (_, frame) = passing(&director, "asked", &ack(false, 1));
        let (before, then) = (director.eyes().all_ways(), director.now());
        while director.now().0.wrapping_sub(then.0) < 2 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let counted = director.eyes().tally();
        let error = about(&frame).bytes();
        sent(&director, "told", &error, Reason::TxReply);
        assert_eq!(director.eyes().all_ways(), before);
        let counted = director.eyes().tally().since(&counted);
        assert!(counted.services.is_empty() && counted.events.is_empty());
    });
}

#[test]
fn a_cpu_tells_so_many_and_no_more() {
    in_a_network(|| {
        let wanted = through(Tunnel::Ipip, false, false);
        let director = Director::with(&wanted, |options| options.answers_per_second = 5);
        let (_, frame) = passing(&director, "asked", &ack(false, 1));
        let (error, before) = (about(&frame).bytes(), director.eyes().tally());
        let (started, count) = (std::time::Instant::now(), 200);
        for _ in 0..count {
            director.send(&error);
        }
        let limit = 5 * (started.elapsed().as_secs() + 2);
        let counted = director.eyes().tally().since(&before);
        let [told, limited] = [Reason::TxReply, Reason::AnswerLimited].map(|r| counted.of(r));
        assert_eq!(told + limited, count, "{counted:?}");
        // This thread may have run on each CPU.
        let cpus = u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert!(told >= 2 && told <= limit * cpus, "{counted:?}");
    });
}

/// Beside translated servers, errors about those are told as they were.
#[test]
fn tunnels_and_translation_go_together() {
    in_a_network(|| {
        let address = |n| SocketAddr::new(server(false, n), 80);
        let method = Method::Tunnel(Tunnel::Ipip, own(false));
        let made = with(on(false, udp(80)), 1, address(1), method);
        let made = with(made, 2, address(2), Method::Nat);
        let director = Director::looking(&tables([made]));
        let first = of_length(datagram(false, 1), LONG);
        let second = of_length(datagram(false, 2), LONG);
        let translated = sent(&director, "NAT", &first.bytes(), Reason::TxScheduled).frame;
        let wrapped = sent(&director, "TUN", &second.bytes(), Reason::TxScheduled).frame;
        let error = about(&wrapped);
        let came = sent(&director, "TUN", &error.bytes(), Reason::TxReply).frame;
        let expected = heard(&error, &second, 20, (3, 4), left(20, false));
        same("TUN", &expected.bytes(), &came);
        let error = Message {
            to: first.from.ip(),
            ..about(&translated)
        };
        let came = sent(&director, "NAT", &error.bytes(), Reason::TxReply).frame;
        let client = client(false, 1).ip();
        let IpAddr::V4(client) = client else {
            panic!("of IPv4");
        };
        assert_eq!(came[ETHERNET + 16..ETHERNET + 20], client.octets());
        assert_eq!(came[ETHERNET + 12..ETHERNET + 16], [192, 168, 1, 200]);
        let unknown = Message {
            to: client.into(),
            ..about(&translated).over(21, &[1])
        };
        sent(&director, "unknown", &unknown.bytes(), Reason::NoService);
    });
}

/// Whatever octets come, with checksums that are right: they pass untouched, or the client gets a sound error
/// about what is quoted, with an MTU that is none too small.
#[test]
fn whatever_is_quoted_comes_to_nothing_bad() {
    for_all(|director, name, _tunnel, (inner_v6, outer_v6)| {
        let (long, frame) = passing(director, name, &ack(inner_v6, 1));
        let mut dice = Dice::new(11 + u64::from(inner_v6) * 2 + u64::from(outer_v6));
        let mut roll = |sides: usize| usize::try_from(dice.roll(sides as u64)).unwrap();
        let mut told = 0;
        for _ in 0..600 {
            let mut error = about(&frame).quoting(60 + roll(200));
            error.kind = [error.kind, error.kind, (3, 1), (1, 1), (11, 0)][roll(5)];
            for _ in 0..roll(3) {
                let at = roll(error.quote.len().min(120));
                error.quote[at] = u8::try_from(roll(256)).unwrap();
            }
            if roll(3) == 0 {
                error.rest[roll(4)] = u8::try_from(roll(256)).unwrap();
            }
            let came = error.bytes();
            let before = director.eyes().tally();
            let outcome = director.send(&came);
            let counted = director.eyes().tally().since(&before);
            let (reason, _) = counted.reasons.first_key_value().unwrap();
            assert_eq!(counted.packets(), 1);
            match reason.verdict() {
                Verdict::Pass => assert!(outcome.frame == came, "{name}: untouched"),
                Verdict::Tx => {
                    assert_eq!(*reason, Reason::TxReply, "{name}");
                    is_sound(name, &outcome.frame, &long);
                    told += 1;
                }
                Verdict::Redirect | Verdict::Drop => panic!("{name}: {reason:?}"),
            }
        }
        assert!(told > 50, "{name}: {told} told");
    });
}

/// Whether a frame is an error from the VIP to the client, with all checksums, that asks for nothing absurd.
fn is_sound(name: &str, frame: &[u8], asked: &Wire) {
    let is_v6 = asked.from.is_ipv6();
    let packet = etherparse::PacketHeaders::from_ethernet_slice(frame).unwrap();
    let payload = packet.payload.slice();
    match (packet.net, packet.transport) {
        (
            Some(etherparse::NetHeaders::Ipv4(ip, _)),
            Some(etherparse::TransportHeader::Icmpv4(icmp)),
        ) => {
            assert!(!is_v6, "{name}");
            assert_eq!(IpAddr::from(ip.source), asked.to.ip(), "{name}");
            assert_eq!(IpAddr::from(ip.destination), asked.from.ip(), "{name}");
            assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "{name}");
            let sum = icmp.icmp_type.calc_checksum(payload);
            assert_eq!(icmp.checksum, sum, "{name}");
            assert!(frame.len() <= ETHERNET + 576, "{name}");
            if (frame[ETHERNET + 20], frame[ETHERNET + 21]) == (3, 4) {
                let mtu = u16::from_be_bytes([frame[ETHERNET + 26], frame[ETHERNET + 27]]);
                assert!(mtu >= 68, "{name}: {mtu}");
            }
        }
        (
            Some(etherparse::NetHeaders::Ipv6(ip, _)),
            Some(etherparse::TransportHeader::Icmpv6(icmp)),
        ) => {
            assert!(is_v6, "{name}");
            assert_eq!(IpAddr::from(ip.source), asked.to.ip(), "{name}");
            assert_eq!(IpAddr::from(ip.destination), asked.from.ip(), "{name}");
            let ends = (ip.source, ip.destination);
            let sum = icmp.icmp_type.calc_checksum(ends.0, ends.1, payload);
            assert_eq!(icmp.checksum, sum.unwrap(), "{name}");
            assert!(frame.len() <= ETHERNET + 1280, "{name}");
            if frame[ETHERNET + 40] == 2 {
                let mtu = frame[ETHERNET + 44..ETHERNET + 48].try_into().unwrap();
                assert!(u32::from_be_bytes(mtu) >= 1280, "{name}");
            }
        }
        other => panic!("{name}: {other:?}"),
    }
}
