//! Fragments: what each says of itself, and what the fragments of a datagram have in common.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::{Event, Reason};

use crate::config::model::Protocol;
use crate::plan::installed::ServerKey;

use super::connection::State;
use super::connection::count;
use super::decide::{Passage, is_ours};
use super::forward::{self, Kind};
use super::frame::{ETHERNET, Packet, number, octets};
use super::journey::{Route, Via};
use super::name::Name;
use super::table::{Before, Entry};
use super::{Connection, Memory};

/// Protocol numbers.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;
const ICMP_V6: u8 = 58;
/// Octets of a TCP header without options.
const TCP_LEN: usize = 20;

/// A fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    /// The packet, as if it were whole; without ports and flags if it is not the first one.
    pub packet: Packet,
    /// Where it stands in the datagram, in units of eight octets.
    pub offset: u16,
    /// Others follow.
    pub more: bool,
    /// What names the datagram beside its addresses.
    id: u32,
    /// Number of the protocol.
    protocol: u8,
    /// Octets behind the headers that all fragments have.
    len: usize,
}

impl Piece {
    /// The fragment that a frame is of which [`Packet::of`] found that it is one.
    pub(super) fn of(frame: &[u8]) -> Result<Self, Reason> {
        let rest = frame.get(ETHERNET..).ok_or(Reason::Truncated)?;
        let (mut piece, transport) = match number(frame, 12)? {
            0x0800 => ipv4(rest)?,
            _ => ipv6(rest)?,
        };
        piece.packet.source = Mac::from_octets(octets(frame, 6)?);
        piece.packet.destination = Mac::from_octets(octets(frame, 0)?);
        if piece.offset == 0 {
            piece.read(transport)?;
        } else if piece.protocol == TCP {
            piece.packet.protocol = Protocol::Tcp;
        }
        Ok(piece)
    }

    /// Ports and flags of a first fragment.
    fn read(&mut self, transport: &[u8]) -> Result<(), Reason> {
        self.packet.protocol = match self.protocol {
            TCP => Protocol::Tcp,
            UDP => Protocol::Udp,
            FRAGMENT => return Err(Reason::Fragment),
            _ => return Err(Reason::NotTcpUdp),
        };
        octets::<8>(transport, 0)?;
        self.packet.client.set_port(number(transport, 0)?);
        self.packet.vip.set_port(number(transport, 2)?);
        if self.protocol == TCP && transport.len() >= TCP_LEN {
            self.packet.flags = octets::<1>(transport, 13)?[0];
        }
        Ok(())
    }

    /// Whether it neither splits a TCP header nor is written over one.
    pub(super) const fn is_sound(&self) -> Result<(), Reason> {
        match self.offset {
            _ if self.protocol != TCP => Ok(()),
            0 if self.len >= TCP_LEN => Ok(()),
            0 if !self.more => Err(Reason::Truncated),
            0 | 1 => Err(Reason::FragmentTiny),
            _ => Ok(()),
        }
    }

    /// What stands for its datagram in the table; of one that comes back from a real server, another one.
    pub(super) fn name(&self, is_back: bool) -> Name {
        Name::fragments(&self.packet, (self.id, self.protocol), is_back)
    }
}

/// Keeps what the first fragment of a datagram has found, for the others; what happened besides.
pub(super) fn keep(memory: &mut Memory, key: Name, found: Connection) -> Vec<Event> {
    let value = Connection {
        state: State::Fragment,
        ..found
    };
    let hash = key.hash(memory);
    let until = memory.after(State::Fragment.life(&memory.options.timeouts));
    if let Some((at, _)) = memory.connections.find(&key, hash, memory.now) {
        if let Some(entry) = memory.connections.at(at) {
            (entry.value, entry.until) = (value, until);
        }
        return Vec::new();
    }
    let entry = Entry {
        key,
        hash,
        value,
        until,
    };
    match memory.connections.insert(entry, memory.now) {
        Ok(Before {
            value: before,
            evicted,
        }) => {
            count(memory, before, None);
            evicted.then_some(Event::Evicted).into_iter().collect()
        }
        Err(_) => vec![Event::NoFragmentWay],
    }
}

/// [`keep`] of a fragment that goes to a real server.
pub(super) fn keep_server(memory: &mut Memory, piece: &Piece, server: ServerKey) -> Vec<Event> {
    let life = memory.servers.get(&server).map(|server| server.life);
    let found = Connection {
        server,
        life: life.unwrap_or_default(),
        state: State::Fragment,
        asked: None,
    };
    keep(memory, piece.name(false), found)
}

/// Sends a later fragment after the first one.
pub(super) fn follow(
    memory: &mut Memory,
    passage: &mut Passage<'_>,
    piece: &Piece,
) -> Result<Reason, Reason> {
    let name = piece.name(false);
    let hash = name.hash(memory);
    let found = memory.connections.find(&name, hash, memory.now);
    let kept = found.ok_or(Reason::Fragment)?.1.value;
    if !memory.takes_packets(&kept.server, kept.life) {
        return Err(Reason::Purged);
    }
    let key = kept.server.0;
    let service = memory.services.get(&key).ok_or(Reason::Inconsistent)?;
    is_ours(memory, &piece.packet, service, passage.ifindex)?;
    piece.is_sound()?;
    let route = Route {
        server: kept.server,
        via: Via::Connection,
        opens: false,
        becomes: None,
    };
    forward::send(memory, passage, (&piece.packet, Kind::Later), (key, route))
}

/// A packet of which only the ends are known.
fn unread(from: IpAddr, to: IpAddr, ttl: u8, len: u32) -> Packet {
    Packet {
        client: SocketAddr::new(from, 0),
        sender: from,
        is_error: false,
        vip: SocketAddr::new(to, 0),
        protocol: Protocol::Udp,
        flags: 0,
        ttl,
        len,
        source: Mac::default(),
        destination: Mac::default(),
    }
}

fn ipv4(packet: &[u8]) -> Result<(Piece, &[u8]), Reason> {
    let fixed = octets::<20>(packet, 0)?;
    if fixed[9] == ICMP {
        return Err(Reason::IcmpFragment);
    }
    let (header, len) = (usize::from(fixed[0] & 15) * 4, number(packet, 2)?);
    let whole = packet.get(..len.into()).ok_or(Reason::Truncated)?;
    let transport = whole.get(header..).unwrap_or_default();
    let (from, to): (Ipv4Addr, Ipv4Addr) = (octets(packet, 12)?.into(), octets(packet, 16)?.into());
    let piece = Piece {
        packet: unread(from.into(), to.into(), fixed[8], len.into()),
        offset: number(packet, 6)? & 0x1fff,
        more: fixed[6] & 0x20 != 0,
        id: number(packet, 4)?.into(),
        protocol: fixed[9],
        len: transport.len(),
    };
    Ok((piece, transport))
}

fn ipv6(packet: &[u8]) -> Result<(Piece, &[u8]), Reason> {
    let fixed = octets::<40>(packet, 0)?;
    let len = number(packet, 4)?;
    let payload = packet.get(40..).unwrap_or_default();
    let mut rest = payload.get(..len.into()).ok_or(Reason::Truncated)?;
    let mut next = fixed[6];
    while next != FRAGMENT {
        let [after, units, ..] = octets::<8>(rest, 0)?;
        let behind = rest.get((usize::from(units) + 1) * 8..);
        (next, rest) = (after, behind.ok_or(Reason::Truncated)?);
    }
    let header = octets::<8>(rest, 0)?;
    let transport = rest.get(8..).unwrap_or_default();
    if header[0] == ICMP_V6 {
        return Err(Reason::IcmpFragment);
    }
    let (from, to): (Ipv6Addr, Ipv6Addr) = (octets(packet, 8)?.into(), octets(packet, 24)?.into());
    let place = number(rest, 2)?;
    let [.., a, b, c, d] = header;
    let piece = Piece {
        packet: unread(from.into(), to.into(), fixed[7], 40 + u32::from(len)),
        offset: place >> 3,
        more: place & 1 != 0,
        id: u32::from_be_bytes([a, b, c, d]),
        protocol: header[0],
        len: transport.len(),
    };
    Ok((piece, transport))
}
