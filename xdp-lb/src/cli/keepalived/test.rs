//! `keepalived -t`: the exit codes that scripts know.

use crate::config::diagnostic::Code;
use crate::config::host::Finding;
use crate::config::{Diagnostic, LoadError, Loaded, Severity};

/// What `-t` makes of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to complain of.
    Clean,
    /// Where keepalived stops reading: a keyword without its value.
    Fatal,
    /// It cannot be used.
    CannotRun,
    /// It has problems and will run.
    Problems,
    /// Its commands run without `enable_script_security`, whatever else is wrong with it.
    Security,
}

impl Verdict {
    /// The exit code, as keepalived 2.2 has it. Its manual page numbers them otherwise.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Fatal => 2,
            Self::CannotRun => 4,
            Self::Problems => 5,
            Self::Security => 6,
        }
    }

    /// Judges a configuration. `findings` are what the host makes of it.
    pub(super) fn of(loaded: &Result<Loaded, LoadError>, findings: &[Finding]) -> Self {
        let diagnostics = match loaded {
            Ok(loaded) => &loaded.diagnostics,
            Err(LoadError::Invalid { diagnostics, .. }) => diagnostics,
            Err(LoadError::Read(_)) => return Self::CannotRun,
        };
        let found = |code| {
            findings
                .iter()
                .any(|finding| finding.diagnostic.code() == code)
        };
        if diagnostics
            .iter()
            .any(|item| item.code() == Code::MissingValue)
        {
            Self::Fatal
        } else if diagnostics.has_errors() {
            Self::CannotRun
        } else if found(Code::ScriptSecurity) {
            Self::Security
        } else if diagnostics.iter().any(keepalived_complains)
            || findings.iter().any(|finding| finding.keepalived_complains)
        {
            Self::Problems
        } else {
            Self::Clean
        }
    }
}

/// Whether keepalived would say something, too: a script that waits for 0 is not to fail for what we
/// alone have to say.
fn keepalived_complains(item: &Diagnostic) -> bool {
    const OURS_ALONE: [Code; 2] = [Code::NotUtf8, Code::RuleNotUsed];
    item.severity() == Severity::Warning && !OURS_ALONE.contains(&item.code())
}
