//! A row of the table, and how rows are written.

use super::Scope;
use super::kind::Kind;
use super::lines::Line;

/// Whether a keyword works here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it does in keepalived.
    Supported,
    /// It is accepted and has no effect yet. One note per file names all of these.
    NotYet,
    /// The same, with a warning where it stands: clients or servers can tell. Says how.
    NotYetNoticeable(&'static str),
    /// It is accepted and nothing is missing without it. Says why.
    NotNeeded(&'static str),
    /// It is refused, because its meaning cannot be kept. Says why, and what to do.
    Rejected(&'static str),
}

/// What keepalived makes of a keyword without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bare {
    /// The value may be left out.
    Works,
    /// It passes over the line or the block, with a message.
    PassedOver,
    /// It exits.
    Exits,
}

/// The values on a keyword's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    /// Fewest; with fewer keepalived exits.
    pub min: usize,
    /// Most.
    pub max: usize,
    /// What they are.
    pub kind: Kind,
    /// What keepalived does without them.
    pub bare: Bare,
}

/// A keyword in a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyword {
    /// The word.
    pub name: &'static str,
    /// What stands behind it on its line.
    pub values: Values,
    /// What its block holds, if it has one.
    pub block: Option<Scope>,
    /// What the lines of its block look like, when they start with no keyword.
    pub lines: &'static [Line],
    /// Whether it works here.
    pub status: Status,
    /// One line of documentation.
    pub doc: &'static str,
    /// Whether its values are a command line, where a backslash escapes inside quotes.
    pub script: bool,
    /// Whether it may stand more than once in its block.
    pub repeats: bool,
    /// Who knows it, when keepalived 2.2.7 as Debian 12 has it does not.
    pub only: Option<&'static str>,
}

/// Keywords of our own.
pub(super) const OURS: &str = "xdp-lb";
/// Keywords that came later.
pub(super) const NEWER: &str = "keepalived newer than 2.2.7";
/// The same, where the version is known.
pub(super) const SINCE_2_2_8: &str = "keepalived 2.2.8 and newer";
/// The same.
pub(super) const SINCE_2_4: &str = "keepalived 2.4 and newer";
/// Keywords that old files still have.
pub(super) const OLD: &str = "old versions of keepalived";
/// Keywords that depend on how keepalived was built.
pub(super) const IPTABLES: &str = "keepalived built for iptables instead of nftables";

impl Keyword {
    /// How documentation and messages write its values.
    pub fn syntax(&self) -> String {
        let kind = self.values.kind;
        let syntax = kind.syntax();
        if kind.says_how_many() && self.values.max > 0 {
            let whole = self.values.bare == Bare::Works && !syntax.starts_with('[');
            return if whole { format!("[{syntax}]") } else { syntax };
        }
        let more = if self.values.max > 1 { "…" } else { "" };
        if self.values.bare == Bare::Works && self.values.max > 0 {
            format!("[{syntax}{more}]")
        } else {
            format!("{syntax}{more}")
        }
    }

    /// The keyword with its values, as documentation writes it.
    pub fn synopsis(&self) -> String {
        let block = if self.block.is_some() { " { … }" } else { "" };
        let syntax = self.syntax();
        let space = if syntax.is_empty() { "" } else { " " };
        format!("{}{space}{syntax}{block}", self.name)
    }

    /// The same, and its values may be missing.
    pub(super) const fn optional(mut self) -> Self {
        self.values.min = 0;
        self.values.bare = Bare::Works;
        self
    }

    /// The same, and keepalived passes over it when its value, or what its block needs, is missing.
    pub(super) const fn passed_over(mut self) -> Self {
        self.values.min = 0;
        self.values.bare = Bare::PassedOver;
        self
    }

    /// The same, and here its value must be there: what keepalived passes over would be missed.
    pub(super) const fn needed(mut self) -> Self {
        self.values.min = 1;
        self
    }

    /// The same, and allowed more than once.
    pub(super) const fn repeated(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// The same, with a block of such lines.
    pub(super) const fn of(mut self, lines: &'static [Line]) -> Self {
        self.lines = lines;
        self
    }

    /// The same, which only this program knows.
    pub(super) const fn only(mut self, program: &'static str) -> Self {
        self.only = Some(program);
        self
    }
}

/// A keyword alone on its line.
pub(super) const fn flag(name: &'static str, status: Status, doc: &'static str) -> Keyword {
    line(name, 0, 0, Kind::Nothing, status, doc)
}

/// A keyword with one value.
pub(super) const fn one(
    name: &'static str,
    kind: Kind,
    status: Status,
    doc: &'static str,
) -> Keyword {
    line(name, 1, 1, kind, status, doc)
}

/// A keyword with one value or none.
pub(super) const fn maybe(
    name: &'static str,
    kind: Kind,
    status: Status,
    doc: &'static str,
) -> Keyword {
    line(name, 0, 1, kind, status, doc)
}

/// A keyword with one value or two.
pub(super) const fn pair(
    name: &'static str,
    kind: Kind,
    status: Status,
    doc: &'static str,
) -> Keyword {
    line(name, 1, 2, kind, status, doc)
}

/// A keyword with any number of values.
pub(super) const fn many(
    name: &'static str,
    kind: Kind,
    status: Status,
    doc: &'static str,
) -> Keyword {
    line(name, 1, usize::MAX, kind, status, doc)
}

/// A keyword with between `min` and `max` values.
pub(super) const fn line(
    name: &'static str,
    min: usize,
    max: usize,
    kind: Kind,
    status: Status,
    doc: &'static str,
) -> Keyword {
    let bare = if min == 0 { Bare::Works } else { Bare::Exits };
    Keyword {
        name,
        values: Values {
            min,
            max,
            kind,
            bare,
        },
        block: None,
        lines: &[],
        status,
        doc,
        script: false,
        repeats: false,
        only: None,
    }
}

/// A keyword whose values are a command.
pub(super) const fn script(name: &'static str, status: Status, doc: &'static str) -> Keyword {
    Keyword {
        script: true,
        ..many(name, Kind::Command, status, doc)
    }
}

/// A keyword with a block and nothing else.
pub(super) const fn block(
    name: &'static str,
    holds: Scope,
    status: Status,
    doc: &'static str,
) -> Keyword {
    named(name, 0, 0, Kind::Nothing, holds, status, doc)
}

/// A keyword with a block of lines that start with no keyword.
pub(super) const fn list(
    name: &'static str,
    lines: &'static [Line],
    status: Status,
    doc: &'static str,
) -> Keyword {
    block(name, Scope::Lines, status, doc).of(lines)
}

/// A keyword with values and a block.
pub(super) const fn named(
    name: &'static str,
    min: usize,
    max: usize,
    kind: Kind,
    holds: Scope,
    status: Status,
    doc: &'static str,
) -> Keyword {
    Keyword {
        block: Some(holds),
        repeats: true,
        ..line(name, min, max, kind, status, doc)
    }
}
