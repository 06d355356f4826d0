//! What a mirror says and counts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use super::record::ServiceName;
use super::wire::Refusal;

/// Something that an operator may want to know: one line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Event {
    /// A peer is heard and hears this director.
    #[error("state sync with {peer} is established")]
    PeerUp {
        /// Who.
        peer: SocketAddr,
    },
    /// A peer was started anew.
    #[error("state sync: {peer} was restarted; its table is compared from the start")]
    PeerRestarted {
        /// Who.
        peer: SocketAddr,
    },
    /// A peer has said nothing for long.
    #[error(
        "state sync: nothing was heard of {peer} for {} s; what happens from now on is told when it \
         is back", .silence.as_secs()
    )]
    PeerDown {
        /// Who.
        peer: SocketAddr,
        /// For how long.
        silence: Duration,
    },
    /// A peer was silent and is heard again.
    #[error("state sync: {peer} is heard again")]
    PeerBack {
        /// Who.
        peer: SocketAddr,
    },
    /// The whole table of a peer has come.
    #[error("state sync: all of {peer} has come, {entries} entries in {:.1} s", .took.as_secs_f64())]
    Synced {
        /// From whom.
        peer: SocketAddr,
        /// How many entries.
        entries: u64,
        /// How long it took.
        took: Duration,
    },
    /// Parts of a peer's stream are lost for good; everything is told again.
    #[error(
        "state sync: {parts} datagrams of {peer} are lost for good, so all of its entries are asked for \
         again; if this happens often, the path between the directors is too slow or loses packets"
    )]
    Lost {
        /// Of whom.
        peer: SocketAddr,
        /// How many.
        parts: u64,
    },
    /// Digests differ.
    #[error(
        "state sync: {service} differs from {peer} in {buckets} of 128 parts, which are told again"
    )]
    Differs {
        /// From whom.
        peer: SocketAddr,
        /// In which service.
        service: ServiceName,
        /// In how many buckets.
        buckets: u32,
    },
    /// Services that the files of two directors define differently.
    #[error(
        "state sync: {first}{} stands differently in the file of {peer}: connections are kept only where \
         both know the server; `xdp-lb sync` lists what differs", and_others(*.services)
    )]
    ViewsDiffer {
        /// Whose file.
        peer: SocketAddr,
        /// How many services.
        services: usize,
        /// The first of them.
        first: ServiceName,
    },
    /// The files agree again.
    #[error("state sync: all virtual services that {peer} has, too, stand the same in its file")]
    ViewsAgree {
        /// Whose file.
        peer: SocketAddr,
    },
    /// The hash of the connection tables has different keys.
    #[error(
        "state sync: the connection table of {peer} was made with another hash key, before sync was \
         configured; connections that find no way in a full table may change their server in a \
         failover, until both tables have been made anew: stop xdp-lb by SIGTERM and start it"
    )]
    HashKeyDiffers {
        /// Whose.
        peer: SocketAddr,
    },
    /// Overrides of another director count here, too.
    #[error("state sync: {overrides} overrides of weights and drains are taken over from {peer}")]
    Adopted {
        /// From whom.
        peer: SocketAddr,
        /// How many.
        overrides: usize,
    },
    /// Datagrams were refused.
    #[error("state sync: a datagram of {from} is refused: {refusal}{}", and_more(*.more))]
    Refused {
        /// Who sent the last of them.
        from: SocketAddr,
        /// Why.
        refusal: Refusal,
        /// How many more there were since the last message about it.
        more: u64,
    },
}

fn and_others(services: usize) -> String {
    match services {
        0 | 1 => String::new(),
        services => format!(" and {} other virtual services", services - 1),
    }
}

fn and_more(more: u64) -> String {
    match more {
        0 => String::new(),
        more => format!(" ({more} more for the same reason)"),
    }
}

impl Event {
    /// Whether an operator should do something about it.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::PeerUp { .. }
            | Self::PeerRestarted { .. }
            | Self::PeerBack { .. }
            | Self::Synced { .. }
            | Self::Differs { .. }
            | Self::ViewsAgree { .. }
            | Self::Adopted { .. } => false,
            Self::PeerDown { .. }
            | Self::Lost { .. }
            | Self::ViewsDiffer { .. }
            | Self::HashKeyDiffers { .. }
            | Self::Refused { .. } => true,
        }
    }
}

/// Counters since the mirror was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Datagrams sent, to all peers or to one.
    pub datagrams_sent: u64,
    /// Their bytes of UDP payload.
    pub bytes_sent: u64,
    /// Datagrams accepted.
    pub datagrams_received: u64,
    /// Their bytes of UDP payload.
    pub bytes_received: u64,
    /// Entries told because they were new or had changed.
    pub records_sent: u64,
    /// Entries told because a peer asked for them.
    pub records_walked: u64,
    /// Entries that peers told.
    pub records_received: u64,
    /// Those of them that were put into the tables.
    pub records_applied: u64,
    /// Those that were left out as this director knows better.
    pub records_kept: u64,
    /// Those of services or servers that this director does not have.
    pub records_unknown: u64,
    /// Those that found no way in the tables.
    pub records_without_way: u64,
    /// Parts of streams that were asked for again.
    pub parts_missing: u64,
    /// Parts said again.
    pub parts_repeated: u64,
    /// Parts of peers' streams that were given up.
    pub parts_lost: u64,
    /// Datagrams refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
}
