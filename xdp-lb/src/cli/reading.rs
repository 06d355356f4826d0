//! How the verbs read configurations.

use std::path::Path;

use crate::config::source;
use crate::config::{self, LoadError, Loaded};

/// What a configuration depends on besides its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// What `@id` lines are about; the short name of the host by default.
    pub(super) config_id: Option<String>,
    /// A file that is included and missing is an error.
    pub(super) all_includes: bool,
}

impl Reading {
    /// Reads the file at `path`.
    #[expect(
        clippy::unused_self,
        reason = "includes and lines with '@', which it is about, are not read yet"
    )]
    pub(super) fn load(&self, path: &Path) -> Result<Loaded, LoadError> {
        config::load(path)
    }

    /// Reads standard input.
    #[expect(
        clippy::unused_self,
        reason = "includes and lines with '@', which it is about, are not read yet"
    )]
    pub(super) fn load_stdin(&self) -> Result<Loaded, LoadError> {
        const NAME: &str = "<stdin>";
        let path = Path::new(NAME);
        let bytes = source::read_from(path, Ok(std::io::stdin().lock()))?;
        config::parse(NAME, &bytes).map_err(|diagnostics| LoadError::Invalid {
            path: path.to_path_buf(),
            diagnostics: Box::new(diagnostics),
        })
    }
}
