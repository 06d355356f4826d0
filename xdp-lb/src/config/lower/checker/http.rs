//! What only `HTTP_GET` and `SSL_GET` have, and the `SSL` block.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::IGNORED;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::keywords::Scope;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{Connection, HttpProbe, HttpVersion, Pattern, Sni, Ssl, Tls, Url};
use crate::config::regex;
use crate::config::source::Span;

/// Statuses that pass when none are named.
const SUCCESS: RangeInclusive<u16> = 200..=299;
/// Statuses that can be named.
const STATUSES: RangeInclusive<u16> = 100..=599;

/// `HTTP_GET` or `SSL_GET`.
#[derive(Debug)]
pub(super) struct HttpDraft {
    tls: bool,
    version: HttpVersion,
    urls: Vec<UrlDraft>,
    fast_recovery: bool,
    sni: bool,
    sni_name: Option<String>,
    host: Option<String>,
    tls_compliant: bool,
}

impl HttpDraft {
    pub(super) const fn new(tls: bool) -> Self {
        Self {
            tls,
            version: HttpVersion::V10,
            urls: Vec::new(),
            fast_recovery: false,
            sni: false,
            sni_name: None,
            host: None,
            tls_compliant: false,
        }
    }

    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let text = || statement.values.first().map(|word| word.text.clone());
        match keyword.name {
            "url" => self.urls.extend(UrlDraft::read(context, statement)),
            "http_protocol" => self.version = version(context, statement).unwrap_or(self.version),
            "enable_sni" => self.sni = context.boolean(keyword, statement).unwrap_or(self.sni),
            "sni_name" => self.sni_name = text(),
            "tls_compliant" => {
                self.tls_compliant = context
                    .boolean(keyword, statement)
                    .unwrap_or(self.tls_compliant);
            }
            "fast_recovery" => {
                self.fast_recovery = context
                    .boolean(keyword, statement)
                    .unwrap_or(self.fast_recovery);
            }
            "virtualhost" => self.host = text(),
            _ => return false,
        }
        true
    }

    /// Whether there is no page to fetch.
    pub(super) const fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }

    /// `host`: the `virtualhost` of the blocks around.
    pub(super) fn build(
        self,
        context: &mut Context<'_>,
        connection: Connection,
        host: Option<&str>,
    ) -> HttpProbe {
        let outer = self.host.or_else(|| host.map(str::to_owned));
        let sni = match self.sni_name {
            Some(name) => Some(Sni::Name(name)),
            None => self.sni.then_some(Sni::Host),
        };
        let compliant = self.tls_compliant;
        HttpProbe {
            connection,
            tls: self.tls.then_some(Tls { sni }),
            version: self.version,
            urls: self
                .urls
                .into_iter()
                .map(|url| url.build(context, outer.as_deref(), compliant))
                .collect(),
            fast_recovery: self.fast_recovery,
        }
    }
}

fn version(context: &mut Context<'_>, statement: &Statement) -> Option<HttpVersion> {
    let word = statement.values.first()?;
    let mut known = HttpVersion::ALL.into_iter();
    let found = known.find(|version| version.name().eq_ignore_ascii_case(&word.text));
    found.or_else(|| context.refuse(statement, word, "1.0, 1.0C or 1.1", IGNORED))
}

/// A `url` block.
#[derive(Debug, Default)]
struct UrlDraft {
    path: Option<String>,
    host: Option<String>,
    statuses: Vec<RangeInclusive<u16>>,
    digest: Option<[u8; 16]>,
    pattern: Option<(String, Span)>,
    options: Vec<&'static str>,
    no_match: bool,
    min_offset: Option<u32>,
    max_offset: Option<u32>,
    tls_compliant: Option<bool>,
}

impl UrlDraft {
    /// `None` without a path: keepalived ignores it.
    fn read(context: &mut Context<'_>, block: &Statement) -> Option<Self> {
        let mut draft = Self::default();
        for (keyword, statement) in context.keywords(Scope::Url, block) {
            let taken = draft.take(context, keyword, statement)
                || draft.take_pattern(context, keyword, statement);
            if !taken {
                context.unread(keyword, statement);
            }
        }
        if draft.path.is_none() {
            context.push(
                Diagnostic::warning(Code::Empty, "this url has no 'path'")
                    .at(block.keyword.span, IGNORED),
            );
            return None;
        }
        Some(draft)
    }

    fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let text = || statement.values.first().map(|word| word.text.clone());
        match keyword.name {
            "path" => self.path = text(),
            "status_code" => {
                let ranges = statement.values.iter();
                self.statuses = ranges
                    .filter_map(|word| statuses(context, statement, word))
                    .collect();
            }
            "digest" => self.digest = digest(context, statement).or(self.digest),
            "virtualhost" => self.host = text(),
            "tls_compliant" => {
                self.tls_compliant = context.boolean(keyword, statement).or(self.tls_compliant);
            }
            _ => return false,
        }
        true
    }

    fn take_pattern(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        match keyword.name {
            "regex" => self.pattern = pattern(context, statement),
            "regex_no_match" => {
                self.no_match = context.boolean(keyword, statement).unwrap_or(self.no_match);
            }
            "regex_options" => {
                for word in &statement.values {
                    let option = option(context, statement, word);
                    let option = option.filter(|option| !self.options.contains(option));
                    self.options.extend(option);
                }
            }
            "regex_min_offset" => self.min_offset = offset(context, statement).or(self.min_offset),
            "regex_max_offset" => self.max_offset = offset(context, statement).or(self.max_offset),
            // Memory of a matcher that is not ours.
            "regex_stack" => {}
            _ => return false,
        }
        true
    }

    /// The pattern with all of its options; one that does not compile is an error.
    fn matching(&mut self, context: &mut Context<'_>) -> Option<Pattern> {
        let (text, span) = self.pattern.take()?;
        let pattern = Pattern {
            text,
            options: std::mem::take(&mut self.options),
            no_match: self.no_match,
            min_offset: self.min_offset.unwrap_or(0),
            max_offset: self.max_offset,
        };
        if let Err(error) = regex::compile(&pattern) {
            context.push(
                Diagnostic::error(
                    Code::BadValue,
                    format!(
                        "{} cannot be used as a regular expression: {error}",
                        quote(&pattern.text)
                    ),
                )
                .at(span, "PCRE2 syntax is expected")
                .help("'pcre2test' of Debian's pcre2-utils tries patterns out"),
            );
            return None;
        }
        Some(pattern)
    }

    fn build(mut self, context: &mut Context<'_>, host: Option<&str>, compliant: bool) -> Url {
        let pattern = self.matching(context);
        let statuses = if self.statuses.is_empty() {
            vec![SUCCESS]
        } else {
            self.statuses
        };
        Url {
            path: self.path.unwrap_or_default(),
            host: self.host.or_else(|| host.map(str::to_owned)),
            statuses,
            digest: self.digest,
            pattern,
            tls_compliant: self.tls_compliant.unwrap_or(compliant),
        }
    }
}

/// `200` or `200-299`.
fn statuses(
    context: &mut Context<'_>,
    statement: &Statement,
    word: &Word,
) -> Option<RangeInclusive<u16>> {
    let (first, last) = word
        .text
        .split_once('-')
        .unwrap_or((&word.text, &word.text));
    let status = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let status = text.parse().ok().filter(|status| STATUSES.contains(status));
        status.filter(|_| digits)
    };
    let range = status(first)
        .zip(status(last))
        .filter(|(first, last)| first <= last);
    let expected = "statuses from 100 to 599, such as 200 or 200-299";
    let range = range.or_else(|| context.refuse(statement, word, expected, IGNORED));
    range.map(|(first, last)| first..=last)
}

fn digest(context: &mut Context<'_>, statement: &Statement) -> Option<[u8; 16]> {
    let word = statement.values.first()?;
    let hex = word.text.len() == 32 && word.text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(&word.text, 16).ok().filter(|_| hex);
    let expected = "an MD5 sum: 32 hexadecimal digits";
    let number = number.or_else(|| context.refuse(statement, word, expected, IGNORED));
    number.map(u128::to_be_bytes)
}

fn pattern(context: &mut Context<'_>, statement: &Statement) -> Option<(String, Span)> {
    let word = statement.values.first()?;
    if let (Some(extra), Some(last)) = (statement.values.get(1), statement.values.last()) {
        context.push(
            Diagnostic::warning(
                Code::ExtraValue,
                format!("the regular expression ends at {}", quote(&word.text)),
            )
            .at(extra.span.to(last.span), IGNORED)
            .help("put double quotes around all of it"),
        );
    }
    Some((word.text.clone(), word.span))
}

fn option(context: &mut Context<'_>, statement: &Statement, word: &Word) -> Option<&'static str> {
    let mut known = Pattern::OPTIONS.into_iter();
    let found = known.find(|option| *option == word.text);
    let expected = "an option of PCRE2, such as caseless or multiline";
    found.or_else(|| context.refuse(statement, word, expected, IGNORED))
}

fn offset(context: &mut Context<'_>, statement: &Statement) -> Option<u32> {
    context.number(statement, 0..=u32::MAX, Tail::Refused, IGNORED)
}

/// The `SSL` block.
pub(in crate::config::lower) fn ssl(
    context: &mut Context<'_>,
    block: &Statement,
    settings: &mut Ssl,
) {
    for (keyword, statement) in context.keywords(Scope::Ssl, block) {
        let text = || statement.values.first().map(|word| word.text.clone());
        let path = || text().map(PathBuf::from);
        match keyword.name {
            "password" => settings.password = text(),
            "ca" => settings.ca = path(),
            "certificate" => settings.certificate = path(),
            "key" => settings.key = path(),
            _ => context.unread(keyword, statement),
        }
    }
}
