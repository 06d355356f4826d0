//! What a snapshot says of VRRP.
//!
//! The configuration says which instances there are and in which order; the routers that run say the
//! rest. Moments go over the wire as ages: agent and command have no clock in common but the wall's,
//! and that one jumps.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SnapshotInputs;
use crate::config::model;
use crate::machine::Now;
use crate::vrrp::packet::refusal::Kind;
use crate::vrrp::router::{self, Heard, LastRefused, Stats};
use crate::vrrp::settings::Transport;

/// A VRRP instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpInstance {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: VrrpState,
    /// Interface it speaks on.
    pub interface: String,
    /// `virtual_router_id`.
    pub vrid: u8,
    /// Version of the protocol; 0 from agents that do not say.
    #[serde(default)]
    pub version: u8,
    /// `priority` of the file.
    pub base_priority: u8,
    /// Its VIPs with prefix length, in the order of the file.
    pub vips: Vec<String>,
    /// What the election knows; `None` while it takes part in none.
    #[serde(default)]
    pub election: Option<Election>,
}

/// State of a VRRP instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VrrpState {
    /// Not started yet, or stopped.
    Init,
    /// Another director owns the VIPs, or may.
    Backup,
    /// This director owns the VIPs.
    Master,
    /// It cannot take part: an interface or a tracked object is down.
    Fault,
}

impl VrrpState {
    /// All states.
    pub const ALL: [Self; 4] = [Self::Init, Self::Backup, Self::Master, Self::Fault];

    /// As keepalived writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Init => "INIT",
            Self::Backup => "BACKUP",
            Self::Master => "MASTER",
            Self::Fault => "FAULT",
        }
    }
}

impl From<router::State> for VrrpState {
    fn from(state: router::State) -> Self {
        match state {
            router::State::Init => Self::Init,
            router::State::Backup => Self::Backup,
            router::State::Master => Self::Master,
            router::State::Fault => Self::Fault,
        }
    }
}

/// What an instance knows of the election that it takes part in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Election {
    /// The effective priority: that of the file and what trackers make of it.
    pub priority: u8,
    /// It has given up, and holds the VIPs until a successor is heard.
    pub leaving: bool,
    /// The master, as far as is known.
    pub master: Option<IpAddr>,
    /// Where its own adverts leave from.
    pub source: IpAddr,
    /// The multicast group its adverts go to, unless they go to peers.
    pub group: Option<IpAddr>,
    /// `unicast_peer`.
    pub peers: Vec<IpAddr>,
    /// `advert_int` in force, milliseconds.
    pub advert_interval_ms: u64,
    /// For how long it has been in its state, milliseconds.
    pub state_age_ms: u64,
    /// Why it got there.
    pub reason: Option<String>,
    /// Counters since the agent started.
    pub counters: VrrpCounters,
    /// Datagrams that were refused, by reason; none that never occurred.
    pub refused: Vec<VrrpRefused>,
    /// The last other director heard as master.
    pub last_master: Option<VrrpHeard>,
    /// The last other director heard as master while this one was.
    pub other_master: Option<VrrpHeard>,
}

/// What an instance counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpCounters {
    /// Changes of the state.
    pub transitions: u64,
    /// Those to MASTER.
    pub became_master: u64,
    /// Those from MASTER.
    pub released_master: u64,
    /// Adverts sent, to each peer one, those of priority 0 included.
    pub adverts_sent: u64,
    /// Adverts accepted, those of priority 0 included.
    pub adverts_received: u64,
    /// Adverts of priority 0 sent.
    pub priority_zero_sent: u64,
    /// Adverts of priority 0 accepted.
    pub priority_zero_received: u64,
    /// Accepted adverts with other VIPs.
    pub address_list_differs: u64,
    /// Accepted adverts with another interval.
    pub interval_differs: u64,
    /// Adverts of other masters that came while it was MASTER.
    pub other_masters: u64,
    /// How often it was MASTER and kept from advertising for so long that another may have taken over.
    pub late: u64,
}

/// Datagrams that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpRefused {
    /// The reason.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// What was wrong with the last one, for people.
    pub last_error: String,
    /// Who sent the last one, if that could be read.
    pub last_sender: Option<IpAddr>,
    /// How long ago it came, milliseconds.
    pub age_ms: u64,
}

/// Another director, as its last advert showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VrrpHeard {
    /// Its address.
    pub address: IpAddr,
    /// Its priority.
    pub priority: u8,
    /// Its interval, milliseconds.
    pub advert_interval_ms: u64,
    /// How long ago the advert came, milliseconds.
    pub age_ms: u64,
}

/// All instances, in the order of the file; then those that a reload took out of it and that are not
/// gone yet.
pub(super) fn instances(inputs: &SnapshotInputs<'_>) -> Vec<VrrpInstance> {
    let configured = &inputs.config.vrrp_instances;
    let router_of = |instance| inputs.vrrp.iter().find(|router| is_of(router, instance));
    let of_file = configured.iter().map(|instance| match router_of(instance) {
        Some(router) => running(inputs, router, vips(instance)),
        None => waiting(inputs, instance),
    });
    let is_retired =
        |router: &&router::Snapshot| !configured.iter().any(|instance| is_of(router, instance));
    let retired = inputs.vrrp.iter().filter(is_retired).map(|router| {
        let vips = router.addresses.iter().map(IpAddr::to_string).collect();
        running(inputs, router, vips)
    });
    of_file.chain(retired).collect()
}

/// Whether a router is what runs of an instance: after a reload another of its name may be about to
/// leave.
fn is_of(router: &router::Snapshot, instance: &model::VrrpInstance) -> bool {
    router.name == instance.name
        && router.interface == instance.interface
        && router.vrid.get() == instance.virtual_router_id
}

fn vips(instance: &model::VrrpInstance) -> Vec<String> {
    let vips = instance.virtual_addresses.iter();
    vips.map(|vip| vip.address.to_string()).collect()
}

/// An instance without a router.
fn waiting(inputs: &SnapshotInputs<'_>, instance: &model::VrrpInstance) -> VrrpInstance {
    let owned = inputs.ownership.get(&instance.name);
    VrrpInstance {
        name: instance.name.clone(),
        state: match owned.filter(|_| inputs.vrrp.is_empty()) {
            Some(true) => VrrpState::Master,
            Some(false) => VrrpState::Backup,
            None => VrrpState::Init,
        },
        interface: instance.interface.clone(),
        vrid: instance.virtual_router_id,
        version: instance.version.number(),
        base_priority: instance.priority,
        vips: vips(instance),
        election: None,
    }
}

fn running(
    inputs: &SnapshotInputs<'_>,
    router: &router::Snapshot,
    vips: Vec<String>,
) -> VrrpInstance {
    VrrpInstance {
        name: router.name.clone(),
        state: router.state.into(),
        interface: router.interface.clone(),
        vrid: router.vrid.get(),
        version: router.version.number(),
        base_priority: router.base_priority.get(),
        vips,
        election: Some(election(inputs.vrrp_now, router)),
    }
}

fn election(now: Now, router: &router::Snapshot) -> Election {
    let stats = &router.stats;
    let (group, peers) = match &router.transport {
        Transport::Multicast { group } => (Some(*group), Vec::new()),
        Transport::Unicast { peers, .. } => (None, peers.iter().map(|peer| peer.address).collect()),
    };
    let mut refused: Vec<VrrpRefused> = (stats.last_refused.iter())
        .map(|(kind, last)| refused(now, stats, *kind, last))
        .collect();
    refused.sort_by_key(|refused| refused.age_ms);
    Election {
        priority: router.priority.get(),
        leaving: router.is_leaving,
        master: router.master,
        source: router.source,
        group,
        peers,
        advert_interval_ms: milliseconds(router.interval.duration()),
        state_age_ms: age(now, router.since),
        reason: router.why.as_ref().map(ToString::to_string),
        counters: stats.into(),
        refused,
        last_master: stats.last_master.map(|heard| other(now, heard)),
        other_master: stats.last_other_master.map(|heard| other(now, heard)),
    }
}

fn refused(now: Now, stats: &Stats, kind: Kind, last: &LastRefused) -> VrrpRefused {
    VrrpRefused {
        reason: kind.label().to_owned(),
        count: stats.refused.get(&kind).copied().unwrap_or(0),
        last_error: last.refused.reason.to_string(),
        last_sender: last.refused.sender,
        age_ms: age(now, last.at),
    }
}

fn other(now: Now, heard: Heard) -> VrrpHeard {
    VrrpHeard {
        address: heard.from,
        priority: heard.priority.get(),
        advert_interval_ms: milliseconds(heard.interval.duration()),
        age_ms: age(now, heard.at),
    }
}

fn age(now: Now, at: Now) -> u64 {
    milliseconds(at.until(now))
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<&Stats> for VrrpCounters {
    fn from(stats: &Stats) -> Self {
        Self {
            transitions: stats.transitions,
            became_master: stats.became_master,
            released_master: stats.released_master,
            adverts_sent: stats.adverts_sent,
            adverts_received: stats.adverts_received,
            priority_zero_sent: stats.releases_sent,
            priority_zero_received: stats.releases_received,
            address_list_differs: stats.address_list_differs,
            interval_differs: stats.interval_differs,
            other_masters: stats.other_masters,
            late: stats.late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Snapshot;
    use super::*;
    use crate::control::sample;

    fn states(snapshot: &Snapshot) -> Vec<(&str, VrrpState, bool)> {
        let instances = snapshot.vrrp_instances.iter();
        instances
            .map(|i| (i.name.as_str(), i.state, i.election.is_some()))
            .collect()
    }

    #[test]
    fn routers_that_run_say_the_state_and_the_file_the_order() {
        use VrrpState::{Backup, Fault, Master};
        let mut parts = sample::parts();
        parts.vrrp.reverse();
        parts.ownership.clear();
        let snapshot = Snapshot::build(&parts.inputs());
        let wanted = [
            ("VI_1", Master, true),
            ("VI_2", Backup, true),
            ("VI_3", Fault, true),
        ];
        assert_eq!(states(&snapshot), wanted);
        let election = snapshot.vrrp_instances[0].election.as_ref().unwrap();
        assert_eq!((election.priority, election.state_age_ms), (99, 11_516_890));
        assert_eq!(election.refused.len(), 2);
        assert!(election.refused[0].age_ms < election.refused[1].age_ms);
    }

    #[test]
    fn without_an_election_states_follow_ownership() {
        use VrrpState::{Backup, Init, Master};
        let mut parts = sample::parts();
        parts.vrrp.clear();
        let snapshot = Snapshot::build(&parts.inputs());
        let wanted = [
            ("VI_1", Master, false),
            ("VI_2", Backup, false),
            ("VI_3", Init, false),
        ];
        assert_eq!(states(&snapshot), wanted);
        assert_eq!(snapshot.vrrp_instances[0].version, 2);
    }

    #[test]
    fn an_instance_without_its_router_is_no_master_while_others_run() {
        let mut parts = sample::parts();
        parts.vrrp.remove(0);
        let snapshot = Snapshot::build(&parts.inputs());
        assert_eq!(states(&snapshot)[0], ("VI_1", VrrpState::Init, false));
    }

    #[test]
    fn a_router_that_a_reload_retired_is_shown_until_it_is_gone() {
        let mut parts = sample::parts();
        parts.config.vrrp_instances[0].virtual_router_id = 61;
        let snapshot = Snapshot::build(&parts.inputs());
        let states = states(&snapshot);
        assert_eq!(states[0], ("VI_1", VrrpState::Init, false));
        assert_eq!(states[3], ("VI_1", VrrpState::Master, true));
        assert_eq!(snapshot.vrrp_instances[3].vips, ["10.1.0.100"]);
    }

    #[test]
    fn an_answer_of_an_older_agent_is_understood() {
        let old = r#"{"name":"VI_1","state":"MASTER","interface":"eth0","vrid":51,
            "base_priority":100,"vips":["10.1.0.100/24"]}"#;
        let instance: VrrpInstance = serde_json::from_str(old).unwrap();
        assert_eq!((instance.version, instance.election), (0, None));
    }
}
