//! What the lab runs and runs on: the sources built, Debian's programs installed, a kernel that can.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::{ebpf, kernel, packages, tree};

/// Debian's Python: `python3` on the path may be another, without Debian's packages.
pub(crate) const PYTHON: &str = "/usr/bin/python3";

const PACKAGES: [&str; 5] = [
    "ethtool",
    "iproute2",
    "psmisc",
    "python3-websockets",
    "tcpdump",
];

/// What was built.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// The agent and its command line.
    pub(crate) xdp_lb: PathBuf,
    /// The BPF object with the program that passes everything.
    pub(crate) rig: PathBuf,
    /// The folder of what scenarios share.
    pub(crate) scenarios: PathBuf,
    /// The folder of the scenario's files.
    pub(crate) scenario: PathBuf,
}

/// Builds agent and BPF objects, and makes sure that this machine can run them.
pub(crate) fn build(scenario: &str) -> Result<Built> {
    let objects = ebpf::build()?;
    let obstacles = kernel::obstacles(&objects.rig);
    if !obstacles.is_empty() {
        bail!("the lab cannot run: {}", obstacles.join("; "));
    }
    tree::run_cargo(["build", "--package", "xdp-lb"])?;
    let scenarios = tree::root().join("tests/scenarios");
    Ok(Built {
        xdp_lb: tree::target()?.join("debug/xdp-lb"),
        rig: objects.rig,
        scenario: scenarios.join(scenario),
        scenarios,
    })
}

/// Installs what the lab drives and builds networks with, if it is missing.
pub(crate) fn install() -> Result<()> {
    packages::ensure(&PACKAGES)?;
    packages::ensure_keepalived()?;
    packages::ensure_nginx()
}
