//! The program: all of it is in the library, whose tour starts at [`xdp_lb`].

use std::process::ExitCode;

fn main() -> ExitCode {
    xdp_lb::cli::run(std::env::args_os())
}
