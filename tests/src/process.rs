//! Programs that run beside a test: started in a namespace, their output kept, ended with certainty.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::wait;

/// What a process gets between SIGTERM and SIGKILL when it is dropped.
const GRACE: Duration = Duration::from_secs(3);

/// A running program with all its children, which are one process group. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    kept: bool,
}

impl Process {
    /// Starts `command` in `netns`. Its output goes to `NAME.out` and `NAME.err` in `folder`.
    ///
    /// The process group of its own means that Ctrl-C does not reach it: whoever holds the value
    /// decides in which order things end.
    pub fn start(name: &str, netns: &Netns, command: &mut Command, folder: &Path) -> Result<Self> {
        let stdout = folder.join(format!("{name}.out"));
        let stderr = folder.join(format!("{name}.err"));
        command
            .stdin(Stdio::null())
            .stdout(create(&stdout)?)
            .stderr(create(&stderr)?)
            .process_group(0);
        let child = netns.run(|| command.spawn())?.with_context(|| {
            let program = command.get_program().display();
            format!("cannot start {name} ({program})")
        })?;
        Ok(Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
            kept: false,
        })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id, which is that of its group too.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds what it writes to stderr.
    pub fn log(&self) -> &Path {
        &self.stderr
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> Result<String> {
        fs::read_to_string(&self.stdout).with_context(|| self.stdout.display().to_string())
    }

    /// The last lines of what it said on stderr, for a message.
    pub fn log_tail(&self, lines: usize) -> String {
        let bytes = fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let all: Vec<_> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// An error with the log's end if it has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!(
                "{} ended early ({}):\n{}",
                self.name,
                spelled(status),
                self.log_tail(30)
            ),
        }
    }

    /// Sends a signal to the whole group.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        killpg(group(&self.child), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let Self { name, child, .. } = self;
        let what = format!("the end of {name}");
        wait::until(&what, limit, || Ok(child.try_wait()?)).map(|(status, _)| status)
    }

    /// Waits for it to end by itself and returns what it printed.
    ///
    /// # Errors
    /// When it takes longer than `limit`, or fails; then the message holds the end of its log.
    pub fn finish(mut self, limit: Duration) -> Result<String> {
        let status = self.wait(limit)?;
        if !status.success() {
            let (how, log) = (spelled(status), self.log_tail(30));
            bail!("{} failed ({how}):\n{log}", self.name);
        }
        self.stdout()
    }

    /// SIGTERM, and SIGKILL after `grace`. Returns how it ended, also if it had ended before.
    pub fn stop(&mut self, grace: Duration) -> Result<ExitStatus> {
        // An interrupt must not cut this short, so the wait is not `wait::until`.
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < grace {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill()
    }

    /// SIGKILL to the whole group, at once.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::SIGKILL)?;
        }
        Ok(self.child.wait()?)
    }

    /// SIGKILL to it and all its descendants, those that left the group too, before any of them can react
    /// to the end of another.
    pub fn kill_tree(&mut self) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            self.signal(Signal::SIGSTOP)?;
            for pid in descendants(self.pid()) {
                // It may have ended by itself.
                kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).ok();
            }
        }
        self.kill()
    }

    /// Makes it so that the process outlives this value.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kept {
            // Nobody is left to tell, and the next step of cleaning up must run all the same.
            drop(self.stop(GRACE));
        }
    }
}

/// Children, their children and so on.
pub fn descendants(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let listed = listed.unwrap_or_default();
    let children = listed
        .split_whitespace()
        .filter_map(|word| word.parse().ok());
    children
        .flat_map(|child| std::iter::once(child).chain(descendants(child)))
        .collect()
}

/// When a process that has not ended started, in clock ticks after boot: with its id, this names it
/// for good.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    // A zombie has ended, whether or not its parent has noticed.
    let ended = fields.first() == Some(&"Z");
    fields.get(19).filter(|_| !ended)?.parse().ok()
}

/// CPU time that a process has used, or of a thread of it.
pub fn cpu_time(pid: u32, thread: Option<u32>) -> Result<Duration> {
    let path = match thread {
        Some(thread) => format!("/proc/{pid}/task/{thread}/stat"),
        None => format!("/proc/{pid}/stat"),
    };
    let stat = fs::read_to_string(&path).context(path)?;
    // Behind the name, which may hold spaces: the fields from the third on (proc_pid_stat(5)).
    let fields = stat.rsplit_once(") ").context("no name in stat")?.1;
    let field = |number: usize| -> Result<u64> {
        let field = fields.split(' ').nth(number - 3);
        Ok(field.context("too few fields in stat")?.parse()?)
    };
    // USER_HZ is 100 on every architecture that Linux shows to programs today.
    Ok(Duration::from_millis(10 * (field(14)? + field(15)?)))
}

/// The threads of a process, with their names.
pub fn threads(pid: u32) -> Result<Vec<(u32, String)>> {
    let path = format!("/proc/{pid}/task");
    let mut threads = Vec::new();
    for entry in fs::read_dir(&path).context(path)? {
        let entry = entry?;
        // A thread that ends meanwhile has no name any more.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let id = entry.file_name().to_string_lossy().parse()?;
        threads.push((id, name.trim_end().to_owned()));
    }
    Ok(threads)
}

/// Ends a process group that an earlier run started, if it is still that one.
pub fn end_group(pid: u32, started: u64, grace: Duration) -> Result<()> {
    let leader = Pid::from_raw(pid.cast_signed());
    let alive = || start_time(pid) == Some(started);
    for (signal, limit) in [(Signal::SIGTERM, grace), (Signal::SIGKILL, GRACE)] {
        if !alive() {
            return Ok(());
        }
        killpg(leader, signal).with_context(|| format!("cannot send {signal} to {pid}"))?;
        let start = Instant::now();
        while alive() && start.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    if alive() {
        bail!("process {pid} does not end");
    }
    Ok(())
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

/// `exit 1`, or `killed by SIGSEGV`.
fn spelled(status: ExitStatus) -> String {
    match (status.code(), status.signal().map(Signal::try_from)) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(Ok(signal))) => format!("killed by {signal}"),
        _ => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_named_by_its_start_time() {
        let own = start_time(std::process::id());
        assert!(own.is_some());
        assert_eq!(start_time(std::process::id()), own);
        assert_eq!(start_time(u32::MAX), None);
    }

    #[test]
    fn threads_have_names_and_use_time() {
        let pid = std::process::id();
        let own = nix::unistd::gettid().as_raw().cast_unsigned();
        let name = fs::read_to_string("/proc/thread-self/comm").unwrap();
        let threads = threads(pid).unwrap();
        assert!(threads.contains(&(own, name.trim_end().to_owned())));
        let enough = cpu_time(pid, Some(own)).unwrap() + Duration::from_millis(30);
        while cpu_time(pid, Some(own)).unwrap() < enough {
            std::hint::black_box(0);
        }
        assert!(cpu_time(pid, None).unwrap() >= enough);
        assert!(cpu_time(u32::MAX, None).is_err());
    }

    #[test]
    fn a_group_of_another_start_time_is_left_alone() {
        let mut child = Command::new("sleep")
            .arg("60")
            .process_group(0)
            .spawn()
            .unwrap();
        let started = start_time(child.id()).unwrap();
        end_group(child.id(), started + 1, Duration::ZERO).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
