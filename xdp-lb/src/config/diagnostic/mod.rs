//! What there is to say about a configuration.
//!
//! Every stage pushes [`Diagnostic`]s and goes on, so that one run reports everything. [`Diagnostics`]
//! keeps them with the files they point into and shows them: as text the way rustc does
//! ([`Diagnostics::render`]), one line each for logs ([`Diagnostics::one_line`]), or as JSON.

#[cfg(test)]
mod explanation;
mod json;
mod render;

use super::source::{Sources, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, though probably not as its author thinks.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// `error`, `warning` or `note`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The kind of a diagnostic: stable, for machines and for looking it up.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Code {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// What it is, in a line.
            pub const fn summary(self) -> &'static str {
                match self {
                    $(Self::$variant => concat!($($doc),+)),+
                }
            }

            /// Several sentences for people: what it means, what keepalived does, what to do.
            /// Paragraphs are separated by an empty line, lines of configuration are indented.
            pub const fn explanation(self) -> &'static str {
                match self {
                    $(Self::$variant => include_str!(concat!("explanations/", $name, ".md")).trim_ascii()),+
                }
            }

            /// Its stable name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

codes! {
    /// The file starts with a byte order mark.
    ByteOrderMark = "byte-order-mark",
    /// Bytes that are not UTF-8.
    NotUtf8 = "not-utf-8",
    /// A word in single quotes, which quote nothing.
    SingleQuote = "single-quote",
    /// A quote that is not closed on its line.
    UnterminatedQuote = "unterminated-quote",
    /// A file that is to be included does not exist.
    IncludeMissing = "include-missing",
    /// A file that is to be included cannot be.
    IncludeUnreadable = "include-unreadable",
    /// A file that includes itself, directly or by way of others.
    IncludeCycle = "include-cycle",
    /// A `$NAME` that is defined nowhere above.
    UndefinedName = "undefined-name",
    /// A `$NAME` that is defined and yet is not replaced where it stands.
    NotReplaced = "not-replaced",
    /// A `~SEQ` or `~LST` that cannot be carried out.
    BadRepetition = "bad-repetition",
    /// Includes, definitions or repetitions that make more than is read.
    ExpansionTooLarge = "expansion-too-large",
    /// A block whose `}` is missing.
    UnclosedBlock = "unclosed-block",
    /// A `}` that closes nothing.
    ExtraBrace = "extra-brace",
    /// A `{` that follows no keyword.
    StrayBlock = "stray-block",
    /// Blocks within blocks within blocks, far deeper than the language goes.
    TooDeep = "too-deep",
    /// A keyword nobody knows.
    UnknownKeyword = "unknown-keyword",
    /// A keyword where it does not belong.
    Misplaced = "misplaced-keyword",
    /// A keyword that keepalived knows and that is refused here, or does not exist here yet.
    NotSupported = "not-supported",
    /// A keyword that is understood and has no effect yet.
    NoEffectYet = "no-effect-yet",
    /// A required value is missing.
    MissingValue = "missing-value",
    /// A required block is missing.
    MissingBlock = "missing-block",
    /// A block after a keyword that has none.
    UnexpectedBlock = "unexpected-block",
    /// More values than the keyword takes.
    ExtraValue = "extra-value",
    /// A keyword that counts once stands twice.
    Repeated = "repeated-keyword",
    /// A value that the keyword cannot take.
    BadValue = "bad-value",
    /// A spelling that is accepted although keepalived would not.
    Lenient = "lenient-spelling",
    /// An old or wrong keyword that is taken for the right one.
    Renamed = "renamed-keyword",
    /// A required keyword is missing from a block.
    MissingKeyword = "missing-keyword",
    /// The keyword is missing and its default deserves mention.
    DefaultUsed = "default-used",
    /// The same thing is defined twice.
    Duplicate = "duplicate",
    /// A name that nothing has.
    UnknownName = "unknown-name",
    /// A value that the protocol cannot carry, and the nearest one it can.
    Rounded = "rounded-value",
    /// A setting that another one overrules.
    Overruled = "overruled-setting",
    /// What `vrrp_strict` or `strict_mode` switches off.
    Strict = "strict-mode",
    /// A setting that is valid and hardly meant.
    Doubtful = "doubtful-setting",
    /// Two settings that cannot both stand.
    Conflict = "conflict",
    /// A block without what makes it useful.
    Empty = "empty-block",
    /// Advertisements go out without the password the file seems to ask for.
    NoAuthentication = "no-authentication",
    /// A command that this host does not have: no such file, or no such name in the directories of
    /// PATH. keepalived disables such a script of VRRP and runs the instance as if it were untracked; of
    /// other commands it says nothing and runs nothing.
    CommandMissing = "command-missing",
    /// A command that this host has and that cannot be run: it is not executable, it is a directory, or
    /// the interpreter of its first line is missing.
    CommandNotRunnable = "command-not-runnable",
    /// A name without '/' was looked up in the directories of PATH. The message says what was found.
    CommandLookup = "command-lookup",
    /// A command that runs as root and that others than root can change, or put another one in its place.
    /// With `enable_script_security` keepalived refuses it.
    CommandUnsafe = "command-unsafe",
    /// A command that only a shell understands. keepalived starts programs itself, without a shell.
    ShellSyntax = "shell-syntax",
    /// A command is to be run by a user or group that this host does not have.
    NoSuchUser = "no-such-user",
    /// The file names a network interface that this host does not have.
    NoSuchInterface = "no-such-interface",
    /// Packets that come in by an interface cannot be balanced, because of what it is.
    UselessInterface = "useless-interface",
    /// On an interface of this kind the program runs in the stack, which is slower.
    OnlyGeneric = "only-generic",
    /// It is not known which packets have a firewall mark that is balanced.
    UnknownMark = "unknown-mark",
    /// A rule of the firewall gives a mark under conditions that cannot be kept here.
    RuleNotUsed = "rule-not-used",
    /// A file of the `SSL` block cannot be read, or is not what it should be.
    BadCertificate = "bad-certificate",
    /// Commands are run, and nothing keeps those from being run as root that others can change.
    /// `keepalived -t` exits with 6 for this.
    ScriptSecurity = "script-security",
    /// Two directors of one cluster have the same priority.
    PriorityTie = "priority-tie",
    /// Two directors of one cluster have different settings where they must agree.
    PeersDiffer = "peers-differ",
}

impl Code {
    /// The kind with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A place and what is to be said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The place.
    pub span: Span,
    /// The words beside the carets.
    pub text: String,
}

/// An edit that would settle the matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// What to replace; empty to insert.
    pub span: Span,
    /// What to put there.
    pub replacement: String,
}

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    severity: Severity,
    code: Code,
    message: String,
    /// Where it is; the first label is the primary one.
    labels: Vec<Label>,
    notes: Vec<String>,
    help: Option<String>,
    suggestion: Option<Suggestion>,
}

impl Diagnostic {
    /// The configuration cannot be used.
    pub fn error(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// It can be used, though probably not as its author thinks.
    pub fn warning(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    /// Worth knowing.
    pub fn note(code: Code, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, message.into())
    }

    /// One that is this bad.
    pub const fn new(severity: Severity, code: Code, message: String) -> Self {
        Self {
            severity,
            code,
            message,
            labels: Vec::new(),
            notes: Vec::new(),
            help: None,
            suggestion: None,
        }
    }

    /// Adds a place. The first one added is where the diagnostic stands.
    #[must_use]
    pub fn at(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label {
            span,
            text: text.into(),
        });
        self
    }

    /// Adds background.
    #[must_use]
    pub fn because(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help = Some(text.into());
        self
    }

    /// Offers the edit that does it.
    #[must_use]
    pub fn suggest(mut self, span: Span, replacement: impl Into<String>) -> Self {
        self.suggestion = Some(Suggestion {
            span,
            replacement: replacement.into(),
        });
        self
    }

    /// Points at the definition that put there what it is about. An edit at the place of use would
    /// not be one of the text that it is meant for.
    fn trace(&mut self, sources: &Sources) {
        let edited = self.suggestion.as_ref().map(|edit| edit.span);
        if edited.is_some_and(|span| sources.definition(span).is_some()) {
            self.suggestion = None;
        }
        if let Some(defined) = self.span().and_then(|span| sources.definition(span))
            && !self.labels.iter().any(|label| label.span == defined)
        {
            self.labels.push(Label {
                span: defined,
                text: "defined here".to_owned(),
            });
        }
    }

    /// How bad it is.
    pub const fn severity(&self) -> Severity {
        self.severity
    }

    /// What kind it is.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The one sentence.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Where it is; `None` when it is about the file as a whole.
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|label| label.span)
    }
}

/// Where the stages put what they have to say.
///
/// It keeps the first [`Collector::KEPT`] of each severity and counts the rest: a file that is no
/// configuration at all has something wrong in every line.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    items: Vec<Diagnostic>,
    counts: Counts,
}

/// How many there were, kept or not.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    errors: usize,
    warnings: usize,
    notes: usize,
}

impl Collector {
    /// How many of each severity are kept.
    pub const KEPT: usize = 500;

    /// Takes one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.count(diagnostic.severity) {
            self.items.push(diagnostic);
        }
    }

    /// Takes a warning that costs something to make: it is not made when it would not be kept.
    pub fn push_warning(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.count(Severity::Warning) {
            self.items.push(make());
        }
    }

    /// Counts one; whether it is to be kept.
    const fn count(&mut self, severity: Severity) -> bool {
        let count = match severity {
            Severity::Error => &mut self.counts.errors,
            Severity::Warning => &mut self.counts.warnings,
            Severity::Note => &mut self.counts.notes,
        };
        *count += 1;
        *count <= Self::KEPT
    }

    /// What was kept so far.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }
}

/// All diagnostics of a configuration, in the order of the file, with the files.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    sources: Sources,
    items: Vec<Diagnostic>,
    counts: Counts,
}

impl Diagnostics {
    /// Sorts by place; what has none comes last.
    pub fn new(sources: Sources, collected: Collector) -> Self {
        let Collector { mut items, counts } = collected;
        for item in &mut items {
            item.trace(&sources);
        }
        items.sort_by_key(|item| (item.span().is_none(), item.span()));
        Self {
            sources,
            items,
            counts,
        }
    }

    /// Adds what was found out later, such as about the host.
    pub fn add(&mut self, found: impl IntoIterator<Item = Diagnostic>) {
        let mut collected = Collector {
            items: std::mem::take(&mut self.items),
            counts: self.counts,
        };
        found.into_iter().for_each(|item| collected.push(item));
        *self = Self::new(std::mem::take(&mut self.sources), collected);
    }

    /// Each that was kept.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.items.iter()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many are this bad, kept or not.
    pub const fn count(&self, severity: Severity) -> usize {
        match severity {
            Severity::Error => self.counts.errors,
            Severity::Warning => self.counts.warnings,
            Severity::Note => self.counts.notes,
        }
    }

    /// How many were not kept.
    pub const fn omitted(&self) -> usize {
        let Counts {
            errors,
            warnings,
            notes,
        } = self.counts;
        errors + warnings + notes - self.items.len()
    }

    /// Whether the configuration cannot be used.
    pub const fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// The files.
    pub const fn sources(&self) -> &Sources {
        &self.sources
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A word of the file as messages show it: in quotes, control characters escaped, cut when long.
pub fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    let more = if text.chars().nth(LONGEST).is_some() {
        "…"
    } else {
        ""
    };
    format!("'{shown}{more}'")
}
