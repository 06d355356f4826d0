//! A machine: a host of the LAN with processes and files of its own.
//!
//! Programs on it see only its processes (`killall` asks nobody else's), and folders of the harness lie
//! where its programs look for theirs (`/etc/keepalived`). Ending its first process is pulling the plug:
//! the kernel kills all the others.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::netns::Netns;
use crate::process::{Process, descendants};
use crate::wait;

/// What it may take to boot.
const BOOT: Duration = Duration::from_secs(10);

/// The first process: mounts `$1` on `$2` and so on, then reaps what it inherits until it is ended.
const INIT: &str = "
while [ $# -ge 2 ]; do mount --bind \"$1\" \"$2\" || exit 1; shift 2; done
trap 'exit 0' TERM
echo up
sleep infinity &
while :; do wait; done";

/// A machine. Dropping it powers it off.
#[derive(Debug)]
pub struct Machine {
    name: String,
    netns: Netns,
    folder: PathBuf,
    mounts: Vec<(PathBuf, PathBuf)>,
    boots: u32,
    init: Option<Init>,
}

#[derive(Debug)]
struct Init {
    process: Process,
    /// Of the first process, as everybody else sees it.
    pid: u32,
}

impl Machine {
    /// A machine that is off. `mounts` are pairs of a folder and the path to find it at; logs go to
    /// `folder`.
    pub fn new(
        name: &str,
        netns: &Netns,
        folder: &Path,
        mounts: impl IntoIterator<Item = (PathBuf, PathBuf)>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            netns: netns.handle(),
            folder: folder.to_owned(),
            mounts: mounts.into_iter().collect(),
            boots: 0,
            init: None,
        }
    }

    /// Starts it; the process is for those who write down what runs.
    pub fn power_on(&mut self) -> Result<&Process> {
        ensure!(self.init.is_none(), "{} is on", self.name);
        self.boots += 1;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--mount-proc"]);
        command.args(["bash", "-c", INIT, "init"]);
        for (folder, place) in &self.mounts {
            command.arg(folder).arg(place);
        }
        let name = format!("{}-init-{}", self.name, self.boots);
        let mut process = Process::start(&name, &self.netns, &mut command, &self.folder)?;
        wait::until("the machine is up", BOOT, || {
            process.expect_running()?;
            Ok(process.stdout()?.contains("up").then_some(()))
        })?;
        let pid = only_child(process.pid())?;
        Ok(&self.init.insert(Init { process, pid }).process)
    }

    /// Where to start its programs.
    ///
    /// # Errors
    /// When it is off.
    pub fn inside(&self) -> Result<Netns> {
        let init = self.init.as_ref();
        let init = init.with_context(|| format!("{} is off", self.name))?;
        Ok(self.netns.handle_within(init.pid))
    }

    /// Pulls the plug: every process ends at once. The network's state stays; that is for the caller.
    pub fn power_off(&mut self) -> Result<()> {
        let Some(mut init) = self.init.take() else {
            return Ok(());
        };
        init.process.kill().map(drop)
    }

    /// Runs `killall` with these arguments on it; whether it found something.
    pub fn killall(&self, signal: Signal, name: &str) -> Result<bool> {
        let mut command = Command::new("killall");
        command.args(["-q", "-s", signal.as_str(), name]);
        command.stdin(Stdio::null());
        let status = self.inside()?.run(|| command.status())?;
        Ok(status.context("cannot run `killall`")?.success())
    }

    /// The command that opens a shell on it.
    pub fn door(&self) -> Result<String> {
        let init = self.init.as_ref();
        let init = init.with_context(|| format!("{} is off", self.name))?;
        Ok(format!("nsenter --target={} --net --pid --mount", init.pid))
    }

    /// Makes it so that the machine outlives this value.
    pub fn keep(&mut self) {
        if let Some(init) = &mut self.init {
            init.process.keep();
        }
    }
}

/// `unshare --fork` has one: the first process of the new namespace.
fn only_child(pid: u32) -> Result<u32> {
    let children = descendants(pid);
    let first = children
        .first()
        .context("the machine has no first process")?;
    Ok(*first)
}
