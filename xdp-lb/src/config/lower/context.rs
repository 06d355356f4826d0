//! What every part of the lowering does alike: looking keywords up and complaining.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Collector, Diagnostic, quote};
use crate::config::keywords::{self, Keyword, Scope, Status};
use crate::config::model::Command;
use crate::config::places::PlacedCommand;
use crate::config::source::{Sources, Span};

/// The state of a run.
pub(super) struct Context<'a> {
    sources: &'a Sources,
    diagnostics: &'a mut Collector,
    /// Keywords without effect yet, in the order of the file, with their lines.
    without_effect: Vec<(&'static str, usize)>,
    /// Blocks inside of which nothing needs to be named as having no effect, by their keywords.
    covered: BTreeSet<Span>,
    /// Every command that was read.
    commands: Vec<PlacedCommand>,
}

impl<'a> Context<'a> {
    pub(super) const fn new(sources: &'a Sources, diagnostics: &'a mut Collector) -> Self {
        Self {
            sources,
            diagnostics,
            without_effect: Vec::new(),
            covered: BTreeSet::new(),
            commands: Vec::new(),
        }
    }

    /// Remembers a command and what it is for.
    pub(super) fn place_command(&mut self, span: Span, command: &Command, purpose: &str) {
        self.commands.push(PlacedCommand {
            span,
            command: command.clone(),
            purpose: purpose.to_owned(),
        });
    }

    /// Names what had no effect, and gives out the commands that were read.
    pub(super) fn finish(self) -> Vec<PlacedCommand> {
        if self.without_effect.is_empty() {
            return self.commands;
        }
        let mut lines: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, line) in self.without_effect {
            lines.entry(name).or_default().push(line.to_string());
        }
        let named: Vec<String> = lines
            .iter()
            .map(|(name, lines)| format!("{name} (line {})", listed(lines)))
            .collect();
        let message = format!(
            "understood, but without effect in this version: {}",
            named.join("; ")
        );
        self.diagnostics
            .push(Diagnostic::note(Code::NoEffectYet, message));
        self.commands
    }

    pub(super) fn push(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// The line a place is on.
    pub(super) fn line(&self, span: Span) -> usize {
        self.sources.line(span)
    }

    /// The statements of a file that stand outside all blocks, as [`Self::keywords`].
    pub(super) fn root_keywords<'s>(
        &mut self,
        tree: &'s [Statement],
    ) -> Vec<(&'static Keyword, &'s Statement)> {
        self.usable(Scope::Root, tree, false)
    }

    /// The statements of `block` that `scope` knows and that are fit for use, with their keywords,
    /// whether or not they have an effect yet. The others were complained about.
    pub(super) fn keywords<'s>(
        &mut self,
        scope: Scope,
        block: &'s Statement,
    ) -> Vec<(&'static Keyword, &'s Statement)> {
        let covered = self.covered.remove(&block.keyword.span);
        self.usable(scope, block.body(), covered)
    }

    /// `covered`: a block around them was named as having no effect yet.
    fn usable<'s>(
        &mut self,
        scope: Scope,
        statements: &'s [Statement],
        covered: bool,
    ) -> Vec<(&'static Keyword, &'s Statement)> {
        let mut seen: BTreeMap<&str, Span> = BTreeMap::new();
        let mut usable = Vec::with_capacity(statements.len());
        for statement in statements {
            let Some(keyword) = self.look_up(scope, statement) else {
                continue;
            };
            if !self.is_fit(scope, keyword, statement) {
                continue;
            }
            let earlier = seen.insert(keyword.name, statement.keyword.span);
            if let Some(earlier) = earlier
                && !keyword.repeats
            {
                self.repeated(statement, earlier);
            }
            self.name_without_effect(keyword, statement, covered);
            usable.push((keyword, statement));
        }
        usable
    }

    /// Remembers a keyword that has no effect yet; one inside a block that was named goes without.
    fn name_without_effect(
        &mut self,
        keyword: &'static Keyword,
        statement: &Statement,
        covered: bool,
    ) {
        let refused = matches!(keyword.status, Status::NotRun(_));
        let silent = covered || refused || keyword.status == Status::NotYet;
        if keyword.status == Status::NotYet && !covered {
            let line = self.line(statement.keyword.span);
            self.without_effect.push((keyword.name, line));
        }
        if silent && keyword.block.is_some() {
            self.covered.insert(statement.keyword.span);
        }
    }

    /// A keyword that this part of the lowering does not read: its block is looked at for mistakes.
    pub(super) fn unread(&mut self, keyword: &'static Keyword, statement: &Statement) {
        debug_assert!(
            keyword.status != Status::Supported,
            "nothing lowers {}",
            keyword.name
        );
        let scope = keyword.block.filter(|scope| *scope != Scope::Lines);
        let Some(scope) = scope else {
            return;
        };
        for (inner, statement) in self.keywords(scope, statement) {
            self.unread(inner, statement);
        }
    }

    fn look_up(&mut self, scope: Scope, statement: &Statement) -> Option<&'static Keyword> {
        let name = &statement.keyword.text;
        // The parser spoke about a block without a keyword.
        if name.is_empty() && !statement.keyword.quoted {
            return None;
        }
        let found = keywords::find(scope, name);
        if found.is_none() {
            self.diagnostics.push_warning(|| unknown(scope, statement));
        }
        found
    }

    /// Whether the statement has the values and the block that its keyword needs.
    fn is_fit(&mut self, scope: Scope, keyword: &'static Keyword, statement: &Statement) -> bool {
        match keyword.status {
            Status::Supported | Status::NotYet | Status::NotRun(_) => {}
            Status::NotNeeded(_) => return false,
            Status::NotYetNoticeable(how) => self.push(
                Diagnostic::warning(
                    Code::NoEffectYet,
                    format!("'{}' has no effect in this version", keyword.name),
                )
                .at(statement.head(), how),
            ),
            Status::Rejected(why) => {
                self.push(
                    Diagnostic::error(
                        Code::NotSupported,
                        format!("'{}' is not supported", keyword.name),
                    )
                    .at(statement.head(), "refused")
                    .help(why),
                );
                return false;
            }
        }
        let values = statement.values.len();
        if values < keyword.values.min {
            if needs_its_values(scope, keyword) {
                self.push(missing_value(scope, keyword, statement));
            } else {
                self.push(no_value(keyword, statement));
            }
            return false;
        }
        if let Some(extra) = statement.values.get(keyword.values.max) {
            let last = statement.values.last().unwrap_or(extra);
            self.push(extra_values(scope, keyword, extra, last));
        }
        self.has_the_right_block(keyword, statement)
    }

    fn has_the_right_block(&mut self, keyword: &Keyword, statement: &Statement) -> bool {
        match (keyword.block, &statement.block) {
            (Some(_), None) => {
                self.push(
                    Diagnostic::error(
                        Code::MissingBlock,
                        format!("'{}' needs a block", keyword.name),
                    )
                    .at(statement.head(), "no '{' follows")
                    .help(format!("write '{}'", keyword.synopsis())),
                );
                false
            }
            (None, Some(block)) => {
                self.push(
                    Diagnostic::warning(
                        Code::UnexpectedBlock,
                        format!("'{}' has no block", keyword.name),
                    )
                    .at(block.open, "this block is skipped"),
                );
                true
            }
            (Some(_), Some(_)) | (None, None) => true,
        }
    }

    fn repeated(&mut self, statement: &Statement, earlier: Span) {
        self.push(
            Diagnostic::warning(
                Code::Repeated,
                format!("{} is set twice", quote(&statement.keyword.text)),
            )
            .at(statement.head(), "the last one counts")
            .at(earlier, "set here first"),
        );
    }
}

/// `1, 2, 3 and 97 more`.
fn listed(lines: &[String]) -> String {
    const SHOWN: usize = 10;
    let (shown, more) = lines.split_at(lines.len().min(SHOWN));
    let shown = shown.join(", ");
    match more.len() {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A keyword that `scope` does not hold.
fn unknown(scope: Scope, statement: &Statement) -> Diagnostic {
    let name = &statement.keyword.text;
    let effect = match (scope, &statement.block) {
        (_, Some(_)) => "skipped with its block",
        (Scope::XdpLb, None) => "ignored",
        (_, None) => "ignored, as keepalived does",
    };
    let elsewhere = keywords::scopes_of(name);
    if let Some(right) = keywords::right_name(scope, name).or_else(|| {
        let near = keywords::near(scope, name);
        near.filter(|_| elsewhere.is_empty())
    }) {
        let diagnostic = Diagnostic::warning(
            Code::UnknownKeyword,
            format!("unknown keyword {}; did you mean '{right}'?", quote(name)),
        )
        .at(statement.keyword.span, effect)
        .suggest(statement.keyword.span, right);
        return match keywords::effect_without(scope, name) {
            Some(effect) => diagnostic.because(effect),
            None => diagnostic,
        };
    }
    if elsewhere.is_empty() {
        return Diagnostic::warning(
            Code::UnknownKeyword,
            format!("unknown keyword {} {}", quote(name), within(scope)),
        )
        .at(statement.keyword.span, effect);
    }
    Diagnostic::warning(
        Code::Misplaced,
        format!("{} cannot stand {}", quote(name), within(scope)),
    )
    .at(statement.keyword.span, effect)
    .help(format!(
        "it belongs in {}; look for a brace too many or too few above",
        elsewhere
            .iter()
            .map(|scope| format!("'{scope}'"))
            .collect::<Vec<_>>()
            .join(" or ")
    ))
}

fn within(scope: Scope) -> String {
    match scope {
        Scope::Root => "at the top level".to_owned(),
        inner => format!("in '{}'", inner.name()),
    }
}

/// Whether keepalived exits when the keyword has no value. In the other scopes keepalived 2.2.7
/// passes over most keywords without one.
fn needs_its_values(scope: Scope, keyword: &Keyword) -> bool {
    let strict = matches!(
        scope,
        Scope::VrrpInstance | Scope::Authentication | Scope::VirtualServer | Scope::RealServer
    );
    strict || keyword.status == Status::Supported
}

fn no_value(keyword: &Keyword, statement: &Statement) -> Diagnostic {
    Diagnostic::warning(
        Code::MissingValue,
        format!("'{}' has no value", keyword.name),
    )
    .at(statement.head(), "ignored, as keepalived does")
}

fn missing_value(scope: Scope, keyword: &Keyword, statement: &Statement) -> Diagnostic {
    let diagnostic = Diagnostic::error(
        Code::MissingValue,
        format!("'{}' has no value", keyword.name),
    )
    .at(
        statement.head(),
        format!("expected {} here", keyword.syntax()),
    );
    match scope {
        Scope::Root | Scope::XdpLb => diagnostic,
        _ => diagnostic.because("keepalived exits when it reads this"),
    }
}

/// Words behind the last value.
fn extra_values(scope: Scope, keyword: &Keyword, extra: &Word, last: &Word) -> Diagnostic {
    if keywords::find(scope, &extra.text).is_some() {
        return joined_line(keyword.name, &extra.text, extra.span.to(last.span));
    }
    Diagnostic::warning(
        Code::ExtraValue,
        format!("'{}' is followed by more than it takes", keyword.name),
    )
    .at(extra.span.to(last.span), "ignored, as keepalived does")
    .because(format!("its form is '{}'", keyword.synopsis()))
}

/// A second keyword, `name`, on the line of `keyword`.
fn joined_line(keyword: &str, name: &str, rest: Span) -> Diagnostic {
    Diagnostic::warning(
        Code::ExtraValue,
        format!(
            "{} is ignored: it stands on the line of '{keyword}'",
            quote(name)
        ),
    )
    .at(
        rest,
        "keepalived reads one keyword per line, and so does xdp-lb",
    )
    .help("put it on a line of its own")
}
