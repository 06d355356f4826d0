//! VLANs: tagged frames in and out, as the interfaces of their networks would have them.

use std::collections::BTreeMap;

use xdp_lb::plan::desired::{Desired, Port, Reach, Vlan};
use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::{Reason, Verdict};
use xdp_lb_common::vlan::{CUSTOMER, SERVICE, Tags};
use xdp_lb_tests::packet::{ETHERNET, compare, forwarded, show};
use xdp_lb_tests::program::Action;

use crate::director::{Director, in_a_network};
use crate::ipv6;
use crate::tables::{
    OTHER_PORT, OTHER_PORT_MAC, PORT, PORT_MAC, Virtual, Words as _, ack, datagram, server_mac,
    syn, tables, tcp, udp,
};

/// A tag: its type, and priority and number of the VLAN.
pub(crate) type Tag = (u16, u16);

/// VLAN 10 of the port.
pub(crate) const TEN: (u32, &[Tag]) = (21, &[(CUSTOMER, 10)]);
/// VLAN 20 of the port, whose interface has a MAC of its own.
pub(crate) const TWENTY: (u32, &[Tag]) = (22, &[(CUSTOMER, 20)]);
pub(crate) const TWENTY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 20];
/// A customer's VLAN within a provider's.
pub(crate) const TWO: (u32, &[Tag]) = (23, &[(SERVICE, 5), (CUSTOMER, 7)]);
/// The provider's VLAN itself.
const OUTER: (u32, &[Tag]) = (24, &[(SERVICE, 5)]);
/// VLAN 10 of the other port.
const FAR: (u32, &[Tag]) = (25, &[(CUSTOMER, 10)]);

/// Tables in which each of these networks has an interface.
pub(crate) fn networks<const N: usize>(services: [Virtual; N]) -> Desired {
    let mut made = tables(services);
    let all = [
        (TEN, PORT, PORT_MAC),
        (TWENTY, PORT, TWENTY_MAC),
        (TWO, PORT, PORT_MAC),
        (OUTER, PORT, PORT_MAC),
        (FAR, OTHER_PORT, OTHER_PORT_MAC),
    ];
    for ((ifindex, tags), parent, mac) in all {
        let tags = tags.iter().fold(Tags::NONE, |tags, (ethertype, number)| {
            tags.then(*ethertype, *number).unwrap()
        });
        let port = Port {
            mac: Mac::from_octets(mac),
            mtu: 1500,
            vlan: Some(Vlan { parent, tags }),
        };
        made.ports.insert(ifindex, port);
    }
    made
}

/// Server 1 is in a network.
fn within(mut made: Virtual, (ifindex, _): (u32, &[Tag]), source: [u8; 6]) -> Virtual {
    for server in &mut made.service.servers {
        server.reach = Some(Reach::Direct {
            ifindex,
            source_mac: Mac::from_octets(source),
            mac: Mac::from_octets(server_mac(1)),
            on_link: true,
        });
    }
    made
}

pub(crate) fn tagged(frame: &[u8], tags: &[Tag]) -> Vec<u8> {
    let mut made = frame.to_vec();
    for (ethertype, tci) in tags.iter().rev() {
        let tag = [ethertype.to_be_bytes(), tci.to_be_bytes()].concat();
        made.splice(12..12, tag);
    }
    made
}

/// What must become of a frame.
enum Fate {
    /// It passes as it is, or is dropped.
    Stays(Reason),
    /// It goes to server 1 with these tags, from this MAC.
    Goes(Reason, &'static [Tag], [u8; 6]),
}

use Fate::{Goes, Stays};

/// Sends a frame with tags, and holds what comes out against what must.
fn hold(director: &Director, what: &str, frame: &[u8], tags: &[Tag], fate: &Fate) {
    let sent = tagged(frame, tags);
    let before = director.eyes().tally();
    let outcome = director.send(&sent);
    let counted = director.eyes().tally().since(&before);
    let (reason, expected) = match fate {
        Stays(reason) => (*reason, sent.clone()),
        Goes(reason, tags, source) => {
            let untagged = if frame[12] == 8 {
                forwarded(frame, *source, server_mac(1)).unwrap()
            } else {
                let mut sent = ipv6::forwarded(frame, 1);
                sent[6..12].copy_from_slice(source);
                sent
            };
            (*reason, tagged(&untagged, tags))
        }
    };
    assert_eq!(
        counted.reasons,
        BTreeMap::from([(reason, 1)]),
        "{what}: {}",
        show(&sent)
    );
    let action = match reason.verdict() {
        Verdict::Pass => Action::Pass,
        Verdict::Tx => Action::Tx,
        Verdict::Redirect => Action::Redirect,
        Verdict::Drop => Action::Drop,
    };
    assert_eq!(outcome.action, action, "{what}");
    if let (Stays(_), Action::Tx) = (fate, action) {
        // An answer, of which other suites hold the octets.
        let (sent, got) = (&sent[12..], &outcome.frame[12..]);
        assert_eq!(got[..4 * tags.len()], sent[..4 * tags.len()], "{what}");
    } else if action != Action::Drop {
        let difference = compare(&expected, &outcome.frame);
        assert!(outcome.frame == expected, "{what}: {difference}");
    }
    let octets = u64::try_from(frame.len() - ETHERNET).unwrap();
    for traffic in counted.services.values().chain(counted.backends.values()) {
        assert_eq!(traffic[1..], [1, octets], "{what}: tags do not count");
    }
}

const NEW: Reason = Reason::TxScheduled;
const KNOWN: Reason = Reason::TxConnection;

fn frame(n: u32) -> Vec<u8> {
    syn(n).bytes().unwrap()
}

fn frame_v6(n: u16) -> Vec<u8> {
    ipv6::syn(ipv6::client(1, n), 1000).bytes()
}

/// The service of port 80, in both families, of server 1 in a network.
fn services(network: (u32, &[Tag]), source: [u8; 6]) -> [Virtual; 2] {
    [
        within(tcp(80).rr(1), network, source),
        within(ipv6::over_v6(tcp(80), 1), network, source),
    ]
}

#[test]
fn a_frame_goes_back_to_its_network() {
    in_a_network(|| {
        let all = [
            (TEN, PORT_MAC),
            (TWENTY, TWENTY_MAC),
            (TWO, PORT_MAC),
            (OUTER, PORT_MAC),
        ];
        for (network, mac) in all {
            let director = Director::looking(&networks(services(network, mac)));
            let (_, tags) = network;
            let back = |reason| Goes(reason, tags, mac);
            hold(&director, "a SYN", &frame(1), tags, &back(NEW));
            hold(&director, "the next one", &frame(1), tags, &back(KNOWN));
            let next = ack(1).options(&[1; 8]).payload(b"data").bytes().unwrap();
            hold(&director, "a segment", &next, tags, &back(KNOWN));
            hold(&director, "IPv6", &frame_v6(1), tags, &back(NEW));
            hold(&director, "IPv6, known", &frame_v6(1), tags, &back(KNOWN));
        }
    });
}

#[test]
fn networks_are_left_and_entered() {
    in_a_network(|| {
        let to = |network, mac| Director::looking(&networks(services(network, mac)));
        let ten = to(TEN, PORT_MAC);
        let into_ten = Goes(NEW, TEN.1, PORT_MAC);
        for (n, tags) in (1..).zip([&[] as &[Tag], TWENTY.1, TWO.1, OUTER.1]) {
            hold(&ten, "into 10", &frame(n.into()), tags, &into_ten);
            hold(&ten, "into 10, IPv6", &frame_v6(n), tags, &into_ten);
        }
        let two = to(TWO, PORT_MAC);
        for (n, tags) in (1..).zip([&[] as &[Tag], TEN.1, OUTER.1]) {
            let fate = Goes(NEW, TWO.1, PORT_MAC);
            hold(&two, "into two", &frame(n.into()), tags, &fate);
            hold(&two, "into two, IPv6", &frame_v6(n), tags, &fate);
        }
        let plain = Director::looking(&networks([tcp(80).rr(1), ipv6::over_v6(tcp(80), 1)]));
        for (n, tags) in (1..).zip([TEN.1, TWENTY.1, TWO.1, OUTER.1]) {
            let fate = Goes(NEW, &[], PORT_MAC);
            hold(&plain, "out of all", &frame(n.into()), tags, &fate);
            hold(&plain, "out of all, IPv6", &frame_v6(n), tags, &fate);
        }
        let far = to(FAR, OTHER_PORT_MAC);
        let fate = Goes(Reason::RedirectScheduled, FAR.1, OTHER_PORT_MAC);
        for (n, tags) in (1..).zip([&[] as &[Tag], TEN.1, TWO.1]) {
            hold(&far, "by the other port", &frame(n.into()), tags, &fate);
            hold(&far, "by the other port, IPv6", &frame_v6(n), tags, &fate);
        }
    });
}

#[test]
fn a_network_without_an_interface_is_nobody_s() {
    in_a_network(|| {
        let mut director = Director::looking(&networks(services(TEN, PORT_MAC)));
        let others: [&[Tag]; 9] = [
            &[(CUSTOMER, 11)],
            &[(SERVICE, 10)],
            &[(CUSTOMER, 0x00a | 0x100)],
            &[(CUSTOMER, 4095)],
            &[(CUSTOMER, 5), (CUSTOMER, 7)],
            &[(CUSTOMER, 7), (SERVICE, 5)],
            &[(SERVICE, 5), (CUSTOMER, 8)],
            &[(CUSTOMER, 10), (CUSTOMER, 10)],
            &[(SERVICE, 5), (CUSTOMER, 7), (CUSTOMER, 10)],
        ];
        for tags in others {
            hold(&director, "IPv4", &frame(1), tags, &Stays(Reason::Vlan));
            hold(&director, "IPv6", &frame_v6(1), tags, &Stays(Reason::Vlan));
        }
        let mut less = networks(services(TWO, PORT_MAC));
        hold(
            &director,
            "it is there",
            &frame(2),
            TEN.1,
            &Goes(NEW, TEN.1, PORT_MAC),
        );
        less.ports.remove(&TEN.0);
        director.set(&less);
        hold(&director, "it went", &frame(2), TEN.1, &Stays(Reason::Vlan));
        let fate = Goes(KNOWN, TWO.1, PORT_MAC);
        hold(&director, "others are there", &frame(2), TWENTY.1, &fate);
        director.set(&networks(services(TEN, PORT_MAC)));
        let fate = Goes(KNOWN, TEN.1, PORT_MAC);
        hold(&director, "it is back", &frame(2), TEN.1, &fate);
    });
}

#[test]
fn a_mere_priority_is_no_network() {
    in_a_network(|| {
        let director = Director::looking(&networks([tcp(80).rr(1), udp(80)]));
        let out = |reason| Goes(reason, &[], PORT_MAC);
        hold(
            &director,
            "alone",
            &frame(1),
            &[(CUSTOMER, 0xe000)],
            &out(NEW),
        );
        let before_ten = [(CUSTOMER, 0x6000), (CUSTOMER, 10)];
        hold(&director, "before 10", &frame(1), &before_ten, &out(KNOWN));
        let passing = datagram(1).to_port(90).bytes().unwrap();
        let stays = Stays(Reason::NoService);
        hold(
            &director,
            "passing",
            &passing,
            &[(CUSTOMER, 0xe000)],
            &stays,
        );
        hold(&director, "passing, in two", &passing, &before_ten, &stays);
    });
}

#[test]
fn priority_stays_within_a_network() {
    in_a_network(|| {
        let director = Director::new(&networks(services(TEN, PORT_MAC)));
        let kept = Goes(NEW, &[(CUSTOMER, 0xb00a)], PORT_MAC);
        hold(
            &director,
            "the same",
            &frame(1),
            &[(CUSTOMER, 0xb00a)],
            &kept,
        );
        let lost = Goes(NEW, TEN.1, PORT_MAC);
        hold(
            &director,
            "another",
            &frame(2),
            &[(CUSTOMER, 0xb014)],
            &lost,
        );
        let director = Director::new(&networks(services(TWO, PORT_MAC)));
        let both = &[(SERVICE, 0xf005), (CUSTOMER, 0x2007)];
        let fate = Goes(NEW, both, PORT_MAC);
        hold(&director, "two", &frame(1), both, &fate);
        let outer = Goes(NEW, &[(SERVICE, 0xf005), (CUSTOMER, 7)], PORT_MAC);
        hold(
            &director,
            "of the outer one",
            &frame(2),
            &[(SERVICE, 0xf005)],
            &outer,
        );
    });
}

#[test]
fn what_is_not_balanced_passes_with_its_tags() {
    in_a_network(|| {
        let closed = within(tcp(81).rr(1), TEN, PORT_MAC).inactive();
        let made = networks([
            within(tcp(80).rr(1), TEN, PORT_MAC),
            closed,
            tcp(82),
            ipv6::over_v6(tcp(81), 1).inactive(),
        ]);
        let director = Director::looking(&made);
        let to = |port| syn(1).to_port(port).bytes().unwrap();
        let mut arp = frame(1);
        arp[12..14].copy_from_slice(&[8, 6]);
        let v6 = |port| {
            let made = ipv6::syn(ipv6::client(1, 1), 1000);
            let ports = (1000, port);
            ipv6::Made { ports, ..made }.bytes()
        };
        for (_, tags) in [TEN, TWENTY, TWO] {
            let all = [
                (to(90), Reason::NoService),
                (to(81), Reason::NotActive),
                (to(82), Reason::TxUnreachable),
                (ack(9).bytes().unwrap(), Reason::NoConnection),
                (syn(1).ttl(1).bytes().unwrap(), Reason::TxTimeExceeded),
                (
                    syn(1).to_mac([2, 0, 0, 0, 0, 0x77]).bytes().unwrap(),
                    Reason::OtherHost,
                ),
                (
                    syn(1).source_mac(server_mac(1)).bytes().unwrap(),
                    Reason::AlreadyBalanced,
                ),
                (arp.clone(), Reason::NotIp),
                (v6(80), Reason::NoService),
                (v6(81), Reason::NotActive),
            ];
            for (frame, reason) in all {
                hold(&director, reason.name(), &frame, tags, &Stays(reason));
            }
        }
        let director = Director::new(&networks([tcp(80).rr(1).local(1)]));
        hold(&director, "local", &frame(1), TEN.1, &Stays(Reason::Local));
    });
}

/// As the kernel has it: a frame to the interface below is for its networks, too.
#[test]
fn a_network_s_interface_may_have_a_mac_of_its_own() {
    in_a_network(|| {
        let director = Director::new(&networks(services(TWENTY, TWENTY_MAC)));
        let to = |mac| syn(1).to_mac(mac).bytes().unwrap();
        let sent = |reason| Goes(reason, TWENTY.1, TWENTY_MAC);
        hold(
            &director,
            "to its own",
            &to(TWENTY_MAC),
            TWENTY.1,
            &sent(NEW),
        );
        hold(
            &director,
            "to the one below",
            &to(PORT_MAC),
            TWENTY.1,
            &sent(KNOWN),
        );
        let other = Stays(Reason::OtherHost);
        hold(
            &director,
            "in another network",
            &to(TWENTY_MAC),
            TEN.1,
            &other,
        );
        hold(&director, "untagged", &to(TWENTY_MAC), &[], &other);
        let passing = syn(1).to_port(90).to_mac(TWENTY_MAC).bytes().unwrap();
        let stays = Stays(Reason::NoService);
        hold(&director, "passing", &passing, TWENTY.1, &stays);
    });
}

#[test]
fn fragments_and_errors_come_in_networks_too() {
    in_a_network(|| {
        let director = Director::looking(&networks([within(udp(80).rr(1), TEN, PORT_MAC)]));
        let piece = |offset, more| datagram(1).payload(&[7; 56]).fragment(offset, more);
        let piece = |offset, more| piece(offset, more).bytes().unwrap();
        let back = |reason| Goes(reason, TEN.1, PORT_MAC);
        hold(&director, "first", &piece(0, true), TEN.1, &back(NEW));
        let follows = back(Reason::TxFragment);
        hold(&director, "last", &piece(8, false), TEN.1, &follows);
        hold(
            &director,
            "by another",
            &piece(8, false),
            TWENTY.1,
            &follows,
        );
    });
}

/// What the kernel runs a program on has 14 octets at least.
#[test]
fn a_tagged_frame_cut_anywhere_passes_untouched() {
    in_a_network(|| {
        let director = Director::new(&networks(services(TEN, PORT_MAC)));
        for (_, tags) in [TEN, TWO] {
            for frame in [frame(1), frame_v6(1)] {
                let whole = tagged(&frame, tags);
                for length in ETHERNET..whole.len() {
                    let before = director.eyes().tally();
                    let outcome = director.send(&whole[..length]);
                    let tally = director.eyes().tally().since(&before);
                    let truncated = tally.of(Reason::Truncated) == 1;
                    assert!(truncated, "{length}: {tally:?}");
                    assert_eq!(outcome.action, Action::Pass, "{length}");
                    assert_eq!(outcome.frame, whole[..length], "{length}");
                }
            }
        }
    });
}
