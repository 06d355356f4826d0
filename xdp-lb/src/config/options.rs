//! What a configuration depends on besides its files.

use super::marks::Ruleset;
use super::source::{Disk, Files};

/// What a configuration depends on besides its own text. All of it comes from the caller.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// Where included files come from.
    pub files: &'a dyn Files,
    /// What `@id` lines and `${_INSTANCE}` are about: as `keepalived -i`, by default the short name
    /// of the host. Without one, no `@id` line is kept.
    pub config_id: &'a str,
    /// Looks up the variable of the environment that `${_ENV NAME}` names.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    /// Where `${_RANDOM}` begins: the same seed and the same files give the same numbers.
    pub random_seed: u64,
    /// A file that is missing is an error whatever the kind of `include`: as `keepalived -e`.
    pub all_includes: bool,
    /// Reads the rules of the firewall, which say what has which mark; `None`: this host is not looked
    /// at. It is called only if the file balances marks of which it does not say that itself.
    pub firewall: &'a dyn Fn() -> Option<Ruleset>,
}

impl Default for Options<'_> {
    /// Files of the disk, an empty environment, no configuration id, no firewall.
    fn default() -> Self {
        Self {
            files: &Disk,
            config_id: "",
            environment: &|_| None,
            random_seed: 0,
            all_includes: false,
            firewall: &|| None,
        }
    }
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("config_id", &self.config_id)
            .field("random_seed", &self.random_seed)
            .field("all_includes", &self.all_includes)
            .finish_non_exhaustive()
    }
}
