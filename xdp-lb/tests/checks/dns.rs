//! `DNS_CHECK` against dnsmasq.

use super::dnsmasq::Dnsmasq;
use super::raw::datagrams;
use super::{passes, run, why};

const QUICK: &str = "connect_timeout 0.3\n";

#[tokio::test]
async fn the_response_code_of_a_name_server_decides() {
    let Some(dnsmasq) = Dnsmasq::start() else {
        return;
    };
    let asked = |lines: &'static str| run("DNS_CHECK", dnsmasq.address, lines);
    passes(&asked("type A\nname www.example.org").await);
    passes(&asked("type A\nname WWW.example.org.\nbindto 127.0.0.2").await);
    // That there is no such record is an answer.
    passes(&asked("type AAAA\nname www.example.org").await);
    let gone = why(asked("type A\nname nowhere.example.org").await);
    assert_eq!(gone, "DNS: NXDOMAIN for nowhere.example.org A");
    let root = why(asked("").await);
    assert_eq!(root, "DNS: REFUSED for . SOA");
}

#[tokio::test]
async fn a_name_server_that_hangs_or_is_gone_fails() {
    let Some(mut dnsmasq) = Dnsmasq::start() else {
        return;
    };
    dnsmasq.freeze();
    let silent = why(run("DNS_CHECK", dnsmasq.address, QUICK).await);
    assert_eq!(silent, "no DNS reply within 0.3 s");
    dnsmasq.end();
    let refused = why(run("DNS_CHECK", dnsmasq.address, "").await);
    assert_eq!(refused, "connection refused");
}

#[tokio::test]
async fn what_is_no_reply_to_the_question_is_passed_over() {
    let late = datagrams(|query| {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        let mut other = reply.clone();
        other[0] ^= 1;
        vec![b"garbage".to_vec(), other, query.to_vec(), reply]
    });
    passes(&run("DNS_CHECK", late.await, "").await);
    let garbage = datagrams(|_| vec![b"x".to_vec()]);
    let said = why(run("DNS_CHECK", garbage.await, QUICK).await);
    assert_eq!(
        said,
        "no DNS reply (one came that is too short) within 0.3 s"
    );
    let flood = datagrams(|query| vec![query.to_vec(); 40]);
    let said = why(run("DNS_CHECK", flood.await, "").await);
    assert_eq!(said, "DNS: 16 replies (a query came)");
}
