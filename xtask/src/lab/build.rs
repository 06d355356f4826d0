//! The programs that the lab runs, fresh from the sources.

use std::path::PathBuf;

use anyhow::Result;

use crate::{ebpf, tree};

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
    let objects = ebpf::build()?;
    tree::run_cargo(["build", "--package", "xdp-lb", "--bin", "xdp-lb"])?;
    Ok(Built {
        xdp_lb: tree::target()?.join("debug/xdp-lb"),
        rig: objects.rig,
        scenario: tree::root().join("tests/scenarios").join(scenario),
    })
}
