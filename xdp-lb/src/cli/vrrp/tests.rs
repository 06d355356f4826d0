use serde_json::{Value, json};

use super::*;
use crate::control::sample;
use crate::control::snapshot::Snapshot;

/// 2026-11-25 08:04:54 UTC.
const MOMENT: Moment = Moment::at(1_795_593_894);

fn screen_of(parts: &sample::Parts) -> String {
    let snapshot = Snapshot::build(&parts.inputs());
    screen(&snapshot.vrrp_instances, MOMENT).unwrap()
}

fn json_of(parts: &sample::Parts) -> Value {
    let snapshot = Snapshot::build(&parts.inputs());
    let text = json::render(&snapshot.vrrp_instances, MOMENT).unwrap();
    assert!(text.ends_with("}\n"), "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_screen_says_who_is_master_since_when_and_why() {
    let wanted = "\
VI_1: MASTER since 2026-11-25 04:52:57 UTC (3 h 11 min ago): no advert from 10.1.0.3 for 3.61 s
    master         10.1.0.2 (this director)
    priority       99 (base 101)
    interface      eth0, VRID 51, version 2, advert every 1 s from 10.1.0.2 to 224.0.0.18
    VIPs           10.1.0.100/24
    transitions    2
    adverts        11520 sent, 12 received
    differences    2 received with other VIPs: make virtual_ipaddress equal
                   1 received with another interval: make advert_int equal
    refused        12 auth_data, the last from 10.1.0.9 4 s ago: its password differs: make auth_pass \
                   equal (only 8 bytes count)
                   2 ttl, the last from 10.1.0.9 1 min 35 s ago: its TTL or hop limit is 254, not 255
    other masters  4 adverts while MASTER, the last from 10.1.0.3, priority 100, heard 2 min 5 s ago
    late           once: too busy to advertise in time while MASTER

VI_2: BACKUP since 2026-11-25 07:59:52 UTC (5 min 2 s ago): started
    master         10.1.0.3, priority 150, heard 60 ms ago
    priority       100
    interface      eth0, VRID 52, version 3, advert every 0.1 s from 10.1.0.2 to 10.1.0.3
    VIPs           10.1.0.101/24
    transitions    1
    adverts        0 sent, 3020 received

VI_3: FAULT since 2026-11-25 08:04:44 UTC (10 s ago): interface eth1 is down
    master         not known
    priority       100
    interface      eth1, VRID 53, version 2, advert every 1 s from 10.1.0.2 to 224.0.0.18
    VIPs           10.1.0.102/24
    transitions    2
    adverts        0 sent, 0 received
";
    assert_eq!(screen_of(&sample::parts()), wanted);
}

#[test]
fn a_master_that_leaves_says_so() {
    let mut parts = sample::parts();
    parts.vrrp[0].is_leaving = true;
    let screen = screen_of(&parts);
    let wanted = "VI_1: MASTER, handing over, since 2026-11-25";
    assert!(screen.starts_with(wanted), "{screen}");
}

#[test]
fn an_instance_without_an_election_shows_what_the_file_says() {
    let mut parts = sample::parts();
    parts.vrrp.clear();
    parts.config.vrrp_instances.truncate(1);
    parts.config.vrrp_instances[0].virtual_addresses.clear();
    let wanted = "\
VI_1: MASTER
    priority       100
    interface      eth0, VRID 51, version 2
    VIPs           none
    election       it takes part in none
";
    assert_eq!(screen_of(&parts), wanted);
    let view = &json_of(&parts)["instances"][0];
    assert_eq!(
        (&view["priority"], &view["since"]),
        (&json!(100), &Value::Null)
    );
}

#[test]
fn a_file_without_instances_is_said_and_listed_as_none() {
    let parts = sample::Parts::default();
    let screen = screen_of(&parts);
    assert!(
        screen.starts_with("the configuration has no vrrp_instance"),
        "{screen}"
    );
    assert_eq!(json_of(&parts), json!({"instances": []}));
}

/// What the contract has of an instance.
fn contract() -> Value {
    json!({
        "name": "VI_1",
        "state": "MASTER",
        "interface": "eth0",
        "vrid": 51,
        "version": 2,
        "base_priority": 101,
        "priority": 99,
        "master": "10.1.0.2",
        "vips": ["10.1.0.100/24"],
        "transitions": 2,
        "since": "2026-11-25T04:52:57Z",
    })
}

/// What stands there besides.
fn additions() -> Value {
    let heard = json!({
        "address": "10.1.0.3",
        "priority": 100,
        "advert_interval_ms": 1000,
        "heard_at": "2026-11-25T08:02:49Z",
    });
    json!({
        "since_s": 11_516,
        "reason": "no advert from 10.1.0.3 for 3.61 s",
        "leaving": false,
        "source": "10.1.0.2",
        "group": "224.0.0.18",
        "peers": [],
        "advert_interval_ms": 1000,
        "stats": {
            "transitions": 2,
            "became_master": 1,
            "released_master": 0,
            "adverts_sent": 11_520,
            "adverts_received": 12,
            "priority_zero_sent": 1,
            "priority_zero_received": 0,
            "address_list_differs": 2,
            "interval_differs": 1,
            "other_masters": 4,
            "late": 1,
        },
        "refused": [{
            "reason": "auth_data",
            "count": 12,
            "last_error": "its password differs: make auth_pass equal (only 8 bytes count)",
            "last_sender": "10.1.0.9",
            "last_at": "2026-11-25T08:04:50Z",
        }, {
            "reason": "ttl",
            "count": 2,
            "last_error": "its TTL or hop limit is 254, not 255",
            "last_sender": "10.1.0.9",
            "last_at": "2026-11-25T08:03:19Z",
        }],
        "last_master": heard,
        "other_master": heard,
    })
}

#[test]
fn json_holds_what_the_contract_says_and_more() {
    let view = json_of(&sample::parts());
    let mut wanted = contract();
    let all = wanted.as_object_mut().unwrap();
    all.extend(additions().as_object().unwrap().clone());
    assert_eq!(view["instances"][0], wanted);
    let backup = &view["instances"][1];
    assert_eq!(backup["master"], "10.1.0.3");
    assert_eq!(
        (&backup["group"], &backup["peers"]),
        (&Value::Null, &json!(["10.1.0.3"]))
    );
    assert_eq!(backup["other_master"], Value::Null);
    assert_eq!(view["instances"][2]["reason"], "interface eth1 is down");
}

#[test]
fn every_field_of_the_json_is_documented() {
    let view = json_of(&sample::parts());
    let mut names = Vec::new();
    collect(&view, &mut names);
    for name in names {
        let quoted = format!("\"{name}\"");
        assert!(json::HELP.contains(&quoted), "{quoted} is not in --help");
    }
}

#[test]
fn the_example_in_operations_md_is_what_the_command_prints() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("### The JSON of `vrrp`\n\n```\n").unwrap();
    let (example, _) = section.split_once("```").unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let mut view = json_of(&sample::parts());
    let instances = view["instances"].as_array_mut().unwrap();
    instances.truncate(1);
    instances[0]["refused"].as_array_mut().unwrap().truncate(1);
    assert_eq!(example, view);
}

fn collect(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                names.push(name.clone());
                collect(member, names);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
