//! Mail to a real SMTP server, Debian's python3-aiosmtpd, on the loopback interface.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[path = "support/smtp.rs"]
mod smtp;

use std::time::{Duration, Instant};

use smtp::Server;
use xdp_lb::telemetry::mail::{Mailer, Retry, Settings, instance_subject};

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
const SOON: Duration = Duration::from_secs(30);

fn settings(port: u16) -> Settings {
    Settings {
        server: "127.0.0.1".to_owned(),
        port,
        from: "keep@example.org".to_owned(),
        to: vec!["a@example.org".to_owned(), "b@example.org".to_owned()],
        helo: "lb1.example.org".to_owned(),
        timeout: Duration::from_secs(10),
    }
}

const QUICK: Retry = Retry {
    attempts: 4,
    pause: Duration::from_millis(20),
};

fn master() -> String {
    instance_subject("LVS_1", "VI", "MASTER")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mail_arrives_as_keepalived_would_send_it() {
    let Some(mut server) = Server::start(&[]) else {
        return;
    };
    let mailer = Mailer::start(&settings(server.port), QUICK).unwrap();
    mailer
        .send(master(), "no advert for 3.61 s\n".to_owned())
        .unwrap();
    mailer
        .send("[LVS_1] Grüße".to_owned(), String::new())
        .unwrap();
    mailer.finish(SOON).await;
    let mail = server.mail();
    let envelope = "envelope lb1.example.org keep@example.org a@example.org,b@example.org";
    assert_eq!(mail[0], envelope);
    let mailer = format!("X-Mailer: xdp-lb {}", env!("CARGO_PKG_VERSION"));
    for line in [
        "From: keep@example.org",
        "To: a@example.org, b@example.org",
        "Subject: [LVS_1] VRRP Instance VI - Entering MASTER state",
        &mailer,
        "no advert for 3.61 s",
    ] {
        assert!(
            mail.iter().any(|is| is == line),
            "{line} is not in {mail:#?}"
        );
    }
    assert!(
        mail.iter().any(|line| line.starts_with("Date: ")),
        "{mail:#?}"
    );
    let other = server.mail().join("\n");
    assert!(other.is_ascii(), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_asks_for_patience_is_tried_again() {
    let Some(mut server) = Server::start(&["451 later", "421 much later"]) else {
        return;
    };
    let mailer = Mailer::start(&settings(server.port), QUICK).unwrap();
    mailer.send(master(), String::new()).unwrap();
    let mails: Vec<_> = (0..3).map(|_| server.mail()).collect();
    assert_eq!(mails[0], mails[2], "the date is that of the event");
    mailer.send("another".to_owned(), String::new()).unwrap();
    assert!(server.mail().iter().any(|line| line == "Subject: another"));
    assert_eq!(mailer.dropped(), 0);
    mailer.finish(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_refuses_for_good_is_given_up_at_once() {
    let Some(mut server) = Server::start(&["550 no"]) else {
        return;
    };
    let mailer = Mailer::start(&settings(server.port), QUICK).unwrap();
    mailer.send(master(), String::new()).unwrap();
    mailer.send("another".to_owned(), String::new()).unwrap();
    let refused = server.mail();
    assert!(refused.iter().any(|line| line.contains("Entering MASTER")));
    let next = server.mail();
    assert!(
        next.iter().any(|line| line == "Subject: another"),
        "{next:#?}"
    );
    assert_eq!(mailer.dropped(), 1);
    mailer.finish(SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_a_server_that_is_not_there_and_the_queue_is_bounded() {
    // Nothing listens on a port that was just given back.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mailer = Mailer::start(&settings(port), QUICK).unwrap();
    let start = Instant::now();
    for _ in 0..100 {
        mailer.send(master(), String::new()).unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    assert!(
        (35..=37).contains(&mailer.dropped()),
        "{}",
        mailer.dropped()
    );
    let start = Instant::now();
    mailer.finish(Duration::from_millis(200)).await;
    assert!(start.elapsed() < SOON);
}
