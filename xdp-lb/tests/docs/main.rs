//! Documentation that repeats the code, compared with it, and what documentation points at.
//! `XDP_LB_BLESS=1 cargo test -p xdp-lb --test docs` writes anew what is generated.
#![expect(clippy::unwrap_used, reason = "a test that cannot begin has failed")]

mod config;
mod diagnostics;
mod vrrp;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use xdp_lb::config::{self as configuration, Severity};
use xdp_lb::telemetry::metrics::table::{self as metrics, Metric};
use xdp_lb_common::limits;
use xdp_lb_common::reason::{Reason, Verdict};

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn table() -> String {
    let mut table = "| reason | the packet goes | because |\n|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let goes = match reason.verdict() {
            Verdict::Pass => "to the kernel",
            Verdict::Tx => "to a real server",
            Verdict::Redirect => "to a real server, by another port",
            Verdict::Drop => "nowhere",
        };
        let help = reason.help().trim();
        writeln!(table, "| `{}` | {goes} | {help} |", reason.name()).unwrap();
    }
    table
}

#[test]
fn the_table_of_reasons_is_the_programs() {
    part_is_up_to_date("docs/dataplane.md", "reasons", &table());
}

#[test]
fn the_take_over_times_in_vrrp_md_are_the_programs() {
    part_is_up_to_date("docs/vrrp.md", "take-over", &vrrp::take_over_times());
}

/// Two tests write parts of one document.
static WRITING: Mutex<()> = Mutex::new(());

/// Others read it meanwhile, to follow its links.
fn replace(path: &Path, text: &str) {
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, text).unwrap();
    std::fs::rename(&unfinished, path).unwrap();
}

/// Compares what stands between two marks of a document, or writes it anew.
fn part_is_up_to_date(document: &str, mark: &str, wanted: &str) {
    let path = file(document);
    let _one_after_the_other = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::fs::read_to_string(&path).unwrap();
    let (start, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let (before, rest) = text.split_once(&start).unwrap();
    let (shown, after) = rest.split_once(&end).unwrap();
    if std::env::var_os("XDP_LB_BLESS").is_some() {
        replace(&path, &format!("{before}{start}{wanted}{end}{after}"));
        return;
    }
    assert_eq!(
        shown, wanted,
        "{document} is stale: see the head of this file"
    );
}

/// Compares a document that is generated as a whole, or writes it anew.
fn is_up_to_date(document: &str, wanted: &str) {
    let path = file(document);
    if std::env::var_os("XDP_LB_BLESS").is_some() {
        replace(&path, wanted);
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{document} is stale: see the head of this file"
    );
}

#[test]
fn the_keywords_in_config_md_are_the_programs() {
    is_up_to_date("docs/config.md", &config::markdown());
}

#[test]
fn the_explanations_in_diagnostics_md_are_the_programs() {
    is_up_to_date("docs/diagnostics.md", &diagnostics::markdown());
}

/// `1048576` as people write it: `1,048,576`.
fn grouped(number: u32) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_sizes_of_tables_are_the_programs() {
    let text = std::fs::read_to_string(file("docs/dataplane.md")).unwrap();
    let (_, tables) = text.split_once("## Tables\n").unwrap();
    let (tables, _) = tables.split_once("\n## ").unwrap();
    let sizes = [
        limits::DEFAULT_CONNECTIONS,
        limits::DEFAULT_TEMPLATES,
        limits::MAX_SERVICES,
        limits::SERVICE_INDEX_SLOTS,
        limits::MAX_BACKENDS,
        limits::HOST_SLOTS,
        limits::SCHEDULE_SLOTS,
        limits::MAX_SERVICE_SLOTS,
        limits::MAX_PORTS,
    ];
    for size in sizes.map(grouped) {
        assert!(tables.contains(&size), "no table has the size {size}");
    }
}

#[test]
fn the_sample_configuration_has_nothing_to_complain_about() {
    let loaded = configuration::load(&file("etc/keepalived.conf")).unwrap();
    let said = loaded.diagnostics;
    assert_eq!(said.count(Severity::Warning), 0, "{}", said.render(false));
    assert_eq!(loaded.config.virtual_servers.len(), 1);
}

#[test]
fn metrics_that_are_named_are_served() {
    let known: BTreeSet<String> = metrics::ALL.iter().map(Metric::sample_name).collect();
    for document in ["docs/vrrp.md", "docs/sync.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(file(document)).unwrap();
        let is_other = |c: char| !c.is_ascii_lowercase() && c != '_';
        let words = text.split(is_other);
        for name in words.filter(|word| word.starts_with("xdp_lb_")) {
            assert!(
                known.contains(name),
                "{document}: no metric is called {name}"
            );
        }
    }
}

/// The targets of `[text](target)` in Markdown.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let after = text.split("](").skip(1);
    after.filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// What GitHub calls a heading in a link.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-');
    let name: String = heading.trim().to_lowercase().chars().filter(kept).collect();
    name.replace(' ', "-")
}

#[test]
fn links_lead_to_files_and_headings_that_exist() {
    let documents = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/dataplane.md",
        "docs/vrrp.md",
        "docs/sync.md",
        "docs/operations.md",
        "docs/metrics.md",
        "docs/config.md",
        "docs/diagnostics.md",
    ];
    for document in documents {
        let path = file(document);
        let text = std::fs::read_to_string(&path).unwrap();
        for link in links(&text).filter(|link| !link.starts_with("http")) {
            let (target, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match target {
                "" => path.clone(),
                other => path.parent().unwrap().join(other),
            };
            assert!(target.exists(), "{document}: {link} leads nowhere");
            if heading.is_empty() {
                continue;
            }
            let there = std::fs::read_to_string(&target).unwrap();
            let mut headings = there.lines().filter(|line| line.starts_with('#'));
            let named = |line: &str| anchor(line.trim_start_matches('#')) == heading;
            assert!(
                headings.any(named),
                "{document}: {link} has no such heading"
            );
        }
    }
}
