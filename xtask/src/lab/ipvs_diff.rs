//! The same services and the same packets before the kernel's own director, IPVS under keepalived, and
//! before ours: whom do they choose?
//!
//! IPVS runs in a [`guest`](super::guest). What it chose is compared by the suite `ipvs` of tests/, which
//! has the XDP program choose; with `--record` it stays in tests/ipvs/recorded, and that suite compares with it
//! wherever it runs, without a guest.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::guest::{Guest, Kernel, Task};
use crate::progress::say;
use crate::{ebpf, kernel, tree};

/// The cases, below the root of the repository.
const CASES: &str = "tests/ipvs/cases";
/// What IPVS chose.
const RECORDED: &str = "tests/ipvs/recorded";

/// Has IPVS of these kernels choose, and compares.
pub(super) fn run(kernels: &[Kernel], record: bool) -> Result<()> {
    if let Some(without) = kernels
        .iter()
        .find(|kernel| !Kernel::WITH_MODULES.contains(kernel))
    {
        bail!("the package of Linux {without} has no IPVS: there is one for 6.1 and 6.12");
    }
    let objects = ebpf::build()?;
    let obstacles = kernel::obstacles(&objects.rig);
    ensure!(
        obstacles.is_empty(),
        "our side of the comparison cannot run: {}",
        obstacles.join("; ")
    );
    let guest = Guest::prepare()?;
    let cases = cases()?;
    let mut failed = Vec::new();
    for kernel in kernels {
        say(format_args!(
            "IPVS of Linux {kernel} chooses, in an emulator (one to three minutes) …"
        ));
        let choices = guest.run(*kernel, Task::Choose(&cases))?;
        let folder = if record {
            tree::root().join(RECORDED)
        } else {
            tree::target()?.join("guest")
        };
        fs::create_dir_all(&folder)?;
        let file = folder.join(format!("linux-{kernel}.txt"));
        fs::write(&file, choices).with_context(|| file.display().to_string())?;
        let mut test = Command::new(tree::cargo());
        test.current_dir(tree::root())
            .args(["test", "--package", "xdp-lb-tests", "--test", "ipvs"])
            .env("XDP_LB_IPVS_CHOICES", &file);
        if tree::run(&mut test).is_err() {
            failed.push(kernel.series());
        }
    }
    if !failed.is_empty() {
        bail!(
            "choices differ from those of Linux {}",
            failed.join(" and ")
        );
    }
    Ok(())
}

/// All files of cases, one behind the other.
fn cases() -> Result<String> {
    let folder = tree::root().join(CASES);
    let files = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
    files.sort_unstable();
    let texts = files.iter().map(fs::read_to_string);
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}
