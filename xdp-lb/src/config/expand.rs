//! Directives that rewrite the file before it is read: `include`, definitions (`$NAME=value`),
//! conditions on the configuration id (`@id`), repeated lines (`~SEQ`), built-in values (`${_…}`).
//!
//! In: the tokens of a file. Out: the tokens to parse. None of the directives can be carried out yet;
//! each is an error, wherever it stands, so that none is ever passed over in silence.

use super::ast::Word;
use super::diagnostic::{Code, Collector, Diagnostic, quote};
use super::keywords::{self, Scope, Status};
use super::lexer::Token;

/// Takes the directives out of `tokens`.
pub(super) fn expand(tokens: Vec<Token>, diagnostics: &mut Collector) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut rest = tokens.into_iter().peekable();
    let mut first = true;
    while let Some(token) = rest.next() {
        let Token::Word(word) = &token else {
            first = true;
            kept.push(token);
            continue;
        };
        let directive = directive(word, first);
        if let Some((extent, diagnostic)) = directive {
            diagnostics.push(diagnostic);
            if extent == Extent::Line {
                while rest
                    .next_if(|token| matches!(token, Token::Word(_)))
                    .is_some()
                {}
            }
            // What stands behind a condition is read as if it held.
            continue;
        }
        first = false;
        kept.push(token);
    }
    kept
}

/// How much of the line belongs to a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Word,
    Line,
}

fn directive(word: &Word, first: bool) -> Option<(Extent, Diagnostic)> {
    let text = word.text.as_str();
    if text.contains("${_") {
        let what = "holds a built-in value, which this version does not know";
        return Some((Extent::Word, refused(word, what)));
    }
    if !first {
        return None;
    }
    if let Some(Status::Rejected(why)) = keywords::find(Scope::Root, text).map(|row| row.status) {
        let diagnostic = Diagnostic::error(
            Code::NotSupported,
            format!("{} is not supported", quote(text)),
        );
        return Some((Extent::Line, diagnostic.at(word.span, "refused").help(why)));
    }
    let (extent, what) = match text.chars().next()? {
        '@' => (
            Extent::Word,
            "is a condition on the configuration id, which this version does not know",
        ),
        '$' => (
            Extent::Line,
            "is a definition, which this version cannot read",
        ),
        '~' => (Extent::Line, "repeats lines, which this version cannot do"),
        _ => return None,
    };
    Some((extent, refused(word, what)))
}

fn refused(word: &Word, what: &str) -> Diagnostic {
    Diagnostic::error(Code::NotSupported, format!("{} {what}", quote(&word.text)))
        .at(word.span, "refused")
        .help("write out what this director needs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::lexer::lex;
    use crate::config::source::FileId;

    #[test]
    fn every_directive_is_refused_wherever_it_stands() {
        let cases = [
            ("include other.conf", "", 1),
            ("a {\ninclude other.conf }\nb", "a { } b", 1),
            (
                "virtual_ipaddress { include vips.conf\n}",
                "virtual_ipaddress { }",
                1,
            ),
            ("@main state MASTER\nb", "state MASTER b", 1),
            ("@main a {\n}", "a { }", 1),
            ("$VIP=10.0.0.1\nb", "b", 1),
            ("~SEQ(x, 1, 2) a\nb", "b", 1),
            ("router_id ${_INSTANCE}", "router_id", 1),
            ("router_id include", "router_id include", 0),
            ("auth_pass $secret", "auth_pass $secret", 0),
        ];
        for (text, expected, errors) in cases {
            let mut diagnostics = Collector::default();
            let tokens = lex(FileId::default(), text, &mut diagnostics);
            let kept: Vec<&str> = expand(tokens, &mut diagnostics)
                .iter()
                .filter_map(|token| match token {
                    Token::Word(word) => Some(word.span),
                    Token::Open(span) | Token::Close(span) => Some(*span),
                    Token::LineEnd => None,
                })
                .map(|span| &text[span.start..span.end])
                .collect();
            assert_eq!(kept.join(" "), expected, "{text}");
            assert_eq!(diagnostics.items().len(), errors, "{text}");
        }
    }
}
