//! The own stream: what goes into it, and how it gets out.

use std::net::IpAddr;

use super::{Action, Destination, Ledger, Mirror, Serving};
use crate::sync::digest::BUCKETS;
use crate::sync::record::{Record, Scope, ServiceName};
use crate::sync::wire::body::{MAX_HEARD, kind, write, write_part, write_records};
use crate::sync::wire::records::{Packer, Told};
use crate::sync::wire::{self, Header, Heard, Hello, Message, Part};
use crate::sync::{BURST, HELLO, PACE};

/// Bytes of a summary at most.
const SUMMARY: usize = 20 + 1 + 8 + 4 + 8;
/// Bytes of an override at most.
/// The name of a group, behind its protocol.
const LONGEST_NAME: usize = 11 + crate::config::model::GroupName::LONGEST;
const OVERRIDE: usize = 1 + LONGEST_NAME + 1 + 18 + 1 + 4;
/// Bytes before the digests of buckets at most.
const BUCKETS_HEAD: usize = 20 + 1;
/// Bytes before overrides.
const OVERRIDES_HEAD: usize = 17;
/// Pieces of the tables that are looked through in a burst.
const READS: usize = 4;
/// Offers that wait for their turn.
const OFFERS: usize = 16;

impl Mirror {
    fn header(&mut self, to: u64) -> Header {
        self.nonce += 1;
        Header {
            cluster: self.settings.cluster,
            session: self.settings.session,
            epoch: self.settings.epoch,
            nonce: self.nonce,
            to,
        }
    }

    fn send(&mut self, to: Destination, session: u64, kind: u8, body: &[u8]) -> Action {
        let header = self.header(session);
        let datagram = wire::seal(&self.settings.keys, &header, kind, body);
        self.stats.datagrams_sent += 1;
        self.stats.bytes_sent += datagram.len() as u64;
        Action::Send { to, datagram }
    }

    /// Sends a message to one peer.
    pub(super) fn send_to(
        &mut self,
        ip: IpAddr,
        session: u64,
        message: &Message,
        actions: &mut Vec<Action>,
    ) {
        let Some(address) = self.peers.get(&ip).map(|peer| peer.address) else {
            return;
        };
        let (kind, body) = write(message);
        let action = self.send(Destination::Peer(address), session, kind, &body);
        actions.push(action);
    }

    pub(super) fn say_hello(&mut self, actions: &mut Vec<Action>) {
        self.hello = self.now.after(HELLO);
        let heard = self.peers.values().flat_map(|peer| {
            let next = peer.incoming.next();
            let current = peer.current();
            peer.to_repeat().map(move |session| Heard {
                session,
                next: if current == Some(session) { next } else { 0 },
            })
        });
        let hello = Message::Hello(Hello {
            next: self.outgoing.next(),
            hash_key: self.settings.hash_key,
            heard: heard.take(MAX_HEARD).collect(),
        });
        let (kind, body) = write(&hello);
        let action = self.send(Destination::All, 0, kind, &body);
        actions.push(action);
    }

    /// Puts entries into the stream.
    pub(super) fn tell(&mut self, records: &[Record], ledger: &impl Ledger) {
        let mut packer = Packer::new(self.settings.room());
        let mut known: Option<(ServiceName, bool)> = None;
        for record in records {
            let service = record.name.service;
            let is_owned = match known {
                Some((of, is_owned)) if of == service => is_owned,
                _ => {
                    let is_owned = ledger.owns(&service);
                    if is_owned {
                        self.note_teller(service, None, true);
                    }
                    is_owned
                }
            };
            known = Some((service, is_owned));
            let told = Told {
                record: *record,
                is_owned,
            };
            if let Some(full) = packer.push(&told) {
                self.outgoing.push(|seq| write_records(seq, &full));
            }
        }
        if let Some(rest) = packer.finish() {
            self.outgoing.push(|seq| write_records(seq, &rest));
        }
        if self.peers.values().all(|peer| peer.current().is_none()) {
            // Whoever comes follows from here on, and asks for what was before.
            self.outgoing.skip();
        }
    }

    fn tell_part(&mut self, part: &Part) {
        self.outgoing.push(|seq| write_part(seq, part));
    }

    pub(super) fn tell_summaries(&mut self, ledger: &mut impl Ledger) {
        let fit = (self.settings.room() / SUMMARY).max(1);
        for some in ledger.summaries().chunks(fit) {
            self.tell_part(&Part::Summaries(some.to_vec()));
        }
    }

    pub(super) fn tell_buckets(&mut self, service: &ServiceName, ledger: &mut impl Ledger) {
        let Some(all) = ledger.buckets(service) else {
            return;
        };
        let fit = (self.settings.room() - BUCKETS_HEAD) / 8;
        for (some, first) in all.chunks(fit).zip((0..BUCKETS).step_by(fit)) {
            self.tell_part(&Part::Buckets {
                service: *service,
                first: u8::try_from(first).unwrap_or(u8::MAX),
                digests: some.to_vec(),
            });
        }
    }

    pub(super) fn tell_overrides(&mut self) {
        let fit = ((self.settings.room() - OVERRIDES_HEAD) / OVERRIDE).max(1);
        let stamp = self.ordered.stamp;
        let all = std::mem::take(&mut self.ordered.overrides);
        let mut left = all.as_slice();
        loop {
            let (some, rest) = left.split_at(fit.min(left.len()));
            left = rest;
            self.tell_part(&Part::Overrides {
                stamp,
                more: !left.is_empty(),
                overrides: some.to_vec(),
            });
            if left.is_empty() {
                break;
            }
        }
        self.ordered.overrides = all;
    }

    /// Tells entries again without being asked: a peer differs in them, and may lack what stands here.
    pub(super) fn offer(&mut self, scope: Scope) {
        if self.serving.len() < OFFERS {
            self.serving.push_back(Serving {
                request: None,
                scope,
                cursor: 0,
                has_begun: false,
            });
        }
    }

    /// One burst: what is new, then what was asked for again, then walks.
    pub(super) fn send_stream(&mut self, ledger: &mut impl Ledger, actions: &mut Vec<Action>) {
        if !self.has_to_send() {
            return;
        }
        self.pace = self.now.after(PACE);
        let mut room = BURST;
        self.repeat(&mut room, actions);
        self.send_new(&mut room, actions);
        for _ in 0..READS {
            if room == 0 || !self.walk_on(ledger) {
                break;
            }
            self.send_new(&mut room, actions);
        }
    }

    /// Whether there is anything to send, and anybody to send it to.
    pub(super) fn has_to_send(&self) -> bool {
        let mut heard = self.peers.values().filter(|peer| peer.current().is_some());
        let has_new = self.outgoing.waiting() > 0 || !self.serving.is_empty();
        heard.any(|peer| has_new || !peer.repeats.is_empty())
    }

    fn send_new(&mut self, room: &mut usize, actions: &mut Vec<Action>) {
        while *room > 0 {
            // The body is sealed where it lies; a copy is made for the datagram only.
            let Some(body) = self.outgoing.take().map(<[u8]>::to_vec) else {
                return;
            };
            let action = self.send(Destination::All, 0, kind::STREAM, &body);
            actions.push(action);
            *room -= 1;
        }
    }

    /// Says again what peers asked for; half of a burst is left for what is new.
    fn repeat(&mut self, room: &mut usize, actions: &mut Vec<Action>) {
        let everyone: Vec<IpAddr> = self.peers.keys().copied().collect();
        for ip in everyone {
            while *room > BURST / 2 {
                let Some(peer) = self.peers.get_mut(&ip) else {
                    break;
                };
                let (address, Some(session)) = (peer.address, peer.current()) else {
                    peer.repeats.clear();
                    break;
                };
                let Some(range) = peer.repeats.front_mut() else {
                    break;
                };
                let seq = range.first;
                range.first += 1;
                if range.first > range.last {
                    peer.repeats.pop_front();
                }
                // What was pushed out meanwhile is asked for again, and then said to be lost.
                if let Some(body) = self.outgoing.get(seq).map(<[u8]>::to_vec) {
                    let to = Destination::Peer(address);
                    let action = self.send(to, session, kind::STREAM, &body);
                    actions.push(action);
                    self.stats.parts_repeated += 1;
                    *room -= 1;
                }
            }
        }
    }

    /// Goes on with the walk that is served; whether there was one.
    fn walk_on(&mut self, ledger: &mut impl Ledger) -> bool {
        let Some(mut serving) = self.serving.pop_front() else {
            return false;
        };
        if let (false, Some((session, id))) = (serving.has_begun, serving.request) {
            self.tell_part(&Part::WalkBegins { session, id });
        }
        serving.has_begun = true;
        let mut records = Vec::new();
        let next = ledger.read(serving.cursor, &serving.scope, &mut records);
        self.stats.records_walked += records.len() as u64;
        // Each way is read once, so their order means nothing; together, those of one server take half the
        // room on the wire.
        records.sort_by_key(|record| (record.name.service, record.server));
        self.tell(&records, ledger);
        if let Some(cursor) = next {
            serving.cursor = cursor;
            self.serving.push_front(serving);
        } else if let Some((session, id)) = serving.request {
            self.tell_part(&Part::WalkEnds { session, id });
            if serving.scope == Scope::All {
                self.tell_summaries(ledger);
            }
        }
        true
    }
}
