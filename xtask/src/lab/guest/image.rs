//! An initramfs: an archive in the format `newc` of cpio, as the kernel unpacks it into memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Where a Debian system has its libraries.
const LIBRARIES: [&str; 2] = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
/// The dynamic linker.
const LINKER: &str = "ld-linux-x86-64.so.2";
/// Where this machine's programs and libraries are in the guest.
pub(super) const HOST: &str = "host";

/// Files of a guest.
#[derive(Clone, Debug, Default)]
pub(super) struct Image {
    files: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// Adds a file that anybody may run.
    pub(super) fn file(&mut self, path: &str, contents: Vec<u8>) {
        self.files.insert(path.to_owned(), contents);
    }

    /// Adds a program of an unpacked Debian system, with its libraries.
    pub(super) fn debian_program(&mut self, tree: &Path, program: &str) -> Result<()> {
        let file = tree.join(program);
        let contents = fs::read(&file).with_context(|| file.display().to_string())?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.file(&format!("usr/bin/{name}"), contents);
        let linker = linker(tree);
        for library in needed(&linker, &library_path(tree), &file)? {
            let name = library.file_name().unwrap_or_default().to_string_lossy();
            self.file(&format!("{}/{name}", LIBRARIES[0]), fs::read(&library)?);
        }
        self.file(&format!("lib64/{LINKER}"), fs::read(linker)?);
        Ok(())
    }

    /// Adds a program of this machine, with this machine's libraries, in a folder of its own: they may be
    /// newer than Debian's.
    pub(super) fn host_program(&mut self, name: &str, file: &Path) -> Result<()> {
        self.file(&format!("{HOST}/{name}"), stripped(file)?);
        let linker = Path::new("/lib64").join(LINKER);
        for library in needed(&linker, "", file)? {
            let name = library.file_name().unwrap_or_default().to_string_lossy();
            self.file(&format!("{HOST}/{name}"), fs::read(&library)?);
        }
        self.file(&format!("{HOST}/{LINKER}"), fs::read(linker)?);
        Ok(())
    }

    /// The archive.
    pub(super) fn archive(&self) -> Vec<u8> {
        const FOLDER: u32 = 0o040_755;
        const FILE: u32 = 0o100_755;
        let mut archive = Vec::new();
        let mut folders: Vec<&str> = self.files.keys().flat_map(|path| parents(path)).collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            entry(&mut archive, folder, FOLDER, &[]);
        }
        for (path, contents) in &self.files {
            entry(&mut archive, path, FILE, contents);
        }
        entry(&mut archive, "TRAILER!!!", 0, &[]);
        archive
    }
}

/// The folders that a path is in, the outermost first.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').filter_map(|(at, _)| path.get(..at))
}

fn entry(archive: &mut Vec<u8>, path: &str, mode: u32, contents: &[u8]) {
    let (links, zero) = (1, 0);
    let number = u32::try_from(archive.len()).unwrap_or(0);
    let size = u32::try_from(contents.len()).unwrap_or(u32::MAX);
    let name = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
    let fields = [
        number, mode, zero, zero, links, zero, size, zero, zero, zero, zero, name, zero,
    ];
    archive.extend_from_slice(b"070701");
    for field in fields {
        archive.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    archive.extend_from_slice(path.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend_from_slice(contents);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// The dynamic linker of an unpacked Debian system.
pub(super) fn linker(tree: &Path) -> PathBuf {
    tree.join(LIBRARIES[0]).join(LINKER)
}

/// Where it looks for libraries there.
pub(super) fn library_path(tree: &Path) -> String {
    LIBRARIES
        .map(|folder| tree.join(folder).display().to_string())
        .join(":")
}

/// The libraries that a program needs, by the dynamic linker's own account.
fn needed(linker: &Path, library_path: &str, program: &Path) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(linker);
    if !library_path.is_empty() {
        command.args(["--library-path", library_path]);
    }
    let output = command.arg("--list").arg(program).output();
    let output = output.with_context(|| format!("{} does not run", linker.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("{}: {}", program.display(), said.trim());
    }
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    let libraries = listing.lines().filter_map(|line| {
        let (_, rest) = line.split_once("=> ")?;
        Some(PathBuf::from(rest.split(" (").next()?.trim()))
    });
    Ok(libraries.collect())
}

/// A program without the names of its functions, which would fill the guest's memory.
fn stripped(file: &Path) -> Result<Vec<u8>> {
    let out = tempfile::NamedTempFile::new()?;
    let mut strip = Command::new("strip");
    strip.arg("--strip-all").arg("-o").arg(out.path()).arg(file);
    let done = strip.status().is_ok_and(|status| status.success());
    let path = if done { out.path() } else { file };
    fs::read(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_has_folders_before_what_is_in_them() {
        let mut image = Image::default();
        image.file("a/b/c", b"hello".to_vec());
        image.file("a/d", Vec::new());
        let archive = image.archive();
        let at = |name: &[u8]| archive.windows(name.len()).position(|w| w == name).unwrap();
        assert!(at(b"a\0") < at(b"a/b\0") && at(b"a/b\0") < at(b"a/b/c\0"));
        assert!(at(b"a/d\0") < at(b"TRAILER!!!\0"));
        assert_eq!(archive.len() % 4, 0);
        // Header of 110 octets, the name, both padded; the size is the seventh field.
        let entry = at(b"a/b/c\0") - 110;
        assert_eq!(&archive[entry..entry + 6], b"070701");
        assert_eq!(&archive[entry + 54..entry + 62], b"00000005");
        assert_eq!(&archive[entry + 116..entry + 121], b"hello");
    }

    #[test]
    fn a_program_of_this_machine_brings_its_libraries() {
        let mut image = Image::default();
        image.host_program("sh", Path::new("/bin/sh")).unwrap();
        let names: Vec<_> = image.files.keys().map(String::as_str).collect();
        assert!(
            names.contains(&"host/sh") && names.contains(&"host/libc.so.6"),
            "{names:?}"
        );
    }
}
