//! The packet path as the agent sees it: a place to put tables and to read counters from.
//!
//! [`ebpf`] is the real one: the XDP program and its maps, which [`pins`] keeps alive beyond the
//! agent and [`mmap`] lets it write word by word. [`layout`] and [`schedule`] are the pure part of it:
//! what stands where, and in which order real servers are picked. [`memory`] is the other one: a plain
//! model of all that, which tests hold the program against. [`decision`] has the words for what is
//! decided about packets.

pub mod decision;
pub mod ebpf;
pub mod layout;
pub mod memory;
pub mod mmap;
pub mod pins;
pub mod schedule;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use xdp_lb_common::reason::{Event, Reason};
use xdp_lb_common::service::Stats;

use crate::config::model::{ServiceKey, XdpMode};
use crate::plan::diff::Change;

/// A packet path.
pub trait Dataplane: Send {
    /// Carries out one step; changes of addresses are not for the data plane and are ignored.
    fn apply(&mut self, change: &Change) -> Result<(), Error>;

    /// Gives a sign of life: gates with a lease stay open for that long from now.
    fn heartbeat(&mut self) -> Result<(), Error>;

    /// Reads all counters.
    fn counters(&mut self) -> Result<Counters, Error>;

    /// Looks after the tables, to be called every few seconds: frees what expired long ago.
    fn tend(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// What a predecessor left in pinned maps, so that a restart goes on where it stopped.
    fn inherited(&self) -> &Inherited;
}

/// Tables of a predecessor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Services that stand in the tables and whether each was active. One whose lease had ended is not,
    /// and stays closed.
    pub services: BTreeMap<ServiceKey, bool>,
    /// Real servers that stand in the tables and whether each was serving.
    pub servers: BTreeMap<(ServiceKey, SocketAddr), bool>,
}

/// Counters since the maps were created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets by reason.
    pub packets: BTreeMap<Reason, u64>,
    /// Events inside the program.
    pub events: BTreeMap<Event, u64>,
    /// Per virtual service.
    pub services: BTreeMap<ServiceKey, Stats>,
    /// Per real server.
    pub servers: BTreeMap<(ServiceKey, SocketAddr), ServerCounters>,
    /// Fill of each table.
    pub tables: BTreeMap<&'static str, Fill>,
}

/// Counters of a real server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerCounters {
    /// Packets, bytes, connections.
    pub stats: Stats,
    /// Connections established or opening, now.
    pub active: u64,
    /// Other connections in the table, now.
    pub inactive: u64,
    /// Persistence templates that name it, now.
    pub templates: u64,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Entries in use.
    pub entries: u64,
    /// Entries there is room for.
    pub capacity: u64,
}

/// Why the data plane could not do something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the program or a map.
    #[error("{0}")]
    Load(String),
    /// A table is full.
    #[error("the table of {table} is full ({capacity}); {hint}")]
    Full {
        /// Which table.
        table: &'static str,
        /// How many entries it has.
        capacity: u64,
        /// What to do.
        hint: &'static str,
    },
    /// A change names something that was never set.
    #[error("{0} is not in the tables")]
    Unknown(String),
    /// The program cannot be attached to an interface.
    #[error("{0}")]
    Attach(String),
    /// Somebody else's program is attached to an interface.
    #[error("{0}")]
    Busy(String),
}

/// How the program is to be attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// So and not otherwise.
    Only(AttachedMode),
    /// As a predecessor has it, or first so, and if the interface refuses the other way.
    First(AttachedMode),
}

impl From<XdpMode> for Wish {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Auto => Self::First(AttachedMode::Native),
            XdpMode::Native => Self::Only(AttachedMode::Native),
            XdpMode::Generic => Self::Only(AttachedMode::Generic),
        }
    }
}

/// How the program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachedMode {
    /// In the driver.
    Native,
    /// In the stack, slower.
    Generic,
}

impl AttachedMode {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Native => Self::Generic,
            Self::Generic => Self::Native,
        }
    }

    /// `native` or `generic`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    /// The mode of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Native, Self::Generic]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}
