//! Why a datagram is refused.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::super::{Version, Vrid};

/// A datagram that was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// Who sent it, if its header could be read.
    pub sender: Option<IpAddr>,
    /// Which virtual router it was for, if that could be read.
    pub vrid: Option<Vrid>,
    /// Why.
    pub reason: Refusal,
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident $({ $($(#[$field_doc:meta])* $field:ident: $type:ty),+ })?
        = $label:literal, $text:literal $(, $argument:expr)*;)+) => {
        /// Why a datagram is refused.
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum Refusal {
            $($(#[$doc])* #[error($text $(, $argument)*)]
            $name $({ $($(#[$field_doc])* $field: $type),+ })?,)+
        }

        /// A [`Refusal`] without its particulars: one counter each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $name,)+
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The value of the label `reason` in metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }
        }

        impl Refusal {
            /// Without the particulars.
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$name { .. } => Kind::$name,)+ }
            }
        }
    };
}

refusals! {
    /// No IPv4 header, or one that contradicts itself.
    Header = "header", "its IP header is damaged";
    /// A fragment; adverts are far too short to need any.
    Fragment = "fragment", "it is a fragment";
    /// Another protocol than VRRP.
    Protocol {
        /// Its number.
        protocol: u8
    } = "protocol", "it is of IP protocol {protocol}, not VRRP (112)";
    /// `auth_type AH`.
    AuthHeader = "auth_header",
        "it carries an IPsec authentication header: AH authentication is not supported, use PASS or auth_hmac on all routers";
    /// From this router's own address.
    OwnPacket = "own_packet",
        "it comes from this router's own address: another host uses the address, or the network sends adverts back";
    /// To a unicast address, while this router uses multicast.
    Unicast = "unicast", "it came as unicast, and this router uses multicast: list the sender under unicast_peer, or not this router in the sender's";
    /// To a group, while this router uses unicast; or to another group.
    Multicast {
        /// The group.
        group: IpAddr
    } = "multicast", "it came to the group {group}, which this router does not use";
    /// `check_unicast_src`: not in `unicast_peer`.
    NotPeer = "not_peer", "the sender is not in unicast_peer";
    /// A router on the way lowered TTL or hop limit.
    Ttl {
        /// On arrival.
        got: u8,
        /// The lowest that is accepted.
        min: u8,
        /// The highest.
        max: u8
    } = "ttl", "its TTL or hop limit is {got}, not {}", Range(*min, *max);
    /// Another version than this router's.
    Version {
        /// On arrival.
        got: u8,
        /// This router's, if any.
        want: Option<Version>
    } = "version", "its VRRP version is {got}{}", Wanted(want.map(Version::number));
    /// Not an advert.
    Type {
        /// On arrival.
        got: u8
    } = "type", "its type is {got}, not 1 (advert)";
    /// Longer or shorter than what it says it contains.
    Length {
        /// On arrival, in bytes.
        got: usize,
        /// What it should be.
        want: usize
    } = "length", "it is {got} bytes long, not {want}";
    /// Damaged on the way, or by a sender that sums otherwise.
    Checksum = "checksum", "its checksum is wrong";
    /// Another virtual router.
    Vrid {
        /// On arrival.
        got: u8
    } = "vrid", "it is for VRID {got}";
    /// An interval of zero (RFC 9568 erratum 8301).
    Interval = "interval", "its advert interval is 0";
    /// No addresses (RFC 9568 erratum 8299).
    VipList = "vip_list", "it lists no virtual address";
    /// Another type of authentication than this router's.
    AuthType {
        /// On arrival.
        got: u8,
        /// This router's.
        want: u8
    } = "auth_type", "its authentication is {}, and this router's is {}: make auth_type equal", AuthName(*got), AuthName(*want);
    /// Another password than this router's.
    AuthData = "auth_data", "its password differs: make auth_pass equal (only 8 bytes count)";
    /// `auth_hmac` in the mode enforce, and no trailer.
    HmacMissing = "hmac_missing", "it carries no HMAC, and auth_hmac is enforced here";
    /// A trailer, and no `auth_hmac` here.
    HmacUnexpected = "hmac_unexpected", "it carries an HMAC, and auth_hmac is not configured here: start with receive-only";
    /// A trailer of an unknown layout.
    HmacType {
        /// The type.
        got: u8
    } = "hmac_type", "its HMAC trailer is of the unknown type {got}";
    /// A key this router does not have.
    HmacKey {
        /// Its number.
        id: u8
    } = "hmac_key", "its HMAC is made with key {id}, which is not configured here";
    /// The wrong key, or a forgery.
    HmacDigest = "hmac_digest", "its HMAC is wrong: the keys differ, or it is forged";
    /// Made too long ago, or in the future.
    HmacStale {
        /// How far from this host's clock.
        off: Duration
    } = "hmac_stale", "it was made {} from now: the clocks differ, or it is replayed", Seconds(*off);
    /// Not newer than the one before.
    HmacReplay = "hmac_replay", "it is no newer than the one before: it is replayed";
}

struct Range(u8, u8);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self(min, max) if min == max => write!(f, "{min}"),
            Self(min, max) => write!(f, "{min} to {max}"),
        }
    }
}

struct Wanted(Option<u8>);

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(version) => write!(f, ", and this router's is {version}"),
            None => f.write_str(", which is unknown"),
        }
    }
}

struct AuthName(u8);

impl fmt::Display for AuthName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("none"),
            1 => f.write_str("PASS"),
            2 => f.write_str("AH"),
            other => write!(f, "of type {other}"),
        }
    }
}

/// `3.61 s`.
pub(in crate::vrrp) struct Seconds(pub(in crate::vrrp) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.0.as_secs_f64())
    }
}
