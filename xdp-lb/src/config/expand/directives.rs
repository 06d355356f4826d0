//! Carrying out definitions and repetitions.

use std::sync::Arc;

use super::define::{self, Definition};
use super::repeat::{self, Head};
use super::{Expander, Frame};
use crate::config::diagnostic::{Code, Diagnostic};
use crate::config::lexer;
use crate::config::source::Span;
use crate::config::text::Text;

impl Expander<'_> {
    pub(super) fn set(&mut self, values: Vec<(String, String)>) {
        for (name, value) in values {
            let lines = Arc::new([value]);
            self.definitions
                .insert(name, Definition { lines, span: None });
        }
    }

    /// Notes a definition; `more` when it goes on in the next lines of the file.
    pub(super) fn define(&mut self, line: &Text, more: bool) {
        let Some((name, value)) = define::definition(line.as_str()) else {
            return;
        };
        let span = Some(line.span(0..name.len() + 1));
        let mut lines = vec![without_backslash(value, more)];
        while more && let Some((line, goes_on)) = self.next_line() {
            lines.push(line);
            if !goes_on {
                break;
            }
        }
        if lines.len() > 1 {
            lines.retain(|line| !line.is_empty());
        }
        if lines.is_empty() {
            lines.push(String::new());
        }
        let lines = lines.into();
        self.definitions
            .insert(name.to_owned(), Definition { lines, span });
    }

    /// The next line of the file for a definition of several lines, and whether that goes on behind it.
    fn next_line(&mut self) -> Option<(String, bool)> {
        let Some(Frame::File(open)) = self.frames.last_mut() else {
            return None;
        };
        let rest = open.text.get(open.at..).filter(|rest| !rest.is_empty())?;
        let line = rest.split('\n').next().unwrap_or("");
        open.at += line.len() + 1;
        let goes_on = line.trim_end().ends_with('\\');
        let line = line.get(..lexer::layout(line).len).unwrap_or("");
        Some((without_backslash(line, goes_on), goes_on))
    }

    /// Begins to repeat the rest of the line.
    pub(super) fn repeat(&mut self, line: &Text, head: Head) {
        let whole = line.whole();
        let Some((from, to)) = head.inside else {
            self.bad_repetition(whole, "its parentheses are missing");
            return;
        };
        let mut inside = line.part(from..to);
        // The values of a list are replaced when they are used.
        if head.kind != repeat::Kind::List {
            let Some(done) = self.substituted(inside) else {
                return;
            };
            inside = done.line;
        }
        match repeat::read(head.kind, inside.as_str()) {
            Err(why) => self.bad_repetition(line.span(0..to + 1), why),
            Ok(repeat) => {
                let line = line.part(to + 1..line.as_str().len()).trimmed();
                if !line.as_str().is_empty() {
                    self.push(Frame::Repeat { repeat, line }, whole);
                }
            }
        }
    }

    fn bad_repetition(&mut self, span: Span, why: &'static str) {
        self.diagnostics.push_warning(|| {
            Diagnostic::warning(Code::BadRepetition, "this line cannot be repeated")
                .at(span, "skipped with its line, as keepalived does")
                .help(why)
        });
    }
}

/// A line of a definition without white space around it and, if it goes on, its last backslash.
fn without_backslash(line: &str, goes_on: bool) -> String {
    let line = line.trim();
    let line = if goes_on {
        line.strip_suffix('\\').unwrap_or(line)
    } else {
        line
    };
    line.trim().to_owned()
}
