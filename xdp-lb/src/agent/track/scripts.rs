//! When each `vrrp_script` runs, and what comes of it. Pure.

use std::collections::BTreeMap;

use super::verdict::{Thresholds, Verdict};
use crate::config::model::Script;
use crate::machine::{Machine, Now};
use crate::sys::command::resolve::Runnable;
use crate::sys::command::run::Outcome;
use crate::vrrp::priority::Condition;

/// Names a run; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(u64);

/// A script and the process that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// The script.
    pub script: Script,
    /// Its command, found.
    pub command: Runnable,
}

/// What happens to the scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// All that are to run, by now.
    Configure(Vec<Task>),
    /// A run ended.
    Finished(RunId, Outcome),
}

/// What the scripts want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run a script.
    Run(RunId, Box<Task>),
    /// End a run: nobody wants to know any more.
    End(RunId),
    /// A script is good or failed.
    Tell {
        /// Its name.
        name: String,
        /// How it is.
        condition: Condition,
    },
    /// A script ends otherwise than the last time: people may want to read it.
    Log {
        /// Its name.
        name: String,
        /// How it ended.
        outcome: Outcome,
    },
    /// Of each script at least one run has ended.
    Settled,
}

#[derive(Clone, Debug)]
struct Entry {
    task: Task,
    verdict: Verdict,
    next: Now,
    running: Option<RunId>,
    last: Option<Outcome>,
}

/// The machine. A script runs at once and then every interval; while a run lasts, those that would
/// begin are left out, so that there are never two of one script.
#[derive(Clone, Debug, Default)]
pub struct Scripts {
    all: BTreeMap<String, Entry>,
    next_id: u64,
    is_settled: bool,
}

impl Scripts {
    fn configure(&mut self, now: Now, tasks: Vec<Task>, actions: &mut Vec<Action>) {
        let mut old = std::mem::take(&mut self.all);
        for task in tasks {
            let name = task.script.name.clone();
            let entry = match old.remove(&name) {
                Some(entry) if entry.task.command == task.command => kept(now, entry, task),
                other => {
                    actions.extend(other.and_then(|other| other.running).map(Action::End));
                    begun(now, task, actions)
                }
            };
            self.all.insert(name, entry);
        }
        let gone = old.into_values().filter_map(|entry| entry.running);
        actions.extend(gone.map(Action::End));
    }

    fn finished(&mut self, run: RunId, outcome: Outcome, actions: &mut Vec<Action>) {
        let mut all = self.all.iter_mut();
        let Some((name, entry)) = all.find(|(_, entry)| entry.running == Some(run)) else {
            return;
        };
        entry.running = None;
        let script = &entry.task.script;
        let thresholds = Thresholds {
            fall: script.fall,
            rise: script.rise,
        };
        let news = entry.verdict.count(outcome.succeeded(), thresholds);
        if entry.last.as_ref() != Some(&outcome) {
            // A script that has always been good is no news.
            if entry.last.is_some() || !outcome.succeeded() {
                actions.push(Action::Log {
                    name: name.clone(),
                    outcome: outcome.clone(),
                });
            }
            entry.last = Some(outcome);
        }
        actions.extend(news.map(|condition| Action::Tell {
            name: name.clone(),
            condition,
        }));
    }

    fn settle(&mut self, actions: &mut Vec<Action>) {
        let is_settled = self.all.values().all(|entry| entry.verdict.is_known());
        if is_settled && !self.is_settled {
            actions.push(Action::Settled);
        }
        self.is_settled = is_settled;
    }
}

/// The same command under perhaps other rules: verdict, counts and a run under way stay.
fn kept(now: Now, entry: Entry, task: Task) -> Entry {
    let next = entry.next.min(now.after(task.script.interval));
    Entry {
        task,
        next,
        ..entry
    }
}

fn begun(now: Now, task: Task, actions: &mut Vec<Action>) -> Entry {
    if task.script.starts_failed {
        actions.push(Action::Tell {
            name: task.script.name.clone(),
            condition: Condition::Down { failures: 0 },
        });
    }
    Entry {
        task,
        verdict: Verdict::new(),
        next: now,
        running: None,
        last: None,
    }
}

impl Machine for Scripts {
    type Input = Input;
    type Action = Action;

    fn handle(&mut self, now: Now, input: Input, actions: &mut Vec<Action>) {
        match input {
            Input::Configure(tasks) => self.configure(now, tasks, actions),
            Input::Finished(run, outcome) => self.finished(run, outcome, actions),
        }
        self.settle(actions);
    }

    fn expire(&mut self, now: Now, actions: &mut Vec<Action>) {
        for entry in self.all.values_mut().filter(|entry| entry.next <= now) {
            let next = entry.next.after(entry.task.script.interval);
            // What was missed, as the machine slept, is not made up for.
            entry.next = if next > now {
                next
            } else {
                now.after(entry.task.script.interval)
            };
            if entry.running.is_none() {
                let run = RunId(self.next_id);
                self.next_id += 1;
                entry.running = Some(run);
                actions.push(Action::Run(run, Box::new(entry.task.clone())));
            }
        }
    }

    fn deadline(&self) -> Option<Now> {
        self.all.values().map(|entry| entry.next).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::model::{Command, Weight};

    fn task(name: &str, seconds: u64) -> Task {
        let line = format!("/bin/{name}");
        Task {
            script: Script {
                name: name.to_owned(),
                command: Command {
                    line: line.clone(),
                    program: line.clone(),
                    arguments: Vec::new(),
                    user: None,
                },
                interval: Duration::from_secs(seconds),
                timeout: Duration::from_secs(seconds),
                weight: Weight::default(),
                fall: 2,
                rise: 2,
                starts_failed: false,
            },
            command: Runnable {
                program: line.clone().into(),
                arguments: Vec::new(),
                identity: None,
                environment: Vec::new(),
                line,
                by_shell: false,
            },
        }
    }

    /// Drives the machine on a virtual clock.
    #[derive(Default)]
    struct Bench {
        scripts: Scripts,
        now: Now,
    }

    impl Bench {
        fn input(&mut self, input: Input) -> Vec<Action> {
            let mut actions = Vec::new();
            self.scripts.handle(self.now, input, &mut actions);
            actions
        }

        /// The runs that begin by then, and when, in seconds.
        fn until(&mut self, end: u64) -> Vec<(u64, RunId, String)> {
            let end = Now(Duration::from_secs(end));
            let mut began = Vec::new();
            while let Some(at) = self.scripts.deadline().filter(|at| *at <= end) {
                self.now = self.now.max(at);
                let mut actions = Vec::new();
                self.scripts.expire(self.now, &mut actions);
                assert!(self.scripts.deadline().unwrap() > self.now);
                for action in actions {
                    let Action::Run(run, task) = action else {
                        panic!("{action:?}");
                    };
                    began.push((self.now.0.as_secs(), run, task.script.name));
                }
            }
            self.now = end;
            began
        }

        fn finish(&mut self, run: RunId, code: i32) -> Vec<Action> {
            self.input(Input::Finished(run, Outcome::Exited(code)))
        }
    }

    fn tell(name: &str, condition: Condition) -> Action {
        let name = name.to_owned();
        Action::Tell { name, condition }
    }

    fn log(name: &str, outcome: Outcome) -> Action {
        let name = name.to_owned();
        Action::Log { name, outcome }
    }

    #[test]
    fn a_script_runs_at_once_and_then_every_interval() {
        let mut bench = Bench::default();
        bench.input(Input::Configure(vec![task("a", 2), task("b", 5)]));
        let mut began = Vec::new();
        for second in 0..=10 {
            for (at, run, name) in bench.until(second) {
                began.push((at, name));
                bench.finish(run, 0);
            }
        }
        let of = |name: &str| -> Vec<u64> {
            let of = began.iter().filter(|(_, is)| is == name);
            of.map(|(at, _)| *at).collect()
        };
        assert_eq!(of("a"), [0, 2, 4, 6, 8, 10]);
        assert_eq!(of("b"), [0, 5, 10]);
    }

    #[test]
    fn a_run_that_lasts_is_never_joined_by_another() {
        let mut bench = Bench::default();
        bench.input(Input::Configure(vec![task("a", 1)]));
        let began = bench.until(5);
        assert_eq!(began.len(), 1);
        bench.finish(began[0].1, 0);
        let began = bench.until(6);
        assert_eq!((began.len(), began[0].0), (1, 6));
    }

    #[test]
    fn a_clock_that_jumps_brings_one_run_not_all_that_were_missed() {
        let mut bench = Bench::default();
        bench.input(Input::Configure(vec![task("a", 1)]));
        let run = bench.until(0)[0].1;
        bench.finish(run, 0);
        bench.now = Now(Duration::from_hours(1));
        let mut actions = Vec::new();
        bench.scripts.expire(bench.now, &mut actions);
        assert_eq!(actions.len(), 1);
        assert_eq!(
            bench.scripts.deadline(),
            Some(Now(Duration::from_secs(3601)))
        );
    }

    #[test]
    fn verdicts_are_told_and_the_way_a_script_fails_is_logged_when_it_changes() {
        let mut bench = Bench::default();
        bench.input(Input::Configure(vec![task("a", 1)]));
        let down = Condition::Down { failures: 2 };
        let said: Vec<_> = [0, 0, 1, 1, 3, 0, 0]
            .into_iter()
            .enumerate()
            .map(|(n, code)| {
                let run = bench.until(n as u64)[0].1;
                bench.finish(run, code)
            })
            .collect();
        let exited = Outcome::Exited;
        assert_eq!(said[0], [tell("a", Condition::Up), Action::Settled]);
        assert_eq!(said[1], []);
        assert_eq!(said[2], [log("a", exited(1))]);
        assert_eq!(said[3], [tell("a", down)]);
        assert_eq!(said[4], [log("a", exited(3))]);
        assert_eq!(said[5], [log("a", exited(0))]);
        assert_eq!(said[6], [tell("a", Condition::Up)]);
    }

    #[test]
    fn init_fail_counts_as_failed_until_the_first_success() {
        let mut bench = Bench::default();
        let mut failing = task("a", 1);
        failing.script.starts_failed = true;
        let down = Condition::Down { failures: 0 };
        let actions = bench.input(Input::Configure(vec![failing]));
        assert_eq!(actions, [tell("a", down)]);
        let run = bench.until(0)[0].1;
        assert_eq!(
            bench.finish(run, 0),
            [tell("a", Condition::Up), Action::Settled]
        );
    }

    #[test]
    fn a_reload_keeps_what_stays_and_ends_what_goes() {
        let mut bench = Bench::default();
        let tasks = ["kept", "changed", "gone"].map(|name| task(name, 10));
        bench.input(Input::Configure(tasks.to_vec()));
        let runs = bench.until(0);
        let run = |name: &str| runs.iter().find(|(.., is)| is == name).unwrap().1;
        bench.now = Now(Duration::from_secs(1));
        let mut changed = task("changed", 10);
        changed.command.arguments.push("-v".to_owned());
        let mut kept = task("kept", 3);
        kept.script.fall = 1;
        let actions = bench.input(Input::Configure(vec![kept, changed]));
        assert_eq!(
            actions,
            [Action::End(run("changed")), Action::End(run("gone"))]
        );
        // What was ended has nothing to say any more.
        assert_eq!(bench.finish(run("gone"), 1), []);
        assert_eq!(bench.finish(run("changed"), 1), []);
        assert_eq!(
            bench.finish(run("kept"), 0),
            [tell("kept", Condition::Up)],
            "its run goes on"
        );
        let began: Vec<_> = bench
            .until(4)
            .into_iter()
            .map(|(at, _, n)| (at, n))
            .collect();
        assert_eq!(
            began,
            [(1, "changed".to_owned()), (4, "kept".to_owned())],
            "at once, and by the new interval"
        );
    }

    #[test]
    fn without_scripts_there_is_nothing_to_wait_for() {
        let mut bench = Bench::default();
        assert_eq!(bench.input(Input::Configure(Vec::new())), [Action::Settled]);
        assert_eq!(bench.scripts.deadline(), None);
    }
}
