//! What is tracked, groups, and what belongs to the director.

use std::time::Duration;

use super::super::usable;
use super::{ADDRESS, OBJECTS, file, instance_with, warnings};
use crate::config::diagnostic::Code;
use crate::config::model::{Config, MatchArguments, Tracked, Weight};
use crate::config::{Loaded, Severity};

#[test]
fn a_tracker_s_weight_is_its_own_or_that_of_the_object() {
    type Case = (&'static str, Option<(i16, bool)>, &'static [Code]);
    let cases: [Case; 14] = [
        ("s", Some((20, false)), &[]),
        ("z", Some((0, false)), &[]),
        ("r", Some((5, true)), &[]),
        ("r weight 5 noreverse", Some((5, false)), &[]),
        ("s weight 0", Some((0, false)), &[]),
        ("s weight -5 reverse", Some((-5, true)), &[]),
        ("s weight 300", Some((20, false)), &[Code::BadValue]),
        ("s weight 254", Some((253, false)), &[Code::BadValue]),
        ("s weight 5 foo", Some((5, false)), &[Code::BadValue]),
        ("s weight", None, &[Code::BadValue]),
        ("s reverse", None, &[Code::BadValue]),
        ("s z", None, &[Code::BadValue]),
        ("none", None, &[Code::UnknownName]),
        ("s;s weight 3", Some((20, false)), &[Code::Duplicate]),
    ];
    for (lines, weight, expected) in cases {
        let lines = format!("track_script {{;{lines};}}");
        let (instance, codes) = instance_with("", OBJECTS, &lines);
        let found = instance
            .trackers
            .scripts
            .first()
            .map(|tracked| tracked.weight);
        let weight = weight.map(|(value, reverse)| Weight { value, reverse });
        assert_eq!((found, codes.as_slice()), (weight, expected), "{lines}");
    }
}

#[test]
fn what_is_tracked_exists() {
    let lines = "track_interface {;eth1 weight 10;eth0;};track_file {;f;q;};track_process {;p;}";
    let (instance, codes) = instance_with("", OBJECTS, lines);
    assert_eq!(codes, [Code::Overruled, Code::UnknownName]);
    let tracked = |name: &str, value: i16| Tracked {
        name: name.to_owned(),
        weight: Weight {
            value,
            reverse: false,
        },
    };
    assert_eq!(instance.trackers.interfaces, [tracked("eth1", 10)]);
    assert_eq!(instance.trackers.files, [tracked("f", 1)]);
    assert_eq!(instance.trackers.processes, [tracked("p", 0)]);
    let bfd = usable(&file("", OBJECTS, "track_bfd {;b;}"));
    let warned = bfd
        .diagnostics
        .iter()
        .any(|item| item.severity() == Severity::Warning && item.message().contains("BFD"));
    assert!(warned);
    // keepalived looks only above.
    let below = usable(&(file("", "", "track_script {;s;}") + OBJECTS));
    assert_eq!(warnings(&below.diagnostics), [Code::UnknownName]);
    assert!(below.config.vrrp_instances[0].trackers.scripts.is_empty());
}

#[test]
fn objects_have_keepalived_s_defaults() {
    let text = "vrrp_script s {\nscript \"/bin/s a\"\ninterval 5\nuser nobody\n}\n\
                vrrp_script half {\nscript \"/bin/s\"\ninterval 0.5\nfall 0\nrise x\nweight 254\n}\n\
                vrrp_script none {\n}\nvrrp_script s {\nscript \"/bin/other\"\n}\n\
                track_file f {\nfile /tmp/f\ninit_file overwrite\nweight 254\n}\n\
                vrrp_track_process p {\nprocess a b\nparam_match initial\nquorum_max 0\n}\n\
                vrrp_track_process q {\nprocess a\nquorum 5\nquorum_max 2\ndelay 0\n}\n";
    let Loaded {
        config,
        diagnostics,
        ..
    } = usable(text);
    let expected = [
        Code::BadValue,
        Code::BadValue,
        Code::BadValue,
        Code::MissingKeyword,
        Code::Duplicate,
        Code::BadValue,
        Code::BadValue,
    ];
    assert_eq!(warnings(&diagnostics), expected);
    let [s, half] = config.scripts.as_slice() else {
        panic!("{:?}", config.scripts);
    };
    assert_eq!(
        (s.interval, s.timeout),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert_eq!(s.command.user.as_ref().unwrap().name, "nobody");
    assert_eq!(
        (half.fall, half.rise, half.weight),
        (1, 1, Weight::default())
    );
    assert_eq!(half.interval, Duration::from_millis(500));
    assert!(config.track_files[0].initial.unwrap().overwrite);
    let [p, q] = config.track_processes.as_slice() else {
        panic!("{:?}", config.track_processes);
    };
    assert_eq!((p.quorum, p.quorum_max), (0, Some(0)));
    assert_eq!(p.arguments, MatchArguments::Initial);
    assert_eq!((q.quorum, q.quorum_max), (5, None));
}

/// Two instances in the group G, which says `group`.
fn group(one: &str, other: &str, group: &str) -> (Config, Vec<Code>) {
    let second = "vrrp_instance B {\ninterface eth1\nvirtual_router_id 52\n";
    let text = file("", OBJECTS, one) + second + &other.replace(';', "\n") + "\n}\n" + group;
    let loaded = usable(&text);
    let codes = warnings(&loaded.diagnostics);
    (loaded.config, codes)
}

#[test]
fn groups_hold_instances_that_exist_each_in_one_group() {
    type Case = (
        &'static str,
        &'static [&'static [&'static str]],
        &'static [Code],
    );
    let cases: [Case; 7] = [
        (
            "vrrp_sync_group G {\ngroup {\nA\nB\n}\n}",
            &[&["A", "B"]],
            &[],
        ),
        ("vrrp_sync_group G {\ngroup { A B }\n}", &[&["A", "B"]], &[]),
        (
            "vrrp_sync_group G {\ngroup {\nA\n}\n}",
            &[&["A"]],
            &[Code::Doubtful],
        ),
        ("vrrp_sync_group G {\ngroup {\n}\n}", &[], &[Code::Empty]),
        (
            "vrrp_sync_group G {\ngroup {\nX\n}\n}",
            &[],
            &[Code::Empty, Code::UnknownName],
        ),
        (
            "vrrp_sync_group G {\ngroup {\nA\nB\nA\n}\n}\nvrrp_sync_group H {\ngroup {\nA\n}\n}",
            &[&["A", "B"]],
            &[Code::Duplicate, Code::Empty, Code::Duplicate],
        ),
        (
            "vrrp_sync_group G {\ngroup {\nA\nB\n}\n}\nvrrp_sync_group G {\ngroup {\nA\n}\n}",
            &[&["A", "B"]],
            &[Code::Duplicate],
        ),
    ];
    for (text, members, expected) in cases {
        let (config, codes) = group("", "", text);
        let found: Vec<&Vec<String>> = config.sync_groups.iter().map(|g| &g.members).collect();
        assert_eq!(found, members, "{text}");
        assert_eq!(codes, expected, "{text}");
    }
}

#[test]
fn weights_of_members_do_not_count_in_a_group() {
    let (one, other) = ("track_script {;s;z;}", "track_interface {;eth2 weight 5;}");
    let members = "group {\nA\nB\n}";
    let (config, codes) = group(one, other, &format!("vrrp_sync_group G {{\n{members}\n}}"));
    assert_eq!(codes, [Code::Overruled, Code::Overruled]);
    let [a, b] = config.vrrp_instances.as_slice() else {
        panic!("{config:?}");
    };
    assert_eq!(a.trackers.scripts.len(), 1);
    assert_eq!(b.trackers.interfaces[0].weight, Weight::default());
    let weights = format!("vrrp_sync_group G {{\n{members}\nsync_group_tracking_weight\n}}");
    let (config, codes) = group(one, other, &weights);
    assert_eq!(codes, []);
    assert_eq!(config.vrrp_instances[0].trackers.scripts.len(), 2);
}

#[test]
fn what_belongs_to_the_director_is_read() {
    let text = "track_group tg {\ngroup {\nA\nX\n}\n}\n".to_owned()
        + &file(
            "default_interface eth5\nvrrp_garp_interval 0.5\nvrrp_gna_interval 0",
            "",
            ADDRESS,
        )
        + "static_ipaddress {\n10.5.0.1/24 track_group tg\n10.5.0.2/24 dev eth1 track_group no\n}\n\
           static_routes {\n10.9.0.0/16 dev eth0 track_group tg\n10.8.0.0/16 dev eth0 no_track\n}\n\
           static_rules {\nfrom 10.5.0.0/24 table 1 preference 7\n}\n\
           garp_group {\ngarp_interval 1\ninterfaces {\neth0\neth1\n}\n}\n\
           garp_group {\ngarp_interval 2\ninterface eth1\n}\n\
           interface_up_down_delays {\neth0 1.5\neth1 1 2\neth2 x\n}\n";
    let Loaded {
        config,
        diagnostics,
        ..
    } = usable(&text);
    let expected = [
        Code::UnknownName,
        Code::UnknownName,
        Code::Empty,
        Code::Duplicate,
        Code::BadValue,
    ];
    assert_eq!(warnings(&diagnostics), expected);
    assert_eq!(config.track_groups[0].members, ["A"]);
    let [first, second] = config.static_addresses.as_slice() else {
        panic!("{config:?}");
    };
    assert_eq!(first.address.device.as_deref(), Some("eth5"));
    assert_eq!(first.track_group.as_deref(), Some("tg"));
    assert_eq!(second.track_group, None);
    let tracked: Vec<bool> = config
        .static_routes
        .iter()
        .map(|route| route.tracked)
        .collect();
    assert_eq!(tracked, [true, false]);
    assert_eq!(config.static_rules.len(), 1);
    assert_eq!(
        config.announcements.garp_interval,
        Duration::from_millis(500)
    );
    assert_eq!(config.announcements.groups.len(), 1);
    let delays: Vec<_> = config
        .link_delays
        .iter()
        .map(|delay| (delay.down, delay.up))
        .collect();
    let ms = Duration::from_millis;
    assert_eq!(delays, [(ms(1500), ms(0)), (ms(1000), ms(2000))]);
}
