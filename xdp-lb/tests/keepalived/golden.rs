//! What this program says about each sample, in one file per scope.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::samples::{folder, samples, wrapped};
use xdp_lb::config::{self, Diagnostic, keywords::Scope};

#[test]
fn what_is_said_about_each_sample_is_what_was_agreed_on() {
    let mut stale = Vec::new();
    for scope in Scope::ALL {
        let path = folder().join(format!("{scope:?}.txt"));
        let said = said_about(scope);
        if std::env::var_os("XDP_LB_BLESS").is_some() {
            std::fs::write(&path, &said).unwrap();
            continue;
        }
        let agreed = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = said.lines().zip(agreed.lines());
        if said != agreed {
            let differs = lines.find(|(said, agreed)| said != agreed);
            stale.push(format!("{scope:?}: {differs:?}"));
        }
    }
    assert!(
        stale.is_empty(),
        "look at the differences after XDP_LB_BLESS=1 cargo test -p xdp-lb --test keepalived golden; \
         the first line that differs in each: {stale:#?}"
    );
}

fn said_about(scope: Scope) -> String {
    let mut text = String::new();
    let alone = wrapped(scope, "");
    let found = config::parse("alone", alone.as_bytes())
        .map_or_else(|diagnostics| diagnostics, |loaded| loaded.diagnostics);
    let usual: BTreeSet<&str> = found.iter().map(Diagnostic::message).collect();
    for keyword in scope.keywords() {
        writeln!(text, "# {}\n", keyword.synopsis()).unwrap();
        for sample in samples(scope, keyword) {
            let file = wrapped(scope, &sample.text);
            let name = sample.label;
            let found = config::parse(name, file.as_bytes())
                .map_or_else(|diagnostics| diagnostics, |loaded| loaded.diagnostics);
            for line in sample.text.lines() {
                writeln!(text, "    {line}").unwrap();
            }
            // Not what is said of the lines around it.
            for item in found.iter().filter(|item| !usual.contains(item.message())) {
                writeln!(text, "{} [{}]", found.one_line(item), item.code()).unwrap();
            }
            text.push('\n');
        }
    }
    text
}
