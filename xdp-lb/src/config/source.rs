//! Configuration files: their text, and where in it something stands.
//!
//! [`read`] and [`Disk`] are all of [`config`](crate::config) that touches the file system. What
//! comes out is bytes; [`Sources`] holds them as text and turns a [`Span`] into line and column.
//! Nothing here knows the language.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest configuration that is read, bytes: several times a file that fills every table of a director.
pub const MAX_BYTES: u64 = 16 << 20;

/// Longest line, bytes. keepalived itself stops far below.
const MAX_LINE: usize = 1 << 16;

/// How many uses of definitions are remembered for messages.
const MAX_USES: usize = 1 << 16;

/// Which of the [`Sources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(usize);

/// A range of bytes in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// The file.
    pub file: FileId,
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
}

impl Span {
    /// From the start of this one to the end of `other`; this one when that is in another file.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        if other.file != self.file {
            return self;
        }
        Self {
            end: other.end.max(self.start),
            ..self
        }
    }
}

/// Where a byte stands, as people count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// One file.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    text: Arc<String>,
    /// Byte offset of the start of each line.
    lines: Vec<usize>,
}

impl Source {
    /// What messages call the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its text. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte offset; the end of the text for an offset behind it.
    pub fn position(&self, offset: usize) -> Position {
        let index = self.line_index(offset);
        let start = self.lines.get(index).copied().unwrap_or(0);
        let before = self.text.get(start..offset.min(self.text.len()));
        Position {
            line: index + 1,
            column: before.unwrap_or("").chars().count() + 1,
        }
    }

    /// The whole lines that `span` touches: number of the first (from 1), its byte offset, the text.
    pub fn lines_around(&self, span: Span) -> (usize, usize, &str) {
        let first = self.line_index(span.start);
        let last = self.line_index(span.end.saturating_sub(1).max(span.start));
        let start = self.lines.get(first).copied().unwrap_or(0);
        let end = self.lines.get(last + 1).copied().unwrap_or(self.text.len());
        let text = self.text.get(start..end).unwrap_or("");
        (first + 1, start, text.trim_end_matches(['\n', '\r']))
    }

    /// Index in `lines` of the line that holds `offset`.
    fn line_index(&self, offset: usize) -> usize {
        self.lines
            .partition_point(|&start| start <= offset)
            .saturating_sub(1)
    }
}

/// Every file of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<Source>,
    /// Where definitions are used, and where what is used was defined.
    uses: BTreeMap<Span, Span>,
}

impl Sources {
    /// Adds a file.
    pub fn add(&mut self, name: impl Into<String>, bytes: &[u8]) -> FileId {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let lines = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        self.files.push(Source {
            name: name.into(),
            text: Arc::new(text),
            lines,
        });
        FileId(self.files.len() - 1)
    }

    /// A file that was added.
    pub fn file(&self, id: FileId) -> Option<&Source> {
        self.files.get(id.0)
    }

    /// Text of a file; empty for one that was not added.
    pub fn text(&self, id: FileId) -> &str {
        self.file(id).map_or("", Source::text)
    }

    /// The same, to be kept while files are added.
    pub(super) fn shared_text(&self, id: FileId) -> Arc<String> {
        self.file(id)
            .map(|file| Arc::clone(&file.text))
            .unwrap_or_default()
    }

    /// Notes that what stands at `place` stands for what is defined at `definition`.
    pub(super) fn note_use(&mut self, place: Span, definition: Span) {
        if self.uses.len() < MAX_USES {
            self.uses.insert(place, definition);
        }
    }

    /// Where that which `span` shows was defined, if a definition put it there.
    pub fn definition(&self, span: Span) -> Option<Span> {
        let end = Span {
            start: span.end,
            end: 0,
            ..span
        };
        let (place, definition) = self.uses.range(..end).next_back()?;
        let within = place.file == span.file && place.end > span.start;
        within.then_some(*definition)
    }

    /// `FILE:LINE` of the start of `span`.
    pub fn place(&self, span: Span) -> String {
        let name = self.file(span.file).map_or("", Source::name);
        format!("{name}:{}", self.line(span))
    }

    /// Line of the start of `span`, from 1.
    pub fn line(&self, span: Span) -> usize {
        self.file(span.file)
            .map_or(1, |file| file.line_index(span.start) + 1)
    }
}

/// Why a configuration file could not be read: one line that says what, why and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such file.
    #[error("no configuration file {}: create it, or name another one with -f FILE", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It may not be opened.
    #[error("may not read {}: permission denied; run as root, or make the file readable", path.display())]
    Denied {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory.
    #[error("{} is a directory: name a file in it with -f FILE", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// It holds NUL bytes, which no keepalived.conf does.
    #[error("{} is not a text file: it has a NUL byte at offset {offset}; name a keepalived.conf with -f FILE", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// Where the first NUL is, bytes.
        offset: usize,
    },
    /// It is longer than [`MAX_BYTES`].
    #[error("{} is longer than {} MiB: name a keepalived.conf with -f FILE", path.display(), MAX_BYTES >> 20)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// It has a line longer than 64 KiB.
    #[error("{} is not a configuration: its line {line} is longer than {} KiB; name a keepalived.conf with -f FILE", path.display(), MAX_LINE >> 10)]
    LongLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// It is a device or a pipe, or executable: keepalived includes neither.
    #[error("{} is executable, or no file at all: make it a plain file, as in 'chmod -x'", path.display())]
    NotPlain {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot read {}: {source}; check the file and the disk it is on", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl ReadError {
    /// A short stable name, for machines.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "file-missing",
            Self::Denied { .. } => "file-denied",
            Self::Directory { .. } => "file-is-directory",
            Self::Binary { .. } => "file-binary",
            Self::TooLong { .. } => "file-too-long",
            Self::LongLine { .. } => "file-long-line",
            Self::NotPlain { .. } => "file-not-plain",
            Self::Other { .. } => "file-unreadable",
        }
    }
}

/// Where included files come from.
pub trait Files {
    /// The bytes of a file that is included.
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError>;

    /// The names in a directory, in any order; none when it cannot be read.
    fn list(&self, directory: &Path) -> Vec<String>;

    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> bool;

    /// A directory as `${_PWD}` shows it.
    fn full_name(&self, directory: &Path) -> PathBuf;
}

/// The files of the disk. Relative paths start at the current directory.
#[derive(Clone, Copy, Debug)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let plain = fs::metadata(path).is_ok_and(|data| {
            data.is_dir() || data.is_file() && data.permissions().mode() & 0o111 == 0
        });
        // A file that cannot be looked at cannot be read either, and that says why.
        if !plain && self.exists(path) {
            let path = path.to_path_buf();
            return Err(ReadError::NotPlain { path });
        }
        read(path)
    }

    fn list(&self, directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(or_current(directory)).into_iter().flatten();
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect()
    }

    fn exists(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok()
    }

    fn full_name(&self, directory: &Path) -> PathBuf {
        fs::canonicalize(or_current(directory)).unwrap_or_else(|_| directory.to_path_buf())
    }
}

/// The directory, `.` for an empty path.
fn or_current(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    }
}

/// No files: whatever is included is missing.
#[derive(Clone, Copy, Debug)]
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, path: &Path) -> Result<Vec<u8>, ReadError> {
        let path = path.to_path_buf();
        Err(ReadError::Missing { path })
    }

    fn list(&self, _: &Path) -> Vec<String> {
        Vec::new()
    }

    fn exists(&self, _: &Path) -> bool {
        false
    }

    fn full_name(&self, directory: &Path) -> PathBuf {
        directory.to_path_buf()
    }
}

/// Reads a configuration file. `-` is not special; pipes and `/dev/stdin` work.
pub fn read(path: &Path) -> Result<Vec<u8>, ReadError> {
    read_from(path, File::open(path))
}

/// The same from what is open, or could not be opened; messages call it `path`.
pub fn read_from(path: &Path, file: std::io::Result<impl Read>) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    let read = file.and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    if let Err(source) = read {
        let path = path.to_path_buf();
        return Err(match source.kind() {
            ErrorKind::NotFound => ReadError::Missing { path },
            ErrorKind::PermissionDenied => ReadError::Denied { path },
            ErrorKind::IsADirectory => ReadError::Directory { path },
            _ => ReadError::Other { path, source },
        });
    }
    let path = path.to_path_buf();
    if bytes.len() as u64 > MAX_BYTES {
        return Err(ReadError::TooLong { path });
    }
    if let Some(offset) = bytes.iter().position(|&byte| byte == 0) {
        return Err(ReadError::Binary { path, offset });
    }
    let mut lines = bytes.split(|&byte| byte == b'\n');
    match lines.position(|line| line.len() > MAX_LINE) {
        None => Ok(bytes),
        Some(before) => Err(ReadError::LongLine {
            path,
            line: before + 1,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_start_at_one() {
        let mut sources = Sources::default();
        let id = sources.add("f", "a\n\u{4e2d}\u{6587} x\r\n".as_bytes());
        let file = sources.file(id).unwrap();
        let at = file.text().find('x').unwrap();
        assert_eq!(file.position(at), Position { line: 2, column: 4 });
        assert_eq!(file.position(0), Position { line: 1, column: 1 });
        assert_eq!(file.position(9999).line, 3);
        let span = Span {
            file: id,
            start: at,
            end: at + 1,
        };
        assert_eq!(file.lines_around(span), (2, 2, "\u{4e2d}\u{6587} x"));
    }

    #[test]
    fn unreadable_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let error = |path: &Path| read(path).unwrap_err();
        assert!(matches!(error(folder.path()), ReadError::Directory { .. }));
        let missing = folder.path().join("missing.conf");
        assert!(matches!(error(&missing), ReadError::Missing { .. }));
        let below_a_file = folder.path().join("plain").join("x");
        fs::write(folder.path().join("plain"), "x").unwrap();
        assert!(matches!(error(&below_a_file), ReadError::Other { .. }));
        let binary = folder.path().join("binary");
        fs::write(&binary, b"\x7fELF\0\0").unwrap();
        assert!(matches!(
            error(&binary),
            ReadError::Binary { offset: 4, .. }
        ));
        let long_line = folder.path().join("long_line");
        fs::write(&long_line, format!("a\n{}", "}".repeat(MAX_LINE + 1))).unwrap();
        assert!(matches!(
            error(&long_line),
            ReadError::LongLine { line: 2, .. }
        ));
        for path in [folder.path(), &missing, &below_a_file, &binary, &long_line] {
            let message = error(path).to_string();
            assert!(message.contains(&path.display().to_string()), "{message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
