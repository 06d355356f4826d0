//! What builds the BPF objects: [`find`] looks for it, [`debian`] sets it up where that can be done,
//! [`object`] builds with it.

mod debian;
pub(crate) mod find;
#[cfg(test)]
mod find_tests;
pub(crate) mod object;

use anyhow::Result;

use self::find::{Surroundings, Toolchain};
use crate::progress::say;

/// The toolchain, set up first if it must be.
pub(crate) fn ensure() -> Result<Toolchain> {
    let around = Surroundings::of_process();
    match Toolchain::find(&around) {
        Ok(toolchain) => Ok(toolchain),
        Err(missing) => {
            debian::set_up(&around, missing)?;
            Ok(Toolchain::find(&around)?)
        }
    }
}

/// The verb `toolchain`.
pub(crate) fn report() -> Result<()> {
    let toolchain = ensure()?;
    say(format_args!("the XDP program is built with\n{toolchain}"));
    Ok(())
}
