//! State sync with a peer that is heard and one that is not.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::model::{Endpoint, Protocol};
use crate::machine::Now;
use crate::sync::event::Stats;
use crate::sync::mirror::PeerStatus;
use crate::sync::peer::Theirs;
use crate::sync::record::Summary;
use crate::sync::report::Report;
use crate::sync::wire::Refusal;

fn summary(port: u16, view: u64, is_owned: bool) -> Summary {
    Summary {
        service: Endpoint {
            vip: "192.168.1.200".parse().unwrap(),
            port,
            protocol: Protocol::Tcp,
        }
        .into(),
        view,
        is_owned,
        entries: 12,
        digest: 99,
    }
}

pub(super) fn report() -> Report {
    let theirs = [summary(80, 1, false), summary(443, 2, false)];
    let mut services: BTreeMap<_, _> = theirs
        .into_iter()
        .map(|summary| (summary.service, Theirs::new(Now::ZERO, summary)))
        .collect();
    for of in services.values_mut() {
        of.is_equal = Some(true);
    }
    let heard = PeerStatus {
        address: "192.168.1.3:8848".parse().unwrap(),
        is_established: true,
        is_complete: true,
        silence: Some(Duration::from_millis(300)),
        behind: 0,
        lags: 2,
        same_hash_key: Some(true),
        services,
    };
    let silent = PeerStatus {
        address: "192.168.1.4:8848".parse().unwrap(),
        is_established: false,
        is_complete: false,
        silence: None,
        behind: 0,
        lags: 0,
        same_hash_key: None,
        services: BTreeMap::new(),
    };
    let here = [summary(80, 1, true), summary(443, 7, true)];
    Report {
        is_up_to_date: false,
        peers: vec![heard, silent],
        stats: Stats {
            records_sent: 40,
            refused: [(Refusal::Digest, 3)].into(),
            ..Stats::default()
        },
        services: here.map(|summary| (summary.service, summary)).into(),
        scan: Duration::from_millis(4),
        scan_every: Duration::from_millis(50),
    }
}
