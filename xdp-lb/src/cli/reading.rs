//! How the verbs read configurations.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use clap::Args;

use crate::config::source::{self, Disk};
use crate::config::{self, LoadError, Loaded, Options};
use crate::sys::firewall;

/// What a configuration depends on besides its files.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Keep the lines of the configuration that begin with '@ID' [default: the host's short name]
    #[arg(long, value_name = "ID")]
    pub config_id: Option<String>,
    /// A file that is included and missing is an error.
    #[arg(skip)]
    pub all_includes: bool,
    /// Nobody looks at the firewall of this host.
    #[arg(skip)]
    pub without_firewall: bool,
}

impl Reading {
    /// Reads the file at `path`.
    pub(super) fn load(&self, path: &Path) -> Result<Loaded, LoadError> {
        self.with(|options| config::load_with(path, options))
    }

    /// Reads standard input; what it includes is found from the current directory.
    pub(super) fn load_stdin(&self) -> Result<Loaded, LoadError> {
        const NAME: &str = "<stdin>";
        let path = Path::new(NAME);
        let bytes = source::read_from(path, Ok(std::io::stdin().lock()))?;
        let read = self.with(|options| config::parse_with(NAME, &bytes, options));
        read.map_err(|diagnostics| LoadError::Invalid {
            path: path.to_path_buf(),
            diagnostics: Box::new(diagnostics),
        })
    }

    fn with<T>(&self, read: impl FnOnce(&Options<'_>) -> T) -> T {
        let host = nix::unistd::gethostname().unwrap_or_default();
        let host = host.to_string_lossy();
        let short = host.split('.').next().unwrap_or("");
        read(&Options {
            files: &Disk,
            config_id: self.config_id.as_deref().unwrap_or(short),
            environment: &|name| std::env::var(name).ok(),
            random_seed: RandomState::new().hash_one(()),
            all_includes: self.all_includes,
            firewall: &|| (!self.without_firewall).then(firewall::rules),
        })
    }
}
