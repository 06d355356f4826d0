//! The rate of the kernel's jiffies, which the packet path tells time by.

use std::num::NonZeroU32;

use nix::time::{ClockId, clock_getres};
use xdp_lb_common::tick::Clock;

/// Rates a kernel can be built with, over all architectures (`CONFIG_HZ`), lowest to highest.
const RATES: std::ops::RangeInclusive<u32> = 24..=1200;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The kernel's rate of jiffies cannot be told.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The coarse clock cannot be asked.
    #[error("cannot tell the kernel's tick rate: clock_getres: {0}")]
    NoCoarseClock(nix::errno::Errno),
    /// Its resolution is no tick of any kernel.
    #[error("cannot tell the kernel's tick rate: a coarse clock of {0} ns fits no CONFIG_HZ")]
    Implausible(i64),
}

/// The clock of the running kernel.
///
/// Jiffies as BPF reads them (`bpf_jiffies64`) advance `CONFIG_HZ` times a second, which is neither
/// `USER_HZ` (`sysconf(_SC_CLK_TCK)`) nor, in a container, what a `/boot/config` at hand says. But the
/// coarse clocks advance with the same timer tick, and the kernel gives their resolution as exactly
/// its length, `TICK_NSEC`, to anybody.
pub fn kernel() -> Result<Clock, Error> {
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(Error::NoCoarseClock)?;
    let nanos = tick.tv_sec() * NANOS_PER_SECOND + tick.tv_nsec();
    rate(nanos).map(|hz| Clock::new(hz.get()))
}

/// The rate whose tick, rounded to nanoseconds by the kernel, is this long.
fn rate(tick_nanos: i64) -> Result<NonZeroU32, Error> {
    let implausible = Error::Implausible(tick_nanos);
    let nearest = match tick_nanos {
        1.. => (NANOS_PER_SECOND + tick_nanos / 2) / tick_nanos,
        _ => return Err(implausible),
    };
    let hz = u32::try_from(nearest).ok().filter(|hz| RATES.contains(hz));
    // A tick of 3.4 ms lies between HZ 294 and 295: no kernel has it.
    let fits = |hz: &NonZeroU32| {
        let exact = NANOS_PER_SECOND / i64::from(hz.get());
        (exact - tick_nanos).abs() <= 1
    };
    hz.and_then(NonZeroU32::new).filter(fits).ok_or(implausible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rate_is_told_from_its_tick() {
        for hz in RATES {
            // TICK_NSEC, include/linux/jiffies.h.
            let tick = (NANOS_PER_SECOND + i64::from(hz) / 2) / i64::from(hz);
            assert_eq!(rate(tick).map(NonZeroU32::get), Ok(hz));
        }
    }

    #[test]
    fn no_rate_is_made_up() {
        for tick in [-1, 0, 1, 1_000, 3_400_000, NANOS_PER_SECOND] {
            assert_eq!(rate(tick), Err(Error::Implausible(tick)));
        }
    }

    #[test]
    fn the_running_kernel_agrees_with_its_configuration() {
        let clock = kernel().unwrap();
        assert!(RATES.contains(&clock.hz));
        let Some(configured) = configured() else {
            eprintln!("SKIPPED: this kernel's configuration is not to be found");
            return;
        };
        assert_eq!(clock.hz, configured);
    }

    /// `CONFIG_HZ` from where kernels tell it.
    fn configured() -> Option<u32> {
        let config = std::process::Command::new("zcat")
            .arg("/proc/config.gz")
            .output()
            .ok()?;
        let text = if config.status.success() {
            String::from_utf8(config.stdout).ok()?
        } else {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
            std::fs::read_to_string(format!("/boot/config-{}", release.trim())).ok()?
        };
        text.lines()
            .find_map(|line| line.strip_prefix("CONFIG_HZ="))?
            .parse()
            .ok()
    }
}
