//! How an instance's adverts travel.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::defaults::{self, Defaults};
use crate::config::ast::{Statement, Word};
use crate::config::diagnostic::{Code, Diagnostic, quote};
use crate::config::keywords::Keyword;
use crate::config::lower::context::Context;
use crate::config::lower::value::Tail;
use crate::config::model::{Family, Peer, Transport};
use crate::config::source::Span;

const IGNORED: &str = "ignored, as keepalived does";

/// What a file says about it.
#[derive(Debug, Default)]
pub(super) struct TransportDraft {
    unicast_source: Option<(IpAddr, Span)>,
    multicast_source: Option<(IpAddr, Span)>,
    /// `track_src_ip`, or `track` behind a source.
    track_source: bool,
    group: Option<(IpAddr, Span)>,
    peers: Vec<(Peer, Span)>,
    /// A keyword of unicast stands there.
    unicast: Option<Span>,
    ttl: Option<u8>,
    check_source: bool,
    /// A peer has a limit of its own, which turns the check on.
    limits: bool,
    old_checksum: Option<bool>,
    fault_without_peer: bool,
}

/// What it comes to.
#[derive(Debug)]
pub(super) struct Travel {
    pub(super) transport: Transport,
    pub(super) source: Option<IpAddr>,
    pub(super) track_source: bool,
}

impl TransportDraft {
    /// Takes the statement if it is of this kind; whether it was.
    pub(super) fn take(
        &mut self,
        context: &mut Context<'_>,
        keyword: &Keyword,
        statement: &Statement,
    ) -> bool {
        let place = statement.keyword.span;
        match keyword.name {
            "unicast_src_ip" => {
                self.unicast_source = self.source(context, statement).or(self.unicast_source);
                self.unicast.get_or_insert(place);
            }
            "mcast_src_ip" => {
                self.multicast_source = self.source(context, statement).or(self.multicast_source);
            }
            "track_src_ip" => self.track_source = true,
            "mcast_dst_ip" => {
                let address = context.address(statement, IGNORED);
                if let Some(address) = address.filter(|address| !address.is_multicast()) {
                    not_multicast(context, statement, address);
                } else {
                    let address = address.map(|address| (address, statement.head()));
                    self.group = address.or(self.group);
                }
            }
            "unicast_peer" => {
                self.unicast.get_or_insert(place);
                for line in statement.body() {
                    self.add_peer(context, line);
                }
            }
            "unicast_ttl" => {
                let ttl = context.number(
                    statement,
                    0..=255,
                    Tail::Refused,
                    "255 is used, as keepalived does",
                );
                self.ttl = ttl.and_then(|ttl| u8::try_from(ttl).ok()).or(self.ttl);
            }
            "check_unicast_src" => {
                self.unicast.get_or_insert(place);
                let on = defaults::switch(context, keyword, statement);
                self.check_source = on.unwrap_or(self.check_source);
            }
            "unicast_fault_no_peer" => self.fault_without_peer = true,
            "old_unicast_checksum" => {
                self.unicast.get_or_insert(place);
                self.old_checksum = old_checksum(context, statement).or(self.old_checksum);
            }
            _ => return false,
        }
        true
    }

    /// The family it asks for, when the addresses leave that open.
    pub(super) fn family(&self) -> Option<Family> {
        let source = self.unicast_source.or(self.multicast_source).or(self.group);
        let peer = self.peers.first().map(|(peer, _)| peer.address);
        let address = source.map(|(address, _)| address).or(peer)?;
        Some(Family::of(address))
    }

    /// All of it, for an instance of `family`.
    pub(super) fn finish(
        self,
        context: &mut Context<'_>,
        family: Family,
        defaults: &Defaults,
    ) -> Travel {
        let fits = |context: &mut Context<'_>, address: IpAddr, span: Span| {
            let fits = Family::of(address) == family;
            if !fits {
                other_family(context, address, span, family);
            }
            fits
        };
        let mut kept = |place: Option<(IpAddr, Span)>| {
            let (address, span) = place?;
            fits(context, address, span).then_some(address)
        };
        let unicast_source = kept(self.unicast_source);
        let multicast_source = kept(self.multicast_source);
        let group = kept(self.group);
        let mut seen = BTreeSet::new();
        let mut peers = Vec::new();
        for (peer, span) in self.peers {
            if !fits(context, peer.address, span) {
                continue;
            }
            if seen.insert(peer.address) {
                peers.push(peer);
            } else {
                peer_twice(context, peer, span);
            }
        }
        let is_unicast = !peers.is_empty();
        let transport = if is_unicast {
            Transport::Unicast {
                peers,
                ttl: self.ttl.unwrap_or(u8::MAX),
                check_source: self.check_source || self.limits || defaults.check_unicast_src,
                old_checksum: self.old_checksum,
            }
        } else if self.fault_without_peer {
            Transport::NoPeer
        } else {
            if let Some(place) = self.unicast {
                no_peers(context, place);
            }
            Transport::Multicast {
                group: group.unwrap_or_else(|| defaults.group(family)),
            }
        };
        let source = if is_unicast {
            unicast_source.or(multicast_source)
        } else {
            multicast_source.or(unicast_source)
        };
        Travel {
            transport,
            source,
            track_source: self.track_source,
        }
    }

    /// `ADDRESS [track]`.
    fn source(
        &mut self,
        context: &mut Context<'_>,
        statement: &Statement,
    ) -> Option<(IpAddr, Span)> {
        if let Some(word) = statement.values.get(1) {
            if word.text == "track" {
                self.track_source = true;
            } else {
                context.refuse::<()>(statement, word, "'track' or nothing", IGNORED);
            }
        }
        let address = context.address(statement, IGNORED)?;
        let usable = !address.is_multicast() && !address.is_unspecified();
        if usable {
            return Some((address, statement.head()));
        }
        let word = statement.values.first()?;
        context.refuse(statement, word, "an address of this host", "ignored")
    }

    /// `ADDRESS [min_ttl N] [max_ttl N]`.
    fn add_peer(&mut self, context: &mut Context<'_>, line: &Statement) {
        let word = &line.keyword;
        let address = word.text.parse::<IpAddr>().ok();
        let Some(address) = address.filter(|a| !a.is_multicast() && !a.is_unspecified()) else {
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!("{} is not the address of a peer", quote(&word.text)),
                )
                .at(word.span, IGNORED)
                .help("write one ADDRESS per line, without a length"),
            );
            return;
        };
        let mut peer = Peer {
            address,
            min_ttl: 0,
            max_ttl: u8::MAX,
        };
        let mut words = line.values.iter();
        while let Some(option) = words.next() {
            let value = words.next();
            let limit = value.and_then(|value| value.text.parse::<u8>().ok());
            match (option.text.as_str(), limit) {
                ("min_ttl", Some(limit)) => peer.min_ttl = limit,
                ("max_ttl", Some(limit)) => peer.max_ttl = limit,
                _ => bad_limit(context, option, value),
            }
            self.limits |= limit.is_some();
        }
        if peer.min_ttl > peer.max_ttl {
            context.push(
                Diagnostic::warning(
                    Code::BadValue,
                    format!("min_ttl {} is above max_ttl {}", peer.min_ttl, peer.max_ttl),
                )
                .at(
                    line.head(),
                    "both are ignored; keepalived refuses every advert of this peer",
                ),
            );
            (peer.min_ttl, peer.max_ttl) = (0, u8::MAX);
        }
        self.peers.push((peer, line.head()));
    }
}

fn peer_twice(context: &mut Context<'_>, peer: Peer, span: Span) {
    context.push(
        Diagnostic::warning(
            Code::Duplicate,
            format!("the peer {} stands twice", peer.address),
        )
        .at(span, "ignored; keepalived sends it every advert twice"),
    );
}

fn old_checksum(context: &mut Context<'_>, statement: &Statement) -> Option<bool> {
    match statement.values.first() {
        None => Some(true),
        Some(word) if word.text == "never" => Some(false),
        Some(word) => context.refuse(statement, word, "'never' or nothing", IGNORED),
    }
}

fn not_multicast(context: &mut Context<'_>, statement: &Statement, address: IpAddr) {
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!("{address} is not a multicast address: the default group is used, as keepalived does"),
        )
        .at(statement.head(), "write an address of 224.0.0.0/4 or ff00::/8"),
    );
}

fn other_family(context: &mut Context<'_>, address: IpAddr, span: Span, family: Family) {
    context.push(
        Diagnostic::warning(
            Code::BadValue,
            format!("{address} is not of the family of this instance, {family}"),
        )
        .at(span, IGNORED),
    );
}

fn no_peers(context: &mut Context<'_>, place: Span) {
    context.push(
        Diagnostic::warning(
            Code::Overruled,
            "unicast without a peer: adverts go out by multicast, as with keepalived",
        )
        .at(place, "asks for unicast")
        .help("list the other directors in 'unicast_peer { … }', or use 'mcast_src_ip'"),
    );
}

fn bad_limit(context: &mut Context<'_>, option: &Word, value: Option<&Word>) {
    let known = matches!(option.text.as_str(), "min_ttl" | "max_ttl");
    let (message, place) = match (known, value) {
        (true, None) => (format!("{} has no value", quote(&option.text)), option.span),
        (true, Some(value)) => (
            format!("{} is not a value of '{}'", quote(&value.text), option.text),
            value.span,
        ),
        (false, _) => (
            format!("{} is not an option of a peer", quote(&option.text)),
            option.span,
        ),
    };
    context.push(
        Diagnostic::warning(Code::BadValue, message)
            .at(place, IGNORED)
            .help("put each peer on a line of its own; the options are min_ttl 0-255 and max_ttl 0-255"),
    );
}
