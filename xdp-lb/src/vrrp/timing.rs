//! The formulas of the timers, exact to the nanosecond.
//!
//! Version 2 (RFC 3768 section 6.1) takes skew from a second whatever the interval; version 3
//! (RFC 9568 section 6.1) takes it from the master's interval, in hundredths of a second. Both lose
//! nothing here: a skew is a count of 256ths of a duration, rounded down to a nanosecond.

use std::time::Duration;

use super::{Interval, Priority, Version};

/// Adverts that a backup misses before it takes over, unless `vrrp_down_timer_adverts` differs.
pub const DOWN_TIMER_ADVERTS: u8 = 3;

/// Skew time: how much longer a router of `priority` waits than one of priority 256 would, so that
/// the best takes over first.
pub fn skew(version: Version, priority: Priority, interval: Interval) -> Duration {
    let base = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval.duration(),
    };
    base * (256 - u32::from(priority.get())) / 256
}

/// Master down interval: how long after the last advert a backup takes over. `interval` is the
/// master's, `priority` the backup's own.
pub fn master_down(
    version: Version,
    priority: Priority,
    interval: Interval,
    adverts: u8,
) -> Duration {
    interval.duration() * u32::from(adverts) + skew(version, priority, interval)
}

/// The shortest time without adverts after which another router may have taken over.
pub fn soonest_successor(version: Version, interval: Interval, adverts: u8) -> Duration {
    master_down(version, Priority::HIGHEST, interval, adverts)
}

/// How long a master that gives up goes on holding the addresses if nobody is heard to take over:
/// the skew time of the slowest possible successor, and a second for it to act.
pub fn hand_over(version: Version, interval: Interval) -> Duration {
    skew(version, Priority::LOWEST, interval) + Duration::from_secs(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn down(version: Version, priority: u8, centis: u16, adverts: u8) -> u128 {
        let interval = Interval::from_centis(centis).unwrap();
        master_down(version, Priority::new(priority).unwrap(), interval, adverts).as_nanos()
    }

    /// Version, priority, interval in hundredths, adverts, nanoseconds, where the figure is from.
    #[rustfmt::skip]
    const DOWN_TIMERS: &[(Version, u8, u16, u8, u128, &str)] = &[
    (Version::V2, 100, 100, 3, 3_609_375_000, "keepalived: 3609.6 to 3610.6 ms observed"),
    (Version::V2, 150, 100, 3, 3_414_062_500, "first advert after 3.4 s"),
    (Version::V2, 150, 200, 3, 6_414_062_500, "skew is of a second in version 2"),
    (Version::V2, 80, 100, 3, 3_687_500_000, "first advert after 3.69 s"),
    (Version::V3, 200, 25, 3, 804_687_500, "0.80 s"),
    (Version::V3, 100, 10, 3, 360_937_500, "361 to 363 ms observed"),
    (Version::V3, 150, 10, 3, 341_406_250, "0.34 s"),
    (Version::V3, 100, 100, 3, 3_609_375_000, "as version 2 at a second"),
    (Version::V3, 255, 1, 1, 10_039_062, "rounded down to a nanosecond"),
    (Version::V2, 254, 100, 2, 2_007_812_500, "vrrp_down_timer_adverts 2"),
    (Version::V3, 1, 4095, 100, 4_135_790_039_062, "the longest of version 3"),
    ];

    #[test]
    fn down_timers_are_those_of_the_rfcs_and_of_keepalived() {
        for &(version, priority, centis, adverts, nanos, what) in DOWN_TIMERS {
            assert_eq!(down(version, priority, centis, adverts), nanos, "{what}");
        }
    }

    #[test]
    fn every_priority_has_its_own_skew() {
        let interval = Interval::from_centis(1).unwrap();
        for version in [Version::V2, Version::V3] {
            let skews: Vec<_> = (1..=255_u8)
                .map(|p| skew(version, Priority::from_wire(p), interval))
                .collect();
            assert!(
                skews.windows(2).all(|pair| pair[0] > pair[1]),
                "{version:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_master_is_missed_later_than_its_adverts_are_and_no_more_than_one_unit_later(
            priority in 1_u8..=255, centis in 1_u16..=4095, adverts in 1_u8..=100
        ) {
            let interval = Interval::from_centis(centis).unwrap();
            let priority = Priority::new(priority).unwrap();
            for (version, unit) in [
                (Version::V2, Duration::from_secs(1)),
                (Version::V3, interval.duration()),
            ] {
                let down = master_down(version, priority, interval, adverts);
                let adverts = interval.duration() * u32::from(adverts);
                prop_assert!(down > adverts && down < adverts + unit);
            }
        }
    }
}
