//! Called by keepalived's name: a daemon with a pid file, which scripts find, reload and stop as they
//! did; and warnings that a log has once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use xdp_lb_tests::cluster::vrrp_instance;
use xdp_lb_tests::director::{program, traces};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{needs, wait};

const LIMIT: Duration = Duration::from_mins(1);

/// A host, and the daemon's files.
struct Site {
    netns: Netns,
    instance: String,
    folder: TempDir,
}

impl Site {
    #[expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]
    fn new(tag: &str) -> Self {
        let prefix = unique_prefix(tag);
        let netns = Netns::create(&format!("{prefix}host")).unwrap();
        netns
            .ip(&format!(
                "link add name {INTERFACE} type veth peer name peer0\n\
                 address add 10.80.0.1/24 dev {INTERFACE}\n\
                 link set dev peer0 up\n\
                 link set dev {INTERFACE} up"
            ))
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        symlink(program().unwrap(), folder.path().join("keepalived")).unwrap();
        Self {
            netns,
            instance: prefix.trim_end_matches('-').to_owned(),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn write(&self, text: &str) {
        fs::write(self.path("test.conf"), text).unwrap();
    }

    /// Starts it, waits until the command returns: exit code and stderr.
    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn start(&self) -> (Option<i32>, String) {
        let mut command = Command::new(self.path("keepalived"));
        // As units and scripts call it; by relative paths, which a daemon must not lose.
        command.current_dir(self.folder.path());
        command.args(["-D", "-f", "test.conf", "-p", "test.pid", "-g", "test.log"]);
        command.args(["--instance", &self.instance]);
        let mut process =
            Process::start("command", &self.netns, &mut command, self.folder.path()).unwrap();
        let status = process.wait(LIMIT).unwrap();
        (status.code(), fs::read_to_string(process.log()).unwrap())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("test.log")).unwrap_or_default()
    }

    /// Waits until the log has `text` so many times.
    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn wait_log(&self, text: &str, times: usize) {
        let what = format!("'{text}' {times} times in the log");
        let is_there = || Ok((self.log().matches(text).count() >= times).then_some(()));
        let waited = wait::until(&what, LIMIT, is_there);
        waited.map_err(|late| late.context(self.log())).unwrap();
    }

    #[expect(clippy::unwrap_used, reason = "part of a test")]
    fn signal(&self, signal: Signal) {
        let text = fs::read_to_string(self.path("test.pid")).unwrap();
        kill(Pid::from_raw(text.trim().parse().unwrap()), signal).unwrap();
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // A daemon outlives a test that failed, unless its number is known.
        let pid = fs::read_to_string(self.path("test.pid")).ok();
        if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
            // It may be gone by now.
            kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
        }
    }
}

const WARNING: &str = "unknown keyword 'bogus'";

#[test]
fn a_daemon_is_found_reloaded_and_stopped_by_its_pid_file() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("ka");
    let text = format!("{}bogus 1\n", vrrp_instance("MASTER"));
    site.write(&text);
    let (code, stderr) = site.start();
    assert_eq!(code, Some(0), "{stderr}");
    site.wait_log("program on:", 1);
    let pid = fs::read_to_string(site.path("test.pid")).unwrap();
    let comm = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("comm")).unwrap();
    assert_eq!(comm, "keepalived\n", "what killall looks for");

    let (code, stderr) = site.start();
    assert_eq!(code, Some(1), "{stderr}");
    let refusal = format!("error: a daemon runs already (pid {} in ", pid.trim());
    assert!(stderr.contains(&refusal), "{stderr}");

    // A warning that was said when the file was read first is not repeated. The refused start said it too.
    assert_eq!(site.log().matches(WARNING).count(), 2, "{}", site.log());
    site.signal(Signal::SIGHUP);
    site.wait_log("nothing changes", 1);
    site.write(&format!("{text}other 1\n"));
    site.signal(Signal::SIGHUP);
    site.wait_log("nothing changes", 2);
    assert_eq!(site.log().matches(WARNING).count(), 2, "{}", site.log());
    site.wait_log("unknown keyword 'other'", 1);
    // Errors are said each time, and nothing changes.
    site.write("virtual_server 10.80.0.9 80\n");
    site.signal(Signal::SIGHUP);
    site.wait_log("the agent goes on with the one it has", 1);

    // Dumps are not written, and who asks for one does no harm.
    site.signal(Signal::SIGUSR1);
    site.wait_log("signal DATA: no file is written", 1);
    site.signal(Signal::SIGTERM);
    site.wait_log("stopped; nothing is left behind", 1);
    let is_gone = || Ok((!site.path("test.pid").exists()).then_some(()));
    wait::until("the end of the pid file", LIMIT, is_gone).unwrap();
    let left = traces(&site.instance);
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
}

#[test]
fn a_mistake_is_seen_where_the_daemon_was_started() {
    if !needs::root().unwrap() {
        return;
    }
    let site = Site::new("kb");
    site.write("virtual_server 10.80.0.9 80\n");
    let (code, stderr) = site.start();
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("cannot be used: 1 error"), "{stderr}");
    assert!(!site.path("test.pid").exists(), "nothing runs");
}
