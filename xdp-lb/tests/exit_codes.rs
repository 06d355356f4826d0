//! `keepalived -t`: our exit codes beside those of the real keepalived, on users' files and small ones.
//!
//! Both run in a network namespace whose only interface is eth0. Needs root and an installed keepalived.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and a skipped test says so"
)]

#[expect(dead_code, reason = "other tests use more of it")]
mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{Namespace, can_run};

/// A file of which the real one makes what we make, or not.
struct Case {
    name: &'static str,
    text: &'static str,
    theirs: i32,
    /// Ours, where it is another one, and why.
    ours: Ours,
}

const fn same(name: &'static str, text: &'static str, code: i32) -> Case {
    Case {
        name,
        text,
        theirs: code,
        ours: None,
    }
}

const fn differs(
    name: &'static str,
    text: &'static str,
    theirs: i32,
    ours: i32,
    why: &'static str,
) -> Case {
    Case {
        name,
        text,
        theirs,
        ours: Some((ours, why)),
    }
}

/// A fine instance, as the beginning of files.
macro_rules! instance {
    ($more:literal) => {
        concat!(
            "vrrp_instance A {\n    state BACKUP\n    interface eth0\n    virtual_router_id 51\n    ",
            "priority 100\n    virtual_ipaddress {\n        10.0.0.1/32\n    }\n",
            $more,
            "}\n"
        )
    };
}

/// A fine service, with a weight.
macro_rules! service {
    ($head:literal, $server:literal) => {
        concat!(
            "virtual_server ",
            $head,
            " {\n    lb_algo rr\n    lb_kind DR\n    protocol TCP\n    real_server ",
            $server,
            "\n        TCP_CHECK {\n            connect_timeout 3\n        }\n    }\n}\n"
        )
    };
}

const CASES: &[Case] = &[
    same("empty", "", 0),
    same("instance", instance!(""), 0),
    same("service", service!("10.0.0.1 80", "10.0.0.2 80 {"), 0),
    same("unknown keyword", "bogus 1\n", 5),
    same(
        "unknown block",
        instance!("    bogus {\n        a\n    }\n"),
        5,
    ),
    same("missing value", "vrrp_instance A {\n    priority\n}\n", 2),
    same(
        "missing brace",
        "vrrp_instance A {\n    interface eth0\n    virtual_router_id 51\n    virtual_ipaddress {\n        10.0.0.1/32\n    }\n",
        5,
    ),
    same("bad priority", instance!("    priority 300\n"), 5),
    same(
        "bad weight",
        service!("10.0.0.1 80", "10.0.0.2 80 {\n        weight x"),
        5,
    ),
    same("bad address", service!("10.0.0.300 80", "10.0.0.2 80 {"), 5),
    same("another port", service!("10.0.0.1 80", "10.0.0.2 81 {"), 5),
    same(
        "authentication on one line",
        instance!("    authentication { auth_type PASS auth_pass 1111 }\n"),
        5,
    ),
    same("defined twice", concat!(instance!(""), instance!("")), 5),
    same(
        "no such interface",
        "vrrp_instance A {\n    interface nope0\n    virtual_router_id 51\n    virtual_ipaddress {\n        10.0.0.1/32\n    }\n}\n",
        5,
    ),
    same(
        "no such device of a VIP",
        "vrrp_instance A {\n    interface eth0\n    virtual_router_id 51\n    virtual_ipaddress {\n        10.0.0.1/32 dev nope0\n    }\n}\n",
        5,
    ),
    same(
        "interfaces that may come",
        concat!(
            "global_defs {\n    dynamic_interfaces\n}\n",
            "vrrp_instance A {\n    interface nope0\n    virtual_router_id 51\n    virtual_ipaddress {\n        10.0.0.1/32\n    }\n}\n"
        ),
        0,
    ),
    same(
        "command",
        concat!(
            "global_defs {\n    startup_script /bin/true\n}\n",
            instance!("")
        ),
        6,
    ),
    same(
        "command and a mistake",
        concat!(
            "global_defs {\n    startup_script /bin/true\n    bogus\n}\n",
            instance!("")
        ),
        6,
    ),
    same(
        "missing command",
        concat!(
            "global_defs {\n    startup_script /no/such\n}\n",
            instance!("")
        ),
        0,
    ),
    same(
        "secured command",
        concat!(
            "global_defs {\n    enable_script_security\n    script_user root\n    startup_script /bin/true\n}\n",
            instance!("")
        ),
        0,
    ),
    same(
        "script of nobody",
        "vrrp_script chk {\n    script /bin/true\n    interval 2\n}\n",
        0,
    ),
    same(
        "script",
        concat!(
            "vrrp_script chk {\n    script /bin/true\n    interval 2\n}\n",
            instance!("    track_script {\n        chk\n    }\n")
        ),
        6,
    ),
    same(
        "missing script",
        concat!(
            "vrrp_script chk {\n    script /no/such\n    interval 2\n}\n",
            instance!("    track_script {\n        chk\n    }\n")
        ),
        5,
    ),
    differs(
        "same VRID",
        concat!(
            instance!(""),
            "vrrp_instance B {\n    interface eth0\n    virtual_router_id 51\n    virtual_ipaddress {\n        10.0.0.2/32\n    }\n}\n"
        ),
        5,
        4,
        "keepalived starts with a conflict; two instances would take each other for the peer",
    ),
    differs("NUL", "a\0b\n", 5, 4, "no configuration holds a NUL byte"),
];

/// Our exit code where it is another than keepalived's, and why.
type Ours = Option<(i32, &'static str)>;

/// The seeds, and what keepalived makes of each.
const SEEDS: &[(&str, i32, Ours)] = &[
    ("000.conf", 5, None),
    ("001.conf", 5, None),
    ("003-master.conf", 6, None),
    ("003-backup.conf", 6, None),
    ("004-master.conf", 5, None),
    ("004-backup.conf", 5, None),
];

/// What runs both.
struct Bench {
    namespace: Namespace,
    folder: tempfile::TempDir,
}

impl Bench {
    /// `None` where this cannot run.
    fn new() -> Option<Self> {
        if !can_run() {
            return None;
        }
        if Command::new("keepalived").arg("-v").output().is_err() {
            assert!(
                std::env::var_os("CI").is_none(),
                "this test needs keepalived"
            );
            eprintln!("SKIPPED: this test needs keepalived");
            return None;
        }
        let namespace = Namespace::new("codes");
        namespace.ip("link add eth0 type veth peer name peer0");
        namespace.ip("address add 10.0.0.9/24 dev eth0");
        namespace.ip("link set eth0 up");
        let folder = tempfile::tempdir().unwrap();
        // keepalived minds who can write where its scripts are.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        symlink(
            env!("CARGO_BIN_EXE_xdp-lb"),
            folder.path().join("keepalived"),
        )
        .unwrap();
        Some(Self { namespace, folder })
    }

    /// Ours, called by keepalived's name.
    fn ours(&self) -> PathBuf {
        self.folder.path().join("keepalived")
    }

    fn run(&self, program: &Path, arguments: &[&str]) -> Output {
        self.namespace.enter(|| {
            let mut command = Command::new(program);
            command.args(arguments).output().unwrap()
        })
    }

    /// Asks both for a file: what is other than it should be.
    fn judge(&self, name: &str, file: &Path, theirs: i32, ours: Ours) -> Vec<String> {
        let arguments = ["-t", "-f", file.to_str().unwrap()];
        let expected = ours.map_or(theirs, |(code, _)| code);
        let real = PathBuf::from("keepalived");
        [
            ("keepalived", real, theirs),
            ("xdp-lb", self.ours(), expected),
        ]
        .into_iter()
        .filter_map(|(who, program, expected)| {
            let output = self.run(&program, &arguments);
            let said = String::from_utf8_lossy(&output.stderr);
            let code = output.status.code();
            let why = ours.map_or("", |(_, why)| why);
            (code != Some(expected)).then(|| {
                format!("{name}: {who} exits with {code:?}, not {expected} ({why})\n{said}")
            })
        })
        .collect()
    }
}

#[test]
fn exit_codes_are_those_of_keepalived() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let mut wrong = Vec::new();
    for case in CASES {
        let file = bench.folder.path().join("test.conf");
        fs::write(&file, case.text).unwrap();
        wrong.extend(bench.judge(case.name, &file, case.theirs, case.ours));
    }
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/config/seeds");
    for (name, theirs, ours) in SEEDS {
        // The interfaces of the seeds are the one that is there.
        let text = fs::read_to_string(seeds.join(name)).unwrap();
        let text = ["eno16777736", "ens33", "em1"]
            .into_iter()
            .fold(text, |text, interface| text.replace(interface, "eth0"));
        let file = bench.folder.path().join(name);
        fs::write(&file, text).unwrap();
        wrong.extend(bench.judge(name, &file, *theirs, *ours));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn numbers_of_signals_are_those_of_keepalived() {
    let Some(bench) = Bench::new() else {
        return;
    };
    for name in [
        "RELOAD",
        "STOP",
        "DATA",
        "STATS",
        "STATS_CLEAR",
        "JSON",
        "HUP",
        "1",
    ] {
        let argument = format!("--signum={name}");
        let [theirs, ours] = [PathBuf::from("keepalived"), bench.ours()]
            .map(|program| bench.run(&program, &[&argument]));
        assert_eq!(ours.stdout, theirs.stdout, "{name}");
        assert_eq!(ours.status.code(), theirs.status.code(), "{name}");
    }
}

#[test]
fn messages_of_a_test_go_to_the_end_of_a_file_of_their_own() {
    let Some(bench) = Bench::new() else {
        return;
    };
    let file = bench.folder.path().join("test.conf");
    fs::write(&file, "bogus 1\n").unwrap();
    let log = bench.folder.path().join("test.log");
    let attached = format!("-t{}", log.display());
    let arguments = [attached.as_str(), "-f", file.to_str().unwrap()];
    for times in 1..=2 {
        let output = bench.run(&bench.ours(), &arguments);
        assert_eq!(output.status.code(), Some(5));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        let said = fs::read_to_string(&log).unwrap();
        assert_eq!(
            said.matches("unknown keyword 'bogus'").count(),
            times,
            "{said}"
        );
    }
    let mode = fs::metadata(&log).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
