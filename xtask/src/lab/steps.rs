//! What the lab is doing, told on stderr while it does it, and how long each step took.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

/// A step that is done.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    /// What was done.
    pub(crate) name: String,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// The steps so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    done: Vec<Step>,
}

impl Steps {
    /// Does one step that says nothing itself.
    pub(crate) fn run<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        // A terminal shows what is going on; a log only what was done.
        let rewind = if std::io::stderr().is_terminal() {
            tell(&format!("  {name} …"));
            "\r"
        } else {
            ""
        };
        self.time(name, rewind, work)
    }

    /// Does one step that says itself what it is doing.
    pub(crate) fn run_loud<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        self.time(name, "", work)
    }

    fn time<T>(&mut self, name: &str, rewind: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let result = work();
        let seconds = start.elapsed().as_secs_f64();
        let how = if result.is_ok() { "" } else { "failed after " };
        tell(&format!("{rewind}  {name}: {how}{seconds:.1} s\n"));
        self.done.push(Step {
            name: name.to_owned(),
            seconds,
        });
        result
    }

    /// Does what ends a scenario: leaves its cluster up, and returns how to enter it, or removes it.
    pub(crate) fn put_away<C>(
        &mut self,
        (cluster, is_kept): (C, bool),
        keep: impl FnOnce(C) -> Result<String>,
    ) -> Result<Option<String>> {
        if is_kept {
            return keep(cluster).map(Some);
        }
        self.run("clean up", || {
            drop(cluster);
            Ok(())
        })?;
        Ok(None)
    }

    /// All of them, in order.
    pub(crate) fn into_done(self) -> Vec<Step> {
        self.done
    }
}

/// Writes to stderr as it stands. Progress that cannot be shown is no reason to stop.
pub(crate) fn tell(text: &str) {
    let mut stderr = std::io::stderr().lock();
    drop(stderr.write_all(text.as_bytes()));
    drop(stderr.flush());
}
