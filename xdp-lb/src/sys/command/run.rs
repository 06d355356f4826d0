//! Runs a command to its end, or to the end of its time.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::resolve::Runnable;

/// From SIGTERM to SIGKILL, as keepalived has it.
const GRACE: Duration = Duration::from_secs(2);
/// How often an ending process is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// What a process has written comes as long after its end; what it left running may hold the pipe.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Lines of a run that are logged, and characters of a line.
const LINES: usize = 32;
const LINE_LENGTH: usize = 512;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By itself, with this exit status.
    Exited(i32),
    /// By a signal that was not ours.
    Killed(i32),
    /// It was stopped, as its time was up.
    TimedOut,
    /// It could not be started.
    NotStarted(String),
}

impl Outcome {
    /// Exit status 0 is what counts as a success.
    pub fn succeeded(&self) -> bool {
        *self == Self::Exited(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Killed(signal) => match Signal::try_from(*signal) {
                Ok(name) => write!(f, "killed by {name}"),
                Err(_) => write!(f, "killed by signal {signal}"),
            },
            Self::TimedOut => f.write_str("timed out"),
            Self::NotStarted(reason) => write!(f, "not started: {reason}"),
        }
    }
}

/// What the status of a process that was left to itself means.
pub fn judge(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exited(code),
        (None, signal) => Outcome::Killed(signal.unwrap_or_default()),
    }
}

/// Where a command's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Nowhere, as keepalived has it: right for whatever may leave a service running, which would
    /// write to a pipe that nobody reads once the agent has ended.
    Discard,
    /// To the log at level debug, a bounded number of lines of bounded length.
    Log,
}

/// Runs a command, with `more` behind its own arguments. When `limit` is over, its process group gets
/// SIGTERM and two seconds later SIGKILL. When the future is dropped, SIGKILL at once. What the
/// command left running in the background is let be when it ends by itself.
pub async fn run(
    command: &Runnable,
    more: &[String],
    limit: Option<Duration>,
    output: Output,
) -> Outcome {
    match limit {
        Some(limit) => run_until(command, more, sleep(limit), output).await,
        None => run_until(command, more, std::future::pending(), output).await,
    }
}

/// The same, until `end` comes.
pub async fn run_until(
    command: &Runnable,
    more: &[String],
    end: impl Future<Output = ()>,
    output: Output,
) -> Outcome {
    let mut child = match start(command, more, output) {
        Ok(child) => child,
        Err(error) => return Outcome::NotStarted(error.to_string()),
    };
    let readers = readers(&mut child, &command.line);
    // Declared after the process, dropped before it: its number is its own until it is reaped.
    let mut group = ProcessGroup::of(&child);
    let mut end = pin!(end);
    let status = tokio::select! {
        // What has ended in time has, also if both are found at once.
        biased;
        status = child.wait() => Some(status),
        () = &mut end => None,
    };
    let outcome = match status {
        Some(Ok(status)) => judge(status),
        Some(Err(error)) => Outcome::NotStarted(error.to_string()),
        None => {
            group.end().await;
            // Reaped, so that no zombie is left. How it ended does not matter any more.
            child.wait().await.ok();
            Outcome::TimedOut
        }
    };
    group.release();
    for mut reader in readers {
        if timeout(LAST_WORDS, &mut reader).await.is_err() {
            reader.abort();
        }
    }
    outcome
}

fn start(command: &Runnable, more: &[String], output: Output) -> io::Result<Child> {
    let stdio = || match output {
        Output::Discard => Stdio::null(),
        Output::Log => Stdio::piped(),
    };
    let mut process = Command::new(&command.program);
    process
        .args(&command.arguments)
        .args(more)
        .env_clear()
        .envs(
            command
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        )
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(stdio())
        .stderr(stdio())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(identity) = command.identity {
        // The standard library clears the supplementary groups before it changes the user.
        process.gid(identity.gid).uid(identity.uid);
    }
    process.spawn()
}

/// A process group that dies with this value, until it is released.
#[derive(Debug)]
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(child: &Child) -> Self {
        // The process leads a group of its own number.
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }

    /// Ends it, gently for [`GRACE`]; the leader is still to be reaped.
    async fn end(&mut self) {
        let Some(leader) = self.0 else { return };
        let killed = Instant::now() + GRACE;
        signal(leader, Signal::SIGTERM);
        while !has_ended(leader) && Instant::now() < killed {
            sleep(LOOK).await;
        }
        // Also what its leader left behind: as that is not reaped, nobody else has the number.
        signal(leader, Signal::SIGKILL);
    }

    const fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            signal(leader, Signal::SIGKILL);
        }
    }
}

fn signal(group: Pid, signal: Signal) {
    // A group in which nobody is left needs none.
    killpg(group, signal).ok();
}

/// Whether the process has ended, without reaping it.
fn has_ended(process: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    !matches!(waitid(Id::Pid(process), flags), Ok(WaitStatus::StillAlive))
}

type Reader = tokio::task::JoinHandle<()>;

fn readers(child: &mut Child, line: &str) -> Vec<Reader> {
    let stdout = child.stdout.take().map(|pipe| read(pipe, line));
    let stderr = child.stderr.take().map(|pipe| read(pipe, line));
    stdout.into_iter().chain(stderr).collect()
}

fn read(mut pipe: impl AsyncRead + Unpin + Send + 'static, line: &str) -> Reader {
    let command = line.to_owned();
    tokio::spawn(async move {
        let mut lines = Lines::default();
        let mut buffer = [0; 4096];
        // It is read to its end, also when nothing of it is logged any more: a full pipe would stop
        // the command.
        while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
            for said in lines.push(buffer.get(..length).unwrap_or_default()) {
                tracing::debug!(command, "{said}");
            }
        }
        if let Some(said) = lines.rest() {
            tracing::debug!(command, "{said}");
        }
    })
}

/// The first lines of an output, the beginning of each.
#[derive(Debug, Default)]
struct Lines {
    given: usize,
    partial: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if self.given >= LINES {
                break;
            }
            if *byte == b'\n' {
                lines.push(self.take());
            } else if self.partial.len() < LINE_LENGTH {
                self.partial.push(*byte);
            }
        }
        lines
    }

    fn rest(&mut self) -> Option<String> {
        (!self.partial.is_empty() && self.given < LINES).then(|| self.take())
    }

    fn take(&mut self) -> String {
        self.given += 1;
        let line = std::mem::take(&mut self.partial);
        String::from_utf8_lossy(&line).into_owned()
    }
}

/// Sees to it that of one check no two runs are under way.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Turn>);

#[derive(Debug, Default)]
struct Turn {
    taken: AtomicBool,
    skipped: AtomicU64,
}

/// The right to run, given back on drop.
#[derive(Debug)]
pub struct Permit(Arc<Turn>);

impl Turns {
    /// The right to run, unless somebody has it; then this run is skipped, and counted.
    pub fn take(&self) -> Option<Permit> {
        if self.0.taken.swap(true, Ordering::AcqRel) {
            self.0.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit(Arc::clone(&self.0)))
    }

    /// Runs that were skipped.
    pub fn skipped(&self) -> u64 {
        self.0.skipped.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_how_a_process_ended() {
        // As wait(2) gives it: the exit status in the second octet, or the signal in the first.
        let cases = [
            (0x0000, Outcome::Exited(0), true, "exit status 0"),
            (0x0100, Outcome::Exited(1), false, "exit status 1"),
            (0xff00, Outcome::Exited(255), false, "exit status 255"),
            (9, Outcome::Killed(9), false, "killed by SIGKILL"),
            (0x8b, Outcome::Killed(11), false, "killed by SIGSEGV"),
            (40, Outcome::Killed(40), false, "killed by signal 40"),
        ];
        for (status, outcome, succeeded, text) in cases {
            let judged = judge(ExitStatus::from_raw(status));
            assert_eq!(judged, outcome);
            assert_eq!(judged.succeeded(), succeeded);
            assert_eq!(judged.to_string(), text);
        }
        assert!(!Outcome::TimedOut.succeeded());
    }

    #[test]
    fn an_output_is_cut_to_its_first_lines_and_their_beginnings() {
        let mut lines = Lines::default();
        assert_eq!(lines.push(b"one\ntw"), ["one"]);
        assert_eq!(lines.push(b"o\n\nrest"), ["two", ""]);
        assert_eq!(lines.rest().as_deref(), Some("rest"));
        assert_eq!(lines.rest(), None);

        let long = vec![b'x'; 10 * LINE_LENGTH];
        assert_eq!(lines.push(&long), [""; 0]);
        assert_eq!(lines.push(b"\n")[0].len(), LINE_LENGTH);
        let left = LINES - 5;
        assert_eq!(lines.push(&b"y\n".repeat(1000)).len(), left);
        assert_eq!(lines.push(b"more"), [""; 0]);
        assert_eq!(lines.rest(), None);
    }

    #[test]
    fn one_run_of_a_check_at_a_time_and_skipped_ones_are_counted() {
        let turns = Turns::default();
        let permit = turns.take();
        assert!(permit.is_some());
        assert!(turns.take().is_none());
        assert!(turns.take().is_none());
        drop(permit);
        assert!(turns.take().is_some());
        assert_eq!(turns.skipped(), 2);
    }
}
