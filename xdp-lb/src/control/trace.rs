//! What would become of a packet, for people: the program's verdict beside what the director knows of
//! the service, its owner and its real servers.
//!
//! A pure function of both. [`Trace`] is also what goes over the wire and what `--json` prints.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use xdp_lb_common::reason::{Reason, Verdict as Fate};
use xdp_lb_common::watch::Via;

use super::snapshot::{
    RealServer, ServerState, Service, Snapshot, VrrpInstance, VrrpState, verdict_name,
};
use crate::config::model::{Protocol, ServiceKey};
use crate::dataplane::decision::{Entry, Verdict};

mod explain;
#[cfg(test)]
mod tests;

/// A packet that might come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Query {
    /// Where it would come from.
    pub client: IpAddr,
    /// From which port; without one it is of no connection that there is.
    pub client_port: Option<u16>,
    /// Where it would go to.
    pub vip: IpAddr,
    /// To which port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// A TCP packet in the middle of a connection.
    #[serde(default)]
    pub midstream: bool,
}

/// What would become of it. The names of open sets are strings, as in a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// It would go to a real server.
    pub balanced: bool,
    /// The packet.
    #[serde(flatten)]
    pub query: Query,
    /// Interface it would come in by.
    pub interface: String,
    /// Why it would leave the program, as in `xdp_lb_packets_total{reason}`.
    pub reason: String,
    /// `pass`, `tx`, `redirect` or `drop`.
    pub verdict: String,
    /// By which rule its real server was found: `connection`, `persistence`, `scheduler` or `hash`.
    pub rule: Option<String>,
    /// Rule or reason in plain words.
    pub explanation: String,
    /// Where it would go.
    pub real_server: Option<Target>,
    /// Its service.
    pub service: Option<Place>,
    /// The VRRP instance that carries the VIP; without one the VIP is always balanced.
    pub vrrp: Option<Owner>,
    /// The entry of its connection.
    pub connection: Option<TraceEntry>,
    /// The template of its client.
    pub template: Option<TraceEntry>,
    /// The real servers that the scheduler chooses from, where it counts or none takes the packet.
    pub candidates: Vec<Candidate>,
    /// What there is to say of the program on that interface, if it is not there as it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remark: Option<String>,
}

/// A real server that a packet would go to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `dr`, `tun`, `nat`, or `local` for the director itself.
    pub forward: String,
    /// Interface that the packet would leave by.
    pub interface: Option<String>,
    /// MAC that it would be sent to.
    pub mac: Option<String>,
}

/// A service as a trace has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Virtual IP.
    pub vip: IpAddr,
    /// Port; 0 is any port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// IPVS's name of the scheduler.
    pub scheduler: String,
    /// IPVS's names of the scheduler's flags that are on.
    pub scheduler_flags: Vec<String>,
    /// Whether its packets are balanced here now.
    pub active: bool,
    /// Life of an idle template, seconds; `None` where clients do not stick.
    pub persistence_s: Option<u64>,
    /// Prefix length that clients are grouped by.
    pub granularity: Option<u8>,
}

/// The VRRP instance of a VIP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: VrrpState,
    /// The master, as far as is known.
    pub master: Option<IpAddr>,
}

/// An entry of the connection table or the template table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEntry {
    /// State, by the name that ipvsadm has for it.
    pub state: String,
    /// Its real server; `None` once that has left the tables.
    pub real_server: Option<SocketAddr>,
    /// Seconds since it was made.
    pub age_s: u32,
    /// Seconds until it expires if nothing more is heard of it.
    pub expires_s: u32,
    /// Those seconds when they begin.
    pub timeout_s: u32,
    /// It is void: its server failed, was removed or gives its clients up.
    pub void: bool,
}

/// A real server that the scheduler chooses from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Whether it takes connections.
    pub state: ServerState,
    /// Weight in force.
    pub weight: u32,
    /// Connections established or opening, now.
    pub active_conns: u64,
    /// Other connections in the table, now.
    pub inactive_conns: u64,
}

/// Interfaces of a trace, by name.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    /// It would come in by this one.
    pub into: &'a str,
    /// It would leave by this one.
    pub out: Option<&'a str>,
}

impl Query {
    /// Its protocol, if that is one that is balanced.
    pub fn protocol(&self) -> Option<Protocol> {
        let mut known = [Protocol::Tcp, Protocol::Udp].into_iter();
        known.find(|protocol| protocol.name() == self.protocol)
    }
}

impl Trace {
    /// Puts a verdict and the state of the director together.
    pub fn build(query: &Query, ways: Ways<'_>, verdict: &Verdict, snapshot: &Snapshot) -> Self {
        let service = verdict.service.and_then(|key| find_service(snapshot, key));
        let instance = find_instance(snapshot, service.map_or(query.vip, |service| service.vip));
        let is_balanced = is_balanced(verdict);
        let rule = is_balanced.then(|| rule(verdict.via).to_owned());
        Self {
            balanced: is_balanced,
            query: query.clone(),
            interface: ways.into.to_owned(),
            reason: verdict.reason.name().to_owned(),
            verdict: verdict_name(verdict.reason.verdict()).to_owned(),
            explanation: explain::explain(&explain::Facts {
                query,
                verdict,
                service,
                instance,
                snapshot,
            }),
            rule,
            real_server: verdict
                .server
                .filter(|_| is_balanced)
                .map(|address| target(address, ways, verdict, service)),
            service: service.map(Place::from),
            vrrp: instance.map(Owner::from),
            connection: verdict.connection.as_ref().map(TraceEntry::from),
            template: verdict.template.as_ref().map(TraceEntry::from),
            candidates: service.map_or_else(Vec::new, |service| candidates(verdict, service)),
            remark: remark(snapshot, ways.into),
        }
    }
}

/// Whether a packet reaches a real server.
fn is_balanced(verdict: &Verdict) -> bool {
    match verdict.reason.verdict() {
        Fate::Tx | Fate::Redirect => !verdict.reason.is_answer(),
        Fate::Pass => verdict.reason == Reason::Local,
        Fate::Drop => false,
    }
}

/// The name of a rule.
pub(super) const fn rule(via: Via) -> &'static str {
    match via {
        Via::Connection => "connection",
        Via::Persistent => "persistence",
        Via::Scheduled => "scheduler",
        Via::Stateless => "hash",
    }
}

fn remark(snapshot: &Snapshot, interface: &str) -> Option<String> {
    let mut interfaces = snapshot.interfaces.iter();
    let interface = interfaces.find(|known| known.name == interface)?;
    interface.remark.clone()
}

fn find_service(snapshot: &Snapshot, key: ServiceKey) -> Option<&Service> {
    let name = key.to_string();
    let mut services = snapshot.services.iter();
    services.find(|service| service.label() == name)
}

pub(crate) fn find_instance(snapshot: &Snapshot, vip: IpAddr) -> Option<&VrrpInstance> {
    let carries = |address: &String| {
        let ip = address.split('/').next().unwrap_or(address);
        ip.parse() == Ok(vip)
    };
    let mut instances = snapshot.vrrp_instances.iter();
    instances.find(|instance| instance.vips.iter().any(carries))
}

fn target(
    address: SocketAddr,
    ways: Ways<'_>,
    verdict: &Verdict,
    service: Option<&Service>,
) -> Target {
    let mut servers = service
        .into_iter()
        .flat_map(|service| &service.real_servers);
    let known = servers.find(|server| is_at(server, address));
    let is_local = verdict.reason == Reason::Local;
    Target {
        address: address.ip(),
        port: address.port(),
        forward: match known {
            _ if is_local => "local".to_owned(),
            Some(server) => server.forward.clone(),
            None => service.map_or_else(String::new, |service| service.forward.clone()),
        },
        interface: ways.out.map(str::to_owned),
        mac: known.and_then(|server| server.mac.clone()),
    }
}

fn is_at(server: &RealServer, address: SocketAddr) -> bool {
    server.address == address.ip() && server.port == address.port()
}

/// Schedulers that look at the connections of their servers.
const COUNTING: [&str; 9] = [
    "lc", "wlc", "lblc", "lblcr", "sed", "nq", "ovf", "fo", "twos",
];

fn candidates(verdict: &Verdict, service: &Service) -> Vec<Candidate> {
    let counts = COUNTING.contains(&&*service.scheduler);
    let is_new = is_balanced(verdict) && verdict.via == Via::Scheduled;
    if !(explain::lacks_server(verdict.reason) || counts && is_new) {
        return Vec::new();
    }
    service.real_servers.iter().map(Candidate::from).collect()
}

impl From<&Service> for Place {
    fn from(service: &Service) -> Self {
        let persistence = service.persistence;
        Self {
            vip: service.vip,
            port: service.port,
            protocol: service.protocol.clone(),
            scheduler: service.scheduler.clone(),
            scheduler_flags: service.scheduler_flags.clone(),
            active: service.active,
            persistence_s: persistence.map(|persistence| persistence.timeout_s),
            granularity: persistence.map(|persistence| persistence.granularity),
        }
    }
}

impl From<&VrrpInstance> for Owner {
    fn from(instance: &VrrpInstance) -> Self {
        let election = instance.election.as_ref();
        Self {
            name: instance.name.clone(),
            state: instance.state,
            master: election.and_then(|election| election.master),
        }
    }
}

impl From<&Entry> for TraceEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            state: entry.state.to_owned(),
            real_server: entry.server,
            age_s: entry.age_s,
            expires_s: entry.expires_s,
            timeout_s: entry.timeout_s,
            void: entry.is_void,
        }
    }
}

impl From<&RealServer> for Candidate {
    fn from(server: &RealServer) -> Self {
        Self {
            address: server.address,
            port: server.port,
            state: server.state,
            weight: server.weight,
            active_conns: server.active_conns,
            inactive_conns: server.inactive_conns,
        }
    }
}
