//! Every path that a Rust source names outside comments, literals and test-only items.
//!
//! In: the text of a file that compiles. Out: `use std::{fs, time::{self, Instant}}` as `std::fs`,
//! `std::time`, `std::time::Instant`, and each `a::b` in the code as it stands. It does not resolve
//! names: whoever judges paths must judge imports of whole modules too.

use super::tokens::{Token, lex};

/// A path, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// Counted from 1.
    pub(super) line: usize,
    /// `std::fs::File`; that of a glob import ends in `*`.
    pub(super) path: String,
}

/// All imports, and all other paths of two segments or more.
pub(super) fn named(source: &str) -> Vec<Named> {
    let mut reader = Reader {
        tokens: lex(source),
        at: 0,
        found: Vec::new(),
    };
    while let Some(token) = reader.next() {
        match token.text {
            // `impl Trait + use<'a>` captures and imports nothing.
            "use" if !reader.is_next(&["<"]) => reader.import(""),
            "#" if reader.is_next(&["[", "cfg", "(", "test", ")", "]"]) => reader.skip_item(),
            _ if token.is_word() => reader.path(token),
            _ => {}
        }
    }
    reader.found
}

struct Reader<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    found: Vec<Named>,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn is_next(&self, expected: &[&str]) -> bool {
        let rest = self.tokens.get(self.at..).unwrap_or_default();
        rest.len() >= expected.len() && rest.iter().zip(expected).all(|(a, b)| a.text == *b)
    }

    /// Reads the rest of a path that begins with `first`.
    fn path(&mut self, first: Token<'a>) {
        let mut path = first.text.to_owned();
        while self.is_next(&["::"]) {
            self.at += 1;
            match self.peek() {
                Some(token) if token.is_word() => push(&mut path, token.text),
                // Generic arguments: what is inside are paths of their own.
                _ => break,
            }
            self.at += 1;
        }
        if path.contains("::") {
            self.found.push(Named {
                line: first.line,
                path,
            });
        }
    }

    /// Reads one tree of a `use`, without the `;`, `,` or `}` that ends it.
    fn import(&mut self, prefix: &str) {
        let mut path = prefix.to_owned();
        let mut line = 0;
        while let Some(token) = self.peek() {
            line = token.line;
            match token.text {
                ";" | "," | "}" => break,
                "{" => return self.group(&path),
                // The name that follows is ours.
                "as" => self.at += 1,
                "::" => {}
                "self" if !path.is_empty() => {}
                segment => push(&mut path, segment),
            }
            self.at += 1;
        }
        self.found.push(Named { line, path });
    }

    fn group(&mut self, prefix: &str) {
        self.at += 1;
        while let Some(token) = self.peek() {
            match token.text {
                "}" => {
                    self.at += 1;
                    return;
                }
                "," => self.at += 1,
                // No import: the text is not what it was taken for.
                ";" => return,
                _ => self.import(prefix),
            }
        }
    }

    /// Passes over the item that an attribute stands before: to its `;`, or to the end of its braces.
    fn skip_item(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.next() {
            match token.text {
                ";" if depth == 0 => return,
                "{" | "(" | "[" => depth += 1,
                ")" | "]" => depth = depth.saturating_sub(1),
                "}" => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }
}

fn push(path: &mut String, segment: &str) {
    if !path.is_empty() {
        path.push_str("::");
    }
    path.push_str(segment);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(source: &str) -> Vec<String> {
        named(source).into_iter().map(|named| named.path).collect()
    }

    #[test]
    fn groups_are_spelt_out() {
        let source = "use std::{fs, io as disk, time::{self, Instant}, net::*};";
        let expected = [
            "std::fs",
            "std::io",
            "std::time",
            "std::time::Instant",
            "std::net::*",
        ];
        assert_eq!(paths(source), expected);
    }

    #[test]
    fn paths_in_code_are_found_and_those_in_comments_and_literals_are_not() {
        let source = r##"
            // std::fs
            /* std::fs /* std::fs */ std::fs */
            fn f<'a>(_: &'a str) -> Vec<std::net::IpAddr> {
                let _ = ("std::fs \" std::fs", r#"std::fs " std::fs"#, b'"', '\'', "std::fs");
                ::std::env::var::<tokio::Ready>("a")
            }
        "##;
        assert_eq!(
            paths(source),
            ["std::net::IpAddr", "std::env::var", "tokio::Ready"]
        );
    }

    #[test]
    fn test_only_items_are_passed_over_and_what_follows_is_not() {
        let source = "
            #[cfg(test)]
            #[expect(dead_code)]
            fn a(b: [u8; 2]) -> [u8; 2] { std::fs::c() }
            #[cfg(test)] use std::fs;
            #[cfg(test)]
            mod tests;
            use std::thread;
            #[cfg(test)]
            mod more { use std::fs; fn f() { std::env::var() } }
        ";
        assert_eq!(paths(source), ["std::thread"]);
    }

    #[test]
    fn what_a_type_captures_is_no_import() {
        let source = "fn f<'a>(a: &'a A) -> impl B + use<'a> { a::b(); c() } use std::fs;";
        assert_eq!(paths(source), ["a::b", "std::fs"]);
        assert_eq!(paths("use a::{b; c::d}"), ["a::b", "c::d"]);
    }

    #[test]
    fn lines_are_counted_through_comments_and_literals() {
        let source = "/*\n\n*/ const A: &str = \"\n\";\nuse std::fs;\n";
        assert_eq!(
            named(source),
            [Named {
                line: 5,
                path: "std::fs".to_owned()
            }]
        );
    }
}
