//! A director in the middle of its life, for the tests of everything that shows one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::service::Stats;

use super::snapshot::{Snapshot, SnapshotInputs};
use crate::config::model::{
    Config, Forwarding, Frontend, Persistence, RealServer, Scheduler, ServiceKey, VirtualAddress,
    VirtualServer, VrrpInstance,
};
use crate::dataplane::{AttachedMode, Counters, Fill, ServerCounters};
use crate::machine::Now;
use crate::plan::desired::{Desired, Method, Reach, Server, Service};
use crate::plan::pool::{Memberships, Overrides};
use crate::plan::table::{Health, Link, Network, Ownership, ServerHealth};
use crate::sync::report::Report;
use crate::vrrp::router;

mod sync;
mod vrrp;

/// The moment of the snapshot.
pub(crate) const NOW: Now = Now(Duration::from_millis(11_520_500));

/// What a snapshot is built from, owned.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) desired: Desired,
    pub(crate) health: Health,
    pub(crate) pools: Memberships,
    pub(crate) overrides: Overrides,
    pub(crate) ownership: Ownership,
    pub(crate) vrrp: Vec<router::Snapshot>,
    pub(crate) sync: Report,
    pub(crate) network: Network,
    pub(crate) counters: Counters,
    pub(crate) attached: BTreeMap<String, AttachedMode>,
    pub(crate) remarks: BTreeMap<String, String>,
    pub(crate) refused: BTreeMap<String, String>,
}

impl Parts {
    pub(crate) fn inputs(&self) -> SnapshotInputs<'_> {
        SnapshotInputs {
            instance: "default",
            version: "0.1.0",
            uptime: NOW.0,
            config: &self.config,
            desired: &self.desired,
            health: &self.health,
            pools: &self.pools,
            overrides: &self.overrides,
            pools_now: NOW,
            ownership: &self.ownership,
            vrrp: &self.vrrp,
            vrrp_now: NOW,
            sync: Some(&self.sync),
            network: &self.network,
            counters: &self.counters,
            attached: &self.attached,
            remarks: &self.remarks,
            refused: &self.refused,
        }
    }
}

/// Two interfaces, three VRRP instances in three states, five services, servers in every state.
pub(crate) fn snapshot() -> Snapshot {
    Snapshot::build(&parts().inputs())
}

/// A service: name, scheduler, persistence (seconds, prefix length), servers with their weights, in the
/// order of the file.
type SampleService = (
    &'static str,
    Scheduler,
    Option<(u64, u8)>,
    &'static [(&'static str, u32)],
);

const SERVICES: [SampleService; 5] = [
    (
        "tcp/192.168.1.200:80",
        Scheduler::RoundRobin,
        None,
        &[("192.168.1.102:80", 1)],
    ),
    (
        "udp/10.1.0.100:80",
        Scheduler::RoundRobin,
        Some((50, 32)),
        &[("10.1.0.11:80", 1)],
    ),
    (
        "tcp/10.1.0.100:443",
        Scheduler::RoundRobin,
        Some((50, 24)),
        &[("10.1.0.11:443", 1)],
    ),
    (
        "tcp/[2001:db8::100]:80",
        Scheduler::WeightedRoundRobin,
        None,
        &[],
    ),
    (
        "tcp/10.1.0.100:80",
        Scheduler::WeightedRoundRobin,
        None,
        &[
            ("10.1.0.110:80", 1),
            ("10.1.0.14:80", 1),
            ("10.1.0.13:80", 3),
            ("10.1.0.12:80", 0),
            ("10.1.0.11:80", 2),
        ],
    ),
];

pub(crate) fn parts() -> Parts {
    let mut parts = Parts::default();
    parts.config.xdp_lb.connections = 4096;
    let attached = [
        ("eth0", AttachedMode::Native),
        ("eth1", AttachedMode::Generic),
    ];
    parts.attached = attached.map(|(name, mode)| (name.to_owned(), mode)).into();
    let link = Link {
        ifindex: 2,
        mac: mac(1),
        mtu: 1500,
        up: true,
        sort: crate::plan::interfaces::Sort::Plain,
    };
    parts.network.links.insert("eth0".to_owned(), link);
    add_vrrp(&mut parts, "VI_1", "eth0", 51, Some(true));
    add_vrrp(&mut parts, "VI_2", "eth0", 52, Some(false));
    add_vrrp(&mut parts, "VI_3", "eth1", 53, None);
    parts.sync = sync::report();
    parts.vrrp = vec![vrrp::master(), vrrp::backup(), vrrp::faulty()];
    for (name, scheduler, persistence, servers) in SERVICES {
        let key = key(name);
        add_service(&mut parts, key, scheduler, persistence);
        for (address, weight) in servers {
            add_server(&mut parts, key, address, *weight);
        }
    }
    bend(&mut parts);
    count(&mut parts);
    parts
}

/// Puts the servers of the web service in all their states.
fn bend(parts: &mut Parts) {
    parts.network.reach.remove(&"10.1.0.14".parse().unwrap());
    let key = key("tcp/10.1.0.100:80");
    let failed = "10.1.0.13:80".parse().unwrap();
    let verdict = ServerHealth {
        up: false,
        ..ServerHealth::default()
    };
    parts.health.insert((key, failed), verdict);
    let service = parts.desired.services.get_mut(&key).unwrap();
    for server in &mut service.servers {
        match server.address.to_string().as_str() {
            "10.1.0.13:80" => server.serving = false,
            "10.1.0.14:80" => server.reach = None,
            "10.1.0.110:80" => server.reach = Some(Reach::Local),
            _ => {}
        }
    }
    let standby = self::key("tcp/192.168.1.200:80");
    parts.desired.services.get_mut(&standby).unwrap().active = false;
}

fn count(parts: &mut Parts) {
    let web = key("tcp/10.1.0.100:80");
    let stats = |connections, packets, bytes| Stats {
        connections,
        packets,
        bytes,
        reply_packets: 0,
        reply_bytes: 0,
    };
    parts.counters.services.insert(web, stats(4, 18, 968));
    let mut server = |address: &str, stats, active, inactive| {
        let counters = ServerCounters {
            stats,
            active,
            inactive,
            templates: 0,
        };
        parts
            .counters
            .servers
            .insert((web, address.parse().unwrap()), counters);
    };
    server("10.1.0.11:80", stats(2, 10, 536), 0, 2);
    server("10.1.0.12:80", stats(2, 8, 432), 1, 1);
    let udp = (key("udp/10.1.0.100:80"), "10.1.0.11:80".parse().unwrap());
    let sticky = ServerCounters {
        inactive: 2,
        templates: 1,
        ..ServerCounters::default()
    };
    parts.counters.servers.insert(udp, sticky);
    for (reason, packets) in [
        (Reason::TxConnection, 12),
        (Reason::TxScheduled, 6),
        (Reason::NoService, 30),
        (Reason::TtlExpired, 1),
        (Reason::TxUnreachable, 2),
    ] {
        parts.counters.packets.insert(reason, packets);
    }
    parts.counters.events.insert(Event::Evicted, 3);
    parts.counters.tables.insert(
        "connections",
        Fill {
            entries: 4,
            capacity: 4096,
        },
    );
    parts.counters.tables.insert(
        "templates",
        Fill {
            entries: 1,
            capacity: 1024,
        },
    );
}

fn add_vrrp(parts: &mut Parts, name: &str, interface: &str, vrid: u8, owned: Option<bool>) {
    let address = format!("10.1.0.{}/24", vrid + 49).parse().unwrap();
    parts.config.vrrp_instances.push(VrrpInstance {
        virtual_addresses: vec![VirtualAddress::new(address)],
        ..VrrpInstance::new(name, interface, vrid.try_into().unwrap())
    });
    if let Some(owned) = owned {
        parts.ownership.insert(name.to_owned(), owned);
    }
}

fn add_service(
    parts: &mut Parts,
    key: ServiceKey,
    scheduler: Scheduler,
    persistence: Option<(u64, u8)>,
) {
    let ServiceKey::Endpoint(endpoint) = key else {
        panic!("{key} has no address");
    };
    let frontend = Frontend::Endpoint(endpoint);
    let persistence = persistence.map(|(seconds, prefix_len)| Persistence {
        timeout: Duration::from_secs(seconds),
        prefix_len,
    });
    parts.config.virtual_servers.push(VirtualServer {
        persistence,
        ..VirtualServer::new(frontend, scheduler, Forwarding::DirectRouting)
    });
    let service = Service {
        active: true,
        lease: None,
        scheduler,
        persistence,
        one_packet: false,
        servers: Vec::new(),
        peers: BTreeMap::new(),
        virtual_mac: None,
        entrances: BTreeSet::new(),
    };
    parts.desired.services.insert(key, service);
}

/// Adds a server to a service, at the head of its list, as IPVS does.
fn add_server(parts: &mut Parts, key: ServiceKey, address: &str, weight: u32) {
    let address: SocketAddr = address.parse().unwrap();
    let last_octet = address
        .ip()
        .to_string()
        .rsplit('.')
        .next()
        .unwrap()
        .to_owned();
    let reach = Reach::Direct {
        ifindex: 2,
        source_mac: mac(1),
        mac: mac(u8::from_str_radix(&last_octet, 16).unwrap_or(0xff)),
        on_link: true,
    };
    parts.network.reach.insert(address.ip(), reach);
    let mut configured = parts.config.virtual_servers.iter_mut();
    let configured = configured.find(|service| service.key() == key).unwrap();
    configured.real_servers.push(RealServer {
        weight,
        ..RealServer::new(address, Forwarding::DirectRouting)
    });
    let server = Server {
        address,
        weight,
        limit: None,
        serving: true,
        releases_clients: false,
        method: Method::Direct,
        reach: Some(reach),
    };
    let service = parts.desired.services.get_mut(&key).unwrap();
    service.servers.insert(0, server);
}

fn key(name: &str) -> ServiceKey {
    name.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac::from_octets([2, 0, 0, 0, 0, last])
}
