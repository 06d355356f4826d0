//! What happens per second, from two snapshots.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use serde::Serialize;

use crate::control::snapshot::{Snapshot, Traffic};

/// What happens per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Rate {
    #[serde(rename = "conns_per_s")]
    pub(super) conns: u64,
    #[serde(rename = "in_packets_per_s")]
    pub(super) packets: u64,
    #[serde(rename = "in_bytes_per_s")]
    pub(super) bytes: u64,
    #[serde(rename = "out_packets_per_s")]
    pub(super) out_packets: u64,
    #[serde(rename = "out_bytes_per_s")]
    pub(super) out_bytes: u64,
}

impl Rate {
    pub(super) const fn numbers(self) -> [u64; 5] {
        [
            self.conns,
            self.packets,
            self.out_packets,
            self.bytes,
            self.out_bytes,
        ]
    }
}

/// Rates by service and real server; those of a service itself stand under the empty name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rates(BTreeMap<(String, String), Rate>);

impl Rates {
    pub(super) fn between(before: &Snapshot, after: &Snapshot) -> anyhow::Result<Self> {
        let elapsed = after.uptime_ms.checked_sub(before.uptime_ms);
        let elapsed = elapsed.context("the agent was restarted meanwhile; try again")?;
        ensure!(elapsed > 0, "the agent's clock stands still");
        let before = totals(before);
        let rates = totals(after).into_iter().map(|(name, now)| {
            // What was not there before has no rate yet.
            let then = before.get(&name).copied().unwrap_or(now);
            let per_second = |now: u64, then: u64| {
                // Rounded; a counter that fell belongs to new maps.
                (now.saturating_sub(then).saturating_mul(1000) + elapsed / 2) / elapsed
            };
            let rate = Rate {
                conns: per_second(now.conns, then.conns),
                packets: per_second(now.packets, then.packets),
                bytes: per_second(now.bytes, then.bytes),
                out_packets: per_second(now.out_packets, then.out_packets),
                out_bytes: per_second(now.out_bytes, then.out_bytes),
            };
            (name, rate)
        });
        Ok(Self(rates.collect()))
    }

    pub(super) fn of(&self, service: &str, server: &str) -> Rate {
        let name = (service.to_owned(), server.to_owned());
        self.0.get(&name).copied().unwrap_or_default()
    }
}

/// Counters by service and real server, in the form of [`Rates`].
fn totals(snapshot: &Snapshot) -> BTreeMap<(String, String), Rate> {
    let total = |traffic: &Traffic| Rate {
        conns: traffic.conns,
        packets: traffic.in_packets,
        bytes: traffic.in_bytes,
        out_packets: traffic.out_packets,
        out_bytes: traffic.out_bytes,
    };
    let mut totals = BTreeMap::new();
    for service in &snapshot.services {
        totals.insert((service.label(), String::new()), total(&service.traffic));
        for server in &service.real_servers {
            totals.insert((service.label(), server.label()), total(&server.traffic));
        }
    }
    totals
}
