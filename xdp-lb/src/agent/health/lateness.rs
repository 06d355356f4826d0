//! Says when checks begin late, once in a while.

use std::time::Duration;

use tokio::time::Instant;

/// A check that begins so long after its time is late.
const LATE: Duration = Duration::from_secs(1);
/// From one message to the next.
const PAUSE: Duration = Duration::from_mins(1);

/// Checks that began late, until they are told.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    count: u64,
    worst: Duration,
    told: Option<Instant>,
}

impl Lateness {
    /// Takes note of a check; what is to be said now.
    pub(super) fn note(&mut self, late: Duration, now: Instant) -> Option<String> {
        if late < LATE {
            return None;
        }
        self.count += 1;
        self.worst = self.worst.max(late);
        if self
            .told
            .is_some_and(|told| now.duration_since(told) < PAUSE)
        {
            return None;
        }
        let (count, worst) = (self.count, self.worst.as_secs_f64());
        *self = Self {
            told: Some(now),
            ..Self::default()
        };
        Some(format!(
            "health checks begin late: {count} so far, by up to {worst:.1} s; too many of them wait \
             for servers that do not answer, or this machine is busy"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_told_once_a_minute_with_all_that_came_together() {
        let mut lateness = Lateness::default();
        let start = Instant::now();
        let mut note = |late, after| {
            let said = lateness.note(
                Duration::from_millis(late),
                start + Duration::from_secs(after),
            );
            said.map(|said| said.split(';').next().unwrap().to_owned())
        };
        assert_eq!(note(999, 0), None);
        let first = note(1_000, 0).unwrap();
        assert_eq!(first, "health checks begin late: 1 so far, by up to 1.0 s");
        assert_eq!(note(7_000, 30), None);
        assert_eq!(note(0, 70), None, "that one was in time");
        let next = note(2_000, 70).unwrap();
        assert_eq!(next, "health checks begin late: 2 so far, by up to 7.0 s");
    }
}
