//! The network side against a real kernel, in namespaces of its own. Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use support::{Namespace, can_run, pair};
use tokio::sync::watch;
use xdp_lb::net::addresses::{Added, Addresses};
use xdp_lb::net::announce::{self, Announcer};
use xdp_lb::net::offload::keep_tags;
use xdp_lb::net::watch::Watcher;
use xdp_lb::plan::desired::{OwnedAddress, Reach};
use xdp_lb::plan::table::Network;
use xdp_lb::plan::vlans::Tagging;
use xdp_lb_common::addr::Mac;

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
const SOON: Duration = Duration::from_secs(30);

fn targets(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses
        .iter()
        .map(|address| address.parse().unwrap())
        .collect()
}

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

fn mac_of(network: &Network, target: &str) -> Option<String> {
    match network.reach.get(&target.parse().unwrap())? {
        Reach::Direct { mac, .. } => Some(mac.to_string()),
        Reach::Local => Some("local".to_owned()),
    }
}

/// Waits until the network is as it should be, and says how long that took.
async fn until(
    network: &mut watch::Receiver<Network>,
    what: &str,
    is: impl Fn(&Network) -> bool,
) -> Duration {
    let start = Instant::now();
    let arrived = tokio::time::timeout(SOON, network.wait_for(&is))
        .await
        .is_ok();
    assert!(arrived, "{what}: {:#?}", network.borrow());
    start.elapsed()
}

/// What `ethtool` says of the features that take tags off frames.
fn takes_tags_off() -> [bool; 2] {
    let mut command = std::process::Command::new("ethtool");
    let output = command.args(["-k", "eth0"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    ["rx-vlan-offload: ", "rx-vlan-stag-hw-parse: "].map(|feature| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(feature)).unwrap();
        value.starts_with("on")
    })
}

#[test]
fn an_interface_is_told_to_leave_tags_on_frames() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    director.enter(|| {
        assert_eq!(takes_tags_off(), [true, true]);
        let of = |name| keep_tags(ifindex(name)).unwrap();
        assert_eq!(of("eth0"), Tagging::SwitchedOff);
        assert_eq!(takes_tags_off(), [false, false]);
        assert_eq!(of("eth0"), Tagging::Kept);
        assert_eq!(of("lo"), Tagging::Kept);
        assert!(keep_tags(9999).is_err());
    });
    server.enter(|| assert_eq!(takes_tags_off(), [true, true]));
}

#[test]
fn a_server_is_resolved_and_a_new_mac_followed() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    director.block_on(async || {
        let (_watcher, mut network) = Watcher::start(targets(&["10.77.0.2"])).await.unwrap();
        let first = server.mac("eth0");
        until(&mut network, "resolved", |n| {
            mac_of(n, "10.77.0.2") == Some(first.clone())
        })
        .await;
        let reach = network.borrow().reach[&"10.77.0.2".parse().unwrap()];
        let Reach::Direct {
            ifindex: via,
            source_mac,
            on_link,
            ..
        } = reach
        else {
            panic!("{reach:?}");
        };
        assert_eq!((via, on_link), (ifindex("eth0"), true));
        assert_eq!(source_mac.to_string(), director.mac("eth0"));
        assert!(network.borrow().links["eth0"].up);

        // The server announces its new MAC, as a failover of its own would.
        server.ip("link set eth0 address 02:00:00:00:77:99");
        server.enter(|| {
            let mac = Mac::from_octets([2, 0, 0, 0, 0x77, 0x99]);
            let announcer = Announcer::open().unwrap();
            announcer
                .send(ifindex("eth0"), mac, [10, 77, 0, 2].into(), 1)
                .unwrap();
        });
        let is_new = |n: &Network| mac_of(n, "10.77.0.2").as_deref() == Some("02:00:00:00:77:99");
        let took = until(&mut network, "followed", is_new).await;
        eprintln!("a new MAC is visible {took:?} after its announcement");

        // An entry that is flushed is resolved anew, and its MAC serves meanwhile.
        director.ip("neigh flush dev eth0");
        let start = Instant::now();
        while !director
            .ip("neigh show 10.77.0.2")
            .contains("02:00:00:00:77:99")
        {
            assert!(is_new(&network.borrow()), "the server went away by a flush");
            assert!(start.elapsed() < SOON, "the server was not resolved anew");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        assert!(is_new(&network.borrow()));
    });
}

#[test]
fn a_silent_server_is_retried_until_it_answers_and_taken_out_when_it_fails() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    director.block_on(async || {
        let (watcher, mut network) = Watcher::start(targets(&["10.77.0.9"])).await.unwrap();
        assert_eq!(network.borrow().reach.len(), 0);
        // Long enough for the kernel to give up: three queries, a second apart.
        let failed = async || {
            while !director.ip("neigh show 10.77.0.9").contains("FAILED") {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, failed()).await.unwrap();
        server.ip("addr add 10.77.0.9/24 dev eth0");
        let took = until(&mut network, "answered", |n| {
            mac_of(n, "10.77.0.9").is_some()
        })
        .await;
        eprintln!("a server is usable {took:?} after it came up");

        // It goes again. (The kernel would check it within half a minute; here it is told to.)
        server.ip("addr del 10.77.0.9/24 dev eth0");
        director.ip("neigh change 10.77.0.9 dev eth0 nud probe");
        let took = until(&mut network, "failed", |n| n.reach.is_empty()).await;
        eprintln!("a failed server is out after {took:?}");

        watcher.set_targets(targets(&["10.77.0.2"]));
        until(&mut network, "another target", |n| {
            mac_of(n, "10.77.0.2").is_some()
        })
        .await;
        assert_eq!(network.borrow().reach.len(), 1);
    });
}

#[test]
fn routes_links_and_addresses_are_followed() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    let behind = "192.0.2.7";
    director.block_on(async || {
        let wanted = targets(&[behind, "10.77.0.2", "10.77.0.50", "127.0.0.1"]);
        let (_watcher, mut network) = Watcher::start(wanted).await.unwrap();
        assert_eq!(
            mac_of(&network.borrow(), "127.0.0.1").as_deref(),
            Some("local")
        );
        assert_eq!(mac_of(&network.borrow(), behind), None, "there is no route");

        director.ip("route add 192.0.2.0/24 via 10.77.0.2");
        let took = until(&mut network, "routed", |n| mac_of(n, behind).is_some()).await;
        eprintln!("a route is visible after {took:?}");
        let reach = network.borrow().reach[&behind.parse().unwrap()];
        assert!(
            matches!(reach, Reach::Direct { on_link: false, .. }),
            "{reach:?}"
        );
        assert_eq!(mac_of(&network.borrow(), behind), Some(server.mac("eth0")));

        // A local route is no address of this host; an address is.
        director.ip("route add local 10.77.0.50/32 dev lo");
        director.ip("addr add 10.77.0.51/24 dev eth0");
        director.ip("route del 192.0.2.0/24");
        until(&mut network, "unrouted", |n| mac_of(n, behind).is_none()).await;
        assert_eq!(mac_of(&network.borrow(), "10.77.0.50"), None);
        director.ip("route del local 10.77.0.50/32 dev lo");
        director.ip("addr add 10.77.0.50/24 dev eth0");
        let local = |n: &Network| mac_of(n, "10.77.0.50").as_deref() == Some("local");
        until(&mut network, "local", local).await;
        director.ip("addr del 10.77.0.50/24 dev eth0");
        until(&mut network, "no longer local", |n| !local(n)).await;

        until(&mut network, "resolved", |n| {
            mac_of(n, "10.77.0.2").is_some()
        })
        .await;
        server.ip("link set eth0 down");
        let took = until(&mut network, "no carrier", |n| !n.links["eth0"].up).await;
        eprintln!("a lost carrier is visible after {took:?}");
        assert_eq!(mac_of(&network.borrow(), "10.77.0.2"), None);
        server.ip("link set eth0 up");
        let took = until(&mut network, "again", |n| mac_of(n, "10.77.0.2").is_some()).await;
        eprintln!("the server is back {took:?} after its carrier");

        director.ip("link del eth0");
        until(&mut network, "gone", |n| !n.links.contains_key("eth0")).await;
    });
}

#[test]
fn an_ipv6_server_is_resolved_too() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    director.ip("addr add fd77::1/64 dev eth0 nodad");
    server.ip("addr add fd77::2/64 dev eth0 nodad");
    director.block_on(async || {
        let (_watcher, mut network) = Watcher::start(targets(&["fd77::2", "fd77::1"]))
            .await
            .unwrap();
        until(&mut network, "resolved", |n| mac_of(n, "fd77::2").is_some()).await;
        assert_eq!(
            mac_of(&network.borrow(), "fd77::2"),
            Some(server.mac("eth0"))
        );
        assert_eq!(
            mac_of(&network.borrow(), "fd77::1").as_deref(),
            Some("local")
        );
    });
}

#[test]
fn notifications_that_are_lost_are_made_up_for() {
    if !can_run() {
        return;
    }
    let (director, _server) = pair();
    let batch = tempfile::NamedTempFile::new().unwrap();
    let neighbours = (0..40_000_u32).map(|n| {
        let [_, _, high, low] = n.to_be_bytes();
        format!(
            "neigh replace 10.78.{high}.{low} lladdr 02:00:00:00:{high:02x}:{low:02x} dev eth0\n"
        )
    });
    std::fs::write(batch.path(), neighbours.collect::<String>()).unwrap();
    director.ip("addr add 10.78.0.1/16 dev eth0");
    director.block_on(async || {
        let last = "10.78.156.63";
        let (_watcher, mut network) = Watcher::start(targets(&[last])).await.unwrap();
        // The runtime has one thread, which waits here: nobody reads the notifications.
        director.ip(&format!("-force -batch {}", batch.path().display()));
        director.ip("link set eth0 mtu 1400");
        director.ip(&format!(
            "neigh replace {last} lladdr 02:00:00:00:00:ff dev eth0"
        ));
        let right = |n: &Network| mac_of(n, last).as_deref() == Some("02:00:00:00:00:ff");
        assert!(
            lost_notifications(),
            "the flood was too small to lose anything"
        );
        let took = until(&mut network, "in step again", right).await;
        eprintln!("in step {took:?} after 40,000 changes");
    });
}

/// Whether a netlink socket of this namespace has lost messages: the column "Drops".
fn lost_notifications() -> bool {
    let sockets = std::fs::read_to_string("/proc/thread-self/net/netlink").unwrap();
    let mut drops = sockets
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(8));
    drops.any(|drops| drops != "0")
}

fn vip(address: &str) -> OwnedAddress {
    OwnedAddress::new(ifindex("eth0"), address.parse().unwrap())
}

#[test]
fn a_vip_has_the_label_broadcast_and_scope_it_was_given_and_no_other() {
    if !can_run() {
        return;
    }
    let (director, _server) = pair();
    director.block_on(async || {
        let addresses = Addresses::open().unwrap();
        let full = OwnedAddress {
            label: Some("eth0:0".to_owned()),
            broadcast: Some([10, 77, 255, 255].into()),
            scope: 253,
            ..vip("10.77.0.200/16")
        };
        let plain = vip("10.77.0.201/32");
        let six = OwnedAddress {
            preferred_s: 0,
            ..vip("fd77::200/128")
        };
        for vip in [&full, &plain, &six] {
            assert_eq!(addresses.add(vip).await.unwrap(), Added::New);
            assert_eq!(addresses.add(vip).await.unwrap(), Added::Existed);
            assert!(addresses.list(vip.ifindex).await.unwrap().contains(vip));
            assert!(!addresses.list(ifindex("lo")).await.unwrap().contains(vip));
        }
        let shown = director.ip("-o addr show dev eth0");
        let line = |address: &str| shown.lines().find(|line| line.contains(address)).unwrap();
        let brd = "inet 10.77.0.200/16 brd 10.77.255.255 scope link eth0:0";
        assert!(line("10.77.0.200").contains(brd), "{shown}");
        assert!(
            line("10.77.0.201").contains("inet 10.77.0.201/32 scope global eth0"),
            "{shown}"
        );
        let six = line("fd77::200/128");
        assert!(six.contains("nodad") && six.contains("deprecated"), "{six}");
    });
}

#[test]
fn a_vip_that_is_not_there_is_removed_already() {
    if !can_run() {
        return;
    }
    let (director, _server) = pair();
    let before = director.ip("-o -4 addr show");
    director.block_on(async || {
        let addresses = Addresses::open().unwrap();
        let here = vip("10.77.0.200/24");
        addresses.add(&here).await.unwrap();
        addresses.remove(&here).await.unwrap();
        assert_eq!(director.ip("-o -4 addr show"), before);
        addresses.remove(&here).await.unwrap();

        let nowhere = OwnedAddress {
            ifindex: 0x7fff_fff0,
            ..here
        };
        addresses.remove(&nowhere).await.unwrap();
        let refused = addresses.add(&nowhere).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "there is no interface with index 2147483632"
        );
        // The kernel wants all addresses of a subnet in the scope of the first.
        let elsewhere = OwnedAddress {
            scope: 254,
            ..vip("10.77.0.201/24")
        };
        let refused = addresses.add(&elsewhere).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot add 10.77.0.201/24 to eth0: Invalid argument (os error 22)"
        );
    });
}

#[test]
fn gratuitous_arp_reaches_the_neighbour_byte_for_byte() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
    let vip = [10, 77, 0, 200].into();
    // The receiver stands before anything is sent.
    let sniffer = server.enter(|| {
        use socket2::{Domain, Protocol, Socket, Type};
        let all = Protocol::from(i32::from(0x0003_u16.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        socket
    });
    director.enter(|| {
        let announcer = Announcer::open().unwrap();
        announcer.send(ifindex("eth0"), mac, vip, 5).unwrap();
        let refused = announcer.send(ifindex("lo"), mac, vip, 1).unwrap_err();
        assert!(
            refused.to_string().contains("lo is no Ethernet interface"),
            "{refused}"
        );
    });
    let mut seen = 0;
    while seen < 5 {
        let mut buffer = [0; 2048];
        let length = std::io::Read::read(&mut &sniffer, &mut buffer).unwrap();
        if buffer[12..14] == [8, 6] && buffer[6..12] == mac.octets() {
            assert_eq!(buffer[..length], announce::frame(mac, vip));
            seen += 1;
        }
    }
    director.ip("link set eth0 down");
    director.enter(|| {
        let refused = Announcer::open()
            .unwrap()
            .send(ifindex("eth0"), mac, vip, 1)
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot announce a VIP on eth0: Network is down (os error 100)"
        );
    });
}

#[test]
fn a_neighbour_learns_the_vip_from_the_announcement() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    director.ip("addr add 10.77.0.200/32 dev eth0");
    server.block_on(async || {
        let (_watcher, mut network) = Watcher::start(targets(&["10.77.0.200"])).await.unwrap();
        until(&mut network, "known", |n| {
            mac_of(n, "10.77.0.200").is_some()
        })
        .await;
        take_over(&director);
        let took = |n: &Network| mac_of(n, "10.77.0.200").as_deref() == Some("02:00:00:00:00:aa");
        until(&mut network, "taken over", took).await;
    });
}

fn take_over(director: &Namespace) {
    director.enter(|| {
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 0xaa]);
        let announcer = Announcer::open().unwrap();
        announcer
            .send(ifindex("eth0"), mac, [10, 77, 0, 200].into(), 5)
            .unwrap();
    });
}
