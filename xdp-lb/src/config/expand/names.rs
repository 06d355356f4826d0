//! Names that were not replaced, and what is said about them.

use super::Expander;
use super::define::{self, Reference};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords;
use crate::config::source::Span;
use crate::config::text::Text;

impl Expander<'_> {
    /// Speaks about names that were not replaced.
    pub(super) fn warn_of_names(&mut self, line: &Text) {
        let text = line.as_str();
        if !text.contains('$') {
            return;
        }
        let script = keywords::is_script(text.split_whitespace().next().unwrap_or(""));
        for reference in define::references(text) {
            let span = line.span(reference.range.clone());
            if !self.warned.contains(&span)
                && let Some(diagnostic) = self.left_alone(&reference, text, span, script)
            {
                self.warned.insert(span);
                self.diagnostics.push(diagnostic);
            }
        }
    }

    /// Why a name was not replaced, if that deserves mention.
    fn left_alone(
        &self,
        reference: &Reference<'_>,
        line: &str,
        span: Span,
        script: bool,
    ) -> Option<Diagnostic> {
        let name = reference.name;
        let definition = self.definitions.get(name);
        if definition.is_none() && !reference.closed {
            return None;
        }
        let shown = quote(line.get(reference.range.clone()).unwrap_or(name));
        if let Some(definition) = definition {
            let several = definition.lines.len() > 1;
            let help = if several {
                "it stands for several lines: put it at the end of a line".to_owned()
            } else {
                format!("write '${{{name}}}'")
            };
            let found = Diagnostic::warning(Code::NotReplaced, format!("{shown} is not replaced"))
                .at(span, "taken as it stands, as keepalived does")
                .because("keepalived replaces '$NAME' only before a blank, ',' or ')'")
                .help(help);
            return Some(match definition.span {
                Some(defined) => found.at(defined, "defined here"),
                None => found,
            });
        }
        let near = self.near(name);
        // In a command it is most likely the shell's.
        if script && near.is_none() {
            return None;
        }
        let help = match near {
            Some(near) => format!("did you mean '${near}'?"),
            None => format!("define it above with '${name}=VALUE', unless it is meant to stand"),
        };
        let found = Diagnostic::warning(Code::UndefinedName, format!("{shown} is not defined"))
            .at(span, "taken as it stands")
            .help(help);
        let braces = shown.starts_with("'${");
        Some(if braces {
            found.because("keepalived takes its braces for those of a block, outside of quotes")
        } else {
            found
        })
    }

    /// The defined name most like `name`.
    fn near(&self, name: &str) -> Option<&str> {
        let limit = (name.len() / 3).clamp(1, 4);
        let known = self.definitions.names().chain(define::BUILT_IN);
        known
            .filter(|known| known.len().abs_diff(name.len()) <= limit)
            .map(|known| (keywords::edit_distance(name, known), known))
            .filter(|(distance, _)| (1..=limit).contains(distance))
            .min()
            .map(|(_, known)| known)
    }
}
