//! Where things are, and how cargo is run there.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::progress::say;
use crate::toolchain::object;

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The target directory of the workspace, wherever the user put it: this program lies in it.
pub(crate) fn target() -> Result<PathBuf> {
    let this = env::current_exe().context("where is this program?")?;
    let target = object::target_directory(&this).with_context(|| {
        format!(
            "{} is in no target directory: run `cargo xtask`",
            this.display()
        )
    })?;
    Ok(target.to_owned())
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs cargo in the root of the repository, showing the command and its output.
pub(crate) fn run_cargo<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Result<()> {
    run(Command::new(cargo())
        .current_dir(root())
        .args(args.into_iter().map(Into::into)))
}

/// Runs a command, showing it and its output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = show(command);
    say(format_args!("$ {shown}"));
    let status = command
        .status()
        .with_context(|| format!("`{shown}` does not run"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// A command as a person would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy()];
    words.extend(command.get_args().map(|word| word.to_string_lossy()));
    words.join(" ")
}
