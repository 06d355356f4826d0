//! Everything that `list`, `vrrp`, `status` and `/metrics` show, at one moment.
//!
//! The types here are what goes over the wire, and hold nothing but what is shown; [`build`] makes them
//! from what the agent knows, [`vrrp`] what they say of VRRP.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::dataplane::AttachedMode;

pub mod build;
mod seat;
pub mod sync;
pub mod vrrp;

pub use build::{SnapshotInputs, verdict_name};
pub use vrrp::{VrrpInstance, VrrpState};

/// Version of the form of [`Snapshot`]; raised when a field changes its meaning or goes away.
pub const SCHEMA: u32 = 1;

/// The visible state of a director at one moment.
///
/// Names of open sets (scheduler, reason, table …) are strings, so that a command of one version can
/// show what an agent of another says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// [`SCHEMA`] of the agent.
    pub schema: u32,
    /// Name of the instance.
    pub instance: String,
    /// Version of the agent.
    pub version: String,
    /// Milliseconds since the agent started, on a clock that never jumps.
    pub uptime_ms: u64,
    /// Connections the table is made for (`connections` of the `xdp_lb` block).
    pub connection_limit: u32,
    /// Interfaces that carry the program, by name.
    pub interfaces: Vec<Interface>,
    /// Interfaces that it could not be put on, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refused>,
    /// VRRP instances, in the order of the file.
    pub vrrp_instances: Vec<VrrpInstance>,
    /// State sync, if there is any.
    #[serde(default)]
    pub sync: Option<sync::StateSync>,
    /// Virtual services, in the order of `ipvsadm`: mark, family, protocol, address, port.
    pub services: Vec<Service>,
    /// Packets by reason, every reason, in the order of the packet path.
    pub packets: Vec<Exit>,
    /// Events inside the program, every event.
    pub events: Vec<Count>,
    /// Tables and their fill, by name.
    pub tables: Vec<Table>,
}

/// An interface that carries the program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Where the program sits.
    pub mode: AttachedMode,
    /// Administratively up with carrier.
    pub up: bool,
    /// Its MAC; `None` while the link is not known.
    pub mac: Option<String>,
    /// What there is to say of how the program sits there, if that is not as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// An interface that the program could not be put on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Virtual IP; of a service by mark the unspecified address of its family.
    pub vip: IpAddr,
    /// Port; 0 is any port.
    pub port: u16,
    /// `tcp` or `udp`; `fwm` of a service by mark.
    pub protocol: String,
    /// The firewall mark, of a service by mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fwmark: Option<u32>,
    /// What gets that mark: `tcp/192.168.1.200:80`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entrances: Vec<String>,
    /// The `virtual_server_group` that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// IPVS's name of the scheduler.
    pub scheduler: String,
    /// IPVS's names of the scheduler's flags that are on.
    #[serde(default)]
    pub scheduler_flags: Vec<String>,
    /// Each datagram is scheduled by itself.
    #[serde(default)]
    pub one_packet: bool,
    /// `dr`.
    pub forward: String,
    /// Whether its packets are balanced here now.
    pub active: bool,
    /// Stickiness of clients.
    pub persistence: Option<Persistence>,
    /// As much weight is up as there must be.
    #[serde(default)]
    pub has_quorum: bool,
    /// The weight that is up.
    #[serde(default)]
    pub live_weight: u64,
    /// The sorry server serves in place of the real servers.
    #[serde(default)]
    pub is_sorry: bool,
    /// What went through it.
    pub traffic: Traffic,
    /// All its real servers, also those that are out of the tables, by address and port; and the sorry
    /// server and those that left the file, while they are in the tables.
    pub real_servers: Vec<RealServer>,
}

/// Stickiness of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    /// Life of an idle template, seconds.
    pub timeout_s: u64,
    /// Prefix length that clients are grouped by.
    pub granularity: u8,
}

/// Counters since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// New connections.
    pub conns: u64,
    /// Packets from clients.
    pub in_packets: u64,
    /// Their IP length.
    pub in_bytes: u64,
    /// Replies to clients. Only those of servers reached by address translation come through a director.
    #[serde(default)]
    pub out_packets: u64,
    /// Their IP length.
    #[serde(default)]
    pub out_bytes: u64,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `dr`, or `local` for the director itself.
    pub forward: String,
    /// Weight in force.
    pub weight: u32,
    /// `uthreshold` and `lthreshold`, 0 for none.
    #[serde(default)]
    pub thresholds: [u32; 2],
    /// Whether it takes connections.
    pub state: ServerState,
    /// Why it is in its state, if there is more to say than that.
    pub reason: Option<String>,
    /// Milliseconds since it came into its state; `None` while it is not in the pool.
    #[serde(default)]
    pub state_age_ms: Option<u64>,
    /// What an operator said at runtime of its weight.
    #[serde(default)]
    pub overridden: Option<Overridden>,
    /// Connections established or opening, now.
    pub active_conns: u64,
    /// Other connections in the table, now.
    pub inactive_conns: u64,
    /// Persistence templates that name it, now.
    pub persistent_conns: u64,
    /// What went to it.
    pub traffic: Traffic,
    /// MAC that its frames are sent to; `None` while it is not known and for the director itself.
    pub mac: Option<String>,
}

/// What an operator said at runtime of the weight of a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    /// The weight of `xdp-lb weight`.
    pub weight: Option<u32>,
    /// It is drained.
    pub drained: bool,
}

/// Whether a real server takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServerState {
    /// It takes new connections.
    Up,
    /// It is out of the tables.
    Down,
    /// Its connections go on, new ones go elsewhere.
    Draining,
    /// The sorry server, in place of all others.
    Sorry,
}

/// Packets that left the program for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The reason.
    pub reason: String,
    /// What became of them: `pass`, `tx`, `redirect` or `drop`.
    pub verdict: String,
    /// They were not sent on: the director answered them with packets of its own.
    #[serde(default)]
    pub answer: bool,
    /// How many.
    pub packets: u64,
}

/// Occurrences of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The event.
    pub event: String,
    /// How many.
    pub count: u64,
}

/// How full a table is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Entries in use.
    pub entries: u64,
    /// Entries there is room for.
    pub capacity: u64,
}

/// How well a service is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Every real server does what it was told to.
    Up,
    /// New connections are served, but not by all real servers.
    Degraded,
    /// No real server takes new connections.
    Down,
}

impl Service {
    /// How well it is served, whoever owns its VIP.
    pub fn condition(&self) -> Condition {
        let has = |state| self.real_servers.iter().any(|server| server.state == state);
        if !has(ServerState::Up) && !has(ServerState::Sorry) {
            Condition::Down
        } else if has(ServerState::Down) || has(ServerState::Sorry) {
            Condition::Degraded
        } else {
            Condition::Up
        }
    }

    /// The value of the metric label `service`: `tcp/192.168.1.200:80`, `fwmark/1`.
    pub fn label(&self) -> String {
        match (self.fwmark, self.vip) {
            (Some(mark), IpAddr::V4(_)) => format!("fwmark/{mark}"),
            (Some(mark), IpAddr::V6(_)) => format!("fwmark6/{mark}"),
            (None, _) => format!("{}/{}", self.protocol, SocketAddr::new(self.vip, self.port)),
        }
    }

    /// As `ipvsadm` lists it: `TCP  192.168.1.200:80`, `FWM  1`, `FWM  1 IPv6`.
    pub fn listed(&self) -> String {
        let family = if self.vip.is_ipv6() { " IPv6" } else { "" };
        if let Some(mark) = self.fwmark {
            return format!("FWM  {mark}{family}");
        }
        let protocol = self.protocol.to_uppercase();
        format!("{protocol:<4} {}", SocketAddr::new(self.vip, self.port))
    }
}

impl RealServer {
    /// The value of the metric label `real_server`: `192.168.1.102:80`.
    pub fn label(&self) -> String {
        SocketAddr::new(self.address, self.port).to_string()
    }
}
