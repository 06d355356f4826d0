//! Named pipes that get events, one per line, and what reads them (`notify_fifo`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::resolve::{Identity, Runnable};
use super::run::{self, Output};

/// Permissions of a pipe that is made here, keepalived's: its owner's alone.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// Longest line that the kernel writes as a whole or not at all (`PIPE_BUF`).
const LONGEST: usize = 4096;
/// Until a script that ended is started again: at first, and at most.
const RESTART: Duration = Duration::from_secs(1);
const RESTART_AT_MOST: Duration = Duration::from_mins(1);

/// Why there is no pipe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be made or opened.
    #[error("cannot use the FIFO {}: {source}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{} is no FIFO: remove it, or name another path", .0.display())]
    NoFifo(PathBuf),
}

/// The writing end of a named pipe. If the pipe was made here it goes on drop.
#[derive(Debug)]
pub struct Fifo {
    path: PathBuf,
    pipe: File,
    is_ours: bool,
    /// Lines that nobody had room for, and whether that was so the last time.
    dropped: u64,
    is_full: bool,
}

impl Fifo {
    /// Opens the pipe, which is made if it is not there, and then belongs to `owner`.
    ///
    /// # Errors
    ///
    /// Something that is no pipe is there, a symbolic link for one.
    pub fn open(path: &Path, owner: Option<Identity>) -> Result<Self, Error> {
        let failed = |source| Error::Open {
            path: path.to_owned(),
            source,
        };
        let is_ours = match mkfifo(path, MODE) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(errno) => return Err(failed(errno.into())),
        };
        if is_ours
            && let Some(owner) = owner
            && let Err(error) = chown(path, Some(owner.uid), Some(owner.gid))
        {
            // One that its reader may not open is of no use to anybody.
            fs::remove_file(path).ok();
            return Err(failed(error));
        }
        // Open for reading as well: so lines wait for a reader that is still to come.
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(O_NONBLOCK | O_NOFOLLOW)
            .open(path);
        let pipe = match opened {
            Ok(pipe) => pipe,
            Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => {
                return Err(Error::NoFifo(path.to_owned()));
            }
            Err(error) => return Err(failed(error)),
        };
        if !pipe.metadata().map_err(failed)?.file_type().is_fifo() {
            return Err(Error::NoFifo(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            pipe,
            is_ours,
            dropped: 0,
            is_full: false,
        })
    }

    /// Writes a line, to which the end of the line is added. Never waits: when the pipe is full, as
    /// nobody reads it, the line is dropped, which is said once until there is room again.
    pub fn write(&mut self, line: &str) {
        let line = format!("{line}\n");
        let written = if line.len() > LONGEST {
            Err(io::ErrorKind::InvalidInput.into())
        } else {
            self.pipe.write(line.as_bytes()).map(drop)
        };
        match written {
            Ok(()) => self.is_full = false,
            Err(error) => {
                self.dropped += 1;
                if !self.is_full {
                    let path = self.path.display();
                    tracing::warn!("cannot write to the FIFO {path}, lines are lost: {error}");
                }
                self.is_full = true;
            }
        }
    }

    /// Lines that were dropped.
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Drop for Fifo {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(&self.path)
        {
            let path = self.path.display();
            tracing::warn!("cannot remove the FIFO {path}: {error}");
        }
    }
}

/// The script that reads a pipe. It is started again when it ends.
#[derive(Debug)]
pub struct Reader {
    stop: Option<oneshot::Sender<Duration>>,
    worker: JoinHandle<()>,
}

impl Reader {
    /// Starts it, with the pipe's path as its last argument. Must be called inside a tokio runtime.
    pub fn start(command: Runnable, fifo: &Path) -> Self {
        let (stop, stopped) = oneshot::channel();
        let path = fifo.to_string_lossy().into_owned();
        let worker = tokio::spawn(keep_running(command, path, stopped));
        Self {
            stop: Some(stop),
            worker,
        }
    }

    /// Does not start it again when it ends, as it does when the pipe is closed, and lets it live for
    /// `grace` at most.
    pub fn release(&mut self, grace: Duration) {
        if let Some(stop) = self.stop.take() {
            // Whoever is gone needs not be told.
            stop.send(grace).ok();
        }
    }

    /// Stops it, at once unless it was released: SIGTERM, two seconds later SIGKILL.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.worker).await.ok();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // What it runs is killed with it.
        self.worker.abort();
    }
}

async fn keep_running(command: Runnable, path: String, mut stopped: oneshot::Receiver<Duration>) {
    let mut pause = RESTART;
    loop {
        let started = Instant::now();
        let mut told = false;
        let stop = async {
            let grace = (&mut stopped).await.unwrap_or_default();
            told = true;
            sleep(grace).await;
        };
        let more = [path.clone()];
        let outcome = run::run_until(&command, &more, stop, Output::Discard).await;
        if told || !matches!(stopped.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            return;
        }
        // One that ran for long gets its chance at once again.
        pause = if started.elapsed() > RESTART_AT_MOST {
            RESTART
        } else {
            pause
        };
        tracing::warn!(
            "'{}', which reads the FIFO {path}: {outcome}; it is started again in {pause:?}",
            command.line
        );
        tokio::select! {
            () = sleep(pause) => {}
            _ = &mut stopped => return,
        }
        pause = (pause * 2).min(RESTART_AT_MOST);
    }
}
