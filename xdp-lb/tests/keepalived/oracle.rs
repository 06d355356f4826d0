//! What keepalived says about a file, and what this program says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use xdp_lb::config::{self, diagnostic::Code};

/// The version that the table describes.
const VERSION: &str = "Keepalived v2.2.7 ";

/// A line of the file, and the first word on it.
type Words = BTreeSet<(usize, String)>;

/// keepalived.
pub(crate) struct Oracle(PathBuf);

/// What it said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// Its exit status; none when it crashed.
    pub(crate) status: Option<i32>,
    /// What it called unknown.
    pub(crate) unknown: Words,
    /// All messages, without their places.
    pub(crate) messages: BTreeSet<String>,
}

impl Oracle {
    /// The one that is installed. Without it the test is skipped, visibly; in CI that is a failure.
    pub(crate) fn find() -> Option<Self> {
        let folders = ["/usr/sbin", "/usr/local/sbin", "/sbin"];
        let programs = folders.map(|folder| Path::new(folder).join("keepalived"));
        let found = programs.into_iter().find(|program| {
            let output = Command::new(program).arg("--version").output();
            output.is_ok_and(|output| String::from_utf8_lossy(&output.stderr).contains(VERSION))
        });
        if found.is_none() {
            let notice =
                "keepalived 2.2.7 is not installed: apt-get install keepalived on Debian 12";
            let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(!in_ci, "{notice}");
            eprintln!("SKIPPED: {notice}");
        }
        found.map(Self)
    }

    /// Has it check `text`. It starts nothing and changes nothing.
    pub(crate) fn check(&self, text: &str) -> Said {
        static ASKED: Mutex<BTreeMap<String, Said>> = Mutex::new(BTreeMap::new());
        let asked = || ASKED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(said) = asked().get(text) {
            return said.clone();
        }
        let mut said = self.ask(text);
        // On a busy machine it was once seen to say nothing where it otherwise does.
        if said.messages.is_empty() {
            said = self.ask(text);
        }
        asked().insert(text.to_owned(), said.clone());
        said
    }

    fn ask(&self, text: &str) -> Said {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut keepalived = Command::new(&self.0);
        keepalived
            .arg("--config-test")
            .arg("--use-file")
            .arg(file.path());
        let output = keepalived.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut unknown = Words::new();
        let mut messages = BTreeSet::new();
        for message in said.lines().filter(|line| !line.is_empty()) {
            let placed = message
                .strip_prefix('(')
                .and_then(|rest| rest.split_once("Line "))
                .and_then(|(_, rest)| rest.split_once(") "))
                .and_then(|(line, what)| Some((line.parse().ok()?, what)));
            let Some((line, what)) = placed else {
                messages.insert(message.to_owned());
                continue;
            };
            messages.insert(what.to_owned());
            let word = what
                .strip_prefix("Unknown keyword '")
                .and_then(|rest| rest.strip_suffix('\''));
            unknown.extend(word.map(|word| (line, word.to_owned())));
        }
        Said {
            status: output.status.code(),
            unknown,
            messages,
        }
    }
}

/// What this program calls unknown in `text`, or out of place.
pub(crate) fn here(text: &str) -> Words {
    let diagnostics = config::parse("x", text.as_bytes())
        .map_or_else(|diagnostics| diagnostics, |loaded| loaded.diagnostics);
    let sources = diagnostics.sources();
    let about_words = diagnostics
        .iter()
        .filter(|item| matches!(item.code(), Code::UnknownKeyword | Code::Misplaced));
    about_words
        .filter_map(|item| {
            let span = item.span()?;
            let word = sources.text(span.file).get(span.start..span.end)?;
            Some((sources.line(span), word.to_owned()))
        })
        .collect()
}
