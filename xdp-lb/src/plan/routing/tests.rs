use super::*;
use crate::config::support::{ROUTE_OPTIONS, RULE_OPTIONS};
use crate::plan::testing::network;

fn own_route(words: &str) -> OwnRoute {
    OwnRoute {
        words: words.split_whitespace().map(str::to_owned).collect(),
        tracked: true,
        track_group: None,
    }
}

fn own_rule(words: &str) -> OwnRule {
    OwnRule {
        words: words.split_whitespace().map(str::to_owned).collect(),
        tracked: true,
        track_group: None,
    }
}

fn to(destination: &str) -> Route {
    Route::to(destination.parse().unwrap())
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_words_of_ip_route_are_understood() {
    let by = |destination: &str, gateway: &str| Route {
        gateway: Some(ip(gateway)),
        ..to(destination)
    };
    let cases = [
        (
            "10.0.0.0/8 via 10.9.0.1",
            by("10.0.0.0/8", "10.9.0.1"),
            None,
        ),
        (
            "to 10.0.0.1 via 10.9.0.1",
            by("10.0.0.1/32", "10.9.0.1"),
            None,
        ),
        ("default via 10.9.0.1", by("0.0.0.0/0", "10.9.0.1"), None),
        (
            "default via fe80::1 dev eth0",
            by("::/0", "fe80::1"),
            Some("eth0"),
        ),
        (
            "10.0.0.0/8 via inet6 fe80::1 dev eth0",
            by("10.0.0.0/8", "fe80::1"),
            Some("eth0"),
        ),
        (
            "blackhole 10.0.0.0/8 metric 7",
            Route {
                fate: Fate::Blackhole,
                metric: Some(7),
                ..to("10.0.0.0/8")
            },
            None,
        ),
        (
            "unicast 10.0.0.0/8 oif eth1",
            to("10.0.0.0/8"),
            Some("eth1"),
        ),
        ("fd00::/64 dev eth1", to("fd00::/64"), Some("eth1")),
        (
            "10.0.0.0/8 via 10.9.0.1 onlink src 10.9.0.200 table main scope site protocol static \
             tos 0x10 mtu 1400 advmss 1300 initcwnd 20 initrwnd 30",
            Route {
                on_link: true,
                source: Some(ip("10.9.0.200")),
                table: 254,
                scope: 200,
                protocol: 4,
                tos: 16,
                mtu: Some(1400),
                advmss: Some(1300),
                initcwnd: Some(20),
                initrwnd: Some(30),
                ..by("10.0.0.0/8", "10.9.0.1")
            },
            None,
        ),
    ];
    for (words, route, device) in cases {
        let device = device.map(str::to_owned);
        let read = super::route(&own_route(words));
        assert_eq!(read, Ok(Unplaced { route, device }), "{words}");
    }
}

#[test]
fn the_words_of_ip_rule_are_understood() {
    let net = |text: &str| Some(text.parse().unwrap());
    let rule = |priority, table| Rule {
        priority: Some(priority),
        ..Rule::all(false, table)
    };
    let cases = [
        (
            "from 10.0.0.0/8 table 100 preference 5",
            Rule {
                from: net("10.0.0.0/8"),
                ..rule(5, 100)
            },
        ),
        (
            "from all to 10.0.0.1 lookup main pref 5",
            Rule {
                to: net("10.0.0.1/32"),
                ..rule(5, 254)
            },
        ),
        (
            "not fwmark 0x5/0xff iif eth0 oif eth1 tos 16 protocol boot order 5 table 9",
            Rule {
                not: true,
                mark: Some((5, 0xff)),
                in_interface: Some("eth0".to_owned()),
                out_interface: Some("eth1".to_owned()),
                tos: 16,
                protocol: 3,
                ..rule(5, 9)
            },
        ),
        (
            "fwmark 7 prohibit priority 5",
            Rule {
                mark: Some((7, u32::MAX)),
                fate: Fate::Prohibit,
                ..rule(5, 0)
            },
        ),
        (
            "from fd00::/64 dev eth0 table 9 preference 5",
            Rule {
                v6: true,
                from: net("fd00::/64"),
                in_interface: Some("eth0".to_owned()),
                ..rule(5, 9)
            },
        ),
    ];
    for (words, rule) in cases {
        assert_eq!(super::rule(&own_rule(words)), Ok(rule), "{words}");
    }
}

#[test]
fn what_is_not_understood_is_named() {
    let config = Config {
        static_routes: vec![
            own_route("10.0.0.0/8 nexthop via 10.9.0.1"),
            own_route("10.0.0.0/8 dev eth0 table uplink"),
        ],
        static_rules: vec![own_rule("from 10.0.0.0/8 sport 80 table 9 preference 5")],
        ..Config::default()
    };
    let expected = [
        "the route '10.0.0.0/8 nexthop via 10.9.0.1' is left out: 'nexthop' does not work yet",
        "the route '10.0.0.0/8 dev eth0 table uplink' is left out: 'uplink' is no routing table of this host",
        "the rule 'from 10.0.0.0/8 sport 80 table 9 preference 5' is left out: 'sport' does not work yet",
    ];
    assert_eq!(refused(&config), expected);
    assert_eq!(static_ones(&config, &network()), []);
}

#[test]
fn a_route_waits_for_its_interface() {
    let config = Config {
        static_routes: vec![
            own_route("10.0.0.0/8 dev eth1"),
            own_route("10.1.0.0/16 dev eth9"),
        ],
        ..Config::default()
    };
    let routes = static_ones(&config, &network());
    let [Belonging::Route(route)] = &*routes else {
        panic!("{routes:?}")
    };
    assert_eq!(route.ifindex, Some(3));
}

/// A value of every option that the check of a file says nothing against.
#[test]
fn the_options_that_a_file_may_have_are_those_that_are_understood() {
    for option in ROUTE_OPTIONS {
        let value = match *option {
            "onlink" => "",
            "to" => "10.1.0.0/16",
            "via" | "src" => "10.9.0.1",
            "dev" | "oif" => "eth0",
            _ => "9",
        };
        let words = format!("10.0.0.0/8 {option} {value}");
        assert!(route(&own_route(&words)).is_ok(), "{words}");
    }
    for option in RULE_OPTIONS {
        let value = match *option {
            "not" | "blackhole" | "unreachable" | "prohibit" => "",
            "from" | "to" => "10.1.0.0/16",
            "dev" | "iif" | "oif" => "eth0",
            _ => "9",
        };
        let words = format!("{option} {value}");
        assert!(rule(&own_rule(&words)).is_ok(), "{words}");
    }
}
