//! The BPF objects and what there is to say about them.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use aya_obj::Object;

use crate::toolchain::{self, object};
use crate::tree;

/// The built objects.
pub(crate) struct Objects {
    /// What the agent embeds.
    pub(crate) program: PathBuf,
    /// Programs for the lab and the benches.
    pub(crate) rig: PathBuf,
}

/// Makes sure of the toolchain and builds the objects, or finds them up to date.
pub(crate) fn build() -> Result<Objects> {
    let toolchain = toolchain::ensure()?;
    let directory = object::build(&toolchain, tree::root(), &tree::target()?)?;
    Ok(Objects {
        program: directory.join(object::PROGRAM),
        rig: directory.join(object::RIG),
    })
}

/// The verb `ebpf`: each object's path and size, and the instructions of its functions. What the
/// kernel verifies and runs is a program with those it calls. With `stats` also what this kernel's
/// verifier says of each program, by the example `guest` of tests/, which knows how the agent loads them.
pub(crate) fn report(stats: bool) -> Result<()> {
    let objects = build()?;
    let mut out = io::stdout().lock();
    for path in [objects.program, objects.rig] {
        describe(&path, &mut out)?;
    }
    drop(out);
    if stats {
        let words = [
            "run",
            "--package",
            "xdp-lb-tests",
            "--example",
            "guest",
            "--",
            "verify",
        ];
        tree::run_cargo(words)?;
    }
    Ok(())
}

fn describe(path: &Path, out: &mut impl Write) -> Result<()> {
    let data = fs::read(path).with_context(|| path.display().to_string())?;
    let object = Object::parse(&data).with_context(|| path.display().to_string())?;
    writeln!(out, "{}  {} bytes", path.display(), data.len())?;
    for function in object.functions.values() {
        let is_program = object.programs.contains_key(&function.name);
        let kind = if is_program { "program" } else { "function" };
        let count = function.instructions.len();
        writeln!(
            out,
            "  {kind:8} {:32} {count:6} instructions",
            function.name
        )?;
    }
    Ok(())
}
