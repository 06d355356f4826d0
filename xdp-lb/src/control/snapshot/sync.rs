//! State sync, as it is shown.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::sync::event::Stats;
use crate::sync::mirror::PeerStatus;
use crate::sync::peer::Theirs;
use crate::sync::record::{ServiceName, Summary};
use crate::sync::report::Report;

/// State sync of a director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSync {
    /// Whether this director holds what its peers hold.
    pub up_to_date: bool,
    /// The other directors.
    pub peers: Vec<SyncPeer>,
    /// Entries told and heard, by what became of them.
    pub records: BTreeMap<String, u64>,
    /// Parts of streams that were asked for again, said again, given up.
    pub parts: BTreeMap<String, u64>,
    /// Datagrams `sent` and `received`.
    pub datagrams: BTreeMap<String, u64>,
    /// Their bytes of UDP payload.
    pub bytes: BTreeMap<String, u64>,
    /// Datagrams refused, by reason; only those that there were.
    pub refused: BTreeMap<String, u64>,
    /// How long the last look through the tables took, microseconds.
    pub scan_us: u64,
    /// From one look to the next, milliseconds.
    pub scan_every_ms: u64,
}

/// Another director.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncPeer {
    /// Where it is reached.
    pub address: SocketAddr,
    /// It is heard, and hears this director.
    pub established: bool,
    /// All of its entries have come.
    pub complete: bool,
    /// How long it has been silent; `None`: never heard.
    pub silent_ms: Option<u64>,
    /// Datagrams of it that are known of and were not taken yet.
    pub behind: u64,
    /// Datagrams of this director that it had not taken yet at its last sign of life.
    pub lag: u64,
    /// Whether its table was made with the same hash key; `None`: not known.
    pub same_hash_key: Option<bool>,
    /// The services of both, and those of one alone.
    pub services: Vec<SyncService>,
}

/// A service as two directors have it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncService {
    /// The label that metrics have for it.
    pub service: String,
    /// Who gets its packets: `here`, `peer`, `both` or `none`.
    pub owner: String,
    /// Whether both files say the same of it; `None`: one has no such service.
    pub same_file: Option<bool>,
    /// Established connections here; `None`: no such service.
    pub entries: Option<u32>,
    /// Those of the peer when it told them last; `None`: no such service.
    pub peer_entries: Option<u32>,
    /// Whether these were the same, at one point of the peer's stream; `None`: not compared.
    pub equal: Option<bool>,
}

impl StateSync {
    /// What there is to show.
    pub fn of(report: &Report) -> Self {
        let Report {
            is_up_to_date,
            peers,
            stats,
            services,
            scan,
            scan_every,
        } = report;
        let named = |all: &[(&str, u64)]| {
            let named = all.iter().map(|(name, value)| ((*name).to_owned(), *value));
            named.collect()
        };
        let refused = stats.refused.iter();
        Self {
            up_to_date: *is_up_to_date,
            peers: peers.iter().map(|peer| of_peer(peer, services)).collect(),
            records: named(&records(stats)),
            parts: named(&[
                ("missing", stats.parts_missing),
                ("repeated", stats.parts_repeated),
                ("lost", stats.parts_lost),
            ]),
            datagrams: named(&[
                ("sent", stats.datagrams_sent),
                ("received", stats.datagrams_received),
            ]),
            bytes: named(&[
                ("sent", stats.bytes_sent),
                ("received", stats.bytes_received),
            ]),
            refused: refused
                .map(|(refusal, count)| (refusal.label().to_owned(), *count))
                .collect(),
            scan_us: u64::try_from(scan.as_micros()).unwrap_or(u64::MAX),
            scan_every_ms: u64::try_from(scan_every.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

const fn records(stats: &Stats) -> [(&'static str, u64); 7] {
    [
        ("changed", stats.records_sent),
        ("told_again", stats.records_walked),
        ("received", stats.records_received),
        ("applied", stats.records_applied),
        ("kept_own", stats.records_kept),
        ("unknown", stats.records_unknown),
        ("no_way", stats.records_without_way),
    ]
}

fn of_peer(peer: &PeerStatus, here: &BTreeMap<ServiceName, Summary>) -> SyncPeer {
    let mut keys: Vec<ServiceName> = here.keys().chain(peer.services.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    // Before anything was told, nothing can be said to be missing.
    keys.retain(|key| !peer.services.is_empty() || peer.services.contains_key(key));
    SyncPeer {
        address: peer.address,
        established: peer.is_established,
        complete: peer.is_complete,
        silent_ms: peer
            .silence
            .map(|silence| u64::try_from(silence.as_millis()).unwrap_or(u64::MAX)),
        behind: peer.behind,
        lag: peer.lags,
        same_hash_key: peer.same_hash_key,
        services: keys
            .iter()
            .map(|key| of_service(key, here.get(key), peer.services.get(key)))
            .collect(),
    }
}

fn of_service(key: &ServiceName, mine: Option<&Summary>, theirs: Option<&Theirs>) -> SyncService {
    let owns = |summary: Option<&Summary>| summary.is_some_and(|summary| summary.is_owned);
    let told = theirs.map(|theirs| &theirs.summary);
    let owner = match (owns(mine), owns(told)) {
        (true, true) => "both",
        (true, false) => "here",
        (false, true) => "peer",
        (false, false) => "none",
    };
    SyncService {
        service: key.to_string(),
        owner: owner.to_owned(),
        same_file: mine.zip(told).map(|(mine, told)| mine.view == told.view),
        entries: mine.map(|mine| mine.entries),
        peer_entries: told.map(|told| told.entries),
        equal: theirs.and_then(|theirs| theirs.is_equal),
    }
}
