//! A cluster to plan for, arbitrary tables, and what makes tables unsound.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use xdp_lb_common::addr::Mac;

use super::belongings::{Belonging, Route, Rule, Silence, VirtualLink};
use super::desired::{Desired, Method, OwnedAddress, Port, Reach, Server, Service};
use super::groups::GroupNeighbour;
use super::installed::Installed;
use super::table::{Link, Network};
use crate::config::model::{
    Config, Endpoint, Forwarding, Frontend, InitialState, Protocol, RealServer, Scheduler,
    ServiceKey, VirtualAddress, VirtualServer, VrrpInstance,
};
use crate::health::testing::check_of;

/// `tcp/192.168.1.200:80` and its neighbours.
pub(crate) fn service_key(index: u8) -> ServiceKey {
    endpoint(index).into()
}

/// What it is named by.
pub(crate) fn endpoint(index: u8) -> Endpoint {
    Endpoint {
        vip: [192, 168, 1, 200 + index].into(),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

/// `192.168.1.101:80` and its neighbours.
pub(crate) fn server_address(index: u8) -> SocketAddr {
    SocketAddr::from(([192, 168, 1, 101 + index], 80))
}

/// The first thing that is wrong: a published schedule that points at a server that was not set or
/// is not alive, or a server behind a port that is not set.
pub(crate) fn unsound(installed: &Installed) -> Option<String> {
    for (key, published) in &installed.services {
        let servers = published.contents.iter().flat_map(|s| &s.servers);
        for server in servers.filter(|server| server.is_eligible()) {
            match installed.servers.get(&(*key, server.address)) {
                Some(Some(record)) if !record.is_eligible() => {
                    return Some(format!("{key} points at {}, which is dead", server.address));
                }
                Some(_) => {}
                None => return Some(format!("{key} points at {}, never set", server.address)),
            }
        }
    }
    for ((key, address), record) in &installed.servers {
        let reach = record.as_ref().and_then(|server| server.reach);
        if let Some(Reach::Direct { ifindex, .. }) = reach
            && !installed.ports.contains_key(&ifindex)
        {
            return Some(format!("{address} of {key} is behind {ifindex}, not set"));
        }
    }
    None
}

pub(crate) const VIP: &str = "192.168.1.200";

fn real_server(address: &str) -> RealServer {
    let address: SocketAddr = address.parse().unwrap();
    RealServer {
        checks: vec![check_of(address, 1)],
        ..RealServer::new(address, Forwarding::DirectRouting)
    }
}

/// As seed 004: one instance, one service, two servers.
pub(crate) fn websocket() -> Config {
    Config {
        vrrp_instances: vec![instance("VI_1", "eth0", VIP)],
        virtual_servers: vec![VirtualServer {
            real_servers: vec![
                real_server("192.168.1.102:80"),
                real_server("192.168.1.103:80"),
            ],
            ..VirtualServer::new(
                Frontend::Endpoint(endpoint(0)),
                Scheduler::WeightedRoundRobin,
                Forwarding::DirectRouting,
            )
        }],
        ..Config::default()
    }
}

pub(crate) fn instance(name: &str, interface: &str, vip: &str) -> VrrpInstance {
    let address = format!("{vip}/24").parse().unwrap();
    VrrpInstance {
        initial_state: InitialState::Master,
        virtual_addresses: vec![VirtualAddress::new(address)],
        ..VrrpInstance::new(name, interface, 51.try_into().unwrap())
    }
}

pub(crate) fn link(ifindex: u32) -> Link {
    Link {
        ifindex,
        mac: Mac(u64::from(ifindex)),
        mtu: 1500,
        up: true,
        sort: super::interfaces::Sort::Plain,
    }
}

pub(crate) fn direct(ifindex: u32) -> Reach {
    Reach::Direct {
        ifindex,
        source_mac: Mac(u64::from(ifindex)),
        mac: Mac(0x66),
        on_link: true,
    }
}

pub(crate) fn network() -> Network {
    let links = [("eth0".to_owned(), link(2)), ("eth1".to_owned(), link(3))];
    let reach = [
        ("192.168.1.102".parse().unwrap(), direct(2)),
        ("192.168.1.103".parse().unwrap(), direct(3)),
    ];
    Network {
        links: links.into(),
        reach: reach.into(),
        addresses: [(2, vec!["192.168.1.100/24".parse().unwrap()])].into(),
        strayed: 0,
    }
}

/// Tables from a universe so small that two of them overlap.
pub(crate) fn any_desired() -> impl Strategy<Value = Desired> {
    let ports = prop::collection::btree_map(1_u32..4, any_port(), 0..3);
    let services =
        prop::collection::btree_map((0_u8..3).prop_map(service_key), any_service(), 0..4);
    let addresses = prop::collection::btree_set(any_address(), 0..3);
    (ports, services, addresses, any_belongings()).prop_map(
        |(ports, services, addresses, belongings)| Desired {
            ports: with_leading(ports, &services),
            services,
            addresses: one_per_ip(addresses),
            belongings,
        },
    )
}

fn any_belongings() -> impl Strategy<Value = Vec<Belonging>> {
    let link = |(vrid, parent)| {
        Belonging::Link(VirtualLink {
            name: format!("vrrp.{vrid}"),
            parent,
            mac: [0, 0, 0x5e, 0, 1, vrid],
            is_v6: false,
            carries_v6: false,
        })
    };
    let links = prop::collection::btree_map(1_u8..3, 1_u32..3, 0..3);
    let links = links.prop_map(move |links| links.into_iter().map(link).collect::<Vec<_>>());
    let all = |numbers: Vec<u8>| {
        let route = |number| format!("10.{number}.0.0/16").parse().unwrap();
        let each = numbers.into_iter().map(|number| match number {
            0 => Belonging::Silence(Silence {
                addresses: [(endpoint(0).vip, 2)].into(),
            }),
            1..3 => Belonging::Route(Route::to(route(number))),
            3 | 4 => Belonging::Rule(Rule::all(false, number.into())),
            _ => Belonging::Group(GroupNeighbour {
                ifindex: 2,
                group: [224, 0, 0, 18].into(),
            }),
        });
        each.collect::<Vec<_>>()
    };
    let others = prop::sample::subsequence(vec![0_u8, 1, 2, 3, 4, 5], 0..=6).prop_map(all);
    (links, others).prop_map(|(links, others)| links.into_iter().chain(others).collect())
}

fn any_port() -> impl Strategy<Value = Port> {
    (1_u64..3).prop_map(|mac| Port {
        mac: Mac(mac),
        mtu: 1500,
        vlan: None,
    })
}

fn any_service() -> impl Strategy<Value = Service> {
    let schedulers = vec![Scheduler::RoundRobin, Scheduler::WeightedRoundRobin];
    let servers = prop::collection::btree_map(0_u8..4, any_server(), 0..5);
    let servers = servers.prop_map(Vec::from_iter).prop_shuffle();
    let leases = prop_oneof![
        Just(None),
        (1_u64..3).prop_map(Duration::from_secs).prop_map(Some)
    ];
    let peers = prop::collection::btree_map(any_peer(), (1_u64..3).prop_map(Mac), 0..2);
    let gate = (any::<bool>(), leases);
    let macs = prop::option::of((1_u64..3).prop_map(Mac));
    let entrances = prop::collection::btree_set((0_u8..3).prop_map(endpoint), 0..3);
    let schedulers = prop::sample::select(schedulers);
    (gate, schedulers, servers, peers, (macs, entrances)).prop_map(
        |((active, lease), scheduler, servers, peers, (virtual_mac, entrances))| Service {
            active,
            lease,
            scheduler,
            persistence: None,
            one_packet: false,
            servers: servers
                .into_iter()
                .map(|(index, server)| Server {
                    address: server_address(index),
                    ..server
                })
                .collect(),
            peers,
            virtual_mac,
            entrances,
        },
    )
}

fn any_peer() -> impl Strategy<Value = IpAddr> {
    (1_u8..3).prop_map(|number| IpAddr::from([192, 168, 1, number]))
}

fn any_server() -> impl Strategy<Value = Server> {
    let direct = |(ifindex, mac)| Reach::Direct {
        ifindex,
        source_mac: Mac(9),
        mac: Mac(mac),
        on_link: true,
    };
    let reach = prop_oneof![
        Just(None),
        Just(Some(Reach::Local)),
        (1_u32..4, 1_u64..3).prop_map(direct).prop_map(Some),
    ];
    let flags = (any::<bool>(), any::<bool>());
    (0_u32..3, flags, reach).prop_map(|(weight, (serving, releases_clients), reach)| Server {
        address: server_address(0),
        weight,
        limit: None,
        serving,
        releases_clients,
        method: Method::Direct,
        reach,
    })
}

fn any_address() -> impl Strategy<Value = OwnedAddress> {
    let labels = prop_oneof![Just(None), Just(Some("eth0:0".to_owned()))];
    (1_u32..3, 0_u8..3, 31_u8..33, labels).prop_map(|(ifindex, vip, prefix_len, label)| {
        let address = ipnet::IpNet::new(endpoint(vip).vip, prefix_len).unwrap();
        OwnedAddress {
            label,
            ..OwnedAddress::new(ifindex, address)
        }
    })
}

/// An interface has an address once.
fn one_per_ip(addresses: BTreeSet<OwnedAddress>) -> BTreeSet<OwnedAddress> {
    let named = |a: OwnedAddress| ((a.ifindex, a.address.addr()), a);
    let unique: BTreeMap<_, _> = addresses.into_iter().map(named).collect();
    unique.into_values().collect()
}

fn with_leading(
    mut ports: BTreeMap<u32, Port>,
    services: &BTreeMap<ServiceKey, Service>,
) -> BTreeMap<u32, Port> {
    for server in services.values().flat_map(|service| &service.servers) {
        if let Some(Reach::Direct { ifindex, .. }) = server.reach {
            ports.entry(ifindex).or_insert(Port {
                mac: Mac(9),
                mtu: 1500,
                vlan: None,
            });
        }
    }
    ports
}
