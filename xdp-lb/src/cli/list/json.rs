//! `list --json`.

use std::net::IpAddr;

use serde::Serialize;

use super::rate::{Rate, Rates};
use crate::cli::time::Moment;
use crate::control::snapshot::{Overridden, Persistence, ServerState, Service, Snapshot};

/// The form of `--json`. It is stable: fields may be added, none changes or goes away.
pub(super) const HELP: &str = r#"Print JSON: every real server, with its state and why it is down

{"services": [{"vip", "port", "protocol": "tcp|udp|fwm", "scheduler", "forward": "dr",
  "fwmark": the mark of a service by mark, "entrances": what gets it, ["tcp/192.168.1.200:80"],
  "group": the virtual_server_group it is of,
  "active": this director balances it now,
  "quorum": enough weight is up, "live_weight": how much, "sorry": the sorry server serves,
  "persistence": {"timeout_s", "granularity": prefix length} or null,
  "real_servers": [{"address", "port", "forward": "dr|local", "weight",
    "state": "up|down|draining|sorry", "reason": why it is so, or null,
    "since": "2026-11-25T05:04:54Z" or null, "since_s": how long that is,
    "override": what `xdp-lb weight` and `drain` said, {"weight": or null, "drained"}, or null,
    "active_conns", "inactive_conns", "conns", "in_packets", "in_bytes",
    "out_packets", "out_bytes": replies, if their addresses are translated (0 otherwise),
    "mac": or null while it is not known}]}]}

With --rate, services and real servers have
"rate": {"conns_per_s", "in_packets_per_s", "in_bytes_per_s", "out_packets_per_s",
"out_bytes_per_s"} too."#;

/// The stable form for programs.
pub(super) fn render(
    snapshot: &Snapshot,
    rates: Option<&Rates>,
    now: Moment,
) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct List<'a> {
        services: Vec<ServiceView<'a>>,
    }

    let services = snapshot
        .services
        .iter()
        .map(|service| ServiceView::of(service, rates, now));
    let list = List {
        services: services.collect(),
    };
    Ok(serde_json::to_string_pretty(&list)? + "\n")
}

#[derive(Serialize)]
struct ServiceView<'a> {
    vip: IpAddr,
    port: u16,
    protocol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fwmark: Option<u32>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    entrances: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    scheduler: &'a str,
    forward: &'a str,
    active: bool,
    quorum: bool,
    live_weight: u64,
    sorry: bool,
    persistence: Option<Persistence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
    real_servers: Vec<RealServerView<'a>>,
}

#[derive(Serialize)]
struct RealServerView<'a> {
    address: IpAddr,
    port: u16,
    forward: &'a str,
    weight: u32,
    state: ServerState,
    reason: Option<&'a str>,
    since: Option<String>,
    since_s: Option<u64>,
    #[serde(rename = "override")]
    overridden: Option<Overridden>,
    active_conns: u64,
    inactive_conns: u64,
    conns: u64,
    in_packets: u64,
    in_bytes: u64,
    out_packets: u64,
    out_bytes: u64,
    mac: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<Rate>,
}

impl<'a> ServiceView<'a> {
    fn of(service: &'a Service, rates: Option<&Rates>, now: Moment) -> Self {
        let name = service.label();
        let servers = service.real_servers.iter().map(|server| RealServerView {
            address: server.address,
            port: server.port,
            forward: &server.forward,
            weight: server.weight,
            state: server.state,
            reason: server.reason.as_deref(),
            since: server.state_age_ms.map(|age| now.before(age).stamp()),
            since_s: server.state_age_ms.map(|age| age / 1000),
            overridden: server.overridden,
            active_conns: server.active_conns,
            inactive_conns: server.inactive_conns,
            conns: server.traffic.conns,
            in_packets: server.traffic.in_packets,
            in_bytes: server.traffic.in_bytes,
            out_packets: server.traffic.out_packets,
            out_bytes: server.traffic.out_bytes,
            mac: server.mac.as_deref(),
            rate: rates.map(|rates| rates.of(&name, &server.label())),
        });
        Self {
            vip: service.vip,
            port: service.port,
            protocol: &service.protocol,
            fwmark: service.fwmark,
            entrances: &service.entrances,
            group: service.group.as_deref(),
            scheduler: &service.scheduler,
            forward: &service.forward,
            active: service.active,
            quorum: service.has_quorum,
            live_weight: service.live_weight,
            sorry: service.is_sorry,
            persistence: service.persistence,
            rate: rates.map(|rates| rates.of(&name, "")),
            real_servers: servers.collect(),
        }
    }
}
