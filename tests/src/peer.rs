//! A VRRP director as a user would have it: a program, a configuration file, a host.
//!
//! Either program runs: xdp-lb, called by keepalived's name as scripts expect it, or keepalived with its
//! VRRP part alone, which is what it does without the kernel's `ip_vs`.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::director::traces;
use crate::netns::Netns;
use crate::process::Process;
use crate::{http, wait};

/// What either may take to start, or to end.
const LIMIT: Duration = Duration::from_secs(30);

/// Where the agent serves metrics by default.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9165);

/// What plays the director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// The installed keepalived.
    Keepalived,
    /// This xdp-lb.
    XdpLb(PathBuf),
}

impl Program {
    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Keepalived => "keepalived",
            Self::XdpLb(_) => "xdp-lb",
        }
    }
}

/// A director of either kind. Dropping it ends it and removes what that left.
#[derive(Debug)]
pub struct Peer {
    /// What it runs.
    pub program: Program,
    /// Name of its files, and its `--instance`.
    pub instance: String,
    file: PathBuf,
    folder: PathBuf,
    starts: u32,
    process: Option<Process>,
    kept: bool,
}

impl Peer {
    /// A director that does not run yet and will read `file`. What it writes goes to `folder`.
    pub fn new(program: Program, instance: &str, file: &Path, folder: &Path) -> Self {
        Self {
            program,
            instance: instance.to_owned(),
            file: file.to_owned(),
            folder: folder.to_owned(),
            starts: 0,
            process: None,
            kept: false,
        }
    }

    /// Starts it in `netns` and waits until its instances are; the process is for those who write
    /// down what runs.
    pub fn start(&mut self, netns: &Netns) -> Result<&Process> {
        self.starts += 1;
        let name = format!("{}-{}", self.instance, self.starts);
        let mut command = self.command()?;
        let process = Process::start(&name, netns, &mut command, &self.folder)?;
        let process = self.process.insert(process);
        let what = format!("{} is ready", self.instance);
        let ready = wait::until(&what, LIMIT, || {
            process.expect_running()?;
            let ready = match self.program {
                // It enters BACKUP or FAULT first, whatever its file says.
                Program::Keepalived => process.log_tail(1000).contains("ntering "),
                // Refused until it listens.
                Program::XdpLb(_) => {
                    http::get(netns, METRICS, "/readyz").is_ok_and(|answer| answer.status == 200)
                }
            };
            Ok(ready.then_some(()))
        });
        ready.with_context(|| process.log_tail(40))?;
        Ok(process)
    }

    fn command(&self) -> Result<Command> {
        let pid = |part: &str| self.folder.join(format!("{}-{part}.pid", self.instance));
        let mut command = match &self.program {
            Program::Keepalived => {
                // After a kill it takes a child that nobody has reaped yet for one that runs.
                fs::remove_file(pid("vrrp")).ok();
                let mut command = Command::new("keepalived");
                // The VRRP part alone, messages on stderr.
                command.args(["--vrrp", "--log-console"]);
                command.arg("--vrrp_pid").arg(pid("vrrp"));
                command
            }
            Program::XdpLb(path) => {
                let link = self.folder.join("keepalived");
                if !link.exists() {
                    symlink(path, &link).with_context(|| link.display().to_string())?;
                }
                let mut command = Command::new(link);
                command.args(["--instance", &self.instance]);
                command
            }
        };
        command.args(["--dont-fork", "--log-detail"]);
        command.arg("--use-file").arg(&self.file);
        command.arg("--pid").arg(pid("main"));
        Ok(command)
    }

    /// The process id of the running director.
    pub fn pid(&mut self) -> Result<u32> {
        let process = self.process.as_mut();
        let process = process.context("the director does not run")?;
        process.expect_running()?;
        Ok(process.pid())
    }

    /// Whether it was started and has not ended.
    pub fn is_running(&mut self) -> bool {
        let process = self.process.as_mut();
        process.is_some_and(|process| process.expect_running().is_ok())
    }

    /// SIGTERM, as a service manager would; does not wait. Returns when it was sent.
    pub fn terminate(&mut self) -> Result<Instant> {
        let process = self.process.as_ref().context("the director does not run")?;
        let at = Instant::now();
        process.signal(Signal::SIGTERM)?;
        Ok(at)
    }

    /// SIGHUP to its first process, as `systemctl reload` does; does not wait.
    pub fn reload(&self) -> Result<()> {
        let process = self.process.as_ref().context("the director does not run")?;
        let pid = Pid::from_raw(process.pid().cast_signed());
        kill(pid, Signal::SIGHUP).with_context(|| format!("cannot reload {}", self.instance))
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("the director does not run")?;
        process.wait(LIMIT)
    }

    /// SIGKILL to all its processes at once. Returns when it was sent.
    pub fn kill(&mut self) -> Result<Instant> {
        let mut process = self.process.take().context("the director does not run")?;
        let at = Instant::now();
        process.kill_tree()?;
        Ok(at)
    }

    /// Takes note that its host was switched off, and it with all that it kept in the kernel.
    pub fn forget(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
        }
        self.remove_traces();
        Ok(())
    }

    fn remove_traces(&self) {
        if let Program::XdpLb(_) = self.program {
            for trace in traces(&self.instance) {
                // Nothing there is well, too.
                fs::remove_dir_all(trace).ok();
            }
        }
    }

    /// All that it has logged, since its first start.
    pub fn log(&self) -> String {
        let logs = (1..=self.starts).map(|start| {
            let name = format!("{}-{start}.err", self.instance);
            let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        });
        logs.collect()
    }

    /// The end of what it has logged.
    pub fn log_tail(&self, lines: usize) -> String {
        let log = self.log();
        let all: Vec<_> = log.lines().collect();
        let begin = all.len().saturating_sub(lines);
        all.get(begin..).unwrap_or_default().join("\n")
    }

    /// Makes it so that it outlives this value.
    pub fn keep(&mut self) {
        self.kept = true;
        if let Some(process) = &mut self.process {
            process.keep();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Nobody is left to tell, and the next step of cleaning up must run all the same.
        drop(self.process.take().map(|mut process| process.stop(LIMIT)));
        self.remove_traces();
    }
}
