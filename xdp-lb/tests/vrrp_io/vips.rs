//! VIPs, many at a time, and what announces them.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use xdp_lb::net::Error;
use xdp_lb::net::addresses::Added;
use xdp_lb::net::announce::Announcer;
use xdp_lb::net::vip::{Vip, Vips};
use xdp_lb::plan::desired::OwnedAddress;
use xdp_lb_common::addr::Mac;

use crate::frames::{captured_pair, frame, ifindex, ip, sniffer};
use crate::support::can_run;

fn vip(address: &str) -> Vip {
    Vip::from(OwnedAddress {
        ifindex: ifindex("eth0"),
        address: address.parse().unwrap(),
        label: None,
        broadcast: None,
        scope: 0,
    })
}

/// As keepalived 2.2.7 adds them from lines of `virtual_ipaddress`, and how `ip -o addr` shows them
/// then.
fn as_keepalived() -> Vec<(Vip, &'static str)> {
    let with = |address: &str, change: fn(&mut Vip)| {
        let mut vip = vip(address);
        change(&mut vip);
        vip
    };
    vec![
        (vip("10.9.0.50/32"), "inet 10.9.0.50/32 scope global eth0"),
        (
            with("10.9.0.52/24", |vip| {
                vip.address.broadcast = Some([10, 9, 0, 255].into());
            }),
            "inet 10.9.0.52/24 brd 10.9.0.255 scope global secondary eth0",
        ),
        (
            with("10.9.3.1/24", |vip| {
                vip.address.label = Some("eth0:1".to_owned());
                vip.address.scope = 253;
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
            vip("fd00:9::51/128"),
            "inet6 fd00:9::51/128 scope global nodad deprecated",
        ),
        (
            with("fd00:9::52/128", |vip| vip.preferred_s = Some(u32::MAX)),
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
    host.enter(|| {
        let (all, shown): (Vec<_>, Vec<_>) = as_keepalived().into_iter().unzip();
        let mut kernel = Vips::open().unwrap();
        for expected in [Added::New, Added::Existed] {
            for (vip, added) in all.iter().zip(kernel.add(&all).unwrap()) {
                assert_eq!(added.unwrap(), expected, "{vip:?}");
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
            for removed in kernel.remove(&all).unwrap() {
                removed.unwrap();
            }
        }
    });
    assert_eq!(addresses(), before);
}

#[test]
fn what_the_kernel_refuses_is_said_of_the_vip_that_it_refuses() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    host.enter(|| {
        let mut nowhere = vip("10.9.0.60/32");
        nowhere.address.ifindex = 0x7fff_fff0;
        // The kernel wants all addresses of a subnet in the scope of the first.
        let mut elsewhere = vip("10.9.0.61/24");
        elsewhere.address.scope = 254;
        let all = [nowhere, elsewhere, vip("10.9.0.62/32")];
        let mut kernel = Vips::open().unwrap();
        let mut results = kernel.add(&all).unwrap().into_iter();
        let mut next = || results.next().unwrap();
        assert!(matches!(next(), Err(Error::NoInterface(0x7fff_fff0))));
        assert_eq!(
            next().unwrap_err().to_string(),
            "cannot add 10.9.0.61/24 to eth0: Invalid argument (os error 22)"
        );
        assert_eq!(next().unwrap(), Added::New);
        assert!(kernel.remove(&all).unwrap().iter().all(Result::is_ok));
    });
}

#[test]
fn a_subnet_of_vips_goes_whole_where_the_first_takes_the_others_with_it() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    host.enter(|| {
        std::fs::write("/proc/sys/net/ipv4/conf/all/promote_secondaries", "0").unwrap();
        std::fs::write("/proc/sys/net/ipv4/conf/eth0/promote_secondaries", "0").unwrap();
        let all = ["10.8.0.1/24", "10.8.0.2/24", "10.8.0.3/24"].map(vip);
        let mut kernel = Vips::open().unwrap();
        kernel.add(&all).unwrap();
        assert!(kernel.remove(&all).unwrap().iter().all(Result::is_ok));
    });
    assert!(!host.ip("addr show dev eth0").contains("10.8.0."));
}

#[test]
fn two_hundred_vips_are_taken_over_in_a_moment() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    host.enter(|| {
        let all: Vec<Vip> = (1..=200).map(|n| vip(&format!("10.10.0.{n}/32"))).collect();
        let mac = Mac::from_octets([2, 0, 0, 0, 0, 1]);
        let mut kernel = Vips::open().unwrap();
        let announcer = Announcer::open().unwrap();
        let start = Instant::now();
        let added = kernel.add(&all).unwrap();
        let there = start.elapsed();
        let start = Instant::now();
        for vip in &all {
            for _ in 0..5 {
                let address = vip.address.address.addr();
                announcer
                    .announce(vip.address.ifindex, mac, address)
                    .unwrap();
            }
        }
        let announced = start.elapsed();
        assert!(added.iter().all(|added| matches!(added, Ok(Added::New))));
        let start = Instant::now();
        assert!(kernel.remove(&all).unwrap().iter().all(Result::is_ok));
        let removed = start.elapsed();
        eprintln!(
            "200 VIPs: added {there:?}, announced 5 times {announced:?}, removed {removed:?}"
        );
        // One at a time would be slower than this by far, and a busy machine is not.
        for took in [there, announced, removed] {
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
    });
    assert!(!host.ip("addr show dev eth0").contains("10.10.0."));
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
