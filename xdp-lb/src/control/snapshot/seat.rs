//! The state of a real server in one word, and why.

use std::net::SocketAddr;

use super::{ServerState, SnapshotInputs};
use crate::config::model as config;
use crate::machine::Now;
use crate::plan::desired::Server;
use crate::plan::installed::ServerKey;
use crate::plan::pool::{Member, Override, Role};
use crate::plan::table::ServerHealth;

/// A place in the pool of a service, and all that is known of who sits there.
pub(super) struct Seat<'a> {
    pub(super) name: ServerKey,
    pub(super) planned: Option<&'a Server>,
    pub(super) said: Option<Override>,
    pub(super) since: Option<Now>,
    member: Option<&'a Member>,
    health: Option<&'a ServerHealth>,
    is_sorry: bool,
}

impl<'a> Seat<'a> {
    pub(super) fn find(
        inputs: &SnapshotInputs<'a>,
        of: &config::Member<'_>,
        address: SocketAddr,
    ) -> Self {
        let name = (of.key, of.server(address));
        let pool_name = of.service.key();
        let pooled = (pool_name, address);
        let pool = inputs.pools.get(&pool_name);
        let planned = inputs.desired.services.get(&of.key);
        let planned = planned.map(|service| service.servers.iter());
        let members = pool.map(|pool| pool.members.iter());
        Self {
            name,
            planned: planned.and_then(|mut all| all.find(|server| server.address == name.1)),
            said: inputs.overrides.get(&pooled).copied(),
            since: pool.and_then(|pool| pool.since.get(&address)).copied(),
            member: members.and_then(|mut all| all.find(|member| member.address == address)),
            health: inputs.health.get(&pooled),
            is_sorry: pool.is_some_and(|pool| pool.is_sorry),
        }
    }

    /// The weight in force; of one that is down that which it would have.
    pub(super) fn weight(&self, configured: u32) -> u32 {
        match (self.member, self.planned) {
            (Some(member), _) if member.weight == 0 && member.serving => 0,
            (Some(member), _) => member.full_weight,
            (None, Some(server)) => server.weight,
            (None, None) => configured,
        }
    }

    /// Upper and lower limit of connections in force, 0 for none.
    pub(super) fn thresholds(&self) -> [u32; 2] {
        let limit = self.planned.and_then(|server| server.limit);
        limit.map_or([0; 2], |limit| [limit.upper.get(), limit.lower])
    }

    /// From its place in the pool and in the tables, or from its health when it has none.
    pub(super) fn state(&self) -> (ServerState, Option<String>) {
        let (state, reason) = self.state_and_reason();
        (state, reason.map(Into::into))
    }

    fn state_and_reason(&self) -> (ServerState, Option<Reason<'_>>) {
        let healthy = self.health.is_none_or(|health| health.up);
        let serving = self.planned.map_or(healthy, |server| server.serving);
        let up = self.member.map_or(serving, |member| member.up);
        let Some(server) = self.planned.filter(|_| up) else {
            return (ServerState::Down, Some(self.failure(up)));
        };
        if server.reach.is_none() && server.weight > 0 {
            let reason = "no MAC address: neighbour not resolved";
            return (ServerState::Down, Some(Reason::Fixed(reason)));
        }
        let Some(member) = self.member else {
            return match server.weight {
                0 => (ServerState::Draining, None),
                _ => (ServerState::Up, None),
            };
        };
        let draining = |reason| (ServerState::Draining, Some(Reason::Fixed(reason)));
        match member.role {
            Role::Sorry if member.weight > 0 => (ServerState::Sorry, None),
            Role::Sorry => draining("the sorry server is not needed"),
            Role::Leaving => draining("not in the configuration any more"),
            Role::Real if self.is_sorry => draining("too little is up: the sorry server serves"),
            Role::Real if member.weight > 0 => (ServerState::Up, growth(member)),
            Role::Real if self.said.is_some_and(|said| said.is_drained) => {
                draining("drained by an operator")
            }
            Role::Real => (ServerState::Draining, None),
        }
    }

    fn failure(&self, up: bool) -> Reason<'_> {
        match self.health.and_then(|health| health.reason.as_deref()) {
            _ if up => Reason::Fixed("not in the tables yet"),
            Some(reason) => Reason::Fixed(reason),
            None => Reason::Fixed("its health checks fail"),
        }
    }
}

/// Why a server is in its state.
enum Reason<'a> {
    Fixed(&'a str),
    /// It grows, and has so many tenths of its weight.
    Grows(u32),
}

fn growth(member: &Member) -> Option<Reason<'static>> {
    (member.tenths < 10).then_some(Reason::Grows(member.tenths))
}

impl From<Reason<'_>> for String {
    fn from(reason: Reason<'_>) -> Self {
        match reason {
            Reason::Fixed(reason) => reason.to_owned(),
            Reason::Grows(tenths) => format!("slow start: {tenths}0 % of its weight"),
        }
    }
}
