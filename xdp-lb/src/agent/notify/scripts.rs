//! Notify scripts, and the scripts around the life of an agent.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;
use tracing::{info, warn};

use super::told::Told;
use crate::config::model::{Command, TimedCommand};
use crate::sys::command::notify::{Job, NotifyQueue, Subject};
use crate::sys::command::resolve::{Resolver, Runnable};
use crate::sys::command::run::{self, Output};

/// Scripts of an instance or group that wait.
const WAITING: usize = 64;
/// Longest run of a notify script: others wait for it. keepalived has no limit, as it does not wait.
const LIMIT: Duration = Duration::from_mins(5);

/// Runs notify scripts.
#[derive(Debug)]
pub(super) struct Scripts {
    resolver: Resolver,
    queues: BTreeMap<(bool, String), NotifyQueue>,
    /// Commands that cannot be run, and why.
    refused: BTreeMap<Command, String>,
}

impl Scripts {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            queues: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Says what cannot be run before it is needed, and forgets queues of whoever is gone.
    pub(super) fn configure<'a>(
        &mut self,
        resolver: &Resolver,
        commands: impl Iterator<Item = &'a Command>,
        told: &Told,
    ) {
        self.resolver = resolver.clone();
        for command in commands {
            self.resolve(command);
        }
        let is_gone = |(is_group, name): &(bool, String)| {
            let subject = if *is_group {
                Subject::Group
            } else {
                Subject::Instance
            };
            !told.knows(subject, name)
        };
        let gone = self.queues.extract_if(.., |key, _| is_gone(key));
        for (_, queue) in gone {
            tokio::spawn(queue.finish(LIMIT));
        }
    }

    pub(super) fn run(
        &mut self,
        (subject, name): (Subject, &str),
        command: &Command,
        arguments: Vec<String>,
    ) {
        // Found again each time: what was safe may have changed, what was missing may be there.
        let Some(command) = self.resolve(command) else {
            return;
        };
        let key = (subject == Subject::Group, name.to_owned());
        let queue = self.queues.entry(key);
        let queue = queue.or_insert_with(|| NotifyQueue::start(name.to_owned(), WAITING));
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
