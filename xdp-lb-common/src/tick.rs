//! Coarse time for the packet path: a tick is a power of two of jiffies, at most one second.
//!
//! Reading `jiffies` costs 2 ns where `bpf_ktime_get_ns` costs 35; a shift instead of a division
//! keeps the conversion to one instruction. Ticks are 24 bits wide and wrap, so times are compared by
//! their difference. At half a second a tick, the half range is 48 days: longer than keepalived's
//! longest timeout (31 days).

/// Bits of a tick.
pub const BITS: u32 = 24;
/// Mask of a tick.
pub const MASK: u32 = (1 << BITS) - 1;

/// A moment, modulo 2^32 ticks. At half a second a tick, the half range is 34 years: what is compared
/// over the time that an agent may be missing must not come round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongTick(pub u32);

impl LongTick {
    /// The tick of a jiffies reading.
    #[inline(always)]
    pub const fn from_jiffies(jiffies: u64, shift: u32) -> Self {
        Self((jiffies >> (shift & 63)) as u32)
    }

    /// The same moment as tables hold it.
    #[inline(always)]
    pub const fn short(self) -> Tick {
        Tick(self.0 & MASK)
    }

    /// Ticks since `earlier`; negative if that is later.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// A moment, modulo 2^24 ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick(pub u32);

/// The shift that turns jiffies into ticks for a kernel of `hz` jiffies a second: the largest for
/// which a tick is no longer than a second.
pub const fn shift_for(hz: u32) -> u32 {
    match hz {
        0 => 0,
        hz => hz.ilog2(),
    }
}

impl Tick {
    /// This tick and `ticks` more.
    #[inline(always)]
    pub const fn after(self, ticks: u32) -> Self {
        Self(self.0.wrapping_add(ticks) & MASK)
    }

    /// 1 if this moment lies before `now`, else 0; without a branch, for scans of many ways.
    #[inline(always)]
    pub const fn is_past(self, now: Self) -> u32 {
        (self.0.wrapping_sub(now.0) >> (BITS - 1)) & 1
    }

    /// Ticks from `now` until this moment; 0 if it is past.
    #[inline(always)]
    pub const fn remaining(self, now: Self) -> u32 {
        if self.is_past(now) == 1 {
            0
        } else {
            self.0.wrapping_sub(now.0) & MASK
        }
    }
}

/// How ticks relate to seconds on this kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Jiffies per second.
    pub hz: u32,
    /// Jiffies are shifted right by this to give ticks.
    pub shift: u32,
}

impl Clock {
    /// The clock of a kernel with `hz` jiffies a second.
    pub const fn new(hz: u32) -> Self {
        Self {
            hz,
            shift: shift_for(hz),
        }
    }

    /// Seconds in ticks, rounded up, at least 1 and at most half the range.
    pub const fn ticks(self, seconds: u32) -> u32 {
        let ticks = (seconds as u64 * self.hz as u64).div_ceil(1 << self.shift);
        let limit = (MASK >> 1) as u64;
        match ticks {
            0 => 1,
            t if t > limit => limit as u32,
            t => t as u32,
        }
    }

    /// Ticks in whole seconds, rounded down.
    pub const fn seconds(self, ticks: u32) -> u32 {
        match ((ticks as u64) << self.shift).checked_div(self.hz as u64) {
            Some(seconds) => seconds as u32,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_at_most_a_second_and_more_than_half() {
        for hz in [24, 100, 128, 250, 300, 1000, 1200] {
            let jiffies = 1 << shift_for(hz);
            assert!(jiffies <= hz && jiffies * 2 > hz, "HZ {hz}");
        }
    }

    #[test]
    fn time_compares_across_the_wrap() {
        let now = Tick(MASK - 2);
        let soon = now.after(10);
        assert_eq!(soon.0, 7);
        assert_eq!(soon.is_past(now), 0);
        assert_eq!(soon.remaining(now), 10);
        assert_eq!(soon.is_past(soon), 0);
        assert_eq!(soon.is_past(soon.after(1)), 1);
        assert_eq!(now.is_past(soon), 1);
        assert_eq!(now.remaining(soon), 0);
    }

    #[test]
    fn seconds_convert_and_the_longest_persistence_fits() {
        let clock = Clock::new(250);
        assert_eq!(clock.ticks(60), 118);
        assert_eq!(clock.seconds(118), 60);
        assert_eq!(clock.ticks(0), 1);
        let month = 2_678_400;
        for hz in [100, 250, 300, 1000] {
            let clock = Clock::new(hz);
            assert!(clock.seconds(clock.ticks(month)) >= month, "HZ {hz}");
        }
        assert_eq!(clock.ticks(u32::MAX), MASK >> 1);
    }
}
