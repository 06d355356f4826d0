//! What becomes of a packet, step by step in the order of the packet path.

use std::net::IpAddr;

use xdp_lb_common::reason::{self, Reason};

use crate::config::model::{Endpoint, ServiceKey};

use super::forward::{self, Kind};
use super::fragment::{Piece, follow, keep_server};
use super::frame::Packet;
use super::journey::Journey;
use super::outside::Outside;
use super::tables::Service;
use super::{Memory, Verdict, answer, network, reply};

/// A frame on its way through the director.
pub(super) struct Passage<'a> {
    pub frame: &'a [u8],
    /// Index of the interface that it came in by,
    pub ifindex: u32,
    /// and of the one that is its network: the VLAN's if it had tags.
    pub network: u32,
    pub outside: &'a mut dyn Outside,
    /// Octets that may be put in front of it.
    pub room: usize,
    pub verdict: Verdict,
    /// Of a packet that is too long: the length that fits.
    pub mtu: u32,
    /// Where answers about it come from, if not from where it was going.
    pub answers_from: Option<IpAddr>,
}

pub(super) fn decide(
    memory: &mut Memory,
    frame: &[u8],
    ifindex: u32,
    outside: &mut dyn Outside,
) -> Verdict {
    let room = outside.room();
    network::decide(memory, frame, ifindex, |memory, untagged, network| {
        let passage = Passage {
            frame: untagged,
            ifindex,
            network,
            outside,
            room: room + frame.len() - untagged.len(),
            verdict: Verdict::of(Reason::Truncated),
            mtu: 0,
            answers_from: None,
        };
        decide_untagged(memory, passage)
    })
}

fn decide_untagged(memory: &mut Memory, mut passage: Passage<'_>) -> Verdict {
    // Who may be told what became of the packet, and whether it is a whole one.
    let mut sender = None;
    let balanced = match Packet::of(passage.frame) {
        Ok(packet) => {
            sender = Some((packet, true));
            let balanced = balance(memory, &mut passage, (packet, None));
            otherwise(balanced, Reason::NoService, memory, |memory| {
                reply::send(memory, &mut passage, &packet)
            })
        }
        Err(Reason::Fragment) => Piece::of(passage.frame).and_then(|piece| {
            if piece.offset > 0 {
                let followed = follow(memory, &mut passage, &piece);
                return otherwise(followed, Reason::Fragment, memory, |memory| {
                    reply::send_later(memory, &mut passage, &piece)
                });
            }
            sender = Some((piece.packet, false));
            let balanced = balance(memory, &mut passage, (piece.packet, Some(&piece)));
            otherwise(balanced, Reason::NoService, memory, |memory| {
                reply::send_first(memory, &mut passage, &piece)
            })
        }),
        Err(reason) => Err(reason),
    };
    let reason = balanced.unwrap_or_else(|reason| reason);
    finish(memory, passage, sender, reason)
}

/// What is for no service for this reason may come from a real server.
fn otherwise(
    balanced: Result<Reason, Reason>,
    is_none: Reason,
    memory: &mut Memory,
    reply: impl FnOnce(&mut Memory) -> Result<Reason, Reason>,
) -> Result<Reason, Reason> {
    match balanced {
        Err(reason) if reason == is_none && reply::are_expected(memory) => reply(memory),
        balanced => balanced,
    }
}

/// Has the sender of a packet that goes nowhere told of it, and fills in what follows from the reason.
fn finish(
    memory: &Memory,
    mut passage: Passage<'_>,
    sender: Option<(Packet, bool)>,
    mut reason: Reason,
) -> Verdict {
    if let (Some((packet, is_whole)), Reason::TtlExpired | Reason::NoRealServer | Reason::TooBig) =
        (sender, reason)
    {
        let whom = (&packet, is_whole);
        let answered;
        (reason, answered) = answer::to(memory, &passage, whom, reason);
        passage.verdict.port = answered.is_some().then_some(passage.ifindex);
        passage.verdict.frame = answered;
    }
    let mut verdict = passage.verdict;
    verdict.reason = reason;
    verdict.action = reason.verdict();
    if verdict.action == reason::Verdict::Pass {
        verdict.frame = Some(passage.frame.to_vec());
    }
    verdict
}

/// Balances a packet, which may be the first fragment of a datagram.
fn balance(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    (packet, piece): (Packet, Option<&Piece>),
) -> Result<Reason, Reason> {
    let key = find(memory, &packet, passage.ifindex)?;
    if let Some(piece) = piece {
        piece.is_sound()?;
    }
    let mut journey = Journey {
        packet,
        key,
        outside: &mut *passage.outside,
        events: Vec::new(),
    };
    let route = if packet.is_error {
        journey.follow(memory)
    } else {
        journey.route(memory)
    };
    let events = std::mem::take(&mut journey.events);
    passage.verdict.events.extend(events);
    let route = route?;
    if let Some(piece) = piece.filter(|piece| piece.more) {
        let events = keep_server(memory, piece, route.server);
        passage.verdict.events.extend(events);
    }
    let kind = if packet.is_error {
        Kind::Error
    } else {
        Kind::Packet
    };
    forward::send(memory, passage, (&packet, kind), (key, route))
}

/// The service that balances a packet here and now.
fn find(memory: &Memory, packet: &Packet, ifindex: u32) -> Result<ServiceKey, Reason> {
    let (key, service) = service_of(memory, packet).ok_or(Reason::NoService)?;
    is_ours(memory, packet, service, ifindex)?;
    Ok(key)
}

/// The service that a packet belongs to. IPVS asks for that of its firewall mark first; of each kind, one
/// of its port comes before one of any.
fn service_of<'a>(memory: &'a Memory, packet: &Packet) -> Option<(ServiceKey, &'a Service)> {
    let endpoints = [packet.vip.port(), 0].map(|port| Endpoint {
        vip: packet.vip.ip(),
        port,
        protocol: packet.protocol,
    });
    let published = || {
        let services = memory.services.iter();
        services.filter(|(_, service)| service.published)
    };
    let marked =
        |endpoint: &Endpoint| published().find(|(_, service)| service.entrances.contains(endpoint));
    let own =
        |endpoint: &Endpoint| published().find(|(key, _)| **key == ServiceKey::Endpoint(*endpoint));
    let found = endpoints.iter().find_map(marked);
    let found = found.or_else(|| endpoints.iter().find_map(own));
    found.map(|(key, service)| (*key, service))
}

/// The gate first, then who the frame is for, then where it comes from.
pub(super) fn is_ours(
    memory: &Memory,
    packet: &Packet,
    service: &Service,
    ifindex: u32,
) -> Result<(), Reason> {
    is_open(memory, service)?;
    let port = memory.ports.get(&ifindex);
    let is_addressed_here = port == Some(&packet.destination.0);
    if !is_addressed_here && service.virtual_mac != Some(packet.destination) {
        return Err(Reason::OtherHost);
    }
    let mut of_host = service
        .hosts
        .iter()
        .filter(|(mac, _)| *mac == packet.source)
        .peekable();
    if of_host.peek().is_some() && of_host.all(|(_, ip)| *ip != packet.sender) {
        return Err(Reason::AlreadyBalanced);
    }
    Ok(())
}

/// Whether the VIP is this director's, and its agent heard of.
pub(super) fn is_open(memory: &Memory, service: &Service) -> Result<(), Reason> {
    if !service.active {
        return Err(Reason::NotActive);
    }
    let silent = memory.now.since(memory.heartbeat);
    if service
        .lease
        .is_some_and(|lease| i64::from(silent) > i64::from(lease))
    {
        return Err(Reason::LeaseOver);
    }
    Ok(())
}
