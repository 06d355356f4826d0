//! The stream of a peer: put in order, and what is missing asked for.

use std::collections::BTreeMap;

use super::wire::body::MAX_RANGES;
use super::wire::{Part, Range};
use super::{PATIENCE, REPEAT, REPEATS};
use crate::machine::Now;

/// Parts that wait for one before them, at most. At a sender's pace that is a sixth of a second.
pub const HELD: usize = 512;

/// What became of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is the next one, or waits for those before it.
    Taken,
    /// It was taken before.
    Known,
    /// There is no room for it while others are missing.
    Full,
}

/// Where a director stands in the stream of a peer.
#[derive(Debug, Default)]
pub struct Incoming {
    /// The part that is waited for; 0: not following.
    next: u64,
    /// Parts after it.
    held: BTreeMap<u64, Part>,
    /// The first part that the peer has not sent yet, as far as is known.
    end: u64,
    /// When what is missing is asked for.
    ask: Option<Now>,
    /// How often it was asked for since the stream last went on.
    asked: u32,
}

impl Incoming {
    /// Begins to follow a stream.
    pub fn follow(&mut self, next: u64) {
        *self = Self {
            next,
            end: next,
            ..Self::default()
        };
    }

    /// The part that is waited for; 0: not following.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Parts that are known to exist and were not taken yet.
    pub const fn behind(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }

    /// Parts that wait for others.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The peer says how far its stream goes.
    pub fn extends_to(&mut self, now: Now, end: u64) {
        if self.next > 0 && end > self.end {
            self.end = end;
            self.watch(now);
        }
    }

    /// Takes a part, to be fetched by [`Self::pop`] when its turn comes.
    pub fn offer(&mut self, now: Now, seq: u64, part: Part) -> Offered {
        // No stream comes to its last number: who says it has the key and is mistaken.
        let Some(after) = seq.checked_add(1) else {
            return Offered::Known;
        };
        if seq < self.next || self.next == 0 || self.held.contains_key(&seq) {
            return Offered::Known;
        }
        self.end = self.end.max(after);
        let taken = if seq == self.next || self.held.len() < HELD {
            self.held.insert(seq, part);
            Offered::Taken
        } else {
            Offered::Full
        };
        self.watch(now);
        taken
    }

    /// The next part, if it is there.
    pub fn pop(&mut self) -> Option<Part> {
        let part = self.held.remove(&self.next)?;
        self.next += 1;
        self.asked = 0;
        if self.behind() == 0 {
            self.ask = None;
        }
        Some(part)
    }

    /// Sees to it that what is missing will be asked for.
    fn watch(&mut self, now: Now) {
        if self.ask.is_none() && self.behind() > 0 {
            self.ask = Some(now.after(PATIENCE));
        }
    }

    /// When [`Self::missing`] has something to say.
    pub const fn deadline(&self) -> Option<Now> {
        self.ask
    }

    /// What is to be asked for now. `Err` with the number of parts that are given up: they were asked
    /// for in vain, and the stream goes on behind them.
    pub fn missing(&mut self, now: Now) -> Result<Vec<Range>, u64> {
        if self.ask.is_none_or(|ask| ask > now) {
            return Ok(Vec::new());
        }
        self.asked += 1;
        if self.asked > REPEATS {
            let first_held = self.held.keys().next().copied();
            return Err(self.skip(now, first_held.unwrap_or(self.end)));
        }
        self.ask = Some(now.after(REPEAT));
        Ok(self.gaps())
    }

    fn gaps(&self) -> Vec<Range> {
        let mut gaps = Vec::new();
        let mut from = self.next;
        for seq in self.held.keys().copied().chain([self.end]) {
            if seq > from {
                let last = seq - 1;
                gaps.push(Range { first: from, last });
            }
            from = seq.saturating_add(1);
            if gaps.len() == MAX_RANGES {
                break;
            }
        }
        gaps
    }

    /// The peer says that it does not keep these parts any more; how many that gives up.
    pub fn lose(&mut self, now: Now, range: Range) -> u64 {
        let covers = self.next > 0 && (range.first..=range.last).contains(&self.next);
        if covers {
            self.skip(now, range.last.min(self.end.saturating_sub(1)) + 1)
        } else {
            0
        }
    }

    /// Goes on at `to`; how many parts that leaves out.
    fn skip(&mut self, now: Now, to: u64) -> u64 {
        let held_before = self.held.len() as u64;
        self.held = self.held.split_off(&to);
        let passed = to.saturating_sub(self.next);
        let lost = passed - (held_before - self.held.len() as u64).min(passed);
        self.next = self.next.max(to);
        self.end = self.end.max(self.next);
        self.asked = 0;
        self.ask = None;
        self.watch(now);
        lost
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn part(id: u32) -> Part {
        Part::WalkBegins { session: 1, id }
    }

    const fn at(millis: u64) -> Now {
        Now::ZERO.after(Duration::from_millis(millis))
    }

    #[test]
    fn parts_come_out_in_order_and_once() {
        let mut incoming = Incoming::default();
        assert_eq!(
            incoming.offer(at(0), 5, part(5)),
            Offered::Known,
            "not followed"
        );
        incoming.follow(5);
        assert_eq!(incoming.offer(at(0), 6, part(6)), Offered::Taken);
        assert_eq!(incoming.offer(at(0), 6, part(6)), Offered::Known);
        assert_eq!(incoming.pop(), None);
        assert_eq!(incoming.offer(at(0), 5, part(5)), Offered::Taken);
        assert_eq!(incoming.pop(), Some(part(5)));
        assert_eq!(incoming.pop(), Some(part(6)));
        assert_eq!(incoming.pop(), None);
        assert_eq!(incoming.offer(at(0), 5, part(5)), Offered::Known);
        assert_eq!((incoming.behind(), incoming.deadline()), (0, None));
    }

    #[test]
    fn what_is_missing_is_asked_for_and_given_up_in_the_end() {
        let mut incoming = Incoming::default();
        incoming.follow(1);
        incoming.offer(at(0), 3, part(3));
        incoming.extends_to(at(0), 6);
        assert_eq!(incoming.missing(at(0)), Ok(vec![]), "it may only be late");
        let gaps = [(1, 2), (4, 5)].map(|(first, last)| Range { first, last });
        assert_eq!(incoming.missing(at(10)), Ok(gaps.to_vec()));
        let mut now = 10;
        for _ in 1..REPEATS {
            now += 50;
            assert_eq!(incoming.missing(at(now)), Ok(gaps.to_vec()));
        }
        assert_eq!(incoming.missing(at(now + 50)), Err(2), "1 and 2");
        assert_eq!(incoming.pop(), Some(part(3)));
        let lost = Range { first: 4, last: 90 };
        assert_eq!(
            incoming.lose(at(now + 60), lost),
            2,
            "no more than were ever sent"
        );
        assert_eq!(incoming.next(), 6);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut incoming = Incoming::default();
        incoming.follow(1);
        for seq in 2..10_000 {
            incoming.offer(at(0), seq, part(0));
        }
        assert_eq!(incoming.held(), HELD);
        assert_eq!(
            incoming.offer(at(0), 1, part(1)),
            Offered::Taken,
            "the one that is missing"
        );
        let mut taken = 0;
        while incoming.pop().is_some() {
            taken += 1;
        }
        assert_eq!(taken, HELD + 1);
        assert_eq!(
            incoming.missing(at(10)).unwrap().len(),
            1,
            "the others come again"
        );
    }
}
