//! The file by which scripts find a daemon.
//!
//! Held by a lock while the daemon runs, so that one that died is no obstacle whoever has its number
//! now. keepalived locks nothing: a process of that name is believed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the file cannot be this daemon's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another daemon has it.
    #[error(
        "a daemon runs already (pid {pid} in {path}): stop it first, or name another file by -p"
    )]
    Running {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        pid: String,
    },
    /// It cannot be used.
    #[error("cannot use the pid file {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// A claimed pid file. Dropping it removes the file.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Claims the file for this process and the child that it becomes by forking.
    pub fn claim(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::File {
            path: path.to_owned(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options.mode(0o644);
        loop {
            let mut file = options.open(path).map_err(failed)?;
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(failed)?;
            let pid = pid.trim().to_owned();
            let is_locked = match file.try_lock() {
                Ok(()) => false,
                Err(TryLockError::WouldBlock) => true,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            };
            let path = path.to_owned();
            if is_locked || is_keepalived(&pid) {
                return Err(Error::Running { path, pid });
            }
            // Otherwise a daemon that ended removed it between our open and our lock.
            if is_same_file(&file, &path) {
                return Ok(Self { path, file });
            }
        }
    }

    /// Writes the number of this process into it.
    pub fn write(&mut self) -> Result<(), Error> {
        let written = self.file.set_len(0);
        let written = written.and_then(|()| self.file.seek(SeekFrom::Start(0)));
        let written = written.and_then(|_| writeln!(self.file, "{}", std::process::id()));
        written.map_err(|source| Error::File {
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Gone or not: the lock is what counts, and it goes with the process.
        drop(fs::remove_file(&self.path));
    }
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let named = fs::metadata(path);
    matches!((file.metadata(), named), (Ok(ours), Ok(named)) if
        (ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

/// Whether another process of this number is a keepalived.
fn is_keepalived(pid: &str) -> bool {
    let is_number = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    let is_other = pid != std::process::id().to_string();
    let name = || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    is_number && is_other && name().trim_end() == "keepalived"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_number_of_the_process_while_that_runs() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keepalived.pid");
        let mut file = PidFile::claim(&path).unwrap();
        file.write().unwrap();
        let pid = std::process::id();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{pid}\n"));
        let refused = PidFile::claim(&path).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {pid} in ")), "{refused}");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_a_dead_daemon_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keepalived.pid");
        // The number of somebody else by now: this test's parent is no keepalived.
        let other = std::os::unix::process::parent_id();
        for stale in [
            "999999999\n".to_owned(),
            format!("{other}\n"),
            "junk".to_owned(),
        ] {
            fs::write(&path, &stale).unwrap();
            PidFile::claim(&path).unwrap().write().unwrap();
        }
    }

    #[test]
    fn a_running_keepalived_without_a_lock_is_respected() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("keepalived");
        fs::copy("/bin/sleep", &program).unwrap();
        let mut child = std::process::Command::new(&program)
            .arg("60")
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        // The parent of a program runs on a moment before the program has its name.
        let named = (0..10_000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            is_keepalived(&pid)
        });
        let path = folder.path().join("keepalived.pid");
        fs::write(&path, format!("{pid}\n")).unwrap();
        let claimed = PidFile::claim(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(named);
        assert!(matches!(claimed, Err(Error::Running { .. })), "{claimed:?}");
        assert!(path.exists(), "it is the other's");
    }
}
