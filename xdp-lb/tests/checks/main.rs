//! Checks other than those by TCP and HTTP, against real servers, commands and files. Those that need
//! a network have namespaces of their own and need root.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "not every suite looks at MACs")]
mod support;

mod dns;
mod dnsmasq;
mod file;
mod misc;
mod ping;
mod raw;
mod smtp;
mod udp;

use std::net::SocketAddr;
use std::time::Duration;

use xdp_lb::config::parse;
use xdp_lb::health::Outcome;
use xdp_lb::probe::{self, Context};

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
const SOON: Duration = Duration::from_secs(30);

/// Carries out the checker of a file once, with the lines of its block.
async fn run(kind: &str, to: SocketAddr, lines: &str) -> Outcome {
    run_with("", kind, to, lines).await
}

/// The same with other blocks in the file.
async fn run_with(blocks: &str, kind: &str, to: SocketAddr, lines: &str) -> Outcome {
    let (address, port) = (to.ip(), to.port());
    let text = format!(
        "{blocks}\nvirtual_server 10.0.0.1 {port} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n\
         real_server {address} {port} {{\n{kind} {{\n{lines}\n}}\n}}\n}}\n"
    );
    let loaded = parse("test.conf", text.as_bytes()).unwrap_or_else(|found| {
        panic!("{}", found.render(false));
    });
    let server = &loaded.config.virtual_servers[0].real_servers[0];
    let context = Context::new(&loaded.config);
    let within = Duration::from_mins(1);
    tokio::time::timeout(within, probe::run(&server.checks[0].probe, &context))
        .await
        .unwrap()
}

/// What a failure says.
fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

fn passes(outcome: &Outcome) {
    assert_eq!(outcome, &Outcome::Passed);
}
