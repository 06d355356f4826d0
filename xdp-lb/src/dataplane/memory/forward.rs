//! A packet that has a server is sent there: as it is, in a tunnel, or to another address.

use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;

use crate::config::model::{ServiceKey, Tunnel};
use crate::plan::desired::{Method, Reach};

use super::decide::Passage;
use super::frame::Packet;
use super::journey::{Route, Via};
use super::{Memory, Traffic, nat, network, send, tunnel};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A whole packet, or the first fragment of one.
    Packet,
    /// A later fragment.
    Later,
    /// An ICMP error about the connection.
    Error,
}

/// The way on a link: interface, MAC there, MAC of the next hop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    pub port: u32,
    pub source: Mac,
    pub destination: Mac,
}

/// Sends a packet to its server.
pub(super) fn send(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    (packet, kind): (&Packet, Kind),
    (service, route): (ServiceKey, Route),
) -> Result<Reason, Reason> {
    let path = memory
        .servers
        .get(&route.server)
        .and_then(|server| server.path)
        .ok_or(Reason::Inconsistent)?;
    let traffic = Traffic {
        service,
        server: route.server,
        opens: route.opens,
        is_reply: false,
        octets: packet.len,
    };
    let hop = match path.reach {
        Reach::Local => {
            passage.verdict.traffic = Some(traffic);
            return Err(Reason::Local);
        }
        Reach::Direct {
            ifindex,
            source_mac,
            mac,
            ..
        } => Hop {
            port: ifindex,
            source: source_mac,
            destination: mac,
        },
    };
    if packet.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    if !matches!(path.method, Method::Tunnel(..)) {
        fits(memory, passage, packet.len, hop.port)?;
    }
    passage.verdict.traffic = Some(traffic);
    let frame = match path.method {
        Method::Tunnel(tunnel, source) => {
            let ends = (source, route.server.1.ip());
            wrapped(memory, passage, packet, (tunnel, ends, hop))?
        }
        Method::Nat => {
            let way = (service, route);
            let frame = nat::to_server(memory, passage, (packet, kind), way)?;
            send::hop_less(&frame)
        }
        Method::Direct => send::hop_less(passage.frame),
    };
    let same_port = leave(memory, passage, frame, hop)?;
    Ok(match (kind, same_port) {
        (Kind::Packet, _) => reason(route.via, same_port),
        (Kind::Later, true) => Reason::TxFragment,
        (Kind::Later, false) => Reason::RedirectFragment,
        (Kind::Error, true) => Reason::TxIcmp,
        (Kind::Error, false) => Reason::RedirectIcmp,
    })
}

/// Whether a packet is no longer than the MTU of the interface that it is to leave by.
pub(super) fn fits(
    memory: &Memory,
    passage: &mut Passage<'_>,
    len: u32,
    port: u32,
) -> Result<(), Reason> {
    match memory.mtus.get(&port) {
        Some(mtu) if exceeds(memory, passage, len, *mtu) => {
            passage.mtu = *mtu;
            Err(Reason::TooBig)
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether a packet is longer than an MTU. One that is longer than that of the interface it came in by was put
/// together by offloading, and will be taken apart again.
pub(super) fn exceeds(memory: &Memory, passage: &Passage<'_>, len: u32, mtu: u32) -> bool {
    const ETHERNET: u32 = 1500;
    let own = memory.mtus.get(&passage.ifindex);
    len > mtu && len <= own.copied().unwrap_or(ETHERNET)
}

/// The packet behind the headers of a tunnel. Nothing takes that apart, so each must fit.
fn wrapped(
    memory: &Memory,
    passage: &mut Passage<'_>,
    packet: &Packet,
    (tunnel, ends, hop): (Tunnel, tunnel::Ends, Hop),
) -> Result<Vec<u8>, Reason> {
    let grows = tunnel::octets_of(tunnel, ends);
    let mtu = memory.mtus.get(&hop.port).ok_or(Reason::RedirectFailed)?;
    let inner = usize::try_from(packet.len).unwrap_or(usize::MAX);
    if inner + grows > usize::try_from(*mtu).unwrap_or(usize::MAX) {
        passage.mtu = mtu.saturating_sub(u32::try_from(grows).unwrap_or(u32::MAX));
        return Err(Reason::TooBig);
    }
    passage.room = passage.room.checked_sub(grows).ok_or(Reason::NoHeadroom)?;
    let frame = send::hop_less(passage.frame);
    let mut identification = || passage.outside.identification();
    tunnel::wrap(&frame, packet, (tunnel, ends), &mut identification).ok_or(Reason::Inconsistent)
}

/// The frame leaves, by the interface of the hop or by the one that carries it; whether it came in by that.
pub(super) fn leave(
    memory: &Memory,
    passage: &mut Passage<'_>,
    mut frame: Vec<u8>,
    hop: Hop,
) -> Result<bool, Reason> {
    send::address(&mut frame, hop.source, hop.destination);
    let before = frame.len();
    let (port, frame) = if hop.port == passage.ifindex {
        (hop.port, frame)
    } else {
        network::out(memory, hop.port, frame)
    };
    if frame.len() - before > passage.room {
        return Err(Reason::NoHeadroom);
    }
    let same_port = port == passage.ifindex;
    if !same_port && !memory.ports.contains_key(&port) {
        return Err(Reason::RedirectFailed);
    }
    passage.verdict.frame = Some(frame);
    passage.verdict.port = Some(port);
    Ok(same_port)
}

const fn reason(via: Via, same_port: bool) -> Reason {
    match (via, same_port) {
        (Via::Connection, true) => Reason::TxConnection,
        (Via::Scheduled, true) => Reason::TxScheduled,
        (Via::Persistent, true) => Reason::TxPersistent,
        (Via::Stateless, true) => Reason::TxStateless,
        (Via::Connection, false) => Reason::RedirectConnection,
        (Via::Scheduled, false) => Reason::RedirectScheduled,
        (Via::Persistent, false) => Reason::RedirectPersistent,
        (Via::Stateless, false) => Reason::RedirectStateless,
    }
}
