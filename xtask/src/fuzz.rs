//! Random input: runs the targets of tests/fuzz with cargo-fuzz, on rustup's nightly.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::progress::{self, say};
use crate::{ebpf, tree};

/// The release of cargo-fuzz that is installed where there is none.
const CARGO_FUZZ: &str = "0.13.2";
/// Where the targets are.
const CRATE: &str = "tests/fuzz";
/// Names the object to the agent's build script, so that it is not built once more.
const OBJECT_VARIABLE: &str = "XDP_LB_BPF_OBJECT";

/// Inputs to begin with, beside what earlier runs found: target and folder.
const SEEDS: [(&str, &str); 1] = [("config", "tests/fixtures/config/seeds")];

/// The verb `fuzz`.
pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<()> {
    let known = names()?;
    let chosen = match target {
        None => known,
        Some(name) if known.iter().any(|known| known == name) => vec![name.to_owned()],
        Some(name) => bail!(
            "there is no fuzz target `{name}`; there is: {}",
            known.join(", ")
        ),
    };
    if !answers(&mut nightly(["rustc", "--version"])) {
        say(format_args!(
            "SKIPPED: fuzzing ({}): rustup has no nightly; `rustup toolchain install nightly` gets one",
            chosen.join(", ")
        ));
        return Ok(());
    }
    if !answers(&mut nightly(["cargo", "fuzz", "--version"])) {
        let mut cargo = Command::new(tree::cargo());
        cargo.args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]);
        progress::run("building cargo-fuzz, once", cargo)?;
    }
    let objects = ebpf::build()?;
    for name in chosen {
        fuzz(&name, seconds, &objects.program)?;
    }
    Ok(())
}

/// Runs one target; fails when it found something.
fn fuzz(name: &str, seconds: u32, object: &Path) -> Result<()> {
    let directory = tree::target()?.join("fuzz");
    let corpus = directory.join("corpus").join(name);
    let artifacts = directory.join("artifacts").join(name);
    for path in [&corpus, &artifacts] {
        fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    }
    let mut cargo = nightly(["cargo", "fuzz", "run"]);
    cargo
        .current_dir(tree::root())
        .env(OBJECT_VARIABLE, object)
        .args(["--fuzz-dir", CRATE, "--target-dir"])
        .arg(&directory)
        .arg(name)
        // New inputs go to the first folder.
        .arg(&corpus);
    let seeds = SEEDS.iter().filter(|(target, _)| *target == name);
    cargo.args(seeds.map(|(_, folder)| tree::root().join(folder)));
    cargo
        .args(["--", "-timeout=10", "-max_len=4096", "-verbosity=0"])
        .args(["-print_final_stats=1".to_owned()])
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()));
    let done = tree::run(&mut cargo);
    done.with_context(|| {
        format!(
            "fuzz target `{name}`: the input is in {}",
            artifacts.display()
        )
    })
}

/// A command of the nightly toolchain.
fn nightly<const N: usize>(command: [&str; N]) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.args(["run", "nightly"]).args(command);
    // What the cargo that runs this program sets for its own children is not for another cargo.
    for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        rustup.env_remove(name);
    }
    rustup
}

/// Whether a command runs and succeeds.
fn answers(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The targets there are.
fn names() -> Result<Vec<String>> {
    let directory = tree::root().join(CRATE).join("fuzz_targets");
    let files = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let paths = files.flatten().map(|file| file.path());
    let mut names: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort_unstable();
    ensure!(!names.is_empty(), "{}: no target", directory.display());
    Ok(names)
}
