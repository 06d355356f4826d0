//! The VRRP message: RFC 3768 section 5.3 and RFC 9568 section 5.2.
//!
//! ```text
//!  byte  0          1      2         3       4         5            6    7
//!  v2    0x21       VRID   priority  count   auth type interval (s) checksum   addresses, 8 auth bytes
//!  v3    0x31       VRID   priority  count   interval (4 + 12 bits) checksum   addresses
//! ```
//!
//! A trailer of `auth_hmac` may follow either ([`super::hmac`]); the checksum does not cover it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::settings::Auth;
use super::super::{Interval, Priority, Version, Vrid};
use super::hmac::{TRAILER, Trailer};
use super::{Advert, Datagram, Refusal, checksum};

const HEADER: usize = 8;
/// Type 1, the only one.
const ADVERT: u8 = 1;
/// Version 2 carries these whatever its authentication.
const AUTH_DATA: usize = 8;

/// A message that is well formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The advert. Its password is there to be compared, nothing of it has been.
    pub advert: Advert,
    /// The type of its authentication as sent.
    pub auth_type: u8,
    /// The HMAC behind it, unverified.
    pub trailer: Option<Trailer>,
}

/// Reads a message. Whatever can be wrong with it by itself is found here, in this order: version,
/// type, length, checksum, VRID, interval.
pub fn decode(datagram: &Datagram) -> Result<Decoded, Refusal> {
    let bytes = datagram.message.as_slice();
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
        let (got, want) = (bytes.len(), HEADER);
        return Err(Refusal::Length { got, want });
    };
    let [version_type, vrid, priority, count, b4, b5, _, _] = *header;
    let version = version_of(version_type, datagram.source)?;
    let kind = version_type & 0xf;
    if kind != ADVERT {
        return Err(Refusal::Type { got: kind });
    }
    let parts = Parts::split(version, datagram.source, count, rest)?;
    if !has_valid_checksum(version, datagram, parts.trailer.is_some()) {
        return Err(Refusal::Checksum);
    }
    let vrid = Vrid::new(vrid).ok_or(Refusal::Vrid { got: vrid })?;
    let (auth_type, centis) = match version {
        Version::V2 => (b4, u16::from(b5) * 100),
        // The upper four bits are reserved: sent as zero, ignored.
        Version::V3 => (0, u16::from_be_bytes([b4 & 0xf, b5])),
    };
    let interval = Interval::from_centis(centis).ok_or(Refusal::Interval)?;
    let advert = Advert {
        version,
        vrid,
        priority: Priority::from_wire(priority),
        interval,
        auth: if auth_type == 1 {
            Auth::Pass(parts.auth)
        } else {
            Auth::None
        },
        addresses: parts.addresses,
    };
    Ok(Decoded {
        advert,
        auth_type,
        trailer: parts.trailer,
    })
}

fn version_of(byte: u8, source: IpAddr) -> Result<Version, Refusal> {
    match (byte >> 4, source) {
        (2, IpAddr::V4(_)) => Ok(Version::V2),
        (3, _) => Ok(Version::V3),
        // Version 2 has no IPv6.
        (got, IpAddr::V6(_)) => Err(Refusal::Version {
            got,
            want: Some(Version::V3),
        }),
        (got, IpAddr::V4(_)) => Err(Refusal::Version { got, want: None }),
    }
}

struct Parts {
    addresses: Vec<IpAddr>,
    auth: [u8; AUTH_DATA],
    trailer: Option<Trailer>,
}

impl Parts {
    fn split(version: Version, source: IpAddr, count: u8, rest: &[u8]) -> Result<Self, Refusal> {
        let size = if source.is_ipv4() { 4 } else { 16 };
        let list = usize::from(count) * size;
        let auth_data = match version {
            Version::V2 => AUTH_DATA,
            Version::V3 => 0,
        };
        let wrong = || Refusal::Length {
            got: HEADER + rest.len(),
            want: HEADER + list + auth_data,
        };
        let (list, rest) = rest.split_at_checked(list).ok_or_else(wrong)?;
        let (auth, rest) = rest.split_at_checked(auth_data).ok_or_else(wrong)?;
        let trailer = match rest.len() {
            0 => None,
            TRAILER => Some(Trailer::read(rest).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        };
        Ok(Self {
            addresses: list.chunks_exact(size).filter_map(address).collect(),
            auth: auth.try_into().unwrap_or_default(),
            trailer,
        })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes)
        .map(Ipv4Addr::from)
        .map(IpAddr::V4);
    let v6 = <[u8; 16]>::try_from(bytes)
        .map(Ipv6Addr::from)
        .map(IpAddr::V6);
    v4.or(v6).ok()
}

/// Version 3 on IPv4 is accepted with the pseudo-header, as keepalived sends it, and without, as
/// RFC 9568 section 5.2.8 says. A sender whose kernel sums for it (IPv6 raw sockets) covers the
/// trailer too.
fn has_valid_checksum(version: Version, datagram: &Datagram, has_trailer: bool) -> bool {
    let whole = datagram.message.as_slice();
    let trailer = if has_trailer { TRAILER } else { 0 };
    let advert = whole
        .get(..whole.len().saturating_sub(trailer))
        .unwrap_or(whole);
    let (source, destination) = (datagram.source, datagram.destination);
    let pseudo = |bytes| checksum::with_pseudo_header(source, destination, bytes) == 0;
    match (version, source) {
        (Version::V2, _) => checksum::plain(advert) == 0,
        (Version::V3, IpAddr::V4(_)) => {
            pseudo(advert) || checksum::plain(advert) == 0 || pseudo(whole)
        }
        (Version::V3, IpAddr::V6(_)) => pseudo(advert) || pseudo(whole),
    }
}

/// Writes a message, byte for byte as keepalived does. With `plain_v3` an IPv4 advert of version 3
/// leaves the pseudo-header out of its checksum.
pub fn encode(advert: &Advert, source: IpAddr, destination: IpAddr, plain_v3: bool) -> Vec<u8> {
    let count = u8::try_from(advert.addresses.len()).unwrap_or(u8::MAX);
    let (b4, b5) = match advert.version {
        Version::V2 => {
            let seconds = (advert.interval.centis() / 100).max(1);
            (
                advert.auth.number(),
                u8::try_from(seconds).unwrap_or(u8::MAX),
            )
        }
        Version::V3 => {
            let [high, low] = advert.interval.centis().min(0xfff).to_be_bytes();
            (high, low)
        }
    };
    let version_type = advert.version.number() << 4 | ADVERT;
    let (vrid, priority) = (advert.vrid.get(), advert.priority.get());
    let start = [version_type, vrid, priority, count, b4, b5];
    let mut rest = Vec::new();
    for address in advert.addresses.iter().take(usize::from(count)) {
        match address {
            IpAddr::V4(address) => rest.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => rest.extend_from_slice(&address.octets()),
        }
    }
    if advert.version == Version::V2 {
        rest.extend_from_slice(&advert.auth.data());
    }
    let message = |sum: u16| [start.as_slice(), &sum.to_be_bytes(), &rest].concat();
    let blank = message(0);
    let plain = advert.version == Version::V2 || (plain_v3 && source.is_ipv4());
    message(if plain {
        checksum::plain(&blank)
    } else {
        checksum::with_pseudo_header(source, destination, &blank)
    })
}
