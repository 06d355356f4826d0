//! Watches what instances and sync groups track, and tells the VRRP machine.
//!
//! In goes the configuration, out come [`Input::Tracked`]s: of scripts that run every now and then
//! ([`scripts`] says when and what they add up to, by [`verdict`]; `runner` runs them), of numbers in
//! files ([`file`]; `files` watches them) and of processes ([`process`]; `processes` looks for them).
//! Only what somebody tracks is watched. What a condition does to a priority is decided in
//! [`crate::vrrp::priority`]; interfaces are the business of whoever follows netlink.

pub mod verdict;

pub mod scripts;

mod runner;

pub mod file;

mod disk;
mod files;

pub mod process;

mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{info, warn};

use self::files::FileWatcher;
use self::processes::ProcessWatcher;
use self::runner::Runner;
use self::scripts::Task;
use crate::config::model::{self, Config, Probe, Script, TrackFile, TrackProcess};
use crate::sys::command::resolve::Resolver;
use crate::vrrp::group::Input;

/// Takes what was found out, from any thread. It must not wait.
pub type Report = Arc<dyn Fn(Input) + Send + Sync>;

/// All that is tracked. Scripts are ended when this is dropped.
#[derive(Debug)]
pub struct Trackers {
    runner: Runner,
    files: FileWatcher,
    processes: ProcessWatcher,
    /// Scripts that cannot be run, and why.
    refused: BTreeMap<String, String>,
    /// Scripts that a shell runs, which has been said.
    by_shell: BTreeSet<String>,
    /// Files that have been written at their start.
    initialised: BTreeSet<String>,
}

impl Trackers {
    /// Watches what a configuration tracks. Returns when files and processes have been looked at and
    /// told once, and scripts have begun to run. Must be called inside a tokio runtime.
    pub async fn start(config: &Config, resolver: &Resolver, report: Report) -> Self {
        let mut trackers = Self {
            runner: Runner::start(report.clone()),
            files: FileWatcher::start(report.clone()),
            processes: ProcessWatcher::start(report),
            refused: BTreeMap::new(),
            by_shell: BTreeSet::new(),
            initialised: BTreeSet::new(),
        };
        trackers.reload(config, resolver).await;
        trackers
    }

    /// Watches what a new configuration tracks; what is tracked as before goes on undisturbed.
    pub async fn reload(&mut self, config: &Config, resolver: &Resolver) {
        let tracked = Tracked::of(config);
        let tasks = tracked.scripts.into_iter();
        let mut refused = BTreeMap::new();
        let mut run = Vec::new();
        for script in tasks {
            match self.task(script, resolver) {
                Ok(task) => run.push(task),
                Err(reason) => {
                    refused.insert(script.name.clone(), reason);
                }
            }
        }
        self.refused = refused;
        self.initialise(&tracked.files);
        self.initialise(&checked(config));
        self.runner.configure(run).await;
        self.files
            .configure(tracked.files.into_iter().cloned().collect())
            .await;
        self.processes
            .configure(tracked.processes.into_iter().cloned().collect())
            .await;
    }

    /// Names of scripts that are tracked and cannot be run. Whoever tracks one is as if it did not, as
    /// under keepalived: its settings are to leave it out.
    pub fn unusable(&self) -> impl Iterator<Item = &str> {
        self.refused.keys().map(String::as_str)
    }

    /// Waits, at the start, until each script has run once, `limit` at most. keepalived has an instance wait for its
    /// scripts before it takes part.
    pub async fn settled(&self, limit: Duration) {
        let mut settled = self.runner.settled();
        if timeout(limit, settled.wait_for(|is| *is)).await.is_err() {
            info!(
                "not every tracked script has ended within {limit:?}; those that run count as good"
            );
        }
    }

    /// Ends all scripts and waits for that.
    pub async fn stop(self) {
        self.runner.stop().await;
    }

    fn task(&mut self, script: &Script, resolver: &Resolver) -> Result<Task, String> {
        let name = &script.name;
        match resolver.resolve(&script.command) {
            Ok(command) => {
                if command.by_shell && self.by_shell.insert(name.clone()) {
                    let shell = command.program.display();
                    info!("vrrp_script {name}: '{}' is run by {shell}", command.line);
                }
                let script = script.clone();
                Ok(Task { script, command })
            }
            Err(error) => {
                let reason = error.to_string();
                if self.refused.get(name) != Some(&reason) {
                    warn!("vrrp_script {name} is as if nobody tracked it: {reason}");
                }
                Err(reason)
            }
        }
    }

    /// Writes the files that are to be written, once in the life of the agent.
    fn initialise(&mut self, files: &[&TrackFile]) {
        for file in files {
            let Some(initial) = file.initial else {
                continue;
            };
            if self.initialised.insert(file.name.clone())
                && let Err(error) = disk::write(&file.path, initial)
            {
                let path = file.path.display();
                warn!(
                    "cannot write {path}, 'init_file' of track_file {}: {error}",
                    file.name
                );
            }
        }
    }
}

/// The files of `FILE_CHECK`s.
fn checked(config: &Config) -> Vec<&TrackFile> {
    let servers = config.virtual_servers.iter();
    let servers = servers.flat_map(|service| &service.real_servers);
    let checks = servers.flat_map(|server| &server.checks);
    let names: BTreeSet<_> = checks
        .filter_map(|check| match &check.probe {
            Probe::File(file) => Some(&file.file),
            Probe::Tcp(_)
            | Probe::Http(_)
            | Probe::Smtp(_)
            | Probe::Dns(_)
            | Probe::Udp(_)
            | Probe::Ping(_)
            | Probe::Misc(_) => None,
        })
        .collect();
    let files = config.track_files.iter();
    files.filter(|file| names.contains(&file.name)).collect()
}

/// What somebody tracks.
#[derive(Debug, Default)]
struct Tracked<'a> {
    scripts: Vec<&'a Script>,
    files: Vec<&'a TrackFile>,
    processes: Vec<&'a TrackProcess>,
}

impl<'a> Tracked<'a> {
    fn of(config: &'a Config) -> Self {
        let instances = config.vrrp_instances.iter();
        let instances = instances.map(|instance| &instance.trackers);
        let groups = config.sync_groups.iter().map(|group| &group.trackers);
        let all: Vec<_> = instances.chain(groups).collect();
        let names = |of: fn(&model::Trackers) -> &Vec<model::Tracked>| {
            let tracked = all.iter().flat_map(move |trackers| of(trackers));
            tracked
                .map(|tracked| &tracked.name)
                .collect::<BTreeSet<_>>()
        };
        let scripts = names(|trackers| &trackers.scripts);
        let files = names(|trackers| &trackers.files);
        let processes = names(|trackers| &trackers.processes);
        let config_scripts = config.scripts.iter();
        let config_files = config.track_files.iter();
        let config_processes = config.track_processes.iter();
        Self {
            scripts: config_scripts
                .filter(|script| scripts.contains(&script.name))
                .collect(),
            files: config_files
                .filter(|file| files.contains(&file.name))
                .collect(),
            processes: config_processes
                .filter(|process| processes.contains(&process.name))
                .collect(),
        }
    }
}
