//! Notify scripts: what they are told, and that they are told it in order.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use super::resolve::Runnable;
use super::run::{self, Output};

/// Whose state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A `vrrp_instance`.
    Instance,
    /// A `vrrp_sync_group`.
    Group,
}

impl Subject {
    const fn word(self) -> &'static str {
        match self {
            Self::Instance => "INSTANCE",
            Self::Group => "GROUP",
        }
    }
}

/// A change of state as scripts are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub subject: Subject,
    /// Its name.
    pub name: String,
    /// `MASTER`, `BACKUP`, `FAULT`, `STOP`, `DELETED`; in a FIFO also `MASTER_RX_LOWER_PRI`,
    /// `MASTER_PRIORITY`, `BACKUP_PRIORITY`.
    pub state: &'static str,
    /// Effective priority; 0 for a group.
    pub priority: u8,
}

impl Change {
    /// What `notify` gets behind its own arguments.
    pub fn arguments(&self) -> [String; 4] {
        let priority = self.priority.to_string();
        let word = self.subject.word().to_owned();
        [word, self.name.clone(), self.state.to_owned(), priority]
    }
}

/// As in a FIFO, without the end of the line.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.subject.word();
        write!(
            f,
            "{word} \"{}\" {} {}",
            self.name, self.state, self.priority
        )
    }
}

/// What waits for its turn. When there is no more room, the one that waits longest is given up: what
/// is known of the state now counts more than how it came about.
#[derive(Debug)]
pub struct Backlog<T> {
    waiting: VecDeque<T>,
    capacity: usize,
    given_up: u64,
}

impl<T> Backlog<T> {
    /// With room for `capacity`, at least one.
    pub fn new(capacity: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            capacity: capacity.max(1),
            given_up: 0,
        }
    }

    /// Appends; what had to be given up for it is returned.
    pub fn push(&mut self, item: T) -> Option<T> {
        let given_up = if self.waiting.len() < self.capacity {
            None
        } else {
            self.given_up += 1;
            self.waiting.pop_front()
        };
        self.waiting.push_back(item);
        given_up
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The one whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        self.waiting.pop_front()
    }

    /// How many were given up.
    pub const fn given_up(&self) -> u64 {
        self.given_up
    }
}

/// A script to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// It.
    pub command: Runnable,
    /// What is put behind its own arguments.
    pub arguments: Vec<String>,
    /// How long it may take; whatever comes after it waits as long. keepalived sets no limit.
    pub limit: Option<Duration>,
}

/// Runs scripts in the order they come, one at a time. There is one for each instance and group.
#[derive(Debug)]
pub struct NotifyQueue {
    shared: Arc<Shared>,
    worker: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug)]
struct State {
    backlog: Backlog<Job>,
    closed: bool,
}

impl NotifyQueue {
    /// `name` is whose scripts these are, in messages. Must be called inside a tokio runtime.
    pub fn start(name: String, capacity: usize) -> Self {
        Self::start_with(name, capacity, None)
    }

    /// The same; each script also waits for one of `turns`, which several queues share.
    pub fn start_in_turn(name: String, capacity: usize, turns: Arc<Semaphore>) -> Self {
        Self::start_with(name, capacity, Some(turns))
    }

    fn start_with(name: String, capacity: usize, turns: Option<Arc<Semaphore>>) -> Self {
        let state = State {
            backlog: Backlog::new(capacity),
            closed: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        let worker = tokio::spawn(work(name, Arc::clone(&shared), turns));
        Self { shared, worker }
    }

    /// Appends a script; from any thread, and never waits.
    pub fn push(&self, job: Job) {
        let given_up = self.shared.lock().backlog.push(job);
        self.shared.changed.notify_one();
        if let Some(old) = given_up {
            tracing::warn!(
                "notify scripts take longer than things change: '{}' {} is not run",
                old.command.line,
                old.arguments.join(" ")
            );
        }
    }

    /// Scripts that were given up.
    pub fn given_up(&self) -> u64 {
        self.shared.lock().backlog.given_up()
    }

    /// Waits until all have run, `limit` at most; what runs then is killed.
    pub async fn finish(mut self, limit: Duration) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
        if tokio::time::timeout(limit, &mut self.worker).await.is_err() {
            tracing::warn!("notify scripts did not end within {limit:?} and are killed");
        }
    }
}

impl Drop for NotifyQueue {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it, and what it holds is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is a script or there will be none.
    async fn waiting(&self) {
        loop {
            {
                let state = self.lock();
                if state.closed || !state.backlog.is_empty() {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }

    /// The next script; `None` after the last one.
    async fn next(&self) -> Option<Job> {
        loop {
            {
                let mut state = self.lock();
                match state.backlog.pop() {
                    Some(job) => return Some(job),
                    None if state.closed => return None,
                    None => {}
                }
            }
            self.changed.notified().await;
        }
    }
}

async fn work(name: String, shared: Arc<Shared>, turns: Option<Arc<Semaphore>>) {
    loop {
        // First the turn, then the job: what is outdated meanwhile is not run.
        shared.waiting().await;
        let _turn = match &turns {
            // Nobody closes it.
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let Some(job) = shared.next().await else {
            return;
        };
        // A notify script may start a service: see `Output::Discard`.
        let outcome = run::run(&job.command, &job.arguments, job.limit, Output::Discard).await;
        if !outcome.succeeded() {
            tracing::warn!("{name}: notify script '{}': {outcome}", job.command.line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_as_keepalived_tells_it() {
        // Seen from keepalived 2.2.7.
        let instance = Change {
            subject: Subject::Instance,
            name: "VI".to_owned(),
            state: "MASTER",
            priority: 150,
        };
        assert_eq!(instance.arguments(), ["INSTANCE", "VI", "MASTER", "150"]);
        assert_eq!(instance.to_string(), "INSTANCE \"VI\" MASTER 150");
        let group = Change {
            subject: Subject::Group,
            name: "G".to_owned(),
            state: "STOP",
            priority: 0,
        };
        assert_eq!(group.arguments(), ["GROUP", "G", "STOP", "0"]);
        assert_eq!(group.to_string(), "GROUP \"G\" STOP 0");
    }

    #[test]
    fn the_oldest_is_given_up_when_there_is_no_more_room() {
        let mut backlog = Backlog::new(2);
        assert_eq!(backlog.push(1), None);
        assert_eq!(backlog.push(2), None);
        assert_eq!(backlog.push(3), Some(1));
        assert_eq!(backlog.given_up(), 1);
        assert_eq!(
            [backlog.pop(), backlog.pop(), backlog.pop()],
            [Some(2), Some(3), None]
        );
        assert_eq!(Backlog::new(0).push('a'), None);
    }
}
