//! `xdp-lb status`: the state of a director on one screen.

use std::fmt::{Error, Write};
use std::time::Duration;

use serde::Serialize;
use xdp_lb_common::reason::Reason;

use super::list::service_name;
use super::output;
use super::sync;
use super::time::{self, Moment, age};
use super::vrrp::{self, InstanceView};
use crate::control::client;
use crate::control::protocol::Verb;
use crate::control::snapshot::{
    Condition, Count, Exit, Interface, RealServer, Refused, ServerState, Service, Snapshot, Table,
    VrrpInstance, VrrpState, vrrp::Election,
};
use crate::dataplane::AttachedMode;

/// For how long another master is news, milliseconds: longer than it is silent between two adverts,
/// unless its interval is unusual.
const RECENT_MS: u64 = 10_000;

/// Reasons that the screen has room for.
const TOP_REASONS: usize = 5;

/// The form of `--json`. It is stable: fields may be added, none changes or goes away.
const JSON_HELP: &str = r#"Print JSON: the whole state, with all reasons and events

{"instance", "version", "uptime_s",
 "interfaces": [{"name", "mode": "native|generic", "up", "mac",
   "remark": why it is not as asked for, or what does not work so}],
 "refused": [{"name", "reason"}], interfaces that the program could not be put on,
 "vrrp_instances": [what `xdp-lb vrrp --json` has in "instances"],
 "services": {"up", "degraded", "down", "list": [{"service",
   "condition": "up|degraded|down", "active", "servers_up", "servers", "active_conns"}]},
 "tables": [{"name", "entries", "capacity"}],
 "packets": [{"reason", "verdict": "pass|tx|redirect|drop",
   "answer": the director answered them itself, "packets"}],
 "events": [{"event", "count"}]}"#;

/// Show the state of a director on one screen
#[derive(Clone, Debug, Default, clap::Args)]
pub struct StatusArgs {
    /// Print JSON: the whole state, with all reasons and events
    #[arg(long, long_help = JSON_HELP)]
    pub json: bool,
}

/// Runs the command.
pub fn run(instance: &str, args: &StatusArgs) -> anyhow::Result<()> {
    let snapshot = client::ask(instance, Verb::Status)?;
    let text = if args.json {
        serde_json::to_string_pretty(&StatusView::of(&snapshot, Moment::now()))? + "\n"
    } else {
        screen(&snapshot)?
    };
    output::data(&text)
}

fn screen(snapshot: &Snapshot) -> Result<String, Error> {
    let mut out = String::new();
    writeln!(
        out,
        "xdp-lb {}, instance {}, up {}",
        snapshot.version,
        snapshot.instance,
        age(Duration::from_millis(snapshot.uptime_ms))
    )?;
    interfaces(&mut out, snapshot)?;
    vrrp_instances(&mut out, &snapshot.vrrp_instances)?;
    state_sync(&mut out, snapshot)?;
    services(&mut out, &snapshot.services)?;
    tables(&mut out, &snapshot.tables)?;
    packets(&mut out, &snapshot.packets)?;
    Ok(out)
}

fn interfaces(out: &mut String, snapshot: &Snapshot) -> Result<(), Error> {
    writeln!(out, "\nInterfaces")?;
    if snapshot.interfaces.is_empty() {
        writeln!(out, "  none carries the XDP program: nothing is balanced")?;
    }
    for interface in &snapshot.interfaces {
        let mode = match interface.mode {
            AttachedMode::Native => "native XDP",
            AttachedMode::Generic => "generic XDP (in the stack, slower)",
        };
        let mac = interface.mac.as_deref().unwrap_or("no MAC");
        let link = if interface.up { "" } else { "  link down" };
        writeln!(out, "  {:<15} {mac:<17}  {mode}{link}", interface.name)?;
        if let Some(remark) = &interface.remark {
            writeln!(out, "    {remark}")?;
        }
    }
    for Refused { name, reason } in &snapshot.refused {
        writeln!(out, "  {name:<15} without the program: {reason}")?;
    }
    Ok(())
}

fn vrrp_instances(out: &mut String, instances: &[VrrpInstance]) -> Result<(), Error> {
    if instances.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nVRRP instances")?;
    for instance in instances {
        let election = instance.election.as_ref();
        let elsewhere = election
            .filter(|_| instance.state != VrrpState::Master)
            .and_then(|election| election.master);
        write!(
            out,
            "  {:<15} {:<7} {:<15} {} vrid {} priority {}",
            instance.name,
            instance.state.name(),
            vrrp::state_age(instance),
            instance.interface,
            instance.vrid,
            vrrp::priority(instance),
        )?;
        if let Some(master) = elsewhere {
            write!(out, ", master {master}")?;
        }
        writeln!(out, "  {}", instance.vips.join(" "))?;
        if let Some(concern) = election.and_then(|e| concern(instance.state, e)) {
            writeln!(out, "    {concern}")?;
        }
    }
    Ok(())
}

fn state_sync(out: &mut String, snapshot: &Snapshot) -> Result<(), Error> {
    let lines = sync::lines(snapshot.sync.as_ref());
    if !lines.is_empty() {
        writeln!(out, "\nState sync")?;
    }
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// What somebody should look after now.
fn concern(state: VrrpState, election: &Election) -> Option<String> {
    match state {
        VrrpState::Fault => election.reason.clone(),
        VrrpState::Master if election.leaving => Some("is handing over".to_owned()),
        VrrpState::Master => {
            let heard = election.other_master?;
            (heard.age_ms < RECENT_MS).then(|| {
                let (address, ago) = (heard.address, time::ago(heard.age_ms));
                format!("{address} was MASTER, too, {ago}: see `xdp-lb vrrp`")
            })
        }
        VrrpState::Init | VrrpState::Backup => None,
    }
}

fn services(out: &mut String, services: &[Service]) -> Result<(), Error> {
    let count = |condition| {
        services
            .iter()
            .filter(|s| s.condition() == condition)
            .count()
    };
    writeln!(
        out,
        "\nVirtual services: {} up, {} degraded, {} down",
        count(Condition::Up),
        count(Condition::Degraded),
        count(Condition::Down)
    )?;
    let width = services
        .iter()
        .map(|s| service_name(s).len())
        .max()
        .unwrap_or(0);
    for service in services {
        let view = ServiceLine::of(service);
        let condition = match service.condition() {
            Condition::Up => "up",
            Condition::Degraded => "degraded",
            Condition::Down => "DOWN",
        };
        let owned = if service.active {
            ""
        } else {
            "  (VIP not owned here)"
        };
        writeln!(
            out,
            "  {:<width$}  {condition:<8}  {} of {} real servers up, active connections: {}{owned}",
            service_name(service),
            view.servers_up,
            view.servers,
            view.active_conns
        )?;
        for server in &service.real_servers {
            remarks(out, server)?;
        }
    }
    Ok(())
}

/// What there is to say about a real server.
fn remarks(out: &mut String, server: &RealServer) -> Result<(), Error> {
    let (label, reason) = (server.label(), server.reason.as_deref());
    match (server.state, reason) {
        (ServerState::Down, reason) => {
            let reason = reason.unwrap_or("no reason given");
            writeln!(out, "    {label} is down: {reason}")?;
        }
        (ServerState::Draining, None) => {
            writeln!(out, "    {label} is draining (weight 0)")?;
        }
        (ServerState::Draining, Some(reason)) => {
            writeln!(out, "    {label} is draining: {reason}")?;
        }
        (ServerState::Sorry, _) => {
            writeln!(
                out,
                "    {label}, the sorry server, serves in place of all others"
            )?;
        }
        (ServerState::Up, Some(reason)) => writeln!(out, "    {label}: {reason}")?,
        (ServerState::Up, None) => {}
    }
    if let Some(weight) = server.overridden.and_then(|said| said.weight) {
        writeln!(out, "    {label} was given weight {weight} by an operator")?;
    }
    Ok(())
}

fn tables(out: &mut String, tables: &[Table]) -> Result<(), Error> {
    if tables.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nTables")?;
    for table in tables {
        let Table {
            name,
            entries,
            capacity,
        } = table;
        writeln!(
            out,
            "  {name:<15} {entries} of {capacity} ({} %)",
            percent(*entries, *capacity)
        )?;
    }
    Ok(())
}

fn packets(out: &mut String, exits: &[Exit]) -> Result<(), Error> {
    let sum = |is_counted: &dyn Fn(&Exit) -> bool| -> u64 {
        let counted = exits.iter().filter(|exit| is_counted(exit));
        counted.map(|exit| exit.packets).sum()
    };
    let balanced = sum(&|exit| !exit.answer && ["tx", "redirect"].contains(&exit.verdict.as_str()));
    let answered = sum(&|exit| exit.answer);
    let (passed, dropped) = (
        sum(&|exit| exit.verdict == "pass"),
        sum(&|exit| exit.verdict == "drop"),
    );
    writeln!(
        out,
        "\nPackets: {balanced} balanced, {answered} answered, {passed} passed, {dropped} dropped"
    )?;
    let mut top: Vec<&Exit> = exits.iter().filter(|exit| exit.packets > 0).collect();
    top.sort_by_key(|exit| std::cmp::Reverse(exit.packets));
    for exit in top.into_iter().take(TOP_REASONS) {
        // An agent of another version may have reasons that this command knows nothing of.
        let known = Reason::ALL
            .iter()
            .find(|reason| reason.name() == exit.reason);
        let help = known.map_or("", |reason| reason.help().trim());
        writeln!(out, "  {:<20} {:>14}  {help}", exit.reason, exit.packets)?;
    }
    Ok(())
}

/// A share with one decimal.
fn percent(part: u64, whole: u64) -> String {
    let permille = (u128::from(part) * 1000)
        .checked_div(u128::from(whole))
        .unwrap_or(0);
    format!("{}.{}", permille / 10, permille % 10)
}

/// The stable form for programs.
#[derive(Serialize)]
struct StatusView<'a> {
    instance: &'a str,
    version: &'a str,
    uptime_s: u64,
    interfaces: &'a [Interface],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    refused: &'a [Refused],
    vrrp_instances: Vec<InstanceView<'a>>,
    services: ServicesView,
    tables: &'a [Table],
    packets: &'a [Exit],
    events: &'a [Count],
}

#[derive(Serialize)]
struct ServicesView {
    up: usize,
    degraded: usize,
    down: usize,
    list: Vec<ServiceLine>,
}

#[derive(Serialize)]
struct ServiceLine {
    service: String,
    condition: Condition,
    active: bool,
    servers_up: usize,
    servers: usize,
    active_conns: u64,
}

impl<'a> StatusView<'a> {
    fn of(snapshot: &'a Snapshot, now: Moment) -> Self {
        let instances = snapshot.vrrp_instances.iter();
        let list: Vec<ServiceLine> = snapshot.services.iter().map(ServiceLine::of).collect();
        let count = |condition| {
            list.iter()
                .filter(|line| line.condition == condition)
                .count()
        };
        Self {
            instance: &snapshot.instance,
            version: &snapshot.version,
            uptime_s: snapshot.uptime_ms / 1000,
            interfaces: &snapshot.interfaces,
            refused: &snapshot.refused,
            vrrp_instances: instances.map(|i| InstanceView::of(i, now)).collect(),
            services: ServicesView {
                up: count(Condition::Up),
                degraded: count(Condition::Degraded),
                down: count(Condition::Down),
                list,
            },
            tables: &snapshot.tables,
            packets: &snapshot.packets,
            events: &snapshot.events,
        }
    }
}

impl ServiceLine {
    fn of(service: &Service) -> Self {
        let up = |server: &&_| {
            let server: &RealServer = server;
            matches!(server.state, ServerState::Up | ServerState::Sorry)
        };
        Self {
            service: service.label(),
            condition: service.condition(),
            active: service.active,
            servers_up: service.real_servers.iter().filter(up).count(),
            servers: service.real_servers.len(),
            active_conns: service
                .real_servers
                .iter()
                .map(|server| server.active_conns)
                .sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample;

    #[test]
    fn the_screen_says_what_an_operator_looks_for_first() {
        let wanted = "\
xdp-lb 0.1.0, instance default, up 3 h 12 min

Interfaces
  eth0            02:00:00:00:00:01  native XDP
  eth1            no MAC             generic XDP (in the stack, slower)  link down

VRRP instances
  VI_1            MASTER  for 3 h 11 min  eth0 vrid 51 priority 99 (base 101)  10.1.0.100/24
  VI_2            BACKUP  for 5 min 2 s   eth0 vrid 52 priority 100, master 10.1.0.3  10.1.0.101/24
  VI_3            FAULT   for 10 s        eth1 vrid 53 priority 100  10.1.0.102/24
    interface eth1 is down

State sync
  192.168.1.3:8848      its connections are coming
  192.168.1.4:8848      not heard
    tcp/192.168.1.200:443 stands differently in the file of 192.168.1.3: see `xdp-lb sync`

Virtual services: 3 up, 1 degraded, 1 down
  TCP 10.1.0.100:80       degraded  2 of 5 real servers up, active connections: 1
    10.1.0.12:80 is draining (weight 0)
    10.1.0.13:80 is down: its health checks fail
    10.1.0.14:80 is down: no MAC address: neighbour not resolved
  TCP 10.1.0.100:443      up        1 of 1 real servers up, active connections: 0
  TCP 192.168.1.200:80    up        1 of 1 real servers up, active connections: 0  (VIP not owned here)
  UDP 10.1.0.100:80       up        1 of 1 real servers up, active connections: 0
  TCP [2001:db8::100]:80  DOWN      0 of 0 real servers up, active connections: 0

Tables
  connections     4 of 4096 (0.0 %)
  templates       1 of 1024 (0.0 %)

Packets: 18 balanced, 2 answered, 30 passed, 1 dropped
  no_service                       30  Not for a virtual service.
  tx_connection                    12  To the real server of its connection.
  tx_scheduled                      6  A new connection, placed by the scheduler.
  tx_unreachable                    2  No real server is eligible: the client is told, by an ICMP error.
  ttl_expired                       1  TTL used up, and the sender is not told.
";
        assert_eq!(screen(&sample::snapshot()).unwrap(), wanted);
    }

    #[test]
    fn what_is_not_as_it_should_be_stands_below_its_interface() {
        let mut snapshot = sample::snapshot();
        snapshot.interfaces[1].remark = Some("eth1 is a bridge".to_owned());
        snapshot.refused = vec![Refused {
            name: "eth2".to_owned(),
            reason: "another program is there".to_owned(),
        }];
        let text = screen(&snapshot).unwrap();
        let wanted = "(in the stack, slower)  link down\n    eth1 is a bridge\n  \
                      eth2            without the program: another program is there\n\nVRRP";
        assert!(text.contains(wanted), "{text}");
        let view = StatusView::of(&snapshot, Moment::now());
        let json = serde_json::to_value(view).unwrap();
        assert_eq!(json["interfaces"][1]["remark"], "eth1 is a bridge");
        assert_eq!(json["refused"][0]["name"], "eth2");
    }

    #[test]
    fn a_director_that_balances_nothing_says_so() {
        let snapshot = Snapshot::build(&sample::Parts::default().inputs());
        let text = screen(&snapshot).unwrap();
        assert!(text.contains("none carries the XDP program"), "{text}");
        assert!(text.contains("0 up, 0 degraded, 0 down"), "{text}");
    }

    #[test]
    fn json_counts_what_it_lists() {
        let snapshot = sample::snapshot();
        let view = serde_json::to_value(StatusView::of(&snapshot, Moment::at(0))).unwrap();
        assert_eq!(view["uptime_s"], 11_520);
        assert_eq!(view["interfaces"][1]["mode"], "generic");
        let exits = view["packets"].as_array().unwrap();
        let answers = exits.iter().filter(|exit| exit["answer"] == true);
        let answers: Vec<&str> = answers.filter_map(|exit| exit["reason"].as_str()).collect();
        let all = [
            "tx_unreachable",
            "tx_reset",
            "tx_time_exceeded",
            "tx_too_big",
        ];
        assert_eq!(answers, all);
        assert_eq!(view["vrrp_instances"][0]["state"], "MASTER");
        let services = &view["services"];
        assert_eq!((&services["up"], &services["down"]), (&3.into(), &1.into()));
        let web = &services["list"][0];
        assert_eq!(web["service"], "tcp/10.1.0.100:80");
        assert_eq!(
            (&web["condition"], &web["servers_up"]),
            (&"degraded".into(), &2.into())
        );
    }

    #[test]
    fn shares_have_one_decimal() {
        assert_eq!(percent(1, 3), "33.3");
        assert_eq!(percent(u64::MAX, u64::MAX), "100.0");
        assert_eq!(percent(1, 0), "0.0");
    }
}
