//! Address translation: to the real server by its address and port, and back by the service's.

use std::net::SocketAddr;
use std::process::Command;

use xdp_lb::plan::desired::{Desired, Method, Reach};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::{ETHERNET, flags};
use xdp_lb_tests::program::Action;

use crate::director::{Director, in_a_network};
use crate::tables::{
    OTHER_PORT, OTHER_PORT_MAC, PORT, PORT_MAC, ROUTER_MAC, Virtual, direct, server_mac, tables,
    tcp, udp,
};
use crate::wire::{
    Wire, ack, client, datagram, from_client, on, same, sent, sent_by, server, syn, vip, with,
};

const NEW: Reason = Reason::TxScheduled;
const KNOWN: Reason = Reason::TxConnection;

/// A service, to real server 1 with this port.
pub(crate) fn to_one(is_v6: bool, made: Virtual, port: u16) -> Virtual {
    let address = SocketAddr::new(server(is_v6, 1), port);
    with(on(is_v6, made), 1, address, Method::Nat)
}

/// TCP and UDP on port 80 of the VIP, to port 8080 of real server 1.
pub(crate) fn web(is_v6: bool) -> Desired {
    tables([to_one(is_v6, tcp(80), 8080), to_one(is_v6, udp(80), 8080)])
}

/// The packet as real server 1 gets it, at a port.
pub(crate) fn at_server(wire: &Wire, port: u16) -> Wire {
    Wire {
        to: SocketAddr::new(server(wire.to.is_ipv6(), 1), port),
        hops: wire.hops - 1,
        source: PORT_MAC,
        destination: server_mac(1),
        ..wire.clone()
    }
}

/// The answer of real server 1, from a port, to a packet.
pub(crate) fn answer(wire: &Wire, port: u16) -> Wire {
    Wire {
        from: SocketAddr::new(server(wire.to.is_ipv6(), 1), port),
        to: wire.from,
        tcp: wire.tcp.map(|set| set | flags::ACK),
        payload: b"the answer".to_vec(),
        source: server_mac(1),
        ..wire.clone()
    }
}

/// The answer as the client gets it: from where it asked.
pub(crate) fn at_client(answer: &Wire, asked: &Wire) -> Wire {
    Wire {
        from: asked.to,
        hops: answer.hops - 1,
        source: PORT_MAC,
        destination: ROUTER_MAC,
        ..answer.clone()
    }
}

pub(crate) fn edited(mut wire: Wire, change: &dyn Fn(&mut Wire)) -> Wire {
    change(&mut wire);
    wire
}

/// Whatever the packet, both ways, both families: 2 × 2 × 18.
#[test]
fn addresses_and_ports_change_and_all_checksums_are_right() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            let both_ways = |what: &str, wire: &Wire, reason| {
                let came = sent(&director, what, &wire.bytes(), reason).frame;
                same(what, &at_server(wire, 8080).bytes(), &came);
                let answer = answer(wire, 8080);
                let back = sent(&director, what, &answer.bytes(), Reason::TxReply).frame;
                same(what, &at_client(&answer, wire).bytes(), &back);
            };
            let known = |change: &dyn Fn(&mut Wire)| edited(ack(is_v6, 1), change);
            both_ways("SYN", &syn(is_v6, 1), NEW);
            both_ways("ACK", &ack(is_v6, 1), KNOWN);
            both_ways("the last hop but one", &known(&|w| w.hops = 2), KNOWN);
            both_ways("all hops", &known(&|w| w.hops = 255), KNOWN);
            both_ways("a class", &known(&|w| w.tos = 0xb9), KNOWN);
            both_ways("fragmentable", &known(&|w| w.dont_fragment = false), KNOWN);
            both_ways("options", &known(&|w| w.options = 8), KNOWN);
            both_ways("datagram", &datagram(is_v6, 2), NEW);
            for len in [0, 1, 2, 3, 1000, 1400] {
                let long = |w: &mut Wire| w.payload = vec![0xa5; len];
                both_ways("segment", &known(&long), KNOWN);
                let checked = edited(datagram(is_v6, 2), &long);
                both_ways("datagram", &checked, KNOWN);
                let unchecked = edited(checked, &|w| w.unchecked = true);
                both_ways("without a checksum", &unchecked, KNOWN);
            }
            let closing = from_client(is_v6, 1, Some(flags::FIN | flags::ACK));
            both_ways("FIN", &closing, KNOWN);
        }
    });
}

/// All 65,536 sums that two octets of payload lead to; 0 of them is written as its complement.
#[test]
fn no_datagram_loses_its_checksum() {
    in_a_network(|| {
        let director = Director::looking(&web(false));
        let run = |wire: &Wire| director.program().run(&wire.bytes(), PORT).unwrap();
        let mut complements = 0;
        for word in 0..=u16::MAX {
            let asked = edited(datagram(false, 1), &|w| {
                w.payload = word.to_be_bytes().into();
            });
            let outcome = run(&asked);
            assert_eq!(outcome.action, Action::Tx);
            let expected = at_server(&asked, 8080).bytes();
            if outcome.frame != expected {
                same("datagram", &expected, &outcome.frame);
            }
            let checksum = &outcome.frame[ETHERNET + 26..ETHERNET + 28];
            complements += u32::from(checksum == [0xff, 0xff]);
        }
        assert!(complements > 0, "no sum came to 0");
    });
}

#[test]
fn the_port_may_stay_and_any_port_goes_to_the_same() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let any = to_one(is_v6, tcp(0), 0).persistent(50, if is_v6 { 128 } else { 32 });
            let director = Director::looking(&tables([any, to_one(is_v6, udp(80), 80)]));
            for port in [21, 80, 65_535] {
                let asked = edited(syn(is_v6, 1), &|w| w.to = vip(is_v6, port));
                let reason = if port == 21 {
                    NEW
                } else {
                    Reason::TxPersistent
                };
                let came = sent(&director, "any port", &asked.bytes(), reason).frame;
                same("any port", &at_server(&asked, port).bytes(), &came);
                let answer = answer(&asked, port);
                let back = sent(&director, "back", &answer.bytes(), Reason::TxReply).frame;
                same("back", &at_client(&answer, &asked).bytes(), &back);
            }
            let asked = datagram(is_v6, 1);
            let came = sent(&director, "own port", &asked.bytes(), NEW).frame;
            same("own port", &at_server(&asked, 80).bytes(), &came);
        }
    });
}

/// What a real server sends of its own accord is its own business, and the kernel's.
#[test]
fn only_answers_are_translated() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            let asked = syn(is_v6, 1);
            let known = answer(&asked, 8080);
            sent(&director, "too early", &known.bytes(), Reason::NoService);
            sent(&director, "asked", &asked.bytes(), NEW);
            sent(&director, "answered", &known.bytes(), Reason::TxReply);
            let stranger = |what: &str, change: &dyn Fn(&mut Wire)| {
                let wire = edited(known.clone(), change);
                sent(&director, what, &wire.bytes(), Reason::NoService);
            };
            stranger("its other port", &|w| w.from.set_port(8081));
            stranger("the service's port", &|w| w.from.set_port(80));
            stranger("another server", &|w| w.from.set_ip(server(is_v6, 2)));
            stranger("another client", &|w| w.to = client(is_v6, 2));
            stranger("another port of the client", &|w| w.to.set_port(40_001));
            stranger("another protocol", &|w| w.tcp = None);
        }
        let direct = with(
            on(false, tcp(80)),
            1,
            SocketAddr::new(server(false, 1), 80),
            Method::Direct,
        );
        let director = Director::looking(&tables([direct]));
        sent(&director, "asked", &syn(false, 1).bytes(), NEW);
        let answer = answer(&syn(false, 1), 80);
        sent(
            &director,
            "direct routing",
            &answer.bytes(),
            Reason::NoService,
        );
    });
}

#[test]
fn an_answer_must_be_for_this_director() {
    in_a_network(|| {
        let mut director = Director::looking(&web(false));
        let asked = syn(false, 1);
        sent(&director, "asked", &asked.bytes(), NEW);
        let to = |mac| edited(answer(&asked, 8080), &|w| w.destination = mac);
        let flooded = to([2, 0, 0, 0, 9, 9]);
        sent(&director, "flooded", &flooded.bytes(), Reason::OtherHost);
        for version in [1, 2] {
            let gateway = to([0, 0, 0x5e, 0, version, 51]);
            let back = sent(
                &director,
                "a VIP is the gateway",
                &gateway.bytes(),
                Reason::TxReply,
            );
            same("gateway", &at_client(&gateway, &asked).bytes(), &back.frame);
        }
        let other = to([0, 0, 0x5e, 0, 3, 51]);
        sent(
            &director,
            "no virtual MAC",
            &other.bytes(),
            Reason::OtherHost,
        );
        for hops in [0, 1] {
            let last = edited(answer(&asked, 8080), &|w| w.hops = hops);
            sent(
                &director,
                "the last hop",
                &last.bytes(),
                Reason::TxTimeExceeded,
            );
        }
        let mut closed = web(false);
        for service in closed.services.values_mut() {
            service.active = false;
        }
        director.set(&closed);
        let answer = answer(&asked, 8080);
        sent(
            &director,
            "the VIP is another's",
            &answer.bytes(),
            Reason::NotActive,
        );
    });
}

/// The servers' network is behind the other port.
#[test]
fn answers_leave_by_the_port_that_the_client_is_behind() {
    in_a_network(|| {
        let mut made = to_one(false, tcp(80), 8080);
        made.service.servers[0].reach = Some(direct(1, OTHER_PORT));
        let director = Director::looking(&tables([made]));
        let asked = syn(false, 1);
        let came = sent(
            &director,
            "asked",
            &asked.bytes(),
            Reason::RedirectScheduled,
        )
        .frame;
        let expected = edited(at_server(&asked, 8080), &|w| w.source = OTHER_PORT_MAC);
        same("asked", &expected.bytes(), &came);
        let answer = edited(answer(&asked, 8080), &|w| w.destination = OTHER_PORT_MAC);
        let by = (&*answer.bytes(), OTHER_PORT);
        let back = sent_by(&director, "back", by, Reason::RedirectReply).frame;
        same("back", &at_client(&answer, &asked).bytes(), &back);
    });
}

/// Runs lines of `ip` in this thread's network.
fn ip(lines: &[&str]) {
    for line in lines {
        let done = Command::new("ip").args(line.split(' ')).output().unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
    }
}

/// Changes the routes to the client and asks which MAC the frame then goes to: `back` has it come there.
pub(crate) fn by_the_routes(director: &Director, frame: &[u8], back: impl Fn(&str, [u8; 6])) {
    back("no network at all", ROUTER_MAC);
    ip(&[
        "link set in up",
        "link set in-far up",
        "address add 192.168.1.250/24 dev in",
        "route add default via 192.168.1.254",
    ]);
    back("the gateway's MAC is not known", ROUTER_MAC);
    ip(&["neighbour add 192.168.1.254 lladdr 02:00:00:00:00:77 dev in"]);
    back("forwarding is off", ROUTER_MAC);
    std::fs::write("/proc/sys/net/ipv4/conf/in/forwarding", "1").unwrap();
    back("by the gateway", [2, 0, 0, 0, 0, 0x77]);
    ip(&["route add blackhole 10.1.0.0/16"]);
    sent(director, "black hole", frame, Reason::NoReplyRoute);
    ip(&[
        "route delete blackhole 10.1.0.0/16",
        "route add 10.1.0.0/16 dev lo",
    ]);
    back("by an interface that is no port", ROUTER_MAC);
}

/// The routing table decides; where it has no answer, the client's own packets tell.
#[test]
fn answers_take_the_route_to_the_client() {
    in_a_network(|| {
        let director = Director::looking(&web(false));
        let asked = syn(false, 1);
        let answer = answer(&asked, 8080);
        let back = |what: &str, mac| {
            let frame = sent(&director, what, &answer.bytes(), Reason::TxReply).frame;
            let expected = edited(at_client(&answer, &asked), &|w| w.destination = mac);
            same(what, &expected.bytes(), &frame);
        };
        sent(&director, "asked", &asked.bytes(), NEW);
        by_the_routes(&director, &answer.bytes(), back);
    });
}

/// The client's router is another one from now on; its packets tell within a tick.
#[test]
fn the_way_back_follows_the_client() {
    in_a_network(|| {
        let mut director = Director::looking(&web(false));
        sent(&director, "asked", &syn(false, 1).bytes(), NEW);
        pass_a_tick(&mut director);
        let moved = edited(ack(false, 1), &|w| w.source = [2, 0, 0, 0, 0, 8]);
        sent(&director, "moved", &moved.bytes(), KNOWN);
        let answer = answer(&ack(false, 1), 8080);
        let back = sent(&director, "back", &answer.bytes(), Reason::TxReply).frame;
        assert_eq!(back[..6], [2, 0, 0, 0, 0, 8]);
    });
}

/// Waits until the program's clock shows the next tick but one, so that whatever was touched before
/// is touched again.
fn pass_a_tick(director: &mut Director) {
    let before = director.now();
    while director.now().0.wrapping_sub(before.0) < 2 {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn either_direction_keeps_a_connection() {
    in_a_network(|| {
        let mut director = Director::looking(&web(false));
        sent(&director, "asked", &syn(false, 1).bytes(), NEW);
        sent(&director, "confirmed", &ack(false, 1).bytes(), KNOWN);
        let answer = answer(&ack(false, 1), 8080).bytes();
        let states = |director: &Director| {
            let mut ways = director.eyes().all_ways();
            ways.sort_by_key(|way| way.kind() as u8);
            ways
        };
        let kinds = |director: &Director| -> Vec<_> {
            states(director).iter().map(|way| way.kind()).collect()
        };
        pass_a_tick(&mut director);
        sent(&director, "client", &ack(false, 1).bytes(), KNOWN);
        assert_eq!(kinds(&director), [Kind::Established, Kind::Reply]);
        let before = states(&director);
        assert_eq!(before[0].expiry(), before[1].expiry(), "both live as long");
        pass_a_tick(&mut director);
        sent(&director, "server", &answer, Reason::TxReply);
        let after = states(&director);
        assert_eq!(after[0].expiry(), after[1].expiry(), "both live as long");
        assert!(after[0].expiry() != before[0].expiry(), "and longer");
        let key = *web(false)
            .services
            .keys()
            .find(|key| key.port() == 80)
            .unwrap();
        let backend = director.eyes().backend(key, server(false, 1));
        assert_eq!(
            director.eyes().counts(backend),
            (1, 0),
            "one connection counts"
        );
    });
}

#[test]
fn a_failed_servers_answers_are_its_own_again() {
    in_a_network(|| {
        let mut director = Director::looking(&web(false));
        sent(&director, "asked", &syn(false, 1).bytes(), NEW);
        let answer = answer(&syn(false, 1), 8080).bytes();
        sent(&director, "answered", &answer, Reason::TxReply);
        let mut failed = web(false);
        for service in failed.services.values_mut() {
            service.servers[0].serving = false;
        }
        director.set(&failed);
        sent(&director, "purged", &answer, Reason::Purged);
        director.set(&tables([]));
        sent(&director, "no service", &answer, Reason::NoService);
    });
}

#[test]
fn each_datagram_may_be_scheduled_and_is_answered() {
    in_a_network(|| {
        let made = on(false, udp(80)).one_packet();
        let made = with(made, 1, SocketAddr::new(server(false, 1), 53), Method::Nat);
        let director = Director::looking(&tables([made]));
        for _ in 0..3 {
            sent(&director, "asked", &datagram(false, 1).bytes(), NEW);
            let answer = answer(&datagram(false, 1), 53);
            let back = sent(&director, "back", &answer.bytes(), Reason::TxReply).frame;
            same(
                "back",
                &at_client(&answer, &datagram(false, 1)).bytes(),
                &back,
            );
        }
    });
}

/// Two services share a server's port. A client's ports differ, so answers find the right one; where
/// they do not, the server itself cannot tell the two apart, and the later one counts.
#[test]
fn answers_come_from_the_service_that_was_asked() {
    in_a_network(|| {
        let services = [to_one(false, tcp(80), 8080), to_one(false, tcp(81), 8080)];
        let director = Director::looking(&tables(services));
        let first = syn(false, 1);
        let second = edited(syn(false, 2), &|w| w.to.set_port(81));
        for asked in [&first, &second] {
            sent(&director, "asked", &asked.bytes(), NEW);
        }
        let back = |asked: &Wire| {
            let answer = answer(asked, 8080);
            let back = sent(&director, "back", &answer.bytes(), Reason::TxReply).frame;
            same("back", &at_client(&answer, asked).bytes(), &back);
        };
        back(&first);
        back(&second);
        let again = edited(first, &|w| w.to.set_port(81));
        sent(&director, "asked", &again.bytes(), NEW);
        back(&again);
    });
}

#[test]
fn a_server_that_is_the_director_is_local() {
    in_a_network(|| {
        let mut made = to_one(false, tcp(80), 80);
        made.service.servers[0].reach = Some(Reach::Local);
        let director = Director::looking(&tables([made]));
        sent(&director, "local", &syn(false, 1).bytes(), Reason::Local);
    });
}

#[test]
fn frames_cut_short_never_leave() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            sent(&director, "asked", &syn(is_v6, 1).bytes(), NEW);
            let answer = answer(&syn(is_v6, 1), 8080).bytes();
            for whole in [ack(is_v6, 1).bytes(), answer] {
                for len in 14..whole.len() {
                    sent(&director, "cut", &whole[..len], Reason::Truncated);
                }
            }
        }
    });
}

/// Four times as many connections as the table has room for: whoever gets through gets answers.
#[test]
fn a_full_table_lets_nobody_through_without_answers() {
    in_a_network(|| {
        let director = Director::looking(&web(false));
        let flow = |n: u16, tcp| edited(from_client(false, 1, Some(tcp)), &|w| w.from.set_port(n));
        let run = |wire: &Wire| director.program().run(&wire.bytes(), PORT).unwrap().action;
        let mut through = Vec::new();
        for port in 1000..5000 {
            let opened = run(&flow(port, flags::SYN)) == Action::Tx;
            if opened && run(&flow(port, flags::ACK)) == Action::Tx {
                through.push(port);
            }
        }
        assert!(
            through.len() > 600 && through.len() < 2000,
            "{}",
            through.len()
        );
        for port in through {
            let answer = answer(&flow(port, flags::ACK), 8080);
            let back = sent(&director, "back", &answer.bytes(), Reason::TxReply).frame;
            let expected = at_client(&answer, &flow(port, flags::ACK));
            same("back", &expected.bytes(), &back);
        }
        assert!(director.eyes().tally().of(Reason::NoReplyWay) > 0);
    });
}
