//! State sync: the directors of a cluster tell each other of their connections and templates, so that
//! a client keeps its real server whichever director its packets come to.
//!
//! Pure, as `vrrp` and `health` are: datagrams and time in, datagrams and changes out. [`mirror`] is
//! the state machine; [`wire`] what datagrams look like; [`record`] what they tell. `agent/sync` drives
//! it and reads and writes the tables, which this module sees as a [`mirror::Ledger`].
//!
//! **One stream.** Whatever a director tells goes into one numbered stream for all peers, and a peer
//! takes it in order: the last word on a connection is the last that was said. What does not arrive is
//! asked for and said again from a bounded buffer ([`outgoing`], [`incoming`]). What is not there any
//! more costs a *walk*: all entries, or those of some buckets of a service, once more in the stream.
//! A director that starts asks for a walk of everything and follows the stream from where it stood
//! before, so that it misses nothing in between.
//!
//! **Who is right.** The director that owns a service, that is, gets its packets, replaces what the
//! others hold; others only fill in what the owner lacks ([`record::replaces`]).
//!
//! **Digests.** Now and then each director tells how many lasting entries it has of each service, and
//! their digest, at a certain point of its stream; a peer that comes to another digest there, twice,
//! asks for the digests by bucket and for the entries of the buckets that differ ([`digest`]).
//!
//! **Whom to believe.** All datagrams carry an HMAC and a number that is used once ([`window`]). A
//! director follows a peer's session only once the peer has repeated this director's own session, which
//! is drawn at each start: a recording of yesterday cannot do that ([`peer`]).

pub mod digest;
pub mod event;
pub mod incoming;
pub mod key;
pub mod mirror;
pub mod outgoing;
pub mod peer;
pub mod record;
pub mod report;
pub mod shadow;
pub mod view;
pub mod window;
pub mod wire;

use std::net::SocketAddr;
use std::time::Duration;

use key::Keys;

/// Between two signs of life.
pub const HELLO: Duration = Duration::from_millis(500);
/// A peer that is silent for so long is gone.
pub const SILENCE: Duration = Duration::from_secs(3);
/// Between two rounds of comparing digests.
pub const SUMMARY: Duration = Duration::from_secs(10);
/// Datagrams are sent at most so often, [`BURST`] of them at once.
pub const PACE: Duration = Duration::from_millis(5);
/// Datagrams that go out at once: 3,200 a second, some 300,000 entries of IPv4. A burst fits into the smallest
/// receive buffer that a kernel gives.
pub const BURST: usize = 16;
/// Something out of order is not missing yet.
pub const PATIENCE: Duration = Duration::from_millis(10);
/// Between two requests for what is missing.
pub const REPEAT: Duration = Duration::from_millis(50);
/// Requests without an answer, after which a walk has to do.
pub const REPEATS: u32 = 40;
/// Between two requests for a walk that has not begun.
pub const WALK_REPEAT: Duration = Duration::from_secs(1);
/// Peers that are followed; a cluster has two or three directors.
pub const MAX_PEERS: usize = 8;
/// A message about refused datagrams for one reason comes at most so often.
pub const SAY_AGAIN: Duration = Duration::from_mins(1);

/// What a mirror is made for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster's keys.
    pub keys: Keys,
    /// `syncid`.
    pub cluster: u8,
    /// Drawn at random for this start; not 0.
    pub session: u64,
    /// The wall clock at this start, milliseconds since 1970.
    pub epoch: u64,
    /// The peers; none: whoever is heard on the group.
    pub peers: Vec<SocketAddr>,
    /// The longest datagram, bytes of UDP payload.
    pub longest: usize,
    /// Fingerprint of the key that the connection table's hash has.
    pub hash_key: u64,
}

impl Settings {
    /// Bytes that a part of the stream may have.
    pub fn room(&self) -> usize {
        let longest = self.longest.clamp(wire::SHORTEST, wire::LONGEST);
        longest - wire::FRAME - wire::body::PART_HEAD
    }
}
