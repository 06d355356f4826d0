//! Every program before the verifier of other kernels, and one on interfaces of every kind, each in a [`guest`](super::guest).

use std::io::Write as _;

use anyhow::{Result, bail};

use super::guest::{Guest, Kernel, Task};
use crate::ebpf;
use crate::progress::say;

/// Has these kernels load everything, and prints what it took.
pub(super) fn run(kernels: &[Kernel]) -> Result<()> {
    ebpf::build()?;
    let guest = Guest::prepare()?;
    let mut refused = Vec::new();
    for kernel in kernels {
        say(format_args!("Linux {kernel} verifies, in an emulator …"));
        let mut report = guest.run(*kernel, Task::Verify)?;
        if Kernel::WITH_MODULES.contains(kernel) {
            report += &guest.run(*kernel, Task::Interfaces)?;
        }
        writeln!(std::io::stdout(), "{report}")?;
        if report.contains("REFUSED") {
            refused.push(kernel.series());
        }
    }
    if !refused.is_empty() {
        bail!("programs are refused by Linux {}", refused.join(" and "));
    }
    Ok(())
}
