//! Data goes to stdout, everything else to stderr.

use std::io::{ErrorKind, IsTerminal, Write};

use anyhow::Context;

/// Writes data to stdout. A reader that went away (`xdp-lb list | head -1`) is no error.
pub(super) fn data(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}

/// Writes a remark to stderr.
pub(super) fn remark(line: &str) {
    // With stderr closed there is nobody left to tell.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// Whether stderr is read by a person who takes colours (no-color.org).
pub(super) fn is_colored() -> bool {
    let refuses = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !refuses
}
