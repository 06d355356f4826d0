use std::fs;

use clap::Parser;
use serde_json::{Value, json};

use super::report::Stream;
use super::*;
use crate::cli::args::{Args, Command};

/// The verb, as typed.
fn args(words: &[&str]) -> CheckArgs {
    let line = ["xdp-lb", "check"].iter().chain(words);
    match Args::try_parse_from(line).unwrap().command {
        Command::Check(args) => args,
        other => panic!("{other:?}"),
    }
}

/// What is printed for the files, whose names are `0.conf` and so on: stdout, stderr, whether usable.
fn check(texts: &[&str], words: &[&str]) -> (String, String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut args = args(words);
    args.files = (0..texts.len())
        .map(|n| folder.path().join(format!("{n}.conf")))
        .collect();
    for (file, text) in args.files.iter().zip(texts) {
        fs::write(file, text).unwrap();
    }
    checked(&args, &format!("{}/", folder.path().display()))
}

fn checked(args: &CheckArgs, folder: &str) -> (String, String, bool) {
    let report = report(args, false, None);
    let of = |wanted: Stream| {
        let parts = report.parts.iter().filter(|(stream, _)| *stream == wanted);
        parts
            .map(|(_, text)| text.replace(folder, ""))
            .collect::<String>()
    };
    (of(Stream::Out), of(Stream::Err), report.usable)
}

const CLEAN: &str = "global_defs {\n    router_id web\n}\n";
const WARNED: &str = "global_defs {\n    routerid web\n}\n";
const WRONG: &str = "virtual_server 10.0.0.1 80\n";
const NOTHING: &str = "(0 VRRP instances, 0 virtual servers, 0 real servers)";

#[test]
fn the_summary_says_whether_the_file_can_be_used() {
    let deny: &[&str] = &["--deny-warnings"];
    let cases = [
        (
            CLEAN,
            &[][..],
            true,
            format!("can be used {NOTHING}: no problems"),
        ),
        (
            WARNED,
            &[],
            true,
            format!("can be used {NOTHING}: 1 warning"),
        ),
        (
            WARNED,
            deny,
            false,
            "cannot be used: 1 warning (warnings are denied)".to_owned(),
        ),
        (WRONG, &[], false, "cannot be used: 1 error".to_owned()),
    ];
    for (text, words, usable, summary) in cases {
        let (stdout, stderr, is_usable) = check(&[text], words);
        assert_eq!(is_usable, usable, "{text}");
        assert_eq!(stdout, format!("0.conf: {summary}\n"));
        assert_eq!(stderr.is_empty(), text == CLEAN, "{text}");
    }
}

#[test]
fn several_files_are_one_line_each_and_one_for_all() {
    let (stdout, stderr, usable) = check(&[CLEAN, WRONG, WARNED], &[]);
    assert!(!usable);
    assert_eq!(
        stdout,
        format!(
            "0.conf: can be used {NOTHING}: no problems\n1.conf: cannot be used: 1 error\n2.conf: can \
             be used {NOTHING}: 1 warning\n3 files: cannot be used: 1 error, 1 warning\n"
        )
    );
    assert!(
        stderr.contains("--> 1.conf:") && stderr.contains("--> 2.conf:"),
        "{stderr}"
    );
}

/// The files of two directors, whose priorities are equal.
fn cluster() -> [String; 2] {
    ["MASTER", "BACKUP"].map(|state| {
        format!(
            "vrrp_instance VI_1 {{\n    state {state}\n    interface eth0\n    virtual_router_id 51\n    \
             priority 100\n    virtual_ipaddress {{\n        10.0.0.100/24\n    }}\n}}\n"
        )
    })
}

#[test]
fn two_directors_are_compared() {
    let [a, b] = cluster();
    let (stdout, stderr, usable) = check(&[&a, &b], &[]);
    assert!(usable);
    assert!(stderr.contains("warning[priority-tie]"), "{stderr}");
    assert!(stderr.contains("the same as in 0.conf:"), "{stderr}");
    let last = stdout.lines().last().unwrap();
    assert!(
        last.starts_with("2 files: can be used: 1 warning"),
        "{stdout}"
    );
    assert!(!check(&[&a, &b], &["--deny-warnings"]).2);
    let (json, ..) = check(&[&a, &b], &["--format", "json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["warnings"], 1);
    let items = json["diagnostics"].as_array().unwrap();
    let tie = items
        .iter()
        .find(|item| item["code"] == "priority-tie")
        .unwrap();
    assert_eq!(tie["file"], "1.conf");
}

#[test]
fn json_places_every_diagnostic() {
    let (stdout, stderr, usable) = check(&[WARNED], &["--format", "json"]);
    assert!(usable);
    assert_eq!(stderr, "");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    let counts = json!({"usable": true, "errors": 0, "warnings": 1, "notes": 0});
    for (key, value) in counts.as_object().unwrap() {
        assert_eq!(&json[key], value, "{key}");
        assert_eq!(&json["files"][0][key], value, "{key}");
    }
    assert_eq!(json["files"][0]["file"], "0.conf");
    let item = &json["diagnostics"][0];
    let expected = json!({
        "file": "0.conf", "line": 2, "column": 5, "end_line": 2, "end_column": 13,
        "severity": "warning",
        "code": "unknown-keyword",
        "message": "unknown keyword 'routerid'; did you mean 'router_id'?",
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&item[key], value, "{key}");
    }
    assert_eq!(item["suggestion"]["replacement"], "router_id");
    assert_eq!(item["labels"][0]["text"], "ignored, as keepalived does");
}

#[test]
fn an_unreadable_file_is_one_line_or_one_diagnostic() {
    let mut args = args(&["-f", "/nonexistent/keepalived.conf"]);
    let (stdout, stderr, usable) = checked(&args, "\0");
    assert!(!usable);
    assert_eq!(stdout, "");
    assert_eq!(
        stderr,
        "error: no configuration file /nonexistent/keepalived.conf: create it, or name another one with -f FILE\n"
    );
    args.format = Format::Json;
    let (stdout, _, usable) = checked(&args, "\0");
    assert!(!usable);
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["diagnostics"][0]["code"], "file-missing");
    assert_eq!(
        json["diagnostics"][0]["file"],
        "/nonexistent/keepalived.conf"
    );
    assert_eq!(
        (&json["usable"], &json["errors"]),
        (&json!(false), &json!(1))
    );
}

#[test]
fn what_is_printed_as_effective_means_the_same_and_stands_alone_on_stdout() {
    let (printed, stderr, usable) = check(&[WARNED], &["--print-effective"]);
    assert!(usable);
    assert!(
        stderr.contains("unknown-keyword") && stderr.contains("can be used"),
        "{stderr}"
    );
    let (again, ..) = check(&[&printed], &["--print-effective"]);
    assert_eq!(again, printed);
    for (text, words) in [
        (WRONG, &["--print-effective"][..]),
        (WARNED, &["--print-effective", "--deny-warnings"]),
    ] {
        let (stdout, stderr, usable) = check(&[text], words);
        assert_eq!((stdout.as_str(), usable), ("", false));
        assert!(stderr.contains("cannot be used"), "{stderr}");
    }
}

#[test]
fn options_that_cannot_go_together_are_refused() {
    let wrong = [
        &["--print-effective", "-f", "a", "-f", "b"][..],
        &["-f", "-", "-f", "-"],
    ];
    for words in wrong {
        assert!(usage(&args(words)).is_err(), "{words:?}");
    }
    assert!(usage(&args(&["-f", "-", "-f", "b"])).is_ok());
    for words in [
        &["--print-effective", "--format", "json"][..],
        &["--explain", "x", "-f", "a"],
    ] {
        let line = ["xdp-lb", "check"].iter().chain(words);
        assert!(Args::try_parse_from(line).is_err(), "{words:?}");
    }
    assert_eq!(args(&["--explain"]).explain, Some(None));
}
