//! The way that checks take, in namespaces of their own. Needs root.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[expect(dead_code, reason = "not every suite looks at MACs")]
mod support;

use std::net::TcpListener;
use std::time::Duration;

use support::{can_run, pair};
use xdp_lb::config::model::{Config, Connection, Probe};
use xdp_lb::health::{Failure, Outcome};
use xdp_lb::probe::{Context, run};

#[test]
fn a_check_takes_the_interface_and_the_mark_it_is_given() {
    if !can_run() {
        return;
    }
    let (director, server) = pair();
    let listener = server.enter(|| TcpListener::bind("10.77.0.2:80").unwrap());
    // What is marked with 7 goes nowhere; what leaves by lo does not either.
    director.ip("rule add fwmark 7 prohibit");
    let target = "10.77.0.2:80".parse().unwrap();
    let plain = Connection::to(target, Duration::from_secs(2));
    let checked = |connection: Connection| {
        director.block_on(async || {
            let context = Context::new(&Config::default());
            run(&Probe::Tcp(connection), &context).await
        })
    };
    let by = |interface: &str| Connection {
        interface: Some(interface.to_owned()),
        ..plain.clone()
    };
    let marked = |mark| Connection {
        mark,
        ..plain.clone()
    };
    assert_eq!(checked(plain.clone()), Outcome::Passed);
    assert_eq!(checked(by("eth0")), Outcome::Passed);
    assert_eq!(checked(marked(8)), Outcome::Passed);
    assert!(matches!(checked(marked(7)), Outcome::Failed(_)));
    assert!(matches!(checked(by("lo")), Outcome::Failed(_)));
    let gone = "interface eth7 is not on this host".to_owned();
    assert_eq!(checked(by("eth7")), Outcome::Failed(Failure::Other(gone)));
    drop(listener);
    assert_eq!(checked(plain.clone()), Outcome::Failed(Failure::Refused));
}
