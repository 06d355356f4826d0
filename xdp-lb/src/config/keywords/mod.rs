//! Every keyword of keepalived.conf that is known, in one table.
//!
//! The parser asks it which blocks can hold which keyword (to mend a missing brace), the lowering
//! what a keyword takes and whether it works here, the messages what an unknown word may have meant.
//! One row is one keyword in one scope: name, values, block, status, and a line of documentation.

mod checker;
mod global;
mod ours;
mod service;
mod suggest;
mod vrrp;

pub use suggest::{near, right_name, scopes_of};

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Outside all blocks.
    Root,
    /// `global_defs`
    GlobalDefs,
    /// `vrrp_script`
    VrrpScript,
    /// `track_file`
    TrackFile,
    /// `vrrp_track_process`
    TrackProcess,
    /// `bfd_instance`
    BfdInstance,
    /// `vrrp_sync_group`
    VrrpSyncGroup,
    /// `vrrp_instance`
    VrrpInstance,
    /// `authentication`
    Authentication,
    /// `virtual_server`
    VirtualServer,
    /// `real_server`
    RealServer,
    /// `TCP_CHECK`
    TcpCheck,
    /// `HTTP_GET` and `SSL_GET`
    HttpGet,
    /// `url`
    Url,
    /// `MISC_CHECK`
    MiscCheck,
    /// `SMTP_CHECK`
    SmtpCheck,
    /// `DNS_CHECK`
    DnsCheck,
    /// `UDP_CHECK`
    UdpCheck,
    /// `PING_CHECK`
    PingCheck,
    /// `FILE_CHECK`
    FileCheck,
    /// `BFD_CHECK`
    BfdCheck,
    /// `SSL`
    Ssl,
    /// `xdp_lb`
    XdpLb,
    /// Lines that start with no keyword: addresses, names, routes.
    Lines,
}

impl Scope {
    /// Every scope that has keywords.
    pub const ALL: [Self; 23] = [
        Self::Root,
        Self::GlobalDefs,
        Self::VrrpScript,
        Self::TrackFile,
        Self::TrackProcess,
        Self::BfdInstance,
        Self::VrrpSyncGroup,
        Self::VrrpInstance,
        Self::Authentication,
        Self::VirtualServer,
        Self::RealServer,
        Self::TcpCheck,
        Self::HttpGet,
        Self::Url,
        Self::MiscCheck,
        Self::SmtpCheck,
        Self::DnsCheck,
        Self::UdpCheck,
        Self::PingCheck,
        Self::FileCheck,
        Self::BfdCheck,
        Self::Ssl,
        Self::XdpLb,
    ];

    /// What messages and documentation call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "the top level",
            Self::GlobalDefs => "global_defs",
            Self::VrrpScript => "vrrp_script",
            Self::TrackFile => "track_file",
            Self::TrackProcess => "vrrp_track_process",
            Self::BfdInstance => "bfd_instance",
            Self::VrrpSyncGroup => "vrrp_sync_group",
            Self::VrrpInstance => "vrrp_instance",
            Self::Authentication => "authentication",
            Self::VirtualServer => "virtual_server",
            Self::RealServer => "real_server",
            Self::TcpCheck => "TCP_CHECK",
            Self::HttpGet => "HTTP_GET",
            Self::Url => "url",
            Self::MiscCheck => "MISC_CHECK",
            Self::SmtpCheck => "SMTP_CHECK",
            Self::DnsCheck => "DNS_CHECK",
            Self::UdpCheck => "UDP_CHECK",
            Self::PingCheck => "PING_CHECK",
            Self::FileCheck => "FILE_CHECK",
            Self::BfdCheck => "BFD_CHECK",
            Self::Ssl => "SSL",
            Self::XdpLb => "xdp_lb",
            Self::Lines => "a list",
        }
    }

    /// The keywords it can hold.
    pub const fn keywords(self) -> &'static [Keyword] {
        match self {
            Self::Root => global::ROOT,
            Self::GlobalDefs => global::GLOBAL_DEFS,
            Self::VrrpScript => vrrp::SCRIPT,
            Self::TrackFile => vrrp::TRACK_FILE,
            Self::TrackProcess => vrrp::TRACK_PROCESS,
            Self::BfdInstance => vrrp::BFD_INSTANCE,
            Self::VrrpSyncGroup => vrrp::SYNC_GROUP,
            Self::VrrpInstance => vrrp::INSTANCE,
            Self::Authentication => vrrp::AUTHENTICATION,
            Self::VirtualServer => service::VIRTUAL_SERVER,
            Self::RealServer => service::REAL_SERVER,
            Self::TcpCheck => checker::TCP,
            Self::HttpGet => checker::HTTP,
            Self::Url => checker::URL,
            Self::MiscCheck => checker::MISC,
            Self::SmtpCheck => checker::SMTP,
            Self::DnsCheck => checker::DNS,
            Self::UdpCheck => checker::UDP,
            Self::PingCheck => checker::PING,
            Self::FileCheck => checker::FILE,
            Self::BfdCheck => checker::BFD,
            Self::Ssl => global::SSL,
            Self::XdpLb => ours::XDP_LB,
            Self::Lines => &[],
        }
    }
}

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
    /// It is understood, and a file that uses it is refused by [`support`](super::support), because
    /// it does not run yet. Says why, and what to do.
    NotRun(&'static str),
    /// It is refused, because its meaning cannot be kept. Says why, and what to do.
    Rejected(&'static str),
}

/// The values on a keyword's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    /// Fewest.
    pub min: usize,
    /// Most.
    pub max: usize,
    /// How documentation and messages write them.
    pub syntax: &'static str,
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
    /// Whether it works here.
    pub status: Status,
    /// One line of documentation.
    pub doc: &'static str,
    /// Whether its values are a command line, where a backslash escapes inside quotes.
    pub script: bool,
    /// Whether it may stand more than once in its block.
    pub repeats: bool,
}

impl Keyword {
    /// The keyword with its values, as documentation writes it.
    pub fn synopsis(&self) -> String {
        let block = if self.block.is_some() { " { … }" } else { "" };
        let space = if self.values.syntax.is_empty() {
            ""
        } else {
            " "
        };
        format!("{}{space}{}{block}", self.name, self.values.syntax)
    }

    /// The same, and its values may be missing.
    const fn optional(mut self) -> Self {
        self.values.min = 0;
        self
    }

    /// The same, and allowed more than once.
    const fn repeated(mut self) -> Self {
        self.repeats = true;
        self
    }
}

/// A keyword alone on its line.
const fn flag(name: &'static str, status: Status, doc: &'static str) -> Keyword {
    line(name, 0, 0, "", status, doc)
}

/// A keyword with one value.
const fn one(
    name: &'static str,
    syntax: &'static str,
    status: Status,
    doc: &'static str,
) -> Keyword {
    line(name, 1, 1, syntax, status, doc)
}

/// A keyword with one value or none.
const fn maybe(
    name: &'static str,
    syntax: &'static str,
    status: Status,
    doc: &'static str,
) -> Keyword {
    line(name, 0, 1, syntax, status, doc)
}

/// A keyword with any number of values.
const fn many(
    name: &'static str,
    syntax: &'static str,
    status: Status,
    doc: &'static str,
) -> Keyword {
    line(name, 1, usize::MAX, syntax, status, doc)
}

/// A keyword with between `min` and `max` values.
const fn line(
    name: &'static str,
    min: usize,
    max: usize,
    syntax: &'static str,
    status: Status,
    doc: &'static str,
) -> Keyword {
    Keyword {
        name,
        values: Values { min, max, syntax },
        block: None,
        status,
        doc,
        script: false,
        repeats: false,
    }
}

/// A keyword whose values are a command.
const fn script(name: &'static str, status: Status, doc: &'static str) -> Keyword {
    Keyword {
        script: true,
        ..many(name, "COMMAND", status, doc)
    }
}

/// A keyword with a block and nothing else.
const fn block(name: &'static str, holds: Scope, status: Status, doc: &'static str) -> Keyword {
    named(name, 0, 0, "", holds, status, doc)
}

/// A keyword with values and a block.
const fn named(
    name: &'static str,
    min: usize,
    max: usize,
    syntax: &'static str,
    holds: Scope,
    status: Status,
    doc: &'static str,
) -> Keyword {
    Keyword {
        block: Some(holds),
        repeats: true,
        ..line(name, min, max, syntax, status, doc)
    }
}

/// The keyword `name` in `scope`.
pub fn find(scope: Scope, name: &str) -> Option<&'static Keyword> {
    scope.keywords().iter().find(|keyword| keyword.name == name)
}

/// Whether the line that starts with `name` is a command's, wherever it stands.
pub fn is_script(name: &str) -> bool {
    // Every command's keyword is one of these; the test below keeps the list complete.
    const NAMES: [&str; 9] = [
        "script",
        "notify",
        "misc_path",
        "quorum_up",
        "quorum_down",
        "startup_script",
        "shutdown_script",
        "full_command",
        "exec",
    ];
    NAMES.contains(&name) || name.starts_with("notify_") || name.ends_with("_fifo_script")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn rows_are_unique_and_well_formed() {
        for scope in Scope::ALL {
            assert!(!scope.keywords().is_empty(), "{scope:?}");
            let mut names = BTreeSet::new();
            for keyword in scope.keywords() {
                assert!(
                    names.insert(keyword.name),
                    "{scope:?}: {} twice",
                    keyword.name
                );
                assert!(keyword.values.min <= keyword.values.max, "{}", keyword.name);
                let no_values = keyword.values.max == 0;
                assert_eq!(
                    no_values,
                    keyword.values.syntax.is_empty(),
                    "{}",
                    keyword.name
                );
                assert!(!keyword.doc.is_empty(), "{}", keyword.name);
                assert!(!keyword.doc.ends_with('.'), "{}", keyword.name);
            }
        }
    }

    #[test]
    fn the_lexer_knows_every_command() {
        for scope in Scope::ALL {
            for keyword in scope.keywords().iter().filter(|keyword| keyword.script) {
                assert!(is_script(keyword.name), "{}", keyword.name);
            }
        }
        assert!(!is_script("auth_pass"));
    }
}
