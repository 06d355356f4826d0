//! Both readers on what the real tools printed, and what comes of it for a configuration.

use super::*;
use crate::config::{Diagnostics, Loaded, Options, parse_with};

const IPTABLES: &str = include_str!("../../../../tests/fixtures/firewall/iptables-save");
const NFTABLES: &str = include_str!("../../../../tests/fixtures/firewall/nft-ruleset.json");

fn marks(given: &Given) -> Vec<String> {
    let mut lines: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for (endpoint, (mark, _)) in &given.marks {
        lines.entry(*mark).or_default().push(endpoint.to_string());
    }
    let lines = lines.iter();
    lines
        .map(|(mark, endpoints)| format!("{mark}: {}", endpoints.join(" ")))
        .collect()
}

fn unused(given: &Given) -> Vec<String> {
    let unused = given.unused.iter();
    unused
        .map(|unused| format!("{}: {}", unused.rule, unused.why))
        .collect()
}

#[test]
fn rules_of_iptables_are_read_as_it_saves_them() {
    let mut given = Given::default();
    iptables::read(IPTABLES, Family::V4, &mut given);
    let expected = [
        "1: tcp/192.168.1.210:80 tcp/192.168.1.210:443 tcp/192.168.1.210:8000 \
         tcp/192.168.1.210:8001 tcp/192.168.1.210:8002",
        "2: tcp/192.168.1.211:0 udp/192.168.1.211:0",
        "3: udp/192.168.1.212:53 udp/192.168.1.213:53",
        "5: tcp/192.168.1.220:81 tcp/192.168.1.221:81 tcp/192.168.1.222:81",
    ];
    assert_eq!(marks(&given), expected);
    let (set, all) = ("-j MARK --set-xmark", "0xffffffff");
    let expected = [
        format!(
            "-A VIPS -p tcp -m tcp --dport 80 -m state --state NEW {set} 0x3/{all}: \
             it has -m state"
        ),
        format!(
            "-A PREROUTING -d 192.168.1.214/32 -i eth0 -p tcp -m tcp --dport 80 {set} 0x4/{all}: \
             it has an interface (-i)"
        ),
        format!(
            "-A PREROUTING ! -s 10.0.0.0/8 -d 192.168.1.214/32 -p tcp -m tcp --dport 80 {set} \
             0x4/{all}: it has a negation"
        ),
        format!(
            "-A PREROUTING -d 192.168.1.214/32 -p tcp -m tcp --dport 81 {set} 0x4/0x4: \
             the mark depends on more than the rule"
        ),
    ];
    assert_eq!(unused(&given), expected);
}

#[test]
fn rules_of_nftables_are_read_as_it_lists_them() {
    let mut given = Given::default();
    nftables::read(NFTABLES, &mut given).unwrap();
    let ports: Vec<_> = (8000..=8010)
        .map(|p| format!("tcp/192.168.1.202:{p}"))
        .collect();
    let expected = [
        "1: tcp/192.168.1.200:80 tcp/192.168.1.200:443".to_owned(),
        "2: udp/192.168.1.201:53 udp/192.168.1.208:53 udp/192.168.1.209:53 \
         udp/192.168.1.210:53 udp/192.168.1.211:53"
            .to_owned(),
        format!(
            "3: tcp/192.168.1.202:80 tcp/192.168.1.202:443 {}",
            ports.join(" ")
        ),
        "5: tcp/192.168.1.204:5060 udp/192.168.1.204:5060 tcp/192.168.1.204:5061 \
         udp/192.168.1.204:5061"
            .to_owned(),
        "6: tcp/[2001:db8::200]:80".to_owned(),
        "7: udp/192.168.1.205:0".to_owned(),
    ];
    assert_eq!(marks(&given), expected, "the later chain marks 5060 anew");
    let expected = [
        "inet both more handle 6: it keeps packets from rules behind it that mark them",
        "ip lvs prerouting handle 8: it has 'ip saddr'",
        "ip lvs prerouting handle 9: it has a negation or a comparison",
        "ip lvs prerouting handle 10: it has 'meta iifname'",
    ];
    assert_eq!(unused(&given), expected);
}

#[test]
fn of_two_rules_for_one_packet_the_last_counts() {
    let mut given = Given::default();
    let text = "*nat\n-A PREROUTING -d 10.0.0.1 -p tcp -j MARK --set-mark 9\n*mangle\n\
                [1:2] -A PREROUTING -d 10.0.0.1 -p tcp --dport 80 -j MARK --set-mark 1\n\
                -A PREROUTING -d 10.0.0.1/32 -p tcp -j MARK --set-mark 2\n\
                -A PREROUTING -d 10.0.0.1/255.255.255.255 -p tcp --dport 443 -j MARK --set-mark 3\n\
                -A PREROUTING -p tcp --dport 443 -j MARK --set-mark 4\n\
                -A PREROUTING -d 10.0.0.2 -p icmp -j MARK --set-mark 4\n\
                -A PREROUTING -j ACCEPT\n\
                -A PREROUTING -d 10.0.0.1 -p tcp --dport 443 -j MARK --set-mark 5\n";
    iptables::read(text, Family::V4, &mut given);
    assert_eq!(marks(&given), ["2: tcp/10.0.0.1:0", "3: tcp/10.0.0.1:443"]);
    let why: Vec<_> = given
        .unused
        .iter()
        .map(|unused| unused.why.as_str())
        .collect();
    let expected = [
        "it names no destination address",
        "its protocol is neither TCP nor UDP",
    ];
    assert_eq!(why, expected);
}

#[test]
fn whatever_is_no_ruleset_gives_no_marks() {
    let mut given = Given::default();
    for text in ["", "{}", "[]", "{\"nftables\": 1}", "nonsense"] {
        assert_eq!(nftables::read(text, &mut given), None, "{text}");
        iptables::read(text, Family::V4, &mut given);
    }
    assert_eq!(given, Given::default());
}

/// What is made of a file beside such a firewall.
fn beside(text: &str, ruleset: Option<&Ruleset>) -> Result<Loaded, Diagnostics> {
    let options = Options {
        firewall: &|| ruleset.cloned(),
        ..Options::default()
    };
    parse_with("test.conf", text.as_bytes(), &options)
}

fn saved(text: &str) -> Ruleset {
    Ruleset {
        iptables: Some(text.to_owned()),
        ..Ruleset::default()
    }
}

const SERVICE: &str =
    "virtual_server fwmark 1 {\nlb_algo rr\nlb_kind DR\nreal_server 10.0.0.2 {\n}\n}\n";

fn rendered(found: &Diagnostics) -> String {
    found.render(false)
}

#[test]
fn a_mark_without_a_source_is_an_error_that_says_what_to_do() {
    let found = beside(SERVICE, Some(&saved(""))).unwrap_err();
    let text = rendered(&found);
    assert!(
        found.iter().any(|item| item.code() == Code::UnknownMark),
        "{text}"
    );
    assert!(text.contains("test.conf:1:1"), "{text}");
    assert!(text.contains("fwmark 1 { tcp ADDRESS:80,443 }"), "{text}");
    let failed = Ruleset {
        failures: vec!["iptables-save: permission denied".to_owned()],
        ..Ruleset::default()
    };
    let text = rendered(&beside(SERVICE, Some(&failed)).unwrap_err());
    assert!(text.contains("permission denied"), "{text}");
    assert!(beside(SERVICE, None).is_ok(), "nobody looked");
}

#[test]
fn the_block_counts_and_no_rule_beside_it() {
    let block = "xdp_lb {\nfwmark 1 {\ntcp 10.0.0.1:80,443\nudp 10.0.0.1\n}\n}\n";
    let rule = "*mangle\n-A PREROUTING -d 10.0.0.9 -p tcp --dport 80 -j MARK --set-mark 1\n";
    let named = |text: &str| {
        let loaded =
            beside(text, Some(&saved(rule))).unwrap_or_else(|found| panic!("{}", rendered(&found)));
        let endpoints = loaded.config.xdp_lb.marks[&1].iter();
        endpoints.map(Endpoint::to_string).collect::<Vec<_>>()
    };
    let of_block = ["udp/10.0.0.1:0", "tcp/10.0.0.1:80", "tcp/10.0.0.1:443"];
    assert_eq!(named(&(block.to_owned() + SERVICE)), of_block);
    assert_eq!(named(SERVICE), ["tcp/10.0.0.9:80"]);
}

#[test]
fn a_mark_in_a_group_needs_a_source_at_its_line() {
    let group = "virtual_server_group g {\n10.0.0.1 80\nfwmark 7\n}\nvirtual_server group g {\nlb_algo rr\nlb_kind DR\nprotocol TCP\nreal_server 10.0.0.2 80 {\n}\n}\n";
    let text = rendered(&beside(group, Some(&saved(""))).unwrap_err());
    assert!(text.contains("test.conf:3:1"), "{text}");
    let rule = "*mangle\n-A PREROUTING -d 10.0.0.9 -p tcp --dport 80 -j MARK --set-mark 7\n";
    let loaded = beside(group, Some(&saved(rule))).unwrap();
    let members: Vec<_> = loaded.config.members().map(|m| m.key.to_string()).collect();
    assert_eq!(members, ["tcp/10.0.0.1:80", "fwmark/7"]);
}

#[test]
fn a_mark_on_several_virtual_macs_is_refused() {
    let instance = |name: &str, vrid: u8, more: &str| {
        format!(
            "vrrp_instance {name} {{\ninterface eth0\nvirtual_router_id {vrid}\n{more}\nvirtual_ipaddress {{\n10.0.0.{vrid}\n}}\n}}\n"
        )
    };
    let marks = "xdp_lb {\nfwmark 1 {\ntcp 10.0.0.51:80 10.0.0.52:80\n}\n}\n";
    let file = |more: &str| {
        [
            instance("A", 51, more),
            instance("B", 52, ""),
            marks.to_owned(),
            SERVICE.to_owned(),
        ]
        .concat()
    };
    assert!(beside(&file(""), None).is_ok());
    let found = beside(&file("use_vmac"), None).unwrap_err();
    let codes: Vec<_> = found.iter().map(Diagnostic::code).collect();
    assert!(codes.contains(&Code::NotSupported), "{}", rendered(&found));
}

#[test]
fn what_the_block_says_wrong_is_an_error() {
    let cases = [
        ("fwmark x {\ntcp 10.0.0.1\n}", Code::BadValue),
        ("fwmark 1 {\n}", Code::Empty),
        ("fwmark 1 {\nsctp 10.0.0.1:80\n}", Code::BadValue),
        ("fwmark 1 {\ntcp\n}", Code::MissingValue),
        ("fwmark 1 {\ntcp 10.0.0.1:0\n}", Code::BadValue),
        (
            "fwmark 1 {\ntcp 10.0.0.1:80\n}\nfwmark 2 {\ntcp 10.0.0.1:80\n}",
            Code::Duplicate,
        ),
    ];
    for (block, code) in cases {
        let found = beside(&format!("xdp_lb {{\n{block}\n}}\n{SERVICE}"), None).unwrap_err();
        assert!(
            found.iter().any(|item| item.code() == code),
            "{block}: {}",
            rendered(&found)
        );
    }
    let lonely = beside("xdp_lb {\nfwmark 9 {\ntcp 10.0.0.1\n}\n}\n", None).unwrap();
    assert!(
        lonely
            .diagnostics
            .iter()
            .any(|item| item.code() == Code::Doubtful)
    );
}
