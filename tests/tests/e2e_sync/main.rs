//! Two directors of a cluster that tell each other of their connections: what one balances the other
//! knows, a director that dies takes no connection along, and one that returns does not take over
//! before it has what its peer has.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod bulk;
mod groups;
mod hostile;
mod site;
mod v6;
mod wire;

use std::fs;

use nix::sys::signal::Signal;
use xdp_lb_tests::cluster::{PORT, VIP, server_address};
use xdp_lb_tests::director::traces;
use xdp_lb_tests::lan::Host;
use xdp_lb_tests::needs;
use xdp_lb_tests::traffic::{Heart, beat_on};
use xdp_lb_tests::wait;

use crate::site::{By, LIMIT, SERVICE, Site, address, sync};

/// The whole story, in the order in which it happens to a cluster.
#[test]
fn connections_survive_the_death_of_a_director_and_its_return() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sy");
    site.configure(0, By::Unicast, "persistence_timeout 50");
    site.configure(1, By::Unicast, "persistence_timeout 50");
    site.start(0);
    site.wait_master(0);
    site.start(1);
    let client = site.client.netns.handle();
    let hearts = Heart::start_many(60, &client, SERVICE).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(0, 60);
    site.wait_known(1, 60);

    // The master dies, and its host with it: nothing of it answers any more.
    site.directors[0].end_by(Signal::SIGKILL).unwrap();
    site.lan.set_cable(&site.hosts[0].name, false).unwrap();
    site.wait_master(1);
    beat_on(&hearts, 5).unwrap();
    let more = Heart::start_many(40, &client, SERVICE).unwrap();
    beat_on(&more, 3).unwrap();
    site.wait_known(1, 100);

    // It returns, knowing nothing, and takes over once it knows everything.
    for trace in traces(&site.directors[0].instance) {
        fs::remove_dir_all(trace).unwrap();
    }
    site.lan.set_cable(&site.hosts[0].name, true).unwrap();
    site.start(0);
    site.wait_master(0);
    site.wait_known(0, 100);
    let log = site.directors[0].log();
    let synced = log.find("has come, ").expect("it says so");
    let master = log.find("→ MASTER").expect("it took over");
    assert!(synced < master, "{log}");
    beat_on(&hearts, 5).unwrap();
    beat_on(&more, 5).unwrap();
}

/// Sends the first director datagrams that look right and are not signed.
fn forge(from: &Host, count: usize) {
    let send = || {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        for number in 0..count {
            let mut datagram = vec![0; 200];
            datagram[..4].copy_from_slice(b"XLBS");
            datagram[4..6].copy_from_slice(&[xdp_lb::sync::wire::VERSION, 2]);
            datagram[8] = u8::try_from(number % 256).unwrap();
            socket.send_to(&datagram, (address(0), 8848)).unwrap();
        }
    };
    from.netns.run(send).unwrap();
}

/// What operators say on one director counts on both; who has no key is not heard; and both say what they
/// see.
#[test]
fn orders_travel_and_outsiders_are_not_heard() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sx");
    site.configure(0, By::Unicast, "");
    site.configure(1, By::Unicast, "");
    site.start(0);
    site.start(1);
    site.wait_synced();
    let service = SERVICE.to_string();
    let server = format!("{}:{PORT}", server_address(3));
    site.directors[1]
        .ask(&["drain", &service, &server])
        .unwrap();
    for director in &site.directors {
        let is_drained = |list: &xdp_lb_tests::director::List| {
            let servers = list.real_servers();
            let mut drained =
                servers.filter(|of| of.address == server_address(3) && of.weight == 0);
            drained.next().is_some()
        };
        director
            .wait_list("the server is drained", is_drained)
            .unwrap();
    }
    // An outsider that is no peer, and one that uses a peer's address and has no key.
    let before = site.known(0);
    forge(&site.client, 500);
    forge(&site.hosts[1], 500);
    wait::until("they are counted", LIMIT, || {
        let refused = sync(&site.directors[0])["refused"].clone();
        let are = refused["stranger"] == 500 && refused["digest"] == 500;
        Ok(are.then_some(()))
    })
    .unwrap();
    assert_eq!(site.known(0), before);
    let log = site.directors[0].log();
    assert_eq!(log.matches("is refused").count(), 2, "{log}");
    // The second director has a service that the first does not have.
    let shown = site.directors[1].ask(&["sync"]).unwrap();
    assert!(shown.contains("not in the peer's file"), "{shown}");
    let status = site.directors[1].ask(&["status"]).unwrap();
    assert!(
        status.contains("stands differently in the file of 10.80.0.1"),
        "{status}"
    );
}

/// The kernel would send from a VIP whose prefix is longer than that of the address that its peer knows.
#[test]
fn a_master_speaks_to_its_peer_from_its_own_address() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sv");
    for number in 0..2 {
        let file = site.file(number, By::Unicast, "");
        let vip = format!("{VIP}/24");
        let file = file.replace(&vip, &format!("{vip}\n10.80.0.5/29"));
        site.directors[number].configure(&file).unwrap();
        site.start(number);
    }
    site.wait_master(0);
    let client = site.client.netns.handle();
    let hearts = Heart::start_many(30, &client, SERVICE).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(1, 30);
    let refused = sync(&site.directors[1])["refused"].clone();
    assert!(refused["stranger"].is_null(), "from the VIP: {refused}");
}

/// As a keepalived.conf has it: an interface and a group, and nobody by name.
#[test]
fn directors_find_each_other_on_the_group_of_lvs_sync_daemon() {
    if !needs::root().unwrap() {
        return;
    }
    let mut site = Site::create("sm");
    for number in 0..2 {
        site.configure(number, By::Multicast, "");
        site.start(number);
    }
    site.wait_master(0);
    let client = site.client.netns.handle();
    let hearts = Heart::start_many(30, &client, SERVICE).unwrap();
    beat_on(&hearts, 3).unwrap();
    site.wait_known(1, 30);
    let peers = sync(&site.directors[1])["peers"].clone();
    assert_eq!(peers[0]["address"], "10.80.0.1:8850", "{peers}");
    site.directors[0].end_by(Signal::SIGTERM).unwrap();
    site.wait_master(1);
    beat_on(&hearts, 3).unwrap();
}
