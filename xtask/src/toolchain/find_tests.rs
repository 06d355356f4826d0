//! Machines made of shell scripts in a folder, and what is found on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::find::{Surroundings, Toolchain};

/// A machine without anything; methods add to it.
struct Machine {
    root: TempDir,
    around: Surroundings,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let inside = |name: &str| root.path().join(name);
        let around = Surroundings {
            path: inside("path").into(),
            cargo_home: inside("cargo"),
            rustup_home: inside("rustup"),
            debian_rustc: inside("usr/bin/rustc"),
            only_rustc: None,
            only_linker: None,
        };
        Self { root, around }
    }

    /// Written by another process: the tests run in threads of one, and a child that one of them
    /// forks while another writes a script would hold it open, so that it could not be started.
    fn script(&self, path: impl AsRef<Path>, body: &str) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod +x "$0""#;
        let status = Command::new("sh")
            .args(["-c", write])
            .arg(&path)
            .arg(body)
            .status();
        assert!(
            status.unwrap().success(),
            "{} was not written",
            path.display()
        );
        path
    }

    /// A rustc in `sysroot`/bin.
    fn rustc(&self, sysroot: &str, release: &str, llvm: &str) -> PathBuf {
        let directory = self.root.path().join(sysroot);
        let body = format!(
            "case $1 in\n\
             -vV) echo 'release: {release}'; echo 'LLVM version: {llvm}' ;;\n\
             --print) echo '{}' ;;\nesac",
            directory.display()
        );
        self.script(format!("{sysroot}/bin/rustc"), &body)
    }

    fn source(&self, sysroot: &str) {
        let core = self
            .root
            .path()
            .join(sysroot)
            .join("lib/rustlib/src/rust/library/core");
        fs::create_dir_all(&core).unwrap();
        fs::write(core.join("Cargo.toml"), "").unwrap();
    }

    /// A script is no dynamic executable: its LLVM counts as built in.
    fn linker(&self, directory: &str) -> PathBuf {
        self.script(format!("{directory}/bpf-linker"), "echo bpf-linker 0.13.0")
    }

    fn find(&self) -> Result<Toolchain, String> {
        Toolchain::find(&self.around).map_err(|missing| missing.to_string())
    }

    fn complaint(&self) -> String {
        self.find().err().expect("a toolchain was found")
    }
}

const NIGHTLY: &str = "rustup/toolchains/nightly-x86_64-unknown-linux-gnu";

#[test]
fn a_nightly_with_the_source_of_core_comes_before_debian() {
    let machine = Machine::new();
    let nightly = machine.rustc(NIGHTLY, "1.97.0-nightly", "22.1.4");
    let cargo = machine.script(format!("{NIGHTLY}/bin/cargo"), "");
    machine.source(NIGHTLY);
    let dated = "rustup/toolchains/nightly-2026-01-01-x86_64-unknown-linux-gnu";
    machine.rustc(dated, "1.96.0-nightly", "22.1.2");
    machine.source(dated);
    machine.rustc("usr", "1.96.0", "22.1.8");
    machine.source("usr");
    let linker = machine.linker("path");
    let found = machine.find().unwrap();
    assert_eq!(found.rustc.path, nightly);
    assert_eq!(found.rustc.cargo, Some(cargo));
    assert_eq!(found.linker.path, linker);
}

#[test]
fn a_nightly_without_the_source_is_passed_over_for_debian() {
    let machine = Machine::new();
    machine.rustc(NIGHTLY, "1.97.0-nightly", "22.1.4");
    let debian = machine.rustc("usr", "1.96.0", "22.1.8");
    machine.source("usr");
    // Debian's own cargo may be of any age; the one that runs us is known to work.
    machine.script("usr/bin/cargo", "");
    let linker = machine.linker("cargo/bin");
    let found = machine.find().unwrap();
    assert_eq!(found.rustc.path, debian);
    assert_eq!(found.rustc.cargo, None);
    assert_eq!(found.linker.path, linker);
}

#[test]
fn every_reason_is_named_with_the_commands_of_both_ways() {
    let machine = Machine::new();
    machine.rustc(NIGHTLY, "1.97.0-nightly", "22.1.4");
    machine.rustc("usr", "1.63.0", "14.0.6");
    let said = machine.complaint();
    for part in [
        "nightly-x86_64-unknown-linux-gnu: without the component rust-src",
        "is 1.63.0, too old; 1.95 is needed",
        "bpf-linker: not on the PATH and not installed by cargo",
        "rustup toolchain install nightly --component rust-src",
        "apt-get install --no-install-recommends rustc-web rust-web-src",
        "LLVM_PREFIX=",
        "cargo xtask toolchain",
    ] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
}

#[test]
fn a_linker_that_does_not_start_is_passed_over_and_named() {
    let machine = Machine::new();
    machine.rustc("usr", "1.96.0", "22.1.8");
    machine.source("usr");
    machine.script(
        "path/bpf-linker",
        "echo libLLVM.so.22.1: cannot open >&2; exit 127",
    );
    let said = machine.complaint();
    assert!(
        said.contains("path/bpf-linker: fails (exit status: 127): libLLVM.so.22.1"),
        "{said}"
    );
    let linker = machine.linker("cargo/bin");
    assert_eq!(machine.find().unwrap().linker.path, linker);
}

#[test]
fn what_the_user_chose_is_not_replaced_by_something_else() {
    let mut machine = Machine::new();
    machine.rustc("usr", "1.96.0", "22.1.8");
    machine.source("usr");
    machine.linker("path");
    assert!(machine.find().is_ok());
    machine.around.only_rustc = Some("/nowhere/rustc".into());
    let said = machine.complaint();
    assert!(said.contains("XDP_LB_BPF_RUSTC is set"), "{said}");
    assert!(said.contains("/nowhere/rustc: does not run"), "{said}");
    machine.around.only_rustc = None;
    machine.around.only_linker = Some("/nowhere/bpf-linker".into());
    let said = machine.complaint();
    assert!(said.contains("XDP_LB_BPF_LINKER is set"), "{said}");
}
