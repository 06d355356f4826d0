//! The wire format: adverts to bytes and back, and every reason for which one is refused.
//!
//! [`ip`] reads and writes the IPv4 header (the kernel keeps IPv6 headers to itself); [`message`] the
//! VRRP message of both versions; [`checksum`] its sum; [`hmac`] the trailer of `auth_hmac`;
//! [`refusal`] names what can be wrong. Whether an advert suits a router's settings is the router's to
//! say (`router/receive.rs`).

pub mod checksum;
pub mod hmac;
pub mod ip;
pub mod message;
pub mod refusal;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use super::settings::Auth;
use super::{Interval, Priority, Version, Vrid};

pub use refusal::{Refusal, Refused};

/// The IP protocol number of VRRP (RFC 9568 section 5.1.1.4).
pub const PROTOCOL: u8 = 112;
/// TTL or hop limit of every advert; a router on the way would lower it (RFC 9568 section 5.1.1.3).
pub const HOPS: u8 = 255;

/// A VRRP message and the parts of the IP header that are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub hops: u8,
    /// The message, without padding of the link.
    pub message: Vec<u8>,
}

impl Datagram {
    /// The VRID that the message claims, before anything is checked: which router to give it to.
    pub fn vrid(&self) -> Option<Vrid> {
        self.message.get(1).copied().and_then(Vrid::new)
    }
}

/// An advertisement, the only message of VRRP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advert {
    /// The protocol's version.
    pub version: Version,
    /// Which virtual router.
    pub vrid: Vrid,
    /// The sender's priority; 0: it gives up.
    pub priority: Priority,
    /// The sender's interval.
    pub interval: Interval,
    /// Authentication, version 2 only.
    pub auth: Auth,
    /// The addresses it is about.
    pub addresses: Vec<IpAddr>,
}
