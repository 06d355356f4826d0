//! Address translation on the way to a real server. What it answers is found by an entry of its own, which
//! lives as long as that of the connection.

use std::net::SocketAddr;

use xdp_lb_common::reason::{Event, Reason};

use crate::config::model::ServiceKey;

use super::connection::{State, count};
use super::decide::Passage;
use super::forward::Kind;
use super::frame::Packet;
use super::journey::Route;
use super::name::Name;
use super::table::Entry;
use super::translate::{self, Side};
use super::{Asked, Connection, Memory};

/// The frame as the server gets it.
pub(super) fn to_server(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    (packet, kind): (&Packet, Kind),
    (service, route): (ServiceKey, Route),
) -> Result<Vec<u8>, Reason> {
    let server = route.server.1;
    if let Some(state) = route.becomes {
        expect_replies(memory, passage, packet, (service, route, state))?;
    }
    let translated = match kind {
        Kind::Packet => translate::packet(passage.frame, packet, Side::Destination, server),
        Kind::Later => translate::later(passage.frame, Side::Destination, server.ip()),
        Kind::Error => translate::error(passage.frame, packet, Side::Destination, server),
    };
    translated.ok_or(Reason::Inconsistent)
}

/// Makes sure that replies find back as long as the connection lives, whose state is this from here on.
fn expect_replies(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    packet: &Packet,
    (service, route, state): (ServiceKey, Route, State),
) -> Result<(), Reason> {
    let server = memory.servers.get(&route.server);
    let life = server.map(|server| server.life).unwrap_or_default();
    let port = match route.server.1.port() {
        0 => packet.vip.port(),
        port => port,
    };
    let at_server = SocketAddr::new(route.server.1.ip(), port);
    let key = Name::replies(packet.client, at_server, packet.protocol.number());
    let value = Connection {
        server: route.server,
        life,
        state: match state {
            State::SynSeen | State::FirstDatagram => State::FirstReplies,
            _ => State::Replies,
        },
        asked: Some(Asked {
            service,
            client: packet.client,
            vip: packet.vip,
            protocol: packet.protocol,
            way_back: (passage.network, packet.source),
            touched: memory.now,
        }),
    };
    let until = memory.after(state.life(&memory.options.timeouts));
    let hash = key.hash(memory);
    if let Some((at, _)) = memory.connections.find(&key, hash, memory.now) {
        if let Some(entry) = memory.connections.at(at) {
            (entry.value, entry.until) = (value, until);
        }
        return Ok(());
    }
    let entry = Entry {
        key,
        hash,
        value,
        until,
    };
    let events = &mut passage.verdict.events;
    let Ok(taken) = memory.connections.insert(entry, memory.now) else {
        events.push(Event::NoWay);
        return Err(Reason::NoReplyWay);
    };
    events.extend(taken.evicted.then_some(Event::Evicted));
    count(memory, taken.value, None);
    Ok(())
}
