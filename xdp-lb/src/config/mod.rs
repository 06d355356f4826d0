//! keepalived.conf: from a file to what it means.
//!
//! ```text
//! file ─► source ─► lexer ─► expand ─► parser ─► ast ─► lower ─► model::Config ─► support
//!                                       └── keywords ───┘  └──► diagnostic ◄───────┘
//! ```
//!
//! In: the path of a file ([`load`]) or its bytes ([`parse`]). Out: a [`Loaded`], a configuration in
//! which everything is valid together with all there is to say about the file, or a [`LoadError`].
//! Every stage is total and goes on after a mistake, so one run reports all of them. Nothing here
//! looks at the host, and only `source` reads files.

pub mod ast;
pub mod diagnostic;
mod expand;
pub mod keywords;
mod lexer;
pub mod lower;
pub mod model;
mod parser;
pub mod places;
pub mod print;
pub mod source;
pub mod support;

use std::path::{Path, PathBuf};

use diagnostic::Collector;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
use model::Config;
use places::Places;
pub use source::ReadError;
use source::Sources;

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
    let bytes = source::read(path)?;
    parse(&path.display().to_string(), &bytes).map_err(|diagnostics| LoadError::Invalid {
        path: path.to_path_buf(),
        diagnostics: Box::new(diagnostics),
    })
}

/// Reads a configuration from its bytes; messages call it `name`. Total on any bytes.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Loaded, Diagnostics> {
    read(name, bytes, support::check)
}

/// The same, and also configurations that this version understands and cannot run.
pub fn understand(name: &str, bytes: &[u8]) -> Result<Loaded, Diagnostics> {
    read(name, bytes, |_, _, _| {})
}

/// `judge` has the last word on what was understood.
fn read(
    name: &str,
    bytes: &[u8],
    judge: impl FnOnce(&Config, &Places, &mut Collector),
) -> Result<Loaded, Diagnostics> {
    let mut sources = Sources::default();
    let file = sources.add(name, bytes);
    let mut diagnostics = Collector::default();
    let tokens = lexer::lex(file, sources.text(file), &mut diagnostics);
    let tokens = expand::expand(tokens, &mut diagnostics);
    let tree = parser::parse(tokens, &sources, &mut diagnostics);
    let (config, places) = lower::lower(&tree, &sources, &mut diagnostics);
    judge(&config, &places, &mut diagnostics);
    let diagnostics = Diagnostics::new(sources, diagnostics);
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
