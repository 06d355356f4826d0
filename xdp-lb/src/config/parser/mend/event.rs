//! Tokens as lines and braces.

use crate::config::ast::Word;
use crate::config::lexer::Token;
use crate::config::source::{Sources, Span};

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A line without a block.
    Line,
    /// A line, or none, and the `{` after it.
    Open,
    /// `}`
    Close,
}

/// A line or a brace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event<'t> {
    pub(super) kind: Kind,
    /// Index of its first token.
    pub(super) at: usize,
    /// The first word; none for a brace alone.
    pub(super) keyword: Option<&'t Word>,
    /// How many words follow the first.
    pub(super) values: usize,
    /// The white space before it, if it is the first thing on its line.
    pub(super) indent: Option<&'t str>,
}

/// The events of a file.
#[derive(Clone)]
pub(super) struct Events<'t> {
    tokens: &'t [Token],
    at: usize,
    /// Where indentation is looked up; without it there is none.
    sources: Option<&'t Sources>,
}

impl<'t> Events<'t> {
    pub(super) const fn new(tokens: &'t [Token], sources: Option<&'t Sources>) -> Self {
        Self {
            tokens,
            at: 0,
            sources,
        }
    }

    fn event(&self, kind: Kind, at: usize, span: Span) -> Event<'t> {
        Event {
            kind,
            at,
            keyword: None,
            values: 0,
            indent: self.sources.and_then(|sources| indent(sources, span)),
        }
    }

    /// Whether `{` comes next, also on a later line; if so it is passed over.
    fn takes_brace(&mut self) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        let blank = rest
            .iter()
            .take_while(|token| matches!(token, Token::LineEnd))
            .count();
        self.at += blank;
        let found = matches!(self.tokens.get(self.at), Some(Token::Open(_)));
        self.at += usize::from(found);
        found
    }
}

impl<'t> Iterator for Events<'t> {
    type Item = Event<'t>;

    fn next(&mut self) -> Option<Event<'t>> {
        loop {
            let at = self.at;
            self.at += 1;
            match self.tokens.get(at)? {
                Token::LineEnd => {}
                Token::Close(span) => return Some(self.event(Kind::Close, at, *span)),
                Token::Open(span) => return Some(self.event(Kind::Open, at, *span)),
                Token::Word(word) => {
                    while matches!(self.tokens.get(self.at), Some(Token::Word(_))) {
                        self.at += 1;
                    }
                    let values = self.at - at - 1;
                    let kind = if self.takes_brace() {
                        Kind::Open
                    } else {
                        Kind::Line
                    };
                    return Some(Event {
                        keyword: Some(word),
                        values,
                        ..self.event(kind, at, word.span)
                    });
                }
            }
        }
    }
}

/// The white space before `span`, if nothing else stands before it on its line.
pub(in super::super) fn indent(sources: &Sources, span: Span) -> Option<&str> {
    let before = sources.text(span.file).get(..span.start)?;
    let above = before.trim_end_matches([' ', '\t', '\r', '\x0b', '\x0c']);
    (above.is_empty() || above.ends_with('\n'))
        .then(|| before.get(above.len()..))
        .flatten()
}
