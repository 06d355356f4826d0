//! What becomes of a packet, step by step in the order of the packet path.

use std::net::SocketAddr;

use xdp_lb_common::addr::Address;
use xdp_lb_common::flow::{FlowV4, FlowV6};
use xdp_lb_common::reason::{self, Event, Reason};
use xdp_lb_common::tick::LongTick;

use crate::config::model::{Endpoint, Protocol, ServiceKey};
use crate::plan::desired::Reach;
use crate::plan::installed::ServerKey;

use super::connection::{Next, State, opens};
use super::fragment::{Piece, follow, keep};
use super::frame::Packet;
use super::schedule::Chance;
use super::server::Life;
use super::table::{At, Before, Entry};
use super::tables::Service;
use super::{Connection, Flow, Memory, Traffic, Verdict, answer, network, send};

/// How a packet's server was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Via {
    Connection,
    Scheduled,
    Persistent,
    Stateless,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Route {
    pub server: ServerKey,
    pub via: Via,
    pub opens: bool,
}

/// A packet on its way.
pub(super) struct Journey<'a> {
    pub packet: Packet,
    pub key: ServiceKey,
    chance: Chance<'a>,
    pub events: Vec<Event>,
}

pub(super) fn decide(
    memory: &mut Memory,
    frame: &[u8],
    ifindex: u32,
    chance: Chance<'_>,
) -> Verdict {
    network::decide(memory, frame, ifindex, |memory, frame| {
        decide_untagged(memory, frame, ifindex, chance)
    })
}

fn decide_untagged(memory: &mut Memory, frame: &[u8], ifindex: u32, chance: Chance<'_>) -> Verdict {
    let mut verdict = Verdict {
        action: Reason::Truncated.verdict(),
        reason: Reason::Truncated,
        frame: None,
        port: None,
        traffic: None,
        events: Vec::new(),
    };
    let way_in = (frame, ifindex);
    // Who may be told what became of the packet, and whether it is a whole one.
    let mut sender = None;
    let balanced = match Packet::of(frame) {
        Ok(packet) => {
            sender = Some((packet, true));
            balance(memory, way_in, (packet, None), chance, &mut verdict)
        }
        Err(Reason::Fragment) => Piece::of(frame).and_then(|piece| {
            if piece.offset > 0 {
                return follow(memory, way_in, &piece, &mut verdict);
            }
            sender = Some((piece.packet, false));
            let first = (piece.packet, Some(&piece));
            balance(memory, way_in, first, chance, &mut verdict)
        }),
        Err(reason) => Err(reason),
    };
    let mut reason = balanced.unwrap_or_else(|reason| reason);
    if let (Some((packet, is_whole)), Reason::TtlExpired | Reason::NoRealServer | Reason::TooBig) =
        (sender, reason)
    {
        // What is too long names the interface that it does not fit.
        let mtu = verdict.port.take().and_then(|port| memory.mtus.get(&port));
        let why = (reason, mtu.copied().unwrap_or_default());
        (reason, verdict.frame) = answer::to(memory, frame, (&packet, is_whole), why);
        verdict.port = verdict.frame.is_some().then_some(ifindex);
    }
    verdict.reason = reason;
    verdict.action = reason.verdict();
    if verdict.action == reason::Verdict::Pass {
        verdict.frame = Some(frame.to_vec());
    }
    verdict
}

/// Balances a packet, which may be the first fragment of a datagram.
fn balance(
    memory: &mut Memory,
    (frame, ifindex): (&[u8], u32),
    (packet, piece): (Packet, Option<&Piece>),
    chance: Chance<'_>,
    verdict: &mut Verdict,
) -> Result<Reason, Reason> {
    let key = find(memory, &packet, ifindex)?;
    if let Some(piece) = piece {
        piece.is_sound()?;
    }
    let mut journey = Journey {
        packet,
        key,
        chance,
        events: Vec::new(),
    };
    let route = if packet.is_error {
        journey.follow(memory)
    } else {
        journey.route(memory)
    };
    verdict.events = journey.events;
    let route = route?;
    if let Some(piece) = piece.filter(|piece| piece.more) {
        verdict.events.extend(keep(memory, piece, route.server));
    }
    Ok(sent(memory, frame, ifindex, (&packet, key, route), verdict))
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

/// What is written into the verdict about a packet that has a server; the reason.
pub(super) fn sent(
    memory: &Memory,
    frame: &[u8],
    ifindex: u32,
    (packet, service, route): (&Packet, ServiceKey, Route),
    verdict: &mut Verdict,
) -> Reason {
    let Some(path) = memory
        .servers
        .get(&route.server)
        .and_then(|server| server.path)
    else {
        return Reason::Inconsistent;
    };
    let direct = match path {
        Reach::Local => None,
        Reach::Direct {
            ifindex,
            source_mac,
            mac,
            ..
        } => Some((ifindex, source_mac, mac)),
    };
    if direct.is_some() && packet.ttl <= 1 {
        return Reason::TtlExpired;
    }
    if let Some((port, ..)) = direct
        && is_too_long(memory, packet.len, (ifindex, port))
    {
        verdict.port = Some(port);
        return Reason::TooBig;
    }
    verdict.traffic = Some(Traffic {
        service,
        server: route.server,
        opens: route.opens,
        octets: packet.len,
    });
    let Some((port, source, destination)) = direct else {
        return Reason::Local;
    };
    let frame = send::forwarded(frame, source, destination);
    let (port, frame) = network::out(memory, port, frame);
    if port != ifindex && !memory.ports.contains_key(&port) {
        return Reason::RedirectFailed;
    }
    verdict.frame = Some(frame);
    verdict.port = Some(port);
    match (packet.is_error, port == ifindex) {
        (true, true) => Reason::TxIcmp,
        (true, false) => Reason::RedirectIcmp,
        (false, same_port) => reason(route.via, same_port),
    }
}

/// Whether a packet is longer than the MTU of the interface that it is to leave by. One that is longer than
/// that of the interface it came in by was put together by offloading, and will be taken apart again.
fn is_too_long(memory: &Memory, len: u32, (came_in, leaves): (u32, u32)) -> bool {
    const ETHERNET: u32 = 1500;
    let mtu = |port| memory.mtus.get(&port).copied();
    mtu(leaves).is_some_and(|mtu| len > mtu) && len <= mtu(came_in).unwrap_or(ETHERNET)
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

/// Counts what became of a connection, at servers that still are in the life it belonged to.
pub(super) fn count(memory: &mut Memory, old: Option<Connection>, new: Option<Connection>) {
    if let (Some(old), Some(new)) = (old, new)
        && (old.server, old.life) == (new.server, new.life)
    {
        count_at(memory, old, Some(old.state), Some(new.state));
        return;
    }
    if let Some(old) = old {
        count_at(memory, old, Some(old.state), None);
    }
    if let Some(new) = new {
        count_at(memory, new, None, Some(new.state));
    }
}

fn count_at(memory: &mut Memory, at: Connection, old: Option<State>, new: Option<State>) {
    if let Some(server) = memory.servers.get_mut(&at.server)
        && server.life == at.life
    {
        server.count(old, new);
    }
}

/// The keyed hash of a packet's connection, which every director of a cluster computes alike.
pub(super) fn hash(memory: &Memory, packet: &Packet) -> u64 {
    let Packet {
        client,
        vip,
        protocol,
        ..
    } = *packet;
    let [client_be, vip_be] = [client.ip(), vip.ip()].map(|ip| Address::from_ip(ip).0);
    let [client_port_be, vip_port_be] = [client.port().to_be(), vip.port().to_be()];
    let protocol = protocol.number();
    if vip.is_ipv6() {
        let flow = FlowV6 {
            client: client_be,
            vip: vip_be,
            client_port_be,
            vip_port_be,
            protocol,
        };
        return flow.hash(&memory.coefficients_v6);
    }
    let flow = FlowV4 {
        client_be: client_be.words_be[0],
        vip_be: vip_be.words_be[0],
        client_port_be,
        vip_port_be,
        protocol,
    };
    flow.hash(&memory.coefficients)
}

impl Journey<'_> {
    fn flow(&self) -> Flow {
        let Packet {
            client,
            vip,
            protocol,
            ..
        } = self.packet;
        (client, vip, protocol.number())
    }

    fn hash(&self, memory: &Memory) -> u64 {
        hash(memory, &self.packet)
    }

    /// Where the packet goes: where its connection goes, else to the server that is chosen for it.
    fn route(&mut self, memory: &mut Memory) -> Result<Route, Reason> {
        let (flow, hash) = (self.flow(), self.hash(memory));
        let found = memory.connections.find(&flow, hash, memory.now);
        let Some((at, entry)) = found else {
            return if opens(&self.packet) {
                self.open(memory, None)
            } else {
                self.resume(memory)
            };
        };
        let (connection, until) = (entry.value, entry.until);
        if !memory.takes_packets(&connection.server, connection.life) {
            // The server that had it is no more.
            return if opens(&self.packet) {
                self.open(memory, Some(at))
            } else {
                Err(Reason::Purged)
            };
        }
        match connection.state.after(&self.packet) {
            Next::Anew => self.open(memory, Some(at)),
            Next::State(state) => {
                self.renew(memory, at, connection, (state, until));
                Ok(Route {
                    server: connection.server,
                    via: Via::Connection,
                    opens: false,
                })
            }
        }
    }

    /// Where an ICMP error goes: where the connection goes that it is about, or where that must have
    /// gone, as in [`Self::resume`]. Nothing comes of it: no connection, no template, no longer life.
    fn follow(&self, memory: &Memory) -> Result<Route, Reason> {
        let hash = self.hash(memory);
        let to = |server, via| Route {
            server,
            via,
            opens: false,
        };
        if let Some((_, entry)) = memory.connections.find(&self.flow(), hash, memory.now) {
            let Connection { server, life, .. } = entry.value;
            let takes = memory.takes_packets(&server, life);
            return takes
                .then(|| to(server, Via::Connection))
                .ok_or(Reason::Purged);
        }
        if let Some(server) = self.template(memory) {
            return Ok(to(server, Via::Persistent));
        }
        let service = memory.services.get(&self.key);
        let [first_place, _] = memory.connections.places_of(hash);
        if !service.is_some_and(|service| service.schedule.is_hashed())
            && !memory.full_places.contains(&first_place)
        {
            return Err(Reason::IcmpUnknown);
        }
        let server = self.consistent(memory).ok_or(Reason::NoRealServer)?;
        Ok(to(server, Via::Stateless))
    }

    /// The connection lives on. At most once a tick, unless its state changes, so does the template of
    /// its client.
    fn renew(
        &self,
        memory: &mut Memory,
        at: At,
        old: Connection,
        (state, until): (State, LongTick),
    ) {
        let new = Connection { state, ..old };
        let renewed = memory.after(state.life(&memory.options.timeouts));
        if (state, renewed) == (old.state, until) {
            return;
        }
        if let Some(entry) = memory.connections.at(at) {
            (entry.value, entry.until) = (new, renewed);
        }
        count(memory, Some(old), Some(new));
        if state.is_confirmed() {
            self.confirm_template(memory, old.server);
        }
    }

    /// A new connection, in the way of one that is over if there is one.
    fn open(&mut self, memory: &mut Memory, instead_of: Option<At>) -> Result<Route, Reason> {
        let (server, via) = self.choose(memory).ok_or(Reason::NoRealServer)?;
        let state = State::opened_by(&self.packet);
        let mut route = Route {
            server,
            via,
            opens: true,
        };
        // A mark may be on TCP, too, which has connections all the same.
        let is_udp = self.packet.protocol == Protocol::Udp;
        let service = memory.services.get(&self.key);
        if is_udp && service.is_some_and(|service| service.one_packet) {
            self.confirm_again(memory, (server, via));
        } else {
            (route.server, route.via) = self.enter(memory, (server, via), state, instead_of)?;
        }
        Ok(route)
    }

    /// Puts a connection into the table. One that finds no way must go where its next packet will:
    /// by its client's template, else by consistent hash.
    fn enter(
        &mut self,
        memory: &mut Memory,
        (server, via): (ServerKey, Via),
        state: State,
        instead_of: Option<At>,
    ) -> Result<(ServerKey, Via), Reason> {
        let hash = self.hash(memory);
        let life = memory
            .servers
            .get(&server)
            .map(|s| s.life)
            .unwrap_or_default();
        let new = Connection {
            server,
            life,
            state,
        };
        let until = memory.after(state.life(&memory.options.timeouts));
        if let Some(at) = instead_of {
            if let Some(entry) = memory.connections.at(at) {
                let old = std::mem::replace(&mut entry.value, new);
                entry.until = until;
                count(memory, Some(old), Some(new));
            }
            return Ok((server, via));
        }
        let (key, value) = (self.flow(), new);
        let entry = Entry {
            key,
            hash,
            value,
            until,
        };
        if let Ok(Before {
            value: before,
            evicted,
        }) = memory.connections.insert(entry, memory.now)
        {
            count(memory, before, None);
            count(memory, None, Some(new));
            if evicted {
                self.events.push(Event::Evicted);
            }
            return Ok((server, via));
        }
        self.events.push(Event::NoWay);
        let [first_place, _] = memory.connections.places_of(hash);
        memory.full_places.insert(first_place);
        self.confirm_again(memory, (server, via));
        let sticky = self
            .template(memory)
            .map(|server| (server, Via::Persistent));
        sticky
            .or_else(|| Some((self.consistent(memory)?, Via::Stateless)))
            .ok_or(Reason::NoRealServer)
    }

    /// A segment in the middle of a connection that is not known. It goes where it must have gone, if
    /// that can be told: by the template of its client, by a scheduler that hashes, by consistent hash
    /// if connections like it found no way.
    fn resume(&mut self, memory: &mut Memory) -> Result<Route, Reason> {
        let is_reset = self.packet.flags & 0x04 != 0;
        let hashed = memory
            .services
            .get(&self.key)
            .is_some_and(|s| s.schedule.is_hashed());
        let [first_place, _] = memory.connections.places_of(self.hash(memory));
        let (server, via) = if let Some(server) = self.template(memory) {
            self.confirm_template(memory, server);
            (server, Via::Persistent)
        } else if (hashed && !is_reset) || memory.full_places.contains(&first_place) {
            let server = self.consistent(memory).ok_or(Reason::NoRealServer)?;
            (server, Via::Stateless)
        } else {
            return Err(Reason::NoConnection);
        };
        let state = match State::Established.after(&self.packet) {
            Next::State(state) => state,
            Next::Anew => State::SynSeen,
        };
        let (server, via) = self.enter(memory, (server, via), state, None)?;
        Ok(Route {
            server,
            via,
            opens: false,
        })
    }

    /// The server of a connection that is not remembered, the same for each of its packets.
    fn consistent(&self, memory: &Memory) -> Option<ServerKey> {
        let schedule = &memory.services.get(&self.key)?.schedule;
        let server = if schedule.is_hashed() {
            schedule.hashed(&self.packet, &memory.seen(self.key))
        } else {
            schedule.consistent(self.hash(memory) >> 16)
        };
        self.usable(memory, server?)
    }

    fn usable(&self, memory: &Memory, server: SocketAddr) -> Option<ServerKey> {
        let key = (self.key, server);
        let server = memory.servers.get(&key)?;
        server.path.is_some().then_some(key)
    }

    /// The server of a new connection: the one that its client sticks to, else the scheduler's choice,
    /// to which the client sticks from here on.
    fn choose(&mut self, memory: &mut Memory) -> Option<(ServerKey, Via)> {
        if let Some(server) = self.again(memory) {
            return Some((server, Via::Persistent));
        }
        let seen = memory.seen(self.key);
        let schedule = &mut memory.services.get_mut(&self.key)?.schedule;
        let server = schedule.pick(&self.packet, &seen, self.chance)?;
        let server = self.usable(memory, server)?;
        self.stick(memory, server);
        Some((server, Via::Scheduled))
    }
}

impl Memory {
    /// A moment so many ticks from now.
    pub(super) const fn after(&self, ticks: u32) -> LongTick {
        LongTick(self.now.0.wrapping_add(ticks))
    }

    /// Whether a server still takes what it was given in a life.
    pub(super) fn takes_packets(&self, server: &ServerKey, life: Life) -> bool {
        self.servers
            .get(server)
            .is_some_and(|server| server.life == life && server.path.is_some())
    }
}
