//! Questions about decisions on their way from the socket to who answers them: what would become of a
//! packet, and what becomes of those that come.

use tokio::sync::{mpsc, oneshot};

use super::Gone;
use super::capture::{Line, Want};
use super::trace::{Query, Trace};

/// Questions that wait. More wait for room, at no cost to the agent.
const WAITING: usize = 16;

/// What would become of a packet?
#[derive(Debug)]
pub struct TraceRequest {
    /// The packet.
    pub query: Query,
    /// Whom to tell, or why it cannot be told.
    pub reply: oneshot::Sender<Result<Trace, String>>,
}

/// What becomes of packets?
#[derive(Debug)]
pub struct CaptureRequest {
    /// Of which.
    pub want: Want,
    /// Whom to show, or why that cannot be. Whoever drops the receiver has seen enough.
    pub reply: oneshot::Sender<Result<mpsc::Receiver<Line>, String>>,
}

/// A handle to look at decisions.
#[derive(Clone, Debug)]
pub struct Looks {
    traces: mpsc::Sender<TraceRequest>,
    captures: mpsc::Sender<CaptureRequest>,
}

/// The other end.
#[derive(Debug)]
pub struct Looked {
    /// Questions what would become of packets.
    pub traces: mpsc::Receiver<TraceRequest>,
    /// Questions what becomes of them.
    pub captures: mpsc::Receiver<CaptureRequest>,
}

impl Looks {
    /// The handle and the other end.
    pub fn channel() -> (Self, Looked) {
        let (traces, traced) = mpsc::channel(WAITING);
        let (captures, captured) = mpsc::channel(WAITING);
        let looked = Looked {
            traces: traced,
            captures: captured,
        };
        (Self { traces, captures }, looked)
    }

    /// What would become of a packet, or why that cannot be told.
    pub async fn trace(&self, query: Query) -> Result<Result<Trace, String>, Gone> {
        let (reply, answer) = oneshot::channel();
        let request = TraceRequest { query, reply };
        self.traces.send(request).await.map_err(super::gone)?;
        answer.await.map_err(super::gone)
    }

    /// What becomes of packets from now on, or why that cannot be shown.
    pub async fn capture(&self, want: Want) -> Result<Result<mpsc::Receiver<Line>, String>, Gone> {
        let (reply, answer) = oneshot::channel();
        let request = CaptureRequest { want, reply };
        self.captures.send(request).await.map_err(super::gone)?;
        answer.await.map_err(super::gone)
    }
}
