//! Fragments of IPv4 datagrams: the first goes where any packet would, the others after it.

use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_tests::packet::{ETHERNET, Packet, Transport};
use xdp_lb_tests::program::Action;

use crate::case::{Case, Fate, Step, check, goes, send, show_that, stays};
use crate::director::{Director, in_a_network};
use crate::tables::{
    Virtual, Words as _, ack, datagram, from_client, server_ip, server_mac, syn, tables, tcp, udp,
};

/// Where the second fragment of a datagram begins that was cut at 1,500 octets, in units of eight.
const SECOND: u16 = 185;

/// The first fragment of a packet's datagram.
fn first(packet: Packet, id: u16) -> Packet {
    piece(packet.payload(&[7; 60]), id, 0, true)
}

/// One in the middle.
fn middle(packet: Packet, id: u16) -> Packet {
    piece(packet.payload(&[8; 56]), id, SECOND, true)
}

/// The last one.
fn last(packet: Packet, id: u16) -> Packet {
    piece(packet.payload(&[9; 3]), id, 2 * SECOND, false)
}

fn piece(mut packet: Packet, id: u16, offset: u16, more: bool) -> Packet {
    packet.id = id;
    packet.fragment(offset, more)
}

/// Round robin over two servers, beginning with the first.
fn two(made: Virtual) -> Virtual {
    made.rr(0).add(2, 1).add(1, 1)
}

/// Server `n` has the first one.
const fn follows(n: u8) -> Fate {
    goes(Reason::TxFragment, n)
}

const fn new(n: u8) -> Fate {
    goes(Reason::TxScheduled, n)
}

const fn known(n: u8) -> Fate {
    goes(Reason::TxConnection, n)
}

const fn unknown() -> Fate {
    stays(Reason::Fragment)
}

fn case<const N: usize>(name: &'static str, of: [Virtual; N], steps: Vec<Step>) -> Case {
    Case {
        name,
        tables: tables(of),
        steps,
    }
}

#[test]
fn later_fragments_follow_the_first() {
    check(vec![
        case(
            "datagrams of two clients",
            [two(udp(80))],
            vec![
                send(first(datagram(1), 7), new(1)),
                send(first(datagram(2), 7), new(2)),
                send(middle(datagram(1), 7), follows(1)),
                send(middle(datagram(2), 7), follows(2)),
                send(last(datagram(2), 7), follows(2)),
                send(last(datagram(1), 7), follows(1)),
                Step::Connection(datagram(1), Some((Kind::UdpNew, 1))),
            ],
        ),
        case(
            "two datagrams of one client",
            [two(udp(80))],
            vec![
                send(first(datagram(1), 1), new(1)),
                send(first(datagram(1).port(2), 2), new(2)),
                send(last(datagram(1), 1), follows(1)),
                send(last(datagram(1), 2), follows(2)),
            ],
        ),
        case(
            "a datagram of a known flow",
            [two(udp(80))],
            vec![
                send(datagram(1), new(1)),
                send(datagram(2), new(2)),
                send(first(datagram(1), 7), known(1)),
                send(last(datagram(1), 7), follows(1)),
                Step::Connection(datagram(1), Some((Kind::Udp, 1))),
            ],
        ),
        case(
            "TCP",
            [two(tcp(80))],
            vec![
                send(first(syn(1), 7), new(1)),
                send(last(syn(1), 7), follows(1)),
                send(first(ack(1), 8), known(1)),
                send(middle(ack(1), 8), follows(1)),
                send(last(ack(1), 8), follows(1)),
                Step::Connection(ack(1), Some((Kind::Established, 1))),
            ],
        ),
    ]);
}

#[test]
fn headers_of_fragments_may_differ_and_any_port_is_one() {
    check(vec![
        case(
            "IP options, of which later fragments have fewer",
            [udp(80).rr(1)],
            vec![
                send(first(datagram(1).options(&[1; 12]), 7), new(1)),
                send(middle(datagram(1), 7), follows(1)),
                send(last(datagram(1).options(&[1; 4]), 7), follows(1)),
            ],
        ),
        case(
            "a service of any port",
            [two(udp(0))],
            vec![
                send(first(datagram(1).to_port(5000), 7), new(1)),
                send(first(datagram(2).to_port(5001), 7), new(2)),
                send(last(datagram(1).to_port(5000), 7), follows(1)),
                send(last(datagram(2).to_port(5001), 7), follows(2)),
            ],
        ),
    ]);
}

#[test]
fn fragments_that_come_again_or_in_disorder() {
    check(vec![
        case(
            "before the first one",
            [two(udp(80))],
            vec![
                send(last(datagram(1), 7), unknown()),
                send(first(datagram(1), 7), new(1)),
                send(middle(datagram(1), 7), follows(1)),
            ],
        ),
        case(
            "the last one before those in the middle",
            [two(udp(80))],
            vec![
                send(first(datagram(1), 7), new(1)),
                send(last(datagram(1), 7), follows(1)),
                send(middle(datagram(1), 7), follows(1)),
            ],
        ),
        case(
            "all of it twice",
            [two(udp(80))],
            vec![
                send(first(datagram(1), 7), new(1)),
                send(last(datagram(1), 7), follows(1)),
                send(first(datagram(1), 7), known(1)),
                send(last(datagram(1), 7), follows(1)),
            ],
        ),
        case(
            "a number that is used again by another flow",
            [two(udp(80))],
            vec![
                send(first(datagram(1), 7), new(1)),
                send(first(datagram(1).port(2), 7), new(2)),
                send(last(datagram(1), 7), follows(2)),
                send(first(datagram(1), 7), known(1)),
                send(last(datagram(1), 7), follows(1)),
            ],
        ),
    ]);
}

#[test]
fn a_later_fragment_is_known_by_addresses_number_and_protocol() {
    let others = [
        last(datagram(1), 8),
        last(datagram(1), 0x0700),
        last(ack(1), 7),
        last(datagram(1).source_ip([10, 1, 9, 9].into()), 7),
        last(datagram(1).to_ip([192, 168, 1, 201].into()), 7),
    ];
    let mut steps = vec![send(first(datagram(1), 7), new(1))];
    steps.extend(others.map(|packet| send(packet, unknown())));
    steps.extend(show_that(
        "what looks like ports is data",
        last(datagram(1).port(9), 7),
        follows(1),
    ));
    check(vec![case("of one datagram", [udp(80).rr(1)], steps)]);
}

#[test]
fn of_a_datagram_that_is_not_balanced_no_fragment_is() {
    let refused = |name, of: Virtual, packet: fn(u32) -> Packet, reason| {
        case(
            name,
            [of],
            vec![
                send(first(packet(1), 7), stays(reason)),
                send(middle(packet(1), 7), unknown()),
                send(last(packet(1), 7), unknown()),
            ],
        )
    };
    let elsewhere = |n| datagram(n).to_mac([2, 0, 0, 0, 0, 0x77]);
    let balanced = |n| datagram(n).source_mac(server_mac(1));
    let one = || udp(80).rr(1);
    check(vec![
        refused("no service", udp(81).rr(1), datagram, Reason::NoService),
        refused(
            "a service of TCP",
            tcp(80).rr(1),
            datagram,
            Reason::NoService,
        ),
        refused(
            "a closed gate",
            one().inactive(),
            datagram,
            Reason::NotActive,
        ),
        refused("no server", udp(80), datagram, Reason::TxUnreachable),
        refused("no connection", tcp(80).rr(1), ack, Reason::NoConnection),
        refused("for another host", one(), elsewhere, Reason::OtherHost),
        refused("balanced before", one(), balanced, Reason::AlreadyBalanced),
    ]);
}

#[test]
fn later_fragments_are_asked_what_every_packet_is() {
    let opened = || send(first(datagram(1), 7), new(1));
    let rest = || last(datagram(1), 7);
    let elsewhere = rest().to_mac([2, 0, 0, 0, 0, 0x77]);
    check(vec![
        case(
            "a gate that closes and opens",
            [udp(80).rr(1)],
            vec![
                opened(),
                Step::Tables(tables([udp(80).rr(1).inactive()])),
                send(rest(), stays(Reason::NotActive)),
                Step::Tables(tables([udp(80).rr(1)])),
                send(rest(), follows(1)),
            ],
        ),
        case(
            "who it is for, and who it is from",
            [udp(80).rr(1)],
            vec![
                opened(),
                send(elsewhere, stays(Reason::OtherHost)),
                send(
                    rest().source_mac(server_mac(1)),
                    stays(Reason::AlreadyBalanced),
                ),
                send(rest().ttl(1), stays(Reason::TtlExpired)),
                send(rest().ttl(2), follows(1)),
            ],
        ),
    ]);
}

#[test]
fn what_is_kept_of_a_datagram_ends_with_its_server() {
    let of = || two(udp(80));
    let opened = || send(first(datagram(1), 7), new(1));
    let after = |name, changed: Virtual, fate| {
        let rest = send(last(datagram(1), 7), fate);
        let steps = vec![opened(), Step::Tables(tables([changed])), rest];
        case(name, [of()], steps)
    };
    check(vec![
        after("it fails", of().fail(1), stays(Reason::Purged)),
        after("it is removed", of().remove(1), stays(Reason::Purged)),
        after("it is drained", of().weigh(1, 0), follows(1)),
        after("its MAC is lost", of().unresolved(1), follows(1)),
        case(
            "it fails and comes back",
            [of()],
            vec![
                opened(),
                Step::Tables(tables([of().fail(1)])),
                Step::Tables(tables([of().recover(1)])),
                send(last(datagram(1), 7), stays(Reason::Purged)),
            ],
        ),
        case(
            "its flow is placed anew",
            [of()],
            vec![
                opened(),
                Step::Tables(tables([of().fail(1)])),
                send(first(datagram(1), 7), new(2)),
                send(last(datagram(1), 7), follows(2)),
            ],
        ),
    ]);
}

#[test]
fn fragments_go_wherever_servers_are() {
    let local = |opens| stays(Reason::Local).counts(1, opens);
    check(vec![
        case(
            "this director",
            [udp(80).rr(1).local(1)],
            vec![
                send(first(datagram(1), 7), local(true)),
                send(last(datagram(1), 7), local(false)),
            ],
        ),
        case(
            "behind another port",
            [udp(80).rr(1).elsewhere(1)],
            vec![
                send(first(datagram(1), 7), goes(Reason::RedirectScheduled, 1)),
                send(last(datagram(1), 7), goes(Reason::RedirectFragment, 1)),
            ],
        ),
        case(
            "behind a router",
            [udp(80).rr(1).behind_router(1)],
            vec![
                send(first(datagram(1), 7), new(1)),
                send(last(datagram(1), 7), follows(1)),
            ],
        ),
    ]);
}

#[test]
fn persistence_and_single_packets_place_first_fragments() {
    let sticks = goes(Reason::TxPersistent, 1);
    check(vec![
        case(
            "a client that sticks",
            [two(udp(80)).persistent(50, 32)],
            vec![
                send(first(datagram(1), 7), new(1)),
                send(first(datagram(1).port(2), 8), sticks),
                send(last(datagram(1), 7), follows(1)),
                send(last(datagram(1), 8), follows(1)),
                Step::Template(datagram(1), 32, Some((Kind::TemplateNew, 1))),
            ],
        ),
        case(
            "each datagram by itself",
            [two(udp(80)).one_packet()],
            vec![
                send(first(datagram(1), 7), new(1)),
                send(first(datagram(1), 8), new(2)),
                send(last(datagram(1), 7), follows(1)),
                send(last(datagram(1), 8), follows(2)),
                Step::Connection(datagram(1), None),
            ],
        ),
    ]);
}

/// A packet whose transport header goes on in the next fragment: only `octets` of it are in this one.
fn tiny(packet: Packet, octets: u16) -> Packet {
    let mut packet = piece(packet, 7, 0, true);
    if let Transport::Udp = packet.transport {
        return packet;
    }
    let length = 20 + octets;
    packet = packet.over(ETHERNET + 2, &length.to_be_bytes());
    packet.cut(ETHERNET + usize::from(length))
}

#[test]
fn fragments_that_hide_a_header_are_dropped() {
    let drops = || stays(Reason::FragmentTiny);
    let mut in_two: Vec<_> = [8, 13, 19]
        .map(|octets| send(tiny(syn(1), octets), drops()))
        .into();
    // The kernel takes none of less than eight octets.
    in_two.extend([0, 4, 7].map(|octets| send(tiny(syn(1), octets), stays(Reason::Truncated))));
    in_two.push(send(last(syn(1), 7), unknown()));
    let one =
        |name, of: Virtual, reason| case(name, [of], vec![send(tiny(syn(1), 8), stays(reason))]);
    check(vec![
        case("a TCP header in two", [tcp(80).rr(1)], in_two),
        one("nobody's port", tcp(81).rr(1), Reason::NoService),
        one("a closed gate", tcp(80).rr(1).inactive(), Reason::NotActive),
        case(
            "all of a UDP header is in the shortest fragment",
            [udp(80).rr(1)],
            vec![
                send(tiny(datagram(1), 8), new(1)),
                send(piece(datagram(1), 7, 1, true), follows(1)),
            ],
        ),
        case(
            "one to be written over the flags",
            [tcp(80).rr(1)],
            vec![
                send(piece(syn(1), 7, 1, false), unknown()),
                send(first(syn(1), 7), new(1)),
                send(piece(syn(1), 7, 1, false), drops()),
                send(piece(syn(1), 7, 1, true), drops()),
                send(piece(syn(1), 7, 2, true), follows(1)),
                send(first(ack(1), 8), known(1)),
                send(piece(ack(1), 8, 1, true), drops()),
            ],
        ),
    ]);
}

#[test]
fn other_protocols_pass_in_fragments_too() {
    let ping = from_client(1, Transport::Ping).payload(&[1; 32]);
    let ping = |offset, more| piece(ping.clone(), 7, offset, more);
    let sctp = |packet: Packet| packet.over(ETHERNET + 9, &[132]);
    let icmp = || stays(Reason::IcmpFragment);
    let not_ours = || stays(Reason::NotTcpUdp);
    let steps = [
        show_that("ICMP, first", ping(0, true), icmp()),
        show_that("ICMP, later", ping(4, false), icmp()),
        show_that("SCTP, first", sctp(first(datagram(1), 7)), not_ours()),
        show_that("SCTP, later", sctp(last(datagram(1), 7)), unknown()),
    ];
    check(vec![case(
        "services of any port",
        [udp(0).rr(1), tcp(0).rr(1)],
        steps.into_iter().flatten().collect(),
    )]);
}

#[test]
fn what_is_kept_of_a_datagram_is_no_connection() {
    in_a_network(|| {
        let service = udp(80).rr(1);
        let mut director = Director::new(&tables([service.clone()]));
        let backend = director.eyes().backend(service.key, server_ip(1).into());
        for id in 0..20 {
            director.send(&first(datagram(1), id).bytes().unwrap());
            director.send(&last(datagram(1), id).bytes().unwrap());
            let kept = director.eyes().kept(&first(datagram(1), id));
            assert_eq!(kept.len(), 1, "{id}: {kept:?}");
            let what = (kept[0].kind(), kept[0].backend());
            assert_eq!(what, (Kind::Fragment, backend));
        }
        assert_eq!(director.eyes().counts(backend), (0, 1));
        assert_eq!(director.eyes().all_ways().len(), 21);
        director.restart(&tables([service]));
        let rest = last(datagram(1), 3).bytes().unwrap();
        assert_eq!(director.send(&rest).action, Action::Tx, "over a restart");
    });
}

#[test]
fn it_is_kept_for_as_long_as_the_kernel_waits() {
    in_a_network(|| {
        let mut director = Director::with(&tables([udp(80).rr(1)]), |options| {
            assert_eq!(options.timeouts.fragment, options.clock.ticks(30));
            options.timeouts.fragment = 1;
        });
        let sent = |director: &Director, packet: &Packet| {
            let before = director.eyes().tally();
            director.send(&packet.bytes().unwrap());
            let tally = director.eyes().tally().since(&before);
            tally.reasons.into_keys().next().unwrap()
        };
        let (first, last) = (first(datagram(1), 7), last(datagram(1), 7));
        assert_eq!(sent(&director, &first), Reason::TxScheduled);
        let expiry = director.eyes().kept(&first)[0].expiry();
        while expiry.is_past(director.now()) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(sent(&director, &last), Reason::Fragment);
        assert_eq!(sent(&director, &first), Reason::TxConnection);
        assert_eq!(
            director.eyes().kept(&first).len(),
            1,
            "its way is used again"
        );
    });
}

/// More first fragments than the table has ways push out no connection that was confirmed, and a
/// connection finds room among them.
#[test]
fn a_flood_of_first_fragments_ends_no_connection() {
    const LIVE: u32 = 500;
    in_a_network(|| {
        let director = Director::new(&tables([tcp(80).rr(1), udp(80).rr(1).one_packet()]));
        for client in 0..LIVE {
            director.send(&syn(client).bytes().unwrap());
            director.send(&ack(client).bytes().unwrap());
        }
        for flood in 0..10_000 {
            let packet = first(datagram(10_000 + flood), 7);
            director.send(&packet.bytes().unwrap());
        }
        let before = director.eyes().tally();
        for client in 0..LIVE {
            director.send(&ack(client).bytes().unwrap());
        }
        for client in LIVE..LIVE + 50 {
            director.send(&syn(client).bytes().unwrap());
        }
        let tally = director.eyes().tally().since(&before);
        assert_eq!(tally.of(Reason::TxConnection), u64::from(LIVE));
        assert_eq!(tally.of(Reason::TxScheduled), 50);
        assert!(tally.events[&Event::Evicted] > 0, "{tally:?}");
    });
}

/// The kernel runs a program on 14 octets at least.
#[test]
fn a_fragment_cut_anywhere_passes_as_truncated() {
    in_a_network(|| {
        let director = Director::new(&tables([udp(80).rr(1), tcp(80).rr(1)]));
        director.send(&first(datagram(1), 7).bytes().unwrap());
        for packet in [
            first(datagram(1), 7),
            last(datagram(1), 7),
            first(ack(1), 7).options(&[1; 8]),
        ] {
            let frame = packet.bytes().unwrap();
            for length in ETHERNET..frame.len() {
                let before = director.eyes().tally();
                let outcome = director.send(&frame[..length]);
                let tally = director.eyes().tally().since(&before);
                assert_eq!(outcome.action, Action::Pass, "{length}");
                assert_eq!(tally.of(Reason::Truncated), 1, "{length}: {tally:?}");
                assert_eq!(outcome.frame, frame[..length]);
            }
        }
    });
}
