//! Notify scripts, and the scripts around the life of an agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use super::pool::Whose;
use crate::config::model::{Command, TimedCommand};
use crate::sys::command::notify::{Job, NotifyQueue, Subject};
use crate::sys::command::resolve::{Resolver, Runnable};
use crate::sys::command::run::{self, Output};

/// Scripts of an instance or group that wait.
const WAITING: usize = 64;
/// Scripts of a real server or service that wait: what it was a while ago is of no use to anybody.
const WAITING_OF_A_POOL: usize = 4;
/// Scripts of real servers and services that run at a time: a switch that fails takes thousands down.
const AT_ONCE: usize = 32;
/// Longest run of a notify script: others wait for it. keepalived has no limit, as it does not wait.
const LIMIT: Duration = Duration::from_mins(5);

/// Runs notify scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    resolver: Resolver,
    queues: BTreeMap<Queue, NotifyQueue>,
    /// The right of a pool's script to run.
    pool_turns: Arc<Semaphore>,
    /// Commands that cannot be run, and why.
    refused: BTreeMap<Command, String>,
}

/// Whose scripts run one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Queue {
    Instance(String),
    Group(String),
    Pool(Whose),
}

impl Queue {
    pub(super) fn of(subject: Subject, name: &str) -> Self {
        match subject {
            Subject::Instance => Self::Instance(name.to_owned()),
            Subject::Group => Self::Group(name.to_owned()),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Instance(name) | Self::Group(name) => name.clone(),
            Self::Pool(whose) => whose.to_string(),
        }
    }
}

impl Scripts {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            queues: BTreeMap::new(),
            pool_turns: Arc::new(Semaphore::new(AT_ONCE)),
            refused: BTreeMap::new(),
        }
    }

    /// Says what cannot be run before it is needed, and forgets queues of whoever is gone.
    pub(super) fn configure<'a>(
        &mut self,
        resolver: &Resolver,
        commands: impl Iterator<Item = &'a Command>,
        is_known: impl Fn(&Queue) -> bool,
    ) {
        self.resolver = resolver.clone();
        // Thousands of servers may have the same script, each with arguments of its own.
        let mut programs = BTreeSet::new();
        for command in commands {
            if programs.insert((&command.program, &command.user)) {
                self.resolve(command);
            }
        }
        let gone = self.queues.extract_if(.., |queue, _| !is_known(queue));
        for (_, queue) in gone {
            tokio::spawn(queue.finish(LIMIT));
        }
    }

    pub(super) fn run(&mut self, queue: Queue, command: &Command, arguments: Vec<String>) {
        // Found again each time: what was safe may have changed, what was missing may be there.
        let Some(command) = self.resolve(command) else {
            return;
        };
        let pool_turns = &self.pool_turns;
        let start = |queue: &Queue| match queue {
            Queue::Instance(_) | Queue::Group(_) => NotifyQueue::start(queue.name(), WAITING),
            Queue::Pool(_) => {
                let turns = Arc::clone(pool_turns);
                NotifyQueue::start_in_turn(queue.name(), WAITING_OF_A_POOL, turns)
            }
        };
        let queue = self.queues.entry(queue).or_insert_with_key(start);
        queue.push(Job {
            command,
            arguments,
            limit: Some(LIMIT),
        });
    }

    fn resolve(&mut self, command: &Command) -> Option<Runnable> {
        match self.resolver.resolve(command) {
            Ok(found) => {
                self.refused.remove(command);
                Some(found)
            }
            Err(error) => {
                let reason = error.to_string();
                if self.refused.get(command) != Some(&reason) {
                    warn!("'{}' is not run: {reason}", command.line);
                    self.refused.insert(command.clone(), reason);
                }
                None
            }
        }
    }

    /// Waits until all have run, `limit` at most; what runs then is killed.
    pub(super) async fn finish(self, limit: Duration) {
        let queues = self.queues.into_values();
        join_all(queues.map(|queue| queue.finish(limit)).collect::<Vec<_>>()).await;
    }
}

/// Runs `startup_script` or `shutdown_script`, to its end or that of its time. That it fails is said,
/// and stops nothing.
pub async fn run_once(keyword: &str, timed: &TimedCommand, resolver: &Resolver) {
    match resolver.resolve(&timed.command) {
        Ok(command) => {
            let outcome = run::run(&command, &[], Some(timed.timeout), Output::Discard).await;
            if outcome.succeeded() {
                info!("{keyword} '{}' has ended", command.line);
            } else {
                warn!("{keyword} '{}': {outcome}", command.line);
            }
        }
        Err(refused) => warn!("{keyword} is not run: {refused}"),
    }
}
