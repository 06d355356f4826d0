use super::*;
use crate::config::model::{Endpoint, OwnRoute, OwnRule, StaticAddress, VirtualInterface};
use crate::plan::pool::{Overrides, Pools};
use crate::plan::testing::{VIP, direct, instance, link, network, service_key, websocket};

fn judged(verdicts: &[(&str, bool, u64)]) -> Health {
    let verdict = |&(address, up, joined): &(&str, bool, u64)| {
        let server = (service_key(0), address.parse().unwrap());
        let health = ServerHealth {
            up,
            joined,
            ..ServerHealth::default()
        };
        (server, health)
    };
    verdicts.iter().map(verdict).collect()
}

fn plan(config: &Config, owned: &[&str], health: &Health, attached: &[&str]) -> Desired {
    let owned = owned.iter().map(|name| ((*name).to_owned(), true));
    let mut pools = Pools::default();
    pools.update(Now::ZERO, config, health, &Overrides::new());
    desired(&Inputs {
        config,
        ownership: &owned.collect(),
        pools: pools.memberships(),
        network: &network(),
        attached: &attached.iter().map(|name| (*name).to_owned()).collect(),
        peers: &Peers::new(),
    })
}

fn order(desired: &Desired) -> Vec<u8> {
    let last_octet = |server: &Server| match server.address.ip() {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(_) => 0,
    };
    desired.services[&service_key(0)]
        .servers
        .iter()
        .map(last_octet)
        .collect()
}

fn read(text: &str) -> Config {
    let loaded = crate::config::parse("test.conf", text.as_bytes());
    loaded
        .unwrap_or_else(|found| panic!("{}", found.render(false)))
        .config
}

fn key(text: &str) -> ServiceKey {
    text.parse().unwrap()
}

/// A mark on two VIPs of two instances.
fn two_vips() -> Config {
    let mut config = read(
        "virtual_server fwmark 1 {\nlb_algo rr\nlb_kind DR\nreal_server 192.168.1.102 {\n}\n}\n\
         xdp_lb {\nfwmark 1 {\ntcp 192.168.1.200:80 192.168.1.201:80,443\n}\n}\n",
    );
    config.vrrp_instances = vec![
        instance("VI_1", "eth0", "192.168.1.200"),
        instance("VI_2", "eth0", "192.168.1.201"),
    ];
    config
}

#[test]
fn of_a_mark_on_several_vips_those_are_balanced_that_are_owned() {
    let config = two_vips();
    let seen = |owned: &[&str]| {
        let planned = plan(&config, owned, &Health::new(), &[]);
        let service = &planned.services[&key("fwmark/1")];
        let entrances: Vec<_> = service.entrances.iter().map(Endpoint::to_string).collect();
        (service.active, entrances.join(" "))
    };
    let (one, other) = (
        "tcp/192.168.1.200:80",
        "tcp/192.168.1.201:80 tcp/192.168.1.201:443",
    );
    let both = format!("{one} {other}");
    assert_eq!(seen(&["VI_1"]), (true, one.to_owned()));
    assert_eq!(seen(&["VI_2"]), (true, other.to_owned()));
    assert_eq!(seen(&["VI_1", "VI_2"]), (true, both.clone()));
    // The gate alone is closed: whoever becomes master opens it and need not lay the index out.
    assert_eq!(seen(&[]), (false, both));
}

#[test]
fn the_shortest_lease_of_a_mark_counts() {
    let mut config = two_vips();
    let lease = |config: &Config| {
        let planned = plan(config, &["VI_1", "VI_2"], &Health::new(), &[]);
        planned.services[&key("fwmark/1")].lease.unwrap()
    };
    let usual = lease(&config);
    config.vrrp_instances[0].down_timer_adverts = 9;
    assert_eq!(lease(&config), usual);
    config.vrrp_instances[1].down_timer_adverts = 9;
    assert!(lease(&config) > usual);
}

/// One pool, and a failed server is out of all services at once.
#[test]
fn a_group_is_one_pool_behind_many_services() {
    let config = read(
        "virtual_server_group web {\n192.168.1.200 80\n192.168.1.201-202 443\nfwmark 7\n}\n\
         virtual_server group web {\nlb_algo rr\nlb_kind DR\nprotocol TCP\n\
         real_server 192.168.1.102 80 {\nTCP_CHECK {\n}\n}\n\
         real_server 192.168.1.103 80 {\nTCP_CHECK {\n}\n}\n}\n\
         xdp_lb {\nfwmark 7 {\nudp 192.168.1.209:53\n}\n}\n",
    );
    let pool = key("tcp/group:web");
    let verdict = |up| ServerHealth {
        up,
        ..ServerHealth::default()
    };
    let health: Health = [("192.168.1.102:80", false), ("192.168.1.103:80", true)]
        .map(|(server, up)| ((pool, server.parse().unwrap()), verdict(up)))
        .into();
    let planned = plan(&config, &[], &health, &[]);
    let serving = |service: &Service| {
        let serving = service.servers.iter().filter(|server| server.serving);
        serving
            .map(|server| server.address.to_string())
            .collect::<Vec<_>>()
    };
    let seen: Vec<_> = planned
        .services
        .iter()
        .map(|(key, service)| format!("{key} {}", serving(service).join(" ")))
        .collect();
    let expected = [
        "tcp/192.168.1.200:80 192.168.1.103:80",
        "tcp/192.168.1.201:443 192.168.1.103:443",
        "tcp/192.168.1.202:443 192.168.1.103:443",
        "fwmark/7 192.168.1.103:0",
    ];
    assert_eq!(seen, expected);
    let inherited = [
        ("tcp/192.168.1.200:80", "192.168.1.102:80", true),
        ("tcp/192.168.1.201:443", "192.168.1.102:443", false),
        ("fwmark/7", "192.168.1.103:0", true),
        ("fwmark/7", "192.168.1.9:0", true),
    ];
    let inherited = inherited
        .map(|(service, server, serving)| ((key(service), server.parse().unwrap()), serving));
    let known = by_pool(&config, &inherited.into());
    let known: Vec<_> = known
        .iter()
        .map(|((pool, server), serving)| format!("{pool} {server} {serving}"))
        .collect();
    let expected = [
        "tcp/group:web 192.168.1.9:0 true",
        "tcp/group:web 192.168.1.102:80 false",
        "tcp/group:web 192.168.1.103:80 true",
    ];
    assert_eq!(known, expected);
}

#[test]
fn the_last_server_of_the_file_comes_first_and_whoever_comes_back_overtakes_it() {
    let both = judged(&[("192.168.1.102:80", true, 0), ("192.168.1.103:80", true, 0)]);
    assert_eq!(order(&plan(&websocket(), &[], &both, &[])), [103, 102]);
    let back = judged(&[("192.168.1.102:80", true, 1), ("192.168.1.103:80", true, 0)]);
    assert_eq!(order(&plan(&websocket(), &[], &back, &[])), [102, 103]);
}

#[test]
fn a_verdict_changes_its_service_and_no_other() {
    let before = judged(&[("192.168.1.102:80", true, 0), ("192.168.1.103:80", true, 0)]);
    assert_eq!(differing(&before, &before), Some(BTreeSet::new()));
    let after = judged(&[
        ("192.168.1.102:80", true, 0),
        ("192.168.1.103:80", false, 0),
    ]);
    let keys = differing(&before, &after).unwrap();
    assert_eq!(keys, [service_key(0)].into());
    for (old, new) in [
        (&before, &judged(&[("192.168.1.102:80", true, 0)])),
        (&before, &Health::new()),
    ] {
        assert_eq!(differing(old, new), None);
    }
    let moved = judged(&[("192.168.1.102:80", true, 0), ("192.168.1.104:80", true, 0)]);
    assert_eq!(differing(&before, &moved), None);
    let whole = plan(&websocket(), &[], &after, &[]);
    let config = websocket();
    let mut pools = Pools::default();
    pools.update(Now::ZERO, &config, &after, &Overrides::new());
    let alone = desired_services(
        &keys,
        &Inputs {
            config: &config,
            ownership: &Ownership::new(),
            pools: pools.memberships(),
            network: &network(),
            attached: &BTreeSet::new(),
            peers: &Peers::new(),
        },
    );
    assert_eq!(alone, whole.services);
}

#[test]
fn a_check_may_change_the_weight_and_never_below_0() {
    let of = |weighing| {
        let health = ServerHealth {
            weighing,
            ..ServerHealth::default()
        };
        health.weight(5)
    };
    assert_eq!(of(None), 5);
    assert_eq!(of(Some(Weighing::Set(253))), 253);
    assert_eq!(of(Some(Weighing::Set(u32::MAX))), 2_147_483_647);
    assert_eq!(of(Some(Weighing::Add(-3))), 2);
    assert_eq!(of(Some(Weighing::Add(-5))), 0);
    assert_eq!(of(Some(Weighing::Add(-600))), 0);
    assert_eq!(of(Some(Weighing::Add(i64::MAX))), 2_147_483_647);
    let mut health = judged(&[("192.168.1.103:80", true, 0)]);
    for health in health.values_mut() {
        health.weighing = Some(Weighing::Set(7));
    }
    let planned = plan(&websocket(), &[], &health, &[]);
    assert_eq!(planned.services[&service_key(0)].servers[0].weight, 7);
}

#[test]
fn a_service_is_active_where_its_vip_is_owned_or_nobody_carries_it() {
    let mut config = websocket();
    let active = |config: &Config, owned: &[&str]| {
        plan(config, owned, &Health::new(), &[]).services[&service_key(0)].active
    };
    assert!(!active(&config, &[]));
    assert!(active(&config, &["VI_1"]));
    config.vrrp_instances.push(instance("VI_2", "eth1", VIP));
    assert!(
        active(&config, &["VI_2"]),
        "one carrier that is owned is enough"
    );
    config.vrrp_instances = vec![instance("VI_1", "eth0", "192.168.1.201")];
    assert!(active(&config, &[]), "nobody carries the VIP");
}

#[test]
fn addresses_follow_ownership_and_their_device() {
    let mut config = websocket();
    assert!(plan(&config, &[], &Health::new(), &[]).addresses.is_empty());
    let on = |config: &Config| {
        let addresses = plan(config, &["VI_1"], &Health::new(), &[]).addresses;
        addresses.into_iter().map(|a| a.ifindex).collect::<Vec<_>>()
    };
    assert_eq!(on(&config), [2]);
    config.vrrp_instances[0].virtual_addresses[0].device = Some("eth1".to_owned());
    assert_eq!(on(&config), [3]);
    config.vrrp_instances[0].virtual_addresses[0].device = Some("eth9".to_owned());
    assert_eq!(on(&config), [] as [u32; 0], "no such interface, now");
}

#[test]
fn a_vip_is_no_source_of_own_packets_unless_the_file_says_so() {
    let config = read(
        "vrrp_instance VI_1 {
            interface eth0
            virtual_router_id 51
            virtual_ipaddress {
                fe80::5/64
                2001:db8::1/64
                2001:db8::2
                2001:db8::3/64 preferred_lft forever
                2001:db8::4 preferred_lft 60 -nodad noprefixroute
            }
            virtual_ipaddress_excluded {
                192.168.1.200/24
                192.168.1.201/24 preferred_lft 0
            }
        }
        static_ipaddress {
            2001:db8::5/64 dev eth0
            2001:db8::6 dev eth0
        }\n",
    );
    let planned = plan(&config, &["VI_1"], &Health::new(), &[]).addresses;
    let of = |text: &str| {
        let mut all = planned.iter();
        all.find(|one| one.address.addr().to_string() == text)
            .unwrap()
    };
    for (address, seconds) in [
        ("fe80::5", 0),
        ("2001:db8::1", 0),
        ("2001:db8::2", 0),
        ("2001:db8::3", OwnedAddress::FOREVER),
        ("2001:db8::4", 60),
        // The kernel asks nothing of the kind of IPv4.
        ("192.168.1.200", OwnedAddress::FOREVER),
        ("192.168.1.201", OwnedAddress::FOREVER),
        // What stays is this host's own.
        ("2001:db8::5", OwnedAddress::FOREVER),
        ("2001:db8::6", 0),
    ] {
        assert_eq!(of(address).preferred_s, seconds, "{address}");
    }
    let four = of("2001:db8::4");
    assert!(four.detect_duplicates && four.no_prefix_route);
    assert!(!of("2001:db8::1").detect_duplicates);
}

#[test]
fn with_a_virtual_mac_vips_stand_on_its_interface_and_frames_leave_by_the_one_below() {
    let mut config = websocket();
    let name = "vrrp.51".to_owned();
    config.vrrp_instances[0].virtual_interface = Some(VirtualInterface::Vmac {
        name: name.clone(),
        mac: None,
        adverts_below: false,
    });
    let mut network = network();
    let mut pools = Pools::default();
    pools.update(Now::ZERO, &config, &Health::new(), &Overrides::new());
    let plan = |network: &Network| {
        desired(&Inputs {
            config: &config,
            ownership: &[("VI_1".to_owned(), true)].into(),
            pools: pools.memberships(),
            network,
            attached: &BTreeSet::new(),
            peers: &Peers::new(),
        })
    };
    let before = plan(&network);
    assert_eq!(moving(&before).len(), 1);
    assert!(before.addresses.is_empty(), "not there yet");
    network.links.insert(name, link(9));
    network
        .reach
        .insert("192.168.1.102".parse().unwrap(), direct(9));
    let after = plan(&network);
    let on: Vec<_> = after.addresses.iter().map(|vip| vip.ifindex).collect();
    assert_eq!(on, [9]);
    let reach = after.services[&service_key(0)].servers[1].reach;
    assert_eq!(reach, Some(direct(2)), "by eth0, from its own MAC");
    assert_eq!(after.ports.into_keys().collect::<Vec<_>>(), [2, 3]);
    let interfaces = default_interfaces(&config, &network);
    assert_eq!(Vec::from_iter(interfaces), ["eth0", "eth1"]);
}

/// What comes with VIPs, in words, but for what instances send to.
fn moving(desired: &Desired) -> Vec<String> {
    let belongings = desired.belongings.iter();
    let belongings = belongings.filter(|other| !matches!(other, Belonging::Group(_)));
    belongings.map(ToString::to_string).collect()
}

#[test]
fn vips_that_take_no_packets_are_silent_while_they_are_owned_unless_by_their_owner() {
    let mut config = websocket();
    let silent = |config: &Config, owned: &[&str]| {
        let desired = plan(config, owned, &Health::new(), &[]);
        moving(&desired)
    };
    assert_eq!(silent(&config, &["VI_1"]), [""; 0]);
    config.vrrp_instances[0].accept = false;
    let filter = "the filter of packets to 192.168.1.200";
    assert_eq!(silent(&config, &["VI_1"]), [filter]);
    assert_eq!(silent(&config, &[]), [""; 0]);
    config.vrrp_instances[0].priority = 255;
    assert_eq!(silent(&config, &["VI_1"]), [""; 0]);
}

#[test]
fn routes_and_rules_follow_ownership_and_static_ones_stay() {
    let mut config = websocket();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    let route = |line: &str| OwnRoute {
        words: words(line),
        tracked: true,
        track_group: None,
    };
    let rule = |line: &str| OwnRule {
        words: words(line),
        tracked: true,
        track_group: None,
    };
    config.vrrp_instances[0].routes = vec![
        route("10.9.0.0/16 dev eth0"),
        route("10.1.0.0/16 via 10.9.0.1"),
    ];
    config.vrrp_instances[0].rules = vec![rule("from 10.1.0.0/16 table 9 preference 5")];
    config.static_routes = vec![route("10.2.0.0/16 dev eth1")];
    config.static_rules = vec![rule("from 10.2.0.0/16 table 9 preference 6")];
    let device = Some("eth1".to_owned());
    config.static_addresses = vec![StaticAddress {
        address: VirtualAddress {
            device,
            ..VirtualAddress::new("10.3.0.1/24".parse().unwrap())
        },
        track_group: None,
    }];
    let shown = |owned: &[&str]| {
        let desired = plan(&config, owned, &Health::new(), &[]);
        let belongings = moving(&desired).into_iter();
        let addresses = desired.addresses.iter();
        let addresses = addresses.map(|a| format!("{} on {}", a.address, a.ifindex));
        belongings.chain(addresses).collect::<Vec<_>>()
    };
    let stay = [
        "the route to 10.2.0.0/16",
        "the IPv4 rule from 10.2.0.0/16 of preference 6",
        "10.3.0.1/24 on 3",
    ];
    assert_eq!(shown(&[]), stay);
    let move_along = [
        "the route to 10.2.0.0/16",
        "the IPv4 rule from 10.2.0.0/16 of preference 6",
        "the route to 10.9.0.0/16",
        "the route to 10.1.0.0/16 via 10.9.0.1",
        "the IPv4 rule from 10.1.0.0/16 of preference 5",
        "192.168.1.200/24 on 2",
        "10.3.0.1/24 on 3",
    ];
    assert_eq!(shown(&["VI_1"]), move_along);
}

#[test]
fn an_unjudged_server_serves_only_if_nothing_checks_it() {
    let mut config = websocket();
    config.virtual_servers[0].real_servers[0].checks.clear();
    let desired = plan(&config, &[], &Health::new(), &[]);
    let serving = |s: &Server| (s.address.to_string(), s.serving);
    let servers: Vec<_> = desired.services[&service_key(0)]
        .servers
        .iter()
        .map(serving)
        .collect();
    let expected = [
        ("192.168.1.103:80".to_owned(), false),
        ("192.168.1.102:80".to_owned(), true),
    ];
    assert_eq!(servers, expected);
}

#[test]
fn ports_are_those_attached_and_those_that_lead_to_a_server() {
    let ports = |attached: &[&str], config: &Config| {
        let desired = plan(config, &[], &Health::new(), attached);
        desired.ports.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(ports(&["eth0"], &websocket()), [2, 3]);
    assert_eq!(ports(&["eth1", "gone0"], &Config::default()), [3]);
}

#[test]
fn default_interfaces_are_those_of_vrrp_and_those_that_lead_to_a_server() {
    let interfaces = default_interfaces(&websocket(), &network());
    assert_eq!(Vec::from_iter(interfaces), ["eth0", "eth1"]);
    let unknown = default_interfaces(&websocket(), &Network::default());
    assert_eq!(Vec::from_iter(unknown), ["eth0"]);
}
