//! The table of docs/vrrp.md that is computed.

use std::fmt::Write as _;
use std::time::Duration;

use xdp_lb::vrrp::timing::{DOWN_TIMER_ADVERTS, master_down, skew};
use xdp_lb::vrrp::{Interval, Priority, Version};

/// Versions, intervals in hundredths of a second and priorities that people use.
const CASES: [(Version, u16, u8); 7] = [
    (Version::V2, 100, 100),
    (Version::V2, 100, 150),
    (Version::V2, 200, 100),
    (Version::V3, 100, 100),
    (Version::V3, 10, 100),
    (Version::V3, 10, 200),
    (Version::V3, 5, 100),
];

/// How long after the last advert a backup takes over.
pub(crate) fn take_over_times() -> String {
    let mut out =
        "| version | `advert_int` | the backup's priority | after priority 0 | after silence |\n\
                   |---|---|---|---|---|\n"
            .to_owned();
    for (version, centis, priority) in CASES {
        let interval = Interval::from_centis(centis).unwrap();
        let level = Priority::new(priority).unwrap();
        let stop = milliseconds(skew(version, level, interval));
        let down = milliseconds(master_down(version, level, interval, DOWN_TIMER_ADVERTS));
        let version = version.number();
        writeln!(
            out,
            "| {version} | {interval} | {priority} | {stop} | {down} |"
        )
        .unwrap();
    }
    out
}

fn milliseconds(span: Duration) -> String {
    format!("{:.0} ms", span.as_secs_f64() * 1000.0)
}
