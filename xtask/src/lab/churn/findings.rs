//! What a run saw: numbers and names, no judgement.

use serde::Serialize;

use crate::lab::clients::{HttpRun, WebSocket};
use crate::lab::findings::Stop;
use crate::lab::steps::Step;

/// Everything a run saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// What the events were drawn by.
    pub(crate) seed: u64,
    /// What happened to real servers, in order.
    pub(crate) events: Vec<Event>,
    /// Connections that broke on servers that had not failed: what must not be.
    pub(crate) innocent: Vec<String>,
    /// Clients with a long connection each.
    pub(crate) websockets: Vec<WebSocket>,
    /// Clients with a new connection for each request.
    pub(crate) http: HttpRun,
    /// Seconds that checks may take to notice, and clients may be without.
    pub(crate) bound: f64,
    /// The director's end.
    pub(crate) stop: Option<Stop>,
    /// What was done and how long it took.
    pub(crate) steps: Vec<Step>,
    /// The end of the director's log.
    #[serde(skip)]
    pub(crate) log: String,
}

/// Something that happened to a real server.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    /// Seconds since the clients began.
    pub(crate) at: f64,
    /// What.
    pub(crate) what: String,
    /// WebSockets that broke until the next event.
    pub(crate) broken: usize,
}
