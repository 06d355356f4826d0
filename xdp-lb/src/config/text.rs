//! A line that was put together from pieces of files: which byte of it came from where.
//!
//! What a definition puts into a line has no place of its own there; it shows the place where the
//! definition is used. So every part of a line, written or put in, has a [`Span`] in one file.

use std::ops::Range;

use super::source::Span;

/// Text with the places it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Text {
    text: String,
    /// In order, without gaps.
    pieces: Vec<Piece>,
}

/// A stretch of a [`Text`], up to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    /// Its first byte.
    at: usize,
    /// Where it came from.
    span: Span,
    /// It stands there byte for byte; otherwise the whole of it stands for the whole of the span.
    written: bool,
}

impl Text {
    /// Text that stands at `span` as it is.
    pub(super) fn written(text: &str, span: Span) -> Self {
        let mut made = Self::default();
        made.push(text, span, true);
        made
    }

    /// Text that what stands at `span` stands for.
    pub(super) fn made(text: &str, span: Span) -> Self {
        let mut made = Self::default();
        made.push(text, span, false);
        made
    }

    /// Adds text that what stands at `span` stands for.
    pub(super) fn push_made(&mut self, text: &str, span: Span) {
        self.push(text, span, false);
    }

    /// Adds a part of another text.
    pub(super) fn push_part(&mut self, of: &Self, range: Range<usize>) {
        let Some(text) = of.text.get(range.clone()) else {
            return;
        };
        let mut from = range.start;
        let first = of.piece_at(range.start);
        for (index, piece) in of.pieces.iter().enumerate().skip(first) {
            let next = of
                .pieces
                .get(index + 1)
                .map_or(of.text.len(), |next| next.at);
            let to = next.min(range.end);
            if from >= to {
                break;
            }
            let part = text.get(from - range.start..to - range.start).unwrap_or("");
            self.push(part, of.span(from..to), piece.written);
            from = to;
        }
    }

    fn push(&mut self, text: &str, span: Span, written: bool) {
        if !text.is_empty() {
            self.pieces.push(Piece {
                at: self.text.len(),
                span,
                written,
            });
            self.text.push_str(text);
        }
    }

    /// The text.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// A part of it.
    pub(super) fn part(&self, range: Range<usize>) -> Self {
        let mut part = Self::default();
        part.push_part(self, range);
        part
    }

    /// Without white space at both ends.
    pub(super) fn trimmed(self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        let end = self.text.trim_end().len();
        if start == 0 && end == self.text.len() {
            return self;
        }
        self.part(start..end.max(start))
    }

    /// Cuts off what stands behind `len` bytes.
    pub(super) fn truncate(&mut self, len: usize) {
        if self.text.is_char_boundary(len) {
            self.text.truncate(len);
            self.pieces.retain(|piece| piece.at < len);
        }
    }

    /// Puts blanks over a part.
    pub(super) fn blank(&mut self, range: Range<usize>) {
        if self.text.get(range.clone()).is_some() {
            let blanks = " ".repeat(range.len());
            self.text.replace_range(range, &blanks);
        }
    }

    /// Where a part came from.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let Some(first) = self.pieces.get(self.piece_at(range.start)) else {
            return Span::default();
        };
        let last_byte = range.end.saturating_sub(1).max(range.start);
        let last = self.pieces.get(self.piece_at(last_byte)).unwrap_or(first);
        let start = if first.written {
            first.span.start + (range.start - first.at)
        } else {
            first.span.start
        };
        let end = if last.written {
            last.span.start + range.end.saturating_sub(last.at)
        } else {
            last.span.end
        };
        Span {
            file: first.span.file,
            start,
            end: end.max(start),
        }
    }

    /// Where all of it came from.
    pub(super) fn whole(&self) -> Span {
        self.span(0..self.text.len())
    }

    /// Index of the piece that holds a byte.
    fn piece_at(&self, at: usize) -> usize {
        self.pieces
            .partition_point(|piece| piece.at <= at)
            .saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: usize, end: usize) -> Span {
        Span {
            start,
            end,
            ..Span::default()
        }
    }

    /// `ab${X}cd` at offset 10, with X=123.
    fn sample() -> Text {
        let line = Text::written("ab${X}cd", span(10, 18));
        let mut text = line.part(0..2);
        text.push_made("123", span(12, 16));
        text.push_part(&line, 6..8);
        text
    }

    #[test]
    fn every_part_shows_where_it_came_from() {
        let text = sample();
        assert_eq!(text.as_str(), "ab123cd");
        let cases = [
            (0..1, span(10, 11)),
            (0..2, span(10, 12)),
            (1..3, span(11, 16)),
            (3..4, span(12, 16)),
            (2..5, span(12, 16)),
            (4..6, span(12, 17)),
            (5..7, span(16, 18)),
            (0..7, span(10, 18)),
            (7..7, span(18, 18)),
        ];
        for (range, expected) in cases {
            assert_eq!(text.span(range.clone()), expected, "{range:?}");
            // A part of the text shows the same.
            let part = text.part(range.clone());
            if !range.is_empty() {
                assert_eq!(part.whole(), expected, "{range:?}");
            }
        }
    }

    #[test]
    fn cutting_keeps_the_places() {
        let mut text = sample();
        text.blank(0..2);
        let mut text = text.trimmed();
        assert_eq!(text.as_str(), "123cd");
        assert_eq!(text.span(3..4), span(16, 17));
        text.truncate(3);
        assert_eq!((text.as_str(), text.whole()), ("123", span(12, 16)));
        assert_eq!(Text::written("  ", span(3, 5)).trimmed().as_str(), "");
    }
}
