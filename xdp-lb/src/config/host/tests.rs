//! On hosts made of a table.

use std::collections::BTreeMap;

use super::*;
use crate::config::{Loaded, Severity, parse};

/// A host as the tests want it.
#[derive(Default)]
struct Made {
    files: BTreeMap<PathBuf, File>,
    links: BTreeMap<PathBuf, PathBuf>,
    interpreters: BTreeMap<PathBuf, String>,
    users: Vec<&'static str>,
    interfaces: Vec<&'static str>,
    grounds: BTreeMap<&'static str, Ground>,
    certificates: Option<&'static str>,
}

impl Host for Made {
    fn file(&self, path: &Path) -> Option<File> {
        self.files.get(&self.resolve(path)?).copied()
    }

    fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let path = self.links.get(path).map_or(path, PathBuf::as_path);
        self.files.contains_key(path).then(|| path.to_path_buf())
    }

    fn search_path(&self) -> Vec<PathBuf> {
        vec!["/sbin".into(), "/bin".into()]
    }

    fn interpreter(&self, path: &Path) -> Option<String> {
        self.interpreters.get(path).cloned()
    }

    fn refuses_certificates(&self, _: &Ssl) -> Option<String> {
        self.certificates.map(str::to_owned)
    }

    fn has_user(&self, name: &str) -> bool {
        self.users.contains(&name)
    }

    fn has_group(&self, name: &str) -> bool {
        self.users.contains(&name)
    }

    fn has_interface(&self, name: &str) -> bool {
        self.interfaces.contains(&name)
    }

    fn ground(&self, name: &str) -> Ground {
        self.grounds.get(name).cloned().unwrap_or(Ground::Good)
    }
}

impl Made {
    /// A host with the usual things.
    fn usual() -> Self {
        let mut host = Self {
            users: vec!["root", "nobody"],
            interfaces: vec!["eth0"],
            ..Self::default()
        };
        for directory in ["/", "/bin", "/sbin", "/etc"] {
            host.add(directory, true, 0o755, 0, 0);
        }
        host.add("/tmp", true, 0o1777, 0, 0);
        for program in [
            "/bin/true",
            "/bin/bash",
            "/bin/sh",
            "/bin/env",
            "/bin/killall",
        ] {
            host.add(program, false, 0o755, 0, 0);
        }
        host
    }

    fn add(&mut self, path: &str, is_directory: bool, mode: u32, uid: u32, gid: u32) {
        let file = File {
            is_directory,
            mode,
            uid,
            gid,
        };
        self.files.insert(path.into(), file);
    }

    fn script(&mut self, path: &str, interpreter: &str) {
        self.add(path, false, 0o755, 0, 0);
        self.interpreters
            .insert(path.into(), interpreter.to_owned());
    }
}

const SECURED: &str = "enable_script_security\n    script_user root";

const INSTANCE: &str = "vrrp_instance A {\n    interface eth0\n    virtual_router_id 51\n    \
                        virtual_ipaddress {\n        10.0.0.1/32\n    }\n}\n";

/// A command with a purpose, in a file with an instance and more `global_defs`.
struct Case<'a> {
    global: &'a str,
    purpose: &'a str,
    line: &'a str,
    instance: bool,
}

fn tracking<'a>(global: &'a str, line: &'a str) -> Case<'a> {
    Case {
        global,
        purpose: "script",
        line,
        instance: true,
    }
}

type Said = (Code, String, bool);

fn found(case: &Case<'_>, host: &Made) -> Vec<Said> {
    let instance = if case.instance { INSTANCE } else { "" };
    let text = format!(
        "global_defs {{\n    {}\n    startup_script \"{}\"\n}}\n{instance}",
        case.global, case.line
    );
    let mut loaded = parse("test.conf", text.as_bytes()).unwrap();
    // Wherever a command stands, it is read the same.
    for placed in &mut loaded.places.commands {
        case.purpose.clone_into(&mut placed.purpose);
    }
    said(&loaded, host)
}

fn said(loaded: &Loaded, host: &Made) -> Vec<Said> {
    let findings = check(&loaded.config, &loaded.places, host).into_iter();
    findings
        .map(|finding| {
            let said = finding.diagnostic.message().to_owned();
            (
                finding.diagnostic.code(),
                said,
                finding.keepalived_complains,
            )
        })
        .collect()
}

fn codes(case: &Case<'_>, host: &Made) -> Vec<Code> {
    found(case, host)
        .into_iter()
        .map(|(code, ..)| code)
        .collect()
}

#[test]
fn a_safe_script_is_no_more_than_a_note_that_nothing_keeps_it_so() {
    let host = Made::usual();
    let text = tracking("", "/bin/true");
    assert_eq!(codes(&text, &host), [Code::ScriptSecurity]);
    let text = tracking(SECURED, "/bin/true");
    assert_eq!(codes(&text, &host), []);
    let alone = |purpose| Case {
        purpose,
        instance: false,
        ..tracking("", "/bin/true")
    };
    assert_eq!(codes(&alone("notify"), &host), [], "nothing runs it");
    assert_eq!(codes(&alone("misc_path"), &host), [Code::ScriptSecurity]);
}

#[test]
fn a_missing_program_disables_a_tracked_script() {
    let host = Made::usual();
    let text = tracking("", "/etc/none.sh -x");
    let message = "there is no file '/etc/none.sh' on this host".to_owned();
    assert_eq!(found(&text, &host), [(Code::CommandMissing, message, true)]);
    let text = tracking("", "nginxctl status");
    let message = "there is no program 'nginxctl' in the directories of PATH".to_owned();
    assert_eq!(found(&text, &host), [(Code::CommandMissing, message, true)]);
    let notify = Case {
        purpose: "notify_master",
        ..tracking("", "/etc/none.sh")
    };
    let [(code, _, complains)] = &found(&notify, &host)[..] else {
        panic!("{:?}", found(&notify, &host));
    };
    assert_eq!((*code, *complains), (Code::CommandMissing, false));
}

#[test]
fn a_name_is_looked_up_and_the_path_is_told() {
    let text = tracking(SECURED, "killall -0 nginx");
    let message = "'killall' is /bin/killall here: a name without '/' is looked up in PATH";
    assert_eq!(
        found(&text, &Made::usual()),
        [(Code::CommandLookup, message.to_owned(), false)]
    );
}

#[test]
fn words_of_the_shell_are_run_by_a_shell() {
    let mut host = Made::usual();
    for line in [
        "[[ -f /etc/down ]]",
        "exit 0",
        "if true; then exit 1; fi",
        "A=1 nginx",
    ] {
        let found = found(&tracking("", line), &host);
        let [(Code::ShellSyntax, message, true)] = &found[..] else {
            panic!("{line}: {found:?}");
        };
        assert!(
            message.ends_with("not a program: /bin/bash -c runs it"),
            "{message}"
        );
    }
    host.files.remove(Path::new("/bin/bash"));
    let found = found(&tracking("", "exit 0"), &host);
    assert!(
        found[0].1.ends_with("this host has no /bin/bash to run it"),
        "{found:?}"
    );
}

#[test]
fn operators_of_a_shell_do_nothing_without_one() {
    let host = Made::usual();
    let global = SECURED;
    let text = tracking(global, "/bin/true || exit 1");
    let message = "'||' is handed to '/bin/true' as an argument: commands are run without a shell";
    assert_eq!(
        found(&text, &host),
        [(Code::ShellSyntax, message.to_owned(), false)]
    );
    assert_eq!(
        codes(&tracking(global, "/bin/sh -c 'true || exit 1'"), &host),
        []
    );
}

#[test]
fn what_cannot_be_run_is_told() {
    let mut host = Made::usual();
    host.add("/etc/plain.sh", false, 0o644, 0, 0);
    host.script("/etc/lost.sh", "/no/such/perl -w");
    host.script("/etc/env.sh", "/bin/env python9");
    host.script("/etc/dos.sh", "/bin/sh\r");
    host.script("/etc/good.sh", "/bin/env sh");
    let cases = [
        (
            "/etc/plain.sh",
            Some("'/etc/plain.sh' is not executable: make it so by 'chmod +x'"),
        ),
        ("/etc", Some("'/etc' is a directory, not a program")),
        (
            "/etc/lost.sh",
            Some("'/etc/lost.sh' cannot be run: its interpreter '/no/such/perl' is not there"),
        ),
        (
            "/etc/env.sh",
            Some("'/etc/env.sh' cannot be run: there is no 'python9' in PATH"),
        ),
        (
            "/etc/dos.sh",
            Some(
                "'/etc/dos.sh' cannot be run: its lines end with a carriage return, which becomes part of its interpreter's name; remove them",
            ),
        ),
        ("/etc/good.sh", None),
    ];
    for (path, expected) in cases {
        let found = found(&tracking(SECURED, path), &host);
        let said: Vec<_> = found
            .iter()
            .map(|(code, said, _)| (*code, said.as_str()))
            .collect();
        let expected: Vec<_> = expected
            .map(|said| (Code::CommandNotRunnable, said))
            .into_iter()
            .collect();
        assert_eq!(said, expected);
    }
}

#[test]
fn the_part_of_a_path_that_others_can_write_is_named() {
    let mut host = Made::usual();
    host.add("/open", true, 0o777, 0, 0);
    host.add("/open/a.sh", false, 0o755, 0, 0);
    host.add("/tmp/a.sh", false, 0o755, 0, 0);
    host.add("/etc/group.sh", false, 0o775, 0, 100);
    host.add("/etc/wheel.sh", false, 0o775, 0, 0);
    host.add("/etc/own.sh", false, 0o755, 33, 0);
    host.links.insert("/bin/link".into(), "/etc/own.sh".into());
    let cases = [
        ("/open/a.sh", Some("'/open' can be written by everybody")),
        ("/tmp/a.sh", None),
        (
            "/etc/group.sh",
            Some("'/etc/group.sh' can be written by group 100"),
        ),
        ("/etc/wheel.sh", None),
        ("/etc/own.sh", Some("'/etc/own.sh' belongs to user 33")),
        ("/bin/link", Some("'/etc/own.sh' belongs to user 33")),
    ];
    for (path, part) in cases {
        let found = found(&tracking(SECURED, path), &host);
        let part = part.map(|part| {
            let message = format!("'{path}' runs as root and others can change it: {part}");
            (Code::CommandUnsafe, message, true)
        });
        assert_eq!(found, Vec::from_iter(part), "{path}");
    }
    let open = found(&tracking("", "/open/a.sh"), &host);
    let codes: Vec<_> = open
        .iter()
        .map(|(code, _, complains)| (*code, *complains))
        .collect();
    assert_eq!(
        codes,
        [(Code::CommandUnsafe, false), (Code::ScriptSecurity, false)]
    );
    let other = found(
        &tracking(
            "enable_script_security\n    script_user nobody",
            "/open/a.sh",
        ),
        &host,
    );
    assert_eq!(other, [], "it does not run as root");
    host.users.push("keepalived_script");
    let nobody_named = tracking("enable_script_security", "/open/a.sh");
    assert_eq!(found(&nobody_named, &host), [], "nor does this");
}

#[test]
fn a_user_that_does_not_exist_is_told_once_per_command() {
    let found = found(&tracking("script_user nginx", "/bin/true"), &Made::usual());
    let message = "this host has no user 'nginx', who is to run this command";
    assert_eq!(found, [(Code::NoSuchUser, message.to_owned(), true)]);
}

#[test]
fn somebody_must_be_named_where_security_is_asked_for() {
    let mut host = Made::usual();
    let text = tracking("enable_script_security", "/bin/true");
    let [(Code::NoSuchUser, message, true)] = &found(&text, &host)[..] else {
        panic!("{:?}", found(&text, &host));
    };
    assert!(
        message.contains("user 'keepalived_script', whom this host does not have"),
        "{message}"
    );
    host.users.push("keepalived_script");
    assert_eq!(found(&text, &host), []);
}

#[test]
fn interfaces_that_the_host_lacks_are_told_once() {
    let mut host = Made::usual();
    let said = |device: &str, host: &Made| {
        let text = INSTANCE.replace("10.0.0.1/32", &format!("10.0.0.1/32 dev {device}"));
        said(&parse("test.conf", text.as_bytes()).unwrap(), host)
    };
    let message = "this host has no interface 'eth7', which virtual_ipaddress 10.0.0.1 asks for";
    assert_eq!(
        said("eth7", &host),
        [(Code::NoSuchInterface, message.to_owned(), true)]
    );
    host.interfaces.clear();
    let message = "this host has no interface 'eth0', which vrrp_instance A asks for";
    assert_eq!(
        said("eth0", &host),
        [(Code::NoSuchInterface, message.to_owned(), true)]
    );
}

#[test]
fn the_program_must_be_able_to_work_where_it_goes() {
    const SERVICE: &str = "virtual_server 10.0.0.1 80 {\nlb_algo rr\nlb_kind DR\nprotocol TCP\n\
                           real_server 10.0.0.2 80 {\n}\n}\n";
    let mut host = Made::usual();
    let useless = Ground::Useless("nothing comes in".to_owned());
    let said = |host: &Made, text: &str| {
        let loaded = parse("test.conf", text.as_bytes()).unwrap();
        let found = grounds(&loaded.config, &loaded.places, host).into_iter();
        let said = |finding: Finding| {
            assert!(!finding.keepalived_complains);
            (finding.diagnostic.severity(), finding.diagnostic.code())
        };
        found.map(said).collect::<Vec<_>>()
    };
    let both = format!("{INSTANCE}{SERVICE}");
    assert_eq!(said(&host, &both), []);
    host.grounds.insert("eth0", useless);
    let error = (Severity::Error, Code::UselessInterface);
    assert_eq!(said(&host, &both), [error]);
    assert_eq!(said(&host, INSTANCE), [], "there is nothing to balance");
    let elsewhere = format!("{both}xdp_lb {{\ninterface eth1\n}}\n");
    assert_eq!(said(&host, &elsewhere), []);
    let named = format!("{INSTANCE}xdp_lb {{\ninterface eth0\n}}\n");
    assert_eq!(said(&host, &named), [error]);

    let slow = Ground::OnlyGeneric("a bridge".to_owned());
    host.grounds.insert("eth0", slow);
    assert_eq!(said(&host, &both), [(Severity::Note, Code::OnlyGeneric)]);
    let mode = |mode: &str| format!("{both}xdp_lb {{\nxdp_mode {mode}\n}}\n");
    assert_eq!(said(&host, &mode("generic")), []);
    assert_eq!(said(&host, &mode("native")), [error]);
}

#[test]
fn certificates_are_looked_at_if_a_check_needs_them() {
    let file = |checker: &str| {
        format!(
            "virtual_server 10.0.0.1 443 {{\nlb_algo rr\nlb_kind DR\nprotocol TCP\n\
             real_server 10.0.0.2 443 {{\n{checker} {{\nurl {{\npath /\n}}\n}}\n}}\n}}\n"
        )
    };
    let host = Made {
        certificates: Some("cannot read /etc/a.pem: gone"),
        ..Made::usual()
    };
    let codes = |text: &str| {
        let loaded = parse("test.conf", text.as_bytes()).unwrap();
        let found = check(&loaded.config, &loaded.places, &host).into_iter();
        let message = |finding: Finding| finding.diagnostic.message().to_owned();
        found.map(message).collect::<Vec<_>>()
    };
    assert_eq!(codes(&file("HTTP_GET")), Vec::<String>::new());
    let found = codes(&file("SSL_GET"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("cannot read /etc/a.pem: gone"),
        "{found:?}"
    );
}
