//! Runs a benchmark: a program of its own in tests/benches.

use std::ffi::OsString;
use std::fs;
use std::path::{self, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::{ebpf, kernel, packages, tree};

/// Benchmarks of the agent's own code: they need neither root nor a kernel with BPF, and they are
/// compiled as the agent is for users.
const OF_THE_AGENT: [&str; 1] = ["config"];

/// Benchmarks that run the built agent, as it is for users.
const OF_THE_BUILT_AGENT: [&str; 3] = ["failover", "control", "sync"];

/// Those that do so beside keepalived.
const BESIDE_KEEPALIVED: [&str; 1] = ["failover"];

/// What of a benchmark to run.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct BenchArgs {
    /// Which one: `datapath`, `config`, `control`, `failover`, `sync`
    name: String,
    /// Also write the rows to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Of `failover`: how often each event is brought about
    #[arg(long, value_name = "N")]
    runs: Option<u32>,
    /// Of `datapath` and `failover`: only rows whose name holds this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// The verb `bench`.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let name = &*args.name;
    let known = names()?;
    if !known.iter().any(|bench| bench == name) {
        bail!(
            "there is no benchmark `{name}`; there is: {}",
            known.join(", ")
        );
    }
    let objects = ebpf::build()?;
    let mut words: Vec<OsString> = ["bench", "--package", "xdp-lb-tests", "--bench", name]
        .map(Into::into)
        .into();
    if !OF_THE_AGENT.contains(&name) {
        let obstacles = kernel::obstacles(&objects.rig);
        if !obstacles.is_empty() {
            bail!("a benchmark cannot run: {}", obstacles.join("; "));
        }
    }
    if BESIDE_KEEPALIVED.contains(&name) {
        packages::ensure_keepalived()?;
    }
    if OF_THE_BUILT_AGENT.contains(&name) {
        packages::ensure(&["iproute2", "ethtool", "tcpdump"])?;
        tree::run_cargo(["build", "--package", "xdp-lb", "--release"])?;
    }
    if OF_THE_AGENT.contains(&name) || OF_THE_BUILT_AGENT.contains(&name) {
        words.extend(["--profile".into(), "release".into()]);
    }
    words.push("--".into());
    words.extend(passed_on(args)?);
    tree::run_cargo(words)
}

/// What the benchmark is told itself; it refuses what it does not know.
fn passed_on(args: &BenchArgs) -> Result<Vec<OsString>> {
    let mut words: Vec<OsString> = Vec::new();
    if let Some(file) = &args.json {
        // Cargo runs it in the folder of its crate.
        words.extend(["--json".into(), path::absolute(file)?.into()]);
    }
    if let Some(runs) = args.runs {
        words.extend(["--runs".into(), runs.to_string().into()]);
    }
    if let Some(only) = &args.only {
        words.extend(["--only".into(), only.into()]);
    }
    Ok(words)
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
