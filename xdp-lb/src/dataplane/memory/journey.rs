//! Where the packet of a service goes: where its connection goes, else to the server that is chosen for it.

use std::net::SocketAddr;

use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::tick::LongTick;

use crate::config::model::{Protocol, ServiceKey};
use crate::plan::installed::ServerKey;

use super::connection::{Next, State, count, opens};
use super::frame::Packet;
use super::name::Name;
use super::outside::Outside;
use super::server::Life;
use super::table::{At, Before, Entry};
use super::{Connection, Memory};

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
    /// The state of its connection from here on, if that is another one or lives longer than before.
    pub becomes: Option<State>,
}

/// A packet of a service on its way.
pub(super) struct Journey<'a> {
    pub packet: Packet,
    pub key: ServiceKey,
    pub outside: &'a mut dyn Outside,
    pub events: Vec<Event>,
}

impl Journey<'_> {
    const fn name(&self) -> Name {
        Name::of(&self.packet)
    }

    fn hash(&self, memory: &Memory) -> u64 {
        self.name().hash(memory)
    }

    /// Where the packet goes: where its connection goes, else to the server that is chosen for it.
    pub(super) fn route(&mut self, memory: &mut Memory) -> Result<Route, Reason> {
        let (name, hash) = (self.name(), self.hash(memory));
        let found = memory.connections.find(&name, hash, memory.now);
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
                let is_renewed = self.renew(memory, at, connection, (state, until));
                Ok(Route {
                    server: connection.server,
                    via: Via::Connection,
                    opens: false,
                    becomes: is_renewed.then_some(state),
                })
            }
        }
    }

    /// Where an ICMP error goes: where the connection goes that it is about, or where that must have
    /// gone, as in [`Self::resume`]. Nothing comes of it: no connection, no template, no longer life.
    pub(super) fn follow(&self, memory: &Memory) -> Result<Route, Reason> {
        let hash = self.hash(memory);
        let to = |server, via| Route {
            server,
            via,
            opens: false,
            becomes: None,
        };
        if let Some((_, entry)) = memory.connections.find(&self.name(), hash, memory.now) {
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

    /// The connection lives on; whether that was told. At most once a tick, unless its state changes, so
    /// does the template of its client.
    fn renew(
        &self,
        memory: &mut Memory,
        at: At,
        old: Connection,
        (state, until): (State, LongTick),
    ) -> bool {
        let new = Connection { state, ..old };
        let renewed = memory.after(state.life(&memory.options.timeouts));
        if (state, renewed) == (old.state, until) {
            return false;
        }
        if let Some(entry) = memory.connections.at(at) {
            (entry.value, entry.until) = (new, renewed);
        }
        count(memory, Some(old), Some(new));
        if state.is_confirmed() {
            self.confirm_template(memory, old.server);
        }
        true
    }

    /// A new connection, in the way of one that is over if there is one.
    fn open(&mut self, memory: &mut Memory, instead_of: Option<At>) -> Result<Route, Reason> {
        let (server, via) = self.choose(memory).ok_or(Reason::NoRealServer)?;
        let state = State::opened_by(&self.packet);
        let mut route = Route {
            server,
            via,
            opens: true,
            becomes: Some(state),
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
            asked: None,
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
        let (key, value) = (self.name(), new);
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
            becomes: Some(state),
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
        let chance = &mut |servers: &[SocketAddr]| self.outside.pick(servers);
        let server = schedule.pick(&self.packet, &seen, chance)?;
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
