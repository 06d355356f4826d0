//! `HTTP_GET`, `SSL_GET` and the `SSL` block.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::Connection;

/// `HTTP_GET` and `SSL_GET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Where requests go.
    pub connection: Connection,
    /// Only of `SSL_GET`.
    pub tls: Option<Tls>,
    /// `http_protocol`.
    pub version: HttpVersion,
    /// `url` blocks, at least one: each must pass.
    pub urls: Vec<Url>,
    /// `fast_recovery`: no `delay_loop` between the pages of a server that comes back.
    pub fast_recovery: bool,
}

/// How `SSL_GET` shakes hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `enable_sni`, `sni_name`: the host name that is sent, if one is.
    pub sni: Option<Sni>,
}

/// The name that the client asks the TLS server for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sni {
    /// That of the page: `virtualhost`.
    Host,
    /// `sni_name`.
    Name(String),
}

/// `http_protocol`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HttpVersion {
    /// `1.0`; the default.
    #[default]
    V10,
    /// `1.0C`: with `Connection: close`.
    V10Close,
    /// `1.1`.
    V11,
}

impl HttpVersion {
    /// Every version.
    pub const ALL: [Self; 3] = [Self::V10, Self::V10Close, Self::V11];

    /// As `http_protocol` has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V10 => "1.0",
            Self::V10Close => "1.0C",
            Self::V11 => "1.1",
        }
    }
}

/// `url`: a page and what it must be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `path`.
    pub path: String,
    /// `virtualhost` of the url, else the checker, the real server, the virtual server; by default
    /// the address that is checked.
    pub host: Option<String>,
    /// `status_code`: those that pass, from 100 to 599; 200 to 299 by default. At least one range.
    pub statuses: Vec<RangeInclusive<u16>>,
    /// `digest`: MD5 of the page.
    pub digest: Option<[u8; 16]>,
    /// `regex`: what the page must contain.
    pub pattern: Option<Pattern>,
    /// `tls_compliant`: an orderly end of the TLS connection is expected.
    pub tls_compliant: bool,
}

/// `regex` and its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The regular expression, in PCRE2's language; whether it is one is seen when it is compiled.
    pub text: String,
    /// `regex_options`, of [`Self::OPTIONS`].
    pub options: Vec<&'static str>,
    /// `regex_no_match`: the page must not contain it.
    pub no_match: bool,
    /// `regex_min_offset`: where in the page matches may begin.
    pub min_offset: u32,
    /// `regex_max_offset`: where they must have begun; `None` is anywhere.
    pub max_offset: Option<u32>,
}

impl Pattern {
    /// What `regex_options` takes.
    pub const OPTIONS: [&'static str; 22] = [
        "allow_empty_class",
        "alt_bsux",
        "auto_callout",
        "caseless",
        "dollar_endonly",
        "dotall",
        "dupnames",
        "extended",
        "firstline",
        "match_unset_backref",
        "multiline",
        "never_ucp",
        "never_utf",
        "no_auto_capture",
        "no_auto_possess",
        "no_dotstar_anchor",
        "no_start_optimize",
        "ucp",
        "ungreedy",
        "utf",
        "never_backslash_c",
        "use_offset_limit",
    ];
}

/// `SSL`: what `SSL_GET` shows and trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssl {
    /// `password` of the key.
    pub password: Option<String>,
    /// `ca`: file of trusted certificates.
    pub ca: Option<PathBuf>,
    /// `certificate`: file of our own.
    pub certificate: Option<PathBuf>,
    /// `key`: file of its key.
    pub key: Option<PathBuf>,
}
