//! `auth_hmac`: a trailer behind the advert that proves who made it, and when
//! (draft-cassen-vrrp-auth-hmac-00).
//!
//! ```text
//!  byte  0     1       2  3   4        8          10       12
//!        type  key id  zero   seconds  fraction   counter  the first 16 bytes of HMAC-SHA256
//! ```
//!
//! The HMAC covers a pseudo-header (family, version, VRID, zero, sender's address padded to 16 bytes),
//! the advert with its checksum zeroed, and the trailer up to the HMAC. Seconds, fraction (65536ths)
//! and counter make one number that grows with each advert; a receiver refuses what is no newer than
//! the last of the same sender, and what is further from its clock than the window.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hmac::digest::KeyInit as _;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::super::{Interval, Wall};
use super::Refusal;

/// Bytes of a trailer.
pub const TRAILER: usize = 28;
const DIGEST: usize = 16;
/// The only layout.
const TYPE: u8 = 1;
/// Senders that are remembered: far more than share a VRID.
const SENDERS: usize = 64;

/// How far `auth_hmac` goes; the three steps of bringing it to a pair that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Sends none; verifies those that come.
    ReceiveOnly,
    /// Sends; accepts adverts without.
    Permissive,
    /// Sends; refuses adverts without.
    Enforce,
}

/// A secret of 32 to 64 bytes. Shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// `None` unless it is 32 to 64 bytes long.
    pub fn new(bytes: Vec<u8>) -> Option<Self> {
        (32..=64).contains(&bytes.len()).then_some(Self(bytes))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The configuration of `auth_hmac`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How far it goes.
    pub mode: Mode,
    /// Which key this router's adverts are made with.
    pub send_key: u8,
    /// All keys that are accepted; to rotate, a new one is added everywhere, then sent, then the old
    /// one goes.
    pub keys: BTreeMap<u8, Secret>,
}

/// A trailer as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    kind: u8,
    key: u8,
    stamp: Stamp,
    digest: [u8; DIGEST],
}

/// Seconds, fraction and counter as one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp(u64);

impl Stamp {
    fn at(Wall(now): Wall) -> Self {
        // Past 2106 the seconds wrap around on the wire, too.
        let seconds = now.as_secs() & 0xffff_ffff;
        let fraction = (u64::from(now.subsec_nanos()) << 16) / 1_000_000_000;
        Self(seconds << 32 | fraction << 16)
    }

    /// Without the counter, in nanoseconds.
    fn time(self) -> Duration {
        let fraction = (self.0 >> 16) & 0xffff;
        Duration::new(self.0 >> 32, 0) + Duration::from_nanos((fraction * 1_000_000_000) >> 16)
    }
}

impl Trailer {
    /// `None` unless there are exactly [`TRAILER`] bytes.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (&[kind, key, _, _], rest) = bytes.split_first_chunk::<4>()?;
        let (&stamp, digest) = rest.split_first_chunk::<8>()?;
        Some(Self {
            kind,
            key,
            stamp: Stamp(u64::from_be_bytes(stamp)),
            digest: digest.try_into().ok()?,
        })
    }

    fn head(self) -> [u8; TRAILER - DIGEST] {
        let mut head = [0; TRAILER - DIGEST];
        let fields = [self.kind, self.key, 0, 0].into_iter();
        let fields = fields.chain(self.stamp.0.to_be_bytes());
        for (to, from) in head.iter_mut().zip(fields) {
            *to = from;
        }
        head
    }

    /// The HMAC that belongs here. `advert` is the message before the trailer.
    fn expected(self, secret: &Secret, source: IpAddr, advert: &[u8]) -> Option<[u8; DIGEST]> {
        let (&[version_type, vrid, priority, count, b4, b5, _, _], rest) =
            advert.split_first_chunk::<8>()?;
        let (family, address) = match source {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                (4, [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
            }
            IpAddr::V6(address) => (6, address.octets()),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).ok()?;
        mac.update(&[family, version_type >> 4, vrid, 0]);
        mac.update(&address);
        mac.update(&[version_type, vrid, priority, count, b4, b5, 0, 0]);
        mac.update(rest);
        mac.update(&self.head());
        mac.update(&[0; DIGEST]);
        mac.finalize().into_bytes().first_chunk::<DIGEST>().copied()
    }
}

/// Makes and verifies trailers, and remembers what must not come again.
#[derive(Clone, Debug)]
pub struct Authenticator {
    settings: Settings,
    sent: Stamp,
    seen: BTreeMap<IpAddr, Stamp>,
}

impl Authenticator {
    /// One that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            sent: Stamp::default(),
            seen: BTreeMap::new(),
        }
    }

    /// How it is configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Other keys or another mode; what was seen stays.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// Puts a trailer behind a message about to be sent, if the mode says so.
    pub fn seal(&mut self, message: &mut Vec<u8>, source: IpAddr, wall: Wall) {
        if self.settings.mode == Mode::ReceiveOnly {
            return;
        }
        let key = self.settings.send_key;
        let Some(secret) = self.settings.keys.get(&key) else {
            return;
        };
        // A clock that was set back must not make this router a replay of itself.
        let stamp = Stamp::at(wall).max(Stamp(self.sent.0.wrapping_add(1)));
        let trailer = Trailer {
            kind: TYPE,
            key,
            stamp,
            digest: [0; DIGEST],
        };
        if let Some(digest) = trailer.expected(secret, source, message) {
            self.sent = stamp;
            message.extend_from_slice(&trailer.head());
            message.extend_from_slice(&digest);
        }
    }

    /// Judges what came: `message` with its trailer, if it has one.
    pub fn verify(
        &mut self,
        message: &[u8],
        trailer: Option<Trailer>,
        source: IpAddr,
        interval: Interval,
        wall: Wall,
    ) -> Result<(), Refusal> {
        let Some(trailer) = trailer else {
            return match self.settings.mode {
                Mode::ReceiveOnly | Mode::Permissive => Ok(()),
                Mode::Enforce => Err(Refusal::HmacMissing),
            };
        };
        self.verify_digest(message, trailer, source)?;
        // From here on the sender holds a key.
        let window = window(interval);
        let off = wall.0.abs_diff(trailer.stamp.time());
        if off > window {
            return Err(Refusal::HmacStale { off });
        }
        if self
            .seen
            .get(&source)
            .is_some_and(|last| *last >= trailer.stamp)
        {
            return Err(Refusal::HmacReplay);
        }
        self.remember(source, trailer.stamp);
        Ok(())
    }

    fn verify_digest(
        &self,
        message: &[u8],
        trailer: Trailer,
        source: IpAddr,
    ) -> Result<(), Refusal> {
        let Trailer { kind, key, .. } = trailer;
        if kind != TYPE {
            return Err(Refusal::HmacType { got: kind });
        }
        let secret = self.settings.keys.get(&key);
        let secret = secret.ok_or(Refusal::HmacKey { id: key })?;
        let advert = message.get(..message.len().saturating_sub(TRAILER));
        let expected = advert.and_then(|advert| trailer.expected(secret, source, advert));
        match expected {
            Some(digest) if bool::from(digest.ct_eq(&trailer.digest)) => Ok(()),
            Some(_) | None => Err(Refusal::HmacDigest),
        }
    }

    /// Only those that hold a key get here, so there is no flood to fear; the oldest goes first.
    fn remember(&mut self, source: IpAddr, stamp: Stamp) {
        self.seen.insert(source, stamp);
        if self.seen.len() > SENDERS {
            let oldest = self.seen.iter().min_by_key(|(_, stamp)| **stamp);
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                self.seen.remove(&oldest);
            }
        }
    }
}

/// How far a stamp may be from the receiver's clock.
fn window(interval: Interval) -> Duration {
    (interval.duration() * 3).max(Duration::from_secs(5))
}
