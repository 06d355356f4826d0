//! What two directors tell each other of their tables: by address, never by index.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use xdp_lb_common::conn::Kind;

use crate::config::model::{Endpoint, Family, Mark, ServiceKey};
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
    pub service: ServiceName,
    /// Which of the service's.
    pub subject: Subject,
}

/// A service of the tables. A group is not among them: it stands in the tables by its members, so that
/// a director whose file has a group and one whose file names the addresses one by one agree on flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceName {
    /// By address, on its own or as the member of a group.
    Endpoint(Endpoint),
    /// By firewall mark, likewise. What gets the mark is for each director's own firewall to say.
    Mark(Mark),
}

impl ServiceName {
    /// Of a service of the tables; `None`: a group.
    pub const fn of(key: &ServiceKey) -> Option<Self> {
        match key {
            ServiceKey::Endpoint(endpoint) => Some(Self::Endpoint(*endpoint)),
            ServiceKey::Mark(mark) => Some(Self::Mark(*mark)),
            ServiceKey::Group { .. } => None,
        }
    }

    /// Family of its clients.
    pub const fn family(&self) -> Family {
        match self {
            Self::Endpoint(endpoint) => Family::of(endpoint.vip),
            Self::Mark(mark) => mark.family,
        }
    }
}

impl From<Endpoint> for ServiceName {
    fn from(endpoint: Endpoint) -> Self {
        Self::Endpoint(endpoint)
    }
}

impl From<Mark> for ServiceName {
    fn from(mark: Mark) -> Self {
        Self::Mark(mark)
    }
}

impl fmt::Display for ServiceName {
    /// As the service's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Mark(mark) => mark.fmt(f),
        }
    }
}

/// A connection or a template of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// A connection.
    Flow {
        /// Address and port of the client.
        client: SocketAddr,
        /// What it called. Of a service by address that is the service itself, but for its port if
        /// that is 0, any; of one by mark it can be any address, port and protocol.
        called: Endpoint,
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
    pub service: ServiceName,
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
        service: ServiceName,
        /// A bit per bucket, see [`super::digest::BUCKETS`].
        mask: u128,
    },
}

/// Whether an entry that a peer tells replaces what stands here: the director that gets a service's
/// packets knows best; between two that do or do not, each keeps its own.
pub const fn replaces(sender_owns: bool, receiver_owns: bool) -> bool {
    sender_owns && !receiver_owns
}
