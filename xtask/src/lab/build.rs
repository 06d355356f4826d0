//! The programs that the lab runs, fresh from the sources.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What was built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The agent and its command line.
    pub(crate) xdp_lb: PathBuf,
    /// The BPF object with the program that passes everything.
    pub(crate) rig: PathBuf,
    /// The folder of the scenario's files.
    pub(crate) scenario: PathBuf,
}

/// Builds agent and BPF objects.
pub(crate) fn build(scenario: &str) -> Result<Built> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--quiet", "--package", "xdp-lb", "--bin", "xdp-lb"])
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo could not build xdp-lb; its messages stand above");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    Ok(Built {
        xdp_lb: target.join("debug/xdp-lb"),
        rig: target.join("bpf/bpfel-unknown-none/release/rig"),
        scenario: root.join("tests/scenarios").join(scenario),
    })
}
