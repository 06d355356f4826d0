//! What operators ask a running agent.
//!
//! In comes a line on the instance's socket ([`server`], [`protocol`]); out goes a [`Snapshot`], the
//! whole visible state at one moment, or what [`looks`] shows: a [`trace`] or a [`capture`]. [`client`] is the other end, for the commands. The agent alone
//! builds snapshots: whoever wants one asks for it through [`Snapshots`], so nothing here can read a
//! map, hold a lock or delay the agent. What operators want done goes in through [`orders`].

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

pub mod capture;
pub mod client;
pub mod looks;
pub mod orders;
pub mod protocol;
#[cfg(test)]
pub(crate) mod sample;
pub mod server;
pub mod snapshot;
pub mod trace;

pub use snapshot::Snapshot;

/// Snapshots asked for and not yet built. More wait for room, at no cost to the agent.
const WAITING: usize = 16;

/// A handle to ask the agent for snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    requests: mpsc::Sender<oneshot::Sender<Arc<Snapshot>>>,
}

/// The agent has stopped: nobody builds snapshots any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Gone;

impl Snapshots {
    /// The handle, and the agent's end: each sender received is owed one snapshot. The agent may build
    /// one and give it to everybody who waits; a sender that is closed is of somebody who gave up.
    pub fn channel() -> (Self, mpsc::Receiver<oneshot::Sender<Arc<Snapshot>>>) {
        let (requests, agent) = mpsc::channel(WAITING);
        (Self { requests }, agent)
    }

    /// Takes a snapshot that is not older than this call. Waits as long as the agent takes; callers
    /// set their own time limit, and may drop the future at any time.
    pub async fn take(&self) -> Result<Arc<Snapshot>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(reply).await.map_err(gone)?;
        answer.await.map_err(gone)
    }
}

/// The ways in which the agent can be gone carry no more than that.
fn gone<E>(_: E) -> Gone {
    Gone
}

/// Where the agent of an instance listens.
pub fn socket_path(instance: &str) -> PathBuf {
    PathBuf::from("/run/xdp-lb")
        .join(instance)
        .join("control.sock")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_agent_is_told_from_a_slow_one() {
        let (snapshots, mut agent) = Snapshots::channel();
        let asked = tokio::spawn({
            let snapshots = snapshots.clone();
            async move { snapshots.take().await }
        });
        let owed = agent.recv().await.unwrap();
        drop(owed);
        assert_eq!(asked.await.unwrap(), Err(Gone));
        drop(agent);
        assert_eq!(snapshots.take().await, Err(Gone));
    }

    #[tokio::test]
    async fn everybody_who_asks_is_answered() {
        let (snapshots, mut agent) = Snapshots::channel();
        let sample = Arc::new(sample::snapshot());
        let built = sample.clone();
        tokio::spawn(async move {
            while let Some(reply) = agent.recv().await {
                reply.send(built.clone()).unwrap();
            }
        });
        let mut waiting = tokio::task::JoinSet::new();
        for _ in 0..3 * WAITING {
            let snapshots = snapshots.clone();
            waiting.spawn(async move { snapshots.take().await });
        }
        for taken in waiting.join_all().await {
            assert_eq!(taken.as_ref(), Ok(&sample));
        }
    }
}
