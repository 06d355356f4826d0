//! Where a command leads on a host, and who could change it.

use std::path::{Path, PathBuf};

use super::{File, Host};

const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const ANYBODY_RUNS: u32 = 0o111;

/// Finds the program of a command. A name without `/` is looked up among the programs of `PATH`, any
/// other is a path, whatever stands there.
pub(super) fn find(program: &str, host: &dyn Host) -> Option<PathBuf> {
    if program.contains('/') {
        let path = PathBuf::from(program);
        return host.file(&path).is_some().then_some(path);
    }
    let candidates = host.search_path().into_iter().map(|dir| dir.join(program));
    let mut found = candidates.filter(|path| host.file(path).is_some_and(is_program));
    found.next()
}

/// Whether root can execute it.
pub(super) const fn is_program(file: File) -> bool {
    !file.is_directory && file.mode & ANYBODY_RUNS != 0
}

/// The first part of a path, from `/` down, that others than root can write, and how. Symbolic links
/// are judged by where they lead.
pub(super) fn writable_part(path: &Path, host: &dyn Host) -> Option<(PathBuf, String)> {
    let whole = host.resolve(path)?;
    let mut parts: Vec<&Path> = whole.ancestors().collect();
    parts.reverse();
    parts.into_iter().find_map(|part| {
        let why = writable_by(host.file(part)?)?;
        Some((part.to_path_buf(), why))
    })
}

/// Who besides root can write a file, or put others in its place.
fn writable_by(file: File) -> Option<String> {
    let File {
        is_directory,
        mode,
        uid,
        gid,
    } = file;
    // In such a directory, /tmp for one, everybody removes and renames only what is his.
    let is_shared = is_directory && mode & STICKY != 0;
    if uid != 0 {
        Some(format!("belongs to user {uid}"))
    } else if mode & OTHERS_WRITE != 0 && !is_shared {
        Some("can be written by everybody".to_owned())
    } else if mode & GROUP_WRITES != 0 && gid != 0 && !is_shared {
        Some(format!("can be written by group {gid}"))
    } else {
        None
    }
}
