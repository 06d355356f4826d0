//! `sync` of `xdp_lb`. A mistake in it is an error: without it a failover would cost connections that
//! its author believes safe.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::set;
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::{Keyword, Scope};
use crate::config::lower::context::Context;
use crate::config::model::{Config, StateSync, SyncKey};
use crate::config::source::Span;
use crate::sync::key::{SECRET_MAX, SECRET_MIN, Secret};
use crate::sync::wire::{LONGEST, SHORTEST};

/// How a key is made.
const MAKE_KEY: &str = "make one with 'openssl rand -hex 32 > /etc/xdp-lb/sync.key; chmod 600 /etc/xdp-lb/sync.key', copy it to every director, and write 'key_file /etc/xdp-lb/sync.key'";

/// What the file says, before it is known whether that is enough.
#[derive(Default)]
struct Draft {
    /// Those without a port have 0.
    peers: Vec<SocketAddr>,
    key: Option<SyncKey>,
    file: Option<SyncKey>,
    interface: Option<String>,
    port: Option<u16>,
    max_length: Option<u16>,
    wait: Option<Duration>,
    is_wrong: bool,
}

pub(super) fn lower(context: &mut Context<'_>, block: &Statement) -> Option<StateSync> {
    let mut draft = Draft::default();
    for (keyword, statement) in context.keywords(Scope::StateSync, block) {
        let line = (keyword, statement);
        match keyword.name {
            "peer" => draft.peers(context, statement),
            "key" => draft.secret(context, statement),
            "key_file" => {
                take(context, line, &mut draft.file, path);
                draft.is_wrong |= draft.file.is_none();
            }
            "interface" => {
                let word = statement.values.first();
                draft.interface = word.and_then(|word| context.device(word));
            }
            "port" => take(context, line, &mut draft.port, port),
            "maxlen" => take(context, line, &mut draft.max_length, max_length),
            "wait" => take(context, line, &mut draft.wait, wait),
            _ => context.unread(keyword, statement),
        }
    }
    draft.finish(context, block)
}

/// Reads a value that may be missing; whatever `read` does not take is an error.
fn take<T>(
    context: &mut Context<'_>,
    (keyword, statement): (&Keyword, &Statement),
    setting: &mut Option<T>,
    read: impl Fn(&str) -> Option<T>,
) {
    set(context, keyword, statement, setting, |text| {
        read(text).map(Some)
    });
}

fn path(text: &str) -> Option<SyncKey> {
    let is_absolute = Path::new(text).is_absolute();
    is_absolute.then(|| SyncKey::File(PathBuf::from(text)))
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

fn max_length(text: &str) -> Option<u16> {
    let length: u16 = text.parse().ok()?;
    let is_possible = (SHORTEST..=LONGEST).contains(&usize::from(length));
    is_possible.then_some(length)
}

fn wait(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok().filter(|seconds| *seconds <= 3600)?;
    Some(Duration::from_secs(seconds))
}

impl Draft {
    fn peers(&mut self, context: &mut Context<'_>, statement: &Statement) {
        for word in &statement.values {
            let peer = word.text.parse::<SocketAddr>().ok();
            let peer = peer.filter(|peer| peer.port() != 0).or_else(|| {
                let text = &*word.text;
                // Brackets need no port behind them.
                let inside = text
                    .strip_prefix('[')
                    .and_then(|text| text.strip_suffix(']'));
                let ip: IpAddr = match inside {
                    Some(inside) => inside.parse::<Ipv6Addr>().ok()?.into(),
                    None => text.parse().ok()?,
                };
                Some(SocketAddr::new(ip, 0))
            });
            match peer.filter(|peer| !peer.ip().is_multicast() && !peer.ip().is_unspecified()) {
                Some(peer) if self.peers.iter().any(|other| other.ip() == peer.ip()) => {}
                Some(peer) => self.peers.push(peer),
                None => {
                    self.is_wrong = true;
                    context.push(
                        Diagnostic::error(
                            Code::BadValue,
                            format!("{} is not the address of a peer", quote(&word.text)),
                        )
                        .at(word.span, "expected ADDRESS, ADDRESS:PORT or [IPV6]:PORT")
                        .help("a peer is named by the address that its datagrams come from"),
                    );
                }
            }
        }
    }

    fn secret(&mut self, context: &mut Context<'_>, statement: &Statement) {
        let Some(word) = statement.values.first() else {
            return;
        };
        self.key = Secret::new(word.text.clone().into_bytes()).map(SyncKey::Text);
        if self.key.is_none() {
            self.is_wrong = true;
            context.push(wrong_length(word));
        }
    }

    fn finish(self, context: &mut Context<'_>, block: &Statement) -> Option<StateSync> {
        if self.is_wrong {
            return None;
        }
        let place = block.keyword.span;
        let Some(key) = self.file.or(self.key) else {
            context.push(
                Diagnostic::error(Code::MissingKeyword, "state sync has no key")
                    .at(place, "datagrams are signed, so it cannot work without")
                    .help(MAKE_KEY),
            );
            return None;
        };
        let port = self.port.unwrap_or(StateSync::PORT);
        let peers = self.peers.into_iter().map(|peer| match peer.port() {
            0 => SocketAddr::new(peer.ip(), port),
            _ => peer,
        });
        Some(StateSync {
            peers: peers.collect(),
            key,
            interface: self.interface,
            port: self.port,
            max_length: self.max_length,
            wait: self.wait.unwrap_or(StateSync::WAIT),
        })
    }
}

fn wrong_length(word: &Word) -> Diagnostic {
    Diagnostic::error(
        Code::BadValue,
        format!(
            "the key of state sync has {} characters",
            word.text.chars().count()
        ),
    )
    .at(word.span, format!("expected {SECRET_MIN} to {SECRET_MAX}"))
    .help(MAKE_KEY)
}

/// What `lvs_sync_daemon` and `sync` make of each other; the former stands at `daemon`.
pub(in crate::config::lower) fn check(
    context: &mut Context<'_>,
    config: &Config,
    daemon: Option<Span>,
    sync: Option<Span>,
) {
    match (&config.global.sync, &config.xdp_lb.sync) {
        (Some(_), None) if sync.is_none() => {
            let Some(place) = daemon else { return };
            context.push(
                Diagnostic::warning(
                    Code::Doubtful,
                    "connections are not made known to the other director: there is no key to sign that with",
                )
                .at(place, "keepalived would start IPVS's sync daemon, which believes whoever sends")
                .help(format!(
                    "{MAKE_KEY} into 'xdp_lb {{ sync {{ … }} }}', on all directors; without, a failover ends connections whose server the other director would not choose, too"
                )),
            );
        }
        (None, Some(configured))
            if configured.peers.is_empty() && configured.interface.is_none() =>
        {
            let Some(place) = sync else { return };
            context.push(
                Diagnostic::error(Code::MissingKeyword, "state sync knows no other director")
                    .at(place, "there is neither 'peer' nor 'interface', nor 'lvs_sync_daemon'")
                    .help("name the other directors with 'peer ADDRESS', or the interface on which they are with 'interface DEVICE'"),
            );
        }
        (Some(_) | None, Some(_) | None) => {}
    }
}
