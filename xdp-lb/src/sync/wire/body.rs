//! What datagrams say.

use super::bytes::{Reader, Writer};
use super::records::{self, Told};
use crate::config::model::ServiceKey;
use crate::plan::pool::Override;
use crate::sync::digest::BUCKETS;
use crate::sync::record::{Overriding, Scope, ServiceName, Stamp, Summary};

/// Peers that a director tells of in a [`Hello`].
pub const MAX_HEARD: usize = 16;
/// Ranges in a request for what is missing.
pub const MAX_RANGES: usize = 16;

/// A message of one director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// It lives.
    Hello(Hello),
    /// The next part of its stream, or one again that was asked for.
    Stream {
        /// Its number, from 1, without gaps.
        seq: u64,
        /// What it says.
        part: Part,
    },
    /// These parts of the receiver's stream did not arrive.
    Missing(Vec<Range>),
    /// These parts of the sender's stream were asked for and are not there any more.
    Lost(Range),
    /// Tell these entries again, in the stream.
    Walk {
        /// Number of the request in the sender's session, from 1.
        id: u32,
        /// Which entries.
        scope: Scope,
    },
    /// Tell the digests of a service by bucket, in the stream.
    Compare(ServiceName),
}

/// A sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The number that the next part of the stream will have.
    pub next: u64,
    /// A fingerprint of the key of the connection table's hash.
    pub hash_key: u64,
    /// Whom the sender hears: shows each of them that this is of now.
    pub heard: Vec<Heard>,
}

/// A peer as a director hears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its session.
    pub session: u64,
    /// The next part of its stream that is waited for: everything before has been applied. 0: not
    /// following yet.
    pub next: u64,
}

/// Parts of a stream, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

/// A part of a director's stream: to be taken in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Entries that are new or changed, or were asked for.
    Records(Vec<Told>),
    /// From here on come the entries that were asked for.
    WalkBegins {
        /// Who asked.
        session: u64,
        /// Its number for the request.
        id: u32,
    },
    /// All entries that were asked for have come.
    WalkEnds {
        /// Who asked.
        session: u64,
        /// Its number for the request.
        id: u32,
    },
    /// What the sender holds at this point, by service.
    Summaries(Vec<Summary>),
    /// Digests of a service at this point, from bucket `first` on.
    Buckets {
        /// Of which service.
        service: ServiceName,
        /// The first bucket.
        first: u8,
        /// Their digests.
        digests: Vec<u64>,
    },
    /// Overrides of real servers, all of them, in as many parts as it takes.
    Overrides {
        /// When they were changed last.
        stamp: Stamp,
        /// Whether more of them follow.
        more: bool,
        /// Some of them.
        overrides: Vec<Overriding>,
    },
}

/// Numbers of the kinds on the wire.
pub mod kind {
    /// [`super::Message::Hello`].
    pub const HELLO: u8 = 1;
    /// [`super::Message::Stream`].
    pub const STREAM: u8 = 2;
    /// [`super::Message::Missing`].
    pub const MISSING: u8 = 3;
    /// [`super::Message::Lost`].
    pub const LOST: u8 = 4;
    /// [`super::Message::Walk`].
    pub const WALK: u8 = 5;
    /// [`super::Message::Compare`].
    pub const COMPARE: u8 = 6;
}

/// Numbers of the parts on the wire.
mod part {
    pub(super) const RECORDS: u8 = 1;
    pub(super) const WALK_BEGINS: u8 = 2;
    pub(super) const WALK_ENDS: u8 = 3;
    pub(super) const SUMMARIES: u8 = 4;
    pub(super) const BUCKETS: u8 = 5;
    pub(super) const OVERRIDES: u8 = 6;
}

/// Bytes of a part before its content: its number in the stream and its kind.
pub const PART_HEAD: usize = 9;

/// The number and body of a message that is no part of the stream.
pub fn write(message: &Message) -> (u8, Vec<u8>) {
    let mut writer = Writer::default();
    let kind = match message {
        Message::Hello(hello) => {
            writer.u64(hello.next);
            writer.u64(hello.hash_key);
            for heard in hello.heard.iter().take(MAX_HEARD) {
                writer.u64(heard.session);
                writer.u64(heard.next);
            }
            kind::HELLO
        }
        Message::Stream { seq, part } => return (kind::STREAM, write_part(*seq, part)),
        Message::Missing(ranges) => {
            for range in ranges.iter().take(MAX_RANGES) {
                writer.u64(range.first);
                writer.u64(range.last);
            }
            kind::MISSING
        }
        Message::Lost(range) => {
            writer.u64(range.first);
            writer.u64(range.last);
            kind::LOST
        }
        Message::Walk { id, scope } => {
            writer.u32(*id);
            match scope {
                Scope::All => writer.u8(0),
                Scope::Owned => writer.u8(1),
                Scope::Buckets { service, mask } => {
                    writer.u8(2);
                    writer.service(service);
                    writer.u128(*mask);
                }
            }
            kind::WALK
        }
        Message::Compare(service) => {
            writer.service(service);
            kind::COMPARE
        }
    };
    (kind, writer.finish())
}

/// The body of a part of the stream.
pub fn write_part(seq: u64, content: &Part) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u64(seq);
    match content {
        Part::Records(all) => {
            let mut packer = records::Packer::new(usize::MAX / 2);
            // There is room for all of them.
            let _never_full = all.iter().filter_map(|told| packer.push(told)).count();
            return write_records(seq, &packer.finish().unwrap_or_default());
        }
        Part::WalkBegins { session, id } => walk(&mut writer, part::WALK_BEGINS, *session, *id),
        Part::WalkEnds { session, id } => walk(&mut writer, part::WALK_ENDS, *session, *id),
        Part::Summaries(all) => {
            writer.u8(part::SUMMARIES);
            for summary in all {
                write_summary(&mut writer, summary);
            }
        }
        Part::Buckets {
            service,
            first,
            digests,
        } => {
            writer.u8(part::BUCKETS);
            writer.service(service);
            writer.u8(*first);
            for digest in digests {
                writer.u64(*digest);
            }
        }
        Part::Overrides {
            stamp,
            more,
            overrides,
        } => {
            writer.u8(part::OVERRIDES);
            writer.u64(stamp.millis);
            writer.u64(stamp.session);
            writer.u8(u8::from(*more));
            for one in overrides {
                write_override(&mut writer, one);
            }
        }
    }
    writer.finish()
}

/// The body of a part of the stream with entries that a [`records::Packer`] packed.
pub fn write_records(seq: u64, packed: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(PART_HEAD + packed.len());
    writer.u64(seq);
    writer.u8(part::RECORDS);
    writer.bytes(packed);
    writer.finish()
}

fn walk(writer: &mut Writer, part: u8, session: u64, id: u32) {
    writer.u8(part);
    writer.u64(session);
    writer.u32(id);
}

fn write_summary(writer: &mut Writer, summary: &Summary) {
    writer.service(&summary.service);
    writer.u8(u8::from(summary.is_owned));
    writer.u64(summary.view);
    writer.u32(summary.entries);
    writer.u64(summary.digest);
}

fn write_override(writer: &mut Writer, ((service, server), said): &Overriding) {
    writer.text(&service.to_string());
    writer.family(server.ip());
    writer.socket(*server);
    let weighed = u8::from(said.weight.is_some());
    writer.u8(weighed | u8::from(said.is_drained) << 1);
    writer.u32(said.weight.unwrap_or(0));
}

/// Reads a message; `None` if anything is wrong with it.
pub(super) fn read(kind: u8, body: &[u8]) -> Option<Message> {
    let reader = &mut Reader::new(body);
    let message = match kind {
        kind::HELLO => Message::Hello(read_hello(reader)?),
        kind::STREAM => {
            let seq = reader.u64()?;
            let part = read_part(reader)?;
            Message::Stream { seq, part }
        }
        kind::MISSING => Message::Missing(list(reader, MAX_RANGES, read_range)?),
        kind::LOST => Message::Lost(read_range(reader)?),
        kind::WALK => {
            let id = reader.u32()?;
            let scope = match reader.u8()? {
                0 => Scope::All,
                1 => Scope::Owned,
                2 => Scope::Buckets {
                    service: reader.service()?,
                    mask: reader.u128()?,
                },
                _ => return None,
            };
            Message::Walk { id, scope }
        }
        kind::COMPARE => Message::Compare(reader.service()?),
        _ => return None,
    };
    reader.is_empty().then_some(message)
}

/// All that is left, in equal pieces, `most` at most.
fn list<T>(
    reader: &mut Reader<'_>,
    most: usize,
    one: impl Fn(&mut Reader<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut all = Vec::new();
    while !reader.is_empty() {
        if all.len() == most {
            return None;
        }
        all.push(one(reader)?);
    }
    Some(all)
}

fn read_range(reader: &mut Reader<'_>) -> Option<Range> {
    let (first, last) = (reader.u64()?, reader.u64()?);
    // Numbers begin with 1; the last is not so near the end that what follows it has none.
    (first >= 1 && first <= last && last < u64::MAX / 2).then_some(Range { first, last })
}

fn read_hello(reader: &mut Reader<'_>) -> Option<Hello> {
    let (next, hash_key) = (reader.u64()?, reader.u64()?);
    let heard = list(reader, MAX_HEARD, |reader| {
        let (session, next) = (reader.u64()?, reader.u64()?);
        Some(Heard { session, next })
    })?;
    (1..u64::MAX / 2).contains(&next).then_some(Hello {
        next,
        hash_key,
        heard,
    })
}

fn read_part(reader: &mut Reader<'_>) -> Option<Part> {
    let kind = reader.u8()?;
    Some(match kind {
        part::RECORDS => {
            let all = records::read(reader.rest())?;
            *reader = Reader::new(&[]);
            Part::Records(all)
        }
        part::WALK_BEGINS => {
            let (session, id) = (reader.u64()?, reader.u32()?);
            Part::WalkBegins { session, id }
        }
        part::WALK_ENDS => {
            let (session, id) = (reader.u64()?, reader.u32()?);
            Part::WalkEnds { session, id }
        }
        part::SUMMARIES => Part::Summaries(list(reader, usize::MAX, read_summary)?),
        part::BUCKETS => {
            let (service, first) = (reader.service()?, reader.u8()?);
            let most = BUCKETS.checked_sub(first.into())?;
            Part::Buckets {
                service,
                first,
                digests: list(reader, most, read_word)?,
            }
        }
        part::OVERRIDES => {
            let (millis, session) = (reader.u64()?, reader.u64()?);
            let more = read_bool(reader)?;
            Part::Overrides {
                stamp: Stamp { millis, session },
                more,
                overrides: list(reader, usize::MAX, read_override)?,
            }
        }
        _ => return None,
    })
}

fn read_word(reader: &mut Reader<'_>) -> Option<u64> {
    reader.u64()
}

fn read_bool(reader: &mut Reader<'_>) -> Option<bool> {
    match reader.u8()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

fn read_summary(reader: &mut Reader<'_>) -> Option<Summary> {
    Some(Summary {
        service: reader.service()?,
        is_owned: read_bool(reader)?,
        view: reader.u64()?,
        entries: reader.u32()?,
        digest: reader.u64()?,
    })
}

fn read_override(reader: &mut Reader<'_>) -> Option<Overriding> {
    // By its name: operators may say something of a mark or a group, too.
    let name = reader.text()?;
    let service: ServiceKey = name
        .parse()
        .ok()
        .filter(|key: &ServiceKey| key.to_string() == name)?;
    let family = reader.family()?;
    let server = reader.socket(family)?;
    let (flags, weight) = (reader.u8()?, reader.u32()?);
    if flags > 3 || (flags & 1 == 0 && weight != 0) {
        return None;
    }
    let said = Override {
        weight: (flags & 1 == 1).then_some(weight),
        is_drained: flags & 2 != 0,
    };
    Some(((service, server), said))
}
