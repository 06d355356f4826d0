//! What happens to the routers, and what they want done.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::super::Wall;
use super::super::packet::{Datagram, Refused};
use super::super::priority::{Condition, Kind};
use super::super::router::{self, Notice, Predecessor};
use super::super::settings::Settings;
use super::RouterId;

/// A `vrrp_sync_group`. Its trackers stand in the settings of each member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The names of its members. One that is no router is as if it were not listed.
    pub members: Vec<String>,
    /// `sync_group_tracking_weight`: trackers with a weight count for members, too.
    pub tracking_weight: bool,
}

/// What happens to the routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The configuration, at the start and whenever it changes. A router of the same interface, VRID and
    /// family goes on, whatever its name; others stop or start.
    Configure {
        /// All routers.
        routers: Vec<Settings>,
        /// All sync groups.
        groups: Vec<Group>,
        /// What the agent before left behind, by the names of routers; at the start only.
        predecessors: BTreeMap<String, Predecessor>,
    },
    /// An interface, script, file or process changed.
    Tracked {
        /// What kind of thing.
        kind: Kind,
        /// Its name.
        name: String,
        /// How it is now.
        condition: Condition,
    },
    /// The address that a router's adverts leave from changed, or is gone.
    Source(RouterId, Option<IpAddr>),
    /// A datagram for a router ([`Routers::find`]).
    Received {
        /// The router.
        id: RouterId,
        /// The datagram.
        datagram: Datagram,
        /// The wall clock.
        wall: Wall,
    },
    /// A packet for a router that could not be read.
    Refused(RouterId, Refused),
    /// State sync is up to date (`None`), or is not: no router takes over from a worse master for so
    /// long at most.
    Patience(Option<Duration>),
    /// All give up in good order; done when [`Routers::is_idle`]. The second time they do not wait for
    /// successors.
    Stop,
}

/// What the routers want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A router wants something done.
    Router(RouterId, router::Action),
    /// A sync group changed its state.
    Group {
        /// Its name.
        name: String,
        /// To this.
        notice: Notice,
    },
}
