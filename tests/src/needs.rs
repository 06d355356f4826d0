//! Whether the end-to-end suites can run at all.

use std::io::{self, Write as _};

use anyhow::{Result, ensure};

/// Whether namespaces can be made and programs loaded. Without root a suite is skipped, visibly.
///
/// # Errors
/// In CI, where a skipped suite would pass for a good one.
pub fn root() -> Result<bool> {
    if nix::unistd::geteuid().is_root() {
        return Ok(true);
    }
    ensure!(
        std::env::var_os("CI").is_none(),
        "the end-to-end suites need root"
    );
    // Not by a macro: the test harness would capture it, and nobody would see it.
    writeln!(io::stderr(), "SKIPPED: the end-to-end suites need root").ok();
    Ok(false)
}
