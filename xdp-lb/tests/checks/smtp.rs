//! `SMTP_CHECK` against Debian's python3-aiosmtpd, and peers that speak no SMTP.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdout, Command, Stdio};

use super::raw::{Script, stream};
use super::{passes, run, run_with, why};

/// Answers HELO with its first argument; prints its port, then the name in each HELO.
const SERVER: &str = r#"
import asyncio, sys
from aiosmtpd.smtp import SMTP
class Handler:
    async def handle_HELO(self, server, session, envelope, hostname):
        session.host_name = hostname
        print(hostname, flush=True)
        return sys.argv[1]
async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Handler(), loop=loop), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.wait_for(server.serve_forever(), 120)
asyncio.run(serve())
"#;

/// Debian's own interpreter: it is the one that finds Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

struct Server {
    process: Child,
    output: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Server {
    /// `None` where there is none; in CI that is a failure.
    fn start(answer: &str) -> Option<Self> {
        let probe = Command::new(PYTHON)
            .args(["-c", "import aiosmtpd"])
            .output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            let in_ci = std::env::var_os("CI").is_some();
            assert!(!in_ci, "python3-aiosmtpd is missing");
            eprintln!("SKIPPED: this test needs Debian's python3-aiosmtpd");
            return None;
        }
        let mut process = Command::new(PYTHON)
            .args(["-c", SERVER, answer])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut port = String::new();
        output.read_line(&mut port).unwrap();
        let port = port.trim().parse().unwrap();
        Some(Self {
            process,
            output,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }

    /// The next name in a HELO.
    fn helo(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn a_mail_server_is_greeted_by_the_name_that_is_set() {
    let Some(mut server) = Server::start("250 welcome") else {
        return;
    };
    let to = server.address;
    passes(&run("SMTP_CHECK", to, "helo_name lb1.example.org").await);
    assert_eq!(server.helo(), "lb1.example.org");
    let global = "global_defs {\nsmtp_helo_name lb2.example.org\n}";
    passes(&run_with(global, "SMTP_CHECK", to, "").await);
    assert_eq!(server.helo(), "lb2.example.org");
    passes(&run("SMTP_CHECK", to, "").await);
    let host = nix::unistd::gethostname().unwrap();
    assert_eq!(server.helo(), host.to_str().unwrap());
}

#[tokio::test]
async fn a_mail_server_that_wants_nobody_fails() {
    let Some(server) = Server::start("554 not you") else {
        return;
    };
    let refused = why(run("SMTP_CHECK", server.address, "").await);
    assert_eq!(refused, "SMTP: 554 to HELO, expected 250");
}

#[tokio::test]
async fn all_hosts_must_pass() {
    let (Some(good), Some(bad)) = (Server::start("250 ok"), Server::start("421 later")) else {
        return;
    };
    let host = |to: SocketAddr| {
        let (ip, port) = (to.ip(), to.port());
        format!("host {{\nconnect_ip {ip}\nconnect_port {port}\n}}\n")
    };
    let to = "192.0.2.1:25".parse().unwrap();
    let lines = host(good.address);
    passes(&run("SMTP_CHECK", to, &lines.repeat(2)).await);
    let failed = why(run("SMTP_CHECK", to, &(lines + &host(bad.address))).await);
    let address = bad.address;
    assert_eq!(
        failed,
        format!("{address}: SMTP: 421 to HELO, expected 250")
    );
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let refused = why(run("SMTP_CHECK", address, "").await);
    assert_eq!(refused, "connection refused");
}

async fn said(says: &'static [&'static [u8]], endless: bool, closes: bool) -> String {
    let script = Script {
        says,
        endless,
        closes,
    };
    let to = stream(script).await;
    match run("SMTP_CHECK", to, "connect_timeout 0.5").await {
        xdp_lb::health::Outcome::Passed => "passed".to_owned(),
        other => why(other),
    }
}

#[tokio::test]
async fn answers_may_have_several_lines_and_no_text() {
    let many: &[&[u8]] = &[
        b"220-a\r\n220-b\r\n220 c\r\n",
        b"250-a\r\n250 b\r\n",
        b"221-\r\n221 \r\n",
    ];
    assert_eq!(said(many, false, true).await, "passed");
    let bare: &[&[u8]] = &[b"220\r\n", b"250\n", b"221\r\n"];
    assert_eq!(said(bare, false, false).await, "passed");
}

#[tokio::test]
async fn what_is_no_dialogue_fails_and_says_how() {
    let cases: [(&'static [&'static [u8]], &str); 8] = [
        (&[b"554 no\r\n"], "SMTP: 554 as greeting, expected 220"),
        (
            &[b"421-no\r\n421 no\r\n"],
            "SMTP: 421 as greeting, expected 220",
        ),
        (
            &[b"SSH-2.0-OpenSSH_9.2\r\n"],
            "SMTP: 'SSH-2.0-OpenSSH_9.2' as greeting is no answer",
        ),
        (
            &[b"\x16\x03\x01\xff\n"],
            "SMTP: '\\x16\\x03\\x01\\xff' as greeting is no answer",
        ),
        (&[b""], "SMTP: closed without an answer as greeting"),
        (
            &[b"220-a\r\n"],
            "SMTP: closed without an answer as greeting",
        ),
        (
            &[b"220 a\r\n", b"500 what\r\n"],
            "SMTP: 500 to HELO, expected 250",
        ),
        (
            &[b"220 a\r\n", b"25"],
            "SMTP: closed without an answer to HELO",
        ),
    ];
    for (says, expected) in cases {
        assert_eq!(said(says, false, true).await, expected);
    }
}

#[tokio::test]
async fn neither_silence_nor_endless_lines_last() {
    let silent = said(&[b"220 a\r\n", b"250-"], false, false).await;
    assert_eq!(silent, "SMTP: no answer to HELO within 0.5 s");
    let line = said(&[&[b'2'; 4096]], true, false).await;
    assert_eq!(line, "SMTP: more than 16 KiB as greeting");
    let lines = said(&[b"220-a\r\n"], true, false).await;
    assert_eq!(lines, "SMTP: more than 16 KiB as greeting");
}
