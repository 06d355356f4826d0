//! A real nginx with a configuration of its own, ended on drop.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Bound of its start.
const SOON: Duration = Duration::from_secs(30);

pub(crate) struct Nginx {
    process: Child,
    pub(crate) folder: TempDir,
    pub(crate) address: SocketAddr,
}

impl Nginx {
    /// Serves `servers`, in which `LISTEN` stands for its address; `prepare` puts files into its
    /// folder, which is where paths start. `None` where there is no nginx; in CI that is a failure.
    pub(crate) fn start(servers: &str, prepare: impl FnOnce(&Path)) -> Option<Self> {
        let version = Command::new("nginx").arg("-v").output();
        if !version.is_ok_and(|version| version.status.success()) {
            assert!(std::env::var_os("CI").is_none(), "nginx is missing");
            eprintln!("SKIPPED: this test needs Debian's nginx-light");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        // Nobody else gets a port that was just free, as long as it is not the next one asked for.
        let address = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let at = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {at}/{kind};\n"))
            .concat();
        let servers = servers.replace("LISTEN", &address.to_string());
        // Its worker must be able to read the folder, which is its owner's alone.
        let user = if nix::unistd::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let text = format!(
            "daemon off;\nmaster_process off;\n{user}\npid {at}/pid;\nerror_log {at}/error.log;\n\
             events {{}}\nhttp {{\naccess_log {at}/access.log;\nroot {at};\n{temporary}{servers}}}\n"
        );
        std::fs::write(folder.path().join("nginx.conf"), text).unwrap();
        let mut process = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = process.try_wait().unwrap();
            let log = std::fs::read_to_string(folder.path().join("error.log"));
            assert!(ended.is_none() && start.elapsed() < SOON, "{log:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self {
            process,
            folder,
            address,
        })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Nobody is left to tell.
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
