//! The BPF file system, where maps and links are pinned so that they outlive the agent.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// Where it belongs.
pub const PATH: &str = "/sys/fs/bpf";

/// Why there is no BPF file system.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The mount point is missing: no sysfs, or a kernel without BPF.
    #[error(
        "{path} does not exist: mount sysfs (mount -t sysfs sysfs /sys) on a kernel with \
         CONFIG_BPF_SYSCALL"
    )]
    NoMountPoint {
        /// The mount point.
        path: PathBuf,
    },
    /// It cannot be mounted.
    #[error("cannot mount the BPF file system: {source}; run: mount -t bpf bpf {path}")]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// How the BPF file system was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was mounted already.
    Stood,
    /// It was mounted now.
    Mounted,
    /// It was mounted now, in a mount namespace that is not the machine's: with the last process in
    /// there (under `ip netns exec`, this one) the mount goes, and every pin with it.
    MountedPrivately,
}

impl State {
    /// What the user should know about it.
    pub const fn warning(self) -> Option<&'static str> {
        match self {
            Self::Stood | Self::Mounted => None,
            Self::MountedPrivately => Some(
                "the BPF file system was mounted in a private mount namespace: connections will not \
                 survive a restart; mount it on the host (mount -t bpf bpf /sys/fs/bpf), and enter \
                 network namespaces by nsenter --net=/run/netns/NAME instead of ip netns exec",
            ),
        }
    }
}

/// Makes sure that [`PATH`] is a BPF file system.
pub fn ensure() -> Result<State, Error> {
    ensure_at(Path::new(PATH), is_namespace_private())
}

fn ensure_at(path: &Path, private: bool) -> Result<State, Error> {
    let found = statfs(path).map_err(|_missing| Error::NoMountPoint {
        path: path.to_owned(),
    })?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(State::Stood);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // As systemd mounts it: for root alone.
    let mounted = mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"));
    mounted.map_err(|errno| Error::Mount {
        path: path.to_owned(),
        source: errno.into(),
    })?;
    if private {
        Ok(State::MountedPrivately)
    } else {
        Ok(State::Mounted)
    }
}

/// Whether this thread's mount namespace is another than that of a process it descends from, the
/// machine's first one included. (The first one alone would not do: even root may be forbidden to
/// look at it.)
fn is_namespace_private() -> bool {
    let Ok(own) = fs::read_link("/proc/thread-self/ns/mnt") else {
        return false;
    };
    let mut process = Some(std::process::id());
    while let Some(id) = process {
        match fs::read_link(format!("/proc/{id}/ns/mnt")) {
            Ok(namespace) if namespace != own => return true,
            _ => process = parent(id),
        }
    }
    false
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok().filter(|parent| *parent != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_mount_point_is_named() {
        let error = ensure_at(Path::new("/nowhere/bpf"), false).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("/nowhere/bpf does not exist: ")
        );
    }

    #[test]
    fn only_a_mount_that_goes_with_the_process_is_warned_of() {
        assert_eq!(State::Stood.warning(), None);
        assert_eq!(State::Mounted.warning(), None);
        assert!(State::MountedPrivately.warning().is_some());
    }

    #[test]
    fn it_is_mounted_once_and_found_again() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            eprintln!("SKIPPED: this test needs root");
            return;
        }
        // A mount namespace of its own takes the mount along when the thread ends.
        let in_namespace = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let folder = tempfile::tempdir().unwrap();
            let first = ensure_at(folder.path(), is_namespace_private()).unwrap();
            let second = ensure_at(folder.path(), is_namespace_private()).unwrap();
            nix::mount::umount(folder.path()).unwrap();
            (first, second)
        });
        let found = in_namespace.join().unwrap();
        assert_eq!(found, (State::MountedPrivately, State::Stood));
    }
}
