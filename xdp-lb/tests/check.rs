//! `xdp-lb check` as people and scripts call it: the real program, its streams and exit codes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Stdout, stderr, exit code.
type Outcome = (String, String, Option<i32>);

fn run(arguments: &[&str], stdin: &str) -> Outcome {
    let mut child = Command::new(env!("CARGO_BIN_EXE_xdp-lb"))
        .arg("check")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read its input may be gone before it is written.
    drop(child.stdin.take().unwrap().write_all(stdin.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        text(output.stdout),
        text(output.stderr),
        output.status.code(),
    )
}

fn seed(name: &str) -> String {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/config/seeds");
    folder.join(name).display().to_string()
}

#[test]
fn standard_input_is_read_and_named() {
    let (stdout, stderr, code) = run(&["-f", "-"], "global_defs {\n    routerid web\n}\n");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains(" --> <stdin>:2:5"), "{stderr}");
    assert!(stdout.starts_with("<stdin>: can be used ("), "{stdout}");
    assert!(
        !stderr.contains('\u{1b}'),
        "no colours where nobody looks: {stderr}"
    );
    let (_, stderr, code) = run(&["-f", "-"], "a\0b");
    assert_eq!(code, Some(1));
    assert!(
        stderr.starts_with("error: <stdin> is not a text file"),
        "{stderr}"
    );
}

#[test]
fn exit_codes_tell_use_from_mistake() {
    let warned = "global_defs {\n    routerid web\n}\n";
    let cases: [(&[&str], &str, i32); 7] = [
        (&["-f", "-"], "", 0),
        (&["-f", "-"], "virtual_server 10.0.0.1 80\n", 1),
        (&["-f", "-", "--deny-warnings"], warned, 1),
        (&["-f", "/nonexistent/a.conf"], "", 1),
        (&["--explain", "unknown-keyword"], "", 0),
        (&["--explain", "no-such-code"], "", 2),
        (&["--format", "yaml"], "", 2),
    ];
    for (arguments, stdin, expected) in cases {
        let (stdout, stderr, code) = run(arguments, stdin);
        assert_eq!(code, Some(expected), "{arguments:?}: {stdout}{stderr}");
    }
}

#[test]
fn data_is_all_that_stdout_gets() {
    let file = seed("001.conf");
    let (printed, stderr, code) = run(&["--print-effective", "--no-host", "-f", &file], "");
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("warning[renamed-keyword]"), "{stderr}");
    let (again, stderr, code) = run(&["--print-effective", "--no-host", "-f", "-"], &printed);
    assert_eq!(
        (again.as_str(), code),
        (printed.as_str(), Some(0)),
        "{stderr}"
    );
    let (stdout, stderr, _) = run(&["--format", "json", "-f", &file], "");
    assert_eq!(stderr, "");
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["usable"], true);
    assert_eq!(json["files"][0]["file"], file.as_str());
}

#[test]
fn a_host_is_looked_at_unless_the_file_is_for_another() {
    let text = "vrrp_instance A {\n    interface nosuchif0\n    virtual_router_id 51\n    \
                virtual_ipaddress {\n        10.0.0.1/32\n    }\n}\n";
    let (_, stderr, code) = run(&["-f", "-"], text);
    assert!(stderr.contains("warning[no-such-interface]"), "{stderr}");
    assert_eq!(code, Some(0));
    let (_, stderr, _) = run(&["-f", "-", "--no-host"], text);
    assert!(!stderr.contains("no-such-interface"), "{stderr}");
}

#[test]
fn the_two_files_of_a_cluster_are_compared() {
    let (stdout, stderr, code) = run(
        &[
            "--no-host",
            "-f",
            &seed("003-master.conf"),
            "-f",
            &seed("003-backup.conf"),
        ],
        "",
    );
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(
        !stderr.contains("peers-differ") && !stderr.contains("priority-tie"),
        "{stderr}"
    );
}
