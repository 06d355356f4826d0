//! Missing closing braces.

use super::Named;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Collector, Diagnostic, quote};
use crate::config::keywords::{self, Scope};
use crate::config::source::{Sources, Span};

/// A block that was taken to end before `keyword`.
pub(super) fn not_closed_before(block: &Named, keyword: &Word, sources: &Sources) -> Diagnostic {
    let line = sources.line(block.head);
    let insert = Span {
        end: keyword.span.start,
        ..keyword.span
    };
    Diagnostic::warning(
        Code::UnclosedBlock,
        format!(
            "{} (line {line}) is not closed before {}, which cannot stand in it",
            block.text,
            quote(&keyword.text),
        ),
    )
    .at(block.head, "opened here; a '}' is missing")
    .at(keyword.span, "taken to be closed before this")
    .because("keepalived takes what follows for a part of it")
    .help("add the missing '}'")
    .suggest(insert, "}\n")
}

/// In a file whose braces are balanced: a top-level block that ends with blocks which only the top
/// level can hold lost its `}`, and there is one too many behind it. What follows it is lifted out.
pub(super) fn lift_misplaced_blocks(
    root: &mut Vec<Statement>,
    sources: &Sources,
    diagnostics: &mut Collector,
) {
    let mut lifted = Vec::with_capacity(root.len());
    for mut outer in root.drain(..) {
        let tail = misplaced_tail(&mut outer);
        if let Some(first) = tail.first() {
            let name = Named::new(&outer.keyword, &outer.values);
            diagnostics.push(not_closed_before(&name, &first.keyword, sources));
        }
        lifted.push(outer);
        lifted.extend(tail);
    }
    *root = lifted;
}

/// Takes the statements off the end of a top-level block that only the top level can hold.
fn misplaced_tail(outer: &mut Statement) -> Vec<Statement> {
    let scope = keywords::find(Scope::Root, &outer.keyword.text).and_then(|known| known.block);
    let (Some(scope), Some(block)) = (scope, outer.block.as_mut()) else {
        return Vec::new();
    };
    let belongs_outside = |statement: &Statement| {
        let name = &statement.keyword.text;
        statement.block.is_some()
            && keywords::find(scope, name).is_none()
            && keywords::find(Scope::Root, name).is_some_and(|known| known.block.is_some())
    };
    let kept = block
        .statements
        .iter()
        .rposition(|statement| !belongs_outside(statement))
        .map_or(0, |last| last + 1);
    block.statements.split_off(kept)
}
