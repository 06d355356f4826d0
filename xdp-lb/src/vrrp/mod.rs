//! Who owns which virtual address: VRRP as pure bookkeeping over adverts, trackers and time.
//!
//! In: datagrams as they came off the wire, the states of interfaces, scripts and files, the time.
//! Out: adverts to send, addresses to take or drop, the gate of the packet path to open or close,
//! announcements, notifications, and what people should read in the journal. [`packet`] is the wire
//! format; [`timing`] the formulas; [`priority`] what trackers make of a priority; [`settings`] what
//! the configuration says; [`router`] one virtual router (a `vrrp_instance`); [`group`] all of them,
//! those in a sync group moving together.
//!
//! Nothing here opens a socket, reads a clock or adds an address. What drives it keeps three rules:
//! it hands over every datagram that has arrived before it calls `expire` (adverts that wait in a
//! socket are no silence), it carries out the actions of one call in their order, and it encodes an
//! advert when it is told to send it ([`router::Router::message`]).

pub mod group;
pub mod packet;
pub mod priority;
pub mod router;
pub mod settings;
#[cfg(test)]
pub(crate) mod testing;
pub mod timing;

use std::fmt;
use std::time::Duration;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// RFC 3768: IPv4, whole seconds, a password in the clear.
    V2,
    /// RFC 9568 (and 5798): IPv4 and IPv6, hundredths of a second.
    V3,
}

impl Version {
    /// As it stands on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

/// A virtual router identifier, 1 to 255, unique per link and address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vrid(u8);

impl Vrid {
    /// `None` for 0.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A priority: 1 to 254, 255 for the owner of the addresses, and on the wire 0 for a master that
/// gives up (RFC 9568 section 5.2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Priority(u8);

impl Priority {
    /// A master that gives up.
    pub const RELEASE: Self = Self(0);
    /// The lowest that takes part.
    pub const LOWEST: Self = Self(1);
    /// The highest but for an owner.
    pub const HIGHEST: Self = Self(254);
    /// The owner of the addresses.
    pub const OWNER: Self = Self(255);

    /// The priority of a router that takes part; `None` for 0.
    pub const fn new(number: u8) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number))
        }
    }

    /// As it stands on the wire, 0 included.
    pub const fn from_wire(number: u8) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Is it the owner's?
    pub const fn is_owner(self) -> bool {
        self.0 == Self::OWNER.0
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The time between two adverts: never zero, at most 255 seconds, in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Interval(u16);

impl Interval {
    /// `None` for zero and for more than version 2 can say.
    pub const fn from_centis(centis: u16) -> Option<Self> {
        if centis == 0 || centis > 25_500 {
            None
        } else {
            Some(Self(centis))
        }
    }

    /// In hundredths of a second.
    pub const fn centis(self) -> u16 {
        self.0
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

impl fmt::Display for Interval {
    /// `1 s`, `0.25 s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.duration().as_secs_f64())
    }
}

/// The wall clock: time since the Unix epoch. Only stamps against replay are made of it; no timer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wall(pub Duration);
