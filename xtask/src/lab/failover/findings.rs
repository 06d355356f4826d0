//! What a run saw: numbers and names, no judgement.

use serde::Serialize;

use crate::conncheck::Window;
use crate::lab::steps::Step;

/// Everything a run saw.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// Connections that stood.
    pub(crate) connections: usize,
    /// Milliseconds from one heartbeat to the next.
    pub(crate) every_ms: u64,
    /// WebSockets that stood beside them.
    pub(crate) websockets: usize,
    /// Whether the directors told each other of connections.
    pub(crate) sync: bool,
    /// What happened, in order.
    pub(crate) events: Vec<Event>,
    /// What was done and how long it took.
    pub(crate) steps: Vec<Step>,
    /// The ends of the directors' logs.
    #[serde(skip)]
    pub(crate) log: String,
}

/// What an event may break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Allowed {
    /// Nothing.
    Nothing,
    /// Nothing, and no packet may be lost.
    NothingAndNoPacket,
    /// Connections of a host, at most so many.
    Its {
        /// The host.
        host: String,
        /// How many it had.
        most: u64,
    },
    /// One in a thousand, of those that were younger than 200 ms.
    Young,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Event {
    /// Which time round, from 1.
    pub(crate) round: u32,
    /// What.
    pub(crate) what: String,
    /// What it may break.
    pub(crate) allowed: Allowed,
    /// What happened to the connections.
    pub(crate) window: Window,
    /// The WebSockets that broke, by server.
    pub(crate) sockets: Vec<String>,
    /// Packets that the machine dropped before anybody saw them: its backlog was full.
    pub(crate) dropped: u64,
    /// What was seen of a director that returned.
    pub(crate) back: Option<Return>,
}

/// The return of a rebooted director.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Return {
    /// Seconds that the agent says the peer's table took.
    pub(crate) bulk: Option<f64>,
    /// Seconds from its start until it was master.
    pub(crate) master: Option<f64>,
    /// Whether it had the whole table first.
    pub(crate) in_order: bool,
    /// The longest time, s, between adverts of the virtual router.
    pub(crate) advert_gap: f64,
}
