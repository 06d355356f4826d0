//! Diagnostics as text for people.

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Patch, Renderer, Snippet};

use super::{Diagnostic, Diagnostics, Severity, Suggestion};
use crate::config::source::{FileId, Source, Span};

impl Diagnostics {
    /// All of them the way rustc shows them, with the lines of the file. Ends with a newline unless
    /// there are none.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut text: String = self
            .iter()
            .map(|item| self.render_one(item, &renderer) + "\n\n")
            .collect();
        if self.omitted() > 0 {
            let more = format!("… and {} more like these\n\n", self.omitted());
            text.push_str(&more);
        }
        text
    }

    /// `FILE:LINE:COLUMN: warning[CODE]: …`, for logs.
    pub fn one_line(&self, item: &Diagnostic) -> String {
        let place = item.span().and_then(|span| {
            let file = self.sources.file(span.file)?;
            let at = file.position(span.start);
            Some(format!("{}:{}:{}: ", file.name(), at.line, at.column))
        });
        let place = place.unwrap_or_default();
        let (severity, code) = (item.severity.name(), item.code.name());
        format!("{place}{severity}[{code}]: {}", item.message)
    }

    fn render_one(&self, item: &Diagnostic, renderer: &Renderer) -> String {
        let level = match item.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let title = level
            .primary_title(item.message.as_str())
            .id(item.code.name());
        let mut group = Group::with_title(title);
        for snippet in self.snippets(item) {
            group = group.element(snippet);
        }
        for note in &item.notes {
            group = group.element(Level::NOTE.message(note.as_str()));
        }
        let mut groups = Vec::new();
        match (&item.help, &item.suggestion) {
            (Some(help), Some(edit)) => {
                groups.push(group);
                let title = Group::with_title(Level::HELP.secondary_title(help.as_str()));
                groups.push(match self.patch(edit) {
                    Some(patch) => title.element(patch),
                    None => title,
                });
            }
            (Some(help), None) => groups.push(group.element(Level::HELP.message(help.as_str()))),
            // The message itself says what to write; machines find the edit in the JSON.
            (None, _) => groups.push(group),
        }
        renderer.render(&groups)
    }

    /// The lines that the labels point at, file by file; that of the first label comes first.
    fn snippets<'a>(&'a self, item: &'a Diagnostic) -> Vec<Snippet<'a, Annotation<'a>>> {
        let mut files: Vec<FileId> = Vec::new();
        for label in &item.labels {
            if !files.contains(&label.span.file) {
                files.push(label.span.file);
            }
        }
        files
            .into_iter()
            .filter_map(|file| self.snippet(item, file))
            .collect()
    }

    /// The lines of one file that the labels point at.
    fn snippet<'a>(
        &'a self,
        item: &'a Diagnostic,
        id: FileId,
    ) -> Option<Snippet<'a, Annotation<'a>>> {
        let here = || item.labels.iter().filter(|label| label.span.file == id);
        let all = here().map(|label| label.span).reduce(|all, span| Span {
            start: all.start.min(span.start),
            end: all.end.max(span.end),
            ..all
        })?;
        let file = self.sources.file(id)?;
        let (line, offset, text) = file.lines_around(all);
        let primary = item.span();
        let annotations = here().map(|label| {
            let kind = if Some(label.span) == primary {
                AnnotationKind::Primary
            } else {
                AnnotationKind::Context
            };
            let start = (label.span.start - offset).min(text.len());
            let end = (label.span.end - offset).clamp(start, text.len());
            kind.span(start..end).label(label.text.as_str())
        });
        Some(
            Snippet::source(text)
                .line_start(line)
                .path(file.name())
                .annotations(annotations),
        )
    }

    fn patch<'a>(&'a self, edit: &'a Suggestion) -> Option<Snippet<'a, Patch<'a>>> {
        let file: &Source = self.sources.file(edit.span.file)?;
        let (line, offset, text) = file.lines_around(edit.span);
        let start = (edit.span.start - offset).min(text.len());
        let end = (edit.span.end - offset).clamp(start, text.len());
        Some(
            Snippet::source(text)
                .line_start(line)
                .path(file.name())
                .patch(Patch::new(start..end, edit.replacement.as_str())),
        )
    }
}
