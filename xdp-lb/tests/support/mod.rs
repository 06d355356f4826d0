//! Network namespaces for tests: two hosts on a cable, gone when the test ends.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// Whether namespaces can be made. Without root the test is skipped, visibly; in CI that is a
/// failure.
pub(crate) fn can_run() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "these tests need root");
    eprintln!("SKIPPED: this test needs root");
    false
}

/// A network namespace; removed on drop, with all interfaces in it.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// A fresh one, with lo up and IPv6 addresses without duplicate address detection.
    pub(crate) fn new(role: &str) -> Self {
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("xlb-{role}-{}-{serial}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let namespace = Self { name };
        namespace.ip("link set lo up");
        namespace
    }

    /// `ip` in this namespace, with the words of `arguments`.
    pub(crate) fn ip(&self, arguments: &str) -> String {
        let mut words = vec!["-n", &self.name];
        words.extend(arguments.split_whitespace());
        run("ip", &words)
    }

    /// Runs `work` on a thread of its own in this namespace; a panic in it is one of the caller.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(format!("/run/netns/{}", self.name)).unwrap();
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a future in this namespace.
    pub(crate) fn block_on<T: Send>(&self, future: impl AsyncFnOnce() -> T + Send) -> T {
        self.enter(|| {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(future())
        })
    }

    /// The MAC of an interface.
    pub(crate) fn mac(&self, interface: &str) -> String {
        let shown = self.ip(&format!("-o link show dev {interface}"));
        let mut words = shown.split_whitespace();
        words.find(|word| *word == "link/ether").unwrap();
        words.next().unwrap().to_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let removed = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        let removed = removed.is_ok_and(|status| status.success());
        // A test that fails already says why; a second panic would abort it.
        let failing = std::thread::panicking();
        assert!(removed || failing, "namespace {} stays behind", self.name);
    }
}

/// A director and a server, each with `eth0`, on one cable: 10.77.0.1/24 and 10.77.0.2/24.
pub(crate) fn pair() -> (Namespace, Namespace) {
    let director = Namespace::new("d");
    let server = Namespace::new("s");
    director.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        server.name
    ));
    director.ip("addr add 10.77.0.1/24 dev eth0");
    server.ip("addr add 10.77.0.2/24 dev eth0");
    director.ip("link set eth0 up");
    server.ip("link set eth0 up");
    (director, server)
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
