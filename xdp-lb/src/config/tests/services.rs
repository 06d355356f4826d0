//! What services mean: defaults, inheritance, and keepalived's effect of wrong values.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use super::{found, said, usable};
use crate::config::diagnostic::Code;
use crate::config::model::{
    Checksum, ConnectionLimit, Family, Forwarding, Frontend, GroupMember, Hashing, Mark,
    Persistence, Protocol, Scheduler, ServiceKey, Tunnel, VirtualServer,
};
use crate::config::{Diagnostics, Loaded, Severity, understand};

/// The configuration in `text`, whether or not it can run; shows what is wrong when there is none.
pub(super) fn understood(text: &str) -> Loaded {
    understand("test.conf", text.as_bytes())
        .unwrap_or_else(|found| panic!("{text}{}", found.render(false)))
}

/// The only service of a file with `lines` in it and `server` in its real server.
pub(super) fn service(lines: &str, server: &str) -> (VirtualServer, Diagnostics) {
    let text = format!(
        "virtual_server 10.0.0.1 80 {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{lines}\n\
         real_server 10.0.0.2 80 {{\n{server}\n}}\n}}\n"
    );
    let mut loaded = understood(&text);
    (loaded.config.virtual_servers.remove(0), loaded.diagnostics)
}

fn codes(diagnostics: &Diagnostics, wanted: Severity) -> Vec<Code> {
    said(diagnostics)
        .into_iter()
        .filter(|(severity, ..)| *severity == wanted)
        .map(|(_, code, ..)| code)
        .collect()
}

/// The codes of warnings, but for those about what has no effect yet.
pub(super) fn warnings(diagnostics: &Diagnostics) -> Vec<Code> {
    let mut codes = codes(diagnostics, Severity::Warning);
    codes.retain(|code| *code != Code::NoEffectYet);
    codes
}

pub(super) fn errors(text: &str) -> Vec<Code> {
    codes(&found(text), Severity::Error)
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
    let protocol = match service.key() {
        ServiceKey::Endpoint(endpoint) => endpoint.protocol,
        other => panic!("{other}"),
    };
    assert_eq!(protocol, Protocol::Udp);
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
    let head = |head: &str, server: &str| {
        format!(
            "virtual_server {head} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server {server} {{\n}}\n}}\n"
        )
    };
    let (both, one) = ("lb_algo rr\nlb_kind DR", [Code::NotSupported]);
    let cases: [(String, &[Code]); 19] = [
        (with(both, ""), &[]),
        (with("lb_kind DR", ""), &[]),
        (with("lb_algo rr", ""), &[]),
        (with("lb_algo wlc\nlb_kind DR", ""), &[]),
        (with("lb_algo rr\nlb_kind NAT", ""), &[]),
        (with("lb_algo rr\nlb_kind TUN type ipip", ""), &[]),
        (with("lb_algo rr\nlb_kind XYZ", ""), &[]),
        (with(&format!("{both}\nprotocol SCTP"), ""), &one),
        (
            with(&format!("{both}\npersistence_granularity 255.0.255.0"), ""),
            &one,
        ),
        (
            with("lb_algo foo\nlb_kind DR", ""),
            // wlc, keepalived's choice.
            &[],
        ),
        (
            with(&format!("{both}\npersistence_granularity 24"), ""),
            &[Code::BadValue],
        ),
        (with(both, "lvs_method NAT"), &[]),
        (with(both, "HTTP_GET {\nurl {\npath /\n}\n}"), &[]),
        (with(both, "MISC_CHECK {\nmisc_path \"/bin/true\"\n}"), &[]),
        (head("fwmark 3", "10.0.0.2"), &[]),
        (
            head("group web", "10.0.0.2") + "virtual_server_group web {\n10.0.0.1 80\n}\n",
            &[],
        ),
        (
            head("group web", "10.0.0.2") + "virtual_server_group web {\n10.0.0.0/8 80\n}\n",
            &one,
        ),
        (head("2001:db8::1 80", "2001:db8::2"), &[]),
        (head("10.0.0.1 80", "10.0.0.2"), &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(&text), expected, "{text}");
    }
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
    assert_eq!(service.key().port(), 0);
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

fn first(text: &str) -> (VirtualServer, Vec<Code>) {
    let mut loaded = understood(text);
    let codes = warnings(&loaded.diagnostics);
    (loaded.config.virtual_servers.remove(0), codes)
}

#[test]
fn every_scheduler_is_known_and_the_hashing_ones_have_flags() {
    let hashing = |port, fallback| Hashing { port, fallback };
    let cases: [(&str, Scheduler, &[Code]); 13] = [
        ("lb_algo lc", Scheduler::LeastConnections, &[]),
        ("lb_algo lblc", Scheduler::LocalityBased, &[]),
        ("lb_algo lblcr", Scheduler::LocalityBasedReplicated, &[]),
        ("lb_algo dh", Scheduler::DestinationHash, &[]),
        ("lb_algo twos", Scheduler::TwoChoices, &[]),
        (
            "lb_algo ovf\nflag-1",
            Scheduler::Overflow,
            &[Code::Conflict],
        ),
        (
            "lb_algo sh",
            Scheduler::SourceHash(hashing(false, false)),
            &[],
        ),
        (
            "lb_algo sh\nsh-port",
            Scheduler::SourceHash(hashing(true, false)),
            &[],
        ),
        (
            "lb_algo mh\nsh-fallback",
            Scheduler::Maglev(hashing(false, true)),
            &[],
        ),
        (
            "flag-1\nflag-2\nlb_algo mh",
            Scheduler::Maglev(hashing(true, true)),
            &[],
        ),
        (
            "lb_algo sh\nflag-3",
            Scheduler::SourceHash(hashing(false, false)),
            &[Code::Conflict],
        ),
        (
            "lb_algo nq\nmh-port",
            Scheduler::NeverQueue,
            &[Code::Conflict],
        ),
        (
            "lb_algo bar",
            Scheduler::WeightedLeastConnections,
            &[Code::BadValue],
        ),
    ];
    for (lines, scheduler, expected) in cases {
        let (service, codes) = first(&format!(
            "virtual_server 10.0.0.1 80 {{\n{lines}\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.2 80 {{\n}}\n}}\n"
        ));
        assert_eq!(service.scheduler, scheduler, "{lines}");
        assert_eq!(codes, expected, "{lines}");
    }
    let (service, _) = first(
        "virtual_server 10.0.0.1 80 {\nsh-port\nlb_algo sh\nreal_server 10.0.0.2 80 {\n}\n}\n",
    );
    assert_eq!(service.scheduler, Scheduler::SourceHash(Hashing::default()));
    assert_eq!(service.forwarding, Forwarding::Nat);
}

#[test]
fn tunnels_take_what_keepalived_takes_and_other_lines_are_ignored() {
    let gue = |checksum| {
        let port = NonZeroU16::new(6080).unwrap();
        Some(Tunnel::Gue { port, checksum })
    };
    let cases = [
        ("TUN", Some(Tunnel::Ipip)),
        ("TUN type ipip nocsum", Some(Tunnel::Ipip)),
        ("TUN type ipip csum", None),
        ("TUN type gue port 6080", gue(Checksum::None)),
        ("TUN type gue csum port 6080", gue(Checksum::Full)),
        ("TUN type gue port 6080 remcsum", gue(Checksum::Remote)),
        ("TUN type gue", None),
        ("TUN type gue port 0", None),
        ("TUN type gre csum", Some(Tunnel::Gre { checksum: true })),
        ("TUN type gre remcsum", None),
        ("TUN type foo", None),
        ("TUN type", None),
    ];
    for (words, expected) in cases {
        let (service, diagnostics) = service("", &format!("lvs_method {words}"));
        let expected_codes: &[Code] = if expected.is_none() {
            &[Code::BadValue]
        } else {
            &[]
        };
        let expected = expected.map_or(Forwarding::DirectRouting, Forwarding::Tunnel);
        assert_eq!(service.real_servers[0].forwarding, expected, "{words}");
        assert_eq!(warnings(&diagnostics), expected_codes, "{words}");
    }
}

#[test]
fn a_quorum_is_never_above_the_weight_of_all() {
    let cases: [(&str, &str, u32, u32, &[Code]); 8] = [
        ("", "", 1, 0, &[]),
        ("quorum 5\nhysteresis 2", "weight 9", 5, 2, &[]),
        ("quorum 10", "weight 4", 4, 0, &[Code::Conflict]),
        ("quorum 0", "weight 4", 1, 0, &[Code::BadValue]),
        ("quorum abc", "weight 4", 1, 0, &[Code::BadValue]),
        (
            "quorum 3\nhysteresis 3",
            "weight 4",
            3,
            2,
            &[Code::Conflict],
        ),
        ("hysteresis -1", "weight 4", 1, 0, &[Code::BadValue]),
        ("", "weight 0", 0, 0, &[Code::Doubtful]),
    ];
    for (lines, server, weight, hysteresis, codes) in cases {
        let (service, diagnostics) = service(lines, server);
        let quorum = &service.quorum;
        assert_eq!(
            (quorum.weight, quorum.hysteresis),
            (weight, hysteresis),
            "{lines}"
        );
        assert_eq!(warnings(&diagnostics), codes, "{lines} {server}");
    }
}

#[test]
fn a_sorry_server_has_the_ports_and_families_of_a_real_one() {
    let cases: [(&str, Option<&str>, &[Code]); 9] = [
        ("", None, &[]),
        ("sorry_server 10.0.0.9 80", Some("10.0.0.9:80"), &[]),
        ("sorry_server 10.0.0.9", Some("10.0.0.9:80"), &[]),
        (
            "sorry_server 10.0.0.9 81",
            Some("10.0.0.9:80"),
            &[Code::Conflict],
        ),
        ("sorry_server 10.0.0.9 abc", None, &[Code::BadValue]),
        ("sorry_server 2001:db8::1 80", None, &[Code::Conflict]),
        ("sorry_server_inhibit", None, &[Code::Conflict]),
        (
            "sorry_server 10.0.0.2 80",
            Some("10.0.0.2:80"),
            &[Code::Doubtful],
        ),
        (
            "sorry_server 2001:db8::1 80\nsorry_server_lvs_method TUN",
            Some("[2001:db8::1]:80"),
            &[],
        ),
    ];
    for (lines, address, codes) in cases {
        let (service, diagnostics) = service(lines, "");
        let found = service.sorry_server.map(|sorry| sorry.address.to_string());
        assert_eq!(found.as_deref(), address, "{lines}");
        assert_eq!(warnings(&diagnostics), codes, "{lines}");
    }
}

#[test]
fn a_real_server_has_its_own_limits_and_commands() {
    let (service, diagnostics) = service(
        "inhibit_on_failure\nweight 7",
        "uthreshold 100\nlthreshold 80\nslow_start 30\nsmtp_alert off\nnotify_up \"/bin/up a\"\nnotify_down /bin/down",
    );
    assert_eq!(warnings(&diagnostics), []);
    let server = &service.real_servers[0];
    let upper = NonZeroU32::new(100).unwrap();
    assert_eq!(server.limit, Some(ConnectionLimit { upper, lower: 80 }));
    assert_eq!(server.slow_start, Some(Duration::from_secs(30)));
    assert!(server.inhibit_on_failure && !server.smtp_alert);
    assert_eq!(server.weight, 7);
    assert_eq!(server.notify_up.as_ref().unwrap().arguments, ["a"]);
    assert_eq!(server.notify_down.as_ref().unwrap().program, "/bin/down");
    let limits = [
        (
            "uthreshold 5\nlthreshold 10",
            Some(5),
            &[Code::Conflict][..],
        ),
        ("lthreshold 10", None, &[Code::Conflict]),
        ("uthreshold -1", None, &[Code::BadValue]),
        ("uthreshold 0", None, &[]),
    ];
    for (lines, upper, codes) in limits {
        let (service, diagnostics) = super::services::service("", lines);
        let limit = service.real_servers[0].limit;
        assert_eq!(limit.map(|limit| limit.upper.get()), upper, "{lines}");
        assert!(limit.is_none_or(|limit| limit.lower == 0), "{lines}");
        assert_eq!(warnings(&diagnostics), codes, "{lines}");
    }
}

#[test]
fn mail_is_on_for_real_servers_and_off_for_services_unless_somebody_says_otherwise() {
    let cases = [
        ("", "", "", (false, true)),
        ("smtp_alert", "", "", (true, true)),
        ("smtp_alert off", "", "", (false, false)),
        ("smtp_alert\nsmtp_alert_checker off", "", "", (false, false)),
        ("no_checker_emails", "", "", (false, true)),
        (
            "smtp_alert_checker off",
            "smtp_alert",
            "smtp_alert",
            (true, true),
        ),
    ];
    for (global, lines, server, expected) in cases {
        let (service, _) = first(&format!(
            "global_defs {{\n{global}\n}}\nvirtual_server 10.0.0.1 80 {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n{lines}\nreal_server 10.0.0.2 80 {{\n{server}\n}}\n}}\n"
        ));
        let found = (service.smtp_alert, service.real_servers[0].smtp_alert);
        assert_eq!(found, expected, "{global}, {lines}, {server}");
    }
}

#[test]
fn a_firewall_mark_has_the_family_of_what_is_behind_it_and_no_ports() {
    let cases: [(&str, &str, Family, &[Code]); 7] = [
        ("lb_kind DR", "10.0.0.2", Family::V4, &[]),
        ("lb_kind DR", "10.0.0.2 80", Family::V4, &[Code::Conflict]),
        ("lb_kind NAT", "2001:db8::2", Family::V6, &[]),
        ("lb_kind TUN", "2001:db8::2", Family::V6, &[]),
        (
            "lb_kind TUN\nip_family inet",
            "2001:db8::2",
            Family::V4,
            &[],
        ),
        (
            "lb_kind DR\nprotocol TCP",
            "10.0.0.2",
            Family::V4,
            &[Code::Conflict],
        ),
        (
            "lb_kind DR\nip_family foo",
            "10.0.0.2",
            Family::V4,
            &[Code::BadValue],
        ),
    ];
    for (lines, server, family, expected) in cases {
        let (service, codes) = first(&format!(
            "virtual_server fwmark 3 {{\nlb_algo rr\n{lines}\nreal_server {server} {{\n}}\n}}\n"
        ));
        assert_eq!(
            service.frontend,
            Frontend::Mark(Mark { mark: 3, family }),
            "{lines}"
        );
        assert_eq!(service.real_servers[0].address.port(), 0);
        assert_eq!(codes, expected, "{lines} {server}");
    }
    let skipped = understood(
        "virtual_server fwmark 3 {\nlb_algo rr\nlb_kind NAT\nip_family inet6\nreal_server 10.0.0.2 {\n}\n}\nvirtual_server fwmark abc {\n}\n",
    );
    assert_eq!(skipped.config.virtual_servers, []);
    assert_eq!(
        warnings(&skipped.diagnostics),
        [Code::Empty, Code::Conflict, Code::BadValue]
    );
}

#[test]
fn servers_of_the_other_family_are_skipped_unless_a_tunnel_leads_there() {
    let (service, codes) = first(
        "virtual_server 10.0.0.1 80 {\nlb_algo rr\nlb_kind NAT\nprotocol TCP\nreal_server 2001:db8::2 80 {\n}\nreal_server 2001:db8::3 80 {\nlvs_method TUN\n}\nreal_server 10.0.0.4 8080 {\n}\nreal_server 10.0.0.4 {\n}\nreal_server 10.0.0.4 80 {\n}\n}\n",
    );
    let servers: Vec<String> = service
        .real_servers
        .iter()
        .map(|server| server.address.to_string())
        .collect();
    assert_eq!(
        servers,
        ["[2001:db8::3]:80", "10.0.0.4:8080", "10.0.0.4:80"]
    );
    assert_eq!(codes, [Code::Conflict, Code::Duplicate]);
}

#[test]
fn a_group_is_addresses_ranges_networks_and_marks() {
    let group = "virtual_server_group web {\n10.0.0.1 80\n10.0.0.10-20 80\n10.0.0.30-10.0.0.40 80\n10.0.1.0/28 80\n10.0.0.50-300 80\n10.0.2.2 99999\n10.0.2.3 0\nfoo\nfwmark 5 inet\nfwmark abc\n}\n";
    let user = "virtual_server group web {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.9.0.1 80 {\n}\n}\n";
    let (service, codes) = first(&(user.to_owned() + group));
    assert_eq!(codes, [Code::BadValue; 5]);
    let Frontend::Group { group, protocol } = &service.frontend else {
        panic!("{service:?}");
    };
    assert_eq!(*protocol, Protocol::Tcp);
    let range = |first: &str, last: &str| GroupMember::Addresses {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        port: 80,
    };
    let expected = [
        range("10.0.0.1", "10.0.0.1"),
        range("10.0.0.10", "10.0.0.20"),
        range("10.0.0.30", "10.0.0.40"),
        range("10.0.1.0", "10.0.1.15"),
        GroupMember::Mark {
            mark: 5,
            family: Some(Family::V4),
        },
    ];
    assert_eq!(group.members, expected);
    let missing = understood(user);
    assert_eq!(missing.config.virtual_servers, []);
    assert_eq!(warnings(&missing.diagnostics), [Code::MissingBlock]);
    let empty = understood(
        "virtual_server_group a {\n}\nvirtual_server_group b {\n10.0.0.1 80\n}\nvirtual_server_group b {\n}\n",
    );
    assert_eq!(
        warnings(&empty.diagnostics),
        [Code::Empty, Code::Doubtful, Code::Duplicate]
    );
}

#[test]
fn addresses_that_two_services_take_are_noticed() {
    let service = |head: &str| {
        format!(
            "virtual_server {head} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.9.0.1 {{\n}}\n}}\n"
        )
    };
    let group = "virtual_server_group web {\n10.0.0.1-20 80\nfwmark 5\n10.0.0.9 81\n}\n";
    let cases: [(&str, &[Code]); 5] = [
        ("10.0.0.5 80", &[Code::Doubtful]),
        ("10.0.0.5 81", &[]),
        ("10.0.0.9 81", &[Code::Doubtful]),
        ("10.0.0.21 80", &[]),
        ("10.0.0.20 80", &[Code::Doubtful]),
    ];
    for (head, expected) in cases {
        let text = service(head) + group + &service("group web");
        assert_eq!(warnings(&understood(&text).diagnostics), expected, "{head}");
    }
}

#[test]
fn what_is_hardly_meant_is_said() {
    let cases = [
        ("", "TCP_CHECK {\n}", None),
        ("persistence_timeout 50\nops", "", None),
        (
            "protocol UDP\npersistence_timeout 50\nops",
            "",
            Some("'ops' schedules"),
        ),
        (
            "",
            "SSL_GET {\nurl {\npath /\n}\n}",
            Some("SSL_GET goes to port 80"),
        ),
        (
            "",
            "HTTP_GET {\nconnect_port 443\nurl {\npath /\n}\n}",
            Some("HTTP_GET goes to port 443"),
        ),
        ("", "weight 0", Some("all real servers")),
        (
            "delay_loop 3",
            "TCP_CHECK {\n}",
            Some("a server that does not answer is checked every 8 s, not every 3 s"),
        ),
        (
            "real_server 10.0.0.1 80 {\n}",
            "",
            Some("10.0.0.1 is the address of a real server and of a virtual one"),
        ),
    ];
    for (lines, server, expected) in cases {
        let (_, diagnostics) = service(lines, server);
        let mut said = diagnostics
            .iter()
            .filter(|item| item.code() == Code::Doubtful);
        let said = said.next().map(crate::config::Diagnostic::message);
        match expected {
            Some(start) => assert!(said.is_some_and(|said| said.starts_with(start)), "{said:?}"),
            None => assert_eq!(said, None, "{lines} {server}"),
        }
    }
}

#[test]
fn a_virtual_ip_that_no_instance_carries_is_said_once() {
    let file = |addresses: &str, services: &[&str]| {
        let instance = if addresses.is_empty() {
            String::new()
        } else {
            format!(
                "vrrp_instance A {{\ninterface eth0\nvirtual_router_id 51\nvirtual_ipaddress {{\n10.0.0.1/24\n}}\n{addresses}\n}}\n"
            )
        };
        let services = services.iter().map(|head| {
            format!(
                "virtual_server {head} {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.2 80 {{\n}}\n}}\n"
            )
        });
        services.collect::<String>() + &instance
    };
    let excluded = "virtual_ipaddress_excluded {\n10.0.0.9/24\n}";
    let cases: [(String, usize); 5] = [
        (file("", &["10.0.0.9 80"]), 0),
        (file("nopreempt", &["10.0.0.1 80", "10.0.0.1 81"]), 0),
        (file("nopreempt", &["10.0.0.9 80", "10.0.0.9 81"]), 1),
        (file(excluded, &["10.0.0.9 80"]), 0),
        (file("nopreempt", &["fwmark 3"]), 0),
    ];
    for (text, expected) in cases {
        let loaded = understood(&text);
        let uncarried = |item: &&crate::config::Diagnostic| item.message().contains("carries it");
        let said = loaded.diagnostics.iter().filter(uncarried).count();
        assert_eq!(said, expected, "{text}{}", loaded.diagnostics.render(false));
    }
}

#[test]
fn a_real_server_of_a_group_keeps_its_port_for_its_checks() {
    let text = |server: &str| {
        format!(
            "virtual_server_group web {{\n10.0.0.1-5 443\n}}\nvirtual_server group web {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server {server} {{\n}}\n}}\n"
        )
    };
    let cases: [(&str, u16, &[Code]); 3] = [
        ("10.9.0.1", 443, &[]),
        ("10.9.0.1 443", 443, &[]),
        ("10.9.0.1 80", 80, &[Code::Doubtful]),
    ];
    for (server, port, expected) in cases {
        let (service, codes) = first(&text(server));
        assert_eq!(service.real_servers[0].address.port(), port, "{server}");
        assert_eq!(codes, expected, "{server}");
    }
}
