//! ICMP errors go to the real server whose packet they are about, and change nothing on the way.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::{IpFragOffset, IpHeaders, Ipv4Extensions, Ipv4Header, Ipv4Options, PacketBuilder};
use xdp_lb::config::model::{Hashing, Scheduler};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::flags::ACK;
use xdp_lb_tests::packet::{ETHERNET, Packet, Transport};
use xdp_lb_tests::program::Action;
use xdp_lb_tests::wait;

use crate::case::{Case, Fate, Step, check, goes, send, stays};
use crate::director::{Director, in_a_network};
use crate::tables::{
    PORT_MAC, ROUTER_MAC, VIP, Virtual, Words as _, ack, datagram, server_ip, server_mac, syn,
    tables, tcp, udp,
};

/// A router on the way to the clients.
const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Type and code of what path-MTU discovery lives by.
const FRAG_NEEDED: (u8, u8) = (3, 4);

/// An ICMP message.
#[derive(Clone)]
struct Made {
    from: Ipv4Addr,
    to: Ipv4Addr,
    source: [u8; 6],
    destination: [u8; 6],
    kind: (u8, u8),
    ttl: u8,
    options: Vec<u8>,
    fragment: (u16, bool),
    quote: Vec<u8>,
}

/// What the server of a client's packet sent to it, as much as an error quotes: the IP header and so
/// many octets.
fn reply(packet: &Packet, carried: usize) -> Vec<u8> {
    let mut reply = packet.clone();
    (reply.from, reply.to) = (packet.to, packet.from);
    if let Transport::Tcp(_) = packet.transport {
        reply.transport = Transport::Tcp(ACK);
    }
    let bytes = reply.payload(&[7; 1000]).bytes().unwrap();
    let header = usize::from(bytes[ETHERNET] & 0xf) * 4;
    bytes[ETHERNET..ETHERNET + header + carried].to_vec()
}

/// A router tells that the server's answer to a packet was too long. Routers must quote 8 octets.
fn about(packet: &Packet) -> Made {
    Made {
        from: ROUTER,
        to: VIP,
        source: ROUTER_MAC,
        destination: PORT_MAC,
        kind: FRAG_NEEDED,
        ttl: 60,
        options: Vec::new(),
        fragment: (0, false),
        quote: reply(packet, 8),
    }
}

impl Made {
    fn kind(mut self, number: u8, code: u8) -> Self {
        self.kind = (number, code);
        self
    }

    fn quote(mut self, quote: Vec<u8>) -> Self {
        self.quote = quote;
        self
    }

    /// With these octets from `at` of the quoted header on.
    fn over(mut self, at: usize, octets: &[u8]) -> Self {
        self.quote[at..at + octets.len()].copy_from_slice(octets);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let (offset, more) = self.fragment;
        let ip = Ipv4Header {
            identification: 5,
            more_fragments: more,
            fragment_offset: IpFragOffset::try_new(offset).unwrap(),
            time_to_live: self.ttl,
            source: self.from.octets(),
            destination: self.to.octets(),
            options: Ipv4Options::try_from(self.options.as_slice()).unwrap(),
            ..Ipv4Header::default()
        };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(self.source, self.destination)
            .ip(IpHeaders::Ipv4(ip, Ipv4Extensions::default()))
            .icmpv4_raw(self.kind.0, self.kind.1, [0, 0, 5, 120])
            .write(&mut frame, &self.quote)
            .unwrap();
        frame
    }
}

/// An error comes in.
fn told(packet: &Packet, made: &Made, fate: Fate) -> Step {
    Step::About(packet.clone(), made.bytes(), fate)
}

fn told_that(name: &'static str, packet: &Packet, made: &Made, fate: Fate) -> [Step; 2] {
    [Step::Name(name), told(packet, made, fate)]
}

const fn to(server: u8) -> Fate {
    goes(Reason::TxIcmp, server)
}

/// Clients 1 and 2 have a TCP connection and a UDP flow each; client 1 on server 2.
fn case(name: &'static str, steps: impl IntoIterator<Item = Step>) -> Case {
    case_of(name, [tcp(80).rr(2), udp(80).rr(2)], steps)
}

fn case_of<const N: usize>(
    name: &'static str,
    services: [Virtual; N],
    steps: impl IntoIterator<Item = Step>,
) -> Case {
    let scheduled = |n| goes(Reason::TxScheduled, n);
    let mut all = vec![
        send(syn(1), scheduled(2)),
        send(syn(2), scheduled(1)),
        send(datagram(1), scheduled(2)),
        send(datagram(2), scheduled(1)),
    ];
    all.extend(steps);
    Case {
        name,
        tables: tables(services),
        steps: all,
    }
}

#[test]
fn all_errors_go_to_the_server_of_the_connection() {
    let errors = (0..16).map(|code| (3, code));
    let errors = errors.chain([(11, 0), (11, 1), (12, 0), (12, 1), (12, 2)]);
    let steps = errors.flat_map(|(kind, code)| {
        let made = |packet: &Packet| about(packet).kind(kind, code);
        [(syn(1), 2), (syn(2), 1), (datagram(1), 2), (datagram(2), 1)]
            .map(|(packet, server)| told(&packet, &made(&packet), to(server)))
    });
    check(vec![case("every type and code", steps)]);
}

#[test]
fn eight_quoted_octets_are_enough_and_more_do_no_harm() {
    let quotes = [8, 9, 12, 20, 28, 100, 548, 1000];
    let quoted = |packet: Packet, server| {
        quotes.map(move |carried| {
            let made = about(&packet).quote(reply(&packet, carried));
            told(&packet, &made, to(server))
        })
    };
    let short = (0..28).map(|length| {
        let quote = reply(&syn(1), 8)[..length].to_vec();
        told(
            &syn(1),
            &about(&syn(1)).quote(quote),
            stays(Reason::Truncated),
        )
    });
    check(vec![
        case("TCP", quoted(syn(1), 2)),
        case("UDP", quoted(datagram(2), 1)),
        case("fewer are not", short),
    ]);
}

#[test]
fn options_in_either_header_are_stepped_over() {
    let lengths = || (4..=40).step_by(4).map(|length| vec![1; length]);
    let outer = lengths().map(|options| {
        let made = Made {
            options,
            ..about(&syn(1))
        };
        told(&syn(1), &made, to(2))
    });
    let inner = lengths().map(|options| told(&syn(2), &about(&syn(2).options(&options)), to(1)));
    let both = lengths().map(|options| {
        let made = Made {
            options: options.clone(),
            ..about(&datagram(1).options(&options))
        };
        told(&datagram(1), &made, to(2))
    });
    check(vec![
        case("of the error", outer),
        case("of the packet it quotes", inner),
        case("of both", both),
    ]);
}

#[test]
fn who_tells_does_not_matter() {
    let senders = [
        ROUTER,
        *syn(1).from.ip(),
        Ipv4Addr::new(10, 0, 0, 1),
        Ipv4Addr::new(192, 168, 1, 254),
    ];
    let steps = senders.map(|from| {
        let made = Made {
            from,
            ..about(&syn(1))
        };
        told(&syn(1), &made, to(2))
    });
    check(vec![case("routers, and the client itself", steps)]);
}

#[test]
fn every_hop_counts() {
    let of = |ttl| Made {
        ttl,
        ..about(&syn(1))
    };
    let steps = [
        told(&syn(1), &of(255), to(2)),
        told(&syn(1), &of(2), to(2)),
        told(&syn(1), &of(1), stays(Reason::TtlExpired)),
        told(&syn(1), &of(0), stays(Reason::TtlExpired)),
    ];
    check(vec![case("TTL", steps)]);
}

#[test]
fn what_is_no_error_is_the_kernels() {
    let no_errors = (0..=255).filter(|kind| ![3, 11, 12].contains(kind));
    let steps = no_errors.map(|kind| {
        let made = about(&syn(1)).kind(kind, 0);
        told(&syn(1), &made, stays(Reason::Icmp))
    });
    check(vec![case("every other type", steps)]);
}

#[test]
fn what_is_about_nothing_known_is_the_kernels() {
    let unknown = || stays(Reason::IcmpUnknown);
    let tell = |name, packet: Packet, fate| told_that(name, &packet, &about(&packet), fate);
    let quoting = |name, at, octets: &[u8], fate| {
        told_that(name, &syn(1), &about(&syn(1)).over(at, octets), fate)
    };
    let elsewhere = Made {
        to: Ipv4Addr::new(192, 168, 1, 201),
        ..about(&syn(1))
    };
    let steps = [
        tell("another client", syn(3), unknown()),
        tell("another port of the client", syn(1).port(40_001), unknown()),
        tell(
            "another port of the VIP",
            syn(1).to_port(81),
            stays(Reason::NoService),
        ),
        told_that("to another address", &syn(1), &elsewhere, unknown()),
        quoting("about another host", 12, &[192, 168, 1, 201], unknown()),
        quoting("about another client", 16, &[10, 1, 0, 9], unknown()),
        quoting("about ICMP", 9, &[1], unknown()),
        quoting("about SCTP", 9, &[132], unknown()),
        quoting("about a later fragment", 6, &[0, 1], unknown()),
        quoting("about the last fragment", 6, &[0x1f, 0xff], unknown()),
        quoting("about a first fragment", 6, &[0x20, 0], to(2)),
        quoting("IPv6", 0, &[0x65], stays(Reason::Malformed)),
        quoting("no version", 0, &[0x05], stays(Reason::Malformed)),
        quoting("a header too short", 0, &[0x44], stays(Reason::Malformed)),
        quoting("a header too long", 0, &[0x46], stays(Reason::Truncated)),
        quoting("the longest header", 0, &[0x4f], stays(Reason::Truncated)),
    ];
    check(vec![case("quotes", steps.into_iter().flatten())]);
}

#[test]
fn fragments_of_errors_pass() {
    let fragments = [(0, true), (1, true), (100, false)].map(|fragment| {
        let made = Made {
            fragment,
            ..about(&syn(1))
        };
        told(&syn(1), &made, stays(Reason::IcmpFragment))
    });
    check(vec![case("fragments", fragments)]);
}

#[test]
fn an_error_cut_anywhere_is_not_followed() {
    let frame = Made {
        options: vec![1; 8],
        ..about(&syn(1).options(&[1; 4]))
    };
    let frame = frame.bytes();
    let cut = (ETHERNET..frame.len()).map(|length| {
        let cut = frame[..length].to_vec();
        Step::About(syn(1), cut, stays(Reason::Truncated))
    });
    let total = frame.len() - ETHERNET;
    // The IP header's own length, up to the end of the options.
    let shorter = (28..total).map(|length| {
        let mut frame = frame.clone();
        let length = u16::try_from(length).unwrap().to_be_bytes();
        frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&length);
        Step::About(syn(1), frame, stays(Reason::Truncated))
    });
    check(vec![case("cut", cut), case("a shorter length", shorter)]);
}

#[test]
fn an_error_passes_the_gates_that_packets_pass() {
    let from_host = |n, from| Made {
        source: server_mac(n),
        from,
        ..about(&syn(1))
    };
    let not_here = Made {
        destination: [2, 0, 0, 0, 0, 0x77],
        ..about(&syn(1))
    };
    let balanced = || stays(Reason::AlreadyBalanced);
    let tell = |made: &Made, fate| told(&syn(1), made, fate);
    let steps = [
        tell(&not_here, stays(Reason::OtherHost)),
        tell(&from_host(1, ROUTER), balanced()),
        tell(&from_host(2, ROUTER), balanced()),
        tell(&from_host(1, *syn(1).from.ip()), balanced()),
        // A real server may itself be a router of the client.
        tell(&from_host(1, server_ip(1)), to(2)),
        tell(&from_host(3, ROUTER), to(2)),
        Step::Tables(tables([tcp(80).rr(2).inactive(), udp(80).rr(2)])),
        tell(&about(&syn(1)), stays(Reason::NotActive)),
        Step::Tables(tables([tcp(80).rr(2), udp(80).rr(2)])),
        tell(&about(&syn(1)), to(2)),
    ];
    check(vec![case("gates", steps)]);
}

#[test]
fn an_error_goes_the_way_of_its_connection() {
    let tell = |packet: &Packet, fate| told(packet, &about(packet), fate);
    let other_port = [tcp(80).rr(2).elsewhere(2), udp(80).rr(2)];
    let fail = |service: Virtual| service.fail(2);
    check(vec![
        Case {
            name: "behind another port",
            tables: tables(other_port),
            steps: vec![
                send(syn(1), goes(Reason::RedirectScheduled, 2)),
                tell(&syn(1), goes(Reason::RedirectIcmp, 2)),
            ],
        },
        Case {
            name: "the director is the server",
            tables: tables([tcp(80).rr(1).local(1)]),
            steps: vec![
                send(syn(1), stays(Reason::Local).counts(1, true)),
                tell(&syn(1), stays(Reason::Local).counts(1, false)),
            ],
        },
        Case {
            name: "a service of any port",
            tables: tables([tcp(0).rr(1)]),
            steps: vec![
                send(syn(1).to_port(8080), goes(Reason::TxScheduled, 1)),
                tell(&syn(1).to_port(8080), to(1)),
            ],
        },
        case(
            "the server failed",
            [
                Step::Tables(tables([fail(tcp(80).rr(2)), fail(udp(80).rr(2))])),
                tell(&syn(1), stays(Reason::Purged)),
                tell(&datagram(1), stays(Reason::Purged)),
                tell(&syn(2), to(1)),
            ],
        ),
        case(
            "a server of weight 0 keeps its connections",
            [
                Step::Tables(tables([tcp(80).rr(2).weigh(2, 0), udp(80).rr(2)])),
                tell(&syn(1), to(2)),
            ],
        ),
    ]);
}

#[test]
fn without_a_connection_it_goes_where_a_packet_would() {
    let tell = |packet: &Packet, fate| told(packet, &about(packet), fate);
    let other_port = || ack(1).port(50_000);
    check(vec![Case {
        name: "persistence",
        tables: tables([tcp(80).rr(2).persistent(50, 32)]),
        steps: vec![
            tell(&syn(1), stays(Reason::IcmpUnknown)),
            send(syn(1), goes(Reason::TxScheduled, 2)),
            tell(&other_port(), to(2)),
            // It confirms nothing, and nothing is made of it.
            Step::Template(syn(1), 32, Some((Kind::TemplateNew, 2))),
            Step::Connection(other_port(), None),
            Step::Tables(tables([tcp(80).rr(2).persistent(50, 32).release(2)])),
            tell(&other_port(), stays(Reason::IcmpUnknown)),
        ],
    }]);
}

#[test]
fn a_scheduler_that_hashes_knows_the_server_of_an_unknown_connection() {
    in_a_network(|| {
        let hashing = Hashing::default();
        for scheduler in [Scheduler::SourceHash(hashing), Scheduler::Maglev(hashing)] {
            let director = Director::new(&tables([tcp(80).rr(3).by(scheduler)]));
            let mut servers = BTreeSet::new();
            for client in 1..=20 {
                let error = director.send(&about(&syn(client)).bytes());
                assert_eq!(error.action, Action::Tx, "client {client}");
                assert_eq!(director.eyes().ways(&syn(client)), []);
                let packet = director.send(&syn(client).bytes().unwrap());
                assert_eq!(error.frame[..6], packet.frame[..6], "client {client}");
                servers.insert(error.frame[..6].to_vec());
            }
            assert_eq!(servers.len(), 3, "{scheduler:?}");
        }
    });
}

#[test]
fn it_schedules_nothing_and_keeps_nothing_alive() {
    let tell = |packet: &Packet, fate| told(packet, &about(packet), fate);
    check(vec![case(
        "a turn of the scheduler",
        [
            tell(&syn(3), stays(Reason::IcmpUnknown)),
            Step::Connection(syn(3), None),
            send(syn(3), goes(Reason::TxScheduled, 2)),
            tell(&syn(4), stays(Reason::IcmpUnknown)),
            send(syn(4), goes(Reason::TxScheduled, 1)),
            Step::Connection(syn(4), Some((Kind::Syn, 1))),
            tell(&syn(4), to(1)),
            Step::Connection(syn(4), Some((Kind::Syn, 1))),
        ],
    )]);
    in_a_network(|| {
        let mut director = Director::new(&tables([tcp(80).rr(1), udp(80).rr(1)]));
        for packet in [syn(1), datagram(1)] {
            director.send(&packet.bytes().unwrap());
            let (before, then) = (director.eyes().ways(&packet), director.now());
            let passed = || Ok((director.now() != then).then_some(()));
            wait::until("a tick to pass", Duration::from_secs(30), passed).unwrap();
            director.send(&about(&packet).bytes());
            assert_eq!(director.eyes().ways(&packet), before);
            director.send(&packet.bytes().unwrap());
            assert_ne!(director.eyes().ways(&packet), before, "a packet does");
        }
    });
}
