//! Three virtual routers in the middle of their lives.

use std::net::IpAddr;
use std::time::Duration;

use super::NOW;
use crate::machine::Now;
use crate::vrrp::packet::refusal::Kind;
use crate::vrrp::packet::{Refusal, Refused};
use crate::vrrp::router::{Fault, Heard, LastRefused, Router, Snapshot, State, Stats, Why};
use crate::vrrp::settings::{Peer, Settings, Transport};
use crate::vrrp::{Interval, Priority, Version, Vrid};

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 2));
const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 0, 3));

/// MASTER since the other one fell silent, with everything that somebody should look after.
pub(super) fn master() -> Snapshot {
    let heard = heard(OTHER, 100, ago(125_000));
    let why = Why::NoAdvert {
        from: Some(OTHER),
        silent_for: Duration::from_micros(3_609_375),
    };
    let mut stats = Stats {
        adverts_received: 12,
        adverts_sent: 11_520,
        releases_sent: 1,
        address_list_differs: 2,
        interval_differs: 1,
        other_masters: 4,
        became_master: 1,
        transitions: 2,
        late: 1,
        last_master: Some(heard),
        last_other_master: Some(heard),
        ..Stats::default()
    };
    refuse(&mut stats, 12, Refusal::AuthData, ago(4_000));
    let (got, min, max) = (254, 255, 255);
    refuse(&mut stats, 2, Refusal::Ttl { got, min, max }, ago(95_000));
    Snapshot {
        state: State::Master,
        base_priority: Priority::new(101).unwrap(),
        priority: Priority::new(99).unwrap(),
        master: Some(OWN),
        since: Now(Duration::from_millis(3_610)),
        why: Some(why),
        stats,
        ..fresh(settings("VI_1", 51))
    }
}

/// BACKUP of a peer that it hears by unicast, ten times a second.
pub(super) fn backup() -> Snapshot {
    let interval = Interval::from_centis(10).unwrap();
    let settings = Settings {
        version: Version::V3,
        interval,
        transport: Transport::Unicast {
            peers: vec![Peer::new(OTHER)],
            check_source: false,
        },
        ..settings("VI_2", 52)
    };
    Snapshot {
        state: State::Backup,
        master: Some(OTHER),
        since: ago(302_000),
        why: Some(Why::Started),
        stats: Stats {
            adverts_received: 3020,
            transitions: 1,
            last_master: Some(Heard {
                interval,
                ..heard(OTHER, 150, ago(60))
            }),
            ..Stats::default()
        },
        ..fresh(settings)
    }
}

/// Without its interface.
pub(super) fn faulty() -> Snapshot {
    Snapshot {
        state: State::Fault,
        since: ago(10_000),
        why: Some(Why::Fault(Fault::Interface("eth1".to_owned()))),
        stats: Stats {
            transitions: 2,
            ..Stats::default()
        },
        ..fresh(Settings {
            interface: "eth1".to_owned(),
            ..settings("VI_3", 53)
        })
    }
}

fn settings(name: &str, vrid: u8) -> Settings {
    let address = IpAddr::from([10, 1, 0, vrid + 49]);
    Settings::new(name, Vrid::new(vrid).unwrap(), OWN, vec![address])
}

fn fresh(settings: Settings) -> Snapshot {
    Router::new(Now::ZERO, settings).snapshot()
}

fn ago(milliseconds: u64) -> Now {
    Now(NOW.0.saturating_sub(Duration::from_millis(milliseconds)))
}

fn heard(from: IpAddr, priority: u8, at: Now) -> Heard {
    Heard {
        from,
        priority: Priority::new(priority).unwrap(),
        interval: Interval::from_centis(100).unwrap(),
        at,
    }
}

fn refuse(stats: &mut Stats, count: u64, reason: Refusal, at: Now) {
    let kind: Kind = reason.kind();
    let refused = Refused {
        sender: Some(IpAddr::from([10, 1, 0, 9])),
        vrid: Vrid::new(51),
        reason,
    };
    stats.refused.insert(kind, count);
    stats.last_refused.insert(kind, LastRefused { refused, at });
}
