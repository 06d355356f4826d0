//! Runs a benchmark: a program of its own in tests/benches.

use std::ffi::OsString;
use std::fs;
use std::path::{self, Path};

use anyhow::{Context as _, Result, bail};

use crate::{ebpf, kernel, tree};

/// Benchmarks of the agent's own code: they need neither root nor a kernel with BPF, and they are
/// compiled as the agent is for users.
const OF_THE_AGENT: [&str; 1] = ["config"];

/// The verb `bench`.
pub(crate) fn run(name: &str, json: Option<&Path>) -> Result<()> {
    let known = names()?;
    if !known.iter().any(|bench| bench == name) {
        bail!(
            "there is no benchmark `{name}`; there is: {}",
            known.join(", ")
        );
    }
    let objects = ebpf::build()?;
    let mut args: Vec<OsString> = ["bench", "--package", "xdp-lb-tests", "--bench", name]
        .map(Into::into)
        .into();
    if OF_THE_AGENT.contains(&name) {
        args.extend(["--profile".into(), "release".into()]);
    } else {
        let obstacles = kernel::obstacles(&objects.rig);
        if !obstacles.is_empty() {
            bail!("a benchmark cannot run: {}", obstacles.join("; "));
        }
    }
    args.push("--".into());
    if let Some(file) = json {
        // Cargo runs it in the folder of its crate.
        args.extend(["--json".into(), path::absolute(file)?.into()]);
    }
    tree::run_cargo(args)
}

/// The benchmarks there are.
fn names() -> Result<Vec<String>> {
    let directory = tree::root().join("tests/benches");
    let files = fs::read_dir(&directory).with_context(|| directory.display().to_string())?;
    let paths = files.flatten().map(|file| file.path());
    let mut names: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort_unstable();
    Ok(names)
}
