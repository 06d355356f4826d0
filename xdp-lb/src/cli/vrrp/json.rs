//! `vrrp --json`, and the instances in `status --json`.

use std::net::IpAddr;

use serde::Serialize;

use crate::cli::time::Moment;
use crate::control::snapshot::vrrp::{
    VrrpCounters, VrrpHeard, VrrpInstance, VrrpRefused, VrrpState,
};

/// The form of `--json`. It is stable: fields may be added, none changes or goes away.
pub(super) const HELP: &str = r#"Print JSON

{"instances": [{"name", "state": "INIT|BACKUP|MASTER|FAULT", "interface", "vrid", "version",
  "base_priority": of the file, "priority": and what trackers make of it,
  "master": address or null, "vips": [with prefix length], "transitions",
  "since": "2026-11-25T05:04:54Z" or null, "since_s": how long that is, "reason": or null,
  "leaving": MASTER that waits for its successor,
  "source": of its adverts, or null, "group": they go to, or null, "peers": [or these],
  "advert_interval_ms": or null,
  "stats": {"transitions", "became_master", "released_master", "adverts_sent",
    "adverts_received", "priority_zero_sent", "priority_zero_received",
    "address_list_differs", "interval_differs", "other_masters", "late"},
  "refused": [{"reason", "count", "last_error", "last_sender": or null, "last_at"}],
  "last_master": {"address", "priority", "advert_interval_ms", "heard_at"} or null,
  "other_master": the same, heard while this director was MASTER, or null}]}"#;

/// The stable form for programs.
pub(super) fn render(instances: &[VrrpInstance], now: Moment) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct List<'a> {
        instances: Vec<InstanceView<'a>>,
    }

    let views = instances.iter().map(|i| InstanceView::of(i, now));
    let list = List {
        instances: views.collect(),
    };
    Ok(serde_json::to_string_pretty(&list)? + "\n")
}

/// An instance for programs.
#[derive(Serialize)]
pub(in crate::cli) struct InstanceView<'a> {
    name: &'a str,
    state: VrrpState,
    interface: &'a str,
    vrid: u8,
    version: u8,
    base_priority: u8,
    priority: u8,
    master: Option<IpAddr>,
    vips: &'a [String],
    transitions: u64,
    since: Option<String>,
    since_s: Option<u64>,
    reason: Option<&'a str>,
    leaving: bool,
    source: Option<IpAddr>,
    group: Option<IpAddr>,
    peers: &'a [IpAddr],
    advert_interval_ms: Option<u64>,
    stats: VrrpCounters,
    refused: Vec<RefusedView<'a>>,
    last_master: Option<HeardView>,
    other_master: Option<HeardView>,
}

#[derive(Serialize)]
struct RefusedView<'a> {
    reason: &'a str,
    count: u64,
    last_error: &'a str,
    last_sender: Option<IpAddr>,
    last_at: String,
}

#[derive(Serialize)]
struct HeardView {
    address: IpAddr,
    priority: u8,
    advert_interval_ms: u64,
    heard_at: String,
}

impl<'a> InstanceView<'a> {
    pub(in crate::cli) fn of(instance: &'a VrrpInstance, now: Moment) -> Self {
        let election = instance.election.as_ref();
        let stats = election.map(|e| e.counters).unwrap_or_default();
        let refused = election.map_or(&[][..], |e| &e.refused);
        Self {
            name: &instance.name,
            state: instance.state,
            interface: &instance.interface,
            vrid: instance.vrid,
            version: instance.version,
            base_priority: instance.base_priority,
            priority: election.map_or(instance.base_priority, |e| e.priority),
            master: election.and_then(|e| e.master),
            vips: &instance.vips,
            transitions: stats.transitions,
            since: election.map(|e| now.before(e.state_age_ms).stamp()),
            since_s: election.map(|e| e.state_age_ms / 1000),
            reason: election.and_then(|e| e.reason.as_deref()),
            leaving: election.is_some_and(|e| e.leaving),
            source: election.map(|e| e.source),
            group: election.and_then(|e| e.group),
            peers: election.map_or(&[], |e| &e.peers),
            advert_interval_ms: election.map(|e| e.advert_interval_ms),
            stats,
            refused: refused.iter().map(|r| RefusedView::of(r, now)).collect(),
            last_master: election.and_then(|e| HeardView::of(e.last_master, now)),
            other_master: election.and_then(|e| HeardView::of(e.other_master, now)),
        }
    }
}

impl<'a> RefusedView<'a> {
    fn of(refused: &'a VrrpRefused, now: Moment) -> Self {
        Self {
            reason: &refused.reason,
            count: refused.count,
            last_error: &refused.last_error,
            last_sender: refused.last_sender,
            last_at: now.before(refused.age_ms).stamp(),
        }
    }
}

impl HeardView {
    fn of(heard: Option<VrrpHeard>, now: Moment) -> Option<Self> {
        heard.map(|heard| Self {
            address: heard.address,
            priority: heard.priority,
            advert_interval_ms: heard.advert_interval_ms,
            heard_at: now.before(heard.age_ms).stamp(),
        })
    }
}
