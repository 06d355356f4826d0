//! Writing the files of `track_file`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::config::model::InitFile;

/// Permissions of a file that is made here.
const MODE: u32 = 0o644;

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
