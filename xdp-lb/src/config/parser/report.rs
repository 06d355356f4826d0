//! What to say about braces that are missing or too many.

use super::{Frame, mend};
use crate::config::ast::Word;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords;
use crate::config::source::{Sources, Span};

/// A block as messages name it.
pub(super) struct Named {
    /// `'vrrp_instance VI_1'`
    text: String,
    /// Its keyword and values.
    head: Span,
}

impl Named {
    pub(super) fn of(frame: &Frame) -> Self {
        let words: Vec<&str> = std::iter::once(&frame.keyword)
            .chain(&frame.values)
            .map(|word| &*word.text)
            .collect();
        Self {
            text: quote(&words.join(" ")),
            head: frame.head(),
        }
    }
}

/// What a missing `}` should have stood before.
pub(super) enum Before<'t> {
    /// The line that starts with this word.
    Line(&'t Word),
    /// This `}`, which ends the block named.
    Close(Span, Option<Named>),
    /// A `{` that follows no keyword.
    Nothing,
}

/// A block that was taken to end before something.
pub(super) fn not_closed(frame: &Frame, before: &Before<'_>, sources: &Sources) -> Diagnostic {
    let block = Named::of(frame);
    let line = sources.line(block.head);
    let (what, place, effect) = match before {
        Before::Line(word) => {
            let scope = frame.scope.unwrap_or(keywords::Scope::Lines);
            let why = if keywords::find(scope, &word.text).is_some() {
                "which starts what comes after it"
            } else {
                "which cannot stand in it"
            };
            (
                format!("{}, {why}", quote(&word.text)),
                word.span,
                "taken to be closed before this",
            )
        }
        Before::Close(span, outer) => {
            let ends = outer.as_ref().map_or_else(String::new, |outer| {
                let line = sources.line(outer.head);
                format!(", which ends {} (line {line})", outer.text)
            });
            (
                format!("the '}}' on line {}{ends}", sources.line(*span)),
                *span,
                "taken to be closed before this",
            )
        }
        Before::Nothing => (
            "the next block".to_owned(),
            frame.open,
            "its '{'; taken to be closed before the next one",
        ),
    };
    let diagnostic = Diagnostic::warning(
        Code::UnclosedBlock,
        format!("{} (line {line}) is not closed before {what}", block.text),
    )
    .at(block.head, "opened here; a '}' is missing");
    let diagnostic = in_the_same_file(diagnostic, block.head, place, effect)
        .because("keepalived takes what follows for a part of it")
        .help("add the missing '}'");
    match before {
        Before::Line(_) | Before::Close(..) => {
            let (insert, brace) = brace_before(block.head, place, sources);
            diagnostic.suggest(insert, brace)
        }
        Before::Nothing => diagnostic,
    }
}

/// Where to put the `}` of the block with this head so that it stands before `place`, and what to put.
fn brace_before(head: Span, place: Span, sources: &Sources) -> (Span, String) {
    let indent = mend::indent(sources, head).unwrap_or("");
    let at = |start| Span {
        start,
        end: start,
        ..place
    };
    match mend::indent(sources, place) {
        Some(margin) => (
            at(place.start.saturating_sub(margin.len())),
            format!("{indent}}}\n"),
        ),
        None => (at(place.start), "} ".to_owned()),
    }
}

/// A block that is open at the end of the file.
pub(super) fn never_closed(block: &Named, sources: &Sources) -> Diagnostic {
    let line = sources.line(block.head);
    let text = sources.text(block.head.file);
    let end = Span {
        start: text.len(),
        end: text.len(),
        ..block.head
    };
    let indent = mend::indent(sources, block.head).unwrap_or("");
    let new_line = if text.ends_with('\n') { "" } else { "\n" };
    Diagnostic::warning(
        Code::UnclosedBlock,
        format!("{} (line {line}) is never closed", block.text),
    )
    .at(
        block.head,
        "opened here; taken to reach to the end of the file",
    )
    .help("add the missing '}' where the block ends")
    .suggest(end, format!("{new_line}{indent}}}\n"))
}

/// A `}` that would end `block` too early.
pub(super) fn too_many(block: &Named, span: Span, sources: &Sources) -> Diagnostic {
    let line = sources.line(block.head);
    let diagnostic = Diagnostic::warning(
        Code::ExtraBrace,
        format!(
            "this '}}' is one too many: {} (line {line}) goes on behind it",
            block.text
        ),
    )
    .at(span, "ignored");
    let effect = "keepalived ends this block at it";
    in_the_same_file(diagnostic, span, block.head, effect)
        .help("remove it")
        .suggest(span, "")
}

/// A `}` while no block is open. `last` is the head and the `}` of the block closed before.
pub(super) fn closes_nothing(
    span: Span,
    last: Option<(Span, Span)>,
    sources: &Sources,
) -> Diagnostic {
    let diagnostic =
        Diagnostic::warning(Code::ExtraBrace, "this '}' closes nothing").at(span, "ignored");
    let diagnostic = match last {
        Some((head, end)) => {
            let block = format!("the block of line {} ends here", sources.line(head));
            in_the_same_file(diagnostic, span, end, &block)
        }
        None => diagnostic,
    };
    diagnostic.help("remove it, or look above for a '}' too many")
}

/// Adds a place, unless it is in another file than the first one: text is shown from one file.
fn in_the_same_file(diagnostic: Diagnostic, first: Span, place: Span, text: &str) -> Diagnostic {
    if first.file == place.file {
        diagnostic.at(place, text)
    } else {
        diagnostic
    }
}
