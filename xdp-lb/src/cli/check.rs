//! `xdp-lb check`: whether a configuration can be used, and all there is to say about it.
//!
//! Messages go to stderr the way rustc writes them, a one-line summary to stdout; or all of it as
//! JSON to stdout. Exit status 0 if the configuration can be used, 1 if not.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::config::model::Config;
use crate::config::{self, Diagnostics, LoadError, Loaded, ReadError, Severity};

/// Checks a configuration without running it.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// The configuration
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "/etc/keepalived/keepalived.conf"
    )]
    pub file: PathBuf,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Fail on warnings too
    #[arg(long)]
    pub deny_warnings: bool,
}

/// How `check` prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// Runs the verb.
pub fn run(args: &CheckArgs) -> ExitCode {
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let report = report(args, color);
    // Nobody is left to tell when these are closed.
    let told = io::stderr().write_all(report.stderr.as_bytes());
    let told = told.and_then(|()| io::stdout().write_all(report.stdout.as_bytes()));
    if report.usable && told.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What `check` has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Report {
    stdout: String,
    stderr: String,
    /// Whether it exits with success.
    usable: bool,
}

fn report(args: &CheckArgs, color: bool) -> Report {
    match config::load(&args.file) {
        Ok(Loaded {
            config,
            diagnostics,
            ..
        }) => {
            let denied = args.deny_warnings && diagnostics.count(Severity::Warning) > 0;
            outcome(args, &diagnostics, Some(&config).filter(|_| !denied), color)
        }
        Err(LoadError::Invalid { diagnostics, .. }) => outcome(args, &diagnostics, None, color),
        Err(LoadError::Read(error)) => unreadable(args, &error),
    }
}

/// `config` is there if the configuration can be used.
fn outcome(
    args: &CheckArgs,
    diagnostics: &Diagnostics,
    config: Option<&Config>,
    color: bool,
) -> Report {
    let usable = config.is_some();
    if args.format == Format::Json {
        return json_report(
            args,
            usable,
            diagnostics.count(Severity::Error),
            diagnostics.count(Severity::Warning),
            &diagnostics.to_json(),
        );
    }
    let verdict = config.map_or_else(
        || "cannot be used".to_owned(),
        |config| format!("can be used ({})", contents(config)),
    );
    let denied = if !usable && !diagnostics.has_errors() {
        " (warnings are denied)"
    } else {
        ""
    };
    let found = config::count(diagnostics);
    Report {
        stdout: format!("{}: {verdict}: {found}{denied}\n", args.file.display()),
        stderr: diagnostics.render(color),
        usable,
    }
}

fn unreadable(args: &CheckArgs, error: &ReadError) -> Report {
    if args.format == Format::Text {
        return Report {
            stdout: String::new(),
            stderr: format!("error: {error}\n"),
            usable: false,
        };
    }
    let item = json!({
        "severity": Severity::Error.name(),
        "code": error.code(),
        "message": error.to_string(),
        "file": args.file.display().to_string(),
        "line": null, "column": null, "end_line": null, "end_column": null,
        "labels": [], "notes": [], "help": null, "suggestion": null,
    });
    json_report(args, false, 1, 0, &json!([item]))
}

fn json_report(
    args: &CheckArgs,
    usable: bool,
    errors: usize,
    warnings: usize,
    diagnostics: &Value,
) -> Report {
    let report = json!({
        "file": args.file.display().to_string(),
        "usable": usable,
        "errors": errors,
        "warnings": warnings,
        "diagnostics": diagnostics,
    });
    Report {
        stdout: format!("{report:#}\n"),
        stderr: String::new(),
        usable,
    }
}

/// `1 VRRP instance, 1 virtual server, 2 real servers`.
fn contents(config: &Config) -> String {
    let some = |count: usize, what: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    };
    let real_servers = config
        .virtual_servers
        .iter()
        .map(|service| service.real_servers.len())
        .sum();
    [
        some(config.vrrp_instances.len(), "VRRP instance"),
        some(config.virtual_servers.len(), "virtual server"),
        some(real_servers, "real server"),
    ]
    .join(", ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn check(text: &str, format: Format, deny_warnings: bool) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("test.conf");
        std::fs::write(&file, text).unwrap();
        checked(&file, format, deny_warnings)
    }

    fn checked(file: &Path, format: Format, deny_warnings: bool) -> Report {
        let args = CheckArgs {
            file: file.to_path_buf(),
            format,
            deny_warnings,
        };
        report(&args, false)
    }

    const CLEAN: &str = "global_defs {\n    router_id web\n}\n";
    const WARNED: &str = "global_defs {\n    routerid web\n}\n";
    const WRONG: &str = "virtual_server 10.0.0.1 80\n";

    #[test]
    fn the_summary_says_whether_the_file_can_be_used() {
        let cases = [
            (
                CLEAN,
                false,
                true,
                "can be used (0 VRRP instances, 0 virtual servers, 0 real servers): no problems\n",
            ),
            (
                WARNED,
                false,
                true,
                "can be used (0 VRRP instances, 0 virtual servers, 0 real servers): 1 warning\n",
            ),
            (
                WARNED,
                true,
                false,
                "cannot be used: 1 warning (warnings are denied)\n",
            ),
            (WRONG, false, false, "cannot be used: 1 error\n"),
        ];
        for (text, deny_warnings, usable, summary) in cases {
            let report = check(text, Format::Text, deny_warnings);
            assert_eq!(report.usable, usable, "{text}");
            let said = report.stdout.split_once(": ").map(|(_, said)| said);
            assert_eq!(said, Some(summary), "{text}");
            assert_eq!(report.stderr.is_empty(), text == CLEAN, "{text}");
        }
    }

    #[test]
    fn json_places_every_diagnostic() {
        let report = check(WARNED, Format::Json, false);
        assert_eq!(report.stderr, "");
        let json: Value = serde_json::from_str(&report.stdout).unwrap();
        assert_eq!(json["usable"], true);
        assert_eq!((&json["errors"], &json["warnings"]), (&json!(0), &json!(1)));
        let item = &json["diagnostics"][0];
        let file = json["file"].clone();
        let place = |column: usize, end_column: usize| json!({"file": file, "line": 2, "column": column, "end_line": 2, "end_column": end_column});
        for (key, value) in place(5, 13).as_object().unwrap() {
            assert_eq!(&item[key], value, "{key}");
        }
        assert_eq!(item["severity"], "warning");
        assert_eq!(item["code"], "unknown-keyword");
        assert_eq!(
            item["message"],
            "unknown keyword 'routerid'; did you mean 'router_id'?"
        );
        assert_eq!(item["suggestion"]["replacement"], "router_id");
        assert_eq!(item["labels"][0]["text"], "ignored, as keepalived does");
    }

    #[test]
    fn an_unreadable_file_is_one_line_or_one_diagnostic() {
        let missing = Path::new("/nonexistent/keepalived.conf");
        let text = checked(missing, Format::Text, false);
        assert!(!text.usable);
        assert_eq!(text.stdout, "");
        assert_eq!(
            text.stderr,
            "error: no configuration file /nonexistent/keepalived.conf: create it, or name another one with -f FILE\n"
        );
        let json = checked(missing, Format::Json, false);
        assert!(!json.usable);
        let json: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!(json["diagnostics"][0]["code"], "file-missing");
        assert_eq!(json["usable"], false);
    }
}
