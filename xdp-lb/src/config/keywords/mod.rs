//! Every keyword of keepalived.conf that is known, in one table.
//!
//! The parser asks it which blocks can hold which keyword (to mend a missing brace), the lowering
//! what a keyword takes and whether it works here, the messages what an unknown word may have meant.
//! One row is one keyword in one scope: name, values, block, status, and a line of documentation.

mod checker;
mod deviations;
mod global;
mod kind;
mod lines;
mod ours;
mod row;
mod service;
mod suggest;
mod vrrp;

pub use deviations::{DEVIATIONS, Deviation};
pub use kind::Kind;
pub use lines::Line;
pub use row::{Bare, Keyword, Status, Values};
pub use suggest::{edit_distance, effect_without, near, right_name, scopes_of};

use std::collections::HashMap;
use std::sync::LazyLock;

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
    /// `garp_group`
    GarpGroup,
    /// `track_group`
    TrackGroup,
    /// `host` of `SMTP_CHECK`
    SmtpHost,
    /// `xdp_lb`
    XdpLb,
    /// `sync` of `xdp_lb`
    StateSync,
    /// Lines that start with no keyword: addresses, names, routes.
    Lines,
}

impl Scope {
    /// Every scope that has keywords.
    pub const ALL: [Self; 27] = [
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
        Self::GarpGroup,
        Self::TrackGroup,
        Self::SmtpHost,
        Self::XdpLb,
        Self::StateSync,
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
            Self::GarpGroup => "garp_group",
            Self::TrackGroup => "track_group",
            Self::SmtpHost => "host",
            Self::XdpLb => "xdp_lb",
            Self::StateSync => "sync",
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
            Self::GarpGroup => global::GARP_GROUP,
            Self::TrackGroup => global::TRACK_GROUP,
            Self::SmtpHost => checker::SMTP_HOST,
            Self::XdpLb => ours::XDP_LB,
            Self::StateSync => ours::SYNC,
            Self::Lines => &[],
        }
    }
}

/// The keyword `name` in `scope`.
pub fn find(scope: Scope, name: &str) -> Option<&'static Keyword> {
    let found = everywhere(name).iter().find(|(where_, _)| *where_ == scope);
    found.map(|(_, keyword)| *keyword)
}

/// A scope, and a keyword that it holds.
pub type Placed = (Scope, &'static Keyword);

/// Where a keyword called `name` can stand, in the order of [`Scope::ALL`].
pub fn everywhere(name: &str) -> &'static [Placed] {
    INDEX.get(name).map_or(&[], Vec::as_slice)
}

/// The rows by name: every line of a file is looked up, most of them more than once.
static INDEX: LazyLock<HashMap<&str, Vec<Placed>>> = LazyLock::new(|| {
    let mut index: HashMap<&str, Vec<Placed>> = HashMap::new();
    for scope in Scope::ALL {
        for keyword in scope.keywords() {
            index
                .entry(keyword.name)
                .or_default()
                .push((scope, keyword));
        }
    }
    index
});

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
                let values = keyword.values;
                assert!(values.min <= values.max, "{}", keyword.name);
                assert_eq!(
                    values.max == 0,
                    values.kind == Kind::Nothing,
                    "{}",
                    keyword.name
                );
                match values.bare {
                    Bare::Works => assert_eq!(values.min, 0, "{}", keyword.name),
                    Bare::Exits => assert!(values.min > 0, "{}", keyword.name),
                    Bare::PassedOver => {}
                }
                let lists = keyword.block == Some(Scope::Lines);
                assert_eq!(lists, !keyword.lines.is_empty(), "{}", keyword.name);
                assert!(!keyword.doc.is_empty(), "{}", keyword.name);
                assert!(!keyword.doc.ends_with('.'), "{}", keyword.name);
            }
        }
    }

    #[test]
    fn a_synopsis_reads_like_documentation() {
        let cases = [
            (Scope::GlobalDefs, "smtp_alert", "smtp_alert [BOOLEAN]"),
            (
                Scope::GlobalDefs,
                "smtp_server",
                "smtp_server ADDRESS [PORT]",
            ),
            (Scope::GlobalDefs, "vrrp_version", "vrrp_version 2|3"),
            (
                Scope::GlobalDefs,
                "lvs_flush_on_stop",
                "lvs_flush_on_stop [VS]",
            ),
            (Scope::GlobalDefs, "vrrp_priority", "vrrp_priority -20..19"),
            (Scope::Root, "include", "include PATH…"),
            (Scope::Root, "vrrp_instance", "vrrp_instance NAME { … }"),
            (Scope::VrrpInstance, "notify", "notify COMMAND"),
            (
                Scope::VrrpInstance,
                "notify_deleted",
                "notify_deleted [COMMAND]",
            ),
            (Scope::VrrpInstance, "priority", "priority 1-255"),
            (Scope::VrrpInstance, "use_vmac", "use_vmac [NAME] [MAC]"),
            (Scope::VrrpScript, "weight", "weight -253..253 [reverse]"),
            (Scope::XdpLb, "interface", "interface DEVICE…"),
        ];
        for (scope, name, synopsis) in cases {
            assert_eq!(find(scope, name).unwrap().synopsis(), synopsis);
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
