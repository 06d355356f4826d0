//! Answers of real servers whose addresses are translated, where no route leads to the client: into the
//! network that the client's packets come from, if they have hops left and are not too long for it.

use std::net::IpAddr;

use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::flags;

use crate::answers::{Said, error, of_length};
use crate::director::{Director, in_a_network};
use crate::nat::{answer, at_client, at_server, edited, to_one, web};
use crate::tables::{OTHER_PORT, OTHER_PORT_MAC, PORT_MAC, direct, tables, tcp};
use crate::translated::pieces;
use crate::vlan::{TEN, TWENTY, TWENTY_MAC, TWO, networks, tagged};
use crate::wire::{Wire, ack, datagram, same, sent, sent_by, server, syn, vip};

/// What a server is told about its answer, from the VIP.
fn told(frame: &[u8], is_v6: bool, said: Said) -> Vec<u8> {
    let ends: (IpAddr, IpAddr) = (vip(is_v6, 0).ip(), server(is_v6, 1));
    error(frame, ends, said)
}

/// The server's network has no tags; the client's has, and gets them back until the client's packets come
/// without.
#[test]
fn an_answer_goes_back_into_the_network_of_the_client() {
    in_a_network(|| {
        for (tags, mac) in [(TEN.1, PORT_MAC), (TWENTY.1, TWENTY_MAC), (TWO.1, PORT_MAC)] {
            for is_v6 in [false, true] {
                let director = Director::looking(&networks([to_one(is_v6, tcp(80), 8080)]));
                let asked = Wire {
                    destination: mac,
                    ..syn(is_v6, 1)
                };
                let came = tagged(&asked.bytes(), tags);
                let there = sent(&director, "asked", &came, Reason::TxScheduled).frame;
                same("asked", &at_server(&asked, 8080).bytes(), &there);
                let answer = answer(&syn(is_v6, 1), 8080);
                let back = sent(&director, "back", &answer.bytes(), Reason::TxReply).frame;
                let expected = Wire {
                    source: mac,
                    ..at_client(&answer, &asked)
                };
                same("back", &tagged(&expected.bytes(), tags), &back);
                let plain = Wire {
                    tcp: Some(flags::ACK),
                    ..syn(is_v6, 1)
                };
                // What comes without tags was never in that network.
                sent(&director, "moved", &plain.bytes(), Reason::TxConnection);
                let back = sent(&director, "moved", &answer.bytes(), Reason::TxReply).frame;
                same("moved", &at_client(&answer, &plain).bytes(), &back);
            }
        }
    });
}

/// As IPVS's host tells it, but from the VIP. What has no hop left and is too long has no hop left.
#[test]
fn a_server_is_told_that_its_answer_has_no_hop_left() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            sent(
                &director,
                "asked",
                &syn(is_v6, 1).bytes(),
                Reason::TxScheduled,
            );
            for hops in [0, 1] {
                let last = edited(answer(&syn(is_v6, 1), 8080), &|w| w.hops = hops);
                let frame = last.bytes();
                let got = sent(&director, "the last hop", &frame, Reason::TxTimeExceeded);
                same(
                    "the last hop",
                    &told(&frame, is_v6, Said::TimeExceeded),
                    &got.frame,
                );
            }
            let asked = datagram(is_v6, 2);
            sent(&director, "asked", &asked.bytes(), Reason::TxScheduled);
            let last = edited(of_length(&answer(&asked, 8080), 1000), &|w| w.hops = 1);
            let pieces = pieces(&last, 400, 7);
            let got = sent(&director, "first", &pieces[0], Reason::TxTimeExceeded);
            same(
                "first",
                &told(&pieces[0], is_v6, Said::TimeExceeded),
                &got.frame,
            );
            // Nobody is told about later ones.
            sent(&director, "later", &pieces[1], Reason::TtlExpired);
        }
    });
}

#[test]
fn a_server_is_told_that_its_answer_is_too_long_for_the_way_back() {
    in_a_network(|| {
        crate::answers::ip(&["link", "set", "in", "mtu", "1400"]);
        for is_v6 in [false, true] {
            let mut made = to_one(is_v6, tcp(80), 8080);
            made.service.servers[0].reach = Some(direct(1, OTHER_PORT));
            let mut wanted = tables([made]);
            wanted.ports.values_mut().for_each(|port| port.mtu = 1400);
            wanted.ports.get_mut(&OTHER_PORT).unwrap().mtu = 1500;
            let director = Director::looking(&wanted);
            sent(
                &director,
                "asked",
                &syn(is_v6, 1).bytes(),
                Reason::RedirectScheduled,
            );
            let of = |len, hops| {
                let answer = Wire {
                    hops,
                    destination: OTHER_PORT_MAC,
                    ..answer(&ack(is_v6, 1), 8080)
                };
                of_length(&answer, len).bytes()
            };
            let back = |what: &str, frame: &[u8], reason| {
                sent_by(&director, what, (frame, OTHER_PORT), reason).frame
            };
            back("fits", &of(1400, 64), Reason::RedirectReply);
            for len in [1401, 1500] {
                let long = of(len, 64);
                let got = back("long", &long, Reason::TxTooBig);
                same("long", &told(&long, is_v6, Said::TooBig(1400)), &got);
            }
            // It was never on the wire: segments that offloading put together.
            back("joined", &of(1501, 64), Reason::RedirectReply);
            back("no hop either", &of(1500, 1), Reason::TxTimeExceeded);
        }
    });
}
