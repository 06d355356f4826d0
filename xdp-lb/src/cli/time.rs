//! Spans and moments as people and programs read them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time span in its two largest units.
pub(super) fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// How long ago something was: below a second it counts how much.
pub(super) fn ago(milliseconds: u64) -> String {
    match milliseconds {
        0..1000 => format!("{milliseconds} ms ago"),
        _ => format!("{} ago", age(Duration::from_millis(milliseconds))),
    }
}

/// The moment of a command, which ages are counted back from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(Duration);

impl Moment {
    /// By the wall clock of this host.
    pub(super) fn now() -> Self {
        Self(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        )
    }

    /// A moment by its seconds since 1970.
    #[cfg(test)]
    pub(super) const fn at(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// What the wall clock read so long before.
    pub(super) fn before(self, milliseconds: u64) -> Utc {
        let then = self.0.saturating_sub(Duration::from_millis(milliseconds));
        Utc(then.as_secs())
    }
}

/// Microseconds since 1970, in UTC.
#[derive(Clone, Copy, Debug)]
pub(super) struct Micros(pub(super) u64);

impl Micros {
    /// `05:04:54.000123`.
    pub(super) fn time_of_day(self) -> String {
        let (_date, time) = Utc(self.0 / 1_000_000).parts();
        format!("{time}.{:06}", self.0 % 1_000_000)
    }

    /// `2026-11-25T05:04:54.000123Z`, as RFC 3339 has it.
    pub(super) fn stamp(self) -> String {
        let (date, _time) = Utc(self.0 / 1_000_000).parts();
        format!("{date}T{}Z", self.time_of_day())
    }
}

/// Seconds since 1970, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Utc(u64);

impl Utc {
    /// `2026-11-25T05:04:54Z`, as RFC 3339 has it.
    pub(super) fn stamp(self) -> String {
        let (date, time) = self.parts();
        format!("{date}T{time}Z")
    }

    fn parts(self) -> (String, String) {
        let Self(seconds) = self;
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        (
            format!("{year:04}-{month:02}-{day:02}"),
            format!("{hour:02}:{minute:02}:{second:02}"),
        )
    }
}

impl fmt::Display for Utc {
    /// `2026-11-25 05:04:54 UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (date, time) = self.parts();
        write!(f, "{date} {time} UTC")
    }
}

/// Year, month and day of a day since 1970. Years are counted from March, so that the leap day is the
/// last of its year.
const fn date(day: u64) -> (u64, u64, u64) {
    const FROM_MARCH_OF_YEAR_0: u64 = 719_468;
    const FOUR_CENTURIES: u64 = 146_097;
    let day = day + FROM_MARCH_OF_YEAR_0;
    let (era, day) = (day / FOUR_CENTURIES, day % FOUR_CENTURIES);
    let leap_days = day / 1460 - day / 36_524 + day / 146_096;
    let year = (day - leap_days) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // From March on, five months in a row have 153 days.
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year;
    if month < 10 {
        (year, month + 3, day)
    } else {
        (year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, wanted) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3600, "1 h 0 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(age(Duration::from_secs(seconds)), wanted);
        }
        assert_eq!(ago(60), "60 ms ago");
        assert_eq!(ago(1000), "1 s ago");
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        // As `date -u -d @SECONDS` has them.
        for (seconds, wanted) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_109_635_199, "2005-02-28 23:59:59 UTC"),
            (1_795_593_894, "2026-11-25 08:04:54 UTC"),
            (1_798_761_599, "2026-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            let moment = Moment::at(seconds).before(0);
            assert_eq!(moment.to_string(), wanted);
        }
        let moment = Moment::at(1_795_593_894).before(11_516_890);
        assert_eq!(moment.stamp(), "2026-11-25T04:52:57Z");
        assert_eq!(
            Moment::at(1).before(5000).to_string(),
            "1970-01-01 00:00:00 UTC"
        );
    }
}
