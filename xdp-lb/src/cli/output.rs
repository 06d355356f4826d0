//! Data goes to stdout, everything else to stderr.

use std::io::{ErrorKind, Write};

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
