//! Tokens to a tree, line by line.
//!
//! In: the tokens of a file. Out: its statements, for any tokens whatever. A statement is a line;
//! `{` opens its block, also from the next line; `}` ends a line and a block.
//!
//! Braces that are missing are mended here, because only the keyword table can tell where: a block
//! that turns up where it cannot stand, while the file lacks closing braces, shows that the block
//! around it was meant to be closed. Which keyword means what is for the lowering.

mod mend;

use super::ast::{Block, Statement, Word};
use super::diagnostic::{Code, Collector, Diagnostic, quote};
use super::keywords::{self, Scope};
use super::lexer::Token;
use super::source::{Sources, Span};

/// Deepest nesting that is kept; the language itself goes four deep.
const MAX_DEPTH: usize = 16;

/// Builds the tree.
pub(super) fn parse(
    tokens: Vec<Token>,
    sources: &Sources,
    diagnostics: &mut Collector,
) -> Vec<Statement> {
    let missing = missing_braces(&tokens);
    let mut parser = Parser {
        sources,
        diagnostics,
        root: Vec::new(),
        frames: Vec::new(),
        words: Vec::new(),
        missing,
        too_deep: 0,
    };
    for token in tokens {
        parser.take(token);
    }
    let mut root = parser.finish();
    if missing == 0 {
        mend::lift_misplaced_blocks(&mut root, sources, diagnostics);
    }
    root
}

/// How many blocks are still open at the end.
fn missing_braces(tokens: &[Token]) -> usize {
    tokens.iter().fold(0, |open: usize, token| match token {
        Token::Open(_) => open + 1,
        Token::Close(_) => open.saturating_sub(1),
        Token::Word(_) | Token::LineEnd => open,
    })
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
    /// Closing braces that the file lacks and that were not put anywhere yet.
    missing: usize,
    /// Blocks open below [`MAX_DEPTH`], whose content is dropped.
    too_deep: usize,
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

    /// Closes what is still open and gives out the tree.
    fn finish(mut self) -> Vec<Statement> {
        self.end_line();
        while let Some(frame) = self.frames.pop() {
            self.report_open_at_end(&frame);
            self.push_closed(frame);
        }
        self.root
    }

    fn end_line(&mut self) {
        let mut words = std::mem::take(&mut self.words).into_iter();
        if let Some(keyword) = words.next() {
            let statement = Statement {
                keyword,
                values: words.collect(),
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
        let mut words = std::mem::take(&mut self.words).into_iter();
        let keyword = words.next().unwrap_or_else(|| self.no_keyword(open));
        self.close_blocks_that_cannot_hold(&keyword);
        let scope = keywords::find(self.scope(), &keyword.text).and_then(|known| known.block);
        self.frames.push(Frame {
            keyword,
            values: words.collect(),
            open,
            scope,
            statements: Vec::new(),
        });
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
        match self.frames.pop() {
            Some(frame) => self.push_closed(frame),
            None => self.diagnostics.push(
                Diagnostic::warning(Code::ExtraBrace, "this '}' closes nothing")
                    .at(span, "ignored")
                    .help("remove it, or look above for a '}' too many"),
            ),
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

    /// While closing braces are missing: if a block `keyword` cannot stand here but can stand further
    /// out, the blocks between were meant to be closed before it.
    fn close_blocks_that_cannot_hold(&mut self, keyword: &Word) {
        let holds = |scope: Scope| {
            keywords::find(scope, &keyword.text).is_some_and(|known| known.block.is_some())
        };
        let outer = (0..=self.frames.len()).rev().find(|depth| {
            let scope = depth.checked_sub(1).map_or(Some(Scope::Root), |index| {
                self.frames.get(index).and_then(|frame| frame.scope)
            });
            scope.is_some_and(holds)
        });
        let Some(levels) = outer.map(|depth| self.frames.len() - depth) else {
            return;
        };
        if levels > self.missing {
            return;
        }
        self.missing -= levels;
        for _ in 0..levels {
            if let Some(frame) = self.frames.pop() {
                let name = Named::of(&frame);
                self.diagnostics
                    .push(mend::not_closed_before(&name, keyword, self.sources));
                self.push_closed(frame);
            }
        }
    }

    fn report_open_at_end(&mut self, frame: &Frame) {
        if frame.is_stray() {
            return;
        }
        let name = Named::of(frame);
        let line = self.sources.line(name.head);
        self.diagnostics.push(
            Diagnostic::warning(
                Code::UnclosedBlock,
                format!("{} (line {line}) is never closed", name.text),
            )
            .at(
                name.head,
                "opened here; taken to reach to the end of the file",
            )
            .help("add the missing '}' where the block ends"),
        );
    }

    fn push_closed(&mut self, frame: Frame) {
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

/// A block as messages name it.
struct Named {
    /// `'vrrp_instance VI_1'`
    text: String,
    /// Its keyword and values.
    head: Span,
}

impl Named {
    fn of(frame: &Frame) -> Self {
        Self::new(&frame.keyword, &frame.values)
    }

    fn new(keyword: &Word, values: &[Word]) -> Self {
        let last = values.last().unwrap_or(keyword);
        let words: Vec<&str> = std::iter::once(keyword)
            .chain(values)
            .map(|word| word.text.as_str())
            .collect();
        Self {
            text: quote(&words.join(" ")),
            head: keyword.span.to(last.span),
        }
    }
}

#[cfg(test)]
mod tests;
