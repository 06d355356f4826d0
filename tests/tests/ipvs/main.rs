//! The XDP program beside IPVS: the same services in the words of keepalived.conf, the same packets, the
//! same changes, and the real server of every new connection compared.
//!
//! The cases are in tests/ipvs/cases. What IPVS chose was written down by `cargo xtask lab ipvs-diff
//! --record`, which has a kernel with IPVS choose in an emulator, and lies in tests/ipvs/recorded.
//! [`ours`] is the other side: file, plan, tables and program as in the agent.
//!
//! `XDP_LB_IPVS_CHOICES` names a file with choices to compare with instead.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test whose tools break has failed, and says so"
)]

mod ours;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ours::{Ours, in_a_network};
use xdp_lb_tests::ipvs::case::{self, Case};
use xdp_lb_tests::ipvs::choices::{Choices, Row, table};
use xdp_lb_tests::ipvs::play;

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("ipvs")
        .join(folder);
    let entries = std::fs::read_dir(&folder).expect("it is part of the repository");
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

fn cases() -> Vec<Case> {
    let texts = files("cases");
    let texts = texts
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap());
    case::parse(&texts.collect::<Vec<_>>().join("\n")).unwrap()
}

/// What IPVS chose, here and now or some time ago, on every kernel that was asked.
fn theirs() -> Vec<Choices> {
    let chosen = std::env::var_os("XDP_LB_IPVS_CHOICES").map(PathBuf::from);
    let files = chosen.map_or_else(|| files("recorded"), |file| vec![file]);
    let texts = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap());
    texts.map(|text| Choices::parse(&text)).collect()
}

#[test]
fn every_new_connection_goes_to_the_server_that_ipvs_chooses() {
    in_a_network(|| {
        let cases = cases();
        let ours = played(&cases);
        let mut wrong = 0;
        for theirs in theirs() {
            let rows: Vec<_> = cases
                .iter()
                .map(|case| {
                    let lines = theirs.lines.get(&case.name).unwrap_or_else(|| {
                        panic!(
                            "nobody knows what {} chooses in `{}`: run `cargo xtask lab ipvs-diff --record`",
                            theirs.whose, case.name
                        )
                    });
                    Row::of(case, lines, &ours[&case.name])
                })
                .collect();
            let off: Vec<_> = rows
                .iter()
                .filter(|row| !row.is_as_told())
                .cloned()
                .collect();
            wrong += off.len();
            report(&theirs.whose, &rows, &off);
        }
        assert_eq!(wrong, 0, "cases in which the choices are not those of IPVS");
    });
}

/// What ours chooses.
fn played(cases: &[Case]) -> BTreeMap<&String, Vec<String>> {
    let mut ours = Ours::new().unwrap();
    let play = |case| match play::play(case, &mut ours) {
        Ok(lines) => (&case.name, lines),
        Err(error) => panic!("{}: {error:#}", case.name),
    };
    cases.iter().map(play).collect()
}

/// The whole table for those who asked for a comparison, else what is wrong.
fn report(whose: &str, rows: &[Row], off: &[Row]) {
    let choices: usize = rows.iter().map(|row| row.choices).sum();
    let shown = if std::env::var_os("XDP_LB_IPVS_CHOICES").is_some() {
        rows
    } else {
        off
    };
    let text = format!(
        "{}{whose}: {} cases, {choices} choices, {} cases not as expected\n",
        table(shown),
        rows.len(),
        off.len()
    );
    // Not by a macro: the test harness would capture it, and nobody would see the table of a good run.
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}
