//! Builds the XDP program and puts it where the agent embeds it from: `OUT_DIR/xdp-lb.bpf.o`.
#![expect(clippy::print_stderr, reason = "cargo shows it when the script fails")]

use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

// The same code as in `cargo xtask`, so that both find the same toolchain and say the same.
#[path = "../xtask/src/toolchain/find.rs"]
mod find;
#[path = "../xtask/src/toolchain/object.rs"]
mod object;

/// Embeds this object, which was built before, instead of building one: for builds of the agent with
/// a target directory of their own.
const OBJECT_VARIABLE: &str = "XDP_LB_BPF_OBJECT";

/// Relative to the root of the repository: what the object is made of.
const SOURCES: [&str; 6] = [
    "xdp-lb-ebpf/src",
    "xdp-lb-ebpf/Cargo.toml",
    "xdp-lb-ebpf/Cargo.lock",
    "xdp-lb-common/src",
    "xdp-lb-common/Cargo.toml",
    "Cargo.toml",
];

/// The name that the agent knows it by.
const EMBEDDED: &str = "xdp-lb.bpf.o";

fn main() -> ExitCode {
    match embed() {
        Ok(inputs) => {
            for input in inputs {
                println!("cargo::rerun-if-changed={}", input.display());
            }
            for name in [find::RUSTC_VARIABLE, find::LINKER_VARIABLE, OBJECT_VARIABLE] {
                println!("cargo::rerun-if-env-changed={name}");
            }
            ExitCode::SUCCESS
        }
        // Nothing on stdout: cargo shows both, and the reason shall stand alone. A script that
        // failed runs again in any case.
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the files that the object was made of and with.
fn embed() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let root = variable("CARGO_MANIFEST_DIR")?.join("..");
    let out = variable("OUT_DIR")?;
    if variable("CARGO_CFG_TARGET_ENDIAN")? != Path::new("little") {
        return Err("xdp-lb runs on little-endian machines only".into());
    }
    if let Some(object) = env::var_os(OBJECT_VARIABLE).map(PathBuf::from) {
        fs::copy(&object, out.join(EMBEDDED))
            .map_err(|error| format!("{OBJECT_VARIABLE}: {}: {error}", object.display()))?;
        return Ok(vec![object]);
    }
    let toolchain = find::Toolchain::find(&find::Surroundings::of_process())?;
    let target = object::target_directory(&out).ok_or("OUT_DIR is in no target directory")?;
    let objects = object::build(&toolchain, &root, target)?;
    fs::copy(objects.join(object::PROGRAM), out.join(EMBEDDED))?;
    let mut inputs: Vec<_> = SOURCES.iter().map(|source| root.join(source)).collect();
    inputs.extend([toolchain.rustc.path, toolchain.linker.path]);
    Ok(inputs)
}

/// What cargo tells every build script.
fn variable(name: &str) -> Result<PathBuf, String> {
    env::var_os(name)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{name} is not set: run by cargo?"))
}
