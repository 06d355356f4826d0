//! Pages of nginx that pass and that do not.

use std::path::Path;
use std::time::Instant;

use super::nginx::Nginx;
use super::{passes, reset, run, why};

const SERVERS: &str = r#"
server {
    listen LISTEN;
    location = /ok { return 200 "hello world\n"; }
    location = /gone { return 404; }
    location = /busy { return 503; }
    location = /moved { return 302 /ok; }
    location = /closed { return 444; }
    location = /host { return 200 "host $http_host"; }
    location = /protocol { return 200 "$server_protocol"; }
    location = /slow { limit_rate 1k; }
}
server {
    listen LISTEN;
    server_name www.example.org;
    location / { return 200 "the vhost"; }
}
server {
    listen LISTEN;
    server_name reset.example.org;
    reset_timedout_connection on;
    location / { return 444; }
}
"#;

/// Of `hello world\n`.
const DIGEST: &str = "6f5902ac237024bdd0c176cb93063dc4";

fn files(folder: &Path) {
    std::fs::write(folder.join("slow"), vec![b'x'; 64 << 10]).unwrap();
    std::fs::write(folder.join("large"), vec![b'x'; 5 << 20]).unwrap();
    std::fs::write(folder.join("fits"), vec![b'x'; 4_000_000]).unwrap();
}

#[tokio::test]
async fn pages_that_are_right_pass() {
    let Some(nginx) = Nginx::start(SERVERS, files) else {
        return;
    };
    let port = nginx.address.port();
    for lines in [
        "url {\npath /ok\n}",
        "url {\npath /busy\nstatus_code 200 500-503\n}",
        "url {\npath /moved\nstatus_code 302\n}",
        &format!("url {{\npath /ok\ndigest {DIGEST}\n}}"),
        "url {\npath /ok\nregex \"^hello w.r\"\nregex_options multiline\n}",
        // The answer's head is held against it, too.
        "url {\npath /ok\nregex \"^HTTP/1.1 200 OK\"\n}",
        "url {\npath /ok\nregex bye\nregex_no_match\n}",
        "virtualhost www.example.org\nurl {\npath /\nregex \"the vhost\"\n}",
        "virtualhost nobody\nurl {\npath /\nvirtualhost www.example.org\nregex \"the vhost\"\n}",
        &format!("url {{\npath /host\nregex \"host 127.0.0.1:{port}$\"\n}}"),
        "url {\npath /protocol\nregex \"\\n\\r?\\nHTTP/1.0\"\n}",
        "http_protocol 1.0C\nurl {\npath /protocol\nregex \"\\n\\r?\\nHTTP/1.0\"\n}",
        "http_protocol 1.1\nurl {\npath /protocol\nregex \"\\n\\r?\\nHTTP/1.1\"\n}",
        "url {\npath /ok\n}\nurl {\npath /gone\nstatus_code 404\n}",
        "url {\npath /fits\n}",
        "bindto 127.0.0.3\nurl {\npath /ok\n}",
    ] {
        eprintln!("{lines}");
        passes(&run("HTTP_GET", nginx.address, lines).await);
    }
    let log = std::fs::read_to_string(nginx.folder.path().join("access.log")).unwrap();
    assert!(log.contains("127.0.0.3 - - "), "{log}");
    let foreign = log
        .lines()
        .find(|line| !line.contains("\"KeepAliveClient\""));
    assert_eq!(foreign, None);
}

#[tokio::test]
async fn pages_that_are_wrong_fail_and_say_why() {
    let Some(nginx) = Nginx::start(SERVERS, files) else {
        return;
    };
    let nothing = "0".repeat(32);
    let digest = format!("digest of /ok is {DIGEST}, expected {nothing}");
    for (lines, expected) in [
        (
            "url {\npath /busy\n}",
            "HTTP status 503 from /busy, expected 200-299",
        ),
        (
            "url {\npath /ok\nstatus_code 204 300-399\n}",
            "HTTP status 200 from /ok, expected 204 or 300-399",
        ),
        // A digest does not make up for the status.
        (
            &format!("url {{\npath /gone\ndigest {nothing}\n}}"),
            "HTTP status 404 from /gone, expected 200-299",
        ),
        (&format!("url {{\npath /ok\ndigest {nothing}\n}}"), &digest),
        ("url {\npath /ok\nregex bye\n}", "/ok does not match 'bye'"),
        (
            "url {\npath /ok\nregex hello\nregex_no_match\n}",
            "/ok matches 'hello', which it must not",
        ),
        // The first page passes.
        (
            "url {\npath /ok\n}\nurl {\npath /gone\n}",
            "HTTP status 404 from /gone, expected 200-299",
        ),
        (
            "url {\npath /closed\n}",
            "closed before the answer was complete",
        ),
        (
            "url {\npath /large\n}",
            "the answer from /large is larger than 4 MiB",
        ),
        (
            "url {\npath /large\nregex x\n}",
            "the answer from /large is larger than 4 MiB",
        ),
    ] {
        assert_eq!(
            why(run("HTTP_GET", nginx.address, lines).await),
            expected,
            "{lines}"
        );
    }
    let reset_host = "virtualhost reset.example.org\nurl {\npath /\n}";
    reset(&run("HTTP_GET", nginx.address, reset_host).await);
}

#[tokio::test]
async fn a_slow_page_takes_no_longer_than_the_limit() {
    let Some(nginx) = Nginx::start(SERVERS, files) else {
        return;
    };
    let lines = "connect_timeout 1\nurl {\npath /slow\n}";
    let start = Instant::now();
    let said = why(run("HTTP_GET", nginx.address, lines).await);
    assert_eq!(said, "no complete answer from /slow within 1 s");
    // At its rate the page takes a minute.
    assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
}

#[tokio::test]
async fn nobody_there_is_refused() {
    let Some(nginx) = Nginx::start(SERVERS, files) else {
        return;
    };
    let address = nginx.address;
    drop(nginx);
    let said = why(run("HTTP_GET", address, "url {\npath /ok\n}").await);
    assert_eq!(said, "connection refused");
}
