//! Ctrl-C as an error: whoever waits returns, and what was made is undone on the way out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

/// The signal that came last, or 0.
static RECEIVED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// From now on SIGINT, SIGTERM and SIGHUP end nothing by themselves; [`check`] reports them.
///
/// Handlers, and not a signal mask: children would inherit a mask, and then not end when told to.
pub fn watch() -> Result<()> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let number = signal as i32;
        let value = usize::try_from(number)?;
        signal_hook::flag::register_usize(number, Arc::clone(&RECEIVED), value)
            .with_context(|| format!("cannot handle {signal}"))?;
    }
    Ok(())
}

/// An error once a signal has come.
pub fn check() -> Result<()> {
    let number = i32::try_from(RECEIVED.load(Ordering::Relaxed))?;
    match Signal::try_from(number) {
        Ok(signal) => bail!("interrupted by {signal}"),
        // 0 is no signal: none came.
        Err(_) => Ok(()),
    }
}
