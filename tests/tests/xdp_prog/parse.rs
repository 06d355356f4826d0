//! What is balanced at all: IPv4 of whole headers, TCP or UDP.

use std::net::Ipv4Addr;

use etherparse::{ArpEthIpv4Packet, ArpOperation, PacketBuilder, VlanId};
use xdp_lb_common::addr::{TCP, UDP};
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::{ETHERNET, Packet, Transport};

use crate::case::{Case, Fate, Step, check, goes, send, show_that, stays};
use crate::tables::{
    PORT_MAC, ROUTER_MAC, VIP, Words as _, ack, client_ip, datagram, from_client, syn, tables, tcp,
    udp,
};

/// Packets that have nothing to do with each other: TCP and UDP services of one server.
fn unrelated(name: &'static str, steps: impl IntoIterator<Item = [Step; 2]>) -> Case {
    Case {
        name,
        tables: tables([tcp(80).rr(1), udp(80).rr(1)]),
        steps: steps.into_iter().flatten().collect(),
    }
}

const fn balanced() -> Fate {
    goes(Reason::TxScheduled, 1)
}

#[test]
fn what_is_not_for_a_service_passes() {
    let no_service = || stays(Reason::NoService);
    let neighbour = Ipv4Addr::from_bits(VIP.to_bits() + 1);
    check(vec![
        unrelated(
            "services of port 80",
            [
                show_that("TCP", syn(1), balanced()),
                show_that("UDP", datagram(1), balanced()),
                show_that("another address", syn(2).to_ip(neighbour), no_service()),
                show_that("another port", syn(2).to_port(81), no_service()),
                show_that("no port", syn(2).to_port(0), no_service()),
            ],
        ),
        Case {
            name: "a service of TCP alone",
            tables: tables([tcp(80).rr(1)]),
            steps: vec![send(datagram(1), no_service()), send(syn(1), balanced())],
        },
    ]);
}

#[test]
fn a_service_of_any_port_takes_what_no_other_does() {
    check(vec![Case {
        name: "port 80 by itself, all others together",
        tables: tables([tcp(0).rr(1), tcp(80).rr(1), udp(80).rr(1)]),
        steps: vec![
            send(syn(1), balanced()),
            send(syn(1).to_port(81), balanced()),
            send(ack(1).to_port(81), goes(Reason::TxConnection, 1)),
            send(syn(1).to_port(65_535), balanced()),
            send(datagram(1).to_port(81), stays(Reason::NoService)),
        ],
    }]);
}

/// Frames as other tools build them.
mod foreign {
    use super::*;

    pub(super) fn arp() -> Vec<u8> {
        let request = ArpEthIpv4Packet {
            operation: ArpOperation::REQUEST,
            sender_mac: ROUTER_MAC,
            sender_ipv4: client_ip(1).octets(),
            target_mac: [0; 6],
            target_ipv4: VIP.octets(),
        };
        let packet = PacketBuilder::ethernet2(ROUTER_MAC, [0xff; 6]).arp(request.into());
        let mut frame = Vec::new();
        packet.write(&mut frame).unwrap();
        frame
    }

    pub(super) fn ipv6() -> Vec<u8> {
        let (from, to) = ([0x20; 16], [0xfd; 16]);
        let packet = PacketBuilder::ethernet2(ROUTER_MAC, PORT_MAC).ipv6(from, to, 64);
        let mut frame = Vec::new();
        packet
            .tcp(40_000, 80, 1, 100)
            .syn()
            .write(&mut frame, &[])
            .unwrap();
        frame
    }

    pub(super) fn tagged() -> Vec<u8> {
        let packet = PacketBuilder::ethernet2(ROUTER_MAC, PORT_MAC)
            .single_vlan(VlanId::try_new(7).unwrap())
            .ipv4(client_ip(1).octets(), VIP.octets(), 64);
        let mut frame = Vec::new();
        packet
            .tcp(40_000, 80, 1, 100)
            .syn()
            .write(&mut frame, &[])
            .unwrap();
        frame
    }

    pub(super) fn tagged_twice() -> Vec<u8> {
        let vlan = |id| VlanId::try_new(id).unwrap();
        let packet = PacketBuilder::ethernet2(ROUTER_MAC, PORT_MAC)
            .double_vlan(vlan(7), vlan(8))
            .ipv4(client_ip(1).octets(), VIP.octets(), 64);
        let mut frame = Vec::new();
        packet
            .tcp(40_000, 80, 1, 100)
            .syn()
            .write(&mut frame, &[])
            .unwrap();
        frame
    }
}

#[test]
fn what_is_not_ipv4_passes() {
    let frame = |name, frame, reason| [Step::Name(name), Step::Frame(frame, reason)];
    let of_type = |number: u16| syn(1).over(12, &number.to_be_bytes()).bytes().unwrap();
    check(vec![unrelated(
        "types of frames",
        [
            frame("ARP", foreign::arp(), Reason::NotIp),
            frame("IPv6 to no service", foreign::ipv6(), Reason::NoService),
            frame("a VLAN tag", foreign::tagged(), Reason::Vlan),
            frame("two VLAN tags", foreign::tagged_twice(), Reason::Vlan),
            frame("802.3, a length", of_type(46), Reason::NotIp),
            frame("PPPoE", of_type(0x8864), Reason::NotIp),
            frame("IPv4 with its octets swapped", of_type(8), Reason::NotIp),
            frame(
                "ARP, 14 octets",
                foreign::arp()[..14].to_vec(),
                Reason::NotIp,
            ),
            frame(
                "IPv4, 14 octets",
                of_type(0x0800)[..14].to_vec(),
                Reason::Truncated,
            ),
        ],
    )]);
}

#[test]
fn what_is_neither_tcp_nor_udp_passes() {
    const ICMP: u8 = 1;
    let other = || stays(Reason::NotTcpUdp);
    let ping = from_client(1, Transport::Ping).payload(b"are you there");
    let numbers = (0..=255).filter(|number| ![TCP, UDP, ICMP].contains(number));
    let steps = numbers.map(|number| show_that("a protocol", syn(1).over(23, &[number]), other()));
    check(vec![unrelated(
        "all other protocols",
        steps.chain([show_that(
            "an echo request to the VIP",
            ping,
            stays(Reason::Icmp),
        )]),
    )]);
}

#[test]
fn fragments_of_nothing_known_pass_and_mere_permission_to_fragment_does_not_matter() {
    let fragment = |name, offset, more| {
        let packet = syn(1).payload(&[7; 64]).fragment(offset, more);
        show_that(name, packet, stays(Reason::Fragment))
    };
    let of_udp = datagram(1).fragment(8, true);
    check(vec![unrelated(
        "fragments",
        [
            fragment("one in the middle", 185, true),
            fragment("the last", 370, false),
            fragment("the lowest offset", 1, false),
            fragment("the highest offset", 8191, false),
            show_that("a fragment of UDP", of_udp, stays(Reason::Fragment)),
            show_that(
                "whole, though not by order",
                syn(1).may_fragment(),
                balanced(),
            ),
        ],
    )]);
}

#[test]
fn ip_options_are_stepped_over_and_kept() {
    let known = || goes(Reason::TxConnection, 1);
    let steps = (4_u16..=40).step_by(4).flat_map(|length| {
        let client = u32::from(length);
        let options = vec![1; usize::from(length)];
        let with = |packet: Packet| packet.options(&options).payload(b"after the options");
        let total = |octets: u16| with(syn(client)).over(16, &octets.to_be_bytes());
        [
            show_that("a SYN with options", with(syn(client)), balanced()),
            show_that("an ACK without", ack(client), known()),
            show_that("an ACK with options", with(ack(client)), known()),
            show_that("a datagram", with(datagram(client)), balanced()),
            show_that(
                "the end within",
                total(19 + length),
                stays(Reason::Malformed),
            ),
            show_that(
                "nothing after",
                total(20 + length),
                stays(Reason::Truncated),
            ),
            show_that(
                "too little after",
                total(39 + length),
                stays(Reason::Truncated),
            ),
            show_that("just enough after", syn(client).options(&options), known()),
        ]
    });
    check(vec![unrelated("options of every length", steps)]);
}

#[test]
fn headers_that_contradict_themselves_pass() {
    let malformed = || stays(Reason::Malformed);
    let truncated = || stays(Reason::Truncated);
    let first = |octet| syn(1).over(ETHERNET, &[octet]);
    let total = |length: u16| syn(1).over(ETHERNET + 2, &length.to_be_bytes());
    let lengths = [
        show_that("a header longer than the packet", first(0x4f), malformed()),
        show_that("a total length of 0", total(0), malformed()),
        show_that("a total length below the header's", total(19), malformed()),
        show_that("nothing after the header", total(20), truncated()),
        show_that("a TCP header cut short", total(39), truncated()),
        show_that("a packet longer than its frame", total(41), truncated()),
        show_that("the longest total length", total(65_535), truncated()),
    ];
    let short = (0..5).map(|ihl| show_that("a short header", first(0x40 | ihl), malformed()));
    let versions = (0..16).filter(|version| *version != 4);
    let other = versions.map(|v| show_that("another version", first(v << 4 | 5), malformed()));
    let steps = lengths.into_iter().chain(short).chain(other);
    check(vec![unrelated("IP headers", steps)]);
}

#[test]
fn the_shortest_packets_are_balanced_with_and_without_padding() {
    let total = |length: u16| datagram(1).over(ETHERNET + 2, &length.to_be_bytes());
    let tcp_offset = ETHERNET + 20 + 12;
    check(vec![unrelated(
        "lengths",
        [
            show_that(
                "a UDP header cut short",
                total(27),
                stays(Reason::Truncated),
            ),
            show_that("a UDP header alone", datagram(1), balanced()),
            show_that("padded as Ethernet pads", datagram(2).cut(60), balanced()),
            show_that("a TCP header alone", syn(1), balanced()),
            show_that("padded as Ethernet pads", syn(2).cut(60), balanced()),
            show_that("an MTU full", syn(3).payload(&[9; 1460]), balanced()),
            show_that("larger than an MTU", syn(4).payload(&[9; 3000]), balanced()),
            show_that(
                "a data offset for the server to judge",
                syn(5).over(tcp_offset, &[0]),
                balanced(),
            ),
        ],
    )]);
}
