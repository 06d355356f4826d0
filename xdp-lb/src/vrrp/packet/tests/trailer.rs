//! The vectors of the HMAC draft, and what is refused of them when they are changed.

use std::net::IpAddr;
use std::time::Duration;

use super::super::hmac::{Authenticator, Mode, Secret, Settings};
use super::super::message::decode;
use super::super::*;
use crate::vrrp::Wall;
use crate::vrrp::testing::hex;

pub(super) fn authenticator(mode: Mode) -> Authenticator {
    let secret = Secret::new((0..0x20).collect()).unwrap();
    let old = Secret::new(vec![7; 32]).unwrap();
    let keys = [(1, secret), (2, old)].into();
    let send_key = 1;
    Authenticator::new(Settings {
        mode,
        send_key,
        keys,
    })
}

/// The draft's clock: 0x68000000 and a half.
const THEN: Wall = Wall(Duration::new(0x6800_0000, 500_000_000));
const SECOND: Interval = Interval(100);

fn vector_v4() -> Datagram {
    Datagram {
        source: IpAddr::from([198, 51, 100, 10]),
        destination: IpAddr::from([224, 0, 0, 18]),
        hops: HOPS,
        message: hex(
            "3133c80100644402 c0000264 01010000 6800000080000000 1b84bc4e8e43892dc6d98448f8ee2265",
        ),
    }
}

pub(super) fn verify(
    authenticator: &mut Authenticator,
    datagram: &Datagram,
    wall: Wall,
) -> Result<(), Refusal> {
    let trailer = decode(datagram)?.trailer;
    authenticator.verify(&datagram.message, trailer, datagram.source, SECOND, wall)
}

#[test]
fn the_vectors_of_the_hmac_draft_are_verified_and_made() {
    let datagram = vector_v4();
    assert_eq!(
        verify(&mut authenticator(Mode::Enforce), &datagram, THEN),
        Ok(())
    );
    let mut made = datagram.message[..12].to_vec();
    authenticator(Mode::Permissive).seal(&mut made, datagram.source, THEN);
    assert_eq!(made, datagram.message);

    let source: IpAddr = "fe80::10".parse().unwrap();
    let vector = hex(
        "3133c8010064a2e9 fe800000000000000000000000000100 01010000 6800000080000000 c8c56146ebfd66ee10ec4d8186461b78",
    );
    let mut made = vector[..24].to_vec();
    authenticator(Mode::Enforce).seal(&mut made, source, THEN);
    assert_eq!(made, vector);
}

#[test]
fn an_hmac_is_refused_when_it_is_wrong_replayed_old_or_of_no_known_key() {
    let datagram = vector_v4();
    for at in 24..40 {
        let mut forged = datagram.clone();
        forged.message[at] ^= 0x80;
        let got = verify(&mut authenticator(Mode::ReceiveOnly), &forged, THEN);
        assert_eq!(got, Err(Refusal::HmacDigest), "byte {at}");
    }
    let mut moved = datagram.clone();
    moved.source = IpAddr::from([198, 51, 100, 11]);
    let got = verify(&mut authenticator(Mode::Permissive), &moved, THEN);
    assert_eq!(
        got,
        Err(Refusal::HmacDigest),
        "the sender's address is covered"
    );
    for (at, value, reason) in [
        (12, 2, Refusal::HmacType { got: 2 }),
        (13, 9, Refusal::HmacKey { id: 9 }),
        (13, 2, Refusal::HmacDigest),
    ] {
        let mut other = datagram.clone();
        other.message[at] = value;
        assert_eq!(
            verify(&mut authenticator(Mode::Permissive), &other, THEN),
            Err(reason)
        );
    }
    let mut receiver = authenticator(Mode::Enforce);
    assert_eq!(verify(&mut receiver, &datagram, THEN), Ok(()));
    assert_eq!(
        verify(&mut receiver, &datagram, THEN),
        Err(Refusal::HmacReplay)
    );
    for (seconds, fresh) in [(5, true), (6, false)] {
        let off = Duration::from_secs(seconds);
        for wall in [Wall(THEN.0 + off), Wall(THEN.0.saturating_sub(off))] {
            let got = verify(&mut authenticator(Mode::Enforce), &datagram, wall);
            let want = if fresh {
                Ok(())
            } else {
                Err(Refusal::HmacStale { off })
            };
            assert_eq!(got, want, "{seconds} s");
        }
    }
}

#[test]
fn only_enforce_refuses_what_has_no_hmac_and_receive_only_sends_none() {
    let mut datagram = vector_v4();
    datagram.message.truncate(12);
    let bare = datagram.message.clone();
    for (mode, accepted, sealed) in [
        (Mode::ReceiveOnly, Ok(()), 12),
        (Mode::Permissive, Ok(()), 40),
        (Mode::Enforce, Err(Refusal::HmacMissing), 40),
    ] {
        let mut authenticator = authenticator(mode);
        assert_eq!(
            verify(&mut authenticator, &datagram, THEN),
            accepted,
            "{mode:?}"
        );
        let mut message = bare.clone();
        authenticator.seal(&mut message, datagram.source, THEN);
        assert_eq!(message.len(), sealed, "{mode:?}");
    }
}

#[test]
fn stamps_grow_although_the_clock_stands_or_goes_back_and_keys_rotate() {
    let mut sender = authenticator(Mode::Enforce);
    let mut receiver = authenticator(Mode::Enforce);
    let mut datagram = vector_v4();
    for (key, wall) in [
        (1, THEN),
        (1, THEN),
        (2, Wall(THEN.0.saturating_sub(SECOND.duration()))),
        (2, THEN),
    ] {
        let mut settings = sender.settings().clone();
        settings.send_key = key;
        sender.reconfigure(settings);
        datagram.message.truncate(12);
        sender.seal(&mut datagram.message, datagram.source, wall);
        assert_eq!(datagram.message[13], key);
        assert_eq!(verify(&mut receiver, &datagram, THEN), Ok(()));
    }
}
