//! `track_…` of an instance or a group: which objects, and what they count for there.

use std::collections::BTreeSet;

use super::objects::{Kind, Objects};
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::lower::context::Context;
use crate::config::model::{Tracked, Trackers, Weight};
use crate::config::source::Span;

const IGNORED: &str = "ignored, as keepalived does";
/// Largest weight of a use; 254 is taken for it.
const LARGEST: i16 = 253;

/// A name that was not defined where it was used.
#[derive(Debug)]
pub(super) struct Unknown {
    kind: Kind,
    name: String,
    span: Span,
}

impl Unknown {
    /// Says so, now that all of the file is known.
    pub(super) fn report(&self, context: &mut Context<'_>, objects: &Objects) {
        let Self { kind, name, span } = self;
        let (defines, quoted) = (kind.keyword(), quote(name));
        let diagnostic = if objects.weight(*kind, name).is_some() {
            Diagnostic::warning(
                Code::UnknownName,
                format!(
                    "{quoted} is defined further down: it is not tracked here, as with keepalived"
                ),
            )
            .help(format!("move {defines} {quoted} above this block"))
        } else {
            Diagnostic::warning(
                Code::UnknownName,
                format!("no {defines} is called {quoted}: it is not tracked, as with keepalived"),
            )
            .help(format!(
                "define {defines} {quoted} above, or correct the name"
            ))
        };
        context.push(diagnostic.at(*span, "runs as if untracked"));
    }
}

/// What was read of the trackers of an instance or a group.
#[derive(Debug, Default)]
pub(super) struct TrackersDraft {
    trackers: Trackers,
    /// Uses that count, by keyword and name.
    seen: BTreeSet<(&'static str, String)>,
}

impl TrackersDraft {
    /// Takes a `track_…` block; whether it was one.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static Keyword,
        block: &Statement,
        objects: &Objects,
        unknown: &mut Vec<Unknown>,
    ) -> bool {
        let kind = match keyword.name {
            "track_interface" => None,
            "track_script" => Some(Kind::Script),
            "track_file" => Some(Kind::File),
            "track_process" => Some(Kind::Process),
            "track_bfd" => Some(Kind::Session),
            _ => return false,
        };
        for line in block.body() {
            let name = &line.keyword;
            let own = match kind {
                Some(kind) => objects.weight(kind, &name.text),
                None if context.device(name).is_none() => continue,
                None => Some(Weight::default()),
            };
            match (own, kind) {
                (None, Some(kind)) => unknown.push(Unknown {
                    kind,
                    name: name.text.clone(),
                    span: name.span,
                }),
                (_, Some(Kind::Session)) => session(context, name),
                (own, _) => self.add(context, keyword.name, line, own.unwrap_or_default()),
            }
        }
        true
    }

    pub(super) fn finish(self) -> Trackers {
        self.trackers
    }

    fn add(
        &mut self,
        context: &mut Context<'_>,
        keyword: &'static str,
        line: &Statement,
        own: Weight,
    ) {
        let name = line.keyword.text.clone();
        if self.seen.contains(&(keyword, name.clone())) {
            context.push(
                Diagnostic::warning(
                    Code::Duplicate,
                    format!("{} is tracked twice", quote(&name)),
                )
                .at(line.head(), "the first one counts, as with keepalived"),
            );
            return;
        }
        let Some(weight) = weight(context, line, own) else {
            return;
        };
        self.seen.insert((keyword, name.clone()));
        let list = match keyword {
            "track_interface" => &mut self.trackers.interfaces,
            "track_script" => &mut self.trackers.scripts,
            "track_file" => &mut self.trackers.files,
            _ => &mut self.trackers.processes,
        };
        list.push(Tracked { name, weight });
    }
}

/// `[weight N [reverse|noreverse]]`. `None`: keepalived drops the whole line.
fn weight(context: &mut Context<'_>, line: &Statement, own: Weight) -> Option<Weight> {
    let Some((option, values)) = line.values.split_first() else {
        return Some(own);
    };
    let value = values.first();
    let (true, Some(value)) = (option.text == "weight", value) else {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!(
                    "{} is not tracked, as with keepalived: {} is not understood",
                    quote(&line.keyword.text),
                    quote(&option.text)
                ),
            )
            .at(option.span, "expected 'weight NUMBER [reverse]' or nothing")
            .help("put each name on a line of its own"),
        );
        return None;
    };
    let mut weight = own;
    match value.text.parse::<i16>() {
        Ok(number) if number.abs() <= LARGEST => weight.value = number,
        Ok(number) if number.abs() == LARGEST + 1 => {
            weight.value = number.clamp(-LARGEST, LARGEST);
            bad_weight(
                context,
                value,
                &format!("{} is used, as keepalived does", weight.value),
            );
        }
        _ => bad_weight(
            context,
            value,
            &format!("{} is used, as keepalived does", own.value),
        ),
    }
    match values.get(1).map(|word| (word, word.text.as_str())) {
        None => {}
        Some((_, "reverse")) => weight.reverse = true,
        Some((_, "noreverse")) => weight.reverse = false,
        Some((word, _)) => context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!("{} is not an option of a weight", quote(&word.text)),
            )
            .at(word.span, IGNORED)
            .help("the options are 'reverse' and 'noreverse'"),
        ),
    }
    Some(weight)
}

fn bad_weight(context: &mut Context<'_>, value: &Word, instead: &str) {
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!("{} is not a weight: {instead}", quote(&value.text)),
        )
        .at(
            value.span,
            format!("expected a whole number from -{LARGEST} to {LARGEST}"),
        ),
    );
}

fn session(context: &mut Context<'_>, name: &Word) {
    context.push(
        Diagnostic::warning(
            Code::NoEffectYet,
            format!("BFD is not spoken: {} is not tracked", quote(&name.text)),
        )
        .at(name.span, "runs as if untracked")
        .help("track the interface, or a script that reaches the neighbour"),
    );
}
