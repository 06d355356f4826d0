//! A valid and an invalid sample of every keyword.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use xdp_lb::config::keywords::{Keyword, Kind, Scope};

/// A word that is no keyword.
pub(crate) const BOGUS: &str = "no_such_word";

/// A line, or a block, of a file.
pub(crate) struct Sample {
    /// `valid` or `invalid`.
    pub(crate) label: &'static str,
    /// The lines.
    pub(crate) text: String,
}

impl Sample {
    /// What is unknown in `text`, which holds the sample: the one word that nobody knows.
    pub(crate) fn unknown(&self, text: &str) -> BTreeSet<(usize, String)> {
        if self.text.contains(BOGUS) {
            Self::unknown_in(text)
        } else {
            BTreeSet::new()
        }
    }

    /// The same, for any text.
    pub(crate) fn unknown_in(text: &str) -> BTreeSet<(usize, String)> {
        let bogus = |(_, line): &(usize, &str)| line.starts_with(BOGUS);
        let lines = text.lines().enumerate().filter(bogus);
        lines
            .map(|(index, _)| (index + 1, BOGUS.to_owned()))
            .collect()
    }
}

/// The folder of the corpus.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/config/corpus")
}

/// `inner` in a block of `scope`, in all that must stand around it. (keepalived 2.2.7 crashes over
/// an `HTTP_GET` without `url`.)
pub(crate) fn wrapped(scope: Scope, inner: &str) -> String {
    let around = |outer: Scope, head: &str| wrapped(outer, &format!("{head} {{\n{inner}}}\n"));
    let after = |root: &str, checker: &str| format!("{root}{}", around(Scope::RealServer, checker));
    match scope {
        Scope::Root | Scope::Lines => inner.to_owned(),
        Scope::GlobalDefs => around(Scope::Root, "global_defs"),
        Scope::VrrpScript => around(Scope::Root, "vrrp_script check"),
        Scope::TrackFile => around(Scope::Root, "track_file file"),
        Scope::TrackProcess => around(Scope::Root, "vrrp_track_process process"),
        Scope::BfdInstance => wrapped(
            Scope::Root,
            &format!("bfd_instance session {{\nneighbor_ip 192.0.2.9\n{inner}}}\n"),
        ),
        Scope::VrrpSyncGroup => around(Scope::Root, "vrrp_sync_group group"),
        Scope::VrrpInstance => wrapped(
            Scope::Root,
            &format!(
                "vrrp_instance main {{\n{}{inner}}}\n",
                company(INSTANCE, inner)
            ),
        ),
        Scope::Authentication => around(Scope::VrrpInstance, "authentication"),
        Scope::VirtualServer => wrapped(
            Scope::Root,
            &format!(
                "virtual_server 192.0.2.1 80 {{\n{}{inner}}}\n",
                company(SERVICE, inner)
            ),
        ),
        Scope::RealServer => around(Scope::VirtualServer, "real_server 192.0.2.2 80"),
        Scope::TcpCheck => around(Scope::RealServer, "TCP_CHECK"),
        Scope::HttpGet => wrapped(
            Scope::RealServer,
            &format!("HTTP_GET {{\nurl {{\npath /\n}}\n{inner}}}\n"),
        ),
        Scope::Url => wrapped(
            Scope::RealServer,
            &format!("HTTP_GET {{\nurl {{\npath /\n{inner}}}\n}}\n"),
        ),
        Scope::MiscCheck => around(Scope::RealServer, "MISC_CHECK"),
        Scope::SmtpCheck => around(Scope::RealServer, "SMTP_CHECK"),
        Scope::SmtpHost => around(Scope::SmtpCheck, "host"),
        Scope::DnsCheck => around(Scope::RealServer, "DNS_CHECK"),
        Scope::UdpCheck => around(Scope::RealServer, "UDP_CHECK"),
        Scope::PingCheck => around(Scope::RealServer, "PING_CHECK"),
        Scope::FileCheck => after(
            "track_file file {\nfile /nonexistent/file\n}\n",
            "FILE_CHECK",
        ),
        Scope::BfdCheck => after(
            "bfd_instance session {\nneighbor_ip 192.0.2.9\n}\n",
            "BFD_CHECK",
        ),
        Scope::Ssl => around(Scope::Root, "SSL"),
        Scope::GarpGroup => around(Scope::Root, "garp_group"),
        Scope::TrackGroup => around(Scope::Root, "track_group group"),
        Scope::XdpLb => around(Scope::Root, "xdp_lb"),
        Scope::StateSync => wrapped(Scope::XdpLb, &state_sync(inner)),
    }
}

/// `inner` in the block of state sync, which needs a key and somebody to speak to.
fn state_sync(inner: &str) -> String {
    format!("sync {{\nkey 0123456789abcdef\npeer 192.0.2.8\n{inner}}}\n")
}

/// What an instance needs, each with other names of it.
const INSTANCE: &[(&[&str], &str)] = &[
    (&["interface"], "interface eth0"),
    (&["virtual_router_id"], "virtual_router_id 51"),
    (&["virtual_ipaddress"], "virtual_ipaddress {\n192.0.2.9\n}"),
];

/// What a service needs, each with other names of it.
const SERVICE: &[(&[&str], &str)] = &[
    (&["protocol"], "protocol TCP"),
    (&["lb_algo", "lvs_sched"], "lb_algo rr"),
    (&["lb_kind", "lvs_method"], "lb_kind DR"),
    (&["real_server"], "real_server 192.0.2.2 80 {\n}"),
];

/// What `inner` needs around it and does not bring.
fn company(needed: &[(&[&str], &str)], inner: &str) -> String {
    let first = inner.split_whitespace().next().unwrap_or("");
    let missing = needed.iter().filter(|(names, _)| !names.contains(&first));
    missing.flat_map(|(_, lines)| [*lines, "\n"]).collect()
}

/// The samples of a keyword: valid, invalid.
pub(crate) fn samples(scope: Scope, keyword: &Keyword) -> [Sample; 2] {
    let written = by_hand().remove(&(format!("{scope:?}"), keyword.name.to_owned()));
    let (valid, invalid) = written.unwrap_or_else(|| made(scope, keyword));
    [("valid", valid), ("invalid", invalid)].map(|(label, values)| {
        let (values, body) = values
            .split_once('{')
            .map_or((values.as_str(), None), |(values, body)| {
                (values, Some(body.trim_end().trim_end_matches('}')))
            });
        let head = format!("{} {}", keyword.name, values.trim());
        let lines = |body: &str| -> String {
            let lines = body
                .split(';')
                .map(str::trim)
                .filter(|line| !line.is_empty());
            lines.flat_map(|line| [line, "\n"]).collect()
        };
        let block = body.map_or_else(String::new, |body| format!(" {{\n{}}}", lines(body)));
        Sample {
            label,
            text: format!("{}{block}\n", head.trim_end()),
        }
    })
}

/// What samples.txt has samples of.
pub(crate) fn written() -> Vec<(Scope, String)> {
    let named = |name: &str| {
        Scope::ALL
            .into_iter()
            .find(|scope| format!("{scope:?}") == name)
    };
    let samples = by_hand().into_keys();
    samples
        .map(|(scope, keyword)| {
            (
                named(&scope).unwrap_or_else(|| panic!("no scope {scope}")),
                keyword,
            )
        })
        .collect()
}

fn by_hand() -> BTreeMap<(String, String), (String, String)> {
    let text = std::fs::read_to_string(folder().join("samples.txt")).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (head, values) = line.split_once(": ").unwrap();
            let (scope, keyword) = head.split_once(' ').unwrap();
            let (valid, invalid) = values.split_once('|').unwrap();
            let trimmed = |text: &str| text.trim().to_owned();
            (
                (trimmed(scope), trimmed(keyword)),
                (trimmed(valid), trimmed(invalid)),
            )
        })
        .collect()
}

/// Samples from the kind of the values.
fn made(scope: Scope, keyword: &Keyword) -> (String, String) {
    let (valid, invalid) = values(scope, keyword);
    match keyword.block {
        None => (valid, invalid),
        Some(Scope::Lines) => panic!("{scope:?} {} needs a sample in samples.txt", keyword.name),
        Some(Scope::HttpGet) => (
            format!("{valid} {{ url {{; path /; }} }}"),
            format!("{valid} {{ url {{; path /; }}; {BOGUS} 1 }}"),
        ),
        Some(Scope::BfdInstance) => (
            format!("{valid} {{ neighbor_ip 192.0.2.9 }}"),
            format!("{valid} {{ neighbor_ip 192.0.2.9; {BOGUS} 1 }}"),
        ),
        Some(Scope::Url) => (
            format!("{valid} {{ path / }}"),
            format!("{valid} {{ path /; {BOGUS} 1 }}"),
        ),
        Some(_) => (format!("{valid} {{ }}"), format!("{valid} {{ {BOGUS} 1 }}")),
    }
}

fn values(scope: Scope, keyword: &Keyword) -> (String, String) {
    let pair = |valid: &str, invalid: &str| (valid.to_owned(), invalid.to_owned());
    match keyword.values.kind {
        Kind::Nothing => pair("", "surplus"),
        Kind::Boolean => pair("on", "perhaps"),
        Kind::Seconds => pair("2", "soon"),
        Kind::Number { min, max: i64::MAX } => (min.max(1).to_string(), "many".to_owned()),
        Kind::Number { min, max } => (min.max(1).to_string(), (max + 1).to_string()),
        Kind::Quantity(_) => pair("1000", "many"),
        Kind::Weight(most) => ("10".to_owned(), (most + 1).to_string()),
        Kind::OneOf(words) => pair(words.first().unwrap(), "neither"),
        Kind::Address => pair("192.0.2.1", "192.0.2.256"),
        Kind::Endpoint => pair("192.0.2.1 80", "192.0.2.1 eighty"),
        Kind::Port => pair("80", "65536"),
        Kind::Device => pair("lo", "nosuchdevice0"),
        Kind::Path => pair("/nonexistent/file", ""),
        Kind::Name => pair("web", ""),
        Kind::Command => pair("/bin/true", ""),
        Kind::Netmask => pair("255.255.255.0", "255.0.255.0"),
        Kind::Hex => pair("0a0b", "xyz"),
        Kind::User => pair("root", "nosuchuser"),
        Kind::Words(_) => panic!("{scope:?} {} needs a sample in samples.txt", keyword.name),
    }
}
