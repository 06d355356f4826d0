//! Waiting for something outside this process, within a bound.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::interrupt;

/// Time from one look to the next, usually.
const EVERY: Duration = Duration::from_millis(20);

/// Looks until `probe` finds something, and returns it with the time that took.
///
/// An error of `probe` ends the wait at once; so does an interrupt.
///
/// # Errors
/// When `limit` has passed: `what` did not happen.
pub fn until<T>(
    what: &str,
    limit: Duration,
    probe: impl FnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    until_every(EVERY, what, limit, probe)
}

/// As [`until`], with a time of the caller's from one look to the next.
pub fn until_every<T>(
    every: Duration,
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        interrupt::check()?;
        if let Some(found) = probe()? {
            return Ok((found, start.elapsed()));
        }
        if start.elapsed() >= limit {
            bail!("waited {:.1} s in vain: {what}", limit.as_secs_f64());
        }
        std::thread::sleep(every);
    }
}

/// Lets time pass.
///
/// # Errors
/// When it is interrupted.
pub fn pass(time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        interrupt::check()?;
        std::thread::sleep(EVERY.min(time));
    }
    interrupt::check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_the_thing_happens() {
        let mut looks = 0;
        let (found, _) = until("third look", Duration::from_mins(1), || {
            looks += 1;
            Ok((looks == 3).then_some("found"))
        })
        .unwrap();
        assert_eq!((found, looks), ("found", 3));
    }

    #[test]
    fn a_wait_in_vain_says_for_what() {
        let error = until("the moon", Duration::ZERO, || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "waited 0.0 s in vain: the moon");
    }
}
