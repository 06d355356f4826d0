//! VIPs with all that a file can say of one, and what announces them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use xdp_lb::net::addresses::{Added, Addresses};
use xdp_lb::net::announce::Announcer;
use xdp_lb::plan::desired::OwnedAddress;
use xdp_lb_common::addr::Mac;

use crate::frames::{captured_pair, frame, ifindex, ip, sniffer};
use crate::support::can_run;

fn vip(address: &str) -> OwnedAddress {
    OwnedAddress::new(ifindex("eth0"), address.parse().unwrap())
}

/// As keepalived 2.2.7 adds them from lines of `virtual_ipaddress`, and how `ip -o addr` shows them
/// then.
fn as_keepalived() -> Vec<(OwnedAddress, &'static str)> {
    let with = |address: &str, change: fn(&mut OwnedAddress)| {
        let mut vip = vip(address);
        change(&mut vip);
        vip
    };
    vec![
        (vip("10.9.0.50/32"), "inet 10.9.0.50/32 scope global eth0"),
        (
            with("10.9.0.52/24", |vip| {
                vip.broadcast = Some([10, 9, 0, 255].into());
            }),
            "inet 10.9.0.52/24 brd 10.9.0.255 scope global secondary eth0",
        ),
        (
            with("10.9.3.1/24", |vip| {
                vip.label = Some("eth0:1".to_owned());
                vip.scope = 253;
            }),
            "inet 10.9.3.1/24 scope link eth0:1",
        ),
        (
            with("10.9.2.1/24", |vip| vip.no_prefix_route = true),
            "inet 10.9.2.1/24 scope global noprefixroute eth0",
        ),
        (
            with("10.9.1.1/32", |vip| vip.peer = Some([10, 9, 1, 2].into())),
            "inet 10.9.1.1 peer 10.9.1.2/32 scope global eth0",
        ),
        (
            vip("fd00:9::50/64"),
            "inet6 fd00:9::50/64 scope global nodad",
        ),
        (
            with("fd00:9::51/128", |vip| vip.preferred_s = 0),
            "inet6 fd00:9::51/128 scope global nodad deprecated",
        ),
        (
            vip("fd00:9::52/128"),
            "inet6 fd00:9::52/128 scope global nodad",
        ),
        (
            with("fd00:9::53/64", |vip| vip.detect_duplicates = true),
            "inet6 fd00:9::53/64 scope global",
        ),
        (
            with("fd00:9::54/64", |vip| {
                vip.no_prefix_route = true;
                vip.home = true;
            }),
            "inet6 fd00:9::54/64 scope global nodad home noprefixroute",
        ),
        (vip("fe80::1234/64"), "inet6 fe80::1234/64 scope link nodad"),
    ]
}

#[test]
fn vips_stand_as_keepalived_adds_them_and_go_without_a_trace() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    let addresses = || host.ip("-o addr show dev eth0");
    let before = addresses();
    host.block_on(async || {
        let (all, shown): (Vec<_>, Vec<_>) = as_keepalived().into_iter().unzip();
        let kernel = Addresses::open().unwrap();
        for expected in [Added::New, Added::Existed] {
            for vip in &all {
                assert_eq!(kernel.add(vip).await.unwrap(), expected, "{vip:?}");
            }
        }
        let now = addresses();
        for line in shown {
            // "tentative" while duplicates are looked for, and the lifetimes, are beside the point.
            let stands = now.lines().any(|is| {
                let words: Vec<_> = is
                    .split_whitespace()
                    .filter(|w| *w != "tentative")
                    .collect();
                words.join(" ").contains(&format!("{line} "))
                    || words.join(" ").contains(&format!("{line}\\"))
            });
            assert!(stands, "{line} is not in\n{now}");
        }
        for _ in 0..2 {
            for vip in all.iter().rev() {
                kernel.remove(vip).await.unwrap();
            }
        }
    });
    assert_eq!(addresses(), before);
}

#[test]
fn a_neighbour_advertisement_is_on_the_wire_as_keepalived_sends_it() {
    if !can_run() {
        return;
    }
    let (host, other) = captured_pair();
    let sniffer = sniffer(&other);
    let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
    let announce = |vip: IpAddr| {
        host.enter(|| {
            let announcer = Announcer::open().unwrap();
            announcer.announce(ifindex("eth0"), mac, vip).unwrap();
        });
    };
    let is_ours = |frame: &[u8]| frame[12..14] == [0x86, 0xdd] && frame[54] == 136;
    announce(ip("fe80::50"));
    let expected = "333300000001 020000000001 86dd 6000000000203aff \
                    fe800000000000000000000000000050 ff020000000000000000000000000001 \
                    880056fd 20000000 fe800000000000000000000000000050 0201020000000001";
    assert_eq!(frame(&sniffer, is_ours), crate::frames::bytes(expected));
    // A host that forwards says so.
    host.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/eth0/forwarding", "1").unwrap());
    announce(ip("fe80::50"));
    assert_eq!(frame(&sniffer, is_ours)[58], 0xa0);
}

#[test]
fn an_ipv6_neighbour_learns_the_vip_from_the_announcement() {
    if !can_run() {
        return;
    }
    let (host, other) = captured_pair();
    // It knows the VIP at another MAC.
    other.ip("neigh add fd77::50 lladdr 02:00:00:00:00:99 nud stale dev eth0");
    host.enter(|| {
        let announcer = Announcer::open().unwrap();
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 0xaa]);
        announcer
            .announce(ifindex("eth0"), mac, ip("fd77::50"))
            .unwrap();
    });
    let start = Instant::now();
    while !other
        .ip("neigh show fd77::50")
        .contains("02:00:00:00:00:aa")
    {
        assert!(
            start.elapsed() < crate::frames::SOON,
            "{}",
            other.ip("neigh")
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
