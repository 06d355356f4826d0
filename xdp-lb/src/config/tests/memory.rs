//! Files for tests, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::config::source::{Files, ReadError};

/// Files by name. Directories are where files are in.
#[derive(Clone, Debug, Default)]
pub(in crate::config) struct Memory(BTreeMap<PathBuf, Vec<u8>>);

impl Memory {
    pub(in crate::config) fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let files = files
            .into_iter()
            .map(|(name, bytes)| (PathBuf::from(name), bytes.to_vec()));
        Self(files.collect())
    }

    /// What is below a directory, as the rest of its path.
    fn below(&self, directory: &Path) -> impl Iterator<Item = &Path> {
        self.0
            .keys()
            .filter_map(move |path| path.strip_prefix(directory).ok())
            .filter(|rest| !rest.as_os_str().is_empty())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let name = path.to_path_buf();
        match self.0.get(path) {
            Some(bytes) => Ok(bytes.clone()),
            None if self.exists(path) => Err(ReadError::Directory { path: name }),
            None => Err(ReadError::Missing { path: name }),
        }
    }

    fn list(&self, directory: &Path) -> Vec<String> {
        let names: BTreeSet<String> = self
            .below(directory)
            .filter_map(|rest| Some(rest.iter().next()?.to_str()?.to_owned()))
            .collect();
        names.into_iter().rev().collect()
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.contains_key(path) || self.below(path).next().is_some()
    }

    fn full_name(&self, directory: &Path) -> PathBuf {
        Path::new("/etc/lb").join(directory)
    }
}
