//! Files that are included.
//!
//! keepalived goes on when an included file is missing or cannot be read, unless the kind of `include`
//! asks for more: then it does not start, and so it is a warning or an error here.

use std::path::{Path, PathBuf};

use super::pattern::{self, TooMany};
use super::{Expander, Frame};
use crate::config::diagnostic::{Code, Diagnostic, Severity, quote};
use crate::config::source::{FileId, ReadError, Span};
use crate::config::text::Text;

/// What must be so, or the configuration cannot be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "keepalived's checks are independent of each other"
)]
pub(super) struct Checks {
    /// Each file can be read.
    readable: bool,
    /// A name without wildcards and braces has its file.
    name: bool,
    /// Wildcards match a file.
    wildcard: bool,
    /// Each part of a brace without wildcards has its file.
    brace: bool,
}

const ALL: Checks = Checks {
    readable: true,
    name: true,
    wildcard: true,
    brace: true,
};

/// Files that are still to be read.
pub(super) struct Include {
    /// The next one last.
    paths: Vec<PathBuf>,
    /// Where they are included.
    pub(super) span: Span,
    pub(super) checks: Checks,
}

impl Iterator for Include {
    type Item = PathBuf;

    fn next(&mut self) -> Option<PathBuf> {
        self.paths.pop()
    }
}

/// Whether a line that starts with `text` includes files.
pub(super) fn is_include(text: &str) -> bool {
    parts(text).is_some()
}

/// What is checked, and the name: all that stands behind the keyword.
fn parts(text: &str) -> Option<(Checks, &str)> {
    let behind = text.strip_prefix("include")?;
    let (kind, name) = match behind.get(..1) {
        Some(kind) if "rmwba".contains(kind) => behind.split_at(1),
        _ => ("", behind),
    };
    let checks = match kind {
        "" => Checks::default(),
        "r" => Checks {
            readable: true,
            ..Checks::default()
        },
        "m" => Checks {
            readable: true,
            name: true,
            ..Checks::default()
        },
        "w" => Checks {
            brace: false,
            ..ALL
        },
        "b" => Checks {
            readable: true,
            brace: true,
            ..Checks::default()
        },
        "a" => ALL,
        _ => return None,
    };
    let blank = name.starts_with(char::is_whitespace);
    let name = name.trim();
    (blank && !name.is_empty()).then_some((checks, name))
}

impl Expander<'_> {
    /// Finds the files that `line` includes.
    pub(super) fn include(&mut self, line: &Text) {
        let Some((checks, name)) = parts(line.as_str()) else {
            return;
        };
        let checks = if self.options.all_includes {
            ALL
        } else {
            checks
        };
        let end = line.as_str().trim_end().len();
        let span = line.span(end - name.len()..end);
        let Ok(paths) = self.find(name, checks, span) else {
            let what = format!("{} stands for too many files", quote(name));
            self.stop(what, span, "name the files that are needed");
            return;
        };
        let include = Include {
            paths,
            span,
            checks,
        };
        self.push(Frame::Files(include), span);
    }

    /// The files that `name` stands for, the first one last.
    fn find(&mut self, name: &str, checks: Checks, span: Span) -> Result<Vec<PathBuf>, TooMany> {
        let directory = self.directory();
        let alternatives = pattern::alternatives(name)?;
        let braces = alternatives.first().is_none_or(|first| first != name);
        let mut found = Vec::new();
        let mut missing = false;
        for alternative in &alternatives {
            let mut files = pattern::files(alternative, &directory, self.options.files)?;
            if !pattern::is_wild(alternative) {
                files.retain(|path| self.options.files.exists(path));
                missing |= files.is_empty();
            }
            found.extend(files);
            if found.len() > self.limits.files {
                return Err(TooMany);
            }
        }
        if missing {
            let needed = if braces { checks.brace } else { checks.name };
            self.missing(name, needed, span, &directory.join(name));
        } else if found.is_empty() && checks.wildcard {
            self.missing(name, true, span, &directory.join(name));
        }
        found.reverse();
        Ok(found)
    }

    fn missing(&mut self, name: &str, needed: bool, span: Span, path: &Path) {
        let help = if name.contains('"') {
            "write the name without quotes, which keepalived takes for a part of it"
        } else if name.contains(char::is_whitespace) {
            "the name reaches to the end of the line: write what follows it on a line of its own"
        } else {
            "create it, or remove this line"
        };
        let what = format!("there is no file {} to include", quote(name));
        let diagnostic = Diagnostic::new(severity(needed), Code::IncludeMissing, what)
            .at(span, consequence(needed))
            .help(help);
        self.push_with_chain(diagnostic, span, path);
    }

    /// Begins to read a file.
    pub(super) fn open(&mut self, path: PathBuf, span: Span, checks: Checks) {
        let key = self.key(&path);
        let again = self.open_files().any(|open| self.key(&open.path) == key);
        if again {
            let what = format!("{} includes itself", quote(&path.display().to_string()));
            let diagnostic = Diagnostic::error(Code::IncludeCycle, what)
                .at(span, "included again here")
                .help("remove this line");
            self.push_with_chain(diagnostic, span, &path);
            return;
        }
        if self.open_files().count() > self.limits.depth {
            let what = format!("files include files more than {} deep", self.limits.depth);
            self.stop(what, span, "include them from fewer places");
            return;
        }
        match self.load(&path, key) {
            Ok(file) => {
                let text = self.sources.shared_text(file);
                if self.count(text.len(), span) {
                    self.push_file(file, text, path, Some(span));
                }
            }
            Err(error) => self.unreadable(&path, &error, checks, span),
        }
    }

    /// The file, from memory when it was read before.
    fn load(&mut self, path: &Path, key: PathBuf) -> Result<FileId, ReadError> {
        if let Some(file) = self.loaded.get(&key) {
            return Ok(*file);
        }
        let bytes = self.options.files.read(path)?;
        let file = self.sources.add(path.display().to_string(), &bytes);
        self.loaded.insert(key, file);
        Ok(file)
    }

    /// The full name of a file.
    fn key(&self, path: &Path) -> PathBuf {
        let directory = path.parent().unwrap_or_else(|| Path::new(""));
        let directory = self.options.files.full_name(directory);
        directory.join(path.file_name().unwrap_or_default())
    }

    /// Counts a file; false when it is one too many.
    fn count(&mut self, bytes: usize, span: Span) -> bool {
        let left = self.left.files.checked_sub(1);
        let room = self.left.included.checked_sub(bytes);
        if let (Some(files), Some(included)) = (left, room) {
            self.left.files = files;
            self.left.included = included;
        } else {
            let what = format!(
                "more is included than {} files and {} MiB",
                self.limits.files,
                self.limits.included >> 20
            );
            self.stop(what, span, "include what is needed, once");
        }
        !self.stopped
    }

    fn unreadable(&mut self, path: &Path, error: &ReadError, checks: Checks, span: Span) {
        let (why, help, lost) = match error {
            ReadError::Missing { .. } => ("there is none", "create it", false),
            ReadError::Denied { .. } => (
                "permission denied",
                "run as root, or make the file readable",
                false,
            ),
            ReadError::Directory { .. } => (
                "it is a directory",
                "add '/*' to include the files in it",
                false,
            ),
            ReadError::NotPlain { .. } => (
                "it is executable, or a device or a pipe",
                "make it a plain file, as in 'chmod -x'",
                false,
            ),
            // keepalived would read these.
            ReadError::Binary { .. } => ("it is not a text file", "remove this line", true),
            ReadError::TooLong { .. } | ReadError::LongLine { .. } => {
                ("it is too long", "remove this line", true)
            }
            ReadError::Other { .. } => ("it cannot be read", "check the disk it is on", false),
        };
        let needed = checks.readable || lost;
        let name = quote(&path.display().to_string());
        let what = format!("{name} cannot be included: {why}");
        let diagnostic = Diagnostic::new(severity(needed), Code::IncludeUnreadable, what)
            .at(span, if lost { "refused" } else { consequence(needed) })
            .help(help);
        self.push_with_chain(diagnostic, span, path);
    }

    /// Adds which files led to `path`, if any did but the main one.
    fn push_with_chain(&mut self, diagnostic: Diagnostic, span: Span, path: &Path) {
        let from = self.open_files().filter_map(|open| open.included_at);
        let mut chain: Vec<String> = from
            .chain([span])
            .map(|span| self.sources.place(span))
            .collect();
        let diagnostic = if chain.len() > 1 {
            chain.push(path.display().to_string());
            diagnostic.because(format!("included by way of {}", chain.join(" → ")))
        } else {
            diagnostic
        };
        self.diagnostics.push(diagnostic);
    }
}

const fn severity(needed: bool) -> Severity {
    if needed {
        Severity::Error
    } else {
        Severity::Warning
    }
}

const fn consequence(needed: bool) -> &'static str {
    if needed {
        "keepalived does not start without it"
    } else {
        "skipped, as keepalived does"
    }
}
