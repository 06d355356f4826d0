//! A folder that commands of a test write into.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::{User, geteuid};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};
use xdp_lb::config::model::{Command, ScriptUser};
use xdp_lb::sys::command::resolve::Resolver;

/// Bound of whatever should take milliseconds: a busy machine may be slow, not wrong.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The folder.
pub(crate) struct Folder(TempDir);

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Where a file in it is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What a file in it holds; nothing if it is not there.
    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// A line for the shell, with its arguments behind it; `%` is the folder.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let line = line.replace('%', self.0.path().to_str().unwrap());
        Command {
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), line.clone(), "sh".to_owned()],
            line,
            user: None,
        }
    }

    /// Waits until what a file holds is right.
    pub(crate) async fn until(&self, name: &str, is: impl Fn(&str) -> bool) {
        let start = Instant::now();
        while !is(&self.read(name)) {
            assert!(start.elapsed() < SOON, "{name} holds {:?}", self.read(name));
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Commands run as whoever runs the tests, also where keepalived's own user exists.
pub(crate) fn resolver() -> Resolver {
    let own = User::from_uid(geteuid()).unwrap().unwrap();
    Resolver::new(Some(ScriptUser {
        name: own.name,
        group: None,
    }))
}
