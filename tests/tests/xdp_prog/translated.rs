//! What belongs to translated connections beside their packets: ICMP errors about them, in both directions,
//! and their fragments. What must come out is made from what it is about: as the program translates packets,
//! so must it translate quotes and pieces of them.

use etherparse::Ipv4Header;
use xdp_lb::config::model::Tunnel;
use xdp_lb::plan::desired::{Desired, Method};
use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::{ETHERNET, flags};

use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::nat::{answer, at_client, at_server, edited, to_one, web};
use crate::tables::{PORT_MAC, ROUTER_MAC, server_mac, tables, tcp, udp};
use crate::told::{Told, router, told};
use crate::wire::{Wire, ack, client, datagram, on, same, sent, server, syn, vip, with};

/// What a real server sent, from port 8080, as its client got it.
fn got_by_client(asked: &Wire) -> Wire {
    let answer = answer(asked, 8080);
    edited(at_client(&answer, asked), &|w| w.payload = vec![7; 50])
}

/// An error about that, as the real server must get it.
fn at_the_server(told: &Told) -> Told {
    let is_v6 = told.to.is_ipv6();
    let sender = server(is_v6, 1);
    let mut about = told.about.clone();
    about.from = (sender, 8080).into();
    Told {
        to: sender,
        hops: told.hops - 1,
        about,
        source: PORT_MAC,
        destination: server_mac(1),
        ..told.clone()
    }
}

/// What a real server got, on port 8080.
fn got_by_server(asked: &Wire) -> Wire {
    edited(at_server(asked, 8080), &|w| w.payload = vec![7; 50])
}

/// A router behind the director tells of that.
fn told_inside(about: &Wire) -> Told {
    Told {
        source: server_mac(1),
        ..told(about)
    }
}

/// An error about that, as the client must get it.
fn at_the_client(told: &Told) -> Told {
    let is_v6 = told.to.is_ipv6();
    let mut about = told.about.clone();
    about.to = vip(is_v6, 80);
    Told {
        from: vip(is_v6, 80).ip(),
        hops: told.hops - 1,
        about,
        source: PORT_MAC,
        destination: ROUTER_MAC,
        ..told.clone()
    }
}

/// Both transports, with a known connection each.
fn asking(director: &Director, is_v6: bool) -> [Wire; 2] {
    let both = [syn(is_v6, 1), datagram(is_v6, 2)];
    for asked in &both {
        sent(director, "asked", &asked.bytes(), Reason::TxScheduled);
    }
    both.map(|wire| edited(wire, &|w| w.tcp = w.tcp.map(|_| flags::ACK)))
}

/// An error, whatever is quoted in it, however much of it: 2 × 2 × 2 × 60.
fn hold_for_all(inside: bool) {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            for asked in asking(&director, is_v6) {
                let about = if inside {
                    got_by_server(&asked)
                } else {
                    got_by_client(&asked)
                };
                let hold = |what: &str, change: &dyn Fn(&mut Told)| {
                    let mut error = if inside {
                        told_inside(&about)
                    } else {
                        told(&about)
                    };
                    change(&mut error);
                    let (expected, reason) = if inside {
                        (at_the_client(&error), Reason::TxReply)
                    } else {
                        (at_the_server(&error), Reason::TxIcmp)
                    };
                    let came = sent(&director, what, &error.bytes(), reason).frame;
                    same(what, &expected.bytes(), &came);
                };
                // With 17 octets one of the two of TCP's checksum is there, of which nobody can make anything.
                for carried in (8..17).chain(18..30).chain([57, 58, 70]) {
                    hold("so much is quoted", &|t| t.carried = carried);
                    hold("with options", &|t| {
                        (t.carried, t.about.options) = (carried, 8);
                    });
                    hold("without a checksum", &|t| {
                        (t.carried, t.about.unchecked) = (carried, t.about.tcp.is_none());
                    });
                }
                let kinds: &[u8] = if is_v6 { &[1, 2, 3, 4] } else { &[3, 11, 12] };
                for kind in kinds {
                    hold("of any kind", &|t| t.kind = (*kind, 1));
                }
                for hops in [2, 255] {
                    hold("hops", &|t| t.hops = hops);
                    hold("hops of what is quoted", &|t| t.about.hops = hops);
                }
                if !is_v6 {
                    hold("options of its own", &|t| t.options = 12);
                    hold("of both", &|t| (t.options, t.about.options) = (40, 40));
                    hold("fragmentable", &|t| t.about.dont_fragment = false);
                }
            }
        }
    });
}

#[test]
fn an_error_about_an_answer_reaches_the_server_with_what_it_sent_in_it() {
    hold_for_all(false);
}

#[test]
fn an_error_about_a_request_reaches_the_client_with_what_it_sent_in_it() {
    hold_for_all(true);
}

/// The director's clients know the VIP alone, whoever tells.
#[test]
fn the_server_itself_may_tell() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            let [_, asked] = asking(&director, is_v6);
            let error = Told {
                from: server(is_v6, 1),
                kind: if is_v6 { (1, 4) } else { (3, 3) },
                ..told_inside(&got_by_server(&asked))
            };
            let came = sent(
                &director,
                "port unreachable",
                &error.bytes(),
                Reason::TxReply,
            );
            same("port", &at_the_client(&error).bytes(), &came.frame);
        }
    });
}

/// All sums that two octets lead to: none is written as another.
#[test]
fn no_quoted_datagram_loses_its_checksum() {
    in_a_network(|| {
        let mut dice = Dice::new(7);
        for is_v6 in [false, true] {
            let director = Director::new(&web(is_v6));
            let both = asking(&director, is_v6);
            for _ in 0..2000 {
                let word = u16::try_from(dice.roll(1 << 16)).unwrap();
                let last = u8::try_from(dice.roll(256)).unwrap();
                let payload = [word.to_be_bytes(), [3, last]].concat();
                let asked = &both[usize::from(dice.roll(2) == 0)];
                let carried = 18 + usize::try_from(dice.roll(10)).unwrap();
                let client = edited(got_by_client(asked), &|w| w.payload = payload.clone());
                let error = Told {
                    carried,
                    ..told(&client)
                };
                let came = director.send(&error.bytes()).frame;
                same("to the server", &at_the_server(&error).bytes(), &came);
                let server = edited(got_by_server(asked), &|w| w.payload = payload.clone());
                let error = Told {
                    carried,
                    ..told_inside(&server)
                };
                let came = director.send(&error.bytes()).frame;
                same("to the client", &at_the_client(&error).bytes(), &came);
            }
        }
    });
}

#[test]
fn a_port_that_stays_is_not_touched() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let any = to_one(is_v6, tcp(0), 0).persistent(50, if is_v6 { 128 } else { 32 });
            let director = Director::looking(&tables([any]));
            let asked = edited(syn(is_v6, 1), &|w| w.to = vip(is_v6, 21));
            sent(&director, "asked", &asked.bytes(), Reason::TxScheduled);
            let error = told(&at_client(&answer(&asked, 21), &asked));
            let came = sent(&director, "outside", &error.bytes(), Reason::TxIcmp).frame;
            let mut expected = at_the_server(&error);
            expected.about.from.set_port(21);
            same("outside", &expected.bytes(), &came);
            let error = told_inside(&at_server(&asked, 21));
            let came = sent(&director, "inside", &error.bytes(), Reason::TxReply).frame;
            let mut expected = at_the_client(&error);
            expected.about.to.set_port(21);
            same("inside", &expected.bytes(), &came);
        }
    });
}

#[test]
fn errors_about_nothing_known_are_the_kernels() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let mut director = Director::looking(&web(is_v6));
            let [asked, _] = asking(&director, is_v6);
            let outside = |what: &str, reason, change: &dyn Fn(&mut Told)| {
                let mut error = told(&got_by_client(&asked));
                change(&mut error);
                sent(&director, what, &error.bytes(), reason);
            };
            let unknown = Reason::IcmpUnknown;
            outside("a client", unknown, &|t| t.about.to = client(is_v6, 9));
            outside("its port", unknown, &|t| t.about.to.set_port(1));
            outside("who is told", unknown, &|t| t.to = router(is_v6));
            outside("a service", Reason::NoService, &|t| {
                t.about.from.set_port(81);
            });
            outside("hops", Reason::TtlExpired, &|t| t.hops = 1);
            outside("too little", Reason::Truncated, &|t| t.carried = 7);
            outside("another MAC", Reason::OtherHost, &|t| t.destination[5] ^= 1);
            let inside = |what: &str, reason, change: &dyn Fn(&mut Told)| {
                let mut error = told_inside(&got_by_server(&asked));
                change(&mut error);
                sent(&director, what, &error.bytes(), reason);
            };
            let unknown = Reason::NoService;
            inside("a client", unknown, &|t| {
                (t.about.from, t.to) = (client(is_v6, 9), client(is_v6, 9).ip());
            });
            inside("its port", unknown, &|t| t.about.from.set_port(1));
            inside("a server", unknown, &|t| {
                t.about.to.set_ip(server(is_v6, 2));
            });
            inside("its port", unknown, &|t| t.about.to.set_port(80));
            inside("who is told", Reason::IcmpUnknown, &|t| {
                t.to = router(is_v6);
            });
            inside("hops", Reason::TtlExpired, &|t| t.hops = 1);
            inside("too little", Reason::Truncated, &|t| t.carried = 7);
            inside("another MAC", Reason::OtherHost, &|t| t.destination[5] ^= 1);
            inside("no error", Reason::Icmp, &|t| t.kind = (128, 0));
            for error in [
                told(&got_by_client(&asked)),
                told_inside(&got_by_server(&asked)),
            ] {
                let whole = error.bytes();
                for len in ETHERNET..whole.len() {
                    sent(&director, "cut", &whole[..len], Reason::Truncated);
                }
            }
            let error = told_inside(&got_by_server(&asked)).bytes();
            let mut closed = web(is_v6);
            for service in closed.services.values_mut() {
                service.active = false;
            }
            director.set(&closed);
            sent(&director, "the VIP is another's", &error, Reason::NotActive);
            director.set(&failed(is_v6));
            sent(&director, "its server failed", &error, Reason::Purged);
        }
    });
}

fn failed(is_v6: bool) -> Desired {
    let mut failed = web(is_v6);
    for service in failed.services.values_mut() {
        service.servers[0].serving = false;
    }
    failed
}

/// Anybody can send an error, so a connection does not live longer by one.
#[test]
fn an_error_keeps_nothing_alive() {
    in_a_network(|| {
        let mut director = Director::new(&web(false));
        let [asked, _] = asking(&director, false);
        let (before, then) = (director.eyes().all_ways(), director.now());
        while director.now().0.wrapping_sub(then.0) < 2 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        sent(
            &director,
            "outside",
            &told(&got_by_client(&asked)).bytes(),
            Reason::TxIcmp,
        );
        let inside = told_inside(&got_by_server(&asked)).bytes();
        sent(&director, "inside", &inside, Reason::TxReply);
        assert_eq!(director.eyes().all_ways(), before);
    });
}

/// The fragments of a packet, each with so many octets of it.
pub(crate) fn pieces(wire: &Wire, size: usize, id: u16) -> Vec<Vec<u8>> {
    let whole = wire.bytes();
    let (head, carried) = whole.split_at(ETHERNET + wire.headers());
    let chunks: Vec<_> = carried.chunks(size).collect();
    let fragment = |(number, chunk): (usize, &&[u8])| {
        let (offset, more) = (number * size, number + 1 < chunks.len());
        let mut frame = head[..ETHERNET].to_vec();
        if wire.from.is_ipv4() {
            let (mut ip, _) = Ipv4Header::from_slice(&head[ETHERNET..]).unwrap();
            (ip.identification, ip.more_fragments) = (id, more);
            ip.fragment_offset = u16::try_from(offset / 8).unwrap().try_into().unwrap();
            ip.total_len = u16::try_from(wire.headers() + chunk.len()).unwrap();
            ip.header_checksum = ip.calc_header_checksum();
            frame.extend(ip.to_bytes());
        } else {
            let length = u16::try_from(8 + chunk.len()).unwrap().to_be_bytes();
            let next = head[ETHERNET + 6];
            frame.extend(&head[ETHERNET..]);
            frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&length);
            frame[ETHERNET + 6] = 44;
            let place = (u16::try_from(offset).unwrap() | u16::from(more)).to_be_bytes();
            frame.extend([next, 0, place[0], place[1], 0, 1]);
            frame.extend(id.to_be_bytes());
        }
        frame.extend_from_slice(chunk);
        frame
    };
    chunks.iter().enumerate().map(fragment).collect()
}

fn long(wire: Wire) -> Wire {
    edited(wire, &|w| {
        w.payload = (0..=255).cycle().take(1003).collect();
        w.dont_fragment = false;
    })
}

/// Sends all pieces of a packet, of which the first leaves for a reason and the others for another.
fn all_sent(
    director: &Director,
    what: &str,
    (came, expected): (&Wire, &Wire),
    (first, later): (Reason, Reason),
) {
    for (size, id) in [(400, 7), (24, 8), (1000, 9)] {
        let both = pieces(came, size, id)
            .into_iter()
            .zip(pieces(expected, size, id));
        for (number, (came, expected)) in both.enumerate() {
            let reason = if number == 0 { first } else { later };
            let what = format!("{what}, piece {number} of {size}");
            let outcome = sent(director, &what, &came, reason);
            same(&what, &expected, &outcome.frame);
        }
    }
}

#[test]
fn fragments_are_translated_both_ways() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            for asked in [ack(is_v6, 1), datagram(is_v6, 2)] {
                let opens = Wire {
                    tcp: asked.tcp.map(|_| flags::SYN),
                    ..asked.clone()
                };
                sent(&director, "asked", &opens.bytes(), Reason::TxScheduled);
                let asked = long(asked);
                let reasons = (Reason::TxConnection, Reason::TxFragment);
                let there = (&asked, &at_server(&asked, 8080));
                all_sent(&director, "to the server", there, reasons);
                let answer = long(answer(&asked, 8080));
                let back = (&answer, &at_client(&answer, &asked));
                all_sent(&director, "back", back, (Reason::TxReply, Reason::TxReply));
                let unchecked = edited(answer.clone(), &|w| w.unchecked = w.tcp.is_none());
                let back = (&unchecked, &at_client(&unchecked, &asked));
                all_sent(&director, "back", back, (Reason::TxReply, Reason::TxReply));
            }
            // The first packet of a connection comes in pieces.
            let asked = long(datagram(is_v6, 3));
            let (came, expected) = (
                pieces(&asked, 600, 3),
                pieces(&at_server(&asked, 8080), 600, 3),
            );
            for (at, reason) in [Reason::TxScheduled, Reason::TxFragment]
                .into_iter()
                .enumerate()
            {
                let frame = sent(&director, "opened", &came[at], reason).frame;
                same("opened", &expected[at], &frame);
            }
        }
    });
}

#[test]
fn fragments_without_a_first_one_pass() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let mut director = Director::looking(&web(is_v6));
            let asked = long(datagram(is_v6, 2));
            let there = pieces(&asked, 400, 7);
            let back = pieces(&long(answer(&asked, 8080)), 400, 7);
            sent(&director, "too early", &there[1], Reason::Fragment);
            sent(&director, "to nobody", &back[0], Reason::NoService);
            sent(&director, "to nobody", &back[1], Reason::Fragment);
            sent(&director, "asked", &there[0], Reason::TxScheduled);
            sent(&director, "too early", &back[1], Reason::Fragment);
            sent(&director, "answered", &back[0], Reason::TxReply);
            sent(&director, "answered", &back[2], Reason::TxReply);
            let other = pieces(&long(answer(&asked, 8080)), 400, 8);
            sent(&director, "another's", &other[1], Reason::Fragment);
            let mut last = back[1].clone();
            last[0] ^= 4;
            sent(&director, "another MAC", &last, Reason::OtherHost);
            director.set(&failed(is_v6));
            sent(&director, "its server failed", &there[1], Reason::Purged);
            sent(&director, "its server failed", &back[1], Reason::Purged);
            // Last, as what is kept of a first fragment lives for half a minute, and these are many.
            for frame in [&there[0], &there[1], &back[0], &back[1]] {
                for len in ETHERNET..frame.len() {
                    sent(&director, "cut", &frame[..len], Reason::Truncated);
                }
            }
        }
    });
}

/// As of packets to a service: without its flags nobody knows what a segment does.
#[test]
fn a_reply_whose_tcp_header_is_split_is_dropped() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            let [asked, _] = asking(&director, is_v6);
            let answer = long(answer(&asked, 8080));
            for size in [8, 16] {
                let tiny = &pieces(&answer, size, 7)[0];
                sent(&director, "split", tiny, Reason::FragmentTiny);
            }
        }
    });
}

/// It has the ports; a later one has nothing to know its connection by.
#[test]
fn errors_about_first_fragments_are_translated() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let director = Director::looking(&web(is_v6));
            for asked in asking(&director, is_v6) {
                let hold = |what: &str, (came, wanted): (Told, Told), reason| {
                    let quote = |told: &Told, at: usize| {
                        pieces(&long(told.about.clone()), 400, 7)[at][ETHERNET..].to_vec()
                    };
                    let frame = came.quoting(&quote(&came, 0));
                    let outcome = sent(&director, what, &frame, reason);
                    let expected = wanted.quoting(&quote(&wanted, 0));
                    same(what, &expected, &outcome.frame);
                    let later = came.quoting(&quote(&came, 1));
                    sent(&director, what, &later, Reason::IcmpUnknown);
                };
                let outside = told(&got_by_client(&asked));
                let wanted = at_the_server(&outside);
                hold("outside", (outside, wanted), Reason::TxIcmp);
                let inside = told_inside(&got_by_server(&asked));
                let wanted = at_the_client(&inside);
                hold("inside", (inside, wanted), Reason::TxReply);
            }
        }
    });
}

#[test]
fn fragments_in_a_tunnel_are_counted_as_such() {
    in_a_network(|| {
        for is_v6 in [false, true] {
            let method = Method::Tunnel(Tunnel::Ipip, server(is_v6, 250));
            let address = (server(is_v6, 1), 80).into();
            let made = with(on(is_v6, udp(80)), 1, address, method);
            let director = Director::looking(&tables([made]));
            let header = if is_v6 { 40 } else { 20 };
            for (number, piece) in pieces(&long(datagram(is_v6, 1)), 400, 7).iter().enumerate() {
                let reason = match number {
                    0 => Reason::TxScheduled,
                    _ => Reason::TxFragment,
                };
                let came = sent(&director, "a piece", piece, reason).frame;
                assert_eq!(came.len(), piece.len() + header);
                // All but the hops, and the checksum over them, is as it was.
                let carried = &came[ETHERNET + header..];
                assert_eq!(carried[header..], piece[ETHERNET + header..], "{number}");
            }
        }
    });
}
