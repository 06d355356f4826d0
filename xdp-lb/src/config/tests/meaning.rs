//! What settings mean: defaults, inheritance, and keepalived's effect of wrong values.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::{found, said, usable};
use crate::config::diagnostic::Code;
use crate::config::model::{
    AddressFlags, Check, InitialState, Persistence, Probe, Protocol, Scheduler, TcpProbe,
    VirtualAddress, VirtualServer, VrrpInstance, XdpLb, XdpMode,
};
use crate::config::{Diagnostics, Severity};

/// The only instance of a file that is its settings and `lines`.
fn instance(lines: &str) -> (VrrpInstance, Diagnostics) {
    let text = format!("vrrp_instance A {{\ninterface eth0\nvirtual_router_id 51\n{lines}\n}}\n");
    let mut loaded = usable(&text);
    (loaded.config.vrrp_instances.remove(0), loaded.diagnostics)
}

/// The addresses in `lines`, and the codes of warnings.
fn addresses(lines: &str) -> (Vec<VirtualAddress>, Vec<Code>) {
    let (instance, diagnostics) = instance(&format!("virtual_ipaddress {{\n{lines}\n}}"));
    (instance.virtual_addresses, warnings(&diagnostics))
}

/// The only service of a file with `lines` in it and `server` in its real server.
fn service(lines: &str, server: &str) -> (VirtualServer, Diagnostics) {
    let text = format!(
        "virtual_server 10.0.0.1 80 {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{lines}\n\
         real_server 10.0.0.2 80 {{\n{server}\n}}\n}}\n"
    );
    let mut loaded = usable(&text);
    (loaded.config.virtual_servers.remove(0), loaded.diagnostics)
}

fn codes(diagnostics: &Diagnostics, wanted: Severity) -> Vec<Code> {
    said(diagnostics)
        .into_iter()
        .filter(|(severity, ..)| *severity == wanted)
        .map(|(_, code, ..)| code)
        .collect()
}

fn warnings(diagnostics: &Diagnostics) -> Vec<Code> {
    codes(diagnostics, Severity::Warning)
}

fn errors(text: &str) -> Vec<Code> {
    codes(&found(text), Severity::Error)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn an_empty_file_is_a_configuration() {
    let loaded = usable("");
    assert_eq!(loaded.config, crate::config::model::Config::default());
    assert!(loaded.diagnostics.is_empty());
}

#[test]
fn priority_and_state_have_keepalived_s_defaults() {
    use InitialState::{Backup, Master};
    let cases: [(&str, InitialState, u8, &[Code]); 9] = [
        ("", Backup, 100, &[]),
        ("state BACKUP", Backup, 100, &[]),
        ("state MASTER", Master, 255, &[]),
        ("state MASTER\npriority 150", Master, 150, &[]),
        ("state MASTER\npriority 0", Master, 100, &[Code::BadValue]),
        ("priority 256", Backup, 100, &[Code::BadValue]),
        ("priority 99;", Backup, 100, &[Code::BadValue]),
        (
            "state backup\npriority = 50",
            Backup,
            100,
            &[Code::BadValue, Code::ExtraValue, Code::BadValue],
        ),
        ("priority 50\npriority 60", Backup, 60, &[Code::Repeated]),
    ];
    for (lines, state, priority, expected) in cases {
        let (instance, diagnostics) = instance(lines);
        assert_eq!(
            (instance.initial_state, instance.priority),
            (state, priority),
            "{lines}"
        );
        let mut found = warnings(&diagnostics);
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(found, expected, "{lines}");
    }
}

#[test]
fn instances_that_keepalived_does_not_run_are_errors() {
    let cases: [(&str, &[Code]); 8] = [
        (
            "vrrp_instance A {\ninterface eth0\n}",
            &[Code::MissingKeyword],
        ),
        (
            "vrrp_instance A {\nvirtual_router_id 1\n}",
            &[Code::MissingKeyword],
        ),
        (
            "vrrp_instance A {\ninterface eth0\nvirtual_router_id 256\n}",
            &[Code::BadValue],
        ),
        (
            "vrrp_instance A {\ninterface a/b\nvirtual_router_id 1\n}",
            &[Code::BadValue],
        ),
        ("vrrp_instance {\n}", &[Code::MissingValue]),
        (
            "vrrp_instance A {\ninterface eth0\nvirtual_router_id 1\n}\nvrrp_instance B {\ninterface eth0\nvirtual_router_id 1\n}",
            &[Code::Conflict],
        ),
        (
            "vrrp_instance A {\ninterface eth0\nvirtual_router_id 1\nauthentication {\nauth_pass\n}\n}",
            &[Code::MissingValue],
        ),
        (
            "vrrp_instance A {\ninterface\nvirtual_router_id\n}",
            &[Code::MissingValue, Code::MissingValue],
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), expected, "{text}");
    }
}

#[test]
fn the_second_instance_of_a_name_is_skipped() {
    let one = |id: u8| format!("vrrp_instance A {{\ninterface eth0\nvirtual_router_id {id}\n}}\n");
    let loaded = usable(&(one(1) + &one(2)));
    let ids: Vec<u8> = loaded
        .config
        .vrrp_instances
        .iter()
        .map(|i| i.virtual_router_id)
        .collect();
    assert_eq!(ids, [1]);
    assert_eq!(warnings(&loaded.diagnostics), [Code::Duplicate]);
}

#[test]
fn the_same_router_id_on_another_interface_is_no_conflict() {
    let one = |name: &str, dev: &str| {
        format!("vrrp_instance {name} {{\ninterface {dev}\nvirtual_router_id 1\n}}\n")
    };
    assert_eq!(
        usable(&(one("A", "eth0") + &one("B", "eth1")))
            .config
            .vrrp_instances
            .len(),
        2
    );
}

#[test]
fn addresses_take_prefix_device_label_broadcast_and_scope() {
    let (found, codes) = addresses(
        "10.0.0.1\n10.0.0.2/24 dev eth1 label eth1:2\n10.0.0.3/24 brd +\n10.0.0.4/24 brd -\n\
         10.0.0.5/24 brd 10.0.0.99 scope link\n10.0.0.6 scope 254 home no_track\n",
    );
    assert_eq!(codes, []);
    let plain = |network: &str| VirtualAddress::new(network.parse().unwrap());
    let broadcast = |last| Some(Ipv4Addr::new(10, 0, 0, last));
    let expected = [
        plain("10.0.0.1/32"),
        VirtualAddress {
            device: Some("eth1".to_owned()),
            label: Some("eth1:2".to_owned()),
            ..plain("10.0.0.2/24")
        },
        VirtualAddress {
            broadcast: broadcast(255),
            ..plain("10.0.0.3/24")
        },
        VirtualAddress {
            broadcast: broadcast(0),
            ..plain("10.0.0.4/24")
        },
        VirtualAddress {
            broadcast: broadcast(99),
            scope: 253,
            ..plain("10.0.0.5/24")
        },
        VirtualAddress {
            scope: 254,
            flags: AddressFlags {
                home: true,
                no_track: true,
                ..AddressFlags::default()
            },
            ..plain("10.0.0.6/32")
        },
    ];
    assert_eq!(found, expected);
}

#[test]
fn wrong_addresses_have_keepalived_s_effect() {
    let cases: [(&str, &[&str], &[Code]); 15] = [
        ("10.0.0.300", &[], &[Code::BadValue]),
        ("localhost", &[], &[Code::BadValue]),
        ("10.0.0.1;", &[], &[Code::BadValue]),
        ("10.0.0.1/33", &["10.0.0.1/32"], &[Code::BadValue]),
        ("10.0.0.1/a", &["10.0.0.1/32"], &[Code::BadValue]),
        ("10.0.0.1/", &["10.0.0.1/32"], &[Code::BadValue]),
        ("10.0.0.1 10.0.0.2", &["10.0.0.1/32"], &[Code::BadValue]),
        ("10.0.0.1 label sixteencharacter", &[], &[Code::BadValue]),
        ("10.0.0.1 brd foo", &[], &[Code::BadValue]),
        ("10.0.0.1 brd +", &["10.0.0.1/32"], &[Code::BadValue]),
        ("10.0.0.1 scope foo", &["10.0.0.1/32"], &[Code::BadValue]),
        ("10.0.0.1 dev", &["10.0.0.1/32"], &[Code::MissingValue]),
        (
            "10.0.0.1\n10.0.0.1/32",
            &["10.0.0.1/32"],
            &[Code::Duplicate],
        ),
        ("10.0.0.1\n2001:db8::1", &["10.0.0.1/32"], &[Code::BadValue]),
        (
            "2001:db8::1\n10.0.0.1\n2001:db8::2",
            &["2001:db8::1/128", "2001:db8::2/128"],
            &[Code::NoEffectYet, Code::BadValue],
        ),
    ];
    for (lines, expected, codes) in cases {
        let (found, said) = addresses(lines);
        let found: Vec<String> = found.iter().map(|a| a.address.to_string()).collect();
        assert_eq!(found, expected, "{lines}");
        assert_eq!(said, codes, "{lines}");
    }
}

#[test]
fn addresses_of_several_blocks_add_up() {
    let (instance, _) =
        instance("virtual_ipaddress {\n10.0.0.1\n}\nvirtual_ipaddress { 10.0.0.2 }");
    assert_eq!(instance.virtual_addresses.len(), 2);
}

#[test]
fn authentication_that_keepalived_would_drop_is_said_aloud() {
    use Code::{BadValue, ExtraValue, NoAuthentication, UnknownKeyword};
    let cases: [(&str, &[Code]); 7] = [
        ("auth_type PASS\nauth_pass 1111", &[]),
        ("auth_type PASS\nauth_pass 123456789", &[BadValue]),
        (
            "auth_type PASS auth_pass 1111",
            &[NoAuthentication, ExtraValue],
        ),
        ("auth_type PASS", &[NoAuthentication]),
        ("auth_pass 1111", &[NoAuthentication]),
        (
            "auth_type PAS\nauth_pass 1111",
            &[NoAuthentication, BadValue],
        ),
        (
            "type PASS\npassword 1111",
            &[NoAuthentication, UnknownKeyword, UnknownKeyword],
        ),
    ];
    for (lines, expected) in cases {
        let (_, diagnostics) = instance(&format!("authentication {{\n{lines}\n}}"));
        assert_eq!(warnings(&diagnostics), expected, "{lines}");
    }
}

#[test]
fn the_times_of_checks_come_from_the_nearest_block_that_sets_them() {
    let check = |lines: &str, server: &str, checker: &str| -> Check {
        let (mut service, diagnostics) =
            service(lines, &format!("{server}\nTCP_CHECK {{\n{checker}\n}}"));
        assert_eq!(warnings(&diagnostics), [], "{lines} {server} {checker}");
        service.real_servers.remove(0).checks.remove(0)
    };
    let shape = |check: &Check| {
        let Probe::Tcp(TcpProbe {
            connect_timeout, ..
        }) = &check.probe;
        (
            check.delay_loop,
            *connect_timeout,
            check.retry,
            check.delay_before_retry,
            check.warmup,
        )
    };
    let plain = (seconds(60.0), seconds(5.0), 1, seconds(1.0), seconds(60.0));
    assert_eq!(shape(&check("", "", "")), plain);
    let all = "delay_loop 6\nconnect_timeout 2.5\nretry 4\ndelay_before_retry 0\nwarmup 0";
    let set = (seconds(6.0), seconds(2.5), 4, seconds(0.0), seconds(0.0));
    assert_eq!(shape(&check(all, "", "")), set);
    assert_eq!(shape(&check("delay_loop 9", all, "")), set);
    assert_eq!(shape(&check("delay_loop 9", "retry 7", all)), set);
    // Settings behind the real server count as well, and warmup follows delay_loop.
    let mixed = check("delay_loop 20", "retry 2", "connect_timeout 3\nretry 0");
    assert_eq!(
        shape(&mixed),
        (seconds(20.0), seconds(3.0), 0, seconds(1.0), seconds(20.0))
    );
}

#[test]
fn wrong_numbers_have_keepalived_s_effect() {
    let cases: [(&str, f64, u32, Option<u32>); 7] = [
        ("delay_loop 9s", 9.0, 1, Some(1)),
        ("delay_loop 0", 60.0, 1, Some(1)),
        ("delay_loop x", 60.0, 1, Some(1)),
        ("weight abc", 60.0, 0, Some(1)),
        ("weight -3", 60.0, 1, Some(1)),
        ("weight 7x", 60.0, 7, Some(1)),
        ("retry 0", 60.0, 1, Some(1)),
    ];
    for (line, delay_loop, weight, retry) in cases {
        let (service, diagnostics) = service("", &format!("{line}\nTCP_CHECK {{\n}}"));
        let server = &service.real_servers[0];
        assert_eq!(server.weight, weight, "{line}");
        assert_eq!(server.checks[0].delay_loop, seconds(delay_loop), "{line}");
        assert_eq!(Some(server.checks[0].retry), retry, "{line}");
        assert_eq!(warnings(&diagnostics), [Code::BadValue], "{line}");
    }
}

#[test]
fn a_tcp_check_has_its_own_target_and_source() {
    let probe = |lines: &str| {
        let (service, _) = service("", &format!("TCP_CHECK {{\n{lines}\n}}"));
        let Probe::Tcp(probe) = service.real_servers[0].checks[0].probe.clone();
        (
            probe.target.to_string(),
            probe.source.map(|source| source.to_string()),
        )
    };
    let none = || None;
    assert_eq!(probe(""), ("10.0.0.2:80".to_owned(), none()));
    assert_eq!(
        probe("connect_port 81\nconnect_ip 10.0.0.9"),
        ("10.0.0.9:81".to_owned(), none())
    );
    assert_eq!(probe("connect_port 0"), ("10.0.0.2:80".to_owned(), none()));
    assert_eq!(probe("bindto 10.0.0.5").1, Some("10.0.0.5:0".to_owned()));
    assert_eq!(probe("bind_port 99").1, Some("0.0.0.0:99".to_owned()));
    assert_eq!(
        probe("bindto 10.0.0.5\nbind_port 99").1,
        Some("10.0.0.5:99".to_owned())
    );
}

#[test]
fn several_checks_of_a_server_are_all_kept_and_none_is_always_up() {
    let (with_two, _) = service("", "TCP_CHECK {\n}\nTCP_CHECK {\nconnect_port 81\n}");
    assert_eq!(with_two.real_servers[0].checks.len(), 2);
    assert_eq!(service("", "").0.real_servers[0].checks, []);
}

#[test]
fn persistence_is_on_when_keepalived_turns_it_on() {
    let some = |seconds, prefix_len| {
        Some(Persistence {
            timeout: Duration::from_secs(seconds),
            prefix_len,
        })
    };
    let cases: [(&str, Option<Persistence>, &[Code]); 11] = [
        ("", None, &[]),
        ("persistence_timeout", some(360, 32), &[]),
        ("persistence_timeout 1", some(1, 32), &[]),
        ("persistence_timeout 2678400", some(2_678_400, 32), &[]),
        ("persistence_timeout 2678401", None, &[Code::BadValue]),
        ("persistence_timeout 50s", None, &[Code::BadValue]),
        ("persistence_timeout 0", None, &[]),
        (
            "persistence_granularity 255.255.255.0",
            some(360, 24),
            &[Code::DefaultUsed],
        ),
        (
            "persistence_timeout 50\npersistence_granularity 255.255.0.0",
            some(50, 16),
            &[],
        ),
        (
            "persistence_timeout 50\npersistence_granularity SOURCE_IP",
            some(50, 32),
            &[Code::BadValue],
        ),
        ("persistence_granularity SOURCE_IP", None, &[Code::BadValue]),
    ];
    for (lines, expected, codes) in cases {
        let (service, diagnostics) = service(lines, "");
        assert_eq!(service.persistence, expected, "{lines}");
        assert_eq!(warnings(&diagnostics), codes, "{lines}");
    }
}

#[test]
fn schedulers_and_protocols_that_work_are_taken_in_any_case() {
    let (service, diagnostics) =
        service("lb_algo WRR\nlvs_sched wrr\nlb_kind dr\nprotocol udp", "");
    assert_eq!(service.scheduler, Scheduler::WeightedRoundRobin);
    assert_eq!(service.key.protocol, Protocol::Udp);
    assert_eq!(
        codes(&diagnostics, Severity::Note),
        [Code::Lenient, Code::Lenient]
    );
}

#[test]
fn what_cannot_be_balanced_yet_is_an_error_and_never_something_else() {
    let with = |lines: &str, server: &str| {
        format!(
            "virtual_server 10.0.0.1 80 {{\nprotocol TCP\n{lines}\nreal_server 10.0.0.2 80 {{\n{server}\n}}\n}}\n"
        )
    };
    let (both, one) = ("lb_algo rr\nlb_kind DR", [Code::NotSupported]);
    let cases: [(String, &[Code]); 16] = [
        (with(both, ""), &[]),
        (with("lb_kind DR", ""), &[Code::MissingKeyword]),
        (with("lb_algo rr", ""), &[Code::MissingKeyword]),
        (with("lb_algo wlc\nlb_kind DR", ""), &one),
        (with("lb_algo rr\nlb_kind NAT", ""), &one),
        (with("lb_algo rr\nlb_kind TUN type ipip", ""), &one),
        (with("lb_algo rr\nlb_kind XYZ", ""), &one),
        (with(&format!("{both}\nprotocol SCTP"), ""), &one),
        (
            with(&format!("{both}\npersistence_granularity 255.0.255.0"), ""),
            &one,
        ),
        (
            with(&format!("{both}\npersistence_granularity 24"), ""),
            &[Code::BadValue],
        ),
        (with(both, "lvs_method NAT"), &one),
        (with(both, "HTTP_GET {\nurl {\npath /\n}\n}"), &one),
        (with(both, "MISC_CHECK {\nmisc_path \"/bin/true\"\n}"), &one),
        ("virtual_server fwmark 3 {\n}\n".to_owned(), &one),
        ("virtual_server group web {\n}\n".to_owned(), &one),
        ("virtual_server 2001:db8::1 80 {\n}\n".to_owned(), &one),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(&text), expected, "{text}");
    }
    let ipv6_server = format!(
        "virtual_server 10.0.0.1 80 {{\nprotocol TCP\n{both}\nreal_server 2001:db8::2 80 {{\n}}\n}}\n"
    );
    assert_eq!(errors(&ipv6_server), one);
}

#[test]
fn a_service_defined_twice_is_an_error() {
    let one = "virtual_server 10.0.0.1 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.2 80 {\n}\n}\n";
    assert_eq!(errors(&one.repeat(2)), [Code::Duplicate]);
    assert_eq!(errors(&(one.to_owned() + &one.replace("TCP", "UDP"))), []);
}

#[test]
fn a_service_without_a_port_takes_all_of_them_and_sticks() {
    let text = "virtual_server 10.0.0.1 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.2 {\nTCP_CHECK {\nconnect_port 80\n}\n}\n}\n";
    let loaded = usable(text);
    let service = &loaded.config.virtual_servers[0];
    assert_eq!(service.key.port, 0);
    assert_eq!(service.real_servers[0].address.port(), 0);
    assert_eq!(
        service.persistence.map(|p| p.timeout),
        Some(Duration::from_mins(6))
    );
    assert_eq!(warnings(&loaded.diagnostics), [Code::DefaultUsed]);
    assert_eq!(
        errors(&text.replace("connect_port 80", "")),
        [Code::MissingKeyword]
    );
}

#[test]
fn real_servers_get_the_port_of_the_service_and_stand_once() {
    let text = "virtual_server 10.0.0.1 80 {\nweight 3\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.2 8080 {\n}\nreal_server 10.0.0.2 80 {\nweight 9\n}\nreal_server 10.0.0.3 {\nweight 0\n}\nreal_server 10.0.0.4:80 {\n}\n}\n";
    let loaded = usable(text);
    let servers: Vec<(String, u32)> = loaded.config.virtual_servers[0]
        .real_servers
        .iter()
        .map(|server| (server.address.to_string(), server.weight))
        .collect();
    assert_eq!(
        servers,
        [("10.0.0.2:80".to_owned(), 3), ("10.0.0.3:80".to_owned(), 0)]
    );
    assert_eq!(
        warnings(&loaded.diagnostics),
        [Code::Conflict, Code::Duplicate, Code::BadValue]
    );
}

#[test]
fn services_that_keepalived_ignores_are_ignored() {
    let loaded = usable(
        "virtual_server 10.0.0.1 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\n}\nvirtual_server 10.0.0.1:80 {\n}\nvirtual_server 10.0.0.1 99999 {\n}\n",
    );
    assert_eq!(loaded.config.virtual_servers, []);
    assert_eq!(
        warnings(&loaded.diagnostics),
        [Code::Empty, Code::BadValue, Code::BadValue]
    );
}

#[test]
fn our_own_block_is_read_and_its_mistakes_are_errors() {
    let loaded = usable(
        "xdp_lb {\ninterface eth0 eth1\ninterface eth1 eth2\nxdp_mode generic\nmetrics [::1]:9000\nconnections 1024\n}\n",
    );
    let expected = XdpLb {
        interfaces: ["eth0", "eth1", "eth2"].map(str::to_owned).to_vec(),
        xdp_mode: XdpMode::Generic,
        metrics: "[::1]:9000".parse().unwrap(),
        connections: 1024,
    };
    assert_eq!(loaded.config.xdp_lb, expected);
    for line in [
        "connections 1023",
        "connections 16777217",
        "connections many",
        "metrics 9165",
        "xdp_mode offload",
        "interface eth0/1",
    ] {
        assert_eq!(
            errors(&format!("xdp_lb {{\n{line}\n}}\n")),
            [Code::BadValue],
            "{line}"
        );
    }
    assert_eq!(
        usable("xdp_lb {\nconnections 16777216\n}")
            .config
            .xdp_lb
            .connections,
        16_777_216
    );
}

#[test]
fn unknown_blocks_are_skipped_whole_and_the_rest_is_kept() {
    let (instance, diagnostics) =
        instance("foo {\nbar {\nx\n}\n}\nvirtual_ipaddress {\n10.0.0.1\n}");
    assert_eq!(instance.virtual_addresses.len(), 1);
    assert_eq!(warnings(&diagnostics), [Code::UnknownKeyword]);
}

#[test]
fn what_has_no_effect_is_named_once() {
    let (_, diagnostics) =
        instance("nopreempt\ntrack_script {\nx\n}\nnotify \"/bin/true\"\nlinkbeat_use_polling");
    let note = diagnostics.iter().last().unwrap();
    assert_eq!(
        note.message(),
        "understood, but without effect in this version: nopreempt (line 4); notify (line 8); track_script (line 5)"
    );
    assert_eq!(note.severity(), Severity::Note);
}
