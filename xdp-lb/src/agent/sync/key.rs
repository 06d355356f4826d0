//! The secret of the cluster, from the configuration or its file.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::model::{Config, SyncKey};
use crate::sync::key::{Keys, SECRET_MAX, SECRET_MIN, Secret};

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("state sync: cannot read its key from {path}: {reason}; make it with `openssl rand -hex 32`, the same on every director", path = .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// Others than its owner may read the file.
    #[error("state sync: {path} has mode {mode:o}, so others may read the key: `chmod 600 {path}`", path = .path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is too short, or too long.
    #[error("state sync: {path} holds a key of {length} bytes; it takes {SECRET_MIN} to {SECRET_MAX}, such as `openssl rand -hex 32` makes", path = .path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        length: usize,
    },
}

/// The keys of the cluster; `None` without state sync.
pub fn keys(config: &Config) -> Result<Option<Keys>, Error> {
    let Some(sync) = &config.xdp_lb.sync else {
        return Ok(None);
    };
    let secret = match &sync.key {
        SyncKey::Text(secret) => secret.clone(),
        SyncKey::File(path) => read(path)?,
    };
    Ok(Keys::of(&secret))
}

fn read(path: &Path) -> Result<Secret, Error> {
    let unreadable = |reason| Error::Unreadable {
        path: path.to_owned(),
        reason,
    };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Open {
            path: path.to_owned(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    let limit = SECRET_MAX as u64 + 2;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    // The end of its last line is no part of it.
    while bytes
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        bytes.pop();
    }
    let length = bytes.len();
    Secret::new(bytes).ok_or_else(|| Error::Length {
        path: path.to_owned(),
        length,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sync.key");
        assert!(matches!(read(&path), Err(Error::Unreadable { .. })));
        fs::write(&path, "0123456789abcdef\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let said = read(&path).unwrap_err().to_string();
        assert!(said.contains("has mode 640"), "{said}");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(read(&path).unwrap().reveal(), b"0123456789abcdef");
        fs::write(&path, "short\n").unwrap();
        let said = read(&path).unwrap_err().to_string();
        assert!(said.contains("a key of 5 bytes"), "{said}");
    }
}
