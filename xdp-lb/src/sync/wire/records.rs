//! Entries on the wire, grouped by service and server so that those are said once.
//!
//! ```text
//! group:  flags 1 (1 the sender owns the service, 2 service is IPv6, 4 server is IPv6, 8 by mark)
//!         protocol 1, VIP 4/16, port 2; or mark 4
//!         server 4/16, port 2, count 2, entries
//! entry:  phase 1 (low four bits; 16: its port follows; 32, of a flow by mark: what it called follows)
//!         client 4/16, client's port 2 (not of a template)
//!         [port 2] or [protocol 1, VIP 4/16, port 2], remaining ms 4
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use super::bytes::{Reader, Writer};
use crate::config::model::{Endpoint, Family, Protocol};
use crate::sync::record::{Name, Phase, Record, ServiceName, Subject};

const OWNED: u8 = 1;
const SERVICE_V6: u8 = 2;
const SERVER_V6: u8 = 4;
const BY_MARK: u8 = 8;
const OWN_PORT: u8 = 16;
const CALLED: u8 = 32;

/// Bytes that an entry takes at most, its group's head included.
const LONGEST_ENTRY: usize = 1 + 19 + 18 + 2 + 1 + 18 + 19 + 4;

/// An entry, and whether its sender gets the packets of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The entry.
    pub record: Record,
    /// Whether the sender owns the service.
    pub is_owned: bool,
}

const fn number(phase: Phase) -> u8 {
    match phase {
        Phase::Established => 1,
        Phase::Fin => 2,
        Phase::Closed => 3,
        Phase::Udp => 4,
        Phase::Template => 5,
    }
}

fn phase(number_of: u8) -> Option<Phase> {
    Phase::ALL
        .into_iter()
        .find(|phase| number(*phase) == number_of)
}

/// What entries of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    service: ServiceName,
    server: SocketAddr,
    is_owned: bool,
}

impl Group {
    const fn of(told: &Told) -> Self {
        Self {
            service: told.record.name.service,
            server: told.record.server,
            is_owned: told.is_owned,
        }
    }
}

/// Puts entries into bodies of at most `room` bytes each.
#[derive(Debug)]
pub struct Packer {
    room: usize,
    writer: Writer,
    /// The group that is open: where its count stands, and the count.
    open: Option<(Group, usize, u16)>,
}

impl Packer {
    /// An empty one.
    pub fn new(room: usize) -> Self {
        Self {
            room,
            writer: Writer::default(),
            open: None,
        }
    }

    /// Adds an entry; returns the body that is full without it, if so.
    pub fn push(&mut self, told: &Told) -> Option<Vec<u8>> {
        let full = (self.writer.len() + LONGEST_ENTRY > self.room).then(|| self.take());
        let group = Group::of(told);
        let (at, count) = match self.open {
            Some((open, at, count)) if open == group && count < u16::MAX => (at, count),
            _ => (self.begin(&group), 0),
        };
        entry(&mut self.writer, &told.record);
        let count = count + 1;
        self.writer.patch(at, &count.to_be_bytes());
        self.open = Some((group, at, count));
        full.filter(|body| !body.is_empty())
    }

    /// What is left, if anything is.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        Some(self.take()).filter(|body| !body.is_empty())
    }

    fn take(&mut self) -> Vec<u8> {
        self.open = None;
        std::mem::take(&mut self.writer).finish()
    }

    /// Writes the head of a group; where its count stands.
    fn begin(&mut self, group: &Group) -> usize {
        let flag = |on: bool, flag: u8| if on { flag } else { 0 };
        self.writer.u8(flag(group.is_owned, OWNED)
            | flag(group.service.family() == Family::V6, SERVICE_V6)
            | flag(group.server.is_ipv6(), SERVER_V6)
            | flag(matches!(group.service, ServiceName::Mark(_)), BY_MARK));
        match &group.service {
            ServiceName::Endpoint(endpoint) => self.writer.endpoint(endpoint),
            ServiceName::Mark(mark) => self.writer.u32(mark.mark),
        }
        self.writer.socket(group.server);
        let at = self.writer.len();
        self.writer.u16(0);
        at
    }
}

fn entry(writer: &mut Writer, record: &Record) {
    let phase = number(record.phase);
    match record.name.subject {
        Subject::Flow { client, called } => {
            let own = match record.name.service {
                ServiceName::Mark(_) => CALLED,
                ServiceName::Endpoint(service) if service.port != called.port => OWN_PORT,
                ServiceName::Endpoint(_) => 0,
            };
            writer.u8(phase | own);
            writer.socket(client);
            match own {
                CALLED => writer.endpoint(&called),
                OWN_PORT => writer.u16(called.port),
                _ => {}
            }
        }
        Subject::Template { client } => {
            writer.u8(phase);
            writer.ip(client);
        }
    }
    writer.u32(u32::try_from(record.remaining.as_millis()).unwrap_or(u32::MAX));
}

/// Reads all groups; `None` if anything is wrong with any of them.
pub fn read(body: &[u8]) -> Option<Vec<Told>> {
    let mut reader = Reader::new(body);
    let mut all = Vec::new();
    while !reader.is_empty() {
        read_group(&mut reader, &mut all)?;
    }
    Some(all)
}

fn read_group(reader: &mut Reader<'_>, all: &mut Vec<Told>) -> Option<()> {
    let flags = reader.u8()?;
    if flags & !(OWNED | SERVICE_V6 | SERVER_V6 | BY_MARK) != 0 {
        return None;
    }
    let family = |flag| {
        if flags & flag == 0 {
            Family::V4
        } else {
            Family::V6
        }
    };
    let service = if flags & BY_MARK == 0 {
        ServiceName::Endpoint(reader.endpoint(family(SERVICE_V6))?)
    } else {
        ServiceName::Mark(reader.mark(family(SERVICE_V6))?)
    };
    let server = reader.socket(family(SERVER_V6))?;
    let is_owned = flags & OWNED != 0;
    let count = reader.u16()?;
    for _ in 0..count {
        let record = read_entry(reader, service, server)?;
        all.push(Told { record, is_owned });
    }
    Some(())
}

fn read_entry(reader: &mut Reader<'_>, service: ServiceName, server: SocketAddr) -> Option<Record> {
    let head = reader.u8()?;
    let phase = phase(head & 15)?;
    let own = head & !15;
    let subject = if phase == Phase::Template {
        if own != 0 {
            return None;
        }
        let client = reader.ip(service.family())?;
        Subject::Template { client }
    } else {
        let client = reader.socket(service.family())?;
        let called = read_called(reader, service, own)?;
        if (called.protocol == Protocol::Udp) != (phase == Phase::Udp) {
            return None;
        }
        Subject::Flow { client, called }
    };
    let remaining = Duration::from_millis(reader.u32()?.into());
    Some(Record {
        name: Name { service, subject },
        server,
        phase,
        remaining,
    })
}

fn read_called(reader: &mut Reader<'_>, service: ServiceName, own: u8) -> Option<Endpoint> {
    match (service, own) {
        (ServiceName::Endpoint(service), 0) => Some(service),
        (ServiceName::Endpoint(service), OWN_PORT) => {
            let port = reader.u16()?;
            Some(Endpoint { port, ..service })
        }
        (ServiceName::Mark(mark), CALLED) => reader.endpoint(mark.family),
        _ => None,
    }
}
