//! What holds for any file whatever.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::seeds::folder;
use crate::config::diagnostic::Code;
use crate::config::keywords::{Keyword, Scope, Status};
use crate::config::model::{
    Config, Family, InitialState, Preemption, Tracked, Trackers, Transport, Version, VrrpInstance,
};
use crate::config::print::print;
use crate::config::{Diagnostic, Diagnostics, Severity, parse};

/// Reads `bytes`, shows the outcome in every form, and checks what must hold.
fn reads(bytes: &[u8]) -> Diagnostics {
    let (diagnostics, config) = match parse("any.conf", bytes) {
        Ok(loaded) => (loaded.diagnostics, Some(loaded.config)),
        Err(diagnostics) => (diagnostics, None),
    };
    assert_eq!(config.is_none(), diagnostics.has_errors());
    if let Some(config) = config {
        is_valid(&config);
        round_trips(&config);
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
    let again = parse("printed.conf", text.as_bytes());
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
    let mut keys = BTreeSet::new();
    for service in &config.virtual_servers {
        assert!(keys.insert(service.key));
        assert!(!service.real_servers.is_empty());
        let mut addresses = BTreeSet::new();
        for server in &service.real_servers {
            assert!(addresses.insert(server.address));
            assert_eq!(server.address.port(), service.key.port);
            assert!(
                server
                    .checks
                    .iter()
                    .all(|check| !check.delay_loop.is_zero())
            );
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
        assert!(family == Family::Ipv4 || matches!(instance.version, Version::V3 { .. }));
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
        Scope::VirtualServer => format!("virtual_server 10.0.0.1 80 {{\n{inner}\n}}\n"),
        Scope::XdpLb => format!("xdp_lb {{\n{inner}\n}}\n"),
        Scope::RealServer => {
            let server = format!("real_server 10.0.0.2 80 {{\n{inner}\n}}\n");
            wrapped(Scope::VirtualServer, &server)?
        }
        Scope::TcpCheck => wrapped(Scope::RealServer, &format!("TCP_CHECK {{\n{inner}\n}}\n"))?,
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
    // Names, for which any word is good, and blocks without values.
    let anything_goes = [
        "router_id",
        "vrrp_instance",
        "interface",
        "TCP_CHECK",
        "global_defs",
        "xdp_lb",
        "virtual_ipaddress",
    ];
    for scope in Scope::ALL {
        for keyword in scope.keywords() {
            // In debug builds the lowering asserts that a supported keyword has its place in it.
            let Some(text) = wrapped(scope, &sample(keyword, "~")) else {
                assert_ne!(keyword.status, Status::Supported, "{}", keyword.name);
                continue;
            };
            let diagnostics = reads(text.as_bytes());
            if keyword.status == Status::Supported && !anything_goes.contains(&keyword.name) {
                let noticed = diagnostics.iter().any(|item| item.message().contains("'~"));
                assert!(noticed, "{text}{}", diagnostics.render(false));
            }
        }
    }
}
