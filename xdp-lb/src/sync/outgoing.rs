//! The stream as its director keeps it: what waits to be sent, and what was, for those who ask again.

use std::collections::VecDeque;

use super::wire::Range;

/// Bytes that are kept.
pub const KEPT: usize = 8 << 20;

/// The last parts of a stream, as bodies of datagrams.
#[derive(Debug)]
pub struct Outgoing {
    /// Number of the first part that is kept.
    first: u64,
    parts: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Number of the next part to be sent for the first time.
    unsent: u64,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self {
            first: 1,
            parts: VecDeque::new(),
            bytes: 0,
            unsent: 1,
        }
    }
}

impl Outgoing {
    /// The number that the next part will have.
    pub fn next(&self) -> u64 {
        self.first + self.parts.len() as u64
    }

    /// Adds a part, whose body says its number. What no longer fits is forgotten, oldest first, sent
    /// or not: peers ask for it and learn that it is lost.
    pub fn push(&mut self, body: impl FnOnce(u64) -> Vec<u8>) {
        let body = body(self.next());
        self.bytes += body.len();
        self.parts.push_back(body);
        while self.bytes > KEPT && self.parts.len() > 1 {
            self.bytes -= self.parts.pop_front().map_or(0, |body| body.len());
            self.first += 1;
        }
        self.unsent = self.unsent.max(self.first);
    }

    /// Parts that wait to be sent.
    pub fn waiting(&self) -> u64 {
        self.next() - self.unsent
    }

    /// The next part to be sent; it counts as sent now.
    pub fn take(&mut self) -> Option<&[u8]> {
        let at = self.unsent;
        if at >= self.next() {
            return None;
        }
        self.unsent += 1;
        self.get(at)
    }

    /// Counts everything as sent: there is nobody to send it to.
    pub fn skip(&mut self) {
        self.unsent = self.next();
    }

    /// A part that is still kept and was sent before.
    pub fn get(&self, seq: u64) -> Option<&[u8]> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        self.parts.get(at).map(Vec::as_slice)
    }

    /// The part of a range that was said and is no longer kept.
    pub fn lost(&self, range: Range) -> Option<Range> {
        let last = range.last.min(self.first.checked_sub(1)?);
        (range.first <= last).then_some(Range {
            first: range.first,
            last,
        })
    }

    /// Bytes kept.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_sent_once_and_kept_for_a_while() {
        let mut out = Outgoing::default();
        out.push(|seq| vec![u8::try_from(seq).unwrap(); 10]);
        out.push(|seq| vec![u8::try_from(seq).unwrap(); 10]);
        assert_eq!((out.next(), out.waiting()), (3, 2));
        assert_eq!(out.take().map(|body| body[0]), Some(1));
        assert_eq!(out.take().map(|body| body[0]), Some(2));
        assert_eq!(out.take(), None);
        assert_eq!(out.get(1).map(|body| body[0]), Some(1));
        assert_eq!(out.get(3), None);
        let both = Range { first: 1, last: 2 };
        assert_eq!(out.lost(both), None);
        for _ in 0..10 {
            out.push(|_| vec![0; 1 << 20]);
        }
        assert!(out.bytes() <= KEPT);
        assert_eq!(out.lost(both), Some(both));
        assert_eq!(out.get(1), None);
        assert_eq!(
            out.waiting(),
            8,
            "two of the ten are gone before they were sent"
        );
        out.skip();
        assert_eq!(out.take(), None);
    }
}
