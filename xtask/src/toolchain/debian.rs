//! Sets the toolchain up on Debian, as root.
//!
//! Debian's security archive carries a recent compiler for building browsers, `rustc-web`, with the
//! source of `core` and the LLVM that it was built with: the three that belong together. `bpf-linker`
//! is built from crates.io against that LLVM and installed where cargo installs programs, so that
//! another clone finds it again.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, anyhow, bail};

use super::find::{Candidate, Missing, Rustc, Surroundings, Toolchain};
use crate::packages;
use crate::progress::{self, say};
use crate::tree;

/// The release that is built, and the versions of LLVM it is made for.
const LINKER: (&str, std::ops::RangeInclusive<u32>) = ("0.13.0", 21..=23);

/// Installs what is missing. If it may not, or cannot, the error is `missing` with its instructions.
pub(super) fn set_up(around: &Surroundings, missing: Missing) -> Result<()> {
    if !may(around) {
        return Err(missing.into());
    }
    install(around).map_err(|error| anyhow!("{error:#}\n{missing}"))
}

/// Only Debian has these packages, only root installs them, and what the user chose by a variable
/// cannot be put right by installing something else.
fn may(around: &Surroundings) -> bool {
    let chosen = around.only_rustc.is_some() || around.only_linker.is_some();
    !chosen && packages::on_debian() && nix::unistd::geteuid().is_root()
}

fn install(around: &Surroundings) -> Result<()> {
    say(format_args!(
        "setting up the BPF toolchain, once (about two minutes): Debian's rustc-web with its LLVM, \
         and a bpf-linker for it in {}",
        around.cargo_home.join("bin").display()
    ));
    if compiler(around).is_err() {
        packages::update()?;
        packages::install(&["rustc-web", "rust-web-src"])?;
    }
    let llvm = compiler(around)?.llvm;
    if Toolchain::find(around).is_ok() {
        // A linker for it was here all along.
        return Ok(());
    }
    packages::ensure(&[
        &format!("llvm-{llvm}-dev"),
        &format!("libpolly-{llvm}-dev"),
        "libzstd-dev",
        "zlib1g-dev",
    ])?;
    build_linker(llvm, &around.cargo_home)
}

fn compiler(around: &Surroundings) -> Result<Rustc> {
    Rustc::ask(Candidate::from(around.debian_rustc.clone())).map_err(anyhow::Error::msg)
}

fn build_linker(llvm: u32, cargo_home: &Path) -> Result<()> {
    let (version, supported) = LINKER;
    if !supported.contains(&llvm) {
        bail!("bpf-linker {version} is not made for LLVM {llvm}, which this rustc uses");
    }
    let prefix = format!("/usr/lib/llvm-{llvm}");
    let mut cargo = Command::new(tree::cargo());
    cargo.args([
        "install",
        "bpf-linker",
        "--version",
        version,
        "--locked",
        "--force",
    ]);
    cargo.args([
        "--no-default-features",
        "--features",
        &format!("llvm-{llvm}"),
        "--root",
    ]);
    cargo.arg(cargo_home);
    cargo.env("LLVM_PREFIX", &prefix);
    let path = std::env::var("PATH").unwrap_or_default();
    cargo.env("PATH", format!("{prefix}/bin:{path}"));
    let what = format!(
        "building bpf-linker {version} for LLVM {llvm} into {}",
        cargo_home.display()
    );
    progress::run(&what, cargo)
}
