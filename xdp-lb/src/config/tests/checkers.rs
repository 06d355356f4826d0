//! What health checkers mean: defaults, inheritance, and keepalived's effect of wrong values.

use std::time::Duration;

use super::services::{service, warnings};
use crate::config::diagnostic::Code;
use crate::config::model::{
    Check, Connection, FileWeight, HttpVersion, MaskedByte, Probe, RecordType, Sni,
};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn the_times_of_checks_come_from_the_nearest_block_that_sets_them() {
    let check = |lines: &str, server: &str, checker: &str| -> Check {
        let (mut service, diagnostics) =
            service(lines, &format!("{server}\nTCP_CHECK {{\n{checker}\n}}"));
        assert_eq!(warnings(&diagnostics), [], "{lines} {server} {checker}");
        service.real_servers.remove(0).checks.remove(0)
    };
    let shape = |check: &Check| {
        let Probe::Tcp(Connection {
            connect_timeout, ..
        }) = &check.probe
        else {
            panic!("{check:?}");
        };
        (
            check.delay_loop,
            *connect_timeout,
            check.retry,
            check.delay_before_retry,
            check.warmup,
        )
    };
    let plain = (seconds(60.0), seconds(5.0), 1, seconds(1.0), seconds(60.0));
    assert_eq!(shape(&check("", "", "")), plain);
    let all = "delay_loop 6\nconnect_timeout 2.5\nretry 4\ndelay_before_retry 0\nwarmup 0";
    let set = (seconds(6.0), seconds(2.5), 4, seconds(0.0), seconds(0.0));
    assert_eq!(shape(&check(all, "", "")), set);
    assert_eq!(shape(&check("delay_loop 9", all, "")), set);
    assert_eq!(shape(&check("delay_loop 9", "retry 7", all)), set);
    // Settings behind the real server count as well, and warmup follows delay_loop.
    let mixed = check("delay_loop 20", "retry 2", "connect_timeout 3\nretry 0");
    assert_eq!(
        shape(&mixed),
        (seconds(20.0), seconds(3.0), 0, seconds(1.0), seconds(20.0))
    );
}

#[test]
fn wrong_numbers_have_keepalived_s_effect() {
    let cases: [(&str, f64, u32, Option<u32>); 7] = [
        ("delay_loop 9s", 9.0, 1, Some(1)),
        ("delay_loop 0", 60.0, 1, Some(1)),
        ("delay_loop x", 60.0, 1, Some(1)),
        ("weight abc", 60.0, 1, Some(1)),
        ("weight -3", 60.0, 1, Some(1)),
        ("weight 7x", 60.0, 1, Some(1)),
        ("retry 0", 60.0, 1, Some(1)),
    ];
    for (line, delay_loop, weight, retry) in cases {
        let (service, diagnostics) = service("", &format!("{line}\nTCP_CHECK {{\n}}"));
        let server = &service.real_servers[0];
        assert_eq!(server.weight, weight, "{line}");
        assert_eq!(server.checks[0].delay_loop, seconds(delay_loop), "{line}");
        assert_eq!(Some(server.checks[0].retry), retry, "{line}");
        assert_eq!(warnings(&diagnostics), [Code::BadValue], "{line}");
    }
}

#[test]
fn a_tcp_check_has_its_own_target_and_source() {
    let probe = |lines: &str| {
        let (service, _) = service("", &format!("TCP_CHECK {{\n{lines}\n}}"));
        let Probe::Tcp(probe) = service.real_servers[0].checks[0].probe.clone() else {
            panic!("{service:?}");
        };
        (
            probe.target.to_string(),
            probe.source.map(|source| source.to_string()),
        )
    };
    let none = || None;
    assert_eq!(probe(""), ("10.0.0.2:80".to_owned(), none()));
    assert_eq!(
        probe("connect_port 81\nconnect_ip 10.0.0.9"),
        ("10.0.0.9:81".to_owned(), none())
    );
    assert_eq!(probe("connect_port 0"), ("10.0.0.2:80".to_owned(), none()));
    assert_eq!(probe("bindto 10.0.0.5").1, Some("10.0.0.5:0".to_owned()));
    assert_eq!(probe("bind_port 99").1, Some("0.0.0.0:99".to_owned()));
    assert_eq!(
        probe("bindto 10.0.0.5\nbind_port 99").1,
        Some("10.0.0.5:99".to_owned())
    );
}

#[test]
fn several_checks_of_a_server_are_all_kept_and_none_is_always_up() {
    let (with_two, _) = service("", "TCP_CHECK {\n}\nTCP_CHECK {\nconnect_port 81\n}");
    assert_eq!(with_two.real_servers[0].checks.len(), 2);
    assert_eq!(service("", "").0.real_servers[0].checks, []);
}

/// The only check of a server with `checker` in it, and the codes of warnings.
fn check(checker: &str) -> (Check, Vec<Code>) {
    let (mut service, diagnostics) = service("", checker);
    let check = service.real_servers.remove(0).checks.remove(0);
    (check, warnings(&diagnostics))
}

fn probe(checker: &str) -> (Probe, Vec<Code>) {
    let (check, codes) = check(checker);
    (check.probe, codes)
}

#[test]
fn each_kind_of_check_has_its_own_defaults() {
    let cases = [
        ("TCP_CHECK {\n}", 1, 1.0),
        ("HTTP_GET {\nurl {\npath /\n}\n}", 1, 3.0),
        ("SSL_GET {\nconnect_port 443\nurl {\npath /\n}\n}", 1, 3.0),
        ("DNS_CHECK {\n}", 3, 60.0),
        ("DNS_CHECK {\ndelay_loop 7\n}", 3, 7.0),
        ("MISC_CHECK {\nmisc_path /bin/true\n}", 0, 1.0),
        ("SMTP_CHECK {\n}", 1, 1.0),
        ("PING_CHECK {\n}", 1, 1.0),
        ("UDP_CHECK {\n}", 1, 1.0),
    ];
    for (checker, retry, delay) in cases {
        let (check, codes) = check(checker);
        assert_eq!(codes, [], "{checker}");
        assert_eq!(
            (check.retry, check.delay_before_retry),
            (retry, seconds(delay)),
            "{checker}"
        );
        assert_eq!(check.warmup, check.delay_loop);
        assert!(!check.alpha && !check.log_all_failures);
    }
}

#[test]
fn switches_are_inherited_and_can_be_taken_back() {
    let cases = [
        ("", "", "", false),
        ("alpha", "", "", true),
        ("alpha", "alpha off", "", false),
        ("", "alpha", "", true),
        ("", "alpha", "alpha no", false),
    ];
    for (lines, server, checker, expected) in cases {
        let (service, _) = service(lines, &format!("{server}\nTCP_CHECK {{\n{checker}\n}}"));
        assert_eq!(
            service.real_servers[0].checks[0].alpha, expected,
            "{lines} {server} {checker}"
        );
    }
}

#[test]
fn pages_are_asked_for_as_the_nearest_block_says() {
    let url = "path /a\nstatus_code 200 301-302 404-400 99 abc\ndigest 0123456789abcdef0123456789ABCDEF\nregex \"a b\"\nregex_options caseless foo\nregex_no_match\nregex_min_offset 5";
    let expected = [[Code::BadValue; 4].as_slice(), &[Code::Empty]].concat();
    let (service, diagnostics) = service(
        "virtualhost outer",
        &format!(
            "HTTP_GET {{\nhttp_protocol 1.0c\nfast_recovery\nurl {{\n{url}\n}}\nurl {{\npath /b\nvirtualhost own\n}}\nurl {{\n}}\n}}"
        ),
    );
    assert_eq!(warnings(&diagnostics), expected);
    let Probe::Http(http) = &service.real_servers[0].checks[0].probe else {
        panic!("{service:?}");
    };
    assert_eq!((http.version, &http.tls), (HttpVersion::V10Close, &None));
    assert!(http.fast_recovery);
    let hosts: Vec<_> = http.urls.iter().map(|url| url.host.as_deref()).collect();
    assert_eq!(hosts, [Some("outer"), Some("own")]);
    assert_eq!(http.urls[0].statuses, [200..=200, 301..=302]);
    assert_eq!(http.urls[1].statuses, [200..=299]);
    assert_eq!(http.urls[0].digest.unwrap()[..3], [0x01, 0x23, 0x45]);
    let pattern = http.urls[0].pattern.as_ref().unwrap();
    assert_eq!((pattern.text.as_str(), pattern.min_offset), ("a b", 5));
    assert_eq!(pattern.options, ["caseless"]);
    assert!(pattern.no_match);
}

#[test]
fn tls_sends_a_name_when_it_is_asked_to() {
    let cases = [
        ("", None),
        ("enable_sni", Some(Sni::Host)),
        ("enable_sni off", None),
        (
            "enable_sni\nsni_name web",
            Some(Sni::Name("web".to_owned())),
        ),
    ];
    for (lines, expected) in cases {
        let (probe, _) = probe(&format!(
            "SSL_GET {{\nconnect_port 443\n{lines}\nurl {{\npath /\n}}\n}}"
        ));
        let Probe::Http(http) = probe else {
            panic!("{probe:?}");
        };
        assert_eq!(http.tls.unwrap().sni, expected, "{lines}");
    }
}

#[test]
fn checkers_without_what_they_need_are_left_out() {
    for checker in ["HTTP_GET {\n}", "MISC_CHECK {\n}", "FILE_CHECK {\n}"] {
        let (service, diagnostics) = service("", checker);
        assert_eq!(service.real_servers[0].checks, [], "{checker}");
        assert_eq!(warnings(&diagnostics), [Code::Empty], "{checker}");
    }
}

#[test]
fn queries_datagrams_and_mail_are_read() {
    let (Probe::Dns(dns), codes) =
        probe("DNS_CHECK {\ntype mx\ntype FOO\nname a..b\nname www.example.com\n}")
    else {
        panic!();
    };
    assert_eq!(
        (dns.record, dns.name.as_str()),
        (RecordType::Mx, "www.example.com")
    );
    assert_eq!(
        codes.iter().filter(|code| **code == Code::BadValue).count(),
        2
    );
    let (Probe::Udp(udp), codes) =
        probe("UDP_CHECK {\npayload 01 2 ff\nrequire_reply 1X\nmin_reply_length 300\n}")
    else {
        panic!();
    };
    assert_eq!(udp.payload, Some(vec![1, 2, 255]));
    let reply = udp.reply.unwrap();
    let masked = MaskedByte {
        value: 0x10,
        mask: 0xf0,
    };
    assert_eq!(reply.pattern, [masked]);
    assert_eq!((reply.min_length, reply.max_length), (300, 255));
    assert_eq!(codes, [Code::Doubtful]);
    let (Probe::Udp(udp), _) = probe("UDP_CHECK {\nrequire_reply\n}") else {
        panic!();
    };
    assert_eq!((udp.payload, udp.reply.unwrap().pattern), (None, vec![]));
    let (Probe::Smtp(smtp), codes) = probe(
        "SMTP_CHECK {\nhelo_name me\nhost {\nconnect_ip 10.1.1.1\nconnect_port 26\nfoo\n}\nhost {\n}\n}",
    ) else {
        panic!();
    };
    let targets: Vec<_> = smtp
        .connections
        .iter()
        .map(|c| c.target.to_string())
        .collect();
    assert_eq!(targets, ["10.1.1.1:26", "10.0.0.2:80"]);
    assert_eq!(codes, [Code::UnknownKeyword]);
    let (Probe::Ping(ping), _) = probe("PING_CHECK {\nconnect_port 80\nbind_port 9\n}") else {
        panic!();
    };
    assert_eq!(
        (ping.target.to_string().as_str(), ping.source),
        ("10.0.0.2:0", None)
    );
}

#[test]
fn commands_and_files_are_read() {
    let (Probe::Misc(misc), codes) =
        probe("MISC_CHECK {\nmisc_path \"/bin/check a\"\nmisc_dynamic\nuser web www\n}")
    else {
        panic!();
    };
    assert_eq!(codes, []);
    assert_eq!(misc.command.user.unwrap().name, "web");
    assert_eq!((misc.timeout, misc.dynamic), (seconds(60.0), true));
    let (Probe::File(file), _) = probe("FILE_CHECK {\ntrack_file f\nweight -3 reverse\n}") else {
        panic!();
    };
    assert_eq!(
        file.weight,
        Some(FileWeight {
            factor: -3,
            reverse: true
        })
    );
}

#[test]
fn a_source_of_the_other_family_is_ignored() {
    let (Probe::Tcp(tcp), codes) =
        probe("TCP_CHECK {\nbindto 2001:db8::1\nbind_if eth7\nfwmark 9\n}")
    else {
        panic!();
    };
    assert_eq!(
        (tcp.source, tcp.mark, tcp.interface.as_deref()),
        (None, 9, Some("eth7"))
    );
    assert_eq!(codes, [Code::Conflict]);
}

#[test]
fn whole_numbers_with_something_behind_them_are_ignored() {
    let lines = [
        "retry 3x",
        "fwmark 7x",
        "connect_port 81x",
        "bind_port 80x",
        "nb_get_retry 4x",
    ];
    let (plain, _) = check("TCP_CHECK {\n}");
    for line in lines {
        let (check, codes) = check(&format!("TCP_CHECK {{\n{line}\n}}"));
        assert_eq!(check, plain, "{line}");
        assert!(codes.contains(&Code::BadValue), "{line}");
    }
}
