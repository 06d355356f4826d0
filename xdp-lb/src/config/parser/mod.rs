//! Tokens to a tree, line by line.
//!
//! In: the tokens of a file. Out: its statements, for any tokens whatever. A statement is a line;
//! `{` opens its block, also from the next line; `}` ends a line and a block.
//!
//! Where braces are missing or too many, [`mend`] says beforehand what to do at which token, and
//! [`report`] what to tell the user. Which keyword means what is for the lowering.

mod mend;
mod report;

use super::ast::{Block, Statement, Word};
use super::diagnostic::{Code, Collector, Diagnostic};
use super::keywords::{self, Scope};
use super::lexer::Token;
use super::source::{Sources, Span};
use mend::{Edit, Repair};
use report::{Before, Named};

/// Deepest nesting that is kept; the language itself goes four deep.
const MAX_DEPTH: usize = 16;

/// Builds the tree.
pub(super) fn parse(
    tokens: Vec<Token>,
    sources: &Sources,
    diagnostics: &mut Collector,
) -> Vec<Statement> {
    let repairs = mend::repairs(&tokens, sources);
    let mut parser = Parser {
        sources,
        diagnostics,
        root: Vec::new(),
        frames: Vec::new(),
        words: Vec::new(),
        too_deep: 0,
        last_closed: None,
    };
    let mut repairs = repairs.into_iter().peekable();
    for (at, token) in tokens.into_iter().enumerate() {
        let repair = repairs.next_if(|repair| repair.at == at);
        if repair.is_none_or(|repair| parser.mend(repair, &token)) {
            parser.take(token);
        }
    }
    parser.finish()
}

/// A block that is open.
struct Frame {
    keyword: Word,
    values: Vec<Word>,
    open: Span,
    /// What it holds; `None` for a block that the table does not know.
    scope: Option<Scope>,
    statements: Vec<Statement>,
}

impl Frame {
    /// From the keyword to the last value on its line.
    fn head(&self) -> Span {
        let last = self.values.last().unwrap_or(&self.keyword).span;
        // A value may come from a definition in another file.
        if last.file == self.keyword.span.file {
            self.keyword.span.to(last)
        } else {
            self.keyword.span
        }
    }

    /// Whether it follows no keyword.
    const fn is_stray(&self) -> bool {
        self.keyword.text.is_empty() && !self.keyword.quoted
    }
}

struct Parser<'a> {
    sources: &'a Sources,
    diagnostics: &'a mut Collector,
    root: Vec<Statement>,
    frames: Vec<Frame>,
    /// The words of the current line.
    words: Vec<Word>,
    /// Blocks open below [`MAX_DEPTH`], whose content is dropped.
    too_deep: usize,
    /// Head and `}` of the last block that was closed.
    last_closed: Option<(Span, Span)>,
}

impl Parser<'_> {
    fn take(&mut self, token: Token) {
        match token {
            Token::Open(span) if self.too_deep > 0 || self.frames.len() >= MAX_DEPTH => {
                self.open_too_deep(span);
            }
            Token::Close(_) if self.too_deep > 0 => self.too_deep -= 1,
            _ if self.too_deep > 0 => {}
            Token::Word(word) => self.words.push(word),
            Token::LineEnd => self.end_line(),
            Token::Open(span) => self.open(span),
            Token::Close(span) => self.close(span),
        }
    }

    /// Does what `repair` says before `token`; whether the token is to be taken then.
    fn mend(&mut self, repair: Repair, token: &Token) -> bool {
        self.end_line();
        match (repair.edit, token) {
            (Edit::Ignore, Token::Close(span)) => {
                if let Some(frame) = self.frames.last() {
                    self.diagnostics
                        .push_warning(|| report::too_many(&Named::of(frame), *span, self.sources));
                }
                false
            }
            (Edit::Close(levels), _) => {
                self.close_before(levels, token);
                true
            }
            (Edit::Ignore, Token::Word(_) | Token::Open(_) | Token::LineEnd) => true,
        }
    }

    /// Ends blocks whose `}` is missing.
    fn close_before(&mut self, levels: usize, token: &Token) {
        let rest = self.frames.len().saturating_sub(levels);
        let outer = rest.checked_sub(1).and_then(|last| self.frames.get(last));
        let before = match token {
            Token::Word(word) => Before::Line(word),
            Token::Close(span) => Before::Close(*span, outer.map(Named::of)),
            Token::Open(_) | Token::LineEnd => Before::Nothing,
        };
        for _ in 0..levels {
            if let Some(frame) = self.frames.pop() {
                self.diagnostics
                    .push_warning(|| report::not_closed(&frame, &before, self.sources));
                self.push_closed(frame);
            }
        }
    }

    /// Closes what is still open and gives out the tree.
    fn finish(mut self) -> Vec<Statement> {
        self.end_line();
        while let Some(frame) = self.frames.pop() {
            if !frame.is_stray() {
                self.diagnostics
                    .push_warning(|| report::never_closed(&Named::of(&frame), self.sources));
            }
            self.push_closed(frame);
        }
        self.root
    }

    fn end_line(&mut self) {
        if let Some((keyword, values)) = self.take_words() {
            let statement = Statement {
                keyword,
                values,
                block: None,
            };
            self.statements().push(statement);
        }
    }

    fn open(&mut self, open: Span) {
        // The brace may stand on a line of its own after the keyword.
        if self.words.is_empty()
            && self
                .statements()
                .last()
                .is_some_and(|last| last.block.is_none())
            && let Some(last) = self.statements().pop()
        {
            self.words.push(last.keyword);
            self.words.extend(last.values);
        }
        let (keyword, values) = self
            .take_words()
            .unwrap_or_else(|| (self.no_keyword(open), Vec::new()));
        let scope = keywords::find(self.scope(), &keyword.text).and_then(|known| known.block);
        self.frames.push(Frame {
            keyword,
            values,
            open,
            scope,
            statements: Vec::new(),
        });
    }

    /// The words of the current line. What they came in is used again, and the values take no more
    /// room than they need: there are many.
    fn take_words(&mut self) -> Option<(Word, Vec<Word>)> {
        let mut words = self.words.drain(..);
        let keyword = words.next()?;
        Some((keyword, words.collect()))
    }

    /// Stands in for the keyword of a block that has none.
    fn no_keyword(&mut self, open: Span) -> Word {
        if !self.frames.iter().any(Frame::is_stray) {
            self.diagnostics.push(
                Diagnostic::warning(Code::StrayBlock, "this '{' follows no keyword")
                    .at(open, "the block is skipped")
                    .help("put the keyword before it, or remove it and its '}'"),
            );
        }
        Word {
            text: String::new(),
            quoted: false,
            span: open,
        }
    }

    fn close(&mut self, span: Span) {
        self.end_line();
        if let Some(frame) = self.frames.pop() {
            self.last_closed = Some((frame.head(), span));
            self.push_closed(frame);
        } else {
            let last = self.last_closed;
            self.diagnostics
                .push_warning(|| report::closes_nothing(span, last, self.sources));
        }
    }

    fn open_too_deep(&mut self, span: Span) {
        if self.too_deep == 0 {
            self.words.clear();
            self.diagnostics.push(
                Diagnostic::warning(
                    Code::TooDeep,
                    format!("blocks are nested deeper than {MAX_DEPTH} levels"),
                )
                .at(span, "skipped from here to its '}'")
                .help("look above for braces that are not closed"),
            );
        }
        self.too_deep += 1;
    }

    fn push_closed(&mut self, mut frame: Frame) {
        // Most blocks hold less than a growing vector makes room for.
        frame.statements.shrink_to_fit();
        let statement = Statement {
            keyword: frame.keyword,
            values: frame.values,
            block: Some(Block {
                open: frame.open,
                statements: frame.statements,
            }),
        };
        self.statements().push(statement);
    }

    /// The statements of the innermost open block.
    fn statements(&mut self) -> &mut Vec<Statement> {
        match self.frames.last_mut() {
            Some(frame) => &mut frame.statements,
            None => &mut self.root,
        }
    }

    /// What the innermost open block holds.
    fn scope(&self) -> Scope {
        self.frames
            .last()
            .map_or(Scope::Root, |frame| frame.scope.unwrap_or(Scope::Lines))
    }
}

#[cfg(test)]
mod tests;
