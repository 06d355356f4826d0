use super::*;
use crate::config::{Loaded, parse};

fn file(state: &str, priority: u8, vips: &str, services: &str) -> String {
    format!(
        "vrrp_instance VI_1 {{\n    state {state}\n    interface eth0\n    virtual_router_id 51\n    \
         priority {priority}\n    virtual_ipaddress {{\n        {vips}\n    }}\n}}\n{services}"
    )
}

fn service(vip: &str, algo: &str, server: &str) -> String {
    format!(
        "virtual_server {vip} 80 {{\n    lb_algo {algo}\n    lb_kind DR\n    protocol TCP\n    \
         real_server {server} 80 {{\n        weight 1\n    }}\n}}\n"
    )
}

fn compared(a: &str, b: &str) -> (Vec<String>, Vec<String>) {
    let [a, b] =
        [("a.conf", a), ("b.conf", b)].map(|(name, text)| parse(name, text.as_bytes()).unwrap());
    let found = compare(side(&a), side(&b));
    let lines = |loaded: &Loaded, found: Vec<Diagnostic>| {
        let mut diagnostics = crate::config::Diagnostics::new(
            loaded.diagnostics.sources().clone(),
            crate::config::diagnostic::Collector::default(),
        );
        diagnostics.add(found);
        let lines = diagnostics.iter().map(|item| diagnostics.one_line(item));
        lines.collect()
    };
    (lines(&a, found.first), lines(&b, found.second))
}

fn side(loaded: &Loaded) -> Side<'_> {
    Side {
        config: &loaded.config,
        places: &loaded.places,
        sources: loaded.diagnostics.sources(),
    }
}

#[test]
fn a_cluster_that_agrees_is_left_alone() {
    let services = service("10.0.0.100", "rr", "10.0.0.1");
    let a = file("MASTER", 100, "10.0.0.100\n10.0.0.101", &services);
    let b = file("BACKUP", 99, "10.0.0.101\n10.0.0.100", &services);
    assert_eq!(compared(&a, &b), (vec![], vec![]));
}

#[test]
fn no_cluster_is_not_compared() {
    let a = file(
        "MASTER",
        100,
        "10.0.0.100",
        &service("10.0.0.100", "rr", "10.0.0.1"),
    );
    let b = a
        .replace("router_id 51", "router_id 52")
        .replace("lb_algo rr", "lb_algo wrr");
    assert_eq!(compared(&a, &b), (vec![], vec![]));
}

#[test]
fn equal_priorities_are_a_tie() {
    let (first, second) = compared(
        &file("MASTER", 100, "10.0.0.100", ""),
        &file("BACKUP", 100, "10.0.0.100", ""),
    );
    assert_eq!(first, [""; 0]);
    assert_eq!(second.len(), 1, "{second:?}");
    let tail = "warning[priority-tie]: both directors of virtual_router_id 51 have priority 100: who becomes MASTER is an accident";
    assert!(
        second[0].starts_with("b.conf:") && second[0].ends_with(tail),
        "{second:?}"
    );
}

#[test]
fn other_addresses_make_two_masters() {
    let (_, second) = compared(
        &file("MASTER", 100, "10.0.0.100", ""),
        &file("BACKUP", 99, "10.0.0.100\n10.0.0.101", ""),
    );
    assert_eq!(second.len(), 1, "{second:?}");
    assert!(
        second[0].contains("differ in virtual_ipaddress of virtual_router_id 51"),
        "{second:?}"
    );
    assert!(second[0].contains("both are MASTER"), "{second:?}");
}

#[test]
fn the_other_file_and_line_are_named() {
    let [a, b] = [("MASTER", 100, "10.0.0.100"), ("BACKUP", 100, "10.0.0.101")]
        .map(|(state, priority, vip)| file(state, priority, vip, ""));
    let [a, b] =
        [("a.conf", a), ("b.conf", b)].map(|(name, text)| parse(name, text.as_bytes()).unwrap());
    let mut diagnostics = b.diagnostics.clone();
    diagnostics.add(compare(side(&a), side(&b)).second);
    let text = diagnostics.render(false);
    assert!(text.contains("the same as in a.conf:"), "{text}");
    assert!(text.contains("here: 10.0.0.101"), "{text}");
    assert!(text.contains(": 10.0.0.100\n"), "{text}");
}

#[test]
fn services_must_be_the_same_on_both() {
    let vips = "10.0.0.100\n10.0.0.101\n10.0.0.102";
    let a = service("10.0.0.100", "rr", "10.0.0.1") + &service("10.0.0.101", "rr", "10.0.0.1");
    let b = service("10.0.0.100", "wrr", "10.0.0.2") + &service("10.0.0.102", "rr", "10.0.0.1");
    let (first, second) = compared(
        &file("MASTER", 100, vips, &a),
        &file("BACKUP", 99, vips, &b),
    );
    assert_eq!(
        first,
        [
            "a.conf:20:1: warning[peers-differ]: b.conf has no virtual server tcp/10.0.0.101:80, which the other director has"
        ]
    );
    let said = second.join("\n");
    for part in [
        "differ in lb_algo of tcp/10.0.0.100:80",
        "differ in the real servers of tcp/10.0.0.100:80",
        "a.conf has no virtual server tcp/10.0.0.102:80",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert_eq!(second.len(), 3, "{said}");
}

/// What is said about a pair that differs in these lines of its instance.
fn said(here: &str, there: &str) -> Vec<String> {
    let of = |state: &str, priority: u8, lines: &str| {
        file(state, priority, "10.0.0.100", "").replacen(
            "interface eth0",
            &format!("interface eth0\n{lines}"),
            1,
        )
    };
    let (first, second) = compared(&of("MASTER", 100, here), &of("BACKUP", 99, there));
    [first, second].concat()
}

/// One message that holds `part`, or none at all.
fn says(here: &str, there: &str, part: Option<&str>) {
    let said = said(here, there);
    match part {
        None => assert_eq!(said, [""; 0], "{here} {there}"),
        Some(part) => assert!(
            said.iter().any(|said| said.contains(part)),
            "{part}: {said:?}"
        ),
    }
}

#[test]
fn settings_that_two_directors_must_share_are_compared() {
    says("", "", None);
    says(
        "advert_int 1",
        "advert_int 2",
        Some("differ in advert_int of"),
    );
    let version = Some("differ in the version of VRRP of");
    says("version 2", "version 3", version);
    let excluded = "virtual_ipaddress_excluded {\n10.0.0.7\n}";
    let differ = Some("differ in virtual_ipaddress_excluded of");
    says(excluded, "", differ);
}

#[test]
fn passwords_must_be_the_same_and_are_not_shown() {
    let auth =
        |password: &str| format!("authentication {{\n auth_type PASS\n auth_pass {password}\n}}");
    let (one, other) = (auth("secret12"), auth("secret13"));
    says(&one, &one, None);
    let differ = Some("refuse each other's adverts: their passwords differ");
    says(&one, &other, differ);
    let lacks = "refuse each other's adverts: this one has a password and the other has none";
    says("", &one, Some(lacks));
    assert!(!said(&one, &other).concat().contains("secret"));
}

#[test]
fn by_unicast_each_must_speak_to_the_other() {
    let unicast =
        |own: &str, peer: &str| format!("unicast_src_ip {own}\nunicast_peer {{\n{peer}\n}}");
    let (a, b) = ("10.0.0.1", "10.0.0.2");
    says(&unicast(a, b), &unicast(b, a), None);
    says("", &unicast(b, a), Some("differ in the transport of"));
    let deaf = "do not hear each other: this one does not send to the other";
    says(&unicast(a, b), &unicast(b, "10.0.0.9"), Some(deaf));
}
