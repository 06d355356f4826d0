//! `PING_CHECK` between namespaces.

use super::support::{Namespace, can_run, pair};
use super::{passes, run, why};

fn ping(from: &Namespace, to: &str, lines: &str) -> xdp_lb::health::Outcome {
    // What the real server's port is does not matter, and an IPv4 service has IPv4 servers.
    let server = "10.77.0.99:80".parse().unwrap();
    let lines = format!("connect_ip {to}\n{lines}");
    from.block_on(async || run("PING_CHECK", server, &lines).await)
}

fn ignore_pings(host: &Namespace, value: &str) {
    host.enter(|| {
        std::fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", value).unwrap();
        std::fs::write("/proc/sys/net/ipv6/icmp/echo_ignore_all", value).unwrap();
    });
}

#[test]
fn a_host_that_answers_echoes_passes() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    director.ip("addr add 2001:db8::1/64 dev eth0 nodad");
    server.ip("addr add 2001:db8::2/64 dev eth0 nodad");
    for (to, from) in [
        ("10.77.0.2", "10.77.0.1"),
        ("2001:db8::2", "2001:db8::1"),
        // To oneself: the request comes back, too.
        ("10.77.0.1", "10.77.0.1"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        passes(&ping(&director, to, ""));
        passes(&ping(&director, to, &format!("bindto {from}")));
    }
    passes(&ping(&director, "10.77.0.2", "bind_if eth0\nfwmark 8"));
    ignore_pings(&server, "1");
    for to in ["10.77.0.2", "2001:db8::2"] {
        let silent = why(ping(&director, to, "connect_timeout 0.3"));
        assert_eq!(silent, "no echo reply within 0.3 s");
    }
    ignore_pings(&server, "0");
    passes(&ping(&director, "10.77.0.2", ""));
}

#[test]
fn a_host_that_is_not_there_fails() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    let absent = why(ping(&director, "10.77.0.9", "connect_timeout 30"));
    assert_eq!(absent, "host unreachable");
    let away = why(ping(&director, "203.0.113.1", ""));
    assert_eq!(away, "host unreachable");
    let source = why(ping(&director, "10.77.0.2", "bindto 10.77.0.77"));
    assert_eq!(source, "source address 10.77.0.77 is not on this host");
    director.ip("rule add fwmark 7 prohibit");
    why(ping(&director, "10.77.0.2", "fwmark 7"));
    server.ip("link set eth0 down");
    why(ping(&director, "10.77.0.2", "connect_timeout 0.3"));
}

#[test]
fn many_pings_at_once_do_not_take_each_other_s_replies() {
    if !can_run() {
        return;
    }
    let (director, _server) = pair();
    let to = "10.77.0.2:80".parse().unwrap();
    let outcomes = director.block_on(async || {
        let pings = (0..100).map(|_| run("PING_CHECK", to, ""));
        let mut all = tokio::task::JoinSet::new();
        pings.for_each(|ping| {
            all.spawn(ping);
        });
        all.join_all().await
    });
    for outcome in outcomes {
        passes(&outcome);
    }
}
