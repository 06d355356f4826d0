//! What a packet path decides, in the words of the agent: what would become of a packet, and what
//! became of those that came.

use std::net::{IpAddr, SocketAddr};

use xdp_lb_common::addr::Mac;
use xdp_lb_common::reason::Reason;
use xdp_lb_common::watch::{Decision, FILTERS, Filter, Via};

use super::Error;
use crate::config::model::{Protocol, ServiceKey};

/// A packet that might come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Where it would come from; port 0 for one that no connection has yet.
    pub client: SocketAddr,
    /// Where it would go to; of the same address family.
    pub vip: SocketAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// A TCP packet in the middle of a connection, not one that opens it.
    pub midstream: bool,
    /// Index of the interface it would come in by.
    pub ifindex: u32,
    /// MAC of that interface.
    pub mac: Mac,
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it would leave the program.
    pub reason: Reason,
    /// How its real server was found; means nothing without one.
    pub via: Via,
    /// Its service.
    pub service: Option<ServiceKey>,
    /// Its real server.
    pub server: Option<SocketAddr>,
    /// Index of the interface that it would leave by.
    pub out: Option<u32>,
    /// The entry of its connection.
    pub connection: Option<Entry>,
    /// The template of its client.
    pub template: Option<Entry>,
}

/// An entry of the connection table or the template table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// State, by the name that ipvsadm has for it.
    pub state: &'static str,
    /// Its real server; `None` once that has left the tables.
    pub server: Option<SocketAddr>,
    /// Seconds since it was made.
    pub age_s: u32,
    /// Seconds until it expires if nothing more is heard of it.
    pub expires_s: u32,
    /// Those seconds when they begin.
    pub timeout_s: u32,
    /// It is void: its server failed or was removed.
    pub is_void: bool,
}

/// Answers what would become of packets. Nothing changes by it.
pub trait Trace: Send {
    /// What would become of a packet.
    fn ask(&mut self, question: &Question) -> Result<Verdict, Error>;
}

/// Shows what becomes of packets, to as many as there are filters.
pub trait Capture: Send {
    /// Begins to show what a filter of this number wants.
    fn begin(&mut self, number: u32, filter: &Filter) -> Result<(), Error>;

    /// Ends that. When nobody watches any more, the packet path is as if nobody ever had.
    fn end(&mut self, number: u32) -> Result<(), Error>;

    /// Looks after the packet path while somebody watches, to be called every second: interfaces come.
    fn tend(&mut self) -> Result<(), Error>;

    /// Waits until something is to be seen, at most so many milliseconds.
    fn wait(&mut self, millis: u16) -> Result<(), Error>;

    /// Passes on what is to be seen now, at most so much.
    fn read(&mut self, most: usize, see: &mut dyn FnMut(&Seen));

    /// How many were not shown, by filter, since the capture was opened.
    fn unshown(&self) -> Result<[u64; FILTERS as usize], Error>;
}

/// A decision that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// As the program told it.
    pub decision: Decision,
    /// Its service.
    pub service: Option<ServiceKey>,
    /// Its real server.
    pub server: Option<SocketAddr>,
}

impl Seen {
    /// Client and VIP; `None` if the packet has no flow.
    pub fn flow(&self) -> Option<(SocketAddr, SocketAddr)> {
        let decision = &self.decision;
        let client: IpAddr = decision.client.to_ip(decision.family)?;
        let vip = decision.vip.to_ip(decision.family)?;
        Some((
            SocketAddr::new(client, u16::from_be(decision.client_port_be)),
            SocketAddr::new(vip, u16::from_be(decision.vip_port_be)),
        ))
    }
}

/// Ways to look at the decisions of a packet path, beside the agent that writes it.
pub trait Lens: Send + Sync {
    /// Opens what answers questions.
    fn trace(&self) -> Result<Box<dyn Trace>, Error>;

    /// Opens what shows decisions.
    fn capture(&self) -> Result<Box<dyn Capture>, Error>;
}
