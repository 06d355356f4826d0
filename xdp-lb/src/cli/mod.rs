//! What users type: one file per verb. [`args`] only declares; `main` calls [`run`].
//!
//! Data goes to stdout, everything else to stderr. Errors are one line: what, why, what to do.

pub mod args;

pub mod capture;
pub mod check;
pub mod list;
pub mod order;
pub mod realserver;
pub mod status;
pub mod sync;
pub mod trace;
pub mod up;
pub mod vrrp;

mod keepalived;

mod output;
pub mod reading;
mod time;

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::runtime;

use args::{Args, Command};
use realserver::RealServerArgs;

use crate::config::{self, LoadError};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Success,
    /// It could not.
    Failure,
    /// It was not asked in a way it understands.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
        })
    }
}

/// Runs the command that `arguments`, the program's name first, spell.
///
/// Called by the name of keepalived, it takes keepalived's options instead.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter().peekable();
    if keepalived::is_meant(arguments.peek()) {
        return keepalived::run(arguments);
    }
    match Args::try_parse_from(arguments) {
        Ok(args) => dispatch(&args),
        Err(message) => {
            // Help and version are no mistake; with the stream closed nobody is left to tell.
            message.print().ok();
            let exit = if message.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            exit.into()
        }
    }
}

fn dispatch(args: &Args) -> ExitCode {
    let instance = &args.instance;
    let done = match &args.command {
        Command::Up(args) => up::run(instance, args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => Ok(check::run(args)),
        Command::List(args) => list::run(instance.as_str(), args).map(|()| ExitCode::SUCCESS),
        Command::Vrrp(args) => vrrp::run(instance.as_str(), args).map(|()| ExitCode::SUCCESS),
        Command::Status(args) => status::run(instance.as_str(), args).map(|()| ExitCode::SUCCESS),
        Command::Trace(args) => trace::run(instance.as_str(), args).map(ExitCode::from),
        Command::Capture(args) => capture::run(instance.as_str(), args).map(|()| ExitCode::SUCCESS),
        Command::Sync(args) => sync::run(instance.as_str(), args).map(|()| ExitCode::SUCCESS),
        Command::Weight(args) => order::weight(instance.as_str(), args).map(|()| ExitCode::SUCCESS),
        Command::Drain(args) => order::drain(instance.as_str(), args).map(|()| ExitCode::SUCCESS),
        Command::Undrain(args) => {
            order::undrain(instance.as_str(), args).map(|()| ExitCode::SUCCESS)
        }
        Command::Reload => order::reload(instance.as_str()).map(|()| ExitCode::SUCCESS),
        Command::Realserver(args) => real_server(args),
    };
    done.unwrap_or_else(|error| {
        output::remark(&format!("error: {}", one_line(&error)));
        Exit::Failure.into()
    })
}

/// An error with its causes, unless it names them itself.
fn one_line(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |line, cause| {
        let cause = cause.to_string();
        match line.as_str() {
            "" => cause,
            said if said.contains(&cause) => line,
            said => format!("{said}: {cause}"),
        }
    })
}

fn real_server(args: &RealServerArgs) -> anyhow::Result<ExitCode> {
    let mut builder = runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    runtime.block_on(realserver::run(args, vips_of_file, std::io::stdout()))
}

/// The addresses of the virtual servers in a file.
fn vips_of_file(path: &Path) -> anyhow::Result<Vec<IpAddr>> {
    let loaded = config::load(path).inspect_err(|invalid| {
        if let LoadError::Invalid { diagnostics, .. } = invalid {
            output::remark(diagnostics.render(false).trim_end());
        }
    })?;
    let config = loaded.config;
    let vips = config.members().flat_map(|member| config.vips(&member.key));
    Ok(vips.collect())
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::anyhow;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open it: {0}")]
    struct Telling(#[source] io::Error);

    #[test]
    fn a_cause_is_said_once() {
        let telling = anyhow::Error::from(Telling(io::Error::other("busy")));
        assert_eq!(one_line(&telling), "cannot open it: busy");
        let silent = anyhow!("busy").context("cannot open it");
        assert_eq!(one_line(&silent), "cannot open it: busy");
    }
}
