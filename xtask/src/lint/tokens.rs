//! The words and signs of a Rust source, without comments and literals.

/// A word, a number, `::`, or one other sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) text: &'a str,
}

impl Token<'_> {
    /// An identifier or a keyword.
    pub(super) fn is_word(&self) -> bool {
        self.text
            .starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a file that compiles; of any other text, something.
pub(super) fn lex(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let (length, kept) = measure(rest, first);
        let (text, after) = rest.split_at(length);
        if kept {
            tokens.push(Token { line, text });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    tokens
}

/// How long the piece is that a text begins with, and whether it is a token.
fn measure(rest: &str, first: char) -> (usize, bool) {
    if let Some(length) = comment(rest).or_else(|| literal(rest)) {
        (length, false)
    } else if is_word_part(first) {
        (word(rest), true)
    } else if rest.starts_with("::") {
        (2, true)
    } else {
        (first.len_utf8(), !first.is_whitespace())
    }
}

fn is_word_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(rest: &str) -> usize {
    rest.find(|c| !is_word_part(c)).unwrap_or(rest.len())
}

/// The length of a comment. Block comments nest.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(here) = rest.get(at..) {
        if here.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += here.chars().next()?.len_utf8();
        }
    }
    Some(rest.len())
}

/// The length of a string or character, or of the mark of a lifetime.
fn literal(rest: &str) -> Option<usize> {
    // Prefixes of strings: b, c, r, br, cr; and b of a byte.
    let prefix = word(rest);
    let (letters, body) = rest.split_at(prefix);
    match letters {
        "r" | "br" | "cr" => Some(prefix + raw(body)?),
        "" | "b" | "c" if body.starts_with('"') => Some(prefix + quoted(body, '"')),
        "" | "b" if body.starts_with('\'') => {
            let mut inside = body.chars().skip(1);
            let escaped = inside.next()? == '\\';
            let is_character = escaped || inside.next()? == '\'';
            Some(prefix + if is_character { quoted(body, '\'') } else { 1 })
        }
        _ => None,
    }
}

/// The length of `"…"` or `'…'` with its escapes.
fn quoted(body: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        if !escaped && c == end {
            return at + end.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    body.len()
}

/// The length of `#"…"#` with any number of `#`; none for a raw identifier.
fn raw(body: &str) -> Option<usize> {
    let hashes = body.find(|c| c != '#')?;
    let inside = body.get(hashes..)?.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = inside.find(&end).map_or(inside.len(), |at| at + end.len());
    Some(hashes + 1 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_lifetimes_end_where_they_end() {
        let cases: [(&str, &[&str]); 7] = [
            (r#"a("x\"y")b"#, &["a", "(", ")", "b"]),
            (r###"a r##"x"# y"## b"###, &["a", "b"]),
            (r"x '\'' y '\\' z", &["x", "y", "z"]),
            ("&'a str", &["&", "a", "str"]),
            ("'static", &["static"]),
            ("r#type b'x' c\"y\" 'é'", &["r", "#", "type"]),
            ("a::b 1..2", &["a", "::", "b", "1", ".", ".", "2"]),
        ];
        for (source, expected) in cases {
            let texts: Vec<_> = lex(source).into_iter().map(|token| token.text).collect();
            assert_eq!(texts, expected, "{source}");
        }
    }

    #[test]
    fn text_that_breaks_off_anywhere_is_read_to_its_end() {
        let source = "use a::{b}; /* /* */ */ r##\"é\"## '\\'' \"\\\"\" 'x' b'y' // é";
        for (at, _) in source.char_indices() {
            lex(&source[..at]);
        }
    }
}
