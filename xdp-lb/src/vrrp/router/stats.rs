//! What a router counts, and what others may know of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::packet::Refused;
use super::super::packet::refusal::Kind;
use super::super::settings::Transport;
use super::super::{Interval, Priority, Version, Vrid};
use super::event::{State, Why};
use crate::machine::Now;

/// A master as its last advert showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its address.
    pub from: IpAddr,
    /// Its priority.
    pub priority: Priority,
    /// Its interval.
    pub interval: Interval,
    /// When the advert arrived.
    pub at: Now,
}

/// The last datagram that was refused for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRefused {
    /// Who sent it, and what was wrong with it.
    pub refused: Refused,
    /// When it arrived.
    pub at: Now,
}

/// Counters since the router came into being; a reload keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Adverts that were accepted, those of priority 0 included.
    pub adverts_received: u64,
    /// Adverts that were sent, to each peer one, those of priority 0 included.
    pub adverts_sent: u64,
    /// Adverts of priority 0 that were accepted.
    pub releases_received: u64,
    /// Adverts of priority 0 that were sent.
    pub releases_sent: u64,
    /// Datagrams that were refused, by reason.
    pub refused: BTreeMap<Kind, u64>,
    /// The last of each.
    pub last_refused: BTreeMap<Kind, LastRefused>,
    /// Accepted adverts with other addresses.
    pub address_list_differs: u64,
    /// Accepted adverts with another interval.
    pub interval_differs: u64,
    /// Adverts of other masters that arrived while this router was master.
    pub other_masters: u64,
    /// The last of those.
    pub last_other_master: Option<Heard>,
    /// Transitions to MASTER.
    pub became_master: u64,
    /// Transitions from MASTER.
    pub released_master: u64,
    /// All transitions.
    pub transitions: u64,
    /// How often it was driven so late that another may have taken over.
    pub late: u64,
    /// The last other router that was heard as master.
    pub last_master: Option<Heard>,
}

/// A router as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The name of the `vrrp_instance`.
    pub name: String,
    /// Its interface.
    pub interface: String,
    /// Where its adverts leave from.
    pub source: IpAddr,
    /// How they travel.
    pub transport: Transport,
    /// How often it sends them.
    pub interval: Interval,
    /// Its number.
    pub vrid: Vrid,
    /// The protocol's version.
    pub version: Version,
    /// Its state.
    pub state: State,
    /// It has given up and waits for a successor.
    pub is_leaving: bool,
    /// The configured priority.
    pub base_priority: Priority,
    /// The effective priority.
    pub priority: Priority,
    /// The present master, as far as is known.
    pub master: Option<IpAddr>,
    /// The addresses in its adverts.
    pub addresses: Vec<IpAddr>,
    /// When it entered its state.
    pub since: Now,
    /// Why it did.
    pub why: Option<Why>,
    /// Counters.
    pub stats: Stats,
}
