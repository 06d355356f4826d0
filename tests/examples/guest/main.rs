//! What runs inside of the guests of `cargo xtask lab ipvs-diff` and `lab kernels`, as their first process;
//! and `verify` on this machine, for `cargo xtask ebpf --stats`.
//!
//! [`init`] makes a bare kernel fit for use and ends it; [`choose`] has IPVS place the connections of all
//! cases; [`verify`] has the kernel's verifier look at every program,
//! [`kinds`] puts one on interfaces of every kind.

mod choose;
mod init;
mod kinds;
mod verify;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, bail};

fn main() -> ExitCode {
    let first = std::process::id() == 1;
    let done = if first { init::run() } else { command() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "error: {error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["verify"] => task("verify", &mut io::stdout().lock()),
        _ => bail!("usage: guest verify"),
    }
}

/// Does one of the things that this program is for.
fn task(name: &str, out: &mut dyn Write) -> Result<()> {
    match name {
        "choose" => choose::run(out),
        "verify" => verify::run(out),
        "interfaces" => kinds::run(out),
        other => bail!("there is no task `{other}`"),
    }
}
