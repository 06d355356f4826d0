//! Watches the processes of `vrrp_track_process` in `/proc`.
//!
//! keepalived is told of processes by the kernel (the process connector), which needs the host's own
//! network and process namespaces. Here all processes are looked at once in a second, so that a new one
//! is found within one; those that were found are looked at ten times a second, which is cheap, so that
//! one that ends is missed within a tenth.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

use super::Report;
use super::process::{Quorum, matches, needs_command};
use crate::agent::drive::Clock;
use crate::config::model::TrackProcess;
use crate::machine::Now;
use crate::vrrp::group::Input;
use crate::vrrp::priority::{Condition, Kind};

/// From one look at those that were found to the next.
const LOOK: Duration = Duration::from_millis(100);
/// From one look at all to the next.
const SEARCH: Duration = Duration::from_secs(1);

/// The running watcher. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct ProcessWatcher {
    orders: mpsc::Sender<Order>,
    task: JoinHandle<()>,
}

/// All that is tracked, and whom to tell that it has been looked for.
type Order = (Vec<TrackProcess>, oneshot::Sender<()>);

impl ProcessWatcher {
    pub(super) fn start(report: Report) -> Self {
        let (orders, receiver) = mpsc::channel(1);
        let watch = Watch {
            report,
            clock: Clock::start(),
            wanted: Arc::default(),
            quorums: BTreeMap::new(),
            found: Found::new(),
            search_at: Now::ZERO,
        };
        let task = tokio::spawn(watch.run(receiver));
        Self { orders, task }
    }

    /// Returns when all have been looked for once.
    pub(super) async fn configure(&self, processes: Vec<TrackProcess>) {
        let (done, is_done) = oneshot::channel();
        // The task is gone only by a defect, which its own panic tells of.
        if self.orders.send((processes, done)).await.is_ok() {
            is_done.await.ok();
        }
    }
}

impl Drop for ProcessWatcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The processes of each name.
type Found = BTreeMap<String, BTreeSet<u32>>;

struct Watch {
    report: Report,
    clock: Clock,
    wanted: Arc<Vec<TrackProcess>>,
    quorums: BTreeMap<String, Quorum>,
    found: Found,
    search_at: Now,
}

impl Watch {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let next = (!self.wanted.is_empty()).then(|| self.next());
            tokio::select! {
                order = orders.recv() => {
                    let Some((wanted, done)) = order else { return };
                    self.configure(wanted);
                    self.look().await;
                    done.send(()).ok();
                }
                () = self.clock.reach(next) => self.look().await,
            }
        }
    }

    fn next(&self) -> Now {
        let deadlines = self.quorums.values().filter_map(Quorum::deadline);
        let look = if self.found.is_empty() {
            self.search_at
        } else {
            self.clock.now().after(LOOK)
        };
        deadlines.fold(look, Now::min)
    }

    fn configure(&mut self, wanted: Vec<TrackProcess>) {
        let old = std::mem::replace(&mut self.wanted, Arc::new(wanted));
        let is_kept = |name: &str| {
            let of =
                |all: &[TrackProcess]| all.iter().find(|process| process.name == name).cloned();
            let (old, new) = (of(&old), of(&self.wanted));
            let is_same = |(old, new): (TrackProcess, TrackProcess)| {
                TrackProcess {
                    weight: old.weight,
                    ..new
                } == old
            };
            old.zip(new).is_some_and(is_same)
        };
        self.quorums.retain(|name, _| is_kept(name));
        self.search_at = self.clock.now();
    }

    async fn look(&mut self) {
        let now = self.clock.now();
        if now < self.search_at {
            let known = self.found.values().flatten().copied().collect();
            let found = self.search(Some(known)).await;
            if found == self.found {
                for (name, quorum) in &mut self.quorums {
                    if let Some(condition) = quorum.expire(now) {
                        tell(&self.report, name, condition);
                    }
                }
                return;
            }
            // One has ended. Perhaps another took its place.
        }
        self.found = self.search(None).await;
        let now = self.clock.now();
        self.search_at = now.after(SEARCH);
        for wanted in self.wanted.iter() {
            let count = self.found.get(&wanted.name).map_or(0, BTreeSet::len);
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let quorum = self.quorums.entry(wanted.name.clone()).or_default();
            if let Some(condition) = quorum.count(now, wanted, count) {
                tell(&self.report, &wanted.name, condition);
            }
        }
    }

    async fn search(&self, among: Option<BTreeSet<u32>>) -> Found {
        let wanted = self.wanted.clone();
        let found = spawn_blocking(move || search(&wanted, among.unwrap_or_else(all)));
        found.await.unwrap_or_default()
    }
}

fn tell(report: &Report, name: &str, condition: Condition) {
    report(Input::Tracked {
        kind: Kind::Process,
        name: name.to_owned(),
        condition,
    });
}

/// The numbers of all processes.
fn all() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.collect()
}

fn search(wanted: &[TrackProcess], among: BTreeSet<u32>) -> Found {
    let mut found = Found::new();
    let by_command = wanted.iter().any(needs_command);
    for process in among {
        let Some(name) = name_of(process) else {
            continue;
        };
        // Reading it may fetch pages of the process from the disk.
        let command = by_command.then(|| fs::read(format!("/proc/{process}/cmdline")).ok());
        let command = command.flatten().unwrap_or_default();
        let command = words(&command);
        for wanted in wanted {
            if matches(wanted, &name, &command) && runs(process) {
                let found = found.entry(wanted.name.clone()).or_default();
                found.insert(process);
            }
        }
    }
    found
}

fn name_of(process: u32) -> Option<Vec<u8>> {
    let mut name = fs::read(format!("/proc/{process}/comm")).ok()?;
    name.pop_if(|last| *last == b'\n');
    Some(name)
}

/// The words of a command line, each of which ends with a zero.
fn words(command: &[u8]) -> Vec<&[u8]> {
    let command = command.strip_suffix(&[0]).unwrap_or(command);
    if command.is_empty() {
        Vec::new()
    } else {
        command.split(|byte| *byte == 0).collect()
    }
}

/// Not one that has ended and waits for its parent.
fn runs(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The state follows the name, which is in parentheses and may hold some.
    let state = stat.rsplit(')').next().map(str::trim_start);
    state.is_some_and(|state| !state.is_empty() && !state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_split_at_zeros_and_may_have_empty_words() {
        assert_eq!(words(b"a\0\0b c\0"), [&b"a"[..], b"", b"b c"]);
        assert_eq!(words(b""), Vec::<&[u8]>::new());
    }

    #[test]
    fn the_process_of_this_test_runs_and_one_of_no_number_does_not() {
        let own = std::process::id();
        assert!(runs(own) && name_of(own).is_some() && all().contains(&own));
        assert!(!runs(0) && name_of(0).is_none());
    }
}
