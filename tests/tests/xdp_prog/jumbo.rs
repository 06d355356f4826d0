//! Frames longer than a page, of which the program sees the beginning; and a program that takes none.

use xdp_lb_common::reason::Reason;
use xdp_lb_tests::packet::{ETHERNET, Packet, compare, forwarded};
use xdp_lb_tests::program::{Action, Outcome};

use crate::director::{Director, in_a_network};
use crate::ipv6;
use crate::tables::{PORT_MAC, Words as _, ack, datagram, server_mac, syn, tables, tcp, udp};

/// Longer than a page, which is more than a driver hands over in one buffer.
const LENGTHS: [usize; 4] = [3000, 4100, 8900, 20_000];

fn of(packet: Packet, length: usize) -> Vec<u8> {
    packet.payload(&vec![7; length]).bytes().unwrap()
}

fn sent(director: &Director, frame: &[u8], reason: Reason) -> Outcome {
    let before = director.eyes().tally();
    let outcome = director.send(frame);
    let tally = director.eyes().tally().since(&before);
    assert_eq!(tally.of(reason), 1, "{} octets: {tally:?}", frame.len());
    outcome
}

#[test]
fn long_frames_are_balanced_whole() {
    in_a_network(|| {
        let director = Director::new(&tables([
            tcp(80).rr(1),
            udp(80).rr(1),
            ipv6::over_v6(tcp(80), 1),
        ]));
        director.send(&syn(1).bytes().unwrap());
        for length in LENGTHS {
            let known = [of(ack(1), length), of(ack(1).options(&[1; 12]), length)];
            for frame in known {
                let outcome = sent(&director, &frame, Reason::TxConnection);
                assert_eq!(outcome.action, Action::Tx);
                let expected = forwarded(&frame, PORT_MAC, server_mac(1)).unwrap();
                let difference = compare(&expected[..200], &outcome.frame[..200]);
                assert!(outcome.frame == expected, "{difference}");
            }
            let client = u32::try_from(length).unwrap();
            let new = of(datagram(client), length);
            assert_eq!(
                sent(&director, &new, Reason::TxScheduled).action,
                Action::Tx
            );
            let first = of(datagram(1), length - length % 8).len();
            let first = of(datagram(1).fragment(0, true), first - 42);
            let known = if length == LENGTHS[0] {
                Reason::TxScheduled
            } else {
                Reason::TxConnection
            };
            sent(&director, &first, known);
            let last = of(datagram(1).fragment(1000, false), length);
            sent(&director, &last, Reason::TxFragment);
        }
    });
}

#[test]
fn a_long_frame_that_lacks_its_end_passes() {
    in_a_network(|| {
        let director = Director::new(&tables([tcp(80).rr(1)]));
        let frame = of(syn(1), 8000);
        for length in [5000, 7999, frame.len() - 1] {
            let outcome = sent(&director, &frame[..length], Reason::Truncated);
            assert_eq!(outcome.action, Action::Pass);
            assert!(outcome.frame == frame[..length]);
        }
        // The IP header tells where the packet ends; what is behind is padding.
        let mut padded = frame.clone();
        padded.resize(frame.len() + 3000, 0);
        let outcome = sent(&director, &padded, Reason::TxScheduled);
        assert_eq!(outcome.frame.len(), padded.len());
        assert_eq!(outcome.frame[ETHERNET + 8], 63);
    });
}

/// As on a kernel before 5.18.
#[test]
fn a_program_that_takes_frames_in_one_buffer_balances_them() {
    in_a_network(|| {
        let mut director = Director::with(&tables([tcp(80).rr(1), udp(80).rr(1)]), |options| {
            options.whole_frames = true;
        });
        sent(&director, &of(syn(1), 3000), Reason::TxScheduled);
        sent(&director, &of(ack(1), 1400), Reason::TxConnection);
        sent(
            &director,
            &of(datagram(1).fragment(0, true), 1400),
            Reason::TxScheduled,
        );
        let cut = of(ack(1), 3000);
        sent(&director, &cut[..2000], Reason::Truncated);
        // Of a driver it would get none; the kernel's test run gives it the beginning.
        sent(&director, &of(ack(1), 8000), Reason::Truncated);
        director.restart(&tables([tcp(80).rr(1)]));
        sent(&director, &of(ack(1), 1400), Reason::TxConnection);
    });
}
