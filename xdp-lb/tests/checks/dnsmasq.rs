//! A real name server, Debian's dnsmasq, on the loopback interface; ended on drop.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::SOON;

pub(crate) struct Dnsmasq {
    process: Child,
    pub(crate) address: SocketAddr,
}

impl Dnsmasq {
    /// It is what the zone `example.org` comes from, with `www` in it, and knows nothing else. `None`
    /// where there is no dnsmasq; in CI that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let version = Command::new("dnsmasq").arg("--version").output();
        if !version.is_ok_and(|version| version.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "dnsmasq is missing");
            eprintln!("SKIPPED: this test needs Debian's dnsmasq-base");
            return None;
        }
        // Nobody else gets a port that was just free, as long as it is not the next one asked for.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let mut process = Command::new("dnsmasq")
            .args([
                "--conf-file=/dev/null",
                "--keep-in-foreground",
                "--pid-file=",
            ])
            .args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--user="])
            .args([
                "--local=/example.org/",
                "--host-record=www.example.org,192.0.2.1",
            ])
            .arg("--listen-address=127.0.0.1")
            .arg(format!("--port={}", address.port()))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = process.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < SOON, "{ended:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, address })
    }

    /// Stops it: it is there, and answers nothing.
    pub(crate) fn freeze(&self) {
        let id = i32::try_from(self.process.id()).unwrap();
        kill(Pid::from_raw(id), Signal::SIGSTOP).unwrap();
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // Nobody is left to tell.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
