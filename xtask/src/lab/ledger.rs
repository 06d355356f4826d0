//! What a run has put on the machine, written down before it is put there: `lab down` reads it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xdp_lb_tests::process::{Process, start_time};

const FOLDER: &str = "/run/xdp-lb-lab";

/// A process, named for good.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Running {
    /// What it is.
    pub(crate) name: String,
    /// Process id, and id of its group.
    pub(crate) pid: u32,
    /// When it started, in clock ticks after boot.
    pub(crate) started: u64,
}

impl Running {
    /// This process.
    pub(crate) fn this() -> Self {
        let pid = std::process::id();
        Self {
            name: "lab".to_owned(),
            pid,
            started: start_time(pid).unwrap_or_default(),
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// A command that undoes something.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Undo {
    /// The namespace to run it in.
    pub(crate) namespace: String,
    /// Program and arguments.
    pub(crate) words: Vec<String>,
}

/// Everything of one run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Entries {
    /// The run.
    pub(crate) owner: Running,
    /// `--keep` was given: the end of the run does not end it.
    pub(crate) kept: bool,
    /// Names of namespaces.
    pub(crate) namespaces: Vec<String>,
    /// Processes, in the order they were started.
    pub(crate) processes: Vec<Running>,
    /// What undoes what was set up inside namespaces.
    pub(crate) undo: Vec<Undo>,
    /// Files and folders to remove.
    pub(crate) paths: Vec<PathBuf>,
}

/// The file of one run. Dropping it removes the file, unless the cluster is kept.
#[derive(Debug)]
pub(crate) struct Ledger {
    path: PathBuf,
    entries: Entries,
}

impl Ledger {
    /// An empty ledger under a name that no other run has.
    pub(crate) fn open(name: &str) -> Result<Self> {
        fs::create_dir_all(FOLDER).with_context(|| format!("cannot make {FOLDER}"))?;
        let ledger = Self {
            path: Path::new(FOLDER).join(name).with_extension("json"),
            entries: Entries {
                owner: Running::this(),
                kept: false,
                namespaces: Vec::new(),
                processes: Vec::new(),
                undo: Vec::new(),
                paths: Vec::new(),
            },
        };
        ledger.write()?;
        Ok(ledger)
    }

    /// Writes down a namespace that is about to be made.
    pub(crate) fn namespace(&mut self, name: String) -> Result<()> {
        self.entries.namespaces.push(name);
        self.write()
    }

    /// Writes down a process that was just started.
    pub(crate) fn process(&mut self, process: &Process) -> Result<()> {
        let pid = process.pid();
        let Some(started) = start_time(pid) else {
            return Ok(());
        };
        let name = process.name().to_owned();
        self.entries.processes.push(Running { name, pid, started });
        self.write()
    }

    /// Writes down what undoes something that is about to be set up.
    pub(crate) fn undo(&mut self, undo: Undo) -> Result<()> {
        self.entries.undo.push(undo);
        self.write()
    }

    /// Writes down a file or folder that is about to be made.
    pub(crate) fn path(&mut self, path: &Path) -> Result<()> {
        self.entries.paths.push(path.to_owned());
        self.write()
    }

    /// Leaves everything for `lab down`.
    pub(crate) fn keep(&mut self) -> Result<()> {
        self.entries.kept = true;
        self.write()
    }

    fn write(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.entries)?;
        fs::write(&self.path, text).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        if !self.entries.kept {
            drop(fs::remove_file(&self.path));
            // Fails while another run's file is there, as it should.
            drop(fs::remove_dir(FOLDER));
        }
    }
}

/// The ledgers of all runs, with their files.
pub(crate) fn all() -> Result<Vec<(PathBuf, Entries)>> {
    if !Path::new(FOLDER).exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for file in fs::read_dir(FOLDER)? {
        let path = file?.path();
        let text = fs::read_to_string(&path)?;
        let entries = serde_json::from_str(&text)
            .with_context(|| format!("{} is no ledger of the lab", path.display()))?;
        found.push((path, entries));
    }
    Ok(found)
}

/// Forgets a run whose cluster was removed.
pub(crate) fn forget(path: &Path) -> Result<()> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    drop(fs::remove_dir(FOLDER));
    Ok(())
}
