//! The state machine of state sync, one per director.
//!
//! It is like a [`crate::machine::Machine`], but for the tables: they are too large to hold twice, so
//! it gets a [`Ledger`] with each call, asks it for entries piece by piece, and puts those of peers
//! into it at the very point of their stream at which they were told.
//!
//! - [`receive`]: datagrams, whom to believe, putting streams in order.
//! - [`follow`]: what a peer's stream says; walks that this director asks for.
//! - [`send`]: the own stream, paced; walks that peers ask for.
//! - [`compare`]: summaries and digests.

mod compare;
mod follow;
mod receive;
mod send;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::digest::BUCKETS;
use super::event::{Event, Stats};
use super::outgoing::Outgoing;
use super::peer::{Peer, Theirs};
use super::record::{Overriding, Record, Scope, ServiceName, Stamp, Summary};
use super::wire::Refusal;
use super::wire::records::Told;
use super::{SUMMARY, Settings};
use crate::machine::Now;

/// The tables of a director, as its mirror sees them.
pub trait Ledger {
    /// Whether this director gets the packets of a service.
    fn owns(&self, service: &ServiceName) -> bool;

    /// Puts an entry of a peer into the tables; [`super::record::replaces`] says whether it replaces
    /// one that is there.
    fn apply(&mut self, told: &Told) -> Applied;

    /// Some of the entries of a scope, from `cursor` on, which is 0 at first; where to go on, `None` at
    /// the end.
    fn read(&mut self, cursor: u64, scope: &Scope, entries: &mut Vec<Record>) -> Option<u64>;

    /// All services.
    fn summaries(&mut self) -> Vec<Summary>;

    /// One service.
    fn summary(&mut self, service: &ServiceName) -> Option<Summary>;

    /// Digests of a service by bucket.
    fn buckets(&mut self, service: &ServiceName) -> Option<[u64; BUCKETS]>;
}

/// What became of an entry of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is in the tables.
    Stands,
    /// The one that was there stays.
    Kept,
    /// The service or the server does not exist here.
    Unknown,
    /// The table is full.
    Full,
}

/// What happens to a mirror.
#[derive(Clone, Debug)]
pub enum Input {
    /// A datagram came.
    Received {
        /// From where.
        from: SocketAddr,
        /// UDP payload.
        datagram: Vec<u8>,
    },
    /// Entries of the tables are new or changed.
    Changed(Vec<Record>),
    /// These are the overrides in force; told by the operator or, with the stamp that it had, by a peer.
    Overrides {
        /// When they were last changed.
        stamp: Stamp,
        /// All of them.
        overrides: Vec<Overriding>,
    },
}

/// What a mirror wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a datagram.
    Send {
        /// Whom to.
        to: Destination,
        /// UDP payload.
        datagram: Vec<u8>,
    },
    /// This director is up to date, or is not any more: it should take no service from another.
    UpToDate(bool),
    /// Put these overrides into force instead of all others.
    Adopt {
        /// When they were last changed.
        stamp: Stamp,
        /// All of them.
        overrides: Vec<Overriding>,
    },
    /// Tell the operator.
    Say(Event),
}

/// Whom a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// All peers, or the group.
    All,
    /// One peer.
    Peer(SocketAddr),
}

/// Entries that are being told again.
#[derive(Clone, Copy, Debug)]
struct Serving {
    /// Whose request, and its number; `None`: nobody's, this director offers what differs.
    request: Option<(u64, u32)>,
    scope: Scope,
    /// Where to go on.
    cursor: u64,
    has_begun: bool,
}

/// Who told the entries of a service as its owner.
#[derive(Clone, Copy, Debug)]
struct Teller {
    /// The last that did; `None`: this director.
    last: Option<IpAddr>,
    /// Somebody else did as well, since the owner's entries have come.
    is_contested: bool,
}

/// The overrides in force.
#[derive(Debug, Default)]
struct Ordered {
    stamp: Stamp,
    overrides: Vec<Overriding>,
}

/// A peer as it stands, for those who look.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Where it is reached.
    pub address: SocketAddr,
    /// Whether it is heard and hears this director.
    pub is_established: bool,
    /// Whether all of its entries have come.
    pub is_complete: bool,
    /// How long it has been silent; `None`: never heard.
    pub silence: Option<Duration>,
    /// Parts of its stream that are known of and were not taken yet.
    pub behind: u64,
    /// Parts of this director's stream that it has not taken yet, at its last sign of life.
    pub lags: u64,
    /// Whether its table was made with the same hash key; `None`: not known.
    pub same_hash_key: Option<bool>,
    /// Its services.
    pub services: BTreeMap<ServiceName, Theirs>,
}

/// State sync of one director.
#[derive(Debug)]
pub struct Mirror {
    settings: Settings,
    /// Number of the last datagram.
    nonce: u64,
    peers: BTreeMap<IpAddr, Peer>,
    /// Who was last heard to own each service.
    tellers: BTreeMap<ServiceName, Teller>,
    outgoing: Outgoing,
    serving: VecDeque<Serving>,
    ordered: Ordered,
    is_up_to_date: bool,
    /// Whether a walk of a peer has brought entries of a service that is owned here.
    has_learned: bool,
    /// When the first peer of those heard now was heard.
    first_heard: Option<Now>,
    hello: Now,
    summary: Now,
    /// When the next datagrams of the stream may go out.
    pace: Now,
    refusals: BTreeMap<Refusal, (Now, u64)>,
    stats: Stats,
    now: Now,
}

impl Mirror {
    /// One that has heard nothing yet.
    pub fn new(now: Now, settings: Settings) -> Self {
        let known = settings.peers.iter();
        let peers = known.map(|address| (address.ip(), Peer::new(*address)));
        Self {
            peers: peers.collect(),
            settings,
            nonce: 0,
            tellers: BTreeMap::new(),
            outgoing: Outgoing::default(),
            serving: VecDeque::new(),
            ordered: Ordered::default(),
            is_up_to_date: false,
            has_learned: false,
            first_heard: None,
            hello: now,
            summary: now.after(SUMMARY),
            pace: now,
            refusals: BTreeMap::new(),
            stats: Stats::default(),
            now,
        }
    }

    /// Takes an input that arrived at `now`.
    pub fn handle(
        &mut self,
        now: Now,
        input: Input,
        ledger: &mut impl Ledger,
        actions: &mut Vec<Action>,
    ) {
        self.now = now;
        match input {
            Input::Received { from, datagram } => self.receive(from, &datagram, ledger, actions),
            Input::Changed(records) => {
                self.stats.records_sent += records.len() as u64;
                self.tell(&records, ledger);
            }
            Input::Overrides { stamp, overrides } => {
                if stamp > self.ordered.stamp {
                    self.ordered = Ordered { stamp, overrides };
                    self.tell_overrides();
                }
            }
        }
        self.judge_up_to_date(actions);
    }

    /// Does what is due at `now`. Afterwards the deadline is later than `now`.
    pub fn expire(&mut self, now: Now, ledger: &mut impl Ledger, actions: &mut Vec<Action>) {
        self.now = now;
        self.note_silence(actions);
        if self.hello <= now {
            self.say_hello(actions);
        }
        self.ask(actions);
        if self.summary <= now {
            self.summary = now.after(SUMMARY);
            self.tell_summaries(ledger);
            self.say_views(actions);
        }
        if self.pace <= now {
            self.send_stream(ledger, actions);
        }
        self.judge_up_to_date(actions);
    }

    /// When [`Self::expire`] is to be called.
    pub fn deadline(&self) -> Option<Now> {
        let pace = self.has_to_send().then_some(self.pace);
        let heard = self.peers.values().filter(|peer| peer.current().is_some());
        let first = heard.filter_map(|peer| {
            let walk = peer.walk.and_then(|walk| walk.ask);
            let due = [peer.deadline(), peer.incoming.deadline(), walk];
            due.into_iter().flatten().min()
        });
        let grace = self.grace_ends();
        first
            .chain(pace)
            .chain(grace)
            .chain([self.hello, self.summary])
            .min()
    }

    /// Whether this director holds what its peers hold.
    pub const fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }

    /// What was counted.
    pub const fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The peers, as they stand at `now`.
    pub fn peers(&self, now: Now) -> Vec<PeerStatus> {
        let status = |peer: &Peer| PeerStatus {
            address: peer.address,
            is_established: peer.current().is_some(),
            is_complete: peer.is_complete,
            silence: peer.silence(now),
            behind: peer.incoming.behind(),
            lags: match peer.follows {
                0 => 0,
                next => self.outgoing.next().saturating_sub(next),
            },
            same_hash_key: peer.hash_key.map(|key| key == self.settings.hash_key),
            services: peer.services.clone(),
        };
        self.peers.values().map(status).collect()
    }

    /// Bytes held for peers that ask again, and parts of their streams that wait: what a test bounds.
    pub fn memory(&self) -> (usize, usize) {
        let held = self.peers.values().map(|peer| peer.incoming.held()).sum();
        (self.outgoing.bytes(), held)
    }
}
