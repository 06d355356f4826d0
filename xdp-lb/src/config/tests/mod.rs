//! The whole way from text to meaning.

mod goldens;
mod meaning;
mod properties;
mod seeds;
mod vrrp;

use super::diagnostic::Code;
use super::{Diagnostics, Loaded, Severity, parse};

/// What is said about `text`: severity, code, line and column of each, in order.
fn said(diagnostics: &Diagnostics) -> Vec<(Severity, Code, usize, usize)> {
    diagnostics
        .iter()
        .map(|item| {
            let place = item.span().and_then(|span| {
                let file = diagnostics.sources().file(span.file)?;
                Some(file.position(span.start))
            });
            let (line, column) = place.map_or((0, 0), |at| (at.line, at.column));
            (item.severity(), item.code(), line, column)
        })
        .collect()
}

/// The configuration in `text`; shows what is wrong when there is none.
fn usable(text: &str) -> Loaded {
    parse("test.conf", text.as_bytes()).unwrap_or_else(|found| panic!("{}", found.render(false)))
}

/// Everything said about `text`.
fn found(text: &str) -> Diagnostics {
    match parse("test.conf", text.as_bytes()) {
        Ok(loaded) => loaded.diagnostics,
        Err(diagnostics) => diagnostics,
    }
}
