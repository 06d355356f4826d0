//! Virtual routes and rules, and interfaces with a virtual MAC.

use xdp_lb::net::addresses::Added;
use xdp_lb::net::routes::{Fate, Route, Routes, Rule};
use xdp_lb::net::vmac::{self, Vmacs};
use xdp_lb::plan::belongings::VirtualLink;

use crate::frames::{captured_pair, ifindex, ip};
use crate::support::{Namespace, can_run};

/// As keepalived 2.2.7 adds them from lines of `virtual_routes`, and how `ip route` shows them then.
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn routes() -> Vec<(Route, &'static str)> {
    let to = |destination: &str| Route::to(destination.parse().unwrap());
    let by = |destination: &str, gateway: &str| Route {
        gateway: Some(ip(gateway)),
        ..to(destination)
    };
    let fate = |destination: &str, fate| Route {
        fate,
        ..to(destination)
    };
    let eth0 = Some(ifindex("eth0"));
    vec![
        (
            Route {
                ifindex: eth0,
                source: Some(ip("10.9.0.11")),
                metric: Some(5),
                table: 1000,
                mtu: Some(1400),
                on_link: true,
                ..by("10.21.0.0/16", "10.9.0.12")
            },
            "10.21.0.0/16 via 10.9.0.12 dev eth0 table 1000 proto keepalived src 10.9.0.11 \
             metric 5 onlink mtu 1400",
        ),
        (
            by("10.20.0.0/16", "10.9.0.12"),
            "10.20.0.0/16 via 10.9.0.12 dev eth0 proto keepalived",
        ),
        (
            Route {
                ifindex: eth0,
                ..to("10.22.0.0/16")
            },
            "10.22.0.0/16 dev eth0 proto keepalived",
        ),
        (
            Route {
                ifindex: eth0,
                scope: 253,
                protocol: 4,
                ..to("10.26.0.0/16")
            },
            "10.26.0.0/16 dev eth0 proto static scope link",
        ),
        (
            fate("10.23.0.0/16", Fate::Blackhole),
            "blackhole 10.23.0.0/16 proto keepalived",
        ),
        (
            fate("10.24.0.0/16", Fate::Unreachable),
            "unreachable 10.24.0.0/16 proto keepalived",
        ),
        (
            fate("10.25.0.0/16", Fate::Prohibit),
            "prohibit 10.25.0.0/16 proto keepalived",
        ),
        (
            by("0.0.0.0/0", "10.9.0.12"),
            "default via 10.9.0.12 dev eth0 proto keepalived",
        ),
        (
            Route {
                ifindex: eth0,
                ..by("10.27.0.0/16", "fe80::2")
            },
            "10.27.0.0/16 via inet6 fe80::2 dev eth0 proto keepalived",
        ),
        (
            by("fd01::/64", "fd00:9::12"),
            "fd01::/64 via fd00:9::12 dev eth0 proto keepalived metric 1024 pref medium",
        ),
        (
            fate("fd02::/64", Fate::Blackhole),
            "blackhole fd02::/64 dev lo proto keepalived metric 1024 pref medium",
        ),
    ]
}

/// Likewise of `virtual_rules`.
fn rules() -> Vec<(Rule, &'static str)> {
    let net = |text: &str| Some(text.parse().unwrap());
    let eth0 = || Some("eth0".to_owned());
    let rule = |priority| Rule {
        priority: Some(priority),
        ..Rule::all(false, 100)
    };
    vec![
        (
            Rule {
                from: net("10.20.0.0/16"),
                ..rule(100)
            },
            "100: from 10.20.0.0/16 lookup 100 proto keepalived",
        ),
        (
            Rule {
                to: net("10.21.0.0/16"),
                mark: Some((5, 0xff)),
                ..rule(101)
            },
            "101: from all to 10.21.0.0/16 fwmark 0x5/0xff lookup 100 proto keepalived",
        ),
        (
            Rule {
                not: true,
                from: net("10.22.0.0/16"),
                in_interface: eth0(),
                table: 1000,
                ..rule(102)
            },
            "102: not from 10.22.0.0/16 iif eth0 lookup 1000 proto keepalived",
        ),
        (
            Rule {
                from: net("10.23.0.0/16"),
                out_interface: eth0(),
                tos: 0x10,
                fate: Fate::Blackhole,
                ..rule(103)
            },
            "103: from 10.23.0.0/16 tos 0x10 oif eth0 blackhole proto keepalived",
        ),
        (
            Rule {
                v6: true,
                from: net("fd01::/64"),
                ..rule(104)
            },
            "104: from fd01::/64 lookup 100 proto keepalived",
        ),
    ]
}

/// Lines with one space between words.
fn lines(text: &str) -> Vec<String> {
    let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.lines().map(line).collect()
}

fn all_routes(host: &Namespace) -> Vec<String> {
    let mut all = lines(&host.ip("route show table all"));
    all.extend(lines(&host.ip("-6 route show table all")));
    all
}

fn all_rules(host: &Namespace) -> Vec<String> {
    let mut all = lines(&host.ip("rule"));
    all.extend(lines(&host.ip("-6 rule")));
    all
}

#[test]
fn routes_stand_as_keepalived_adds_them_and_the_users_own_stay() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    host.ip("addr add fd00:9::11/64 dev eth0 nodad");
    // To the same destination as one of ours.
    host.ip("route add 10.20.0.0/16 dev eth0");
    let before = all_routes(&host);
    host.enter(|| {
        let (all, shown): (Vec<_>, Vec<_>) = routes().into_iter().unzip();
        let mut kernel = Routes::open().unwrap();
        for expected in [Added::New, Added::Existed] {
            for (route, added) in all.iter().zip(kernel.add(&all).unwrap()) {
                assert_eq!(added.unwrap(), expected, "{route:?}");
            }
        }
        let now = all_routes(&host);
        for line in shown {
            assert!(
                now.iter().any(|is| is == line),
                "{line} is not in\n{now:#?}"
            );
        }
        let ours = host.ip("route get 10.20.1.1");
        assert!(
            ours.contains("via 10.9.0.12"),
            "the user's route goes first: {ours}"
        );
        for _ in 0..2 {
            for removed in kernel.remove(&all).unwrap() {
                removed.unwrap();
            }
        }
    });
    assert_eq!(all_routes(&host), before);
}

#[test]
fn a_route_that_cannot_be_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    host.enter(|| {
        let mut route = Route::to("10.30.0.0/16".parse().unwrap());
        route.gateway = Some(ip("192.0.2.1"));
        let mut results = Routes::open().unwrap().add(&[route]).unwrap();
        assert_eq!(
            results.remove(0).unwrap_err().to_string(),
            "cannot add the route to 10.30.0.0/16: Network is unreachable (os error 101)"
        );
    });
}

#[test]
fn rules_stand_as_keepalived_adds_them() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    let before = all_rules(&host);
    host.enter(|| {
        let (all, shown): (Vec<_>, Vec<_>) = rules().into_iter().unzip();
        let mut kernel = Routes::open().unwrap();
        for expected in [Added::New, Added::Existed] {
            for (rule, added) in all.iter().zip(kernel.add_rules(&all).unwrap()) {
                assert_eq!(added.unwrap(), expected, "{rule:?}");
            }
        }
        let now = all_rules(&host);
        for line in shown {
            assert!(
                now.iter().any(|is| is == line),
                "{line} is not in\n{now:#?}"
            );
        }
        for _ in 0..2 {
            for removed in kernel.remove_rules(&all).unwrap() {
                removed.unwrap();
            }
        }
    });
    assert_eq!(all_rules(&host), before);
}

/// The settings of interfaces that a virtual MAC has to do with.
fn settings(host: &Namespace) -> String {
    let text = host.enter(|| {
        let mut command = std::process::Command::new("sh");
        let script = "cd /proc/sys/net/ipv4/conf; grep . */rp_filter */arp_ignore */arp_filter */arp_announce \
                      */accept_local */promote_secondaries";
        command.args(["-c", script]).output().unwrap().stdout
    });
    String::from_utf8(text).unwrap()
}

/// `vrrp.53` or `vrrp6.53` with the MAC of a router.
fn virtual_link(parent: u32, number: u8, is_v6: bool) -> VirtualLink {
    VirtualLink {
        name: vmac::name(53, is_v6),
        parent,
        mac: vmac::mac(number, is_v6).octets(),
        is_v6,
        carries_v6: is_v6,
    }
}

#[test]
fn a_virtual_mac_is_set_up_as_keepalived_does_it_and_goes_without_a_trace() {
    if !can_run() {
        return;
    }
    let (host, _other) = captured_pair();
    host.enter(|| {
        for interface in ["all", "default"] {
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
            std::fs::write(path, "1").unwrap();
        }
    });
    let before = (settings(&host), host.ip("-o link"));
    host.enter(|| {
        let mut kernel = Vmacs::open().unwrap();
        let parent = ifindex("eth0");
        let link = |number, is_v6| virtual_link(parent, number, is_v6);
        let four = kernel.create(&link(53, false)).unwrap();
        let six = kernel.create(&link(53, true)).unwrap();
        // An agent that was killed left it behind.
        let mut successor = Vmacs::open().unwrap();
        let again = successor.create(&link(53, false));
        assert_eq!(again.unwrap(), four);
        let other = successor.create(&link(54, false));
        assert_eq!(
            other.unwrap_err().to_string(),
            "cannot make interface vrrp.53: File exists (os error 17)"
        );

        let shown = host.ip("-d -o link show dev vrrp.53");
        for part in [
            "vrrp.53@eth0: <BROADCAST,MULTICAST,UP,LOWER_UP>",
            "link/ether 00:00:5e:00:01:35",
            "macvlan mode private",
            "addrgenmode none",
        ] {
            assert!(shown.contains(part), "{part} is not in {shown}");
        }
        let addresses = host.ip("-o addr show dev vrrp6.53");
        assert!(!addresses.contains("inet"), "{addresses}");
        let now = settings(&host);
        for line in [
            "all/rp_filter:0",
            "default/rp_filter:1",
            "eth0/rp_filter:1",
            "lo/rp_filter:1",
            "eth0/arp_ignore:1",
            "eth0/arp_filter:1",
            // keepalived leaves it at 0.
            "eth0/arp_announce:2",
            "vrrp.53/rp_filter:0",
            "vrrp.53/arp_ignore:1",
            "vrrp.53/arp_filter:0",
            "vrrp.53/accept_local:1",
            "vrrp.53/promote_secondaries:1",
        ] {
            assert!(now.lines().any(|is| is == line), "{line} is not in\n{now}");
        }
        kernel.remove(six).unwrap();
        kernel.remove(four).unwrap();
        kernel.remove(four).unwrap();
    });
    assert_eq!((settings(&host), host.ip("-o link")), before);
}
