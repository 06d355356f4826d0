//! What happens to a router, and what it wants done.

use std::net::IpAddr;
use std::time::Duration;

use super::super::packet::{Datagram, Refused};
use super::super::priority::{Condition, Kind};
use super::super::settings::Settings;
use super::super::{Priority, Wall};
use super::event::Event;

/// What happens to a router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// It is to take part.
    Start {
        /// What an agent that ran before left behind.
        predecessor: Option<Predecessor>,
    },
    /// A datagram for its VRID arrived.
    Received {
        /// The datagram.
        datagram: Datagram,
        /// The wall clock, against replay.
        wall: Wall,
    },
    /// A packet for its VRID arrived that is no datagram to hand over.
    Refused(Refused),
    /// Its interface went up or down.
    Interface {
        /// Up, with a carrier.
        up: bool,
    },
    /// The address that its adverts leave from changed, or is gone.
    Source(Option<IpAddr>),
    /// Something that is tracked changed, perhaps something that this router does not track.
    Tracked {
        /// What kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
        /// How it is now.
        condition: Condition,
    },
    /// State sync is up to date (`None`), or is not: a worse master is left alone for so long at most,
    /// as the connections would be lost that only it knows.
    Patience(Option<Duration>),
    /// The configuration changed. A router keeps its VRID, family and interface for life; what
    /// changes those is another router.
    Reload(Box<Settings>),
    /// It is to give up, in good order; [`Action::Stopped`] says when that is done. The second time
    /// it does not wait for a successor.
    Stop,
}

/// An agent that was master, left without giving up, and whose gate is open and whose addresses are
/// on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// How long ago it was last known to live.
    pub silent_for: Duration,
}

/// What a router wants done. The order counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let the packet path balance for the addresses.
    OpenGate,
    /// Let it stop.
    CloseGate,
    /// Send an advert ([`super::Router::message`]).
    Advert {
        /// The priority in it; 0 to give up.
        priority: Priority,
        /// A group or a peer.
        destination: IpAddr,
    },
    /// Bring addresses, routes and rules on the host in line with the settings.
    TakeAddresses,
    /// Remove them.
    DropAddresses,
    /// Send gratuitous ARP or unsolicited neighbour advertisements for each address.
    Announce {
        /// Frames per address.
        repeat: u8,
        /// The gap between two.
        gap: Duration,
    },
    /// Send gratuitous ARP or an unsolicited neighbour advertisement for the router's own address: the
    /// peers that send to it by unicast may have forgotten its MAC.
    AnnounceSource,
    /// Tell scripts, FIFOs and mail.
    Notify {
        /// What to tell.
        notice: Notice,
        /// The effective priority.
        priority: Priority,
    },
    /// Tell people.
    Log(Event),
    /// It has stopped and holds nothing any more.
    Stopped,
}

/// What scripts are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It is master.
    Master,
    /// It is backup.
    Backup,
    /// It has a fault.
    Fault,
    /// It stopped.
    Stop,
    /// A master heard the advert of a worse one (`notify_master_rx_lower_pri`).
    MasterRxLowerPriority,
    /// The priority changed while master (`notify_priority_changes`).
    MasterPriority,
    /// The priority changed while backup.
    BackupPriority,
}

impl Notice {
    /// As keepalived writes it to FIFOs and scripts.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Master => "MASTER",
            Self::Backup => "BACKUP",
            Self::Fault => "FAULT",
            Self::Stop => "STOP",
            Self::MasterRxLowerPriority => "MASTER_RX_LOWER_PRI",
            Self::MasterPriority => "MASTER_PRIORITY",
            Self::BackupPriority => "BACKUP_PRIORITY",
        }
    }
}
