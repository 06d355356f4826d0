//! Frames of every length, and what is hardly a frame: they pass, are sent or are dropped by a named
//! reason. The kernel itself refuses a program that reads beyond a frame; what could still go wrong is
//! what it decides, what it writes, and whether it counts.
//!
//! The shortest frame is one of 14 octets, an Ethernet header. The kernel runs no program on less, in
//! a test run as in a driver; and a packet socket refuses to send less, so a veth brings none either.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use xdp_lb_common::reason::{Reason, Verdict};
use xdp_lb_tests::packet::{ETHERNET, Packet, Transport, show};
use xdp_lb_tests::program::{Action, Outcome, SHORTEST};

use crate::dice::Dice;
use crate::director::{Director, in_a_network};
use crate::eyes::Tally;
use crate::tables::{
    OTHER_PORT_MAC, PORT, PORT_MAC, ROUTER_MAC, Words as _, ack, datagram, from_client, server_mac,
    syn, tables, tcp, udp,
};

/// Frames of every kind that the program tells apart.
fn specimens() -> Vec<(&'static str, Vec<u8>)> {
    let packets = [
        ("SYN", syn(1)),
        (
            "SYN with IP options",
            syn(2).options(&[1; 12]).payload(b"data"),
        ),
        ("SYN with the longest IP options", syn(3).options(&[1; 40])),
        ("ACK with data", ack(1).payload(&[7; 200])),
        ("datagram", datagram(1).payload(b"data")),
        ("datagram with IP options", datagram(2).options(&[1; 4])),
        ("datagram, padded", datagram(3).cut(60)),
        ("ping", from_client(1, Transport::Ping).payload(b"data")),
        (
            "first fragment",
            datagram(1).payload(&[7; 64]).fragment(0, true),
        ),
        ("fragment", datagram(1).payload(&[7; 64]).fragment(8, true)),
        (
            "first fragment of TCP",
            syn(5).payload(&[7; 4]).fragment(0, true),
        ),
        ("from a real server", syn(4).source_mac(server_mac(1))),
        ("TTL used up", ack(1).ttl(1)),
    ];
    packets
        .into_iter()
        .map(|(name, packet)| (name, packet.bytes().unwrap()))
        .collect()
}

/// TCP by persistence, UDP partly through the other port: every part of the program can be reached.
fn director() -> Director {
    Director::new(&tables([
        tcp(80).wrr(&[2, 1]).persistent(50, 24),
        udp(80).rr(2).elsewhere(2),
        tcp(81).rr(2).local(1),
    ]))
}

/// Runs frames and holds each against what is true of all.
struct Trial {
    director: Director,
    before: Tally,
    actions: BTreeMap<&'static str, u64>,
}

impl Trial {
    fn new() -> Self {
        let director = director();
        let before = director.eyes().tally();
        Self {
            director,
            before,
            actions: BTreeMap::new(),
        }
    }

    fn run(&mut self, frame: &[u8], told: impl FnOnce() -> String) -> Action {
        let outcome = self.director.program().run(frame, PORT).unwrap();
        let fault = fault(frame, &outcome);
        assert!(
            fault.is_none(),
            "{}: {}\ncame: {}\nwent: {:?} {}",
            told(),
            fault.unwrap_or_default(),
            show(frame),
            outcome.action,
            show(&outcome.frame)
        );
        *self.actions.entry(name(outcome.action)).or_default() += 1;
        outcome.action
    }

    /// Every frame was counted once, under a reason that means what became of it.
    fn finish(self) -> Tally {
        let tally = self.director.eyes().tally().since(&self.before);
        let mut by_reason = BTreeMap::new();
        for (reason, count) in &tally.reasons {
            let action = match reason.verdict() {
                Verdict::Pass => Action::Pass,
                Verdict::Tx => Action::Tx,
                Verdict::Redirect => Action::Redirect,
                Verdict::Drop => Action::Drop,
            };
            *by_reason.entry(name(action)).or_default() += count;
        }
        assert_eq!(self.actions, by_reason, "{:?}", tally.reasons);
        assert_eq!(
            tally.of(Reason::Inconsistent),
            0,
            "the tables do not contradict each other"
        );
        assert_eq!(tally.of(Reason::RedirectFailed), 0);
        tally
    }
}

const fn name(action: Action) -> &'static str {
    match action {
        Action::Aborted => "aborted",
        Action::Drop => "drop",
        Action::Pass => "pass",
        Action::Tx => "tx",
        Action::Redirect => "redirect",
    }
}

/// What is wrong with what became of a frame.
fn fault(came: &[u8], outcome: &Outcome) -> Option<String> {
    let went = &outcome.frame;
    let untouched = || (went != came).then(|| "it was not to be touched".to_owned());
    match outcome.action {
        Action::Pass | Action::Drop => untouched(),
        Action::Tx => fault_of_sent(came, went, PORT_MAC),
        Action::Redirect => fault_of_sent(came, went, OTHER_PORT_MAC),
        Action::Aborted => Some("the program failed".to_owned()),
    }
}

/// A frame that is sent has other MACs, those of this director and of one of its servers, one hop
/// less, and a checksum that is as right or wrong as it was; all else is as it came.
fn fault_of_sent(came: &[u8], went: &[u8], source: [u8; 6]) -> Option<String> {
    let (ttl, checksum) = (ETHERNET + 8, ETHERNET + 10..ETHERNET + 12);
    if came.len() != went.len() || came.len() < ETHERNET + 20 {
        return Some(format!("{} octets became {}", came.len(), went.len()));
    }
    let kept = |at: &usize| *at < 12 || *at == ttl || checksum.contains(at);
    if let Some(at) = (0..came.len()).find(|at| !kept(at) && came[*at] != went[*at]) {
        return Some(format!("octet {at} changed"));
    }
    let to_server = (1..=2).any(|n| went.starts_with(&server_mac(n)));
    if !to_server || went[6..12] != source {
        return Some("these MACs are not those of a director and its server".to_owned());
    }
    if Some(went[ttl]) != came[ttl].checked_sub(1) || went[ttl] == 0 {
        return Some(format!("TTL {} became {}", came[ttl], went[ttl]));
    }
    (error_of_checksum(came) != error_of_checksum(went)).then(|| "the checksum".to_owned())
}

/// The ones' complement sum of a whole header: 0 if its checksum is right, else by how much it is off.
fn error_of_checksum(frame: &[u8]) -> u16 {
    let header = usize::from(frame[ETHERNET] & 0xf) * 4;
    let words = frame[ETHERNET..ETHERNET + header].chunks(2);
    let sum: u32 = words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from(0xffff - (folded & 0xffff) - (folded >> 16)).unwrap()
}

#[test]
fn the_kernel_runs_nothing_on_less_than_an_ethernet_header() {
    in_a_network(|| {
        let director = director();
        let frame = syn(1).bytes().unwrap();
        for length in 0..SHORTEST {
            assert!(
                director.program().run(&frame[..length], PORT).is_err(),
                "{length} octets"
            );
        }
        assert_eq!(director.send(&frame[..SHORTEST]).action, Action::Pass);
    });
}

#[test]
fn frames_cut_at_every_length_pass_or_are_balanced_whole() {
    in_a_network(|| {
        let mut trial = Trial::new();
        for (name, frame) in specimens() {
            let packet = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            for length in SHORTEST..=frame.len() {
                let action = trial.run(&frame[..length], || format!("{name} cut at {length}"));
                // Less than the packet is nothing to balance; what follows it is mere padding.
                let whole = length >= ETHERNET + packet;
                assert!(
                    whole || action == Action::Pass,
                    "{name} cut at {length}: {action:?}"
                );
            }
        }
        let tally = trial.finish();
        assert!(tally.of(Reason::Truncated) > 500, "{:?}", tally.reasons);
        assert!(tally.of(Reason::TxScheduled) > 0 && tally.of(Reason::RedirectScheduled) > 0);
    });
}

/// Whatever the length that the headers claim, in frames of whatever length.
#[test]
fn lengths_that_headers_claim_are_not_believed() {
    in_a_network(|| {
        let mut trial = Trial::new();
        for (name, frame) in specimens() {
            for first in 0..=255 {
                for claimed in (0..=u16::try_from(frame.len()).unwrap()).chain([0x7fff, 0xffff]) {
                    // Version and header length in full only where they matter.
                    if first >> 4 != 4 && claimed % 16 != 0 {
                        continue;
                    }
                    let mut frame = frame.clone();
                    frame[ETHERNET] = first;
                    frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&claimed.to_be_bytes());
                    trial.run(&frame, || format!("{name}, {first:#x}, claims {claimed}"));
                }
            }
        }
        let tally = trial.finish();
        assert!(tally.of(Reason::Malformed) > 1000 && tally.of(Reason::Truncated) > 1000);
    });
}

#[test]
fn a_frame_with_any_octet_changed_is_still_dealt_with() {
    in_a_network(|| {
        let mut trial = Trial::new();
        for (name, frame) in specimens() {
            // Headers octet by octet; of the payload a few octets stand for all.
            for at in 0..frame.len().min(100) {
                let was = frame[at];
                let bits = (0..8).map(|bit| was ^ 1 << bit);
                for value in bits.chain([0, 0xff, was.wrapping_add(1), was.wrapping_sub(1), !was]) {
                    let mut frame = frame.clone();
                    frame[at] = value;
                    trial.run(&frame, || format!("{name}, octet {at} is {value:#x}"));
                }
            }
        }
        trial.finish();
    });
}

/// Frames put together at random, by a seed that a failure names: whole flows, broken headers, cuts.
#[test]
fn random_frames_are_dealt_with() {
    const SEED: u64 = 0x5eed_0001;
    /// A slow machine makes fewer, but never fewer than the least.
    const TIME: Duration = Duration::from_secs(5);
    const LEAST: u64 = 100_000;
    const MOST: u64 = 300_000;
    in_a_network(|| {
        let mut trial = Trial::new();
        let (mut dice, begin, mut made) = (Dice::new(SEED), Instant::now(), 0);
        while made < LEAST || (made < MOST && begin.elapsed() < TIME) {
            let frame = random_frame(&mut dice);
            trial.run(&frame, || format!("seed {SEED:#x}, frame {made}"));
            made += 1;
        }
        let tally = trial.finish();
        assert_eq!(tally.packets(), made);
        // It reached what there is to reach.
        let rare = [
            Reason::OtherHost,
            Reason::NoConnection,
            Reason::Local,
            Reason::TxTimeExceeded,
            Reason::AlreadyBalanced,
            Reason::TxConnection,
            Reason::TxScheduled,
            Reason::TxPersistent,
            Reason::RedirectConnection,
            Reason::RedirectScheduled,
        ];
        let missed: Vec<_> = rare
            .iter()
            .filter(|reason| tally.of(**reason) == 0)
            .collect();
        assert!(
            missed.is_empty(),
            "never seen: {missed:?} of {:?}",
            tally.reasons
        );
    });
}

fn random_frame(dice: &mut Dice) -> Vec<u8> {
    let mut frame = random_packet(dice).bytes().unwrap();
    // Half of all frames are sound.
    if dice.roll(2) == 0 {
        for _ in 0..=dice.roll(3) {
            let at = usize::try_from(dice.roll(frame.len() as u64)).unwrap();
            frame[at] = u8::try_from(dice.roll(256)).unwrap();
        }
    }
    if dice.roll(8) == 0 {
        let cut = dice.roll((frame.len() - SHORTEST) as u64 + 1);
        frame.truncate(SHORTEST + usize::try_from(cut).unwrap());
    }
    frame
}

/// Of few clients and ports, so that flows meet again.
fn random_packet(dice: &mut Dice) -> Packet {
    let transport = match dice.roll(8) {
        0 => Transport::Ping,
        1..=3 => Transport::Udp,
        _ => Transport::Tcp(u8::try_from(dice.roll(32)).unwrap()),
    };
    let client = u32::try_from(dice.roll(2000)).unwrap();
    let mut packet =
        from_client(client, transport).port(40_000 + u16::try_from(dice.roll(4)).unwrap());
    packet
        .to
        .set_port(80 + u16::try_from(dice.roll(3)).unwrap());
    packet.ttl = u8::try_from(dice.roll(6)).unwrap() * 32;
    packet.options = vec![1; usize::try_from(dice.roll(11)).unwrap() * 4];
    packet.payload = vec![7; usize::try_from(dice.roll(100)).unwrap()];
    packet.source = match dice.roll(10) {
        0 => server_mac(1),
        1 => server_mac(2),
        _ => ROUTER_MAC,
    };
    if dice.roll(20) == 0 {
        packet.destination = [2, 0, 0, 0, 0, 0x77];
    }
    if dice.roll(20) == 0 {
        packet.fragment = (u16::try_from(dice.roll(100) / 2).unwrap(), true);
    }
    packet
}
