//! Puts a [`Snapshot`] together. A pure function of what the agent knows.
//!
//! The configuration says which services and real servers there are, and nothing else does: a server
//! that failed has left the tables, yet an operator must see it. The tables as planned say what is in
//! force, the counters what happened.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use xdp_lb_common::reason::{Event, Reason, Verdict};
use xdp_lb_common::service::Stats;

use super::seat::Seat;
use super::sync::StateSync;
use super::{
    Count, Exit, Interface, Overridden, Persistence, RealServer, Refused, SCHEMA, Service,
    Snapshot, Table, Traffic,
};
use crate::config::model::{Config, Endpoint, Family, Forwarding, Mark, Member, ServiceKey};
use crate::dataplane::{AttachedMode, Counters, Fill};
use crate::machine::Now;
use crate::plan::desired::{Desired, Reach};
use crate::plan::pool::{Memberships, Overrides};
use crate::plan::table::{Health, Network, Ownership};
use crate::sync::report::Report;
use crate::vrrp::router;

/// What a snapshot is made from.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotInputs<'a> {
    /// Name of the instance.
    pub instance: &'a str,
    /// Version of the agent.
    pub version: &'a str,
    /// Time since the agent started.
    pub uptime: Duration,
    /// The configuration in force.
    pub config: &'a Config,
    /// The tables as planned.
    pub desired: &'a Desired,
    /// Verdicts of the health checks.
    pub health: &'a Health,
    /// Who is in the pool of each service.
    pub pools: &'a Memberships,
    /// What operators said at runtime.
    pub overrides: &'a Overrides,
    /// What the clock reads that the moments in `pools` are of.
    pub pools_now: Now,
    /// VRRP instances this director is MASTER for.
    pub ownership: &'a Ownership,
    /// VRRP as it runs. Empty while no election is held: then `ownership` says who is MASTER.
    pub vrrp: &'a [router::Snapshot],
    /// What the clock reads that the moments in `vrrp` are of.
    pub vrrp_now: Now,
    /// State sync as it runs.
    pub sync: Option<&'a Report>,
    /// Links and neighbours.
    pub network: &'a Network,
    /// Counters of the data plane.
    pub counters: &'a Counters,
    /// Interfaces that carry the program.
    pub attached: &'a BTreeMap<String, AttachedMode>,
    /// What is said of them, where that is not as it was asked for.
    pub remarks: &'a BTreeMap<String, String>,
    /// Interfaces that it could not be put on, and why.
    pub refused: &'a BTreeMap<String, String>,
}

impl Snapshot {
    /// Puts the picture together.
    pub fn build(inputs: &SnapshotInputs<'_>) -> Self {
        let mut members: Vec<Member<'_>> = inputs.config.members().collect();
        members.sort_by_key(|member| listing_order(&member.key));
        Self {
            schema: SCHEMA,
            instance: inputs.instance.to_owned(),
            version: inputs.version.to_owned(),
            uptime_ms: u64::try_from(inputs.uptime.as_millis()).unwrap_or(u64::MAX),
            connection_limit: inputs.config.xdp_lb.connections,
            interfaces: interfaces(inputs),
            refused: refused(inputs),
            vrrp_instances: super::vrrp::instances(inputs),
            sync: inputs.sync.map(StateSync::of),
            services: members
                .iter()
                .map(|member| service(inputs, member))
                .collect(),
            packets: exits(inputs.counters),
            events: events(inputs.counters),
            tables: tables(inputs.counters),
        }
    }
}

/// The order in which `ipvsadm` lists services.
fn listing_order(key: &ServiceKey) -> (Option<u32>, Family, u8, Option<(IpAddr, u16)>) {
    match key {
        ServiceKey::Endpoint(Endpoint {
            vip,
            port,
            protocol,
        }) => (
            None,
            Family::of(*vip),
            protocol.number(),
            Some((*vip, *port)),
        ),
        ServiceKey::Mark(Mark { mark, family }) => (Some(*mark), *family, 0, None),
        // Its members are listed.
        ServiceKey::Group { protocol, .. } => (None, Family::V4, protocol.number(), None),
    }
}

/// Virtual IP, port, protocol and mark, as far as it has them.
fn named(key: &ServiceKey) -> (IpAddr, u16, &'static str, Option<u32>) {
    match key {
        ServiceKey::Endpoint(Endpoint {
            vip,
            port,
            protocol,
        }) => (*vip, *port, protocol.name(), None),
        ServiceKey::Mark(Mark { mark, family }) => {
            let vip = match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            (vip, 0, "fwm", Some(*mark))
        }
        ServiceKey::Group { protocol, .. } => {
            (Ipv4Addr::UNSPECIFIED.into(), 0, protocol.name(), None)
        }
    }
}

fn interfaces(inputs: &SnapshotInputs<'_>) -> Vec<Interface> {
    let interface = |(name, mode): (&String, &AttachedMode)| {
        let link = inputs.network.links.get(name);
        Interface {
            name: name.clone(),
            mode: *mode,
            up: link.is_some_and(|link| link.up),
            mac: link.map(|link| link.mac.to_string()),
            remark: inputs.remarks.get(name).cloned(),
        }
    };
    inputs.attached.iter().map(interface).collect()
}

fn refused(inputs: &SnapshotInputs<'_>) -> Vec<Refused> {
    let refused = |(name, reason): (&String, &String)| Refused {
        name: name.clone(),
        reason: reason.clone(),
    };
    inputs.refused.iter().map(refused).collect()
}

fn service(inputs: &SnapshotInputs<'_>, of: &Member<'_>) -> Service {
    let (key, virtual_server) = (of.key, of.service);
    let stats = inputs.counters.services.get(&key);
    let desired = inputs.desired.services.get(&key);
    let pool = inputs.pools.get(&virtual_server.key());
    let configured: BTreeMap<_, _> = virtual_server
        .real_servers
        .iter()
        .map(|server| (server.address, (server.weight, server.forwarding)))
        .collect();
    // Those of the file, and who is in the pool beside them, by what they are called here.
    let members = pool.into_iter().flat_map(|pool| &pool.members);
    let others = members.map(|member| member.address);
    let all = others.chain(configured.keys().copied());
    let addresses: BTreeMap<_, _> = all.map(|address| (of.server(address), address)).collect();
    let forwarding = virtual_server.forwarding;
    let real_server = |address: SocketAddr| {
        let configured = configured.get(&address).copied();
        let seat = Seat::find(inputs, of, address);
        real_server(inputs, &seat, configured.unwrap_or((0, forwarding)))
    };
    let real_servers: Vec<RealServer> = addresses.into_values().map(real_server).collect();
    let (vip, port, protocol, fwmark) = named(&key);
    Service {
        vip,
        port,
        protocol: protocol.to_owned(),
        fwmark,
        entrances: inputs
            .config
            .entrances(&key)
            .map(|entrance| entrance.to_string())
            .collect(),
        group: match virtual_server.key() {
            ServiceKey::Group { name, .. } => Some(name.to_string()),
            ServiceKey::Endpoint(_) | ServiceKey::Mark(_) => None,
        },
        scheduler: virtual_server.scheduler.name().to_owned(),
        scheduler_flags: virtual_server
            .scheduler
            .flags()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        one_packet: virtual_server.one_packet,
        forward: forward_name(virtual_server.forwarding).to_owned(),
        active: desired.is_some_and(|service| service.active),
        persistence: virtual_server.persistence.map(|persistence| Persistence {
            timeout_s: persistence.timeout.as_secs(),
            granularity: persistence.prefix_len,
        }),
        has_quorum: pool.is_some_and(|pool| pool.has_quorum),
        live_weight: pool.map_or(0, |pool| pool.live_weight),
        is_sorry: pool.is_some_and(|pool| pool.is_sorry),
        traffic: stats.copied().map(Traffic::from).unwrap_or_default(),
        real_servers,
    }
}

fn real_server(
    inputs: &SnapshotInputs<'_>,
    seat: &Seat<'_>,
    (configured, forwarding): (u32, Forwarding),
) -> RealServer {
    let address = seat.name.1;
    let counters = inputs.counters.servers.get(&seat.name).copied();
    let counters = counters.unwrap_or_default();
    let (state, reason) = seat.state();
    // A failed server has left the tables, but its neighbour entry still helps to find out why.
    let reach = seat
        .planned
        .and_then(|server| server.reach)
        .or_else(|| inputs.network.reach.get(&address.ip()).copied());
    RealServer {
        address: address.ip(),
        port: address.port(),
        forward: match reach {
            Some(Reach::Local) => "local".to_owned(),
            _ => forward_name(forwarding).to_owned(),
        },
        weight: seat.weight(configured),
        thresholds: seat.thresholds(),
        state,
        reason,
        state_age_ms: seat.since.map(|since| {
            let age = since.until(inputs.pools_now).as_millis();
            u64::try_from(age).unwrap_or(u64::MAX)
        }),
        overridden: seat.said.map(|said| Overridden {
            weight: said.weight,
            drained: said.is_drained,
        }),
        active_conns: counters.active,
        inactive_conns: counters.inactive,
        persistent_conns: counters.templates,
        traffic: counters.stats.into(),
        mac: match reach {
            Some(Reach::Direct { mac, .. }) => Some(mac.to_string()),
            Some(Reach::Local) | None => None,
        },
    }
}

const fn forward_name(forwarding: Forwarding) -> &'static str {
    match forwarding {
        Forwarding::DirectRouting => "dr",
        Forwarding::Nat => "nat",
        Forwarding::Tunnel(_) => "tun",
    }
}

fn exits(counters: &Counters) -> Vec<Exit> {
    let exit = |reason: &Reason| Exit {
        reason: reason.name().to_owned(),
        verdict: verdict_name(reason.verdict()).to_owned(),
        answer: reason.is_answer(),
        packets: counters.packets.get(reason).copied().unwrap_or(0),
    };
    Reason::ALL.iter().map(exit).collect()
}

/// What becomes of a packet, in one word.
pub const fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Tx => "tx",
        Verdict::Redirect => "redirect",
        Verdict::Drop => "drop",
    }
}

fn events(counters: &Counters) -> Vec<Count> {
    let count = |event: &Event| Count {
        event: event.name().to_owned(),
        count: counters.events.get(event).copied().unwrap_or(0),
    };
    Event::ALL.iter().map(count).collect()
}

fn tables(counters: &Counters) -> Vec<Table> {
    let table = |(name, fill): (&&str, &Fill)| Table {
        name: (*name).to_owned(),
        entries: fill.entries,
        capacity: fill.capacity,
    };
    counters.tables.iter().map(table).collect()
}

impl From<Stats> for Traffic {
    fn from(stats: Stats) -> Self {
        Self {
            conns: stats.connections,
            in_packets: stats.packets,
            in_bytes: stats.bytes,
            out_packets: stats.reply_packets,
            out_bytes: stats.reply_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;
    use crate::control::snapshot::{Condition, ServerState};

    fn server<'a>(snapshot: &'a Snapshot, label: &str) -> &'a RealServer {
        let mut all = snapshot.services.iter().flat_map(|s| &s.real_servers);
        all.find(|server| server.label() == label).unwrap()
    }

    #[test]
    fn services_and_servers_stand_in_the_order_of_ipvsadm() {
        let snapshot = sample::snapshot();
        let services: Vec<String> = snapshot.services.iter().map(Service::label).collect();
        assert_eq!(
            services,
            [
                "tcp/10.1.0.100:80",
                "tcp/10.1.0.100:443",
                "tcp/192.168.1.200:80",
                "udp/10.1.0.100:80",
                "tcp/[2001:db8::100]:80",
            ]
        );
        let servers = snapshot.services[0].real_servers.iter();
        let servers: Vec<String> = servers.map(RealServer::label).collect();
        assert_eq!(
            servers,
            [
                "10.1.0.11:80",
                "10.1.0.12:80",
                "10.1.0.13:80",
                "10.1.0.14:80",
                "10.1.0.110:80"
            ]
        );
    }

    #[test]
    fn a_server_out_of_the_tables_is_shown_with_its_reason() {
        let snapshot = sample::snapshot();
        let seen = |label| {
            let server = server(&snapshot, label);
            (server.state, server.reason.as_deref())
        };
        assert_eq!(seen("10.1.0.11:80"), (ServerState::Up, None));
        assert_eq!(seen("10.1.0.12:80"), (ServerState::Draining, None));
        let (state, reason) = seen("10.1.0.13:80");
        assert_eq!(
            (state, reason),
            (ServerState::Down, Some("its health checks fail"))
        );
        let (state, reason) = seen("10.1.0.14:80");
        assert_eq!(state, ServerState::Down);
        assert_eq!(reason, Some("no MAC address: neighbour not resolved"));
        assert_eq!(
            server(&snapshot, "10.1.0.13:80").mac.as_deref(),
            Some("02:00:00:00:00:13")
        );
    }

    #[test]
    fn the_director_itself_is_a_local_server_without_a_mac() {
        let snapshot = sample::snapshot();
        let server = server(&snapshot, "10.1.0.110:80");
        assert_eq!(
            (server.forward.as_str(), server.mac.as_deref()),
            ("local", None)
        );
        assert_eq!(server.state, ServerState::Up);
    }

    #[test]
    fn a_service_is_degraded_when_some_servers_are_down_and_down_when_none_serves() {
        let snapshot = sample::snapshot();
        let conditions: Vec<Condition> = snapshot.services.iter().map(Service::condition).collect();
        assert_eq!(
            conditions,
            [
                Condition::Degraded,
                Condition::Up,
                Condition::Up,
                Condition::Up,
                Condition::Down,
            ]
        );
    }

    #[test]
    fn every_reason_and_event_is_there_also_when_it_never_happened() {
        let snapshot = Snapshot::build(&sample::Parts::default().inputs());
        assert_eq!(snapshot.packets.len(), Reason::ALL.len());
        assert_eq!(snapshot.events.len(), Event::ALL.len());
        assert!(snapshot.packets.iter().all(|exit| exit.packets == 0));
    }

    #[test]
    fn a_snapshot_survives_the_wire() {
        let snapshot = sample::snapshot();
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
    }
}
