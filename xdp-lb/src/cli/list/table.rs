//! The layout of `ipvsadm`.

use std::fmt::{Error, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::rate::Rates;
use crate::cli::time::age;
use crate::control::snapshot::{RealServer, ServerState, Service, Snapshot, Traffic};

/// A table: title, one line per service, one per real server under it.
pub(super) struct Table<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) columns: Columns<'a>,
    /// Counters in full.
    pub(super) exact: bool,
    /// The state of each server behind its columns.
    pub(super) state: bool,
}

/// Its columns.
#[derive(Clone, Copy)]
pub(super) enum Columns<'a> {
    Connections,
    Stats,
    Rate(&'a Rates),
    Thresholds,
    PersistentConn,
}

impl Table<'_> {
    pub(super) fn render(&self) -> Result<String, Error> {
        let mut out = String::new();
        // The version is that of the IPVS whose layout this is.
        let size = self.snapshot.connection_limit;
        writeln!(out, "IP Virtual Server version 1.2.1 (size={size})")?;
        self.title(&mut out)?;
        for service in &self.snapshot.services {
            self.service(&mut out, service)?;
            let present = service.real_servers.iter();
            for server in present.filter(|server| server.state != ServerState::Down) {
                self.real_server(&mut out, service, server)?;
            }
        }
        Ok(out)
    }

    fn title(&self, out: &mut String) -> Result<(), Error> {
        let local = "Prot LocalAddress:Port";
        let numbers =
            |[a, b, c, d, e]: [&str; 5]| format!("{local:<33} {a:>8} {b:>8} {c:>8} {d:>8} {e:>8}");
        let first = match self.columns {
            Columns::Connections => {
                let title = "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn";
                return writeln!(out, "{local} Scheduler Flags\n{title}");
            }
            Columns::Stats => numbers(["Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"]),
            Columns::Rate(_) => numbers(["CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"]),
            Columns::Thresholds => {
                let [upper, lower] = ["Uthreshold", "Lthreshold"];
                let [active, inactive] = ["ActiveConn", "InActConn"];
                format!("{local:<33} {upper:<10} {lower:<10} {active:<10} {inactive:<10}")
            }
            Columns::PersistentConn => {
                let [weight, persistent] = ["Weight", "PersistConn"];
                let [active, inactive] = ["ActiveConn", "InActConn"];
                format!("{local:<33} {weight:<9} {persistent:<11} {active:<10} {inactive:<10}")
            }
        };
        writeln!(out, "{first}\n  -> RemoteAddress:Port")
    }

    fn service(&self, out: &mut String, service: &Service) -> Result<(), Error> {
        let name = service.listed();
        match self.columns {
            Columns::Stats => {
                let numbers = numbers(service.traffic);
                writeln!(out, "{name:<33}{}", self.numbers(numbers))
            }
            Columns::Rate(rates) => {
                let numbers = rates.of(&service.label(), "").numbers();
                writeln!(out, "{name:<33}{}", self.numbers(numbers))
            }
            Columns::Connections | Columns::Thresholds | Columns::PersistentConn => {
                writeln!(out, "{name} {}{}", service.scheduler, flags(service))
            }
        }
    }

    fn real_server(
        &self,
        out: &mut String,
        service: &Service,
        server: &RealServer,
    ) -> Result<(), Error> {
        let state = if self.state {
            state(server)
        } else {
            String::new()
        };
        write!(out, "  -> {:<28}", server.label())?;
        let (active, inactive) = (server.active_conns, server.inactive_conns);
        match self.columns {
            Columns::Connections => {
                let (forward, weight) = (forward_name(&server.forward), server.weight);
                writeln!(
                    out,
                    " {forward:<7} {weight:<6} {active:<10} {inactive:<10}{state}"
                )
            }
            Columns::Stats => {
                let numbers = numbers(server.traffic);
                writeln!(out, "{}{state}", self.numbers(numbers))
            }
            Columns::Rate(rates) => {
                let numbers = rates.of(&service.label(), &server.label()).numbers();
                writeln!(out, "{}{state}", self.numbers(numbers))
            }
            Columns::Thresholds => {
                let [upper, lower] = server.thresholds;
                writeln!(
                    out,
                    " {upper:<10} {lower:<10} {active:<10} {inactive:<10}{state}"
                )
            }
            Columns::PersistentConn => {
                let (weight, persistent) = (server.weight, server.persistent_conns);
                writeln!(
                    out,
                    " {weight:<9} {persistent:<11} {active:<10} {inactive:<10}{state}"
                )
            }
        }
    }

    fn numbers(&self, numbers: [u64; 5]) -> String {
        numbers.map(|number| counter(number, self.exact)).concat()
    }
}

/// Counters in the order of `--stats`.
const fn numbers(traffic: Traffic) -> [u64; 5] {
    [
        traffic.conns,
        traffic.in_packets,
        traffic.out_packets,
        traffic.in_bytes,
        traffic.out_bytes,
    ]
}

/// ` up 3 min 2 s`, with the reason if there is one, and what an operator said.
fn state(server: &RealServer) -> String {
    let word = match server.state {
        ServerState::Up => "up",
        ServerState::Down => "down",
        ServerState::Draining => "draining",
        ServerState::Sorry => "sorry",
    };
    let since = server.state_age_ms.map(Duration::from_millis);
    let since = since.map_or(String::new(), |since| format!(" {}", age(since)));
    let reason = server.reason.as_deref();
    let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
    let is_set = server.overridden.is_some_and(|said| said.weight.is_some());
    let set = if is_set {
        " (weight set by an operator)"
    } else {
        ""
    };
    format!(" {word}{since}{reason}{set}")
}

/// A counter in at least nine columns: in full below 100 million, then in the largest unit that keeps
/// it that short.
pub(super) fn counter(number: u64, exact: bool) -> String {
    const UNITS: [(u64, u64, char); 3] = [
        (1_000_000_000, 1_000, 'K'),
        (100_000_000_000, 1_000_000, 'M'),
        (100_000_000_000_000, 1_000_000_000, 'G'),
    ];
    if exact || number < 100_000_000 {
        return format!(" {number:>8}");
    }
    let unit = UNITS.into_iter().find(|(below, ..)| number < *below);
    let (_, unit, letter) = unit.unwrap_or((u64::MAX, 1_000_000_000_000, 'T'));
    format!("{:>8}{letter}", number / unit)
}

/// What follows the scheduler on a service's line.
fn flags(service: &Service) -> String {
    let of_scheduler = match service.scheduler_flags.as_slice() {
        [] => String::new(),
        flags => format!(" ({})", flags.join(",")),
    };
    let ops = if service.one_packet { " ops" } else { "" };
    format!("{of_scheduler}{}{ops}", persistence(service))
}

fn persistence(service: &Service) -> String {
    let Some(persistence) = service.persistence else {
        return String::new();
    };
    let mask = match (service.vip, persistence.granularity) {
        (IpAddr::V4(_), 32..) | (IpAddr::V6(_), 128..) => String::new(),
        (IpAddr::V4(_), len) => {
            let mask = Ipv4Addr::from(xdp_lb_common::persist::mask_v4(len).to_ne_bytes());
            format!(" mask {mask}")
        }
        (IpAddr::V6(_), len) => format!(" mask {len}"),
    };
    format!(" persistent {}{mask}", persistence.timeout_s)
}

/// The name that `ipvsadm` has for a way of forwarding.
fn forward_name(forward: &str) -> &str {
    match forward {
        "dr" => "Route",
        "nat" => "Masq",
        "tun" => "Tunnel",
        "local" => "Local",
        other => other,
    }
}
