//! Builds, checks, tests and measures xdp-lb: `cargo xtask --help`.
//!
//! [`toolchain`] finds or sets up what builds the BPF objects, and [`ebpf`] builds them; every verb
//! that needs them starts there. [`lint`], [`test`], [`fuzz`], [`lab`], [`conncheck`] and [`bench`] are the verbs;
//! [`kernel`] says whether this machine can run suites and lab; [`packages`], [`progress`] and [`tree`] are helpers.
//!
//! Nothing here depends on the agent: this must run before the agent can be built.

mod bench;
mod conncheck;
mod ebpf;
mod fuzz;
mod kernel;
mod lab;
mod lint;
mod packages;
mod progress;
mod test;
mod toolchain;
mod tree;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, checks, tests and measures xdp-lb.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or set up what builds the XDP program, and say what is used
    ///
    /// Looks for rustup's nightly with rust-src and for bpf-linker; on Debian, as root, installs
    /// Debian's own compiler and a bpf-linker that fits it. Every other verb that needs them does
    /// this first.
    Toolchain,
    /// Build the BPF objects and print their sizes
    Ebpf {
        /// Also load every program, as root, and print what that took this kernel's verifier
        #[arg(long)]
        stats: bool,
    },
    /// Check formatting, clippy, lock files, purity, licences and sources
    Lint,
    /// Run every test; the suites in tests/ need root
    ///
    /// With CI=true, whatever keeps the suites from running is a failure; otherwise they are left
    /// out with a message.
    Test {
        /// What `cargo test` shall get instead of `--workspace`: `-p xdp-lb-common conn`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
    /// Feed random input to a target of tests/fuzz; needs a nightly of rustup
    ///
    /// Without a nightly it says so and does nothing. cargo-fuzz is installed when it is missing.
    /// What a run finds interesting is kept in the target directory and used again.
    Fuzz {
        /// Which one; all of them when left out
        target: Option<String>,
        /// How long each runs
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u32,
    },
    /// Run a real cluster in network namespaces, drive it, and report
    Lab(lab::LabArgs),
    /// Hold many connections through a VIP and count which of them break, and why
    Conncheck(conncheck::ConnCheckArgs),
    /// Run a benchmark of tests/benches; those that load programs need root
    Bench(bench::BenchArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Toolchain => toolchain::report(),
        Verb::Ebpf { stats } => ebpf::report(stats),
        Verb::Lint => lint::run(),
        Verb::Test { args } => test::run(&args),
        Verb::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Verb::Lab(args) => lab::run(&args),
        Verb::Conncheck(args) => conncheck::run(&args),
        Verb::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
