//! The tree of a configuration file: statements and blocks, before anyone asks what they mean.

use super::source::Span;

/// A word, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its text.
    pub text: String,
    /// It stood in double quotes.
    pub quoted: bool,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// A keyword, the values on its line, and the block after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The first word.
    pub keyword: Word,
    /// The other words of the line.
    pub values: Vec<Word>,
    /// `{ … }` after it, on its line or the next ones.
    pub block: Option<Block>,
}

impl Statement {
    /// From the keyword to the last value.
    pub fn head(&self) -> Span {
        let last = self.values.last().unwrap_or(&self.keyword);
        self.keyword.span.to(last.span)
    }

    /// The statements of the block; none without one.
    pub fn body(&self) -> &[Self] {
        self.block.as_ref().map_or(&[], |block| &block.statements)
    }
}

/// What stands between two braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The opening brace.
    pub open: Span,
    /// The statements, in order.
    pub statements: Vec<Statement>,
}
