//! What a large configuration costs: 10,000 virtual servers with ten real servers each, stage by
//! stage, as it should be and with mistakes.
//!
//! `cargo xtask bench config [--json FILE]`. All cases take turns in every round; compare rows of one
//! run only. Memory is what the process held at most, so a case runs once alone, in a process of its
//! own, before the rounds.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench prints its table and how far it is"
)]

#[expect(dead_code, reason = "nothing is subtracted here")]
#[path = "datapath/report.rs"]
mod report;

use std::fmt::Write as _;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use report::{Row, Table};
use xdp_lb::config::{self, Stage};

/// Rounds; each runs every case once.
const ROUNDS: usize = 5;
const VIRTUAL_SERVERS: usize = 10_000;
const REAL_SERVERS: usize = 10;

/// The stages and their names in the table.
const STAGES: [(Stage, &str); 5] = [
    (Stage::Source, "source"),
    (Stage::Tokens, "tokens"),
    (Stage::Parser, "parser"),
    (Stage::Lower, "lower"),
    (Stage::Diagnostics, "diagnostics"),
];

/// A file to read.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    make: fn() -> String,
}

const CASES: [Case; 8] = [
    Case {
        name: "sound",
        make: sound,
    },
    Case {
        name: "a brace missing in the middle",
        make: brace_missing,
    },
    Case {
        name: "an unknown keyword in each",
        make: unknown_keywords,
    },
    Case {
        name: "no configuration at all",
        make: || "}{".repeat(5_000_000),
    },
    Case {
        name: "long lines of blocks",
        make: || long_lines("global_defs{router_id a}vrrp_script s{weight 1}"),
    },
    Case {
        name: "long lines of unknown blocks",
        make: || long_lines("gobal_defs{x}"),
    },
    Case {
        name: "long lines of quotes",
        make: || long_lines("\"\""),
    },
    Case {
        name: "long lines of misplaced braces",
        make: || long_lines("vrrp_instance a{priority 1}}virtual_server{"),
    },
];

/// As many lines as a file can have that are as long as a line can be.
fn long_lines(piece: &str) -> String {
    let line = piece.repeat((64 << 10) / piece.len()) + "\n";
    line.repeat(160)
}

fn main() -> Result<()> {
    let mut json = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--bench" => {}
            "--json" => json = Some(arguments.next().context("--json wants a file")?),
            "--memory-of" => return print_memory(&arguments.next().context("of which case?")?),
            other => bail!("unknown argument `{other}`"),
        }
    }
    let mut table = Table::new("config");
    for case in CASES {
        table.rows.extend(memory(case)?);
    }
    table.rows.extend(times());
    print!("{}", table.text());
    if let Some(file) = json {
        let text = serde_json::to_string_pretty(&table)?;
        std::fs::write(&file, text + "\n").with_context(|| file.clone())?;
    }
    Ok(())
}

/// Milliseconds of each stage of each case.
fn times() -> Vec<Row> {
    let files: Vec<(Case, String)> = CASES.map(|case| (case, (case.make)())).into();
    let mut samples = vec![vec![Vec::new(); STAGES.len() + 1]; CASES.len()];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for ((_, text), samples) in files.iter().zip(&mut samples) {
            let start = Instant::now();
            let mut last = start;
            let mut stages = samples.iter_mut();
            let read = config::parse_in_stages(
                "bench.conf",
                text.as_bytes(),
                &config::Options::default(),
                |_| {
                    let now = Instant::now();
                    if let Some(samples) = stages.next() {
                        samples.push((now - last).as_secs_f64() * 1e3);
                    }
                    last = now;
                },
            );
            if let Some(samples) = stages.next() {
                samples.push(start.elapsed().as_secs_f64() * 1e3);
            }
            drop(black_box(read));
        }
    }
    let names = || STAGES.iter().map(|(_, name)| *name).chain(["in all"]);
    let rows = files.iter().zip(&samples).flat_map(|((case, _), samples)| {
        let stages = names().zip(samples);
        stages.map(|(stage, samples)| Row::plain(&format!("{}: {stage}", case.name), "ms", samples))
    });
    rows.collect()
}

/// What the process held at most, after the parser and at the end.
fn memory(case: Case) -> Result<Vec<Row>> {
    let this = std::env::current_exe().context("where is this program?")?;
    let output = Command::new(this)
        .args(["--memory-of", case.name])
        .output()
        .context("this program does not run again")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut figures = text.split_whitespace().map(str::parse::<f64>);
    let mut row = |what: &str| -> Result<Row> {
        let figure = figures.next().context("no figure")??;
        Ok(Row::plain(
            &format!("{}: peak {what}", case.name),
            "MB",
            &[figure],
        ))
    };
    Ok(vec![row("to the tree")?, row("in all")?])
}

/// The other end of [`memory`].
fn print_memory(name: &str) -> Result<()> {
    let case = CASES.into_iter().find(|case| case.name == name);
    let text = (case.context("no such case")?.make)();
    let mut figures = String::new();
    let read = config::parse_in_stages(
        "bench.conf",
        text.as_bytes(),
        &config::Options::default(),
        |stage| {
            if matches!(stage, Stage::Parser | Stage::Diagnostics) {
                let peak = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| usage.max_rss());
                // KiB, as getrusage(2) says.
                let written = writeln!(figures, "{}", peak / 1024);
                debug_assert!(written.is_ok(), "writing to a string");
            }
        },
    );
    drop(black_box(read));
    print!("{figures}");
    Ok(())
}

fn sound() -> String {
    generate("")
}

fn unknown_keywords() -> String {
    generate("            conect_timeot 3\n")
}

/// The first block behind the middle lacks its `}`.
fn brace_missing() -> String {
    let mut text = sound();
    let half = text.len() / 2;
    let at = text.get(half..).and_then(|rest| rest.find("    }\n"));
    text.replace_range(half + at.unwrap_or(0)..half + at.unwrap_or(0) + 6, "");
    text
}

/// `extra` stands in every check.
fn generate(extra: &str) -> String {
    let mut text = String::new();
    for service in 0..VIRTUAL_SERVERS {
        let (high, low) = (service / 250, service % 250 + 1);
        let head = writeln!(
            text,
            "virtual_server 10.1.{high}.{low} 80 {{\n    delay_loop 6\n    lb_algo wrr\n    lb_kind DR\n    protocol TCP"
        );
        debug_assert!(head.is_ok(), "writing to a string");
        for server in 1..=REAL_SERVERS {
            let body = writeln!(
                text,
                "    real_server 10.{}.{high}.{low} 80 {{\n        weight 1\n        TCP_CHECK {{\n            connect_timeout 3\n{extra}        }}\n    }}",
                100 + server,
            );
            debug_assert!(body.is_ok(), "writing to a string");
        }
        text.push_str("}\n");
    }
    text
}
