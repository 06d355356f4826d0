//! The head of a `virtual_server`: which packets it is for.

use std::net::{IpAddr, SocketAddr};

use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::lower::context::Context;

/// A head as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// `ADDRESS [PORT]`; port 0 is any port.
    Endpoint(IpAddr, u16),
    /// `fwmark N`.
    Mark(u32),
    /// `group NAME`.
    Group(String),
}

/// `None` when keepalived skips the block.
pub(super) fn head(context: &mut Context<'_>, block: &Statement) -> Option<Head> {
    let first = block.values.first()?;
    match (first.text.as_str(), block.values.get(1)) {
        ("fwmark", Some(mark)) => fwmark(context, mark, "virtual server").map(Head::Mark),
        ("group", Some(name)) => Some(Head::Group(name.text.clone())),
        ("fwmark" | "group", None) => {
            let expected = if first.text == "group" {
                "a name"
            } else {
                "a mark"
            };
            context.push(
                Diagnostic::error(
                    Code::MissingValue,
                    format!("'virtual_server {}' has no value", first.text),
                )
                .at(block.head(), format!("expected {expected} here"))
                .because("keepalived exits when it reads this"),
            );
            None
        }
        (_, port) => {
            let ip = first.text.parse::<IpAddr>().ok();
            let port = port.map_or(Some(0), |word| word.text.parse().ok());
            let endpoint = ip.zip(port).map(|(ip, port)| Head::Endpoint(ip, port));
            endpoint.or_else(|| {
                context.push(not_an_endpoint(block, "virtual_server"));
                None
            })
        }
    }
}

/// A mark; `None` when the line or virtual server (`what`) is skipped for it.
pub(super) fn fwmark(context: &mut Context<'_>, word: &Word, what: &str) -> Option<u32> {
    let digits = word.text.bytes().all(|byte| byte.is_ascii_digit());
    let mark = word.text.parse().ok().filter(|_| digits);
    mark.or_else(|| {
        context.push(
            Diagnostic::warning(
                Code::BadValue,
                format!(
                    "{} is not a mark: this {what} is skipped, as keepalived does",
                    quote(&word.text)
                ),
            )
            .at(word.span, "expected a mark from 0 to 4294967295"),
        );
        None
    })
}

/// The head of a `virtual_server` or `real_server` that keepalived skips.
pub(super) fn not_an_endpoint(block: &Statement, keyword: &str) -> Diagnostic {
    let written: Vec<&str> = block.values.iter().map(|word| word.text.as_str()).collect();
    let written = written.join(" ");
    let span = block
        .values
        .first()
        .map_or(block.keyword.span, |first| first.span.to(block.head()));
    let diagnostic = Diagnostic::warning(
        Code::BadValue,
        format!(
            "{} is not an address and a port: this {keyword} is skipped, as keepalived does",
            quote(&written)
        ),
    )
    .at(span, "expected ADDRESS PORT");
    match written.parse::<SocketAddr>() {
        Ok(address) => diagnostic
            .help("write a space before the port")
            .suggest(span, format!("{} {}", address.ip(), address.port())),
        Err(_) => diagnostic,
    }
}
