//! `UDP_CHECK` against dnsmasq: any service that answers datagrams will do.

use std::time::{Duration, Instant};

use super::dnsmasq::Dnsmasq;
use super::raw::datagrams;
use super::support::{can_run, pair};
use super::{passes, run, why};

/// Asks for `.`, type SOA, with the id 1234.
const QUERY: &str = "payload 1234 0100 0001 0000 0000 0000 00 0006 0001\nconnect_timeout 0.3\n";

#[tokio::test]
async fn a_reply_is_held_against_the_pattern() {
    let Some(mut dnsmasq) = Dnsmasq::start() else {
        return;
    };
    let asked = async |lines: &str| {
        let lines = format!("{QUERY}{lines}");
        run("UDP_CHECK", dnsmasq.address, &lines).await
    };
    passes(&asked("").await);
    passes(&asked("require_reply").await);
    passes(&asked("require_reply 1234 8x").await);
    passes(&asked("require_reply 1234\nmin_reply_length 17\nmax_reply_length 17").await);
    let other = why(asked("require_reply 1235").await);
    assert_eq!(other, "reply differs from the expected one at byte 1");
    let short = why(asked("require_reply\nmin_reply_length 18").await);
    assert_eq!(short, "reply of 17 bytes, expected 18 to 255");
    dnsmasq.freeze();
    // Only that it cannot be delivered would be wrong.
    passes(&asked("").await);
    let silent = why(asked("require_reply").await);
    assert_eq!(silent, "no reply within 0.3 s");
    dnsmasq.end();
    for lines in [QUERY, "", "require_reply"] {
        let refused = run("UDP_CHECK", dnsmasq.address, lines).await;
        assert_eq!(why(refused), "connection refused", "{lines}");
    }
}

#[tokio::test]
async fn without_a_payload_some_bytes_are_sent_and_any_reply_ends_the_wait() {
    let echo = datagrams(|datagram| {
        assert_eq!(datagram.len(), 32);
        vec![datagram.to_vec()]
    })
    .await;
    let start = Instant::now();
    passes(&run("UDP_CHECK", echo, "connect_timeout 50").await);
    passes(&run("UDP_CHECK", echo, "require_reply\nconnect_timeout 50").await);
    assert!(start.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_host_that_is_not_there_fails_without_a_reply_asked_for() {
    if !can_run() {
        return;
    }
    let (director, _server) = pair();
    let asked = |to: &str, lines: &str| {
        let to = to.parse().unwrap();
        director.block_on(async || run("UDP_CHECK", to, lines).await)
    };
    // Nobody answers ARP: the kernel says so after three requests.
    let absent = why(asked("10.77.0.9:53", "connect_timeout 30"));
    assert_eq!(absent, "host unreachable");
    let refused = why(asked("10.77.0.2:53", "bind_if eth0\nbindto 10.77.0.1"));
    assert_eq!(refused, "connection refused");
    let lost = why(asked("10.77.0.2:53", "bind_if eth7"));
    assert_eq!(lost, "interface eth7 is not on this host");
    director.ip("rule add fwmark 7 prohibit");
    assert_ne!(why(asked("10.77.0.2:53", "fwmark 7")), "connection refused");
}
