//! The users' own configurations, typos included.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::said;
use crate::config::diagnostic::Code;
use crate::config::model::{
    Check, Config, Forwarding, InitialState, Persistence, Probe, Protocol, RealServer, Scheduler,
    ServiceKey, TcpProbe, VirtualAddress, VirtualServer, VrrpInstance, XdpLb,
};
use crate::config::{Loaded, Severity, load};

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/config/seeds")
}

fn seed(name: &str) -> Loaded {
    load(&folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Code, line and column of every warning.
fn warnings(loaded: &Loaded) -> Vec<(Code, usize, usize)> {
    said(&loaded.diagnostics)
        .into_iter()
        .filter(|(severity, ..)| *severity == Severity::Warning)
        .map(|(_, code, line, column)| (code, line, column))
        .collect()
}

fn address(network: &str) -> VirtualAddress {
    VirtualAddress {
        address: network.parse().unwrap(),
        device: None,
        label: None,
        broadcast: None,
        scope: 0,
    }
}

fn tcp_check(target: SocketAddr, seconds: [u64; 4], retry: u32) -> Check {
    let [connect_timeout, delay_loop, delay_before_retry, warmup] =
        seconds.map(Duration::from_secs);
    Check {
        probe: Probe::Tcp(TcpProbe {
            target,
            source: None,
            connect_timeout,
        }),
        delay_loop,
        retry,
        delay_before_retry,
        warmup,
    }
}

fn server(address: &str, weight: u32, seconds: [u64; 4], retry: u32) -> RealServer {
    let address = address.parse().unwrap();
    RealServer {
        address,
        weight,
        checks: vec![tcp_check(address, seconds, retry)],
    }
}

fn service(vip: &str, persistence: u64, real_servers: Vec<RealServer>) -> VirtualServer {
    VirtualServer {
        key: ServiceKey {
            vip: vip.parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
        },
        scheduler: Scheduler::WeightedRoundRobin,
        forwarding: Forwarding::DirectRouting,
        persistence: Some(Persistence {
            timeout: Duration::from_secs(persistence),
            prefix_len: 32,
        }),
        real_servers,
    }
}

#[test]
fn seed_000_runs_its_instance_although_global_defs_is_never_closed() {
    let loaded = seed("000.conf");
    let expected = Config {
        vrrp_instances: vec![VrrpInstance {
            name: "df".to_owned(),
            initial_state: InitialState::Master,
            interface: "ens34".to_owned(),
            virtual_router_id: 51,
            priority: 150,
            virtual_addresses: vec![address("172.20.29.200/24")],
        }],
        ..Config::default()
    };
    assert_eq!(loaded.config, expected);
    assert_eq!(
        warnings(&loaded),
        [(Code::UnclosedBlock, 1, 1), (Code::UnclosedBlock, 5, 5)]
    );
}

#[test]
fn seed_001_balances_one_to_five() {
    let loaded = seed("001.conf");
    let expected = Config {
        router_id: Some("LVS_DEVEL".to_owned()),
        vrrp_instances: vec![VrrpInstance {
            name: "VI_1".to_owned(),
            initial_state: InitialState::Backup,
            interface: "eno16777736".to_owned(),
            virtual_router_id: 51,
            priority: 80,
            virtual_addresses: vec![address("192.168.1.120/32")],
        }],
        virtual_servers: vec![service(
            "192.168.1.120",
            50,
            vec![
                server("192.168.1.103:80", 1, [10, 6, 3, 6], 3),
                server("192.168.1.104:80", 5, [10, 6, 3, 6], 3),
            ],
        )],
        xdp_lb: XdpLb::default(),
    };
    assert_eq!(loaded.config, expected);
    assert_eq!(
        warnings(&loaded),
        [(Code::Renamed, 43, 13), (Code::Renamed, 52, 13)]
    );
}

#[test]
fn seed_003_keeps_prefix_device_and_label() {
    for (name, state, priority) in [
        ("003-master.conf", InitialState::Master, 101),
        ("003-backup.conf", InitialState::Backup, 100),
    ] {
        let loaded = seed(name);
        let expected = Config {
            router_id: Some("LVS_DEVEL".to_owned()),
            vrrp_instances: vec![VrrpInstance {
                name: "VI_1".to_owned(),
                initial_state: state,
                interface: "eth0".to_owned(),
                virtual_router_id: 61,
                priority,
                virtual_addresses: vec![VirtualAddress {
                    device: Some("eth0".to_owned()),
                    label: Some("eth0:0".to_owned()),
                    ..address("172.16.12.254/16")
                }],
            }],
            ..Config::default()
        };
        assert_eq!(loaded.config, expected, "{name}");
        assert_eq!(warnings(&loaded), [(Code::BadValue, 31, 19)], "{name}");
    }
}

#[test]
fn seed_004_has_keepalived_s_effect_and_says_what_was_meant() {
    for (name, router_id, state, priority) in [
        ("004-master.conf", "LVS1", InitialState::Master, 100),
        ("004-backup.conf", "LVS2", InitialState::Backup, 99),
    ] {
        let loaded = seed(name);
        let expected = Config {
            router_id: Some(router_id.to_owned()),
            vrrp_instances: vec![VrrpInstance {
                name: "VI_1".to_owned(),
                initial_state: state,
                interface: "eth0".to_owned(),
                virtual_router_id: 51,
                priority,
                virtual_addresses: vec![address("192.168.1.200/24")],
            }],
            virtual_servers: vec![service(
                "192.168.1.200",
                3600,
                vec![
                    server("192.168.1.102:80", 1, [3, 5, 1, 5], 3),
                    server("192.168.1.103:80", 1, [3, 5, 1, 5], 3),
                ],
            )],
            xdp_lb: XdpLb::default(),
        };
        assert_eq!(loaded.config, expected, "{name}");
        assert_eq!(
            warnings(&loaded),
            [
                (Code::UnknownKeyword, 15, 5),
                (Code::NoAuthentication, 16, 5),
                (Code::UnknownKeyword, 17, 9),
                (Code::UnknownKeyword, 18, 9),
                (Code::BadValue, 28, 29),
                (Code::Renamed, 34, 13),
                (Code::Renamed, 42, 13),
            ],
            "{name}"
        );
        let text = loaded.diagnostics.render(false);
        for meant in ["'advert_int'", "'auth_type'", "'auth_pass'", "'retry'"] {
            assert!(text.contains(meant), "{meant}\n{text}");
        }
    }
}

#[test]
fn every_seed_is_tested_here() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let tested = [
        "000.conf",
        "001.conf",
        "003-backup.conf",
        "003-master.conf",
        "004-backup.conf",
        "004-master.conf",
    ];
    assert_eq!(names, tested);
}
