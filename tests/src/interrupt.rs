//! Ctrl-C as an error: whoever waits returns, and what was made is undone on the way out.

use std::sync::atomic::{AtomicI32, Ordering};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// The signal that came, or 0.
static RECEIVED: AtomicI32 = AtomicI32::new(0);

/// From now on SIGINT, SIGTERM and SIGHUP end nothing by themselves; [`check`] reports them.
///
/// To be called before any other thread exists, because threads inherit the signal mask. Children
/// started through `std` do not.
pub fn watch() -> Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().context("cannot block signals")?;
    let descriptor = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)
        .context("cannot make a signal descriptor")?;
    std::thread::spawn(move || {
        while let Ok(Some(info)) = descriptor.read_signal() {
            RECEIVED.store(info.ssi_signo.cast_signed(), Ordering::Relaxed);
        }
    });
    Ok(())
}

/// An error once a signal has come.
pub fn check() -> Result<()> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => Ok(()),
        number => match Signal::try_from(number) {
            Ok(signal) => bail!("interrupted by {signal}"),
            Err(_) => bail!("interrupted by signal {number}"),
        },
    }
}
