//! The users' own configurations, typos included: what is said about them, and what they mean.
//!
//! `XDP_LB_BLESS=1 cargo test -p xdp-lb --lib config::tests::seeds` writes the expectations anew; read
//! the difference before committing it.

use std::path::{Path, PathBuf};

use crate::config::print::print;
use crate::config::{Loaded, parse};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/config")
}

pub(super) fn folder() -> PathBuf {
    fixtures().join("seeds")
}

/// The names of the seeds, sorted.
fn names() -> Vec<String> {
    let entries = std::fs::read_dir(folder()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn seed(name: &str) -> Loaded {
    let text = std::fs::read(folder().join(name)).unwrap();
    parse(name, &text).unwrap_or_else(|found| panic!("{}", found.render(false)))
}

/// Compares `found` with the file, or writes it.
fn expect(file: &Path, found: &str) {
    if std::env::var_os("XDP_LB_BLESS").is_some() {
        std::fs::write(file, found).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    assert_eq!(found, expected, "{} is stale", file.display());
}

#[test]
fn every_seed_can_be_used_and_gets_the_messages_that_its_oddities_deserve() {
    let folder = fixtures().join("expected");
    for name in names() {
        let loaded = seed(&name);
        expect(
            &folder.join(&name).with_extension("messages"),
            &loaded.diagnostics.render(false),
        );
        expect(
            &folder.join(&name).with_extension("effective"),
            &print(&loaded.config),
        );
    }
}

#[test]
fn all_seeds_are_here() {
    let seeds = [
        "000.conf",
        "001.conf",
        "003-backup.conf",
        "003-master.conf",
        "004-backup.conf",
        "004-master.conf",
    ];
    assert_eq!(names(), seeds);
}
