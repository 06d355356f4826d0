//! What comes back from real servers whose addresses are translated: answers, their fragments, and ICMP
//! errors about what the servers got. They leave from the VIP.
//!
//! They take the route to the client that the kernel has, else the way back that the client's packets come.

use std::net::IpAddr;

use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;

use super::decide::{Passage, is_open};
use super::forward::{self, Hop};
use super::fragment::{Piece, keep};
use super::frame::Packet;
use super::name::Name;
use super::outside::Routed;
use super::send;
use super::translate::{self, Side};
use super::{Asked, Connection, Memory, Traffic};

/// Whether addresses of any server are translated: then a packet for no service may be an answer.
pub(super) fn are_expected(memory: &Memory) -> bool {
    memory.servers.values().any(|server| server.translates)
}

/// Sends an answer, or an error, to the client, if it is one.
pub(super) fn send(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    packet: &Packet,
) -> Result<Reason, Reason> {
    let (name, entry, asked) = find(memory, packet)?;
    is_ours(memory, passage, packet, &asked)?;
    // Anybody can send an error.
    if !packet.is_error {
        keep_alive(memory, name, asked);
    }
    let translate = if packet.is_error {
        translate::error
    } else {
        translate::packet
    };
    let frame = translate(passage.frame, packet, Side::Source, asked.vip);
    to_client(memory, passage, packet, (entry, asked, frame))
}

/// The same of the first fragment of an answer, which is remembered for the others.
pub(super) fn send_first(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    piece: &Piece,
) -> Result<Reason, Reason> {
    let packet = &piece.packet;
    let (name, entry, asked) = find(memory, packet)?;
    is_ours(memory, passage, packet, &asked)?;
    piece.is_sound()?;
    keep_alive(memory, name, asked);
    if piece.more {
        let events = keep(memory, piece.name(true), entry);
        passage.verdict.events.extend(events);
    }
    let frame = translate::packet(passage.frame, packet, Side::Source, asked.vip);
    to_client(memory, passage, packet, (entry, asked, frame))
}

/// The same of a later fragment, if it is one of an answer whose first one came.
pub(super) fn send_later(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    piece: &Piece,
) -> Result<Reason, Reason> {
    let packet = &piece.packet;
    let (entry, asked) = entry(memory, piece.name(true))?.ok_or(Reason::Fragment)?;
    is_ours(memory, passage, packet, &asked)?;
    let frame = translate::later(passage.frame, Side::Source, asked.vip.ip());
    to_client(memory, passage, packet, (entry, asked, frame))
}

/// The entry of what a packet answers. Its source is the real server, its destination the client; of an
/// error, those of the packet that it quotes.
fn find(memory: &Memory, packet: &Packet) -> Result<(Name, Connection, Asked), Reason> {
    let name = Name::replies(packet.vip, packet.client, packet.protocol.number());
    let (entry, asked) = entry(memory, name)?.ok_or(Reason::NoService)?;
    Ok((name, entry, asked))
}

fn entry(memory: &Memory, name: Name) -> Result<Option<(Connection, Asked)>, Reason> {
    let found = memory
        .connections
        .find(&name, name.hash(memory), memory.now);
    let Some((_, entry)) = found else {
        return Ok(None);
    };
    if !memory.takes_packets(&entry.value.server, entry.value.life) {
        return Err(Reason::Purged);
    }
    let asked = entry.value.asked.ok_or(Reason::Inconsistent)?;
    Ok(Some((entry.value, asked)))
}

/// Whether the VIP is this director's now, and the frame for it: by its own MAC, or by the virtual one of a
/// router (RFC 5798), as the servers' gateway may be a VIP.
fn is_ours(
    memory: &Memory,
    passage: &Passage<'_>,
    packet: &Packet,
    asked: &Asked,
) -> Result<(), Reason> {
    let service = memory.services.get(&asked.service);
    is_open(memory, service.ok_or(Reason::Inconsistent)?)?;
    let own = memory.ports.get(&passage.ifindex) == Some(&packet.destination.0);
    let octets = packet.destination.octets();
    let is_virtual = matches!(octets, [0, 0, 0x5e, 0, 1 | 2, _]);
    if own || is_virtual {
        Ok(())
    } else {
        Err(Reason::OtherHost)
    }
}

/// An answer keeps its connection alive, with both entries.
fn keep_alive(memory: &mut Memory, name: Name, asked: Asked) {
    if asked.touched == memory.now {
        return;
    }
    let (now, timeouts) = (memory.now, memory.options.timeouts);
    let connection = Name::connection(asked.client, asked.vip, asked.protocol.number());
    let at = |memory: &Memory, name: &Name| {
        let found = memory.connections.find(name, name.hash(memory), now);
        found.map(|(at, entry)| (at, entry.value.state))
    };
    let (own, other) = (at(memory, &name), at(memory, &connection));
    let until = other.map(|(_, state)| memory.after(state.life(&timeouts)));
    if let Some(entry) = own.and_then(|(at, _)| memory.connections.at(at)) {
        entry.until = until.unwrap_or(entry.until);
        entry.value.asked = Some(Asked {
            touched: now,
            ..asked
        });
    }
    if let Some(entry) = other.and_then(|(at, _)| memory.connections.at(at)) {
        entry.until = until.unwrap_or(entry.until);
    }
}

fn to_client(
    memory: &Memory,
    passage: &mut Passage<'_>,
    packet: &Packet,
    (entry, asked, frame): (Connection, Asked, Option<Vec<u8>>),
) -> Result<Reason, Reason> {
    passage.answers_from = Some(asked.vip.ip());
    if packet.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let (port, destination) = next_hop(memory, passage, packet, &asked)?;
    let own = memory.ports.get(&port).ok_or(Reason::NoReplyRoute)?;
    passage.verdict.traffic = Some(Traffic {
        service: asked.service,
        server: entry.server,
        opens: false,
        is_reply: true,
        octets: packet.len,
    });
    let hop = Hop {
        port,
        source: Mac(*own),
        destination,
    };
    let frame = send::hop_less(&frame.ok_or(Reason::Inconsistent)?);
    let same_port = forward::leave(memory, passage, frame, hop)?;
    Ok(if same_port {
        Reason::TxReply
    } else {
        Reason::RedirectReply
    })
}

/// Interface and MAC by which a packet gets to the client.
fn next_hop(
    memory: &Memory,
    passage: &mut Passage<'_>,
    packet: &Packet,
    asked: &Asked,
) -> Result<(u32, Mac), Reason> {
    let (from, to): (IpAddr, IpAddr) = (asked.vip.ip(), packet.vip.ip());
    match passage.outside.route(passage.network, from, to) {
        Some(Routed::Nowhere) => return Err(Reason::NoReplyRoute),
        Some(Routed::Over { mtu, .. }) if forward::exceeds(memory, passage, packet.len, mtu) => {
            passage.mtu = mtu;
            return Err(Reason::TooBig);
        }
        Some(Routed::Over {
            hop: Some((port, mac)),
            ..
        }) if memory.ports.contains_key(&port) => return Ok((port, mac)),
        Some(Routed::Over { .. }) | None => {}
    }
    forward::fits(memory, passage, packet.len, asked.way_back.0)?;
    Ok(asked.way_back)
}
