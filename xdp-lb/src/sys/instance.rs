//! One agent per instance name, and the files it keeps.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::bpffs;

/// Where the folders of running agents are.
const RUN: &str = "/run/xdp-lb";
/// Held while an agent runs.
const LOCK: &str = "lock";

/// The name of an instance: 1 to 32 letters, digits, `_`, `-`. (No dots: a BPF
/// file system keeps those for itself.)
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

/// The text is no name of an instance.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no instance name: 1 to 32 letters, digits, '_' or '-', such as 'blue'")]
pub struct InvalidName(String);

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The socket by which a running agent of this name is asked and told things.
    pub fn control_socket(&self) -> PathBuf {
        Path::new(RUN).join(&self.0).join("control.sock")
    }

    /// The folder of its pinned maps and links.
    pub fn pins(&self) -> PathBuf {
        Path::new(bpffs::PATH).join("xdp-lb").join(&self.0)
    }
}

impl Default for Name {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let valid = (1..=32).contains(&text.len()) && text.chars().all(allowed);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidName(text.to_owned()))
        }
    }
}

/// Why this process cannot be the agent of that name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another agent is.
    #[error(
        "instance '{name}' runs already{}: stop it, or choose another name by --instance",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Running {
        /// The name.
        name: Name,
        /// Its process.
        pid: Option<u32>,
    },
    /// The folder or the lock cannot be used.
    #[error("cannot use {path}: {source}")]
    Folder {
        /// The folder or file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// This process as the one agent of its name. Dropping it gives the name free, as any death of the
/// process does; the folder stays for a successor unless [`Instance::remove`] is called.
#[derive(Debug)]
pub struct Instance {
    name: Name,
    folder: PathBuf,
    lock: File,
}

impl Instance {
    /// Takes the name.
    ///
    /// # Errors
    ///
    /// [`Error::Running`] if another process has it.
    pub fn acquire(name: &Name) -> Result<Self, Error> {
        Self::acquire_in(Path::new(RUN), name)
    }

    /// The same with the folder in `base`.
    pub fn acquire_in(base: &Path, name: &Name) -> Result<Self, Error> {
        let folder = base.join(name.as_str());
        let path = folder.join(LOCK);
        loop {
            let failed = |path: &Path| {
                let path = path.to_owned();
                move |source| Error::Folder { path, source }
            };
            make_folder(&folder).map_err(failed(&folder))?;
            let mut lock = match open(&path) {
                // A predecessor removed the folder meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed(&path))?,
            };
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::Running {
                        name: name.clone(),
                        pid: read_pid(&mut lock),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(failed(&path)(error)),
            }
            if !is_same_file(&lock, &path) {
                // A predecessor removed its files between our open and our lock.
                continue;
            }
            write_pid(&mut lock).map_err(failed(&path))?;
            return Ok(Self {
                name: name.clone(),
                folder,
                lock,
            });
        }
    }

    /// The name.
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// The folder for this agent's files: `/run/xdp-lb/NAME`, mode 0750.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes the folder and what is in it, then gives the name free: a full stop.
    pub fn remove(self) -> Result<(), Error> {
        remove_files(&self.folder).map_err(|source| Error::Folder {
            path: self.folder.clone(),
            source,
        })?;
        drop(self.lock);
        Ok(())
    }
}

fn remove_files(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name() != LOCK {
            match fs::remove_file(entry.path()) {
                // Its owner removed it meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    // From here on a successor may come, and keeps the folder.
    fs::remove_file(folder.join(LOCK))?;
    match fs::remove_dir(folder) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound
            ) =>
        {
            Ok(())
        }
        removed => {
            if let Some(base) = folder.parent() {
                // It stays while another instance has a folder in it.
                drop(fs::remove_dir(base));
            }
            removed
        }
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    match make_folder_once(folder) {
        // The last instance went, and the base with it, between the two steps.
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_folder_once(folder),
        made => made,
    }
}

fn make_folder_once(folder: &Path) -> io::Result<()> {
    if let Some(base) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(base)?;
    }
    match DirBuilder::new().mode(0o750).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(path)
}

fn is_same_file(file: &File, path: &Path) -> bool {
    let named = fs::metadata(path);
    matches!((file.metadata(), named), (Ok(ours), Ok(named)) if
        (ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    writeln!(lock, "{}", std::process::id())
}

fn read_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_is_one_plain_component_of_a_path() {
        for good in ["default", "a", "blue-1_x", &"x".repeat(32)] {
            assert_eq!(good.parse::<Name>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            ".",
            "..",
            "a.b",
            "a/b",
            "a b",
            "ü",
            "a\n",
            &"x".repeat(33),
        ] {
            assert_eq!(
                bad.parse::<Name>(),
                Err(InvalidName(bad.to_owned())),
                "{bad:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_the_folder(text in ".{0,40}") {
            if let Ok(name) = text.parse::<Name>() {
                let socket = name.control_socket();
                let plain = |c| matches!(c, std::path::Component::Normal(_) | std::path::Component::RootDir);
                prop_assert!(socket.components().all(plain));
                prop_assert_eq!(socket.components().count(), 5);
            }
        }
    }

    #[test]
    fn a_second_agent_is_refused_by_the_pid_of_the_first() {
        let base = tempfile::tempdir().unwrap();
        let name: Name = "blue".parse().unwrap();
        let first = Instance::acquire_in(base.path(), &name).unwrap();
        let mode = fs::metadata(first.folder()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o750);
        let refused = Instance::acquire_in(base.path(), &name).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "instance 'blue' runs already (pid {}): stop it, or choose another name by \
                 --instance",
                std::process::id()
            )
        );
        let other = Instance::acquire_in(base.path(), &"green".parse().unwrap()).unwrap();
        assert_eq!(other.name().as_str(), "green");
        drop(first);
        // A killed agent leaves its files; they are no obstacle.
        let second = Instance::acquire_in(base.path(), &name).unwrap();
        second.remove().unwrap();
        assert!(!base.path().join("blue").exists());
        Instance::acquire_in(base.path(), &name).unwrap();
    }

    #[test]
    fn agents_that_start_and_stop_at_once_never_run_together() {
        use std::sync::atomic::{AtomicU32, Ordering};

        let base = tempfile::tempdir().unwrap();
        let name: Name = "busy".parse().unwrap();
        let running = AtomicU32::new(0);
        let turns = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Ok(instance) = Instance::acquire_in(base.path(), &name) else {
                            continue;
                        };
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
                        turns.fetch_add(1, Ordering::SeqCst);
                        running.fetch_sub(1, Ordering::SeqCst);
                        instance.remove().unwrap();
                    }
                });
            }
        });
        assert!(turns.into_inner() > 0);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let base = tempfile::NamedTempFile::new().unwrap();
        let error = Instance::acquire_in(base.path(), &Name::default()).unwrap_err();
        assert!(
            error.to_string().contains(&*base.path().to_string_lossy()),
            "{error}"
        );
    }
}
