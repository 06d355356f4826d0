//! What two directors tell each other of their tables: by address, never by index.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xdp_lb_common::conn::Kind;

use crate::config::model::Endpoint;
use crate::plan::installed::ServerKey;
use crate::plan::pool::Override;

/// A connection or a template: whose, where to, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which.
    pub name: Name,
    /// Address and port of the real server.
    pub server: SocketAddr,
    /// What is known of it.
    pub phase: Phase,
    /// How long it lives if nothing happens.
    pub remaining: Duration,
}

/// What names a connection or a template, on every director of a cluster alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name {
    /// The virtual service it belongs to.
    pub service: Endpoint,
    /// Which of the service's.
    pub subject: Subject,
}

/// A connection or a template of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A connection.
    Flow {
        /// Address and port of the client.
        client: SocketAddr,
        /// The address that it called: the VIP of the service.
        vip: IpAddr,
        /// The port that it called; another than the service's only if that has port 0, any.
        port: u16,
    },
    /// A persistence template.
    Template {
        /// The client's address, masked by the service's granularity.
        client: IpAddr,
    },
}

/// The states that are told. A connection of which only a SYN was seen is not: a flood would be sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// TCP, established.
    Established,
    /// TCP, the client sent FIN.
    Fin,
    /// TCP, the client sent RST.
    Closed,
    /// UDP, several datagrams seen.
    Udp,
    /// A template of which a connection was confirmed.
    Template,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Established,
        Self::Fin,
        Self::Closed,
        Self::Udp,
        Self::Template,
    ];

    /// Of a way's kind; `None` for those that are not told.
    pub const fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Established => Some(Self::Established),
            Kind::Fin => Some(Self::Fin),
            Kind::Closed => Some(Self::Closed),
            Kind::Udp => Some(Self::Udp),
            Kind::Template => Some(Self::Template),
            // How replies find back is this director's own: another finds it out by the next packet.
            Kind::Free
            | Kind::Claimed
            | Kind::Syn
            | Kind::UdpNew
            | Kind::TemplateNew
            | Kind::ReplyNew
            | Kind::Reply
            | Kind::Fragment => None,
        }
    }

    /// The kind a way has for it.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Established => Kind::Established,
            Self::Fin => Kind::Fin,
            Self::Closed => Kind::Closed,
            Self::Udp => Kind::Udp,
            Self::Template => Kind::Template,
        }
    }

    /// Whether digests cover it: what both directors hold for long. UDP flows and templates end by
    /// silence alone, a little earlier here and later there, so they would differ all the time.
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::Established)
    }
}

/// A service as one director holds it, for the other to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Which.
    pub service: Endpoint,
    /// A hash of what the file says about it, see [`super::view`].
    pub view: u64,
    /// Its packets are handled here.
    pub is_owned: bool,
    /// Lasting entries: established connections.
    pub entries: u32,
    /// Their digest, see [`super::digest`].
    pub digest: u64,
}

/// An override of a real server.
pub type Overriding = (ServerKey, Override);

/// When the overrides were last changed, and by whom: the later change counts, everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stamp {
    /// Milliseconds since 1970.
    pub millis: u64,
    /// Session of the director on which it was made: decides between two in one millisecond.
    pub session: u64,
}

/// Which entries a peer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of services that the asked one owns.
    Owned,
    /// Those of a service whose digests fall into some buckets, a bit each.
    Buckets {
        /// The service.
        service: Endpoint,
        /// A bit per bucket, see [`super::digest::BUCKETS`].
        mask: u128,
    },
}

/// Whether an entry that a peer tells replaces what stands here: the director that gets a service's
/// packets knows best; between two that do or do not, each keeps its own.
pub const fn replaces(sender_owns: bool, receiver_owns: bool) -> bool {
    sender_owns && !receiver_owns
}
