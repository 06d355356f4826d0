//! What instances and groups track.

use std::path::PathBuf;
use std::time::Duration;

use super::{Command, Notify};

/// `track_interface`, `track_script`, `track_file`, `track_process` of an instance or a group. Names
/// are unique in each list, and what they name exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trackers {
    /// Interfaces by name; weight 0: one that is down is a fault.
    pub interfaces: Vec<Tracked>,
    /// Of [`Config::scripts`](super::Config::scripts).
    pub scripts: Vec<Tracked>,
    /// Of [`Config::track_files`](super::Config::track_files); the weight multiplies the number in it.
    pub files: Vec<Tracked>,
    /// Of [`Config::track_processes`](super::Config::track_processes).
    pub processes: Vec<Tracked>,
}

/// A tracked object and what it counts for here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// Its name.
    pub name: String,
    /// What it does to the priority: of the object itself unless this use has its own.
    pub weight: Weight,
}

/// `weight N [reverse]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// 0: a failure is a fault. Positive: added while good. Negative: subtracted while failed. From
    /// -253 to 253; of files to 254.
    pub value: i16,
    /// `reverse`: good and failed change places.
    pub reverse: bool,
}

/// A `vrrp_script`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its name.
    pub name: String,
    /// `script`, with its `user`.
    pub command: Command,
    /// `interval`: time between two starts, 1 s by default.
    pub interval: Duration,
    /// `timeout`: longest run; by default the interval.
    pub timeout: Duration,
    /// `weight`.
    pub weight: Weight,
    /// `fall`: failures in a row that count as failed, at least 1, the default.
    pub fall: u32,
    /// `rise`: successes in a row that count as good, at least 1, the default.
    pub rise: u32,
    /// `init_fail`: it counts as failed until it succeeded.
    pub starts_failed: bool,
}

/// A `track_file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackFile {
    /// Its name.
    pub name: String,
    /// `file`: holds a number.
    pub path: PathBuf,
    /// `weight`: what the number is multiplied by, 1 by default; 0: any number but 0 is a fault.
    pub weight: Weight,
    /// `init_file`: it is written at the start.
    pub initial: Option<InitFile>,
}

/// `init_file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitFile {
    /// What is written, 0 by default.
    pub value: i64,
    /// `overwrite`: also over a file that exists.
    pub overwrite: bool,
}

/// A `vrrp_track_process`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackProcess {
    /// Its name.
    pub name: String,
    /// `process`: the program, and its arguments if they are compared.
    pub process: Vec<String>,
    /// `param_match`: how arguments are compared.
    pub arguments: MatchArguments,
    /// `full_command`: the whole command line is compared, not the name of the program alone.
    pub full_command: bool,
    /// `weight`.
    pub weight: Weight,
    /// `quorum`: fewest processes; 1 by default, 0 with `quorum_max` 0.
    pub quorum: u32,
    /// `quorum_max`: most processes, at least `quorum`.
    pub quorum_max: Option<u32>,
    /// `fork_delay`: time that a process must have run; 0 by default.
    pub fork_delay: Duration,
    /// `terminate_delay`: time that it must be gone; 0 by default.
    pub terminate_delay: Duration,
}

/// `param_match` of a `vrrp_track_process`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatchArguments {
    /// Not at all, or, where `process` has some, all of them.
    #[default]
    Exact,
    /// `initial`: the first ones, and the last of these may go on. Where `process` has none: none.
    Initial,
    /// `partial`: the first ones. Where `process` has none: none.
    Partial,
}

/// A `vrrp_sync_group`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// `group`: instances that change state together; one at least, each in one group only.
    pub members: Vec<String>,
    /// `track_…`.
    pub trackers: Trackers,
    /// `sync_group_tracking_weight`: weighted trackers of members count; without it they are gone from
    /// the members already.
    pub tracking_weight: bool,
    /// `notify_…`, `smtp_alert`.
    pub notify: Notify,
}

/// A `track_group`: instances of which one at least must be fit for static addresses to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackGroup {
    /// Its name.
    pub name: String,
    /// `group`: instances that exist; one at least.
    pub members: Vec<String>,
}

/// `interface_up_down_delays`: how long a change of a link must last before it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkDelay {
    /// The interface.
    pub interface: String,
    /// Until it counts as down.
    pub down: Duration,
    /// Until it counts as up; 0 by default.
    pub up: Duration,
}
