//! The file that remembers what `down` restores: one per network namespace, for several real servers
//! may live on one machine.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::plan::Saved;

/// Where it is remembered.
#[derive(Debug)]
pub(super) struct StateFile {
    folder: PathBuf,
    path: PathBuf,
}

impl StateFile {
    /// That of the calling thread's network namespace, which its inode number names.
    pub(super) fn of_this_namespace(folder: &Path) -> Result<Self, Error> {
        let namespace = Path::new("/proc/thread-self/ns/net");
        let inode = fs::metadata(namespace)
            .map_err(failed("read", namespace))?
            .ino();
        Ok(Self {
            folder: folder.to_owned(),
            path: folder.join(format!("realserver-{inode}.json")),
        })
    }

    /// Keeps other runs out until it is dropped.
    pub(super) fn lock(&self) -> Result<File, Error> {
        fs::create_dir_all(&self.folder).map_err(failed("create", &self.folder))?;
        let folder = File::open(&self.folder).map_err(failed("open", &self.folder))?;
        folder.lock().map_err(failed("lock", &self.folder))?;
        Ok(folder)
    }

    /// What is to be undone; nothing if there is no file.
    pub(super) fn read(&self) -> Result<Saved, Error> {
        let text = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Saved::default()),
            read => read.map_err(failed("read", &self.path))?,
        };
        serde_json::from_slice(&text).map_err(|source| Error::Damaged {
            path: self.path.clone(),
            source,
        })
    }

    /// Replaces it in one step; removes it when there is nothing to undo.
    pub(super) fn write(&self, saved: &Saved) -> Result<(), Error> {
        if saved.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                removed => removed.map_err(failed("remove", &self.path)),
            };
        }
        let new = self.path.with_extension("new");
        let text = serde_json::to_vec_pretty(saved).map_err(io::Error::from);
        text.and_then(|text| fs::write(&new, text))
            .map_err(failed("write", &new))?;
        fs::rename(&new, &self.path).map_err(failed("write", &self.path))
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::State {
        operation,
        path,
        source,
    }
}
