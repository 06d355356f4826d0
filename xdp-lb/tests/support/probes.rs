//! Carries out the checker of a file once.

use std::net::SocketAddr;
use std::time::Duration;

use xdp_lb::config::parse;
use xdp_lb::health::Outcome;
use xdp_lb::probe::{self, Context};

/// A checker (`HTTP_GET`, `DNS_CHECK`, …) of a real server at an address, with the lines of its block.
pub(crate) async fn run(kind: &str, to: SocketAddr, lines: &str) -> Outcome {
    run_with("", kind, to, lines).await
}

/// The same with other blocks in the file.
pub(crate) async fn run_with(blocks: &str, kind: &str, to: SocketAddr, lines: &str) -> Outcome {
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
pub(crate) fn why(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn passes(outcome: &Outcome) {
    assert_eq!(outcome, &Outcome::Passed);
}
