//! What settings mean: defaults, inheritance, and keepalived's effect of wrong values.

use std::net::Ipv4Addr;

use super::{found, said, usable};
use crate::config::diagnostic::Code;
use crate::config::model::{
    AddressFlags, EmptyPool, Endpoint, InitialState, Protocol, SyncKey, VirtualAddress,
    VrrpInstance, XdpLb, XdpMode,
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
            &[Code::BadValue],
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
fn our_own_block_is_read_and_its_mistakes_are_errors() {
    let loaded = usable(
        "xdp_lb {\ninterface eth0 eth1\ninterface eth1 eth2\nxdp_mode generic\nmetrics [::1]:9000\nconnections 1024\nfail_static on\nempty_pool reset\ndrain_timeout 60\nfwmark 7 {\ntcp 10.0.0.1:80 [2001:db8::1]:80\nudp 10.0.0.1\n}\n}\n",
    );
    let endpoint = |vip: &str, port, protocol| Endpoint {
        vip: vip.parse().unwrap(),
        port,
        protocol,
    };
    let marked = [
        endpoint("10.0.0.1", 80, Protocol::Tcp),
        endpoint("2001:db8::1", 80, Protocol::Tcp),
        endpoint("10.0.0.1", 0, Protocol::Udp),
    ];
    let expected = XdpLb {
        interfaces: ["eth0", "eth1", "eth2"].map(str::to_owned).to_vec(),
        xdp_mode: XdpMode::Generic,
        metrics: "[::1]:9000".parse().unwrap(),
        connections: 1024,
        fail_static: true,
        empty_pool: EmptyPool::Reset,
        drain_timeout: std::time::Duration::from_mins(1),
        marks: [(7, marked.into())].into(),
        sync: None,
    };
    assert_eq!(loaded.config.xdp_lb, expected);
    for line in [
        "connections 1023",
        "connections 16777217",
        "connections many",
        "metrics 9165",
        "xdp_mode offload",
        "fail_static maybe",
        "empty_pool full",
        "drain_timeout 86401",
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
        instance("garp_extra_if 5\ntrack_bfd {\nx\n}\nold_unicast_checksum\nlinkbeat_use_polling");
    let note = diagnostics.iter().last().unwrap();
    assert_eq!(
        note.message(),
        "understood, but without effect in this version: garp_extra_if (line 4); old_unicast_checksum (line 8); track_bfd (line 5)"
    );
    assert_eq!(note.severity(), Severity::Note);
}

#[test]
fn state_sync_is_read_and_its_mistakes_are_errors() {
    let text = |lines: &str| format!("xdp_lb {{\nsync {{\n{lines}\n}}\n}}\n");
    let loaded = usable(&text(
        "peer 192.0.2.2 [2001:db8::2]:99\npeer 192.0.2.3 [2001:db8::3]\nkey_file /etc/xdp-lb/sync.key\ninterface eth1\nport 7000\nmaxlen 9000\nwait 5",
    ));
    let sync = loaded.config.xdp_lb.sync.unwrap();
    let expected = [
        "192.0.2.2:7000",
        "[2001:db8::2]:99",
        "192.0.2.3:7000",
        "[2001:db8::3]:7000",
    ];
    assert_eq!(sync.peers, expected.map(|peer| peer.parse().unwrap()));
    assert_eq!(sync.key, SyncKey::File("/etc/xdp-lb/sync.key".into()));
    assert_eq!(sync.interface.as_deref(), Some("eth1"));
    assert_eq!((sync.port, sync.max_length), (Some(7000), Some(9000)));
    assert_eq!(sync.wait, std::time::Duration::from_secs(5));
    for lines in [
        "peer 192.0.2.2",
        "key 0123456789abcdef",
        "peer 192.0.2.2\nkey short",
        "peer director2\nkey 0123456789abcdef",
        "peer 224.0.0.81\nkey 0123456789abcdef",
        "peer [192.0.2.2]\nkey 0123456789abcdef",
        "peer 192.0.2.2\nkey_file sync.key",
        "peer 192.0.2.2\nkey 0123456789abcdef\nmaxlen 100",
    ] {
        assert_eq!(errors(&text(lines)).len(), 1, "{lines}");
    }
    let group = "global_defs {\nlvs_sync_daemon eth1 VI_1 id 7\n}\n";
    let alone = usable(group);
    assert_eq!(warnings(&alone.diagnostics), [Code::Doubtful]);
    let keyed = usable(&format!("{group}{}", text("key 0123456789abcdef")));
    assert_eq!(warnings(&keyed.diagnostics), []);
    let shown = format!("{:?}", keyed.config);
    assert!(!shown.contains("0123456789abcdef"), "a secret is not shown");
}
