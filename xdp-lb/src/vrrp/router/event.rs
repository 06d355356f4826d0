//! States, the reasons of transitions, and everything else that people should read.

use std::net::IpAddr;
use std::time::Duration;

use super::super::packet::Refused;
use super::super::priority::Cause;
use super::super::{Interval, Priority};

/// The states of RFC 9568 section 6.4, and one for routers that cannot take part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Not started yet, or stopped.
    Init,
    /// Listening.
    Backup,
    /// Owner of the addresses.
    Master,
    /// Unable to take part.
    Fault,
}

/// Why a router changed its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was told to start.
    Started,
    /// It owns the addresses, and owners need not wait (RFC 9568 section 6.4.1).
    Owner,
    /// It goes on where an agent before it left off.
    Resumed {
        /// How long ago that was last known to live.
        silent_for: Duration,
    },
    /// The down timer ran out.
    NoAdvert {
        /// Whose adverts it had heard.
        from: Option<IpAddr>,
        /// For how long there was none.
        silent_for: Duration,
    },
    /// The master gave up by an advert of priority 0.
    GaveUp {
        /// The master.
        from: IpAddr,
    },
    /// It is better than the master.
    Preempts {
        /// Its priority.
        own: Priority,
        /// The master's.
        theirs: Priority,
        /// The master.
        from: IpAddr,
    },
    /// Another master is better.
    Outranked {
        /// Its own priority.
        own: Priority,
        /// The other's.
        theirs: Priority,
        /// The other.
        from: IpAddr,
    },
    /// Another master has the same priority and a higher address.
    TieLost {
        /// The priority of both.
        priority: Priority,
        /// Its own address.
        own: IpAddr,
        /// The other.
        from: IpAddr,
    },
    /// It was driven so late that another may have taken over.
    Late {
        /// For how long it had sent no advert.
        silent_for: Duration,
    },
    /// It cannot take part.
    Fault(Fault),
    /// It can again.
    FaultCleared,
    /// All members of its sync group are ready.
    GroupReady {
        /// The group.
        group: String,
    },
    /// A member of its sync group stepped down.
    GroupBackup {
        /// The group.
        group: String,
        /// The member.
        member: String,
    },
    /// It was told to stop.
    Stopped {
        /// Who took over, if it was master and heard somebody.
        successor: Option<IpAddr>,
    },
}

/// Why a router cannot take part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its interface is down.
    Interface(String),
    /// The address its adverts leave from is gone.
    Source(IpAddr),
    /// It sends to peers, and there are none.
    NoPeer,
    /// A tracker of weight 0 failed.
    Tracker(Cause),
    /// A member of its sync group has a fault.
    Group {
        /// The group.
        group: String,
        /// The member.
        member: String,
    },
}

/// What people should read, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The state changed.
    Transition {
        /// From this.
        from: State,
        /// To this.
        to: State,
        /// Why.
        why: Why,
    },
    /// The effective priority changed.
    Priority {
        /// From this.
        from: Priority,
        /// To this.
        to: Priority,
        /// Why; `None`: the configuration did.
        cause: Option<Cause>,
    },
    /// A datagram was refused.
    Refused {
        /// Which and why.
        refused: Refused,
        /// How many more for the same reason since the last line.
        more: u64,
    },
    /// An advert lists other addresses. It is accepted, for otherwise a rolling change would make two
    /// masters (RFC 9568 section 7.1).
    AddressesDiffer {
        /// Who sent it.
        from: IpAddr,
        /// What it lists and this router does not.
        unknown: Vec<IpAddr>,
        /// What this router has and it does not list.
        missing: Vec<IpAddr>,
    },
    /// An advert has another interval. Its sender's is used for the down timer.
    IntervalDiffers {
        /// Who sent it.
        from: IpAddr,
        /// The sender's.
        theirs: Interval,
        /// This router's.
        own: Interval,
    },
    /// A master heard another master that is worse.
    OtherMaster {
        /// The other.
        from: IpAddr,
        /// Its priority.
        theirs: Priority,
        /// This router's.
        own: Priority,
        /// How many more adverts like that since the last line.
        more: u64,
    },
    /// A master was driven so late that another may have taken over.
    Late {
        /// For how long it had sent no advert.
        silent_for: Duration,
        /// It steps down and listens, for with `nopreempt` it must not take back what another has;
        /// else it announces itself again.
        yields: bool,
    },
    /// A backup was driven so late that it may have missed adverts.
    ListensAgain {
        /// How late.
        late: Duration,
    },
    /// What an agent before it left is too old to be gone on with.
    StalePredecessor {
        /// How long ago that was last known to live.
        silent_for: Duration,
        /// How long it may have been.
        limit: Duration,
    },
    /// It has given up and waits for a successor, still forwarding.
    HandingOver {
        /// For how long at most.
        wait: Duration,
    },
}

impl Event {
    /// Something that somebody should look after, not the normal course of things.
    pub const fn is_warning(&self) -> bool {
        match self {
            Self::Transition { to, .. } => matches!(to, State::Fault),
            Self::Priority { .. } | Self::HandingOver { .. } | Self::StalePredecessor { .. } => {
                false
            }
            Self::Refused { .. }
            | Self::AddressesDiffer { .. }
            | Self::IntervalDiffers { .. }
            | Self::OtherMaster { .. }
            | Self::Late { .. }
            | Self::ListensAgain { .. } => true,
        }
    }
}

impl State {
    /// As `xdp-lb vrrp --json` and metrics have it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
            Self::Fault => "FAULT",
        }
    }
}
