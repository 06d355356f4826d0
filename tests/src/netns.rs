//! Network namespaces with names, as `ip netns` knows them.
//!
//! They are entered by the network namespace alone, on a thread of its own. `ip netns exec` would
//! mount a fresh `/sys` over the real one, and a bpffs mounted or pinned there dies with the process.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` keeps names.
const FOLDER: &str = "/run/netns";

/// A prefix for names that only this process uses: `xl4711-`.
pub fn unique_prefix(tag: &str) -> String {
    format!("{tag}{}-", std::process::id())
}

/// A network namespace that is deleted on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    delete: bool,
    /// A process whose mount and PID namespaces are entered, too.
    within: Option<u32>,
}

impl Netns {
    /// Makes a namespace, its loopback up.
    pub fn create(name: &str) -> Result<Self> {
        output(Command::new("ip").args(["netns", "add", name]))?;
        let netns = Self {
            name: name.to_owned(),
            delete: true,
            within: None,
        };
        netns.ip("link set dev lo up")?;
        Ok(netns)
    }

    /// The same namespace again, for someone who must not delete it.
    #[must_use]
    pub fn handle(&self) -> Self {
        Self {
            name: self.name.clone(),
            delete: false,
            within: self.within,
        }
    }

    /// The same namespace for someone who must not delete it, together with the mount and PID
    /// namespaces of a process.
    #[must_use]
    pub fn handle_within(&self, pid: u32) -> Self {
        let mut handle = self.handle();
        handle.within = Some(pid);
        handle
    }

    /// A namespace that someone else made; `None` if there is none of this name.
    pub fn existing(name: &str) -> Option<Self> {
        let netns = Self {
            name: name.to_owned(),
            delete: false,
            within: None,
        };
        netns.path().exists().then_some(netns)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What `setns` and `nsenter --net=` take.
    pub fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    /// Runs `inside` in the namespace: sockets it opens, links it names, sysctls under
    /// `/proc/sys/net` it writes and processes it starts are the namespace's.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> Result<T> {
        let doors = self.doors()?;
        let within = self.within.is_some();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                if within {
                    // A thread that shares its working directory cannot change what it is in.
                    unshare(CloneFlags::CLONE_FS)?;
                }
                for (path, file, kind) in doors {
                    setns(&file, kind)
                        .with_context(|| format!("cannot enter {}", path.display()))?;
                }
                Ok(inside())
            });
            match thread.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// What to enter, opened before anything is entered: paths mean something else afterwards.
    fn doors(&self) -> Result<Vec<(PathBuf, File, CloneFlags)>> {
        let of = |pid: &u32, kind: &str| PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
        let mut paths = vec![(self.path(), CloneFlags::CLONE_NEWNET)];
        if let Some(pid) = &self.within {
            paths.push((of(pid, "pid"), CloneFlags::CLONE_NEWPID));
            paths.push((of(pid, "mnt"), CloneFlags::CLONE_NEWNS));
        }
        let open = |(path, kind): (PathBuf, CloneFlags)| {
            let file = File::open(&path).with_context(|| format!("no {}", path.display()))?;
            Ok((path, file, kind))
        };
        paths.into_iter().map(open).collect()
    }

    /// Runs a command inside to its end and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be started or fails; the message holds what it said.
    pub fn output(&self, command: &mut Command) -> Result<String> {
        self.run(|| output(command))?
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Runs lines of `ip` commands inside.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.run(|| batch(lines))?
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Makes it so that the namespace outlives this value.
    pub fn keep(&mut self) {
        self.delete = false;
    }

    /// Deletes it now. Processes inside keep a namespace without a name alive: stop them first.
    pub fn delete(&mut self) -> Result<()> {
        self.delete = false;
        output(Command::new("ip").args(["netns", "delete", &self.name])).map(drop)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.delete {
            // Nobody is left to tell, and the next step of cleaning up must run all the same.
            drop(self.delete());
        }
    }
}

/// Runs a command to its end and returns what it printed.
///
/// # Errors
/// When it cannot be started or fails; the message holds what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{shown}`"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("`{shown}` failed ({}): {}", done.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// The command as one would type it.
fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}

/// Gives lines of commands to one `ip` process.
fn batch(lines: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot run `ip`")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes())?;
        stdin.write_all(b"\n")?;
    }
    let done = child.wait_with_output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        bail!("ip: {}: in these commands:\n{lines}", said.trim());
    }
    Ok(())
}
