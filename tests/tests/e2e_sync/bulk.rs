//! A table that takes a while to be told, and a director that is killed in the middle of it: whoever
//! listens or speaks, both hold the same in the end.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use nix::sys::signal::Signal;
use xdp_lb_tests::cluster::{PORT, VIP};
use xdp_lb_tests::needs;
use xdp_lb_tests::wait;

use crate::site::{By, LIMIT, Site, address, sync};
use crate::wire::{Tap, raw, tcp};

/// Connections.
const FLOWS: u32 = 60_000;
/// Datagrams with entries after which a director is killed: a small part of all, of which there are some
/// two thousand.
const SOME: usize = 100;
/// How often it is tried to kill one before it is too late.
const ATTEMPTS: usize = 5;
/// Packets that are sent at once, and the pause after them: a veth has room for 256.
const BURST: usize = 64;
const PAUSE: Duration = Duration::from_millis(1);

#[test]
fn a_follower_that_is_killed_while_the_table_comes_has_it_in_the_end() {
    let Some(mut site) = filled("sf") else { return };
    for _ in 0..ATTEMPTS {
        if killed_halfway(&mut site, 1) {
            site.start(1);
            return is_equal(&site);
        }
        // It leaves nothing behind.
        site.directors[1].end_by(Signal::SIGTERM).unwrap();
    }
    panic!("the table comes too fast");
}

#[test]
fn a_teller_that_is_killed_while_the_table_goes_out_has_told_it_in_the_end() {
    let Some(mut site) = filled("st") else { return };
    for _ in 0..ATTEMPTS {
        if killed_halfway(&mut site, 0) {
            // The other one is master now, with what it has.
            site.wait_master(1);
            site.start(0);
            is_equal(&site);
            return site.wait_master(0);
        }
        site.directors[1].end_by(Signal::SIGTERM).unwrap();
    }
    panic!("the table goes out too fast");
}

/// A master with connections, whose peer does not run yet.
fn filled(tag: &str) -> Option<Site> {
    if !needs::root().unwrap() {
        return None;
    }
    let mut site = Site::create(tag);
    for number in 0..2 {
        // Short datagrams: it takes more of them.
        let file = site.file(number, By::Unicast, "");
        let file = file.replace("key_file", "maxlen 512\nkey_file");
        site.directors[number].configure(&file).unwrap();
    }
    site.start(0);
    site.wait_master(0);
    wait::until("all connections are known", LIMIT, || {
        // A packet may be lost; one that is sent again does no harm.
        fill(&site);
        Ok((site.known(0) == u64::from(FLOWS)).then_some(()))
    })
    .unwrap();
    Some(site)
}

/// Starts the peer, and kills a director when part of the table has been told; whether that was in time.
fn killed_halfway(site: &mut Site, victim: usize) -> bool {
    let tap = Tap::start(&site.hosts[1].netns);
    site.directors[1].start().unwrap();
    wait::until_every(
        Duration::from_millis(1),
        "part of the table has come",
        LIMIT,
        || Ok((tap.long_ones(address(0)) >= SOME).then_some(())),
    )
    .unwrap();
    site.directors[victim].end_by(Signal::SIGKILL).unwrap();
    let is_in_time = !site.directors[1].log().contains("has come, ");
    if !is_in_time {
        site.start(victim);
    }
    is_in_time
}

/// Waits until both hold all connections, and have found that they hold the same.
fn is_equal(site: &Site) {
    for number in 0..2 {
        site.wait_known(number, FLOWS.into());
        let director = &site.directors[number];
        let waited = wait::until("the directors hold the same", LIMIT, || {
            let shown = sync(director);
            let services = shown["peers"][0]["services"].as_array();
            let name = format!("tcp/{VIP}:{PORT}");
            let mut ours = services.into_iter().flatten();
            let ours = ours.find(|of| of["service"] == *name);
            let is = ours.is_some_and(|of| {
                of["equal"] == true && of["entries"] == FLOWS && of["peer_entries"] == FLOWS
            });
            Ok((is && shown["up_to_date"] == true).then_some(()))
        });
        waited
            .map_err(|late| late.context(sync(director).to_string()))
            .unwrap();
    }
}

/// Opens connections of clients that there are not: nobody answers their servers.
fn fill(site: &Site) {
    let body = || {
        let socket = raw();
        let to = SocketAddrV4::new(VIP, PORT);
        let mut sent = 0;
        for number in 0..FLOWS {
            let [_, high, middle, low] = number.to_be_bytes();
            let client = Ipv4Addr::new(10, 99, high, middle);
            let from = SocketAddrV4::new(client, 10_000 + u16::from(low));
            for is_first in [true, false] {
                let place = SocketAddrV4::new(VIP, 0).into();
                socket.send_to(&tcp(from, to, is_first), &place).unwrap();
                sent += 1;
                if sent % BURST == 0 {
                    std::thread::sleep(PAUSE);
                }
            }
        }
    };
    site.client.netns.run(body).unwrap();
}
