//! What becomes of a connection, packet by packet: the client's half, as IPVS sees it in direct
//! routing.

use xdp_lb_common::addr::{FAMILY_V4, TCP};
use xdp_lb_common::conn::Kind;
use xdp_lb_common::conn::Kind::{Closed, Established, Fin, Syn};
use xdp_lb_common::conn::state::Timeouts;
use xdp_lb_common::reason::Reason;
use xdp_lb_common::tick::Tick;
use xdp_lb_tests::packet::flags::{ACK, FIN, PSH, RST, SYN};
use xdp_lb_tests::packet::{Packet, Transport};

use crate::case::{Case, Fate, Step, check, goes, send, stays};
use crate::director::{Director, in_a_network};
use crate::eyes::flow;
use crate::tables::{
    VIP, Words as _, ack, client_ip, datagram, from_client, syn, tables, tcp, udp,
};

const fn known(server: u8) -> Fate {
    goes(Reason::TxConnection, server)
}

/// A packet of client 1 with these flags.
fn segment(flags: u8) -> Packet {
    from_client(1, Transport::Tcp(flags))
}

/// A connection of client 1: each packet, which its server takes, and what it is afterwards.
fn connection(name: &'static str, segments: &[(u8, Kind)]) -> Case {
    let mut steps = Vec::new();
    for (number, (flags, kind)) in segments.iter().enumerate() {
        let fate = match number {
            0 => goes(Reason::TxScheduled, 2),
            _ => known(2),
        };
        steps.push(send(segment(*flags), fate));
        steps.push(Step::Connection(syn(1), Some((*kind, 2))));
    }
    Case {
        name,
        tables: tables([tcp(80).rr(2)]),
        steps,
    }
}

/// Segments of one connection, and what it is after each.
const LIVES: &[(&str, &[(u8, Kind)])] = &[
    ("opened", &[(SYN, Syn), (ACK, Established)]),
    ("opened late", &[(SYN, Syn), (SYN, Syn), (ACK, Established)]),
    ("opened with data", &[(SYN, Syn), (PSH | ACK, Established)]),
    ("no flag confirms nothing", &[(SYN, Syn), (0, Syn)]),
    (
        "RST before the handshake",
        &[(SYN, Syn), (RST, Syn), (ACK, Established)],
    ),
    ("FIN before the handshake", &[(SYN, Syn), (FIN | ACK, Fin)]),
    ("SYN and FIN together", &[(SYN | FIN, Syn)]),
    (
        "SYN and ACK together",
        &[(SYN | ACK, Syn), (ACK, Established)],
    ),
    (
        "SYN within",
        &[(SYN, Syn), (ACK, Established), (SYN, Established)],
    ),
    (
        "FIN",
        &[
            (SYN, Syn),
            (ACK, Established),
            (FIN | ACK, Fin),
            (ACK, Fin),
            (FIN, Fin),
        ],
    ),
    (
        "RST",
        &[
            (SYN, Syn),
            (ACK, Established),
            (RST | ACK, Closed),
            (RST, Closed),
        ],
    ),
    (
        "RST after FIN",
        &[(SYN, Syn), (FIN | ACK, Fin), (RST, Closed)],
    ),
    (
        "forged RST",
        &[
            (SYN, Syn),
            (ACK, Established),
            (RST, Closed),
            (ACK, Established),
        ],
    ),
    (
        "no flag revives nothing",
        &[(SYN, Syn), (ACK, Established), (RST, Closed), (0, Closed)],
    ),
    (
        "data after the end",
        &[
            (SYN, Syn),
            (FIN, Fin),
            (RST, Closed),
            (PSH | ACK, Established),
        ],
    ),
];

#[test]
fn a_connection_follows_its_client() {
    let lives = LIVES
        .iter()
        .map(|(name, segments)| connection(name, segments));
    check(lives.collect());
}

#[test]
fn a_syn_on_a_closing_connection_is_a_new_one() {
    let anew = |name, last: u8| Case {
        name,
        tables: tables([tcp(80).rr(2)]),
        steps: vec![
            send(syn(1), goes(Reason::TxScheduled, 2)),
            send(ack(1), known(2)),
            send(segment(last), known(2)),
            send(syn(1), goes(Reason::TxScheduled, 1)),
            Step::Connection(syn(1), Some((Syn, 1))),
            send(syn(1), known(1)),
            send(ack(1), known(1)),
        ],
    };
    check(vec![
        anew("after a FIN", FIN | ACK),
        anew("after a RST", RST),
    ]);
}

#[test]
fn only_a_syn_opens_a_connection() {
    let unknown = |flags| send(segment(flags), stays(Reason::NoConnection));
    check(vec![Case {
        name: "packets of no known connection",
        tables: tables([tcp(80).rr(2)]),
        steps: vec![
            unknown(ACK),
            unknown(PSH | ACK),
            unknown(FIN | ACK),
            unknown(RST),
            unknown(SYN | RST),
            unknown(0),
            unknown(0xff),
            Step::Connection(syn(1), None),
            send(syn(1), goes(Reason::TxScheduled, 2)),
            // Every field of the five-tuple counts.
            send(ack(2), stays(Reason::NoConnection)),
            send(ack(1).port(40_001), stays(Reason::NoConnection)),
            send(ack(1), known(2)),
        ],
    }]);
}

#[test]
fn udp_is_confirmed_by_a_second_datagram() {
    check(vec![Case {
        name: "datagrams",
        tables: tables([udp(80).rr(2), tcp(80).rr(2)]),
        steps: vec![
            send(datagram(1), goes(Reason::TxScheduled, 2)),
            Step::Connection(datagram(1), Some((Kind::UdpNew, 2))),
            send(datagram(1), known(2)),
            Step::Connection(datagram(1), Some((Kind::Udp, 2))),
            send(datagram(1), known(2)),
            send(datagram(1).port(40_001), goes(Reason::TxScheduled, 1)),
            // The same addresses and ports by TCP are another connection.
            send(ack(1), stays(Reason::NoConnection)),
        ],
    }]);
}

#[test]
fn an_entry_tells_whose_it_is_and_when_it_came() {
    in_a_network(|| {
        let mut director = Director::new(&tables([udp(80).rr(1), tcp(80).rr(1)]));
        let before = director.now();
        director.send(&syn(7).bytes().unwrap());
        let (info, after) = (director.eyes().info(&syn(7)), director.now());
        let flow = flow(&syn(7));
        assert_eq!(info.client.to_ip(FAMILY_V4), Some(client_ip(7).into()));
        assert_eq!(info.vip.to_ip(FAMILY_V4), Some(VIP.into()));
        assert_eq!(
            (info.client_port_be, info.vip_port_be),
            (flow.client_port_be, flow.vip_port_be)
        );
        assert_eq!((info.protocol, info.family), (TCP, FAMILY_V4));
        assert_eq!(info.service, director.eyes().service(tcp(80).key));
        assert!(
            lies_between(before, Tick(info.created), after),
            "{before:?} {info:?} {after:?}"
        );
    });
}

/// Ticks wrap: they compare by their difference.
const fn lies_between(first: Tick, tick: Tick, last: Tick) -> bool {
    tick.is_past(first) == 0 && last.is_past(tick) == 0
}

/// Each kind lives as long as the options say after its last packet.
#[test]
fn every_packet_starts_the_timeout_of_its_state() {
    in_a_network(|| {
        let lives = Timeouts {
            syn: 60,
            established: 900,
            fin: 120,
            closed: 10,
            udp: 300,
            fragment: 30,
        };
        let mut director = Director::with(&tables([tcp(80).rr(1), udp(80).rr(1)]), |options| {
            options.timeouts = lives;
        });
        let cases = [
            (segment(SYN), lives.syn),
            (segment(ACK), lives.established),
            (segment(FIN | ACK), lives.fin),
            (segment(RST), lives.closed),
            (segment(ACK), lives.established),
            (datagram(1), lives.udp),
            (datagram(1), lives.udp),
        ];
        for (packet, life) in cases {
            let before = director.now();
            director.send(&packet.bytes().unwrap());
            let (state, after) = (director.eyes().ways(&packet)[0], director.now());
            let (earliest, latest) = (before.after(life), after.after(life));
            assert!(
                lies_between(earliest, state.expiry(), latest),
                "{packet:?} {state:?}"
            );
        }
    });
}

/// On the real clock, as the program reads it.
#[test]
fn an_idle_connection_expires() {
    in_a_network(|| {
        let mut director = Director::with(&tables([tcp(80).rr(1)]), |options| {
            options.timeouts.syn = 1;
            options.timeouts.established = 1;
        });
        let reason = |director: &Director, packet: Packet| {
            let before = director.eyes().tally();
            director.send(&packet.bytes().unwrap());
            let tally = director.eyes().tally().since(&before);
            tally.reasons.into_keys().next().unwrap()
        };
        reason(&director, syn(1));
        reason(&director, ack(1));
        let first = director.eyes().ways(&syn(1))[0].expiry();
        while first.is_past(director.now()) == 0 {
            assert_eq!(
                reason(&director, ack(1)),
                Reason::TxConnection,
                "it is kept alive"
            );
        }
        let last = director.eyes().ways(&syn(1))[0].expiry();
        while last.is_past(director.now()) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(reason(&director, ack(1)), Reason::NoConnection);
        assert_eq!(reason(&director, syn(1)), Reason::TxScheduled);
        assert_eq!(
            director.eyes().ways(&syn(1)).len(),
            1,
            "the old way is used again"
        );
    });
}
