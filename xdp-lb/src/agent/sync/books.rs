//! The tables of connections as [`Ledger`]: what was told of them, and what peers tell put into them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xdp_lb_common::addr::Address;
use xdp_lb_common::conn::State;
use xdp_lb_common::flow::FlowInfo;
use xdp_lb_common::tick::{LongTick, Tick};

use crate::config::model::{Endpoint, Family, Protocol};
use crate::dataplane::ebpf::shared::{Kept, Shared};
use crate::sync::digest::{BUCKETS, Sums, word};
use crate::sync::key::Keys;
use crate::sync::mirror::{Applied, Ledger};
use crate::sync::record::{Name, Phase, Record, Scope, ServiceName, Subject, Summary, replaces};
use crate::sync::shadow::{Described, Shadow, Totals};
use crate::sync::wire::records::Told;

/// Ways that a piece of a walk looks at, at most.
const WAYS: usize = 65_536;
/// Entries of a piece of a walk; a few more than fit into a burst of datagrams.
const ENTRIES: usize = 2000;
/// Entries that are told at once.
const BATCH: usize = 4096;

/// The tables, and what was told of them.
#[derive(Debug)]
pub(super) struct Books {
    shared: Shared,
    keys: Keys,
    connections: Shadow,
    templates: Shadow,
    totals: Totals,
    views: BTreeMap<ServiceName, u64>,
    now: LongTick,
    /// Whether what stood in the tables at the start has been noted; peers ask for it.
    has_begun: bool,
}

impl Books {
    pub(super) fn new(mut shared: Shared, keys: Keys) -> Self {
        let now = shared.now();
        Self {
            connections: Shadow::new(shared.ways(Kept::Connections)),
            templates: Shadow::new(shared.ways(Kept::Templates)),
            shared,
            keys,
            totals: Totals::new(),
            views: BTreeMap::new(),
            now,
            has_begun: false,
        }
    }

    pub(super) fn set_views(&mut self, views: BTreeMap<ServiceName, u64>) {
        self.views = views;
    }

    /// Takes the time, and in which names came and went.
    pub(super) fn refresh(&mut self) {
        self.now = self.shared.now();
        self.shared.learn();
    }

    /// Looks for what is new or has changed in the tables; `tell` takes it, some at a time.
    pub(super) fn scan(&mut self, mut tell: impl FnMut(&mut Self, Vec<Record>)) {
        let mut records = Vec::new();
        for kept in [Kept::Connections, Kept::Templates] {
            let (mut from, end) = (0, self.shared.ways(kept));
            while from < end {
                for way in self.changed(kept, from, WAYS) {
                    self.note(kept, way, &mut records);
                    if records.len() >= BATCH {
                        self.pass_on(&mut records, &mut tell);
                    }
                }
                from += WAYS;
            }
        }
        self.pass_on(&mut records, &mut tell);
        self.has_begun = true;
    }

    fn pass_on(
        &mut self,
        records: &mut Vec<Record>,
        tell: &mut impl FnMut(&mut Self, Vec<Record>),
    ) {
        let records = std::mem::take(records);
        if self.has_begun && !records.is_empty() {
            tell(self, records);
        }
    }

    /// Ways that have changed since they were told.
    fn changed(&self, kept: Kept, from: usize, most: usize) -> Vec<usize> {
        let (shadow, now) = (self.shadow(kept), self.now.short());
        let states = self.shared.states(kept, from, most);
        let ways = states.zip(from..);
        ways.filter(|(state, way)| !shadow.is_told(*way, *state, now))
            .map(|(_, way)| way)
            .collect()
    }

    const fn shadow(&self, kept: Kept) -> &Shadow {
        match kept {
            Kept::Connections => &self.connections,
            Kept::Templates => &self.templates,
        }
    }

    fn note(&mut self, kept: Kept, way: usize, records: &mut Vec<Record>) {
        let Some(state) = self.shared.states(kept, way, 1).next() else {
            return;
        };
        let mut described = None;
        if let Some(phase) = self.phase(state) {
            let Some(info) = self.shared.describe(kept, way) else {
                // Its other half is being written: the next scan sees it.
                return;
            };
            described = self.described(kept, state, &info);
            if let Some(described) = &described {
                records.push(self.record(state, phase, described));
            }
        }
        self.keep(kept, way, state, described.as_ref());
    }

    fn keep(&mut self, kept: Kept, way: usize, state: State, described: Option<&Described>) {
        let shadow = match kept {
            Kept::Connections => &mut self.connections,
            Kept::Templates => &mut self.templates,
        };
        shadow.note(way, state, described, &mut self.totals);
    }

    /// What is told of a state, if it lives.
    fn phase(&self, state: State) -> Option<Phase> {
        Phase::of(state.kind()).filter(|_| state.is_free(self.now.short()) == 0)
    }

    fn described(&self, kept: Kept, state: State, info: &FlowInfo) -> Option<Described> {
        let (service, server) = self.shared.server(state)?;
        let client = info.client.to_ip(info.family)?;
        let subject = match kept {
            Kept::Connections => Subject::Flow {
                client: SocketAddr::new(client, u16::from_be(info.client_port_be)),
                called: Endpoint {
                    vip: info.vip.to_ip(info.family)?,
                    port: u16::from_be(info.vip_port_be),
                    protocol: Protocol::from_number(info.protocol)?,
                },
            },
            Kept::Templates => Subject::Template { client },
        };
        let name = Name { service, subject };
        Some(Described {
            name,
            service: self.shared.service_id(&service)?,
            server,
            word: word(&self.keys, &name, server),
        })
    }

    fn record(&self, state: State, phase: Phase, described: &Described) -> Record {
        let ticks = state.expiry().remaining(self.now.short());
        Record {
            name: described.name,
            server: described.server,
            phase,
            remaining: self.shared.duration(ticks),
        }
    }

    /// What a packet of the flow would write down; `None` if the service does not exist here, or keeps
    /// no templates.
    fn info(&self, name: &Name) -> Option<(Kept, FlowInfo)> {
        let service = self.shared.service_id(&name.service)?;
        let (kept, client, port, called) = match name.subject {
            Subject::Flow { client, called } => {
                (Kept::Connections, client.ip(), client.port(), called)
            }
            Subject::Template { client } => (Kept::Templates, client, 0, called(&name.service)),
        };
        if kept == Kept::Templates && self.shared.persistence(service) == 0 {
            return None;
        }
        let (client, family) = Address::from_ip(client);
        let (vip, vip_family) = Address::from_ip(called.vip);
        let info = FlowInfo {
            client,
            vip,
            client_port_be: port.to_be(),
            vip_port_be: called.port.to_be(),
            protocol: called.protocol.number(),
            family,
            service,
            created: self.now.short().0,
            ..FlowInfo::default()
        };
        (family == vip_family).then_some((kept, info))
    }

    fn read_way(&self, kept: Kept, way: usize, state: State, scope: &Scope) -> Option<Record> {
        let phase = self.phase(state)?;
        let word = self.shadow(kept).word(way);
        if word == 0 && matches!(scope, Scope::Buckets { .. }) {
            return None;
        }
        let info = self.shared.describe(kept, way)?;
        let described = self.described(kept, state, &info)?;
        let is_owned = *scope == Scope::Owned && self.owns(&described.name.service);
        let is_covered = scope.covers(&described.name, word, is_owned);
        is_covered.then(|| self.record(state, phase, &described))
    }
}

impl Ledger for Books {
    fn owns(&self, service: &ServiceName) -> bool {
        self.shared.owns(service, self.now)
    }

    fn apply(&mut self, told: &Told) -> Applied {
        let Record {
            name,
            server,
            phase,
            remaining,
        } = told.record;
        let backend = self.shared.server_id(&name.service, server);
        let (Some(backend), Some((kept, info))) = (backend, self.info(&name)) else {
            return Applied::Unknown;
        };
        let now: Tick = self.now.short();
        let standing = self.shared.find(kept, &info, now);
        let standing = standing.filter(|state| self.shared.server(*state).is_some());
        if standing.is_some() && !replaces(told.is_owned, self.owns(&name.service)) {
            return Applied::Kept;
        }
        if standing.is_none() && phase == Phase::Closed {
            // It would take a way for nothing.
            return Applied::Stands;
        }
        let expiry = now.after(self.shared.ticks(remaining));
        let put = self
            .shared
            .put(kept, &info, (phase.kind(), backend), (expiry, now));
        let Some((way, state)) = put else {
            return Applied::Full;
        };
        let described = Described {
            name,
            service: info.service,
            server,
            word: word(&self.keys, &name, server),
        };
        self.keep(kept, way, state, Some(&described));
        Applied::Stands
    }

    fn read(&mut self, cursor: u64, scope: &Scope, entries: &mut Vec<Record>) -> Option<u64> {
        let connections = self.shared.ways(Kept::Connections);
        let cursor = usize::try_from(cursor).unwrap_or(usize::MAX);
        let (kept, from, before) = if cursor < connections {
            (Kept::Connections, cursor, 0)
        } else {
            (Kept::Templates, cursor - connections, connections)
        };
        let mut next = from;
        for (state, way) in self.shared.states(kept, from, WAYS).zip(from..) {
            next = way + 1;
            entries.extend(self.read_way(kept, way, state, scope));
            if entries.len() >= ENTRIES {
                break;
            }
        }
        let end = connections + self.shared.ways(Kept::Templates);
        let next = before + next;
        (next < end).then_some(next as u64)
    }

    fn summaries(&mut self) -> Vec<Summary> {
        let services: Vec<ServiceName> = self.shared.services().map(|(key, _)| *key).collect();
        let all = services.iter().filter_map(|service| self.summary(service));
        all.collect()
    }

    fn summary(&mut self, service: &ServiceName) -> Option<Summary> {
        let index = self.shared.service_id(service)?;
        let sums = self.totals.get(&index);
        Some(Summary {
            service: *service,
            view: self.views.get(service).copied().unwrap_or(0),
            is_owned: self.owns(service),
            entries: sums.map_or(0, Sums::entries),
            digest: sums.map_or(0, Sums::total),
        })
    }

    fn buckets(&mut self, service: &ServiceName) -> Option<[u64; BUCKETS]> {
        let index = self.shared.service_id(service)?;
        let sums = self.totals.get(&index);
        Some(sums.map_or([0; BUCKETS], |sums| *sums.buckets()))
    }
}

/// What stands beside a template. A client of a mark may have called anything.
const fn called(service: &ServiceName) -> Endpoint {
    match service {
        ServiceName::Endpoint(endpoint) => *endpoint,
        ServiceName::Mark(mark) => Endpoint {
            vip: match mark.family {
                Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            },
            port: 0,
            protocol: Protocol::Tcp,
        },
    }
}
