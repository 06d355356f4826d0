//! How addresses are made known, and who is told about changes.

use std::time::Duration;

use super::Command;

/// Gratuitous ARP and unsolicited neighbour advertisements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Garp {
    /// `garp_master_delay`: time to the second burst, 5 s by default; 0 is none.
    pub delay: Duration,
    /// `garp_master_repeat`: frames per address in a burst, at least 1; 5 by default.
    pub repeat: u32,
    /// `garp_master_refresh`: time between refreshes, 0 for none; `None` when the file does not say.
    pub refresh: Option<Duration>,
    /// `garp_master_refresh_repeat`: frames per address in a refresh; 1 by default.
    pub refresh_repeat: u32,
    /// `garp_lower_prio_delay`: time to the second burst after a lower priority was heard, by default
    /// as `vrrp_garp_master_delay`.
    pub lower_prio_delay: Duration,
    /// `garp_lower_prio_repeat`: frames per address then, by default as `vrrp_garp_master_repeat`.
    pub lower_prio_repeat: u32,
    /// `garp_extra_if`: what other interfaces get.
    pub extra: Option<ExtraGarp>,
}

impl Default for Garp {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            repeat: 5,
            refresh: None,
            refresh_repeat: 1,
            lower_prio_delay: Duration::from_secs(5),
            lower_prio_repeat: 5,
            extra: None,
        }
    }
}

/// `garp_extra_if`: gratuitous ARP for VMACs on other interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtraGarp {
    /// `all`: on every interface that has an address of the instance.
    pub all: bool,
    /// Time between two.
    pub interval: Duration,
}

/// What VRRP needs beside its instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcements {
    /// `vrrp_garp_interval`: time between two gratuitous ARPs on an interface; 0 by default.
    pub garp_interval: Duration,
    /// `vrrp_gna_interval`: the same of neighbour advertisements.
    pub na_interval: Duration,
    /// `garp_group`: interfaces that share a pace; each interface is in one of them at most.
    pub groups: Vec<GarpGroup>,
}

/// A `garp_group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GarpGroup {
    /// `interfaces`: one at least.
    pub interfaces: Vec<String>,
    /// `garp_interval`.
    pub garp_interval: Option<Duration>,
    /// `gna_interval`.
    pub na_interval: Option<Duration>,
}

/// Who is told about changes of state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// `notify_master`.
    pub master: Option<Command>,
    /// `notify_backup`.
    pub backup: Option<Command>,
    /// `notify_fault`.
    pub fault: Option<Command>,
    /// `notify_stop`.
    pub stop: Option<Command>,
    /// `notify_deleted`; not of groups.
    pub deleted: Deleted,
    /// `notify`: runs on every change, with four more arguments.
    pub any: Option<Command>,
    /// `notify_master_rx_lower_pri`: the master hears a lower priority; not of groups.
    pub lower_priority: Option<Command>,
    /// `notify_priority_changes`: changes of the priority go to the FIFOs as well.
    pub priority_changes: bool,
    /// `smtp_alert`: mail on every change.
    pub mail: bool,
}

/// What a reload that removes an instance counts as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Deleted {
    /// A fault.
    #[default]
    Fault,
    /// `notify_deleted` without a command: the state DELETED of its own, told to `notify` and the
    /// FIFOs.
    Named,
    /// `notify_deleted`: the same, with a command.
    Runs(Command),
}
