//! What operators tell a running agent to do, on its way from the socket to who does it.

use tokio::sync::{mpsc, oneshot};

use super::Gone;
use crate::plan::pool::order::Order;

/// Orders that wait. More wait for room, at no cost to the agent.
const WAITING: usize = 16;

/// An order, and who is told what became of it: when that is told it is in force.
#[derive(Debug)]
pub struct OrderRequest {
    /// What to do.
    pub order: Order,
    /// Whom to tell what was done, or why not.
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// Whom to tell what a reload changed, line by line, or what is wrong with the file.
pub type ReloadReply = oneshot::Sender<Result<Vec<String>, Vec<String>>>;

/// A handle to give the agent orders.
#[derive(Clone, Debug)]
pub struct Orders {
    orders: mpsc::Sender<OrderRequest>,
    reloads: mpsc::Sender<ReloadReply>,
}

/// The agent's end.
#[derive(Debug)]
pub struct Inbox {
    /// Orders about pools.
    pub orders: mpsc::Receiver<OrderRequest>,
    /// Wishes that the configuration be read again.
    pub reloads: mpsc::Receiver<ReloadReply>,
}

impl Orders {
    /// The handle and the agent's end.
    pub fn channel() -> (Self, Inbox) {
        let (orders, ordered) = mpsc::channel(WAITING);
        let (reloads, wished) = mpsc::channel(WAITING);
        let inbox = Inbox {
            orders: ordered,
            reloads: wished,
        };
        (Self { orders, reloads }, inbox)
    }

    /// Gives an order; what was done, or why not.
    pub async fn give(&self, order: Order) -> Result<Result<String, String>, Gone> {
        let (reply, answer) = oneshot::channel();
        let request = OrderRequest { order, reply };
        self.orders.send(request).await.map_err(super::gone)?;
        answer.await.map_err(super::gone)
    }

    /// Has the configuration read again; what that changed, or what is wrong with it.
    pub async fn reload(&self) -> Result<Result<Vec<String>, Vec<String>>, Gone> {
        let (reply, answer) = oneshot::channel();
        self.reloads.send(reply).await.map_err(super::gone)?;
        answer.await.map_err(super::gone)
    }
}
