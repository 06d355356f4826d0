use std::time::Duration;

use proptest::prelude::*;

use super::table::counter;
use super::*;
use crate::control::sample;
use crate::control::snapshot::{Overridden, Traffic};

/// What `ipvsadm` 1.31 printed on Linux 6.12 for a director in the state of [`ipvs`].
const IPVSADM: [(&str, &str); 4] = [
    (
        "connections",
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.1.0.100:80 wrr
  -> 10.1.0.11:80                 Route   2      0          2         
  -> 10.1.0.12:80                 Route   1      1          1         
UDP  10.1.0.100:80 wlc persistent 50
  -> 10.1.0.11:80                 Route   1      0          2         
  -> 10.1.0.13:80                 Route   0      0          0         
",
    ),
    (
        "stats",
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes
  -> RemoteAddress:Port
TCP  10.1.0.100:80                       4       18        0      968        0
  -> 10.1.0.11:80                        2       10        0      536        0
  -> 10.1.0.12:80                        2        8        0      432        0
UDP  10.1.0.100:80                       2        2        0       58        0
  -> 10.1.0.11:80                        2        2        0       58        0
  -> 10.1.0.13:80                        0        0        0        0        0
",
    ),
    (
        "thresholds",
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  10.1.0.100:80 wrr
  -> 10.1.0.11:80                 0          0          0          2         
  -> 10.1.0.12:80                 0          0          1          1         
UDP  10.1.0.100:80 wlc persistent 50
  -> 10.1.0.11:80                 0          0          0          2         
  -> 10.1.0.13:80                 0          0          0          0         
",
    ),
    (
        "persistent-conn",
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn 
  -> RemoteAddress:Port
TCP  10.1.0.100:80 wrr
  -> 10.1.0.11:80                 2         0           0          2         
  -> 10.1.0.12:80                 1         0           1          1         
UDP  10.1.0.100:80 wlc persistent 50
  -> 10.1.0.11:80                 1         1           0          2         
  -> 10.1.0.13:80                 0         0           0          0         
",
    ),
];

/// The director that the recorded output of `ipvsadm` is of.
fn ipvs() -> Snapshot {
    let mut snapshot = sample::snapshot();
    snapshot
        .services
        .retain(|service| service.port == 80 && service.vip.to_string() == "10.1.0.100");
    let [tcp, udp] = snapshot.services.as_mut_slice() else {
        panic!("the sample has changed");
    };
    tcp.real_servers.truncate(2);
    tcp.real_servers[1].weight = 1;
    tcp.real_servers[1].state = ServerState::Up;
    "wlc".clone_into(&mut udp.scheduler);
    let mut idle = udp.real_servers[0].clone();
    idle.address = "10.1.0.13".parse().unwrap();
    (idle.weight, idle.state) = (0, ServerState::Draining);
    (idle.inactive_conns, idle.persistent_conns) = (0, 0);
    udp.traffic = Traffic {
        conns: 2,
        in_packets: 2,
        in_bytes: 58,
        ..Traffic::default()
    };
    udp.real_servers[0].traffic = udp.traffic;
    udp.real_servers.push(idle);
    snapshot
}

fn rendered(snapshot: &Snapshot, columns: Columns<'_>) -> String {
    Table {
        snapshot,
        columns,
        exact: false,
        state: false,
    }
    .render()
    .unwrap()
}

#[test]
fn every_layout_is_that_of_ipvsadm() {
    let snapshot = ipvs();
    for (name, wanted) in IPVSADM {
        let columns = match name {
            "connections" => Columns::Connections,
            "stats" => Columns::Stats,
            "thresholds" => Columns::Thresholds,
            _ => Columns::PersistentConn,
        };
        assert_eq!(rendered(&snapshot, columns), wanted, "{name}");
    }
}

#[test]
fn rates_are_per_second_of_the_agents_clock_and_laid_out_as_ipvsadm_does() {
    let before = ipvs();
    let mut after = before.clone();
    after.uptime_ms += 2000;
    after.services[0].traffic.in_packets += 3;
    after.services[0].traffic.in_bytes += 181;
    after.services[0].real_servers[0].traffic.in_packets += 2;
    after.services[0].real_servers[0].traffic.in_bytes += 100;
    after.services[0].real_servers[1].traffic.in_packets += 1;
    after.services[0].real_servers[1].traffic.in_bytes += 80;
    after.services[1].traffic.in_bytes += 9;
    after.services[1].real_servers[0].traffic.in_bytes += 9;
    let rates = Rates::between(&before, &after).unwrap();
    // Recorded from ipvsadm like the others, for these rates.
    assert_eq!(
        rendered(&after, Columns::Rate(&rates)),
        "\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port                 CPS    InPPS   OutPPS    InBPS   OutBPS
  -> RemoteAddress:Port
TCP  10.1.0.100:80                       0        2        0       91        0
  -> 10.1.0.11:80                        0        1        0       50        0
  -> 10.1.0.12:80                        0        1        0       40        0
UDP  10.1.0.100:80                       0        0        0        5        0
  -> 10.1.0.11:80                        0        0        0        5        0
  -> 10.1.0.13:80                        0        0        0        0        0
"
    );
}

#[test]
fn replies_stand_in_the_columns_of_what_goes_out() {
    let before = ipvs();
    let mut after = before.clone();
    after.uptime_ms += 2000;
    let service = &mut after.services[0];
    service.traffic.out_packets = 6;
    service.traffic.out_bytes = 700;
    service.real_servers[1].traffic = service.traffic;
    let line = |text: &str, of: &str| {
        let line = text.lines().find(|line| line.contains(of)).unwrap();
        let numbers = line.split_whitespace().rev().take(5);
        let mut numbers: Vec<u64> = numbers.map(|number| number.parse().unwrap()).collect();
        numbers.reverse();
        numbers
    };
    let stats = rendered(&after, Columns::Stats);
    let traffic = after.services[0].traffic;
    let (conns, packets, bytes) = (traffic.conns, traffic.in_packets, traffic.in_bytes);
    for of in ["TCP", "10.1.0.12:80"] {
        assert_eq!(line(&stats, of), [conns, packets, 6, bytes, 700], "{of}");
    }
    let rates = Rates::between(&before, &after).unwrap();
    let rate = rendered(&after, Columns::Rate(&rates));
    assert_eq!(line(&rate, "TCP")[2..], [3, 0, 350]);
    assert_eq!(line(&rate, "10.1.0.11:80"), [0; 5]);
    let list: serde_json::Value =
        serde_json::from_str(&json::render(&after, Some(&rates), Moment::at(0)).unwrap()).unwrap();
    let server = &list["services"][0]["real_servers"][1];
    assert_eq!(
        (&server["out_packets"], &server["out_bytes"]),
        (&6.into(), &700.into())
    );
    assert_eq!(server["rate"]["out_bytes_per_s"], 350);
}

#[test]
fn a_restarted_agent_has_no_rates() {
    let (mut before, mut after) = (ipvs(), ipvs());
    before.uptime_ms += 1;
    let told = Rates::between(&before, &after).unwrap_err().to_string();
    assert!(told.contains("restarted"), "{told}");
    after.uptime_ms += 1;
    assert!(Rates::between(&before, &after).is_err());
    // New maps under an old agent: counters fell, no rate is made up.
    after.uptime_ms += Duration::from_secs(1).as_secs();
    after.services[0].traffic.in_bytes = 1;
    let rates = Rates::between(&before, &after).unwrap();
    assert_eq!(rates.of("tcp/10.1.0.100:80", "").bytes, 0);
}

#[test]
fn masks_ipv6_and_local_servers_are_shown_as_ipvsadm_shows_them() {
    let text = rendered(&sample::snapshot(), Columns::Connections);
    let lines: Vec<&str> = text.lines().skip(3).collect();
    assert_eq!(
        lines,
        [
            "TCP  10.1.0.100:80 wrr",
            "  -> 10.1.0.11:80                 Route   2      0          2         ",
            "  -> 10.1.0.12:80                 Route   0      1          1         ",
            "  -> 10.1.0.110:80                Local   1      0          0         ",
            "TCP  10.1.0.100:443 rr persistent 50 mask 255.255.255.0",
            "  -> 10.1.0.11:443                Route   1      0          0         ",
            "TCP  192.168.1.200:80 rr",
            "  -> 192.168.1.102:80             Route   1      0          0         ",
            "UDP  10.1.0.100:80 rr persistent 50",
            "  -> 10.1.0.11:80                 Route   1      0          2         ",
            "TCP  [2001:db8::100]:80 wrr",
        ]
    );
}

#[test]
fn servers_out_of_the_tables_are_named_apart_with_their_reason() {
    assert_eq!(
        absent(&sample::snapshot()),
        [
            "10.1.0.13:80 of TCP 10.1.0.100:80 is down: its health checks fail",
            "10.1.0.14:80 of TCP 10.1.0.100:80 is down: no MAC address: neighbour not resolved",
        ]
    );
}

#[test]
fn large_counters_are_shortened_as_ipvsadm_shortens_them() {
    for (number, wanted) in [
        (0, "        0"),
        (99_999_999, " 99999999"),
        (100_000_000, "  100000K"),
        (999_999_999, "  999999K"),
        (1_000_000_000, "    1000M"),
        (99_999_999_999, "   99999M"),
        (100_000_000_000, "     100G"),
        (100_000_000_000_000, "     100T"),
    ] {
        assert_eq!(counter(number, false), wanted);
    }
    assert_eq!(counter(123_456_789_012, true), " 123456789012");
}

#[test]
fn json_holds_every_server_with_its_state() {
    let mut snapshot = sample::snapshot();
    let service = &mut snapshot.services[0];
    (service.has_quorum, service.live_weight) = (true, 4);
    let server = &mut service.real_servers[0];
    server.reason = Some("slow start: 30 % of its weight".to_owned());
    server.state_age_ms = Some(61_500);
    server.overridden = Some(Overridden {
        weight: Some(2),
        drained: false,
    });
    let list: serde_json::Value =
        serde_json::from_str(&json::render(&snapshot, None, Moment::at(61)).unwrap()).unwrap();
    let wanted: serde_json::Value = serde_json::from_str(
        r#"{
            "vip": "10.1.0.100", "port": 80, "protocol": "tcp", "scheduler": "wrr",
            "forward": "dr", "active": true, "quorum": true, "live_weight": 4, "sorry": false,
            "persistence": null,
            "real_servers": [
                {"address": "10.1.0.11", "port": 80, "forward": "dr", "weight": 2, "state": "up",
                 "reason": "slow start: 30 % of its weight", "since": "1970-01-01T00:00:00Z",
                 "since_s": 61, "override": {"weight": 2, "drained": false},
                 "active_conns": 0, "inactive_conns": 2, "conns": 2,
                 "in_packets": 10, "in_bytes": 536, "out_packets": 0, "out_bytes": 0, "mac": "02:00:00:00:00:11"},
                {"address": "10.1.0.12", "port": 80, "forward": "dr", "weight": 0,
                 "state": "draining", "reason": null, "since": null, "since_s": null, "override": null, "active_conns": 1, "inactive_conns": 1,
                 "conns": 2, "in_packets": 8, "in_bytes": 432, "out_packets": 0, "out_bytes": 0, "mac": "02:00:00:00:00:12"},
                {"address": "10.1.0.13", "port": 80, "forward": "dr", "weight": 3,
                 "state": "down", "reason": "its health checks fail",
                 "since": null, "since_s": null, "override": null, "active_conns": 0,
                 "inactive_conns": 0, "conns": 0, "in_packets": 0, "in_bytes": 0, "out_packets": 0, "out_bytes": 0,
                 "mac": "02:00:00:00:00:13"},
                {"address": "10.1.0.14", "port": 80, "forward": "dr", "weight": 1,
                 "state": "down", "reason": "no MAC address: neighbour not resolved",
                 "since": null, "since_s": null, "override": null,
                 "active_conns": 0, "inactive_conns": 0, "conns": 0, "in_packets": 0,
                 "in_bytes": 0, "out_packets": 0, "out_bytes": 0, "mac": null},
                {"address": "10.1.0.110", "port": 80, "forward": "local", "weight": 1,
                 "state": "up", "reason": null, "since": null, "since_s": null, "override": null, "active_conns": 0, "inactive_conns": 0,
                 "conns": 0, "in_packets": 0, "in_bytes": 0, "out_packets": 0, "out_bytes": 0, "mac": null}
            ]
        }"#,
    )
    .unwrap();
    assert_eq!(list["services"][0], wanted);
    let persistence = &list["services"][1]["persistence"];
    assert_eq!(
        *persistence,
        serde_json::json!({ "timeout_s": 50, "granularity": 24 })
    );
    assert_eq!(list["services"][2]["active"], false);
}

#[test]
fn json_has_rates_only_when_asked_for() {
    let before = ipvs();
    let mut after = before.clone();
    after.uptime_ms += 1000;
    after.services[0].traffic.conns += 7;
    let rates = Rates::between(&before, &after).unwrap();
    let list: serde_json::Value =
        serde_json::from_str(&json::render(&after, Some(&rates), Moment::at(0)).unwrap()).unwrap();
    assert_eq!(list["services"][0]["rate"]["conns_per_s"], 7);
    assert_eq!(
        list["services"][0]["real_servers"][0]["rate"]["in_bytes_per_s"],
        0
    );
}

#[test]
fn the_flags_of_ipvsadm_are_understood_and_columns_exclude_each_other() {
    use clap::{Args, FromArgMatches};

    let parse = |line: &str| {
        let command = ListArgs::augment_args(clap::Command::new("list"));
        let matches = command.try_get_matches_from(line.split(' '))?;
        ListArgs::from_arg_matches(&matches)
    };
    assert!(parse("list -n --stats").unwrap().columns.stats);
    assert!(
        parse("list --numeric --persistent-conn --exact")
            .unwrap()
            .columns
            .persistent_conn
    );
    assert!(parse("list --json --rate").unwrap().json);
    assert!(parse("list --stats --rate").is_err());
}

proptest! {
    #[test]
    fn a_counter_never_joins_its_neighbour(number in 0u64..10_000_000_000_000_000_000) {
        prop_assert_eq!(counter(number, false).len(), 9);
        prop_assert!(counter(number, false).starts_with(' '));
        prop_assert!(counter(number, true).starts_with(' '));
    }
}
