//! Diagnostics for machines.

use serde_json::{Value, json};

use super::{Diagnostic, Diagnostics};
use crate::config::source::Span;

impl Diagnostics {
    /// A list with one object per diagnostic: `severity`, `code`, `message`, the place (`file`,
    /// `line`, `column`, `end_line`, `end_column`, from 1, columns in characters, the end is after
    /// the last character; all `null` when it is about the whole file), `labels`, `notes`, `help`
    /// and `suggestion` (a place and its `replacement`).
    pub fn to_json(&self) -> Value {
        self.iter().map(|item| self.item(item)).collect()
    }

    fn item(&self, item: &Diagnostic) -> Value {
        let labels: Vec<Value> = item
            .labels
            .iter()
            .map(|label| merged(self.place(Some(label.span)), json!({ "text": label.text })))
            .collect();
        let suggestion = item.suggestion.as_ref().map(|edit| {
            let replacement = json!({ "replacement": edit.replacement });
            merged(self.place(Some(edit.span)), replacement)
        });
        let rest = json!({
            "severity": item.severity.name(),
            "code": item.code.name(),
            "message": item.message,
            "labels": labels,
            "notes": item.notes,
            "help": item.help,
            "suggestion": suggestion,
        });
        merged(rest, self.place(item.span()))
    }

    fn place(&self, span: Option<Span>) -> Value {
        let found = span.and_then(|span| Some((self.sources.file(span.file)?, span)));
        let ends = found.map(|(file, span)| (file.position(span.start), file.position(span.end)));
        json!({
            "file": found.map(|(file, _)| file.name()),
            "line": ends.map(|(start, _)| start.line),
            "column": ends.map(|(start, _)| start.column),
            "end_line": ends.map(|(_, end)| end.line),
            "end_column": ends.map(|(_, end)| end.column),
        })
    }
}

/// The members of both objects.
fn merged(mut into: Value, from: Value) -> Value {
    if let (Value::Object(into), Value::Object(from)) = (&mut into, from) {
        into.extend(from);
    }
    into
}
