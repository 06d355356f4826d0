//! Metrics of state sync; without it there are no series.

use std::collections::BTreeMap;
use std::fmt::Error;

use prometheus_client::encoding::DescriptorEncoder;

use super::collector::Family;
use super::table::{self, Metric};
use crate::control::snapshot::sync::{StateSync, SyncPeer};
use crate::sync::wire::Refusal;

/// A metric and how to read it off a peer.
type ValueOf = (&'static Metric, fn(&SyncPeer) -> u64);

const VALUES: [ValueOf; 5] = [
    (&table::SYNC_PEER_UP, |peer| u64::from(peer.established)),
    (&table::SYNC_PEER_COMPLETE, |peer| u64::from(peer.complete)),
    (&table::SYNC_PEER_LAG, |peer| peer.lag),
    (&table::SYNC_PEER_BEHIND, |peer| peer.behind),
    (&table::SYNC_SERVICES_DIFFERING, |peer| {
        let services = peer.services.iter();
        services.filter(|of| of.same_file != Some(true)).count() as u64
    }),
];

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    sync: Option<&StateSync>,
) -> Result<(), Error> {
    let mut family = Family::begin(encoder, &table::SYNC_UP_TO_DATE)?;
    if let Some(sync) = sync {
        family.plain(u64::from(sync.up_to_date))?;
    }
    for (metric, value) in VALUES {
        let mut family = Family::begin(encoder, metric)?;
        for peer in sync.iter().flat_map(|sync| &sync.peers) {
            family.sample(&[("peer", peer.address.to_string())], value(peer))?;
        }
    }
    let Some(sync) = sync else { return Ok(()) };
    let named: [(&Metric, &str, &BTreeMap<String, u64>); 4] = [
        (&table::SYNC_RECORDS, "kind", &sync.records),
        (&table::SYNC_PARTS, "kind", &sync.parts),
        (&table::SYNC_DATAGRAMS, "direction", &sync.datagrams),
        (&table::SYNC_BYTES, "direction", &sync.bytes),
    ];
    for (metric, label, values) in named {
        let mut family = Family::begin(encoder, metric)?;
        for (name, value) in values {
            family.sample(&[(label, name.as_str())], *value)?;
        }
    }
    let mut family = Family::begin(encoder, &table::SYNC_REFUSED)?;
    for refusal in Refusal::ALL {
        let count = sync.refused.get(refusal.label()).copied().unwrap_or(0);
        family.sample(&[("reason", refusal.label())], count)?;
    }
    let mut family = Family::begin(encoder, &table::SYNC_SCAN)?;
    family.seconds(sync.scan_us / 1000)
}
