use super::*;
use crate::config::model::{
    Announcements, Authentication, Centiseconds, GarpGroup, HmacKeys, HmacSecret, Seconds,
    SyncGroup, Trackers, VirtualAddress, Weight,
};
use crate::plan::testing::{network, websocket};

/// The only router of seed 004's file, after a change of its instance.
fn settings(change: impl FnOnce(&mut VrrpInstance)) -> Settings {
    router(change).unwrap().settings
}

fn router(change: impl FnOnce(&mut VrrpInstance)) -> Option<Instance> {
    let mut config = websocket();
    change(&mut config.vrrp_instances[0]);
    instances(&config, &network()).pop()
}

fn v3(hundredths: u64, checksum_as_v2: bool) -> Written {
    Written::V3 {
        advert_interval: Centiseconds::nearest(Duration::from_millis(hundredths * 10)),
        checksum_as_v2,
    }
}

#[test]
fn an_instance_that_says_little_is_as_keepalived_has_it_but_for_two_things() {
    let source = "192.168.1.100".parse().unwrap();
    let vip = "192.168.1.200".parse().unwrap();
    let mut expected = Settings::new("VI_1", Vrid::new(51).unwrap(), source, vec![vip]);
    expected.garp.refresh = Duration::from_secs(1);
    assert!(expected.higher_prio_send_advert);
    assert_eq!(settings(|_| {}), expected);
}

#[test]
fn what_the_file_says_of_the_two_holds() {
    let settings = settings(|instance| {
        instance.higher_prio_send_advert = Some(false);
        instance.garp.refresh = Some(Duration::ZERO);
    });
    assert!(!settings.higher_prio_send_advert);
    assert_eq!(settings.garp.refresh, Duration::ZERO);
}

#[test]
fn a_refresh_goes_with_each_advert_and_many_addresses_share_ten_frames_a_second() {
    let refresh = |hundredths, vips: u8, repeat_gap: u64| {
        let mut config = websocket();
        config.announcements.garp_interval = Duration::from_millis(repeat_gap);
        let instance = &mut config.vrrp_instances[0];
        instance.version = v3(hundredths, false);
        let one = instance.virtual_addresses[0].clone();
        instance.excluded_addresses = vec![one; usize::from(vips) - 1];
        instances(&config, &network())[0].settings.garp.refresh
    };
    for (hundredths, vips, gap, expected) in [
        (100, 1, 0, 1_000),
        (10, 1, 0, 100),
        (1, 1, 0, 100),
        (10, 30, 0, 3_000),
        (1_000, 30, 0, 10_000),
        (4_095, 1, 0, 40_950),
        // Five frames, 100 ms apart, have to be through.
        (10, 2, 100, 1_000),
    ] {
        let expected = Duration::from_millis(expected);
        assert_eq!(
            refresh(hundredths, vips, gap),
            expected,
            "{hundredths}, {vips}"
        );
    }
}

#[test]
fn versions_have_their_intervals_and_secrets() {
    let two = settings(|instance| {
        instance.version = Written::V2 {
            advert_interval: Seconds::nearest(Duration::from_secs(255)),
            authentication: Authentication::new("1111"),
        };
    });
    assert_eq!((two.version, two.interval.centis()), (Version::V2, 25_500));
    assert_eq!(two.auth.data(), *b"1111\0\0\0\0");
    let three = settings(|instance| instance.version = v3(10, true));
    assert_eq!((three.version, three.interval.centis()), (Version::V3, 10));
    assert!(three.v3_checksum_as_v2);
    assert!(!settings(|instance| instance.version = v3(10, false)).v3_checksum_as_v2);
}

#[test]
fn every_mode_of_signing_is_passed_on() {
    let secret = "5a".repeat(32);
    for (written, mode) in [
        (HmacMode::ReceiveOnly, hmac::Mode::ReceiveOnly),
        (HmacMode::Permissive, hmac::Mode::Permissive),
        (HmacMode::Enforce, hmac::Mode::Enforce),
    ] {
        let settings = settings(|instance| {
            instance.hmac = Some(HmacKeys {
                mode: written,
                send_key: 7,
                keys: [(7, HmacSecret::from_hex(&secret).unwrap())].into(),
            });
        });
        let expected = hmac::Settings {
            mode,
            send_key: 7,
            keys: [(7, hmac::Secret::new(vec![0x5a; 32]).unwrap())].into(),
        };
        assert_eq!(settings.hmac, Some(expected));
    }
}

#[test]
fn unicast_peers_keep_their_bounds_and_nobody_to_talk_to_is_no_router() {
    let peer = model::Peer {
        address: "192.168.1.101".parse().unwrap(),
        min_ttl: 254,
        max_ttl: 255,
    };
    let unicast = router(|instance| {
        instance.transport = model::Transport::Unicast {
            peers: vec![peer],
            ttl: 9,
            check_source: true,
            old_checksum: None,
        };
        instance.receive_buffer = Some(4096);
    });
    let Instance { settings, tuning } = unicast.unwrap();
    let expected = Transport::Unicast {
        peers: vec![Peer {
            address: peer.address,
            min_ttl: 254,
            max_ttl: 255,
        }],
        check_source: true,
    };
    assert_eq!(settings.transport, expected);
    assert_eq!((tuning.ttl, tuning.buffer), (9, Some(4096)));
    let alone = router(|instance| instance.transport = model::Transport::NoPeer);
    let nobody = Transport::Unicast {
        peers: vec![],
        check_source: false,
    };
    assert_eq!(alone.unwrap().settings.transport, nobody, "its fault");
}

#[test]
fn nopreempt_and_the_switches_are_passed_on() {
    let settings = settings(|instance| {
        instance.preemption = Preemption::Never;
        instance.priority = 7;
        instance.down_timer_adverts = 9;
        instance.lower_prio_no_advert = true;
        instance.owner_ignore_adverts = true;
        instance.skip_check_adv_addr = true;
        instance.ignore_own_interface = true;
        instance.garp.repeat = 1000;
    });
    assert!(!settings.preempt);
    assert_eq!(
        (settings.priority.get(), settings.down_timer_adverts),
        (7, 9)
    );
    assert!(settings.lower_prio_no_advert && settings.owner_ignore_adverts);
    assert!(settings.skip_check_adv_addr && settings.dont_track_primary);
    assert_eq!(settings.garp.repeat, 255, "as many as fit");
}

#[test]
fn preempt_delay_and_startup_delay_are_passed_on() {
    let (one, two) = (Duration::from_secs(1), Duration::from_secs(2));
    let mut config = websocket();
    config.vrrp_instances[0].preemption = Preemption::After(one);
    config.global.vrrp_startup_delay = two;
    let settings = instances(&config, &network()).remove(0).settings;
    assert_eq!((settings.preempt, settings.preempt_delay), (true, one));
    assert_eq!(settings.startup_delay, two);
}

#[test]
fn the_pace_of_a_garp_group_goes_before_that_of_all() {
    let millis = Duration::from_millis;
    let mut config = websocket();
    config.announcements = Announcements {
        garp_interval: millis(10),
        na_interval: millis(20),
        groups: vec![],
    };
    let gap = |config: &Config| instances(config, &network()).remove(0).settings.garp.gap;
    assert_eq!(gap(&config), millis(10));
    config.announcements.groups.push(GarpGroup {
        interfaces: vec!["eth0".to_owned()],
        garp_interval: Some(millis(1)),
        na_interval: None,
    });
    assert_eq!(gap(&config), millis(1));
    config.vrrp_instances[0].family = Family::V6;
    assert_eq!(gap(&config), millis(20));
}

#[test]
fn trackers_are_its_own_and_those_of_its_group() {
    let tracked = |name: &str, value| Tracked {
        name: name.to_owned(),
        weight: Weight {
            value,
            reverse: value < 0,
        },
    };
    let mut config = websocket();
    config.vrrp_instances[0].trackers = Trackers {
        interfaces: vec![tracked("eth1", 0)],
        scripts: vec![tracked("chk", -2)],
        ..Trackers::default()
    };
    config.sync_groups.push(SyncGroup {
        name: "G".to_owned(),
        members: vec!["VI_1".to_owned()],
        trackers: Trackers {
            files: vec![tracked("down", 1)],
            processes: vec![tracked("nginx", 3)],
            ..Trackers::default()
        },
        tracking_weight: true,
        notify: model::Notify::default(),
    });
    let settings = instances(&config, &network()).remove(0).settings;
    let seen = settings.trackers.iter();
    let seen: Vec<_> = seen
        .map(|t| (t.kind, t.name.as_str(), t.weight, t.reverse))
        .collect();
    let expected = [
        (Kind::Interface, "eth1", 0, false),
        (Kind::Script, "chk", -2, true),
        (Kind::File, "down", 1, false),
        (Kind::Process, "nginx", 3, false),
    ];
    assert_eq!(seen, expected);
    let expected = Group {
        name: "G".to_owned(),
        members: vec!["VI_1".to_owned()],
        tracking_weight: true,
    };
    assert_eq!(groups(&config), [expected]);
}

/// The source of seed 004's instance on `eth0` with these addresses.
fn source_of(addresses: &[&str], change: impl FnOnce(&mut VrrpInstance)) -> Option<String> {
    let mut config = websocket();
    change(&mut config.vrrp_instances[0]);
    let mut network = network();
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    network.addresses.insert(2, addresses.collect());
    let source = source(&config, &config.vrrp_instances[0], &network);
    source.map(|address| address.to_string())
}

#[test]
fn adverts_leave_from_the_first_address_that_is_no_virtual_one() {
    let vip = "192.168.1.200/24";
    let cases: &[(&[&str], Option<&str>)] = &[
        (&["192.168.1.9/24", "192.168.1.1/24"], Some("192.168.1.9")),
        (&[vip, "192.168.1.1/24"], Some("192.168.1.1")),
        (&["fe80::1/64", "192.168.1.1/24"], Some("192.168.1.1")),
        (&[vip], None),
        (&[], None),
    ];
    for (addresses, expected) in cases {
        let found = source_of(addresses, |_| {});
        assert_eq!(found.as_deref(), *expected, "{addresses:?}");
    }
    let owner = source_of(&[vip], |instance| instance.priority = 255);
    assert_eq!(owner.as_deref(), Some("192.168.1.200"), "its own");
}

#[test]
fn ipv6_adverts_leave_from_an_address_of_the_link() {
    let six = |instance: &mut VrrpInstance| {
        instance.family = Family::V6;
        instance.version = v3(100, false);
        let vip = "2001:db8::200/64".parse().unwrap();
        instance.virtual_addresses = vec![VirtualAddress::new(vip)];
    };
    let found = source_of(&["192.168.1.1/24", "2001:db8::1/64", "fe80::1/64"], six);
    assert_eq!(found.as_deref(), Some("fe80::1"));
    assert_eq!(source_of(&["192.168.1.1/24", "2001:db8::1/64"], six), None);
}

#[test]
fn a_written_source_need_not_be_here_unless_it_is_tracked() {
    let written = |track_source| {
        move |instance: &mut VrrpInstance| {
            instance.source = Some("192.168.1.7".parse().unwrap());
            instance.track_source = track_source;
        }
    };
    let expected = Some("192.168.1.7".to_owned());
    assert_eq!(source_of(&[], written(false)), expected);
    assert_eq!(source_of(&[], written(true)), None);
    assert_eq!(source_of(&["192.168.1.7/24"], written(true)), expected);
}

#[test]
fn without_an_interface_a_router_has_no_source() {
    let settings = settings(|instance| instance.interface = "eth9".to_owned());
    assert!(settings.source.is_unspecified() && settings.source.is_ipv4());
}
