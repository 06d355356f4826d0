//! A verdict, and what every judge needs.

use serde::Serialize;

/// One verdict.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// What must hold.
    pub(crate) what: String,
    /// Whether it does.
    pub(crate) pass: bool,
    /// What was seen.
    pub(crate) seen: String,
}

/// A verdict.
pub(crate) fn check(what: impl Into<String>, pass: bool, seen: impl Into<String>) -> Check {
    Check {
        what: what.into(),
        pass,
        seen: seen.into(),
    }
}

/// Seconds, or that it did not happen.
pub(crate) fn seconds(value: Option<f64>) -> String {
    value.map_or_else(|| "never".to_owned(), |value| format!("{value:.1} s"))
}
