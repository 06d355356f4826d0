//! Datagrams of state sync: what stands in one, and what is refused.
//!
//! ```text
//!  byte 0      4        5     6        7     8        16     24     32          40      len−16
//!       "XLBS" version  kind  cluster  zero  session  epoch  nonce  to session  body …  digest
//! ```
//!
//! Numbers are in network order. *session* is drawn at each start of a director, *epoch* is the
//! wall clock at that start in milliseconds, *nonce* counts the datagrams of the session and is never
//! used twice, *to session* is whom it is for, 0 for all. The digest is the first half of HMAC-SHA256
//! over everything before it. [`body`] has the bodies, [`records`] the one that matters most.

pub mod body;
mod bytes;
pub mod records;
#[cfg(test)]
mod tests;

use subtle::ConstantTimeEq as _;

use super::key::{DIGEST, Keys};
pub use body::{Heard, Hello, Message, Part, Range};
use bytes::{Reader, Writer};

/// Version of all this; another one is refused.
pub const VERSION: u8 = 2;
/// Bytes before the body.
pub const HEADER: usize = 40;
/// Bytes that are no body.
pub const FRAME: usize = HEADER + DIGEST;
/// The largest datagram that UDP over IPv4 can carry.
pub const LONGEST: usize = 65_507;
/// The least that a datagram must be allowed to be: any single entry, summary or override fits.
pub const SHORTEST: usize = 512;

const MAGIC: [u8; 4] = *b"XLBS";

/// The part of a datagram that is the same for every kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// `syncid`: what belongs together on a group that several clusters use.
    pub cluster: u8,
    /// The sender's session.
    pub session: u64,
    /// When the sender's session began, milliseconds since 1970 by its clock.
    pub epoch: u64,
    /// Number of the datagram in its session, from 1.
    pub nonce: u64,
    /// The session it is for; 0: all.
    pub to: u64,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident = $label:literal, $text:literal;)+) => {
        /// Why a datagram changes nothing.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, thiserror::Error)]
        pub enum Refusal {
            $($(#[$doc])* #[error($text)] $name,)+
        }

        impl Refusal {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The value of the label `reason` in metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }
    };
}

refusals! {
    /// No datagram of state sync.
    Foreign = "foreign", "it is no datagram of xdp-lb's state sync: another service uses this port, or keepalived's own sync daemon, whose format is another";
    /// Of another version.
    Version = "version", "it is of another version of the protocol: run the same version of xdp-lb on all directors";
    /// Of another cluster.
    Cluster = "cluster", "it is of another cluster: its syncid differs from this director's";
    /// Not made with the cluster's key.
    Digest = "digest", "it is not signed with this cluster's key: the directors' keys differ, or somebody forges datagrams";
    /// Its body ends too soon, or goes on for too long, or says what cannot be.
    Malformed = "malformed", "its body is damaged although its signature is right: another version of xdp-lb made it";
    /// This director's own.
    Own = "own", "it is this director's own: the network sends datagrams back";
    /// From an address that is not among the peers.
    Stranger = "stranger", "the sender is not among the peers of the configuration";
    /// There are more directors than this one keeps in mind.
    Crowd = "crowd", "there are more directors in this cluster than are supported";
    /// For another session than this one.
    Elsewhere = "elsewhere", "it is for another director, or for this one before its restart";
    /// Of a session that is over, or not shown to be of now.
    Session = "session", "it is of a session that is over or not confirmed yet: recorded before a restart, if this goes on";
    /// It came before, or is so old that it may have.
    Replay = "replay", "it came before: the network doubles datagrams, or somebody replays them";
}

/// Makes a datagram.
pub fn seal(keys: &Keys, header: &Header, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(FRAME + body.len());
    writer.bytes(&MAGIC);
    writer.bytes(&[VERSION, kind, header.cluster, 0]);
    for word in [header.session, header.epoch, header.nonce, header.to] {
        writer.u64(word);
    }
    writer.bytes(body);
    let digest = keys.seal(writer.written());
    writer.bytes(&digest);
    writer.finish()
}

/// Reads a datagram: whose it is, and what it says. Nothing of a datagram that is not signed with the
/// key is looked at, but for what tells it from other programs' and clusters'.
pub fn open(keys: &Keys, cluster: u8, datagram: &[u8]) -> Result<(Header, Message), Refusal> {
    let (header, kind, body) = verify(keys, cluster, datagram)?;
    let message = body::read(kind, body).ok_or(Refusal::Malformed)?;
    Ok((header, message))
}

fn verify<'a>(
    keys: &Keys,
    cluster: u8,
    datagram: &'a [u8],
) -> Result<(Header, u8, &'a [u8]), Refusal> {
    let split = datagram.len().checked_sub(DIGEST);
    let (signed, digest) = split
        .and_then(|at| datagram.split_at_checked(at))
        .ok_or(Refusal::Foreign)?;
    let mut reader = Reader::new(signed);
    let mut head = || Some((reader.array::<4>()?, reader.array::<4>()?));
    let (magic, [version, kind, of, zero]) = head().ok_or(Refusal::Foreign)?;
    if magic != MAGIC {
        return Err(Refusal::Foreign);
    }
    if version != VERSION {
        return Err(Refusal::Version);
    }
    if of != cluster {
        return Err(Refusal::Cluster);
    }
    if !bool::from(keys.seal(signed).as_slice().ct_eq(digest)) {
        return Err(Refusal::Digest);
    }
    let mut words = || Some([reader.u64()?, reader.u64()?, reader.u64()?, reader.u64()?]);
    let [session, epoch, nonce, to] = words().ok_or(Refusal::Malformed)?;
    if zero != 0 {
        return Err(Refusal::Malformed);
    }
    let header = Header {
        cluster,
        session,
        epoch,
        nonce,
        to,
    };
    Ok((header, kind, reader.rest()))
}
