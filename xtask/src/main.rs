//! Builds, runs, tests and measures xdp-lb.

mod lab;

use std::process::ExitCode;

use clap::Parser;

#[derive(Parser)]
enum Command {
    Lab(lab::LabArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    let Command::Lab(args) = Command::parse();
    lab::run(&args)
}
