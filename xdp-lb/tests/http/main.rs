//! `HTTP_GET` and `SSL_GET` against a real nginx, on the loopback interface.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

mod certificates;
mod nginx;
mod pages;
mod raw;
mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use xdp_lb::config::parse;
use xdp_lb::health::{Failure, Outcome};
use xdp_lb::probe::{self, Context};

/// Carries out the checker of a file once: `HTTP_GET` or `SSL_GET` to an address, with the lines of
/// its block.
async fn run(kind: &str, to: SocketAddr, lines: &str) -> Outcome {
    run_with("", kind, to, lines).await
}

/// The same with an `SSL` block.
async fn run_with(ssl: &str, kind: &str, to: SocketAddr, lines: &str) -> Outcome {
    let (address, port) = (to.ip(), to.port());
    let text = format!(
        "{ssl}\nvirtual_server 10.0.0.1 {port} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n\
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

fn reset(outcome: &Outcome) {
    assert_eq!(outcome, &Outcome::Failed(Failure::Reset));
}
