//! The folder on bpffs in which maps and links outlive the agent.
//!
//! `/sys/fs/bpf/xdp-lb/NAME/layout-V/` holds the maps by name and `link-IFINDEX-MODE` per interface.
//! Another version of the layout cannot be taken over: it is removed, with a message. Of another size, a map
//! stands beside the old one as `next-NAME` until it is filled ([`Pins::change_over`]).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use xdp_lb_common::limits::LAYOUT_VERSION;

use super::{AttachedMode, Error};

/// Where instances keep their pins.
pub const ROOT: &str = "/sys/fs/bpf/xdp-lb";

/// What the names of maps begin with that come in the place of others. (The kernel allows no dots.)
const NEXT: &str = "next-";

/// The pins of one instance.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
    layout: PathBuf,
}

/// A pinned link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkPin {
    /// Interface it is attached to.
    pub ifindex: u32,
    /// How.
    pub mode: AttachedMode,
    /// Its file.
    pub path: PathBuf,
}

impl Pins {
    /// The pins of an instance.
    pub fn new(instance: &str) -> Self {
        let folder = Path::new(ROOT).join(instance);
        let layout = folder.join(format!("layout-{LAYOUT_VERSION}"));
        Self { folder, layout }
    }

    /// The file of a map: of the one that comes, while one comes in the place of another.
    pub fn map(&self, name: &str) -> PathBuf {
        let next = self.next(name);
        if next.exists() {
            next
        } else {
            self.layout.join(name)
        }
    }

    /// The file of a map that comes in the place of another.
    pub fn next(&self, name: &str) -> PathBuf {
        self.layout.join(format!("{NEXT}{name}"))
    }

    /// Removes maps that never came in the place of others: whoever filled them ended before.
    pub fn forget_next(&self) -> Result<(), Error> {
        for entry in entries(&self.layout)? {
            let name = entry.file_name().and_then(|name| name.to_str());
            if name.is_some_and(|name| name.starts_with(NEXT)) {
                remove(&entry)?;
            }
        }
        Ok(())
    }

    /// Puts maps that came in the place of others there. The last one of that name stays for those who
    /// need it, see [`Self::forget_last`]; of the others only programs hold what they use.
    pub fn change_over(&self, names: &[&str], last: &str) -> Result<(), Error> {
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|error| failed("rename", from, &error))
        };
        rename(&self.layout.join(last), &self.last(last))?;
        for name in names {
            rename(&self.next(name), &self.layout.join(name))?;
        }
        Ok(())
    }

    /// Removes what [`Self::change_over`] left.
    pub fn forget_last(&self, last: &str) -> Result<(), Error> {
        remove(&self.last(last))
    }

    /// Whether [`Self::change_over`] left something.
    pub fn has_last(&self, last: &str) -> bool {
        self.last(last).exists()
    }

    fn last(&self, name: &str) -> PathBuf {
        self.layout.join(format!("last-{name}"))
    }

    /// The file of a link.
    pub fn link(&self, ifindex: u32, mode: AttachedMode) -> PathBuf {
        self.layout.join(format!("link-{ifindex}-{}", mode.name()))
    }

    /// Whether a predecessor left maps of this layout.
    pub fn exist(&self) -> bool {
        self.map("CONNS").exists()
    }

    /// Whether a predecessor left what cannot be taken over.
    pub fn have_another_layout(&self) -> Result<bool, Error> {
        let entries = entries(&self.folder)?;
        Ok(entries.iter().any(|entry| *entry != self.layout))
    }

    /// Makes the folder, after removing what cannot be taken over; whether there was such.
    pub fn prepare(&self) -> Result<bool, Error> {
        let mut foreign = false;
        for entry in entries(&self.folder)? {
            if entry != self.layout {
                foreign = true;
                remove(&entry)?;
            }
        }
        fs::create_dir_all(&self.layout).map_err(|error| failed("create", &self.layout, &error))?;
        Ok(foreign)
    }

    /// The links a predecessor left.
    pub fn links(&self) -> Result<Vec<LinkPin>, Error> {
        let links = entries(&self.layout)?.into_iter().filter_map(|path| {
            let name = path
                .file_name()?
                .to_str()?
                .strip_prefix("link-")?
                .to_owned();
            let (ifindex, mode) = name.split_once('-')?;
            let mode = AttachedMode::from_name(mode)?;
            Some(LinkPin {
                ifindex: ifindex.parse().ok()?,
                mode,
                path,
            })
        });
        Ok(links.collect())
    }

    /// Removes everything of the instance. Links go first, so that no packet meets half the tables.
    pub fn remove(&self) -> Result<(), Error> {
        for link in self.links()? {
            remove(&link.path)?;
        }
        remove(&self.folder)?;
        match fs::remove_dir(ROOT) {
            // Other instances, or nothing ever pinned.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", Path::new(ROOT), &error)),
            Ok(()) => Ok(()),
        }
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(folder) {
        Ok(entries) => Ok(entries.filter_map(|e| Some(e.ok()?.path())).collect()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("read", folder, &error)),
    }
}

/// Removes a file, or a folder with all in it; one that is gone is fine.
fn remove(path: &Path) -> Result<(), Error> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path, &error)),
        _ => Ok(()),
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Error {
    Error::Load(format!(
        "cannot {what} {}: {error}; is a BPF file system mounted on /sys/fs/bpf?",
        path.display()
    ))
}
