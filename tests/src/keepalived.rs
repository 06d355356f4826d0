//! Real keepalived as the other director.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::netns::Netns;
use crate::process::Process;
use crate::wait;

/// What it may take to start, to end, to change its state.
const LIMIT: Duration = Duration::from_mins(1);

/// keepalived's VRRP in a namespace. Dropping it ends it.
#[derive(Debug)]
pub struct Keepalived {
    name: String,
    netns: Netns,
    folder: PathBuf,
    starts: u32,
    process: Option<Process>,
}

impl Keepalived {
    /// One that does not run yet; its files are kept in `folder`.
    pub fn new(name: &str, netns: &Netns, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            netns: netns.handle(),
            folder: folder.to_owned(),
            starts: 0,
            process: None,
        }
    }

    /// Starts it with a configuration and waits until it takes part.
    pub fn start(&mut self, configuration: &str) -> Result<()> {
        self.starts += 1;
        let file = |suffix: &str| self.folder.join(format!("{}.{suffix}", self.name));
        fs::write(file("conf"), configuration).context("cannot write the configuration")?;
        let mut command = Command::new("keepalived");
        command.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"]);
        command.arg("--use-file").arg(file("conf"));
        command.arg("--pid").arg(file("pid"));
        command.arg("--vrrp_pid").arg(file("vrrp.pid"));
        let name = format!("{}-{}", self.name, self.starts);
        self.process = Some(Process::start(
            &name,
            &self.netns,
            &mut command,
            &self.folder,
        )?);
        self.wait_log("STATE", 1)
    }

    /// Waits until it has logged `text` so many times since its start.
    pub fn wait_log(&self, text: &str, times: usize) -> Result<()> {
        let what = format!("{} logs '{text}' {times} times", self.name);
        let logged = || Ok((self.log().matches(text).count() >= times).then_some(()));
        let waited = wait::until(&what, LIMIT, logged);
        waited.map(drop).with_context(|| self.log())
    }

    /// What it has logged since its start.
    pub fn log(&self) -> String {
        let read = |suffix| {
            let name = format!("{}-{}.{suffix}", self.name, self.starts);
            fs::read(self.folder.join(name)).unwrap_or_default()
        };
        let (out, err) = (read("out"), read("err"));
        format!(
            "{}{}",
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&err)
        )
    }

    /// Sends all of its processes a signal and waits for the end.
    pub fn end_by(&mut self, signal: Signal) -> Result<()> {
        let mut process = self.process.take().context("keepalived does not run")?;
        process.signal(signal)?;
        process.wait(LIMIT)?;
        Ok(())
    }
}
