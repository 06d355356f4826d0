//! What holds for any file whatever.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::seeds::folder;
use crate::config::diagnostic::Code;
use crate::config::keywords::{Keyword, Scope, Status};
use crate::config::model::{
    Config, Family, Frontend, InitialState, Preemption, Probe, Tracked, Trackers, Transport,
    Version, VirtualServer, VrrpInstance,
};
use crate::config::print::print;
use crate::config::{Diagnostic, Diagnostics, Severity, parse, understand};

/// Reads `bytes`, shows the outcome in every form, and checks what must hold.
fn reads(bytes: &[u8]) -> Diagnostics {
    let (diagnostics, config) = match parse("any.conf", bytes) {
        Ok(loaded) => (loaded.diagnostics, Some(loaded.config)),
        Err(diagnostics) => (diagnostics, None),
    };
    assert_eq!(config.is_none(), diagnostics.has_errors());
    if let Ok(understood) = understand("any.conf", bytes) {
        is_valid(&understood.config);
        round_trips(&understood.config);
    }
    let text = diagnostics.render(false);
    assert_eq!(text.is_empty(), diagnostics.is_empty());
    diagnostics.render(true);
    let json = diagnostics.to_json();
    assert_eq!(json.as_array().unwrap().len(), diagnostics.iter().count());
    for item in &diagnostics {
        let line = diagnostics.one_line(item);
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.contains(item.severity().name()), "{line}");
    }
    diagnostics
}

/// The print of a configuration says the same, and nothing about it deserves a message but what does
/// not work yet, what is valid and hardly meant, and bytes that were lost before.
fn round_trips(config: &Config) {
    let text = print(config);
    let again = understand("printed.conf", text.as_bytes());
    let again = again.unwrap_or_else(|found| panic!("{text}\n{}", found.render(false)));
    assert_eq!(again.config, *config, "{text}");
    let expected = |item: &&Diagnostic| {
        matches!(
            item.code(),
            Code::NoEffectYet | Code::Doubtful | Code::NotUtf8
        )
    };
    let said = again.diagnostics.iter().find(|item| !expected(item));
    assert!(said.is_none(), "{text}\n{said:#?}");
}

/// What the model promises.
fn is_valid(config: &Config) {
    let mut names = BTreeSet::new();
    for instance in &config.vrrp_instances {
        assert!(names.insert(&instance.name));
        assert!(instance.virtual_router_id > 0 && instance.priority > 0);
        assert!(!instance.interface.is_empty() && instance.interface.len() < 16);
    }
    vrrp_is_valid(config);
    let mut frontends = BTreeSet::new();
    for service in &config.virtual_servers {
        assert!(frontends.insert(service.key()));
        is_a_valid_service(service);
    }
}

fn is_a_valid_service(service: &VirtualServer) {
    let total: u64 = service
        .real_servers
        .iter()
        .map(|s| u64::from(s.weight))
        .sum();
    assert!(u64::from(service.quorum.weight) <= total);
    assert!(service.quorum.hysteresis < service.quorum.weight.max(1));
    assert!(!service.real_servers.is_empty());
    let bits = service.frontend.family().unwrap_or(Family::V6).bits();
    assert!(
        service
            .persistence
            .is_none_or(|persistence| persistence.prefix_len <= bits)
    );
    let mut addresses = BTreeSet::new();
    for server in &service.real_servers {
        assert!(addresses.insert(server.address));
        if let Frontend::Endpoint(endpoint) = &service.frontend {
            let is_free = server.forwarding.changes_ports();
            assert!(is_free || endpoint.port == server.address.port());
        }
        for check in &server.checks {
            assert!(!check.delay_loop.is_zero());
            let connection = match &check.probe {
                Probe::Http(http) => {
                    assert!(http.urls.iter().all(|url| !url.statuses.is_empty()));
                    assert!(!http.urls.is_empty());
                    Some(&http.connection)
                }
                Probe::Tcp(connection) => Some(connection),
                Probe::Misc(misc) => {
                    assert!(!misc.command.program.is_empty());
                    None
                }
                _ => None,
            };
            assert!(connection.is_none_or(|connection| connection.target.port() > 0));
        }
    }
}

/// Families agree, and names exist.
fn vrrp_is_valid(config: &Config) {
    let exists = |name: &String| config.vrrp_instances.iter().any(|i| i.name == *name);
    for instance in &config.vrrp_instances {
        let family = instance.family;
        let own = |address| Family::of(address) == family;
        assert!(
            instance
                .virtual_addresses
                .iter()
                .all(|a| own(a.address.addr()))
        );
        assert!(instance.source.is_none_or(own));
        match &instance.transport {
            Transport::Multicast { group } => assert!(group.is_multicast() && own(*group)),
            Transport::Unicast { peers, .. } => {
                assert!(!peers.is_empty() && peers.iter().all(|peer| own(peer.address)));
            }
            Transport::NoPeer => {}
        }
        assert!(family == Family::V4 || matches!(instance.version, Version::V3 { .. }));
        assert!(!instance.version.advert_interval().is_zero());
        assert!((1..=100).contains(&instance.down_timer_adverts));
        let owner = instance.priority == VrrpInstance::OWNER_PRIORITY;
        let starts_as_master = instance.initial_state == InitialState::Master;
        assert!(instance.preemption != Preemption::Never || !(owner || starts_as_master));
        trackers_exist(config, &instance.trackers);
    }
    let mut members = BTreeSet::new();
    for group in &config.sync_groups {
        assert!(!group.members.is_empty());
        assert!(
            group
                .members
                .iter()
                .all(|name| exists(name) && members.insert(name))
        );
        trackers_exist(config, &group.trackers);
    }
    for group in &config.track_groups {
        assert!(!group.members.is_empty() && group.members.iter().all(exists));
    }
}

fn trackers_exist(config: &Config, trackers: &Trackers) {
    let all = |list: &[Tracked], known: &[&String]| {
        list.iter()
            .all(|tracked| known.contains(&&tracked.name) && tracked.weight.value.abs() < 255)
    };
    let scripts: Vec<_> = config.scripts.iter().map(|object| &object.name).collect();
    let files: Vec<_> = config
        .track_files
        .iter()
        .map(|object| &object.name)
        .collect();
    let processes: Vec<_> = config
        .track_processes
        .iter()
        .map(|object| &object.name)
        .collect();
    assert!(all(&trackers.scripts, &scripts));
    assert!(all(&trackers.files, &files));
    assert!(all(&trackers.processes, &processes));
}

fn seeds() -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

/// A seed with pieces cut out, doubled, moved and overwritten.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let edit = (
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        0_u8..5,
        any::<u8>(),
    );
    let edits = prop::collection::vec(edit, 1..8);
    (prop::sample::select(seeds()), edits).prop_map(|(mut bytes, edits)| {
        for (one, other, what, byte) in edits {
            if bytes.is_empty() {
                break;
            }
            let (one, other) = (one.index(bytes.len()), other.index(bytes.len()));
            let (from, to) = (one.min(other), one.max(other));
            match what {
                0 => drop(bytes.drain(from..to)),
                1 => bytes.extend_from_within(from..to),
                2 => bytes.rotate_left(from),
                3 => bytes[from] = byte,
                _ => bytes[from] = b"{}\"#!\n '"[usize::from(byte) % 8],
            }
        }
        bytes
    })
}

/// Lines made of the language's own words.
fn words() -> impl Strategy<Value = String> {
    let names: Vec<&str> = Scope::ALL
        .iter()
        .flat_map(|scope| scope.keywords())
        .map(|keyword| keyword.name)
        .collect();
    let values = [
        "1.2.3.4",
        "10.0.0.1/24",
        "80",
        "0",
        "-1",
        "99999999999",
        "3.5s",
        "rr",
        "DR",
        "TCP",
        "eth0",
        "2001:db8::1",
        "\"a b\"",
        "'x'",
        "\u{4e2d}",
        "{",
        "}",
        "\n",
        "\n",
        "{\n",
        "}\n",
        "#",
        "A",
    ];
    let word = prop_oneof![
        2 => prop::sample::select(names).prop_map(str::to_owned),
        5 => prop::sample::select(values.to_vec()).prop_map(str::to_owned),
    ];
    prop::collection::vec(word, 0..120).prop_map(|words| words.join(" "))
}

/// Lines of a `virtual_server`, good ones and others.
const SERVICE_LINES: &[&str] = &[
    "lb_algo rr",
    "lb_algo sh",
    "lb_algo mh",
    "lb_algo wlc",
    "lb_algo WRR",
    "lb_algo foo",
    "sh-port",
    "mh-fallback",
    "flag-1",
    "flag-2",
    "flag-3",
    "lb_kind DR",
    "lb_kind NAT",
    "lb_kind tun",
    "lb_kind TUN type gue port 77 remcsum",
    "lb_kind TUN type gre csum",
    "lb_kind TUN type foo",
    "protocol TCP",
    "protocol UDP",
    "protocol SCTP",
    "persistence_timeout",
    "persistence_timeout 50",
    "persistence_timeout 0",
    "persistence_granularity 255.255.0.0",
    "persistence_granularity 64",
    "persistence_granularity SOURCE_IP",
    "ip_family inet6",
    "ip_family inet",
    "ops",
    "delay_loop 3",
    "delay_loop 0.5",
    "connect_timeout 7",
    "retry 4",
    "delay_before_retry 2.25",
    "warmup 0",
    "weight 3",
    "weight 0",
    "quorum 5",
    "quorum 900",
    "quorum 0",
    "hysteresis 2",
    "hysteresis 99",
    "quorum_up \"/bin/a 'b c' \\\"d\"",
    "quorum_down /bin/b user",
    "alpha",
    "omega",
    "ha_suspend",
    "inhibit_on_failure",
    "virtualhost www",
    "virtualhost \"a b\"",
    "smtp_alert",
    "smtp_alert off",
    "sorry_server 10.0.0.9 81",
    "sorry_server 10.0.0.9",
    "sorry_server 2001:db8::9 80",
    "sorry_server_inhibit",
    "sorry_server_lvs_method TUN type ipip",
];
/// Lines of a `real_server`.
const SERVER_LINES: &[&str] = &[
    "weight 5",
    "weight 0",
    "weight -1",
    "lvs_method NAT",
    "lvs_method TUN",
    "lvs_method DR",
    "uthreshold 9",
    "lthreshold 3",
    "lthreshold 10",
    "inhibit_on_failure",
    "slow_start 12.5",
    "slow_start x",
    "notify_up \"/bin/up \\\\ x\" a b",
    "notify_down /bin/down",
    "smtp_alert no",
    "virtualhost inner",
    "alpha off",
    "alpha",
    "retry 2",
    "delay_loop 9",
    "connect_timeout 1",
];
const CHECKERS: &[&str] = &[
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "MISC_CHECK",
    "SMTP_CHECK",
    "DNS_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "FILE_CHECK",
    "BFD_CHECK",
];
/// Lines of checkers, whichever they belong to.
const CHECKER_LINES: &[&str] = &[
    "connect_ip 10.0.0.7",
    "connect_ip 2001:db8::7",
    "connect_port 443",
    "connect_port 80",
    "bindto 10.0.0.5",
    "bindto 2001:db8::5",
    "bind_port 99",
    "bind_if eth0",
    "fwmark 7",
    "connect_timeout 2",
    "retry 0",
    "retry 3",
    "delay_before_retry 4",
    "delay_loop 8",
    "warmup 1",
    "alpha",
    "alpha no",
    "log_all_failures",
    "log_all_failures off",
    "nb_get_retry 3",
    "url {\npath /\n}",
    "url {\npath \"/a b#\"\nstatus_code 200-299 404\nvirtualhost x\n}",
    "url {\npath /c\ndigest 0123456789abcdef0123456789abcdef\nregex \"a\\d{3}\"\nregex_options utf caseless\nregex_no_match\nregex_max_offset 9\ntls_compliant\n}",
    "url {\nstatus_code 99\n}",
    "http_protocol 1.1",
    "http_protocol 9",
    "enable_sni",
    "sni_name web",
    "tls_compliant",
    "fast_recovery",
    "virtualhost check",
    "misc_path \"/bin/true a\"",
    "misc_path /bin/false",
    "misc_timeout 4",
    "misc_dynamic",
    "user web",
    "user web www",
    "helo_name me",
    "host {\nconnect_ip 10.0.0.8\nconnect_port 26\n}",
    "host {\nbindto 10.0.0.4\n}",
    "type A",
    "type soa",
    "type X",
    "name www.example.com",
    "name a..b",
    "name \"a b\"",
    "payload 01 2 ff",
    "payload zz",
    "require_reply",
    "require_reply 1X x2",
    "min_reply_length 4",
    "max_reply_length 2",
    "track_file f",
    "weight -7 reverse",
    "weight 2",
    "dynamic",
];
const HEADS: &[&str] = &[
    "10.0.0.1 80",
    "10.0.0.1",
    "10.0.0.2 443",
    "2001:db8::1 80",
    "fwmark 3",
    "fwmark 4",
    "group web",
    "group six",
    "group mixed",
    "group none",
];
const SERVERS: &[&str] = &[
    "10.0.0.2 80",
    "10.0.0.2",
    "10.0.0.3 8080",
    "10.0.0.3 0",
    "2001:db8::2 80",
    "2001:db8::3",
    "10.0.0.4 443",
    "10.0.0.1 80",
];
const AROUND: &str = "virtual_server_group web {\n10.0.0.1 80\n10.0.0.5-9 80\nfwmark 3\n}\n\
    virtual_server_group six {\n2001:db8::/120 80\nfwmark 9 inet6\n}\n\
    virtual_server_group mixed {\n10.0.0.1\n2001:db8::1-f 81\n10.1.0.1 90\n}\n";

/// A block of some of `lines`, and of what `more` makes.
fn block(
    heads: &'static [&'static str],
    lines: &'static [&'static str],
    most: usize,
    more: impl Strategy<Value = String>,
) -> impl Strategy<Value = String> {
    let lines = prop::collection::vec(prop::sample::select(lines), 0..most);
    let more = prop::collection::vec(more, 0..3);
    (prop::sample::select(heads), lines, more).prop_map(|(head, lines, more)| {
        format!("{head} {{\n{}\n{}}}\n", lines.join("\n"), more.concat())
    })
}

/// Services of every kind, with their real servers and checkers.
fn services() -> impl Strategy<Value = String> {
    let check = block(CHECKERS, CHECKER_LINES, 9, "");
    let server =
        block(SERVERS, SERVER_LINES, 6, check).prop_map(|text| "real_server ".to_owned() + &text);
    let service = block(HEADS, SERVICE_LINES, 12, server)
        .prop_map(|text| "virtual_server ".to_owned() + &text);
    let globals = prop::sample::select(vec![
        "",
        "global_defs {\nchecker_log_all_failures\nsmtp_alert_checker off\n}\nSSL {\nca /a\npassword \"x y\"\n}\n",
    ]);
    (globals, prop::collection::vec(service, 1..4))
        .prop_map(|(globals, services)| format!("{globals}{}{AROUND}", services.concat()))
}

/// Some of `lines`, in any order.
fn some(lines: &'static str) -> impl Strategy<Value = String> {
    let lines: Vec<&str> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    prop::collection::vec(prop::sample::select(lines), 0..12)
        .prop_map(|lines| lines.join("\n").replace(';', "\n"))
}

/// A file about VRRP, most of it right.
fn vrrp_files() -> impl Strategy<Value = String> {
    let settings = || {
        some(include_str!(
            "../../../../tests/fixtures/config/lines/vrrp_instance"
        ))
    };
    let group = some(include_str!(
        "../../../../tests/fixtures/config/lines/vrrp_sync_group"
    ));
    let objects = some(include_str!(
        "../../../../tests/fixtures/config/lines/objects"
    ));
    let host = some(include_str!("../../../../tests/fixtures/config/lines/host"));
    let global = some(include_str!(
        "../../../../tests/fixtures/config/lines/global_defs"
    ));
    (global, objects, settings(), settings(), group, host).prop_map(
        |(global, objects, one, other, group, host)| {
            format!(
                "global_defs {{\n{global}\n}}\n{objects}\n\
                 vrrp_instance A {{\ninterface eth0\nvirtual_router_id 51\n{one}\n}}\n\
                 vrrp_instance B {{\ninterface eth1\nvirtual_router_id 52\n{other}\n}}\n\
                 vrrp_sync_group G {{\ngroup {{\nA\nB\n}}\n{group}\n}}\n{host}\n"
            )
        },
    )
}

proptest! {
    #[test]
    fn services_of_every_kind_are_read(text in services()) {
        reads(text.as_bytes());
    }

    #[test]
    fn files_about_vrrp_are_read(text in vrrp_files()) {
        reads(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        reads(&bytes);
    }

    #[test]
    fn mutated_seeds_are_read(bytes in mutated()) {
        reads(&bytes);
    }

    #[test]
    fn the_language_s_own_words_in_any_order_are_read(text in words()) {
        reads(text.as_bytes());
    }

    #[test]
    fn layout_does_not_change_the_meaning(index in 0_usize..6, margin in "[ \t]{0,3}") {
        let seed = String::from_utf8(seeds().swap_remove(index)).unwrap();
        let meaning = |text: &str| parse("x", text.as_bytes()).unwrap().config;
        let crlf = seed.replace('\n', "\r\n");
        let indented = seed.lines().map(|line| format!("{margin}{line} # comment\n")).collect::<Vec<_>>().join("\n");
        let brace_below = seed.lines().map(|line| {
            let bare = line.split(['#', '!']).next().unwrap_or("");
            if line.contains('"') { format!("{line}\n") } else { bare.replace('{', "\n{") + "\n" }
        }).collect::<String>();
        for other in [crlf, indented, brace_below] {
            prop_assert_eq!(meaning(&other), meaning(&seed));
        }
    }
}

#[test]
fn a_file_that_is_no_configuration_at_all_does_not_flood() {
    let diagnostics = reads("nonsense\n}\n".repeat(20_000).as_bytes());
    assert_eq!(diagnostics.count(Severity::Warning), 40_000);
    assert!(diagnostics.iter().count() <= 1_000);
    assert!(diagnostics.render(false).contains("more like these"));
}

/// A block of `scope` that holds `inner`, in all that must stand around it.
fn wrapped(scope: Scope, inner: &str) -> Option<String> {
    Some(match scope {
        Scope::Root => inner.to_owned(),
        Scope::GlobalDefs => format!("global_defs {{\n{inner}\n}}\n"),
        Scope::VrrpInstance => format!("vrrp_instance A {{\n{inner}\n}}\n"),
        Scope::VrrpSyncGroup => format!("vrrp_sync_group G {{\n{inner}\n}}\n"),
        Scope::VrrpScript => format!("vrrp_script S {{\n{inner}\n}}\n"),
        Scope::TrackFile => format!("track_file F {{\n{inner}\n}}\n"),
        Scope::TrackProcess => format!("vrrp_track_process P {{\n{inner}\n}}\n"),
        Scope::Authentication => wrapped(
            Scope::VrrpInstance,
            &format!("authentication {{\n{inner}\n}}\n"),
        )?,
        Scope::VirtualServer => format!("virtual_server 10.0.0.1 80 {{\n{inner}\n}}\n"),
        Scope::XdpLb => format!("xdp_lb {{\n{inner}\n}}\n"),
        Scope::StateSync => wrapped(Scope::XdpLb, &format!("sync {{\n{inner}\n}}\n"))?,
        Scope::GarpGroup => format!("garp_group {{\n{inner}\n}}\n"),
        Scope::RealServer => {
            let server = format!("real_server 10.0.0.2 80 {{\n{inner}\n}}\n");
            wrapped(Scope::VirtualServer, &server)?
        }
        Scope::Url => wrapped(Scope::HttpGet, &format!("url {{\n{inner}\n}}\n"))?,
        Scope::SmtpHost => wrapped(Scope::SmtpCheck, &format!("host {{\n{inner}\n}}\n"))?,
        Scope::Ssl => format!("SSL {{\n{inner}\n}}\n"),
        Scope::TcpCheck
        | Scope::HttpGet
        | Scope::MiscCheck
        | Scope::SmtpCheck
        | Scope::DnsCheck
        | Scope::UdpCheck
        | Scope::PingCheck
        | Scope::FileCheck
        | Scope::BfdCheck => {
            let check = format!("{} {{\n{inner}\n}}\n", scope.name());
            wrapped(Scope::RealServer, &check)?
        }
        _ => return None,
    })
}

fn sample(keyword: &Keyword, value: &str) -> String {
    let values = vec![value; keyword.values.min.max(1).min(keyword.values.max)].join(" ");
    let block = if keyword.block.is_some() { " {\n}" } else { "" };
    format!("{} {values}{block}\n", keyword.name)
}

#[test]
fn every_supported_keyword_is_lowered_and_its_bad_values_are_noticed() {
    // Names, passwords, paths and what only the host knows, for which any word is good; and commands.
    let anything_goes = [
        "router_id",
        "vmac_prefix",
        "default_interface",
        "lvs_sync_daemon",
        "use_vmac",
        "vrrp_instance",
        "vrrp_sync_group",
        "interface",
        "default_interface",
        "auth_pass",
        "notification_email_from",
        "smtp_server",
        "smtp_helo_name",
        "helo_name",
        "name",
        "script_user",
        "user",
        "notify_fifo",
        "vrrp_notify_fifo",
        "lvs_notify_fifo",
        "vrrp_script",
        "track_file",
        "vrrp_track_file",
        "vrrp_track_process",
        "file",
        "process",
        "bind_if",
        "path",
        "virtualhost",
        "regex",
        "sni_name",
        "password",
        "ca",
        "certificate",
        "key",
    ];
    for scope in Scope::ALL {
        for keyword in scope.keywords() {
            // In debug builds the lowering asserts that a supported keyword has its place in it.
            let Some(text) = wrapped(scope, &sample(keyword, "~")) else {
                assert_ne!(keyword.status, Status::Supported, "{}", keyword.name);
                continue;
            };
            let diagnostics = reads(text.as_bytes());
            let has_bad_values =
                keyword.values.max > 0 && !keyword.script && !anything_goes.contains(&keyword.name);
            if keyword.status == Status::Supported && has_bad_values {
                // Some are settings of the block around alone, and that is said instead.
                let noticed = diagnostics
                    .iter()
                    .any(|item| item.message().contains("'~") || item.code() == Code::Overruled);
                assert!(noticed, "{text}{}", diagnostics.render(false));
            }
        }
    }
}
