//! Fragments of IPv6 packets, as [`fragment`](crate::fragment) has those of IPv4.

use xdp_lb_common::reason::Reason;

use crate::director::{Director, in_a_network};
use crate::ipv6::{
    AFTER_IP, DESTINATION, FRAGMENT, HOP_BY_HOP, Made, ROUTING, ack, client, datagram, hold,
    over_v6, syn,
};
use crate::tables::{server_mac, tables, tcp, udp};

const UNKNOWN: (Reason, u8) = (Reason::Fragment, 0);

const fn new(n: u8) -> (Reason, u8) {
    (Reason::TxScheduled, n)
}

const fn known(n: u8) -> (Reason, u8) {
    (Reason::TxConnection, n)
}

const fn follows(n: u8) -> (Reason, u8) {
    (Reason::TxFragment, n)
}

/// A packet as the fragment of this number, offset (in units of eight octets) and more to come.
fn piece(made: Made, id: u32, offset: u16, more: bool) -> Made {
    let mut header = vec![0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend(id.to_be_bytes());
    made.behind(FRAGMENT, &header)
}

fn first(made: Made, id: u32) -> Made {
    piece(made, id, 0, true)
}

fn middle(made: Made, id: u32) -> Made {
    piece(made, id, 180, true)
}

fn last(made: Made, id: u32) -> Made {
    piece(made, id, 360, false)
}

/// Sends packets one after the other.
fn all<const N: usize>(director: &Director, steps: [(&str, Made, (Reason, u8)); N]) {
    for (what, made, fate) in steps {
        hold(director, what, &made.bytes(), fate);
    }
}

#[test]
fn later_fragments_follow_the_first() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 2), over_v6(udp(80), 2)]));
        let of = |n| datagram(client(1, n), 1);
        let [open, segment] = [syn(client(1, 3), 1), ack(client(1, 3), 1)];
        all(
            &director,
            [
                ("too early", last(of(1), 7), UNKNOWN),
                ("the first", first(of(1), 7), new(1)),
                ("another client's", first(of(2), 7), new(2)),
                ("one in the middle", middle(of(1), 7), follows(1)),
                ("the last", last(of(1), 7), follows(1)),
                ("the other client's", last(of(2), 7), follows(2)),
                ("once more", first(of(1), 7), known(1)),
                ("once more, the last", last(of(1), 7), follows(1)),
                ("a SYN", first(open.clone(), 8), new(1)),
                ("the rest of it", last(open, 8), follows(1)),
                ("a segment", first(segment.clone(), 9), known(1)),
                ("the rest of it", last(segment.clone(), 9), follows(1)),
                ("a whole one", segment, known(1)),
            ],
        );
    });
}

#[test]
fn a_later_fragment_is_known_by_addresses_and_number() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 2), over_v6(udp(80), 2)]));
        let of = |port| datagram(client(1, 1), port);
        let other = datagram(client(1, 2), 1);
        let segment = syn(client(1, 1), 1);
        all(
            &director,
            [
                ("the first", first(of(1), 7), new(1)),
                ("another number", last(of(1), 8), UNKNOWN),
                ("in the upper half", last(of(1), 7 << 16), UNKNOWN),
                ("another client", last(other, 7), UNKNOWN),
                ("ports that are data", last(of(9), 7), follows(1)),
                ("another protocol", last(segment, 7), follows(1)),
                ("the number again", first(of(2), 7), new(2)),
                ("its rest", last(of(2), 7), follows(2)),
            ],
        );
    });
}

#[test]
fn extension_headers_may_stand_before_the_fragment_s() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(udp(80), 2)]));
        let of = |port| datagram(client(1, 1), port);
        let behind = |made: Made| made.behind(HOP_BY_HOP, &[0; 7]).behind(ROUTING, &[0; 7]);
        all(
            &director,
            [
                ("the first", first(behind(of(1)), 7), new(1)),
                ("the last", last(behind(of(1)), 7), follows(1)),
                ("with fewer of them", last(of(1), 7), follows(1)),
                (
                    "options that fragments share",
                    first(of(2), 8).behind(DESTINATION, &[0; 7]),
                    (Reason::NotTcpUdp, 0),
                ),
            ],
        );
    });
}

#[test]
fn a_fragment_that_is_all_of_its_packet_is_like_one() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 2), over_v6(udp(80), 2)]));
        let whole = |made, id| piece(made, id, 0, false);
        let one = client(1, 1);
        all(
            &director,
            [
                ("a datagram", whole(datagram(one, 1), 7), new(1)),
                ("nothing follows it", last(datagram(one, 1), 7), UNKNOWN),
                ("a SYN", whole(syn(one, 1), 8), new(1)),
                ("a segment", whole(ack(one, 1), 9), known(1)),
                ("of none", whole(ack(one, 2), 9), (Reason::NoConnection, 0)),
            ],
        );
    });
}

#[test]
fn of_a_packet_that_is_not_balanced_no_fragment_is() {
    in_a_network(|| {
        let closed = over_v6(udp(80), 1).inactive();
        let director = Director::looking(&tables([closed, over_v6(udp(81), 1)]));
        let to = |port| Made {
            ports: (1, port),
            ..datagram(client(1, 1), 1)
        };
        let from_server = |made: Made| Made {
            source: server_mac(1),
            ..made
        };
        let elsewhere = |made: Made| Made {
            destination: [2, 0, 0, 0, 0, 0x77],
            ..made
        };
        let (balanced, other_host) = ((Reason::AlreadyBalanced, 0), (Reason::OtherHost, 0));
        all(
            &director,
            [
                ("closed", first(to(80), 1), (Reason::NotActive, 0)),
                ("its rest", last(to(80), 1), UNKNOWN),
                ("no service", first(to(82), 2), (Reason::NoService, 0)),
                ("its rest", last(to(82), 2), UNKNOWN),
                ("balanced", from_server(first(to(81), 3)), balanced),
                ("its rest", from_server(last(to(81), 3)), UNKNOWN),
                ("another host's", elsewhere(first(to(81), 4)), other_host),
                ("its rest", elsewhere(last(to(81), 4)), UNKNOWN),
                ("open", first(to(81), 5), new(1)),
                ("its rest", last(to(81), 5), follows(1)),
                ("to another host", elsewhere(last(to(81), 5)), other_host),
                ("balanced", from_server(last(to(81), 5)), balanced),
            ],
        );
    });
}

#[test]
fn what_is_kept_ends_with_its_server() {
    in_a_network(|| {
        let of = || over_v6(udp(80), 2);
        let mut director = Director::new(&tables([of()]));
        let sent = |port| datagram(client(1, 1), port);
        all(&director, [("the first", first(sent(1), 7), new(1))]);
        let mut failed = of();
        failed.service.servers[0].serving = false;
        director.set(&tables([failed]));
        let purged = (Reason::Purged, 0);
        all(&director, [("it failed", last(sent(1), 7), purged)]);
        director.set(&tables([of()]));
        all(&director, [("it is back", last(sent(1), 7), purged)]);
    });
}

/// The frame with only so many octets behind the fragment header, by its own account too.
fn cut(made: &Made, octets: usize) -> Vec<u8> {
    let mut frame = made.bytes();
    frame.truncate(AFTER_IP + 8 + octets);
    let payload = u16::try_from(8 + octets).unwrap();
    frame[AFTER_IP - 36..AFTER_IP - 34].copy_from_slice(&payload.to_be_bytes());
    frame
}

#[test]
fn fragments_that_hide_a_header_are_dropped() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(tcp(80), 1), over_v6(udp(80), 1)]));
        let (open, sent) = (syn(client(1, 1), 1), datagram(client(1, 1), 1));
        let tiny = (Reason::FragmentTiny, 0);
        let truncated = (Reason::Truncated, 0);
        for octets in [8, 13, 19] {
            let frame = cut(&first(open.clone(), 7), octets);
            hold(&director, "in two", &frame, tiny);
            let frame = cut(&piece(open.clone(), 7, 0, false), octets);
            hold(&director, "cut short", &frame, truncated);
        }
        for octets in 0..8 {
            let frame = cut(&first(open.clone(), 7), octets);
            hold(&director, "no ports", &frame, truncated);
        }
        let shortest = cut(&first(sent.clone(), 9), 8);
        hold(&director, "all of a UDP header", &shortest, new(1));
        all(
            &director,
            [
                ("UDP goes on", piece(sent, 9, 1, true), follows(1)),
                ("nothing is kept", last(open.clone(), 7), UNKNOWN),
                ("a whole header", first(open.clone(), 7), new(1)),
                ("over its flags", piece(open.clone(), 7, 1, false), tiny),
                ("behind them", piece(open, 7, 2, true), follows(1)),
            ],
        );
    });
}

#[test]
fn hops_are_spent_and_a_fragment_cut_anywhere_passes() {
    in_a_network(|| {
        let director = Director::looking(&tables([over_v6(udp(80), 1)]));
        let sent = |hops| Made {
            hops,
            ..datagram(client(1, 1), 1)
        };
        all(
            &director,
            [
                ("two hops", first(sent(2), 7), new(1)),
                ("one", last(sent(1), 7), (Reason::TtlExpired, 0)),
                ("two, later", last(sent(2), 7), follows(1)),
            ],
        );
        for made in [first(sent(9), 7), last(sent(9), 7)] {
            let frame = made.bytes();
            for length in AFTER_IP..frame.len() {
                let cut = &frame[..length];
                hold(&director, "a cut frame", cut, (Reason::Truncated, 0));
            }
        }
    });
}
