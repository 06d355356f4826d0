//! Health checkers.

use super::Scope::{Lines, Url};
use super::Status::{NotNeeded, NotYet, NotYetNoticeable, Supported};
use super::{Keyword, Status, block, flag, line, many, maybe, one, script};

const NO_MARK: Status = NotYetNoticeable(
    "checks leave without the mark, so they may take another route than it asks for",
);
const NO_BIND: Status =
    NotYetNoticeable("checks leave by whichever interface the routing table chooses");

#[rustfmt::skip] // a table: one row per line
pub(super) const TCP: &[Keyword] = &[
    one("connect_ip", "ADDRESS", Supported, "Address to check; default that of the real server"),
    one("connect_port", "PORT", Supported, "Port to check; default that of the real server"),
    one("bindto", "ADDRESS", Supported, "Source address of the check"),
    one("bind_port", "PORT", Supported, "Source port of the check"),
    one("connect_timeout", "SECONDS", Supported, "Longest wait for the connection; default 5"),
    one("retry", "NUMBER", Supported, "Failures in a row, after the first, that mark the server down; default 1"),
    one("delay_before_retry", "SECONDS", Supported, "Time from a failed check to the retry; default 1"),
    one("delay_loop", "SECONDS", Supported, "Time from one check to the next; default 60"),
    one("warmup", "SECONDS", Supported, "The first check starts at a random moment within this time"),
    one("nb_get_retry", "NUMBER", Supported, "Taken as retry, with a warning; keepalived ignores it"),
    one("nb_get_replies", "NUMBER", Supported, "Taken as retry, with a warning; keepalived ignores it"),
    one("bind_if", "DEVICE", NO_BIND, "Interface the check leaves by"),
    one("fwmark", "NUMBER", NO_MARK, "Firewall mark of the check's packets"),
    maybe("alpha", "BOOLEAN", NotYetNoticeable("the server counts as up until its first check fails"), "Start as down"),
    maybe("log_all_failures", "BOOLEAN", NotYet, "Log every failed check"),
];

macro_rules! with_common {
    ($($row:expr),* $(,)?) => {
        &[
            one("connect_ip", "ADDRESS", NotYet, "Address to check; default that of the real server"),
            one("connect_port", "PORT", NotYet, "Port to check; default that of the real server"),
            one("bindto", "ADDRESS", NotYet, "Source address of the check"),
            one("bind_port", "PORT", NotYet, "Source port of the check"),
            one("bind_if", "DEVICE", NotYet, "Interface the check leaves by"),
            one("fwmark", "NUMBER", NotYet, "Firewall mark of the check's packets"),
            one("connect_timeout", "SECONDS", NotYet, "Longest wait for an answer"),
            one("retry", "NUMBER", NotYet, "Failures in a row, after the first, that mark the server down"),
            one("delay_before_retry", "SECONDS", NotYet, "Time from a failed check to the retry"),
            one("delay_loop", "SECONDS", NotYet, "Time from one check to the next"),
            one("warmup", "SECONDS", NotYet, "The first check starts at a random moment within this time"),
            maybe("alpha", "BOOLEAN", NotYet, "Start as down"),
            maybe("log_all_failures", "BOOLEAN", NotYet, "Log every failed check"),
            $($row),*
        ]
    };
}

#[rustfmt::skip] // a table: one row per line
pub(super) const HTTP: &[Keyword] = with_common![
    block("url", Url, NotYet, "A page to fetch"),
    one("http_protocol", "1.0|1.1|1.0C|1.1C|1.0K|1.1K", NotYet, "Version of the requests"),
    maybe("enable_sni", "BOOLEAN", NotYet, "Send the host name in the TLS handshake"),
    one("sni_name", "NAME", NotYet, "The host name to send in the TLS handshake"),
    maybe("tls_compliant", "BOOLEAN", NotYet, "Expect an orderly end of TLS connections"),
    maybe("fast_recovery", "BOOLEAN", NotYet, "Up again after one good page instead of all"),
    one("virtualhost", "NAME", NotYet, "Host header of the requests"),
    one("nb_get_retry", "NUMBER", NotYet, "Old name of retry"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const URL: &[Keyword] = &[
    one("path", "PATH", NotYet, "Path to request"),
    many("status_code", "CODE…", NotYet, "Statuses that pass; default 200 to 299"),
    one("digest", "MD5", NotYet, "MD5 of the page"),
    one("virtualhost", "NAME", NotYet, "Host header of the request"),
    many("regex", "PATTERN", NotYet, "The page must match"),
    maybe("regex_no_match", "BOOLEAN", NotYet, "The page must not match"),
    many("regex_options", "OPTION…", NotYet, "Options of the pattern"),
    line("regex_stack", 2, 2, "START MAX", NotYet, "Memory of the matcher"),
    one("regex_min_offset", "NUMBER", NotYet, "Where matches may start"),
    one("regex_max_offset", "NUMBER", NotYet, "Where matches must have started"),
    maybe("tls_compliant", "BOOLEAN", NotYet, "Expect an orderly end of TLS connections"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const MISC: &[Keyword] = with_common![
    script("misc_path", NotYet, "Command that checks"),
    one("misc_timeout", "SECONDS", NotYet, "Longest run of the command"),
    flag("misc_dynamic", NotYet, "The exit code sets the weight"),
    line("user", 1, 2, "USER [GROUP]", NotYet, "Who runs the command"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const SMTP: &[Keyword] = with_common![
    one("helo_name", "NAME", NotYet, "Name in the HELO command"),
    block("host", Lines, NotYet, "Another address to check"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const DNS: &[Keyword] = with_common![
    one("type", "TYPE", NotYet, "Record type of the query"),
    one("name", "NAME", NotYet, "Name of the query"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const UDP: &[Keyword] = with_common![
    many("payload", "HEX", NotYet, "What to send"),
    many("require_reply", "[HEX]", NotYet, "What must come back").optional(),
    one("min_reply_length", "BYTES", NotYet, "Shortest answer"),
    one("max_reply_length", "BYTES", NotYet, "Longest answer"),
];

pub(super) const PING: &[Keyword] = with_common![];

#[rustfmt::skip] // a table: one row per line
pub(super) const FILE: &[Keyword] = with_common![
    one("track_file", "NAME", NotYet, "The file"),
    line("weight", 1, 2, "NUMBER [reverse]", NotYet, "Factor of the number in the file"),
    maybe("dynamic", "BOOLEAN", NotYet, "The number sets the weight"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const BFD: &[Keyword] = &[
    one("name", "NAME", NotYet, "The bfd_instance"),
    maybe("alpha", "BOOLEAN", NotNeeded("a session starts as down"), "Start as down"),
];
