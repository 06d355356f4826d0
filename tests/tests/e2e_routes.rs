//! Routes and rules that come and go with VIPs, compared with what real keepalived puts in place from
//! the same file.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use xdp_lb_tests::cluster::{Cluster, VIP};
use xdp_lb_tests::keepalived::Keepalived;
use xdp_lb_tests::lan::{Host, INTERFACE};
use xdp_lb_tests::{needs, wait};

/// What a change may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// Everything that moves, in an instance that is master at once or waits for another.
fn file(priority: u8) -> String {
    format!(
        "static_ipaddress {{
            10.99.0.5/24 dev {INTERFACE}
        }}
        static_routes {{
            10.50.0.0/16 via 10.99.0.9 dev {INTERFACE}
        }}
        static_rules {{
            from 10.50.0.0/16 table 77 preference 300
        }}
        vrrp_instance VI_1 {{
            state BACKUP
            interface {INTERFACE}
            virtual_router_id 51
            priority {priority}
            virtual_ipaddress {{
                {VIP}/24
            }}
            virtual_routes {{
                10.59.0.0/16 dev {INTERFACE} scope link
                10.60.0.0/16 via 10.59.0.9 src {VIP}
                blackhole 10.61.0.0/16 metric 7
                10.62.0.0/16 via 10.80.0.9 dev {INTERFACE} initcwnd 20 table 88
                10.63.0.0/16 via 10.80.0.9 dev {INTERFACE} mtu 1400 advmss 1300 tos 16 scope site
                default via 10.80.0.9 dev {INTERFACE} table 89
            }}
            virtual_rules {{
                from 10.60.0.0/16 table 88 preference 400
                to 10.61.0.0/16 lookup main preference 401
                fwmark 5/0xff iif {INTERFACE} tos 16 table 89 preference 402
                from 10.64.0.0/16 unreachable preference 403
            }}
        }}\n"
    )
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn run(host: &Host, line: &str) -> String {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap());
    host.netns.output(command.args(words)).unwrap()
}

/// Routes, rules and addresses of keepalived's protocol, sorted.
fn shown(host: &Host) -> Vec<String> {
    let routes = run(host, "ip route show table all proto keepalived");
    let rules = run(host, "ip rule show");
    let rules = rules
        .lines()
        .filter(|rule| rule.contains("proto keepalived"));
    let addresses = run(host, "ip -o -4 addr show dev eth0");
    let addresses = addresses.lines().filter_map(|line| {
        let (_, address) = line.split_once("inet ")?;
        let (address, _) = address.split_once(" eth0")?;
        // Whether it is the first of its network depends on who came first.
        let address = address.trim_end_matches(" secondary");
        let is_own = address.starts_with("10.80.0.1/") || address.starts_with("10.80.0.2/");
        (!is_own).then_some(address)
    });
    let lines = routes.lines().chain(rules).chain(addresses);
    let lines = lines.filter(|line| !line.is_empty());
    let tidy = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<_> = lines.map(tidy).collect();
    lines.sort();
    lines
}

#[expect(clippy::unwrap_used, reason = "part of a test")]
fn settles(what: &str, host: &Host, expected: &[String]) {
    let waited = wait::until(what, LIMIT, || Ok((shown(host) == expected).then_some(())));
    let _ = waited
        .inspect_err(|_| assert_eq!(shown(host), expected))
        .unwrap();
}

#[test]
fn routes_and_rules_are_those_of_keepalived_and_move_with_the_vip() {
    if !needs::root().unwrap() {
        return;
    }
    let mut cluster = Cluster::create("rr", 0, &[]).unwrap();
    let other = cluster.lan.add_host("other", ["10.80.0.2/24"]).unwrap();
    let mut keepalived = Keepalived::new("keepalived", &other.netns, cluster.folder());
    let nothing: [String; 0] = [];
    assert_eq!(shown(&cluster.host), nothing);
    keepalived.start(&file(100)).unwrap();
    keepalived.wait_log("setting Virtual Rules", 1).unwrap();
    wait::until("keepalived is done", LIMIT, || {
        Ok(shown(&other)
            .iter()
            .any(|line| line.starts_with("403:"))
            .then_some(()))
    })
    .unwrap();
    let whole = shown(&other);
    assert_eq!(whole.len(), 6 + 4 + 1 + 1 + 2, "{whole:#?}");

    // The better one takes all over, and the other keeps what is static.
    cluster.director.configure(&file(150)).unwrap();
    cluster.director.start().unwrap();
    settles("xdp-lb has everything", &cluster.host, &whole);
    settles("keepalived keeps what is static", &other, &statics());

    // What somebody removes is back, an address with the routes that went along.
    for gone in [
        "ip route del 10.62.0.0/16 table 88",
        "ip route del 10.59.0.0/16",
        "ip rule del preference 400",
        "ip route del 10.50.0.0/16",
        "ip addr del 10.80.0.200/24 dev eth0",
    ] {
        run(&cluster.host, gone);
        settles(&format!("after {gone}"), &cluster.host, &whole);
    }
    let log = cluster.director.log();
    let said = "somebody removed the route to 10.62.0.0/16 via 10.80.0.9 in table 88";
    assert!(log.contains(said), "{log}");

    // A successor of one that was killed goes on, and knows what to take out.
    cluster.director.end_by(Signal::SIGKILL).unwrap();
    assert_eq!(shown(&cluster.host), whole, "nobody took it out");
    cluster.director.configure("vrrp_instance VI_2 {\ninterface eth0\nvirtual_router_id 52\nvirtual_ipaddress {\n10.80.0.201/24\n}\nstate BACKUP\n}\n").unwrap();
    cluster.director.start().unwrap();
    settles("nothing of the other file is left", &cluster.host, &nothing);
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    settles("keepalived has everything", &other, &whole);

    // And the other way.
    cluster.director.configure(&file(50)).unwrap();
    cluster.director.start().unwrap();
    settles("what is static stands", &cluster.host, &statics());
    keepalived.end_by(Signal::SIGTERM).unwrap();
    settles("xdp-lb has everything again", &cluster.host, &whole);
    cluster.director.end_by(Signal::SIGTERM).unwrap();
    settles("nothing is left behind", &cluster.host, &nothing);
}

fn statics() -> Vec<String> {
    let lines = [
        "10.50.0.0/16 via 10.99.0.9 dev eth0",
        "10.99.0.5/24 scope global",
        "300: from 10.50.0.0/16 lookup 77 proto keepalived",
    ];
    lines.map(str::to_owned).to_vec()
}
