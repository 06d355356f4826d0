//! The lease of a gate: how long packets of a service are balanced without a sign of life of the agent.
//!
//! The program forwards when the agent is gone, and no other director could tell it to stop once that
//! one has taken over. So the agent writes a heartbeat, and the gate of a service whose VIP a VRRP
//! instance carries is open only while that is not older than the instance's master down interval. A
//! service that nobody else may take has no lease.

use crate::tick::{Clock, LongTick};

/// No lease: the gate stays open whatever becomes of the agent.
pub const NONE: u32 = i32::MAX as u32;

/// The shortest lease, ticks: with one, an agent that writes in time could still be a tick late.
pub const SHORTEST: u32 = 2;

/// The longest lease, ticks; a year at half a second a tick.
const LONGEST: u32 = 1 << 26;

/// A lease of so many milliseconds in ticks, rounded up: it never ends too early, and at most two ticks
/// late.
pub const fn ticks(clock: Clock, millis: u32) -> u32 {
    let ticks = (millis as u64 * clock.hz as u64).div_ceil(1000 << clock.shift);
    if ticks < SHORTEST as u64 {
        SHORTEST
    } else if ticks > LONGEST as u64 {
        LONGEST
    } else {
        ticks as u32
    }
}

/// Whether a lease still holds, the last heartbeat being what it is. One that lies ahead is fresh: the
/// agent wrote it after this CPU had read its clock.
#[inline(always)]
pub const fn holds(lease: u32, heartbeat: LongTick, now: LongTick) -> bool {
    now.since(heartbeat) <= lease as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ_250: Clock = Clock::new(250);

    #[test]
    fn a_lease_is_rounded_up_and_is_never_shorter_than_two_ticks() {
        // 128 jiffies of 4 ms: 512 ms a tick.
        for (millis, expected) in [
            (0, 2),
            (361, 2),
            (1024, 2),
            (1025, 3),
            (3610, 8),
            (7_650_000, 14_942),
            (u32::MAX, 8_388_608),
        ] {
            assert_eq!(ticks(HZ_250, millis), expected, "{millis} ms");
        }
        for hz in [24, 100, 128, 250, 300, 1000, 1200] {
            let clock = Clock::new(hz);
            let jiffies = u64::from(ticks(clock, 3610)) << clock.shift;
            let millis = jiffies * 1000 / u64::from(hz);
            assert!((3610..=4610).contains(&millis), "HZ {hz}: {millis} ms");
        }
    }

    #[test]
    fn a_lease_holds_up_to_its_last_tick() {
        let beat = LongTick(1000);
        for (now, expected) in [(1000, true), (1008, true), (1009, false), (5000, false)] {
            assert_eq!(holds(8, beat, LongTick(now)), expected, "tick {now}");
        }
    }

    #[test]
    fn a_heartbeat_that_was_written_after_the_clock_was_read_is_fresh() {
        assert!(holds(2, LongTick(1001), LongTick(1000)));
    }

    #[test]
    fn leases_hold_across_the_wrap() {
        let beat = LongTick(u32::MAX - 1);
        for (now, expected) in [(u32::MAX, true), (0, true), (6, true), (7, false)] {
            assert_eq!(holds(8, beat, LongTick(now)), expected, "tick {now}");
        }
        assert!(holds(8, LongTick(1), LongTick(u32::MAX)), "written after");
    }

    #[test]
    fn a_lease_that_ended_does_not_begin_again_when_short_ticks_come_round() {
        let beat = LongTick(7);
        for rounds in 1..=100 {
            let now = LongTick(7 + (rounds << crate::tick::BITS));
            assert_eq!(now.short(), beat.short());
            assert!(!holds(LONGEST.min(8), beat, now), "{rounds} rounds");
        }
    }

    #[test]
    fn without_a_lease_the_gate_stays_open() {
        for now in [0, 1, u32::MAX / 2, u32::MAX / 2 + 1, u32::MAX] {
            assert!(holds(NONE, LongTick(0), LongTick(now)), "tick {now}");
        }
    }
}
