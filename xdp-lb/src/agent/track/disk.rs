//! Reading and writing the files of `track_file`.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use super::file::Content;
use crate::config::model::InitFile;

/// Bytes of a file that are looked at: more than any number has.
const LONGEST: u64 = 128;
/// Permissions of a file that is made here.
const MODE: u32 = 0o644;

/// What stands in a file; `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Content>> {
    // A pipe or a device would be waited for.
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) => {
            return match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
                _ => Err(error),
            };
        }
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no plain file"));
    }
    let mut text = Vec::new();
    file.take(LONGEST).read_to_end(&mut text)?;
    Ok(Some(Content::of(&String::from_utf8_lossy(&text))))
}

/// Writes the number that a file starts with. Never through a symbolic link: the folder may be
/// somebody else's, and the agent is root.
pub(super) fn write(path: &Path, initial: InitFile) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).mode(MODE);
    let opened = options
        .clone()
        .create_new(true)
        .custom_flags(O_NOFOLLOW)
        .open(path);
    let file: io::Result<File> = match opened {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !initial.overwrite {
                return Ok(());
            }
            let flags = O_NOFOLLOW | O_NONBLOCK;
            options.truncate(true).custom_flags(flags).open(path)
        }
        other => other,
    };
    file?.write_all(format!("{}\n", initial.value).as_bytes())
}
