//! Any datagram is read as one of state sync, as it is and as the body of one that is signed: by a
//! director that follows the peer, too. What is good is said again.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use xdp_lb::machine::Now;
use xdp_lb::sync::Settings;
use xdp_lb::sync::digest::BUCKETS;
use xdp_lb::sync::key::{Keys, Secret};
use xdp_lb::sync::mirror::{Applied, Input, Ledger, Mirror};
use xdp_lb::sync::record::{Record, Scope, ServiceName, Summary};
use xdp_lb::sync::wire::body::{Heard, Hello, write};
use xdp_lb::sync::wire::records::Told;
use xdp_lb::sync::wire::{Header, Message, open, seal};

const OWN: u64 = 1;
const PEER: u64 = 2;

/// Tables that hold nothing.
struct Nothing;

impl Ledger for Nothing {
    fn owns(&self, _: &ServiceName) -> bool {
        false
    }

    fn apply(&mut self, _: &Told) -> Applied {
        Applied::Unknown
    }

    fn read(&mut self, _: u64, _: &Scope, _: &mut Vec<Record>) -> Option<u64> {
        None
    }

    fn summaries(&mut self) -> Vec<Summary> {
        Vec::new()
    }

    fn summary(&mut self, _: &ServiceName) -> Option<Summary> {
        None
    }

    fn buckets(&mut self, _: &ServiceName) -> Option<[u64; BUCKETS]> {
        None
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(keys) = Secret::new(vec![7; 32]).and_then(|secret| Keys::of(&secret)) else {
        return;
    };
    let _as_it_is = open(&keys, 0, bytes);
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let header = |nonce| Header {
        cluster: 0,
        session: PEER,
        epoch: 1,
        nonce,
        to: OWN,
    };
    let datagram = seal(&keys, &header(2), *kind, body);
    if let Ok((_, message)) = open(&keys, 0, &datagram) {
        let (kind, body) = write(&message);
        let again = open(&keys, 0, &seal(&keys, &header(2), kind, &body));
        assert_eq!(again, Ok((header(2), message)));
    }
    let from: SocketAddr = ([192, 0, 2, 2], 8848).into();
    let settings = Settings {
        keys: keys.clone(),
        cluster: 0,
        session: OWN,
        epoch: 1,
        peers: vec![from],
        longest: 1400,
        hash_key: 0,
    };
    let (hello, greeting) = write(&Message::Hello(Hello {
        next: 1,
        hash_key: 0,
        heard: vec![Heard {
            session: OWN,
            next: 1,
        }],
    }));
    let mut mirror = Mirror::new(Now::ZERO, settings);
    let mut actions = Vec::new();
    for datagram in [seal(&keys, &header(1), hello, &greeting), datagram] {
        mirror.handle(
            Now::ZERO,
            Input::Received { from, datagram },
            &mut Nothing,
            &mut actions,
        );
        mirror.expire(Now::ZERO, &mut Nothing, &mut actions);
    }
    assert!(mirror.deadline().is_some_and(|at| at > Now::ZERO));
});
