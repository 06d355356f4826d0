//! Health checkers.

use super::Kind::{
    Address, Boolean, Device, Hex, Name, OneOf, Path, Port, Seconds, User, Weight, Words,
};
use super::Scope::{SmtpHost, Url};
use super::Status::{NotNeeded, NotYet, Supported};
use super::kind::{ANY, number};
use super::row::{Keyword, NEWER, OURS, block, flag, line, many, maybe, one, pair, script};

#[rustfmt::skip] // a table: one row per line
pub(super) const TCP: &[Keyword] = &[
    one("connect_ip", Address, Supported, "Address to check; default that of the real server"),
    one("connect_port", Port, Supported, "Port to check; default that of the real server"),
    one("bindto", Address, Supported, "Source address of the check"),
    one("bind_port", Port, Supported, "Source port of the check"),
    one("connect_timeout", Seconds, Supported, "Longest wait for the connection; default 5"),
    one("retry", ANY, Supported, "Failures in a row, after the first, that mark the server down; default 1"),
    one("delay_before_retry", Seconds, Supported, "Time from a failed check to the retry; default 1"),
    one("delay_loop", Seconds, Supported, "Time from one check to the next; default 60"),
    one("warmup", Seconds, Supported, "The first check starts at a random moment within this time"),
    one("nb_get_retry", ANY, Supported, "Taken as retry, with a warning; keepalived ignores it").only(OURS),
    one("nb_get_replies", ANY, Supported, "Taken as retry, with a warning; keepalived ignores it").only(OURS),
    one("bind_if", Device, Supported, "Interface the check leaves by"),
    one("fwmark", ANY, Supported, "Firewall mark of the check's packets"),
    maybe("alpha", Boolean, Supported, "Start as down"),
    maybe("log_all_failures", Boolean, Supported, "Log every failed check"),
];

/// Rows that every checker has, those that every checker over the network has, and a checker's own.
macro_rules! with_common {
    ($($row:expr),* $(,)?) => {
        &[
            one("retry", ANY, Supported, "Failures in a row, after the first, that mark the server down"),
            one("delay_before_retry", Seconds, Supported, "Time from a failed check to the retry"),
            one("delay_loop", Seconds, Supported, "Time from one check to the next"),
            one("warmup", Seconds, Supported, "The first check starts at a random moment within this time"),
            maybe("alpha", Boolean, Supported, "Start as down"),
            maybe("log_all_failures", Boolean, Supported, "Log every failed check"),
            $($row),*
        ]
    };
}

macro_rules! with_connection {
    ($($row:expr),* $(,)?) => {
        with_common![
            one("connect_ip", Address, Supported, "Address to check; default that of the real server"),
            one("connect_port", Port, Supported, "Port to check; default that of the real server"),
            one("bindto", Address, Supported, "Source address of the check"),
            one("bind_port", Port, Supported, "Source port of the check"),
            one("bind_if", Device, Supported, "Interface the check leaves by"),
            one("fwmark", ANY, Supported, "Firewall mark of the check's packets"),
            one("connect_timeout", Seconds, Supported, "Longest wait for an answer"),
            $($row),*
        ]
    };
}

#[rustfmt::skip] // a table: one row per line
pub(super) const HTTP: &[Keyword] = with_connection![
    block("url", Url, Supported, "A page to fetch"),
    one("http_protocol", OneOf(&["1.0", "1.1", "1.0C", "1.1C", "1.0K", "1.1K"]), Supported, "Version of the requests").passed_over(),
    maybe("enable_sni", Boolean, Supported, "Send the host name in the TLS handshake"),
    one("sni_name", Name, Supported, "The host name to send in the TLS handshake").only(NEWER),
    maybe("tls_compliant", Boolean, Supported, "Expect an orderly end of TLS connections").only(NEWER),
    maybe("fast_recovery", Boolean, Supported, "Up again as soon as all pages are good; here that is so in any case"),
    one("virtualhost", Name, Supported, "Host header of the requests").passed_over(),
    one("nb_get_retry", ANY, Supported, "Old name of retry"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const URL: &[Keyword] = &[
    one("path", Path, Supported, "Path to request"),
    many("status_code", Words("CODE…"), Supported, "Statuses that pass; default 200 to 299").optional(),
    one("digest", Words("MD5"), Supported, "MD5 of the page"),
    one("virtualhost", Name, Supported, "Host header of the request").passed_over(),
    many("regex", Words("PATTERN"), Supported, "The answer, from its status line on, must match").optional(),
    flag("regex_no_match", Supported, "It must not match; a value, 'off' too, changes nothing"),
    many("regex_options", Words("OPTION…"), Supported, "Options of the pattern").optional(),
    line("regex_stack", 0, 2, Words("[START MAX]"), NotNeeded("the matcher takes memory as it needs it"), "Memory of the matcher"),
    maybe("regex_min_offset", ANY, Supported, "Where in the answer matches may start"),
    maybe("regex_max_offset", ANY, Supported, "Where matches must have started"),
    maybe("tls_compliant", Boolean, Supported, "Expect an orderly end of TLS connections").only(NEWER),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const MISC: &[Keyword] = with_common![
    script("misc_path", Supported, "Command that checks").passed_over(),
    one("misc_timeout", Seconds, Supported, "Longest run of the command"),
    flag("misc_dynamic", Supported, "The exit code sets the weight"),
    pair("user", User, Supported, "Who runs the command").passed_over(),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const SMTP: &[Keyword] = with_connection![
    one("helo_name", Name, Supported, "Name in the HELO command").passed_over(),
    block("host", SmtpHost, Supported, "Another address to check"),
];

/// `host` of `SMTP_CHECK`.
pub(super) const SMTP_HOST: &[Keyword] = with_connection![];

#[rustfmt::skip] // a table: one row per line
pub(super) const DNS: &[Keyword] = with_connection![
    one("type", Words("TYPE"), Supported, "Record type of the query"),
    one("name", Name, Supported, "Name of the query"),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const UDP: &[Keyword] = with_connection![
    many("payload", Hex, Supported, "What to send").passed_over(),
    many("require_reply", Hex, Supported, "What must come back").optional(),
    one("min_reply_length", number(0, 65_535), Supported, "Shortest answer"),
    one("max_reply_length", number(0, 65_535), Supported, "Longest answer"),
];

pub(super) const PING: &[Keyword] = with_connection![];

#[rustfmt::skip] // a table: one row per line
pub(super) const FILE: &[Keyword] = &[
    one("track_file", Name, Supported, "The file"),
    pair("weight", Weight(2_147_483_647), Supported, "Factor of the number in the file").passed_over(),
    maybe("dynamic", Boolean, NotNeeded("the number is added to the weight of the server in any case, as in keepalived 2.2.7"), "The number sets the weight").only(NEWER),
];

#[rustfmt::skip] // a table: one row per line
pub(super) const BFD: &[Keyword] = &[
    one("name", Name, NotYet, "The bfd_instance").passed_over(),
    maybe("alpha", Boolean, NotNeeded("a session starts as down"), "Start as down"),
];
