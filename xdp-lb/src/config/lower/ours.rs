//! `xdp_lb`. These keywords are ours alone: a wrong value is an error, since no habit of keepalived
//! says what it should mean.

mod sync;

pub(super) use sync::check as check_sync;

use std::net::SocketAddr;
use std::time::Duration;

use super::context::Context;
use super::marks;
use crate::config::ast::Statement;
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::model::{EmptyPool, XdpLb, XdpMode};
use crate::config::source::Span;

/// Seconds that a server may drain: a day.
const LONGEST_DRAIN: u64 = 86_400;

/// Entries that the connection table can be made for.
const CONNECTIONS: std::ops::RangeInclusive<u32> = 1024..=16_777_216;

pub(super) fn lower(
    context: &mut Context<'_>,
    block: &Statement,
    settings: &mut XdpLb,
    places: &mut Vec<(u32, Span)>,
) {
    for (keyword, statement) in context.keywords(Scope::XdpLb, block) {
        match keyword.name {
            "interface" => interfaces(context, statement, &mut settings.interfaces),
            "fwmark" => marks::read(context, keyword, statement, settings, places),
            "xdp_mode" => set(context, keyword, statement, &mut settings.xdp_mode, mode),
            "metrics" => set(context, keyword, statement, &mut settings.metrics, metrics),
            "connections" => {
                set(
                    context,
                    keyword,
                    statement,
                    &mut settings.connections,
                    connections,
                );
            }
            "fail_static" => {
                set(
                    context,
                    keyword,
                    statement,
                    &mut settings.fail_static,
                    on_off,
                );
            }
            "empty_pool" => {
                set(
                    context,
                    keyword,
                    statement,
                    &mut settings.empty_pool,
                    empty_pool,
                );
            }
            "drain_timeout" => {
                set(
                    context,
                    keyword,
                    statement,
                    &mut settings.drain_timeout,
                    drain_timeout,
                );
            }
            "sync" => settings.sync = sync::lower(context, statement),
            _ => context.unread(keyword, statement),
        }
    }
}

fn interfaces(context: &mut Context<'_>, statement: &Statement, into: &mut Vec<String>) {
    for word in &statement.values {
        if let Some(name) = context.device(word)
            && !into.contains(&name)
        {
            into.push(name);
        }
    }
}

fn mode(text: &str) -> Option<XdpMode> {
    match text {
        "auto" => Some(XdpMode::Auto),
        "native" => Some(XdpMode::Native),
        "generic" => Some(XdpMode::Generic),
        _ => None,
    }
}

fn empty_pool(text: &str) -> Option<EmptyPool> {
    match text {
        "unreachable" => Some(EmptyPool::Unreachable),
        "reset" => Some(EmptyPool::Reset),
        "silent" => Some(EmptyPool::Silent),
        _ => None,
    }
}

fn metrics(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

fn connections(text: &str) -> Option<u32> {
    text.parse()
        .ok()
        .filter(|number| CONNECTIONS.contains(number))
}

fn drain_timeout(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().filter(|time| *time <= LONGEST_DRAIN)?;
    Some(Duration::from_secs(seconds))
}

fn on_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

/// Reads a value with `read`; whatever it does not take is an error.
fn set<T>(
    context: &mut Context<'_>,
    keyword: &Keyword,
    statement: &Statement,
    setting: &mut T,
    read: impl Fn(&str) -> Option<T>,
) {
    let Some(word) = statement.values.first() else {
        return;
    };
    match read(&word.text) {
        Some(value) => *setting = value,
        None => context.push(
            Diagnostic::error(
                Code::BadValue,
                format!("{} is not a value of '{}'", quote(&word.text), keyword.name),
            )
            .at(word.span, format!("expected {}", keyword.syntax())),
        ),
    }
}
