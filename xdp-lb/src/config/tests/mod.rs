//! The whole way from text to meaning.

mod braces;
mod checkers;
mod expansion_goldens;
mod goldens;
mod meaning;
pub(super) mod memory;
mod properties;
mod seeds;
mod services;
mod vrrp;

use super::diagnostic::Code;
use super::{Diagnostics, Loaded, Options, Severity, parse, parse_with};
use memory::Memory;

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

/// Everything said about `text`. A few files are there to be included.
fn found(text: &str) -> Diagnostics {
    let files: [(&str, &[u8]); 4] = [
        ("loop.conf", b"include also.conf\n"),
        ("also.conf", b"\ninclude loop.conf\n"),
        (
            "shared.conf",
            b"# of both directors\n$VRID=300\ninclude secrets.conf\n",
        ),
        ("conf.d/vrid.conf", b"$VRID=300\n"),
    ];
    let options = Options {
        files: &Memory::new(files),
        ..Options::default()
    };
    match parse_with("test.conf", text.as_bytes(), &options) {
        Ok(loaded) => loaded.diagnostics,
        Err(diagnostics) => diagnostics,
    }
}
