//! Everything that can be said about the sources without running them. All checks run, also after
//! one has failed.

mod paths;
mod purity;
mod tokens;

use std::process::Command;

use anyhow::{Result, bail};

use crate::progress::{self, say};
use crate::{toolchain, tree};

/// The manifests: of the workspace, and of the BPF crate, which is none of its members.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "xdp-lb-ebpf/Cargo.toml"];
/// The fuzz targets: never part of the agent, so that they may depend on what they need.
const FUZZ: &str = "tests/fuzz/Cargo.toml";
/// The release of cargo-deny that deny.toml is written for.
const DENY: &str = "0.20.2";

/// A check with its name.
type Check = (&'static str, fn() -> Result<()>);

/// The cheap ones first.
const CHECKS: [Check; 6] = [
    ("format", format),
    ("lock files", lock_files),
    ("purity", purity::check),
    ("clippy, host side", clippy),
    ("clippy, BPF side", clippy_ebpf),
    ("dependencies", deny),
];

/// The verb `lint`.
pub(crate) fn run() -> Result<()> {
    // The agent embeds the BPF object: without it clippy cannot compile the agent.
    toolchain::ensure()?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        say(format_args!("== {name}"));
        if let Err(error) = check() {
            say(format_args!("error: {error:#}"));
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint: failed: {}", failed.join("; "));
    }
    say(format_args!("lint: ok"));
    Ok(())
}

fn format() -> Result<()> {
    tree::run_cargo(["fmt", "--all", "--check"])?;
    for manifest in ["xdp-lb-ebpf/Cargo.toml", FUZZ] {
        tree::run_cargo(["fmt", "--manifest-path", manifest, "--", "--check"])?;
    }
    Ok(())
}

/// Does each lock file fit its manifest?
fn lock_files() -> Result<()> {
    for manifest in MANIFESTS.into_iter().chain([FUZZ]) {
        let mut cargo = Command::new(tree::cargo());
        cargo.args([
            "metadata",
            "--locked",
            "--format-version=1",
            "--manifest-path",
            manifest,
        ]);
        progress::run(&format!("lock file of {manifest}"), in_root(cargo))?;
    }
    Ok(())
}

fn clippy() -> Result<()> {
    tree::run_cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

/// The BPF crate, for the host: clippy's own compiler has no source of `core` to build for BPF, and
/// nothing that clippy looks at depends on the target. It uses unstable atomics, hence the variable.
fn clippy_ebpf() -> Result<()> {
    let mut cargo = Command::new(tree::cargo());
    cargo.args([
        "clippy",
        "--manifest-path",
        "xdp-lb-ebpf/Cargo.toml",
        "--target-dir",
    ]);
    cargo
        .arg(tree::target()?.join("bpf-clippy"))
        .args(["--", "-D", "warnings"]);
    tree::run(in_root(cargo).env("RUSTC_BOOTSTRAP", "1"))
}

/// Licences, sources and bans. Advisories need a database from the network: CI adds them.
fn deny() -> Result<()> {
    let installed = Command::new(tree::cargo())
        .args(["deny", "--version"])
        .output();
    if !installed.is_ok_and(|output| output.status.success()) {
        say(format_args!(
            "cargo-deny is not installed; building {DENY}, once (some minutes)"
        ));
        let mut cargo = Command::new(tree::cargo());
        cargo.args(["install", "cargo-deny", "--locked", "--version", DENY]);
        progress::run("building cargo-deny", cargo)?;
    }
    for manifest in MANIFESTS {
        let mut cargo = Command::new(tree::cargo());
        cargo.args([
            "deny",
            "--manifest-path",
            manifest,
            "check",
            "--hide-inclusion-graph",
        ]);
        cargo.args(["bans", "licenses", "sources"]);
        tree::run(&mut in_root(cargo))?;
    }
    Ok(())
}

fn in_root(mut command: Command) -> Command {
    command.current_dir(tree::root());
    command
}
