//! Instances.

use std::time::Duration;

use super::super::{found, said, usable};
use super::{ADDRESS, errors, file, instance, instance_with, warnings};
use crate::config::diagnostic::Code;
use crate::config::model::{
    Deleted, Family, Garp, HmacMode, InitialState, Peer, Preemption, Preferred, Transport, Version,
    VirtualInterface, VrrpInstance,
};

#[test]
fn an_instance_that_says_nothing_is_as_keepalived_fills_it_in() {
    let (instance, codes) = instance("");
    assert_eq!(codes, []);
    assert_eq!(
        instance,
        VrrpInstance::new("A", "eth0", 51.try_into().unwrap())
    );
    assert_eq!(instance.version.advert_interval(), Duration::from_secs(1));
    assert_eq!(instance.garp.lower_prio_delay, Duration::from_secs(5));
}

#[test]
fn intervals_go_on_the_wire_as_the_version_can_carry_them() {
    let cases: [(&str, u64, &[Code]); 16] = [
        ("advert_int 3", 3000, &[]),
        ("advert_int 3s", 1000, &[Code::BadValue]),
        ("version 3x;advert_int 0.5", 500, &[Code::BadValue]),
        ("advert_int 0.4", 1000, &[Code::Rounded]),
        ("advert_int 1.4", 1000, &[Code::Rounded]),
        ("advert_int 1.5", 2000, &[Code::Rounded]),
        ("advert_int 0.01", 1000, &[Code::Rounded]),
        ("advert_int 0", 1000, &[Code::BadValue]),
        ("advert_int 300", 1000, &[Code::BadValue]),
        ("advert_interval 5", 1000, &[Code::UnknownKeyword]),
        ("version 3;advert_int 0.25", 250, &[]),
        ("version 3;advert_int 0.255", 260, &[Code::Rounded]),
        ("version 3;advert_int 0.01", 10, &[]),
        ("version 3;advert_int 41", 40_950, &[Code::Rounded]),
        (
            "advert_int 3;advert_int 0",
            3000,
            &[Code::Repeated, Code::BadValue],
        ),
        (
            "version 4;advert_int 0.5",
            1000,
            &[Code::BadValue, Code::Rounded],
        ),
    ];
    for (lines, milliseconds, expected) in cases {
        let (instance, mut codes) = instance(&format!("{ADDRESS}\n{lines}"));
        let sent = instance.version.advert_interval();
        assert_eq!(sent, Duration::from_millis(milliseconds), "{lines}");
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        codes.sort_unstable();
        assert_eq!(codes, expected, "{lines}");
    }
}

#[test]
fn only_version_2_has_a_password_and_eight_bytes_of_it_count() {
    let password = |kind: &str, text: &str| {
        format!("authentication {{;auth_type {kind};auth_pass {text};}};{ADDRESS}")
    };
    let (plain, codes) = instance(&password("PASS", "nginxpass"));
    assert_eq!(codes, [Code::BadValue]);
    let Version::V2 { authentication, .. } = &plain.version else {
        panic!("{plain:?}");
    };
    assert_eq!(authentication.as_ref().unwrap().bytes(), *b"nginxpas");
    assert!(!format!("{plain:?}").contains("nginxpas"));
    for text in ["PASS", "AH"] {
        let (three, codes) = instance(&("version 3;".to_owned() + &password(text, "1111")));
        assert_eq!(codes, [Code::NoAuthentication]);
        assert_eq!(three.version.number(), 3);
    }
    assert_eq!(
        errors(&file("", "", &password("AH", "1111"))),
        [Code::NotSupported]
    );
    assert_eq!(
        errors(&file("vrrp_strict", "", &password("AH", "1111"))),
        []
    );
}

#[test]
fn signed_adverts_need_keys() {
    let key = "00".repeat(32);
    let hmac = |lines: &str| format!("auth_hmac {{;{lines};}}");
    let (signed, codes) = instance(&hmac(&format!("key 7 {key};key 2 {key};mode permissive")));
    assert_eq!(codes, []);
    let keys = signed.hmac.unwrap();
    assert_eq!((keys.send_key, keys.mode), (7, HmacMode::Permissive));
    assert_eq!(keys.keys.len(), 2);
    assert!(!format!("{keys:?}").contains("00"));
    for bad in [
        String::new(),
        "key 1 abc".to_owned(),
        format!("key 1 {key}0"),
        format!("key 256 {key}"),
        format!("key 1 {key};send_key 2"),
        format!("key 1 {key};mode strict"),
    ] {
        assert!(!errors(&file("", "", &hmac(&bad))).is_empty(), "{bad}");
    }
}

#[test]
fn the_first_address_sets_the_family_and_ipv6_is_version_3() {
    let cases: [(&str, Family, &[Code]); 7] = [
        (ADDRESS, Family::V4, &[]),
        ("virtual_ipaddress {;2001:db8::1/64;}", Family::V6, &[]),
        (
            "virtual_ipaddress {;2001:db8::1/64;};version 2",
            Family::V6,
            &[Code::Overruled],
        ),
        ("native_ipv6;no_virtual_ipaddress", Family::V6, &[]),
        ("native_ipv6", Family::V6, &[Code::Empty]),
        (
            "native_ipv6;virtual_ipaddress {;10.0.0.1/24;}",
            Family::V4,
            &[Code::Overruled],
        ),
        (
            "virtual_ipaddress {;2001:db8::1/64;10.0.0.1;}",
            Family::V6,
            &[Code::BadValue],
        ),
    ];
    for (lines, family, expected) in cases {
        let (instance, codes) = instance(lines);
        assert_eq!(
            (instance.family, codes.as_slice()),
            (family, expected),
            "{lines}"
        );
        assert_eq!(
            instance.version.number(),
            if family == Family::V6 { 3 } else { 2 }
        );
    }
}

#[test]
fn addresses_take_what_keepalived_takes() {
    let cases: [(&str, &str, &[Code]); 13] = [
        ("10.0.0.1 peer 10.0.0.9", "10.0.0.1/32", &[]),
        (
            "10.0.0.1/24 peer 10.0.0.9",
            "10.0.0.1/32",
            &[Code::BadValue],
        ),
        (
            "10.0.0.1/24 peer 10.0.0.9/30",
            "10.0.0.1/24",
            &[Code::BadValue],
        ),
        (
            "10.0.0.1/24 preferred_lft foo",
            "10.0.0.1/24",
            &[Code::BadValue],
        ),
        ("10.0.0.1/24 nodad", "10.0.0.1/24", &[Code::BadValue]),
        (
            "10.0.0.1/24 track_group g",
            "10.0.0.1/24",
            &[Code::BadValue, Code::BadValue],
        ),
        ("10.0.0.1/24 label eth0:1", "10.0.0.1/24", &[]),
        ("10.0.0.1/24 label eth00", "10.0.0.1/24", &[Code::Doubtful]),
        (
            "2001:db8::1/64 label a",
            "2001:db8::1/64",
            &[Code::BadValue],
        ),
        (
            "2001:db8::1/64 scope link",
            "2001:db8::1/64",
            &[Code::BadValue],
        ),
        (
            "2001:db8::1/64 peer 2001:db8::9",
            "2001:db8::1/128",
            &[Code::BadValue],
        ),
        (
            "2001:db8::1 peer 10.0.0.9",
            "2001:db8::1/128",
            &[Code::BadValue],
        ),
        (
            "2001:db8::1/64 home -nodad mngtmpaddr noprefixroute autojoin",
            "2001:db8::1/64",
            &[],
        ),
    ];
    for (line, address, expected) in cases {
        let (instance, codes) = instance(&format!("virtual_ipaddress {{;{line};}}"));
        let [only] = instance.virtual_addresses.as_slice() else {
            panic!("{line}: {instance:?}");
        };
        assert_eq!(only.address.to_string(), address, "{line}");
        assert_eq!(codes, expected, "{line}");
    }
}

#[test]
fn addresses_that_are_not_advertised_can_be_of_either_family() {
    let (six, codes) = instance(
        "virtual_ipaddress {;2001:db8::1/64 brd +;2001:db8::2/64 -nodad preferred_lft 5;};\
         virtual_ipaddress_excluded {;10.0.0.1/24 use_vmac;2001:db8::2/64;}",
    );
    assert_eq!(codes, [Code::BadValue, Code::Duplicate]);
    assert!(six.virtual_addresses[0].flags.no_dad);
    assert_eq!(six.virtual_addresses[0].preferred, Preferred::Seconds(5));
    assert_eq!(six.excluded_addresses.len(), 1);
    assert!(six.excluded_addresses[0].flags.use_vmac);
}

#[test]
fn a_bare_address_is_noted_once_with_its_network_where_the_file_shows_that() {
    let noted = |lines: &str| {
        let diagnostics = found(&file("", "", &format!("virtual_ipaddress {{;{lines};}}")));
        let all = said(&diagnostics).into_iter();
        let count = all
            .filter(|(_, code, ..)| *code == Code::DefaultUsed)
            .count();
        let text = diagnostics.render(false);
        (count, text.contains("10.0.0.0/24 is on the same interface"))
    };
    assert_eq!(noted("10.0.0.1/24;10.0.0.2;10.0.0.3"), (1, true));
    assert_eq!(noted("10.0.0.1;10.0.0.2"), (1, false));
    assert_eq!(noted("10.0.0.1/24;10.0.0.2/32"), (0, false));
    assert_eq!(noted("10.0.0.1/24 dev eth1;10.0.0.2"), (1, false));
    assert_eq!(noted("10.0.0.1/24;10.0.1.2"), (1, false));
    assert_eq!(noted("10.0.0.1/32"), (0, false));
}

#[test]
fn preemption_follows_state_and_priority() {
    let after = |seconds: f64| Preemption::After(Duration::from_secs_f64(seconds));
    let cases: [(&str, Preemption, &[Code]); 10] = [
        ("nopreempt", Preemption::Never, &[]),
        ("nopreempt;preempt", after(0.0), &[]),
        ("preempt_delay 0.5", after(0.5), &[]),
        ("preempt_delay 1001", after(0.0), &[Code::BadValue]),
        ("preempt_delay -1", after(0.0), &[Code::BadValue]),
        (
            "nopreempt;preempt_delay 5",
            Preemption::Never,
            &[Code::Overruled],
        ),
        (
            "state MASTER;priority 100;nopreempt",
            after(0.0),
            &[Code::Overruled],
        ),
        (
            "state MASTER;priority 100;preempt_delay 9",
            after(0.0),
            &[Code::Overruled],
        ),
        ("priority 255;nopreempt", after(0.0), &[Code::Overruled]),
        (
            "state BACKUP;priority 255;nopreempt",
            after(0.0),
            &[Code::Overruled],
        ),
    ];
    for (lines, preemption, expected) in cases {
        let (instance, codes) = instance(lines);
        assert_eq!(
            (instance.preemption, codes.as_slice()),
            (preemption, expected),
            "{lines}"
        );
    }
    assert_eq!(
        instance("priority 255").0.initial_state,
        InitialState::Master
    );
    assert_eq!(
        instance("state BACKUP;priority 255").0.initial_state,
        InitialState::Backup
    );
}

#[test]
fn strict_mode_says_what_it_takes_away() {
    let strict = |lines: &str| {
        let loaded = usable(&file("vrrp_strict", "", &format!("{lines};{ADDRESS}")));
        let message = loaded
            .diagnostics
            .iter()
            .find(|item| item.code() == Code::Strict);
        let message = message.map(|item| item.message().to_owned());
        (
            loaded.config.vrrp_instances[0].clone(),
            message.unwrap_or_default(),
        )
    };
    let (plain, message) = strict("authentication {;auth_type PASS;auth_pass 1111;}");
    assert!(!plain.accept && message.contains("password") && message.contains("pings"));
    assert!(matches!(
        plain.version,
        Version::V2 {
            authentication: None,
            ..
        }
    ));
    let (master, message) = strict("state MASTER;priority 100;no_accept");
    assert_eq!(master.initial_state, InitialState::Backup);
    assert!(
        message.contains("BACKUP") && !message.contains("pings"),
        "{message}"
    );
    let (owner, message) = strict("state MASTER");
    assert!(owner.accept && message.is_empty(), "{message}");
    let (off, message) = strict("strict_mode off");
    assert!(off.accept && !off.strict && message.is_empty(), "{message}");
    // keepalived does not read the value of the global keyword.
    assert!(instance_with("vrrp_strict off", "", ADDRESS).0.strict);
}

#[test]
fn adverts_go_to_the_peers_if_there_are_any() {
    let group = |address: &str| Transport::Multicast {
        group: address.parse().unwrap(),
    };
    let cases: [(&str, Transport, &[Code]); 8] = [
        ("", group("224.0.0.18"), &[]),
        ("mcast_dst_ip 224.0.0.55", group("224.0.0.55"), &[]),
        (
            "mcast_dst_ip 10.0.0.1",
            group("224.0.0.18"),
            &[Code::BadValue],
        ),
        (
            "mcast_dst_ip ff02::5",
            group("224.0.0.18"),
            &[Code::BadValue],
        ),
        ("unicast_peer {;}", group("224.0.0.18"), &[Code::Overruled]),
        (
            "unicast_src_ip 10.0.0.9",
            group("224.0.0.18"),
            &[Code::Overruled],
        ),
        (
            "unicast_peer {;2001:db8::1;}",
            group("224.0.0.18"),
            &[Code::Overruled, Code::BadValue],
        ),
        ("unicast_fault_no_peer", Transport::NoPeer, &[]),
    ];
    for (lines, transport, expected) in cases {
        let (instance, codes) = instance(&format!("{ADDRESS};{lines}"));
        assert_eq!(
            (instance.transport, codes.as_slice()),
            (transport, expected),
            "{lines}"
        );
    }
}

#[test]
fn peers_have_limits_of_their_own() {
    let (unicast, codes) = instance(
        "unicast_src_ip 10.0.0.9 track;mcast_src_ip 10.0.0.8;\
         unicast_peer {;10.0.0.2;10.0.0.3 min_ttl 5 max_ttl 200;10.0.0.2;foo;10.0.0.4 min_ttl 9 max_ttl 3;10.0.0.5 10.0.0.6;}",
    );
    assert_eq!(
        codes,
        [
            Code::Duplicate,
            Code::BadValue,
            Code::BadValue,
            Code::BadValue
        ]
    );
    let peer = |last: u8, min_ttl: u8, max_ttl: u8| Peer {
        address: [10, 0, 0, last].into(),
        min_ttl,
        max_ttl,
    };
    let peers = vec![
        peer(2, 0, 255),
        peer(3, 5, 200),
        peer(4, 0, 255),
        peer(5, 0, 255),
    ];
    let expected = Transport::Unicast {
        peers,
        ttl: 255,
        check_source: true,
        old_checksum: None,
    };
    assert_eq!(unicast.transport, expected);
    assert_eq!(unicast.source, Some([10, 0, 0, 9].into()));
    assert!(unicast.track_source);
}

#[test]
fn defaults_of_all_instances_are_filled_in() {
    let globals = "vrrp_version 3\nvrrp_garp_master_delay 2\nvrrp_garp_master_repeat 7\n\
                   vrrp_mcast_group4 224.0.0.20\nvrrp_down_timer_adverts 5\n\
                   vrrp_lower_prio_no_advert\nvrrp_notify_priority_changes\nsmtp_alert\n\
                   vrrp_skip_check_adv_addr\nvmac_prefix vm";
    let lines = format!("garp_master_delay 9;lower_prio_no_advert off;use_vmac;{ADDRESS}");
    let (instance, codes) = instance_with(globals, "", &lines);
    assert_eq!(codes, []);
    let expected = Garp {
        delay: Duration::from_secs(9),
        repeat: 7,
        lower_prio_delay: Duration::from_secs(2),
        lower_prio_repeat: 7,
        ..Garp::default()
    };
    assert_eq!(instance.garp, expected);
    assert_eq!(instance.version.number(), 3);
    assert_eq!(instance.down_timer_adverts, 5);
    assert!(!instance.lower_prio_no_advert && instance.skip_check_adv_addr);
    assert!(instance.notify.mail && instance.notify.priority_changes);
    let name = "vm.51".to_owned();
    let vmac = VirtualInterface::Vmac {
        name,
        mac: None,
        adverts_below: false,
    };
    assert_eq!(instance.virtual_interface, Some(vmac));
    let (minimal, _) = instance_with("vrrp_min_garp", "", "");
    assert_eq!((minimal.garp.repeat, minimal.garp.refresh_repeat), (1, 1));
    assert_eq!(minimal.garp.delay, Duration::ZERO);
    assert_eq!(minimal.garp.lower_prio_repeat, 1);
}

#[test]
fn the_same_vrid_is_a_conflict_within_a_family_and_a_shared_address_is_doubtful() {
    let other = |family: &str, vrid: u8, interface: &str| {
        format!(
            "vrrp_instance B {{\ninterface {interface}\nvirtual_router_id {vrid}\n\
             virtual_ipaddress {{\n{family}\n}}\n}}\n"
        )
    };
    let first = file("", "", ADDRESS);
    assert_eq!(
        errors(&(first.clone() + &other("10.0.0.2/24", 51, "eth0"))),
        [Code::Conflict]
    );
    assert_eq!(
        errors(&(first.clone() + &other("2001:db8::1", 51, "eth0"))),
        []
    );
    let shared = usable(&(first.clone() + &other("10.0.0.1/24", 52, "eth0")));
    assert_eq!(warnings(&shared.diagnostics), [Code::Doubtful]);
    let apart = usable(&(first + &other("10.0.0.1/24", 52, "eth1")));
    assert_eq!(warnings(&apart.diagnostics), []);
}

#[test]
fn numbers_of_announcements_have_keepalived_s_effect() {
    let default = Garp::default();
    let delay = |seconds| Garp {
        delay: Duration::from_secs(seconds),
        ..default
    };
    let repeat = |repeat| Garp { repeat, ..default };
    let cases: [(&str, Garp, &[Code]); 8] = [
        ("garp_master_delay 0", delay(0), &[]),
        ("garp_master_delay 0.5", delay(0), &[Code::BadValue]),
        ("garp_master_delay -1", default, &[Code::BadValue]),
        ("garp_master_repeat 0", repeat(1), &[Code::BadValue]),
        ("garp_master_repeat 9", repeat(9), &[]),
        ("garp_extra_if", default, &[Code::MissingValue]),
        ("garp_extra_if all", default, &[Code::MissingValue]),
        ("garp_extra_if foo", default, &[Code::BadValue]),
    ];
    for (lines, garp, expected) in cases {
        let (instance, codes) = instance(lines);
        assert_eq!(
            (instance.garp, codes.as_slice()),
            (garp, expected),
            "{lines}"
        );
    }
    let (extra, codes) = instance("garp_extra_if all 30");
    assert_eq!(codes, []);
    let extra = extra.garp.extra.unwrap();
    assert_eq!((extra.all, extra.interval), (true, Duration::from_secs(30)));
}

#[test]
fn commands_are_kept_for_each_change() {
    let (instance, codes) = instance(
        "notify_master \"/n a\" nobody;notify_backup \"/n b\";notify_fault \"/n c\";\
         notify_stop \"/n d\";notify \"/n e\";notify_deleted;notify_master_rx_lower_pri \"/n f\"",
    );
    assert_eq!(codes, []);
    let notify = instance.notify;
    let commands = [
        notify.master,
        notify.backup,
        notify.fault,
        notify.stop,
        notify.any,
    ];
    let lines: Vec<String> = commands.into_iter().map(|c| c.unwrap().line).collect();
    assert_eq!(lines, ["/n a", "/n b", "/n c", "/n d", "/n e"]);
    assert_eq!(notify.deleted, Deleted::Named);
    assert!(notify.lower_priority.is_some());
}

#[test]
fn routes_and_rules_are_checked_word_by_word() {
    let route = |line: &str| {
        let (instance, codes) = instance(&format!("virtual_routes {{;{line};}}"));
        let words = instance.routes.first().map(|route| route.words.join(" "));
        (words, codes)
    };
    for good in [
        "10.9.0.0/16 via 10.0.0.254",
        "src 10.0.0.1 to 10.9.0.0/24 via 10.0.0.254 dev eth0 scope global table 100 metric 5",
        "default via 10.0.0.254",
        "blackhole 10.8.0.0/16",
        "10.7.0.0/16 nexthop via 10.0.0.2 weight 2 nexthop via 10.0.0.3",
        "unicast 10.9.0.0/16 dev eth0 mtu lock 1400",
        "2001:db8::/64 dev eth0",
    ] {
        assert_eq!(route(good), (Some(good.to_owned()), vec![]), "{good}");
    }
    let renamed = route("10.9.0.0/16 gw 10.0.0.254");
    assert_eq!(
        renamed,
        (Some("10.9.0.0/16 via 10.0.0.254".to_owned()), vec![])
    );
    for bad in [
        "foo via 10.0.0.254",
        "10.9.0.0/16 foo",
        "10.9.0.0/16 dev eth0 track_group g",
    ] {
        assert_eq!(route(bad), (None, vec![Code::BadValue]), "{bad}");
    }
    let missing = file("", "", "virtual_routes {;10.9.0.0/16 dev;}");
    assert_eq!(errors(&missing), [Code::MissingValue]);
    let rule = |line: &str| {
        let (instance, codes) = instance(&format!("virtual_rules {{;{line};}}"));
        let words = instance.rules.first().map(|rule| rule.words.join(" "));
        (words, codes)
    };
    let table = "from 10.0.0.0/24 table 100";
    let with_default = Some(format!("{table} preference 16384"));
    assert_eq!(rule(table), (with_default, vec![Code::DefaultUsed]));
    for bad in ["from 10.0.0.0/24", "from 10.0.0.0/24 goto 2000"] {
        assert_eq!(rule(bad), (None, vec![Code::MissingValue]), "{bad}");
    }
    assert_eq!(rule("from foo table 100"), (None, vec![Code::BadValue]));
}

#[test]
fn places_point_at_what_other_checks_speak_about() {
    let lines = "state MASTER;priority 101;advert_int 2;authentication {;auth_type PASS;auth_pass a;};\
                 virtual_ipaddress {;10.0.0.1/24;foo;10.0.0.2/24;}";
    let loaded = usable(&file("", "", lines));
    let places = &loaded.places.instances[0];
    let text = |span: crate::config::source::Span| {
        let file = loaded.diagnostics.sources().file(span.file).unwrap();
        file.position(span.start).line
    };
    let spans = [
        Some(places.name),
        places.state,
        places.priority,
        places.advert_interval,
        places.authentication,
    ];
    let lines: Vec<usize> = spans.into_iter().map(|span| text(span.unwrap())).collect();
    assert_eq!(lines, [4, 7, 8, 9, 10]);
    let addresses: Vec<usize> = places.addresses.iter().map(|span| text(*span)).collect();
    assert_eq!(addresses, [15, 17]);
}

#[test]
fn interfaces_with_a_virtual_mac_have_names_of_their_own_as_keepalived_gives_them() {
    let instance = |name: &str, interface: &str, vip: &str, lines: &str| {
        format!(
            "vrrp_instance {name} {{\ninterface {interface}\nvirtual_router_id 9\n{lines}\n\
             virtual_ipaddress {{\n{vip}\n}}\n}}\n"
        )
    };
    let four = instance("A", "eth0", "10.0.0.1", "use_vmac");
    let six = instance("B", "eth0", "fe80::1/64", "use_vmac");
    let elsewhere = instance("C", "eth1", "10.1.0.1", "use_vmac");
    let own = instance("D", "eth2", "10.2.0.1", "use_vmac web9");
    let names = |text: &[&String]| {
        let text: String = text.iter().map(|text| text.as_str()).collect();
        let instances = usable(&text).config.vrrp_instances.into_iter();
        let names = instances.map(|instance| match instance.virtual_interface {
            Some(VirtualInterface::Vmac { name, .. }) => name,
            other => panic!("{other:?}"),
        });
        names.collect::<Vec<_>>()
    };
    assert_eq!(names(&[&six]), ["vrrp.9"]);
    let all = names(&[&four, &six, &elsewhere, &own]);
    assert_eq!(all, ["vrrp.9", "vrrp6.9", "vrrp1.9", "web9"]);
    assert_eq!(names(&[&six, &four]), ["vrrp.9", "vrrp1.9"]);
}
