//! Text to tokens.
//!
//! In: the text of one file. Out: words, braces and line ends with their spans, for any text
//! whatever; complaints go beside. The rules are keepalived's, as its 2.2 line shows them when run:
//!
//! - words are split by white space (a carriage return is white space);
//! - `#` and `!` start a comment anywhere outside quotes, also within a word;
//! - `{` and `}` are tokens wherever they stand outside quotes;
//! - only `"` quotes; it starts a new word wherever it stands, and the closing one ends that word;
//! - a backslash escapes inside quotes on the lines of scripts, and is an ordinary character on all
//!   others (so a password may hold one);
//! - quotes never span lines: a word whose quote is not closed is dropped with the rest of its line.

use super::ast::Word;
use super::diagnostic::{Code, Collector, Diagnostic};
use super::keywords;
use super::source::{FileId, Span};
use super::text::Text;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word.
    Word(Word),
    /// `{`
    Open(Span),
    /// `}`
    Close(Span),
    /// The end of a line.
    LineEnd,
}

/// Where the text that is split stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// In a file, from this byte on.
    File(FileId, usize),
    /// Where its pieces came from.
    Pieces(&'a Text),
}

/// Splits `text` into tokens. The end of the text ends no line by itself.
pub(super) fn lex(
    place: Place<'_>,
    text: &str,
    tokens: &mut Vec<Token>,
    diagnostics: &mut Collector,
) {
    Lexer::new(place, text, tokens, diagnostics).run();
}

/// How a line is laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes before the comment.
    pub(super) len: usize,
    /// Where statements may begin: at the start, and behind each brace.
    pub(super) starts: Vec<usize>,
}

/// Looks for the braces and the comment of a line.
pub(super) fn layout(line: &str) -> Layout {
    if !line.contains(['#', '!', '{', '}']) {
        return Layout {
            len: line.len(),
            starts: vec![0],
        };
    }
    let mut tokens = Vec::new();
    let mut unheard = Collector::default();
    let lexer = Lexer::new(
        Place::File(FileId::default(), 0),
        line,
        &mut tokens,
        &mut unheard,
    );
    let len = lexer.run().unwrap_or(line.len());
    let braces = tokens.iter().filter_map(|token| match token {
        Token::Open(span) | Token::Close(span) => Some(span.end),
        Token::Word(_) | Token::LineEnd => None,
    });
    Layout {
        len,
        starts: std::iter::once(0).chain(braces).collect(),
    }
}

/// Bytes of the byte order mark that the text of `file` starts with.
pub(super) fn byte_order_mark(file: FileId, text: &str, diagnostics: &mut Collector) -> usize {
    const MARK: char = '\u{feff}';
    if !text.starts_with(MARK) {
        return 0;
    }
    let span = Span {
        file,
        start: 0,
        end: MARK.len_utf8(),
    };
    diagnostics.push(
        Diagnostic::warning(
            Code::ByteOrderMark,
            "the file starts with a byte order mark",
        )
        .at(
            span,
            "skipped; keepalived takes it as part of the first word",
        )
        .help("save the file as UTF-8 without a byte order mark"),
    );
    MARK.len_utf8()
}

struct Lexer<'a> {
    place: Place<'a>,
    text: &'a str,
    /// Byte offset of the next character.
    at: usize,
    /// The current statement is a script's, where a backslash escapes.
    script: bool,
    /// No word of the current statement was seen yet.
    first: bool,
    /// Where the first comment begins.
    comment: Option<usize>,
    tokens: &'a mut Vec<Token>,
    diagnostics: &'a mut Collector,
}

impl<'a> Lexer<'a> {
    const fn new(
        place: Place<'a>,
        text: &'a str,
        tokens: &'a mut Vec<Token>,
        diagnostics: &'a mut Collector,
    ) -> Self {
        Self {
            place,
            text,
            at: 0,
            script: false,
            first: true,
            comment: None,
            tokens,
            diagnostics,
        }
    }

    /// Takes all tokens; where the first comment begins.
    fn run(mut self) -> Option<usize> {
        while self.step() {}
        self.comment
    }

    /// Takes one token, comment or blank; false at the end.
    fn step(&mut self) -> bool {
        let Some(next) = self.peek() else {
            return false;
        };
        let start = self.at;
        match next {
            '\n' => {
                self.at += 1;
                self.end_statement(Token::LineEnd);
            }
            '{' => {
                self.at += 1;
                self.end_statement(Token::Open(self.span(start)));
            }
            '}' => {
                self.at += 1;
                self.end_statement(Token::Close(self.span(start)));
            }
            '#' | '!' => {
                self.comment = self.comment.or(Some(start));
                self.at = self.line_end();
            }
            '"' => self.quoted_word(),
            blank if is_blank(blank) => self.at += blank.len_utf8(),
            _ => self.plain_word(),
        }
        true
    }

    fn end_statement(&mut self, token: Token) {
        self.first = true;
        self.script = false;
        self.tokens.push(token);
    }

    fn plain_word(&mut self) {
        let start = self.at;
        let rest = self.rest();
        let len = plain_word_length(rest);
        let text = rest.get(..len).unwrap_or("").to_owned();
        self.at += len;
        self.push_word(text, false, start);
    }

    fn quoted_word(&mut self) {
        let start = self.at;
        let mut text = String::new();
        // Not cut at the end of the line: to look for it at every quote takes the line's length squared.
        let mut chars = self.text.get(start + 1..).unwrap_or("").char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\n' => break,
                '"' => {
                    self.at = start + 1 + at + 1;
                    self.push_word(text, true, start);
                    return;
                }
                '\\' if self.script => match chars.next() {
                    Some((_, escaped)) if escaped != '\n' => text.push(escaped),
                    Some(_) | None => break,
                },
                _ => text.push(c),
            }
        }
        self.at = self.line_end();
        self.unterminated(start);
    }

    fn push_word(&mut self, text: String, quoted: bool, start: usize) {
        // A condition on the configuration id stands before the keyword.
        if self.first && (quoted || !text.starts_with('@')) {
            self.script = keywords::is_script(&text);
            self.first = false;
        }
        let span = self.span(start);
        if !quoted && !self.script && text.starts_with('\'') {
            self.single_quote(span);
        }
        if text.contains(char::REPLACEMENT_CHARACTER) {
            self.not_utf8(span);
        }
        self.tokens.push(Token::Word(Word { text, quoted, span }));
    }

    fn unterminated(&mut self, start: usize) {
        let text = self.text.get(start..self.at).unwrap_or("");
        let span = self.span_to(start, start + text.trim_end().len());
        self.diagnostics.push(
            Diagnostic::warning(
                Code::UnterminatedQuote,
                "this quote is not closed on its line",
            )
            .at(span, "dropped, as keepalived does")
            .help("close it with a `\"` at the end of the value"),
        );
    }

    fn single_quote(&mut self, span: Span) {
        self.diagnostics.push(
            Diagnostic::warning(Code::SingleQuote, "single quotes quote nothing here")
                .at(span, "taken as a part of the word, as keepalived does")
                .help("write double quotes, or none"),
        );
    }

    fn not_utf8(&mut self, span: Span) {
        self.diagnostics.push(
            Diagnostic::warning(Code::NotUtf8, "this word is not valid UTF-8")
                .at(span, "its other bytes are lost")
                .help("save the file as UTF-8"),
        );
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or("")
    }

    /// Offset of the next line feed, or of the end.
    fn line_end(&self) -> usize {
        let rest = self.rest();
        self.at + rest.find('\n').unwrap_or(rest.len())
    }

    /// From `start` to here.
    fn span(&self, start: usize) -> Span {
        self.span_to(start, self.at)
    }

    fn span_to(&self, start: usize, end: usize) -> Span {
        match self.place {
            Place::File(file, base) => Span {
                file,
                start: base + start,
                end: base + end,
            },
            Place::Pieces(text) => text.span(start..end),
        }
    }
}

/// Bytes of the word without quotes that `text` starts with. The braces of `${NAME}` belong to it.
fn plain_word_length(text: &str) -> usize {
    let mut inside = false;
    let mut before = None;
    for (at, c) in text.char_indices() {
        match c {
            '{' if before == Some('$') => inside = true,
            '}' if inside => inside = false,
            '{' | '}' | '\n' | '#' | '!' | '"' => return at,
            _ if is_blank(c) => return at,
            _ => {}
        }
        before = Some(c);
    }
    text.len()
}

/// White space that separates words: C's `isspace` without the line feed.
const fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\x0b' | '\x0c')
}

/// Splits the text of a file in which nothing is to be expanded.
#[cfg(test)]
pub(super) fn lex_file(file: FileId, text: &str, diagnostics: &mut Collector) -> Vec<Token> {
    let mut tokens = Vec::new();
    let start = byte_order_mark(file, text, diagnostics);
    lex(
        Place::File(file, start),
        &text[start..],
        &mut tokens,
        diagnostics,
    );
    tokens.push(Token::LineEnd);
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words as text, quoted ones in quotes; `{`, `}`; `;` for a line end.
    fn shape(text: &str) -> (String, Vec<Code>) {
        let mut diagnostics = Collector::default();
        let tokens = lex_file(FileId::default(), text, &mut diagnostics);
        let parts: Vec<String> = tokens
            .iter()
            .map(|token| match token {
                Token::Word(word) if word.quoted => format!("{:?}", word.text),
                Token::Word(word) => word.text.clone(),
                Token::Open(_) => "{".to_owned(),
                Token::Close(_) => "}".to_owned(),
                Token::LineEnd => ";".to_owned(),
            })
            .collect();
        (
            parts.join(" "),
            diagnostics.items().iter().map(Diagnostic::code).collect(),
        )
    }

    #[test]
    fn text_splits_as_keepalived_splits_it() {
        let cases = [
            ("", ";"),
            ("state MASTER\n", "state MASTER ; ;"),
            ("\tstate\x0bMASTER\x0c\r\n", "state MASTER ; ;"),
            ("vrrp_script name{", "vrrp_script name { ;"),
            ("a{b}}c", "a { b } } c ;"),
            ("a # b { \" \nc", "a ; c ;"),
            ("a ${b}c{d ${e f} }", "a ${b}c { d ${e f } } ;"),
            ("! all of it", ";"),
            ("lo#foo", "lo ;"),
            ("lo!foo bar", "lo ;"),
            ("x \"a { # ! b\" y", r#"x "a { # ! b" y ;"#),
            ("x \"\"", r#"x "" ;"#),
            // A quote starts a word wherever it stands.
            ("fo\"o b\"ar", r#"fo "o b" ar ;"#),
            // Outside the lines of scripts a backslash and a single quote are ordinary.
            (r#"auth_pass "a\" b"#, r#"auth_pass "a\\" b ;"#),
            (r"auth_pass a'b", "auth_pass a'b ;"),
            (r"script 'a b'", "script 'a b' ;"),
            (r#"script "a \"{\" \\ b" c"#, r#"script "a \"{\" \\ b" c ;"#),
            ("x { script \"\\\"\" }", r#"x { script "\"" } ;"#),
            // Only the statement that starts with the keyword is a script's.
            ("x script \"a\\\" b", r#"x script "a\\" b ;"#),
            ("\u{4e2d}\u{6587} x", "\u{4e2d}\u{6587} x ;"),
        ];
        for (text, expected) in cases {
            assert_eq!(shape(text), (expected.to_owned(), vec![]), "{text:?}");
        }
    }

    #[test]
    fn what_cannot_be_a_word_is_dropped_with_a_message() {
        let cases = [
            (
                "router_id \"foo {\nb",
                "router_id ; b ;",
                Code::UnterminatedQuote,
            ),
            (
                "script \"foo\\\"\nb",
                "script ; b ;",
                Code::UnterminatedQuote,
            ),
            ("script \"foo\\", "script ;", Code::UnterminatedQuote),
            ("interface 'eth0'", "interface 'eth0' ;", Code::SingleQuote),
            ("\u{feff}state", "state ;", Code::ByteOrderMark),
            (
                "router_id a\u{fffd}",
                "router_id a\u{fffd} ;",
                Code::NotUtf8,
            ),
        ];
        for (text, expected, code) in cases {
            assert_eq!(shape(text), (expected.to_owned(), vec![code]), "{text:?}");
        }
    }

    #[test]
    fn a_line_is_laid_out_as_it_is_split() {
        let cases = [
            ("", 0, vec![0]),
            ("a b # c {", 4, vec![0]),
            ("a{b}c!d", 5, vec![0, 2, 4]),
            ("a \"{ # !\" } # x", 12, vec![0, 11]),
            ("@x script \"\\\" #\" # c", 17, vec![0]),
            ("a ${b} { c", 10, vec![0, 8]),
        ];
        for (line, len, starts) in cases {
            assert_eq!(layout(line), Layout { len, starts }, "{line}");
        }
    }

    #[test]
    fn spans_cover_quotes_and_nothing_else() {
        let text = "a \"b c\" d{";
        let tokens = lex_file(FileId::default(), text, &mut Collector::default());
        let spans: Vec<&str> = tokens
            .iter()
            .filter_map(|token| match token {
                Token::Word(Word { span, .. }) | Token::Open(span) | Token::Close(span) => {
                    Some(&text[span.start..span.end])
                }
                Token::LineEnd => None,
            })
            .collect();
        assert_eq!(spans, ["a", "\"b c\"", "d", "{"]);
    }

    proptest! {
        #[test]
        fn any_text_lexes_and_words_are_what_their_span_shows(text in ".{0,200}|[a-z{}\"\\\\#! \n\r]{0,200}") {
            let tokens = lex_file(FileId::default(), &text, &mut Collector::default());
            let mut last = 0;
            for token in &tokens {
                if let Token::Word(word) = token {
                    prop_assert!(word.span.start >= last);
                    last = word.span.end;
                    let shown = text.get(word.span.start..word.span.end).unwrap();
                    if word.quoted {
                        prop_assert!(shown.len() >= 2 && shown.starts_with('"') && shown.ends_with('"'));
                    } else {
                        prop_assert_eq!(shown, &word.text);
                    }
                }
            }
        }
    }
}
