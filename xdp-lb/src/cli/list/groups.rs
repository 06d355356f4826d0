//! Groups, any port and firewall marks: what keepalived made of a file, and what is made of it here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::table::{Columns, Table};
use super::*;
use crate::config::model::{Config, ServiceKey};
use crate::config::parse;
use crate::control::sample::Parts;
use crate::control::snapshot::Snapshot;
use crate::dataplane::{Counters, ServerCounters};
use crate::machine::Now;
use crate::plan::carriers::Peers;
use crate::plan::desired::Desired;
use crate::plan::pool::{Overrides, Pools};
use crate::plan::table::{Health, Inputs, Network, Ownership, desired};
use crate::plan::testing::direct;

const FILE: &str = include_str!("../../../../tests/fixtures/groups/keepalived.conf");
const LISTED: &str = include_str!("../../../../tests/fixtures/groups/ipvsadm-Ln");

fn config() -> Config {
    let loaded = parse("keepalived.conf", FILE.as_bytes());
    loaded
        .unwrap_or_else(|found| panic!("{}", found.render(false)))
        .config
}

fn planned(config: &Config, overrides: &Overrides) -> (Pools, Network, Desired) {
    let mut pools = Pools::default();
    pools.update(Now::ZERO, config, &Health::new(), overrides);
    let reach = (11..=13).map(|n| (format!("10.1.0.{n}").parse().unwrap(), direct(2)));
    let network = Network {
        reach: reach.collect(),
        ..Network::default()
    };
    let desired = desired(&Inputs {
        config,
        ownership: &Ownership::new(),
        pools: pools.memberships(),
        network: &network,
        attached: &BTreeSet::new(),
        peers: &Peers::new(),
    });
    (pools, network, desired)
}

fn snapshot(overrides: &Overrides, counters: Counters) -> Snapshot {
    let config = config();
    let (pools, network, desired) = planned(&config, overrides);
    let parts = Parts {
        pools: pools.memberships().clone(),
        overrides: overrides.clone(),
        config,
        desired,
        network,
        counters,
        ..Parts::default()
    };
    Snapshot::build(&parts.inputs())
}

fn listed(snapshot: &Snapshot) -> String {
    let table = Table {
        snapshot,
        columns: Columns::Connections,
        exact: false,
        state: false,
    };
    table.render().unwrap()
}

#[test]
fn groups_ports_and_marks_are_listed_as_ipvsadm_lists_them_under_keepalived() {
    let snapshot = snapshot(&Overrides::new(), Counters::default());
    assert_eq!(listed(&snapshot), LISTED);
}

#[test]
fn what_a_real_server_of_a_group_has_is_shown_by_service_and_what_it_is_in_all() {
    let key = |text: &str| text.parse::<ServiceKey>().unwrap();
    let server = |text: &str| text.parse::<SocketAddr>().unwrap();
    let mut overrides = Overrides::new();
    let drained = overrides.entry((key("tcp/group:web"), server("10.1.0.11:80")));
    drained.or_default().is_drained = true;
    let busy = ServerCounters {
        active: 3,
        ..ServerCounters::default()
    };
    let counters = Counters {
        servers: BTreeMap::from([((key("tcp/10.1.0.102:443"), server("10.1.0.11:443")), busy)]),
        ..Counters::default()
    };
    let snapshot = snapshot(&overrides, counters);
    let of_group = snapshot
        .services
        .iter()
        .filter(|s| s.group.as_deref() == Some("web"));
    let seen: Vec<_> = of_group
        .map(|service| {
            let first = &service.real_servers[0];
            let counts = (first.weight, first.active_conns);
            (service.label(), first.label(), counts)
        })
        .collect();
    let expected = [
        ("tcp/10.1.0.100:80", "10.1.0.11:80", (0, 0)),
        ("tcp/10.1.0.101:443", "10.1.0.11:443", (0, 0)),
        ("tcp/10.1.0.102:443", "10.1.0.11:443", (0, 3)),
        ("tcp/10.1.0.103:443", "10.1.0.11:443", (0, 0)),
        ("fwmark/7", "10.1.0.11:0", (0, 0)),
    ];
    let expected =
        expected.map(|(service, server, counts)| (service.to_owned(), server.to_owned(), counts));
    assert_eq!(seen, expected);
}

#[test]
fn json_says_what_has_a_mark_and_what_is_of_a_group() {
    let snapshot = snapshot(&Overrides::new(), Counters::default());
    let list = json::render(&snapshot, None, Moment::at(0)).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let services = list["services"].as_array().unwrap();
    let marked = services.iter().find(|s| s["fwmark"] == 1).unwrap();
    let entrances = serde_json::json!(["tcp/10.1.0.130:80", "tcp/10.1.0.130:443"]);
    assert_eq!(marked["entrances"], entrances);
    assert_eq!(
        (&marked["vip"], &marked["protocol"]),
        (&"0.0.0.0".into(), &"fwm".into())
    );
    assert!(marked.get("group").is_none());
    assert_eq!(services[1]["group"], "web");
    assert!(services[1].get("fwmark").is_none());
}
