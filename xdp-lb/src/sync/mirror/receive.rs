//! Datagrams: whom to believe, and what each kind of message does.

use std::net::{IpAddr, SocketAddr};

use super::{Action, Ledger, Mirror, Serving};
use crate::sync::event::Event;
use crate::sync::incoming::Offered;
use crate::sync::peer::{Peer, Standing};
use crate::sync::record::Scope;
use crate::sync::wire::{self, Header, Hello, Message, Range, Refusal};
use crate::sync::{MAX_PEERS, SAY_AGAIN, SILENCE};

/// Walks that wait for their turn.
const SERVING: usize = 32;
/// Ranges that a peer may have asked for again and not got yet.
const REPEATS: usize = 64;

impl Mirror {
    pub(super) fn receive(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        ledger: &mut impl Ledger,
        actions: &mut Vec<Action>,
    ) {
        let accepted = self.admit(from, datagram);
        match accepted {
            Ok(None) => {}
            Ok(Some((header, message, standing))) => {
                self.stats.datagrams_received += 1;
                self.stats.bytes_received += datagram.len() as u64;
                self.greet(from.ip(), standing, actions);
                self.take(from.ip(), &header, message, ledger, actions);
            }
            Err(refusal) => self.refuse(from, refusal, actions),
        }
    }

    /// The message, if it is to be believed; `None` if it was only a first sign of a session.
    fn admit(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
    ) -> Result<Option<(Header, Message, Standing)>, Refusal> {
        let is_listed = self.peers.contains_key(&from.ip());
        if !self.settings.peers.is_empty() && !is_listed {
            return Err(Refusal::Stranger);
        }
        let (header, message) = wire::open(&self.settings.keys, self.settings.cluster, datagram)?;
        let own = self.settings.session;
        if header.session == own || header.session == 0 {
            return Err(Refusal::Own);
        }
        if header.to != 0 && header.to != own {
            return Err(Refusal::Elsewhere);
        }
        if !is_listed {
            self.make_room()?;
        }
        let peers = self.peers.entry(from.ip());
        let peer = peers.or_insert_with(|| Peer::new(from));
        // Whatever is for this very session was made after it began.
        let repeats_own = header.to == own
            || matches!(&message, Message::Hello(hello)
                if hello.heard.iter().any(|heard| heard.session == own));
        let standing = peer.admit(self.now, &header, repeats_own)?;
        if self.settings.peers.is_empty() {
            peer.address = from;
        }
        match standing {
            Standing::Candidate { is_first } => {
                if is_first && matches!(message, Message::Hello(_)) {
                    // It is told at once that it was heard.
                    self.hello = self.now;
                }
                Ok(None)
            }
            Standing::Current | Standing::Back | Standing::New { .. } => {
                Ok(Some((header, message, standing)))
            }
        }
    }

    /// On a group, peers that have been silent for long make room for others.
    fn make_room(&mut self) -> Result<(), Refusal> {
        let now = self.now;
        if self.peers.len() >= MAX_PEERS {
            self.peers.retain(|_, peer| {
                peer.silence(now)
                    .is_some_and(|silence| silence < SILENCE * 20)
            });
        }
        if self.peers.len() >= MAX_PEERS {
            return Err(Refusal::Crowd);
        }
        Ok(())
    }

    fn refuse(&mut self, from: SocketAddr, refusal: Refusal, actions: &mut Vec<Action>) {
        *self.stats.refused.entry(refusal).or_default() += 1;
        // What is for others, and what a group sends back, is as it should be.
        if matches!(
            refusal,
            Refusal::Own | Refusal::Elsewhere | Refusal::Cluster
        ) {
            return;
        }
        let now = self.now;
        match self.refusals.get_mut(&refusal) {
            Some((since, more)) if since.until(now) < SAY_AGAIN => *more += 1,
            known => {
                let more = known.map_or(0, |(_, more)| *more);
                self.refusals.insert(refusal, (now, 0));
                actions.push(Action::Say(Event::Refused {
                    from,
                    refusal,
                    more,
                }));
            }
        }
    }

    /// What a session that is new or back means.
    fn greet(&mut self, ip: IpAddr, standing: Standing, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        let address = peer.address;
        match standing {
            Standing::Current | Standing::Candidate { .. } => return,
            Standing::New { is_restart } => {
                peer.want(Scope::All);
                actions.push(Action::Say(if is_restart {
                    Event::PeerRestarted { peer: address }
                } else {
                    Event::PeerUp { peer: address }
                }));
            }
            Standing::Back => {
                peer.target = u64::MAX;
                actions.push(Action::Say(Event::PeerBack { peer: address }));
            }
        }
        self.hello = self.now;
        self.first_heard.get_or_insert(self.now);
        if self.ordered.stamp.millis > 0 {
            self.tell_overrides();
        }
    }

    fn take(
        &mut self,
        ip: IpAddr,
        header: &Header,
        message: Message,
        ledger: &mut impl Ledger,
        actions: &mut Vec<Action>,
    ) {
        match message {
            Message::Hello(hello) => self.take_hello(ip, &hello, actions),
            Message::Stream { seq, part } => {
                let now = self.now;
                let taken = self
                    .peers
                    .get_mut(&ip)
                    .is_some_and(|peer| peer.incoming.offer(now, seq, part) == Offered::Taken);
                if taken {
                    self.follow(ip, ledger, actions);
                }
            }
            Message::Missing(ranges) => self.take_missing(ip, &ranges, header.session, actions),
            Message::Lost(range) => self.take_lost(ip, range, ledger, actions),
            Message::Walk { id, scope } => self.take_walk(ip, header.session, id, scope),
            Message::Compare(service) => self.tell_buckets(&service, ledger),
        }
        if let Some(peer) = self.peers.get_mut(&ip) {
            peer.next_walk(self.now);
        }
    }

    fn take_hello(&mut self, ip: IpAddr, hello: &Hello, actions: &mut Vec<Action>) {
        let (own, now, next) = (self.settings.session, self.now, self.outgoing.next());
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        if peer.incoming.next() == 0 {
            peer.incoming.follow(hello.next);
        }
        if peer.target == u64::MAX {
            peer.target = hello.next;
        }
        peer.incoming.extends_to(now, hello.next);
        let heard = hello.heard.iter().find(|heard| heard.session == own);
        peer.follows = heard.map_or(0, |heard| heard.next.min(next));
        let differs = hello.hash_key != self.settings.hash_key;
        if peer.hash_key.replace(hello.hash_key) != Some(hello.hash_key) && differs {
            actions.push(Action::Say(Event::HashKeyDiffers { peer: peer.address }));
        }
    }

    /// Says again what is still kept, in its turn, and that the rest is lost.
    fn take_missing(
        &mut self,
        ip: IpAddr,
        ranges: &[Range],
        session: u64,
        actions: &mut Vec<Action>,
    ) {
        let end = self.outgoing.next();
        for range in ranges {
            if range.first >= end {
                continue;
            }
            let mut range = Range {
                first: range.first,
                last: range.last.min(end - 1),
            };
            if let Some(lost) = self.outgoing.lost(range) {
                self.send_to(ip, session, &Message::Lost(lost), actions);
                range.first = lost.last + 1;
            }
            let Some(peer) = self.peers.get_mut(&ip) else {
                return;
            };
            let is_known = peer.repeats.iter().any(|known| known.first == range.first);
            if range.first <= range.last && !is_known && peer.repeats.len() < REPEATS {
                peer.repeats.push_back(range);
            }
        }
    }

    fn take_lost(
        &mut self,
        ip: IpAddr,
        range: Range,
        ledger: &mut impl Ledger,
        actions: &mut Vec<Action>,
    ) {
        let now = self.now;
        let lost = self
            .peers
            .get_mut(&ip)
            .map_or(0, |peer| peer.incoming.lose(now, range));
        self.lose(ip, lost, actions);
        self.follow(ip, ledger, actions);
    }

    fn take_walk(&mut self, ip: IpAddr, session: u64, id: u32, scope: Scope) {
        let Some(peer) = self.peers.get_mut(&ip) else {
            return;
        };
        if id <= peer.asked || self.serving.len() >= SERVING {
            // It is under way, or has to wait until it is asked for again.
            return;
        }
        peer.asked = id;
        // What a session before asked for is of no use any more.
        self.serving.push_back(Serving {
            request: Some((session, id)),
            scope,
            cursor: 0,
            has_begun: false,
        });
    }
}
