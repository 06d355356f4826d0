//! keepalived.conf: from a file to what it means.
//!
//! ```text
//! files ─► source ─► expand ─► lexer ─► parser ─► ast ─► lower ─► model::Config ─► marks ─► support
//!                                        └── keywords ───┘  └──► diagnostic ◄──────┴─────────┘
//! ```
//!
//! In: the path of a file ([`load`]) or its bytes ([`parse`]), and what else it depends on
//! ([`Options`]). Out: a [`Loaded`], a configuration in
//! which everything is valid together with all there is to say about the file, or a [`LoadError`].
//! Every stage is total and goes on after a mistake, so one run reports all of them. Nothing here
//! looks at the host, and only `source` reads files; what the firewall says of marks comes in as text.

pub mod ast;
pub mod diagnostic;
mod expand;
pub mod host;
pub mod keywords;
mod lexer;
pub mod lower;
pub mod marks;
pub mod model;
pub mod options;
pub mod pair;
mod parser;
pub mod places;
pub mod print;
pub mod regex;
pub mod source;
pub mod support;
mod text;

use std::path::{Path, PathBuf};

use diagnostic::Collector;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
use model::Config;
pub use options::Options;
use places::Places;
pub use source::ReadError;
use source::{NoFiles, Sources};

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// Where its parts stand.
    pub places: Places,
    /// Warnings and notes.
    pub diagnostics: Diagnostics,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It has errors.
    #[error("{} cannot be used: {}; correct the file and try again", path.display(), count(diagnostics))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything found in it, errors and others.
        diagnostics: Box<Diagnostics>,
    },
}

/// Reads the configuration in the file at `path`.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    load_with(path, &Options::default())
}

/// The same, with all that it depends on. Included files are found from the directory of the one that
/// includes them.
pub fn load_with(path: &Path, options: &Options<'_>) -> Result<Loaded, LoadError> {
    let bytes = source::read(path)?;
    parse_with(&path.display().to_string(), &bytes, options).map_err(|diagnostics| {
        LoadError::Invalid {
            path: path.to_path_buf(),
            diagnostics: Box::new(diagnostics),
        }
    })
}

/// What [`parse`] does, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Bytes to text.
    Source,
    /// Text to tokens, with directives carried out.
    Tokens,
    /// Tokens to a tree.
    Parser,
    /// The tree to its meaning.
    Lower,
    /// What there is to say, in order.
    Diagnostics,
}

/// Reads a configuration from its bytes; messages call it `name`. Total on any bytes. Whatever it
/// includes is missing.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Loaded, Diagnostics> {
    let options = Options {
        files: &NoFiles,
        ..Options::default()
    };
    parse_with(name, bytes, &options)
}

/// The same, with all that it depends on. Included files are found from the directory that `name` is
/// in; for a name without one, such as `-`, that is the current directory.
pub fn parse_with(name: &str, bytes: &[u8], options: &Options<'_>) -> Result<Loaded, Diagnostics> {
    parse_in_stages(name, bytes, options, |_| ())
}

/// The same, and calls `done` after each stage: for whoever has a clock.
pub fn parse_in_stages(
    name: &str,
    bytes: &[u8],
    options: &Options<'_>,
    done: impl FnMut(Stage),
) -> Result<Loaded, Diagnostics> {
    read(name, bytes, options, support::check, done)
}

/// As [`parse`], and also configurations that this version understands and cannot run.
pub fn understand(name: &str, bytes: &[u8]) -> Result<Loaded, Diagnostics> {
    let options = Options {
        files: &NoFiles,
        ..Options::default()
    };
    read(name, bytes, &options, |_, _, _| {}, |_| ())
}

/// `judge` has the last word on what was understood.
fn read(
    name: &str,
    bytes: &[u8],
    options: &Options<'_>,
    judge: impl FnOnce(&Config, &Places, &mut Collector),
    mut done: impl FnMut(Stage),
) -> Result<Loaded, Diagnostics> {
    let mut sources = Sources::default();
    let file = sources.add(name, bytes);
    done(Stage::Source);
    let mut diagnostics = Collector::default();
    let tokens = expand::expand(file, &mut sources, options, &mut diagnostics);
    done(Stage::Tokens);
    let tree = parser::parse(tokens, &sources, &mut diagnostics);
    done(Stage::Parser);
    let (mut config, places) = lower::lower(&tree, &sources, &mut diagnostics);
    marks::resolve(&mut config, &places, options.firewall, &mut diagnostics);
    judge(&config, &places, &mut diagnostics);
    done(Stage::Lower);
    let diagnostics = Diagnostics::new(sources, diagnostics);
    done(Stage::Diagnostics);
    if diagnostics.has_errors() {
        Err(diagnostics)
    } else {
        Ok(Loaded {
            config,
            places,
            diagnostics,
        })
    }
}

/// `2 errors, 1 warning`.
pub fn count(diagnostics: &Diagnostics) -> String {
    let some = |severity: Severity| {
        let count = diagnostics.count(severity);
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} {}{plural}", severity.name()))
    };
    let parts: Vec<String> = [Severity::Error, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(some)
        .collect();
    if parts.is_empty() {
        "no problems".to_owned()
    } else {
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests;
