//! Directors with tables of their own, and a network between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use xdp_lb::config::model::{Endpoint, Family, Mark, Protocol};
use xdp_lb::machine::Now;
use xdp_lb::sync::Settings;
use xdp_lb::sync::digest::{BUCKETS, Sums, word};
use xdp_lb::sync::event::Event;
use xdp_lb::sync::key::{Keys, Secret};
use xdp_lb::sync::mirror::{Action, Applied, Destination, Input, Ledger, Mirror};
use xdp_lb::sync::record::{Name, Phase, Record, Scope, ServiceName, Summary, replaces};
use xdp_lb::sync::wire::records::Told;

use crate::random::Random;

/// Entries that a piece of a walk holds.
const PIECE: usize = 40;

pub(crate) fn keys(byte: u8) -> Keys {
    Keys::of(&Secret::new(vec![byte; 32]).unwrap()).unwrap()
}

/// Even ones are TCP over IPv4, odd ones UDP over IPv6; from 2 on they are by mark.
pub(crate) fn service(number: u8) -> ServiceName {
    let called = called(number);
    if number < 2 {
        return called.into();
    }
    let family = Family::of(called.vip);
    let mark = u32::from(number);
    Mark { mark, family }.into()
}

/// What its clients call.
pub(crate) fn called(number: u8) -> Endpoint {
    let (vip, protocol): (IpAddr, _) = if number.is_multiple_of(2) {
        (Ipv4Addr::new(192, 0, 2, number).into(), Protocol::Tcp)
    } else {
        let vip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into());
        (vip.into(), Protocol::Udp)
    };
    Endpoint {
        vip,
        port: 443,
        protocol,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) server: SocketAddr,
    pub(crate) phase: Phase,
    pub(crate) ends: Now,
    /// Its digest.
    word: u64,
}

/// A table, in plain form.
pub(crate) struct Table {
    keys: Keys,
    now: Now,
    pub(crate) entries: BTreeMap<Name, Entry>,
    pub(crate) owned: BTreeSet<ServiceName>,
}

impl Table {
    fn new() -> Self {
        Self {
            keys: keys(1),
            now: Now::ZERO,
            entries: BTreeMap::new(),
            owned: BTreeSet::new(),
        }
    }

    fn expire(&mut self) {
        let now = self.now;
        self.entries.retain(|_, entry| entry.ends > now);
    }

    fn sums(&self, service: &ServiceName) -> Sums {
        let mut sums = Sums::default();
        for (name, entry) in &self.entries {
            if name.service == *service && entry.phase.is_lasting() {
                sums.add(entry.word);
            }
        }
        sums
    }
}

impl Ledger for Table {
    fn owns(&self, service: &ServiceName) -> bool {
        self.owned.contains(service)
    }

    fn apply(&mut self, told: &Told) -> Applied {
        let Record {
            name,
            server,
            phase,
            remaining,
        } = told.record;
        let replaces = replaces(told.is_owned, self.owns(&name.service));
        if self.entries.contains_key(&name) && !replaces {
            return Applied::Kept;
        }
        let ends = self.now.after(remaining);
        let entry = Entry {
            server,
            phase,
            ends,
            word: word(&self.keys, &name, server),
        };
        self.entries.insert(name, entry);
        Applied::Stands
    }

    fn read(&mut self, cursor: u64, scope: &Scope, entries: &mut Vec<Record>) -> Option<u64> {
        let all = self.entries.iter();
        let mut left: Vec<_> = all
            .map(|(name, entry)| (place(&self.keys, name), name, entry))
            .filter(|(place, ..)| *place >= cursor)
            .collect();
        left.sort_unstable_by_key(|(place, ..)| *place);
        for (_, name, entry) in left.iter().take(PIECE) {
            let is_owned = self.owned.contains(&name.service);
            if scope.covers(name, entry.word, is_owned) {
                entries.push(record(self.now, name, entry));
            }
        }
        left.get(PIECE).map(|(place, ..)| *place)
    }

    fn summaries(&mut self) -> Vec<Summary> {
        (0..4).filter_map(|n| self.summary(&service(n))).collect()
    }

    fn summary(&mut self, service: &ServiceName) -> Option<Summary> {
        let sums = self.sums(service);
        Some(Summary {
            service: *service,
            view: 7,
            is_owned: self.owns(service),
            entries: sums.entries(),
            digest: sums.total(),
        })
    }

    fn buckets(&mut self, service: &ServiceName) -> Option<[u64; BUCKETS]> {
        Some(*self.sums(service).buckets())
    }
}

/// Where an entry stands in a table: as a way, it stays there whatever else comes and goes, so that a
/// walk passes over nothing.
fn place(keys: &Keys, name: &Name) -> u64 {
    word(keys, name, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0))
}

fn record(now: Now, name: &Name, entry: &Entry) -> Record {
    Record {
        name: *name,
        server: entry.server,
        phase: entry.phase,
        remaining: now.until(entry.ends),
    }
}

pub(crate) struct Director {
    pub(crate) address: SocketAddr,
    pub(crate) table: Table,
    pub(crate) mirror: Mirror,
    /// What changed and was not yet seen by the scan.
    pub(crate) dirty: BTreeSet<Name>,
    pub(crate) said: Vec<(Now, Event)>,
    pub(crate) up_to_date: bool,
    sessions: u64,
}

/// How the network treats datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) lost_percent: u64,
    pub(crate) doubled_percent: u64,
    /// The longest a datagram takes, milliseconds.
    pub(crate) slowest: u64,
}

pub(crate) const CALM: Weather = Weather {
    lost_percent: 0,
    doubled_percent: 0,
    slowest: 1,
};

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) directors: Vec<Director>,
    pub(crate) weather: Weather,
    /// Pairs that do not hear each other; the first does not reach the second.
    pub(crate) cut: BTreeSet<(usize, usize)>,
    pub(crate) random: Random,
    flying: BTreeMap<(Now, u64), (usize, SocketAddr, Vec<u8>)>,
    number: u64,
    scan: Now,
    /// All datagrams ever sent, for those who replay them.
    pub(crate) recorded: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) most: (usize, usize),
}

fn address(director: usize) -> SocketAddr {
    let last = u8::try_from(director + 1).unwrap();
    SocketAddr::new(Ipv4Addr::new(198, 51, 100, last).into(), 8848)
}

fn mirror(now: Now, director: usize, of: usize, session: u64) -> Mirror {
    let others = (0..of).filter(|other| *other != director);
    Mirror::new(
        now,
        Settings {
            keys: keys(1),
            cluster: 9,
            session: session << 8 | (director as u64 + 1),
            epoch: 1_000_000 + u64::try_from(now.0.as_millis()).unwrap(),
            peers: others.map(address).collect(),
            longest: 600,
            hash_key: 5,
        },
    )
}

impl World {
    pub(crate) fn new(directors: usize, seed: u64) -> Self {
        let all = (0..directors).map(|director| Director {
            address: address(director),
            table: Table::new(),
            mirror: mirror(Now::ZERO, director, directors, 1),
            dirty: BTreeSet::new(),
            said: Vec::new(),
            up_to_date: false,
            sessions: 1,
        });
        Self {
            now: Now::ZERO,
            directors: all.collect(),
            weather: CALM,
            cut: BTreeSet::new(),
            random: Random::new(seed),
            flying: BTreeMap::new(),
            number: 0,
            scan: Now::ZERO,
            recorded: Vec::new(),
            most: (0, 0),
        }
    }

    /// A director ends and starts; its tables stay or not.
    pub(crate) fn restart(&mut self, director: usize, keeps_tables: bool) {
        let (now, of) = (self.now, self.directors.len());
        let it = &mut self.directors[director];
        it.sessions += 1;
        it.mirror = mirror(now, director, of, it.sessions);
        it.up_to_date = false;
        it.dirty.clear();
        if !keeps_tables {
            it.table.entries.clear();
        }
    }

    /// A packet changes an entry of a director's table.
    pub(crate) fn touch(&mut self, director: usize, name: Name, server: SocketAddr, phase: Phase) {
        let life = match phase {
            Phase::Established | Phase::Template => 900,
            Phase::Fin => 120,
            Phase::Closed => 10,
            Phase::Udp => 300,
        };
        let ends = self.now.after(Duration::from_secs(life));
        let it = &mut self.directors[director];
        let entry = Entry {
            server,
            phase,
            ends,
            word: word(&it.table.keys, &name, server),
        };
        it.table.entries.insert(name, entry);
        it.dirty.insert(name);
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now.after(Duration::from_millis(millis));
        while self.now < end {
            let deadlines = self.directors.iter().filter_map(|d| d.mirror.deadline());
            let flying = self.flying.keys().next().map(|(at, _)| *at);
            let next = deadlines.chain(flying).chain([self.scan, end]).min();
            self.now = next.unwrap().max(self.now);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now;
        for director in 0..self.directors.len() {
            self.directors[director].table.now = now;
            if self.scan <= now {
                self.directors[director].table.expire();
                self.scan_table(director);
            }
            let is_due = |mirror: &Mirror| mirror.deadline().is_some_and(|at| at <= now);
            if is_due(&self.directors[director].mirror) {
                let it = &mut self.directors[director];
                let mut actions = Vec::new();
                it.mirror.expire(now, &mut it.table, &mut actions);
                assert!(!is_due(&it.mirror), "what is due is done");
                self.carry_out(director, actions);
            }
        }
        if self.scan <= now {
            self.scan = now.after(Duration::from_millis(50));
        }
        while let Some(first) = self.flying.first_entry() {
            if first.key().0 > now {
                break;
            }
            let (to, from, datagram) = first.remove();
            self.deliver(to, from, datagram);
        }
        for it in &self.directors {
            let (bytes, held) = it.mirror.memory();
            self.most = (self.most.0.max(bytes), self.most.1.max(held));
        }
    }

    fn scan_table(&mut self, director: usize) {
        let now = self.now;
        let it = &mut self.directors[director];
        let dirty = std::mem::take(&mut it.dirty);
        let entries = dirty.iter().filter_map(|name| {
            let entry = it.table.entries.get(name)?;
            Some(record(now, name, entry))
        });
        let changed: Vec<Record> = entries.collect();
        if !changed.is_empty() {
            self.input(director, Input::Changed(changed));
        }
    }

    pub(crate) fn deliver(&mut self, to: usize, from: SocketAddr, datagram: Vec<u8>) {
        self.input(to, Input::Received { from, datagram });
    }

    pub(crate) fn input(&mut self, director: usize, input: Input) {
        let mut actions = Vec::new();
        let it = &mut self.directors[director];
        it.table.now = self.now;
        it.mirror
            .handle(self.now, input, &mut it.table, &mut actions);
        self.carry_out(director, actions);
    }

    fn carry_out(&mut self, director: usize, actions: Vec<Action>) {
        let from = self.directors[director].address;
        for action in actions {
            match action {
                Action::Send { to, datagram } => {
                    assert!(datagram.len() <= 600, "{} bytes", datagram.len());
                    self.recorded.push((from, datagram.clone()));
                    for other in 0..self.directors.len() {
                        let is_meant = match to {
                            Destination::All => other != director,
                            Destination::Peer(peer) => peer == self.directors[other].address,
                        };
                        if is_meant {
                            self.fly(director, other, &datagram);
                        }
                    }
                }
                Action::UpToDate(is) => self.directors[director].up_to_date = is,
                Action::Adopt { .. } => {}
                Action::Say(event) => self.directors[director].said.push((self.now, event)),
            }
        }
    }

    fn fly(&mut self, from: usize, to: usize, datagram: &[u8]) {
        let source = self.directors[from].address;
        if self.cut.contains(&(from, to)) || self.random.percent(self.weather.lost_percent) {
            return;
        }
        let copies = 1 + usize::from(self.random.percent(self.weather.doubled_percent));
        for _ in 0..copies {
            let delay = self.random.below(self.weather.slowest * 1000);
            let at = self.now.after(Duration::from_micros(delay));
            self.number += 1;
            self.flying
                .insert((at, self.number), (to, source, datagram.to_vec()));
        }
    }

    /// What a director holds, but for what ends within seconds.
    pub(crate) fn holds(&self, director: usize) -> BTreeMap<Name, (SocketAddr, Phase)> {
        let soon = self.now.after(Duration::from_secs(5));
        let entries = self.directors[director].table.entries.iter();
        let lasting = entries.filter(|(_, entry)| entry.ends > soon);
        lasting
            .map(|(name, entry)| (*name, (entry.server, entry.phase)))
            .collect()
    }
}
