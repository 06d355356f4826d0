//! `xdp-lb trace`: what would become of a packet, said by the program itself.

use std::fmt::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use super::Exit;
use super::order::Service;
use super::output;
use super::time::age;
use crate::control::client;
use crate::control::snapshot::ServerState;
use crate::control::trace::{Query, Trace, TraceEntry};
use crate::plan::pool::asked::Asked;

/// The form of `--json`. It is stable: fields may be added, none changes or goes away.
const JSON_HELP: &str = r#"Print JSON

{"balanced": bool, "client", "client_port": number|null, "vip", "port", "protocol", "midstream": bool,
 "interface", "reason", "verdict": "pass|tx|redirect|drop",
 "rule": "connection|persistence|scheduler|hash"|null, "explanation",
 "real_server": {"address", "port", "forward", "interface", "mac"}|null,
 "service": {"vip", "port", "protocol", "scheduler", "scheduler_flags", "active", "persistence_s",
   "granularity"}|null,
 "vrrp": {"name", "state", "master"}|null,
 "connection", "template": {"state", "real_server", "age_s", "expires_s", "timeout_s",
   "void": bool}|null,
 "candidates": [{"address", "port", "state", "weight", "active_conns", "inactive_conns"}],
 "remark": what there is to say of the program on that interface, where there is something}"#;

/// Arguments of `trace`.
#[derive(Clone, Debug, clap::Args)]
pub struct TraceArgs {
    /// Where the packet would come from; without a port it is of no connection that there is
    #[arg(value_name = "CLIENT[:PORT]")]
    client: Client,
    /// Where it would go to, `VIP:PORT`, with `/udp` for a datagram
    #[arg(value_name = "VIP:PORT[/PROTO]")]
    service: Service,
    /// A TCP packet in the middle of a connection, instead of one that opens it
    #[arg(long)]
    midstream: bool,
    /// Print JSON
    #[arg(long, long_help = JSON_HELP)]
    json: bool,
}

/// An address with or without a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client(IpAddr, Option<u16>);

impl FromStr for Client {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address, None));
        }
        let address: SocketAddr = text.parse().map_err(|_neither| {
            "expected an address with or without a port, as in 10.0.0.5:40000".to_owned()
        })?;
        let port = Some(address.port()).filter(|port| *port > 0);
        Ok(Self(address.ip(), port))
    }
}

impl TraceArgs {
    fn query(&self) -> anyhow::Result<Query> {
        let Client(client, client_port) = self.client;
        let Asked::Endpoint(to) = self.service.name else {
            let name = self.service.name;
            anyhow::bail!("a packet goes to an address: ask for VIP:PORT instead of '{name}'");
        };
        Ok(Query {
            client,
            client_port,
            vip: to.ip(),
            port: to.port(),
            protocol: self
                .service
                .protocol
                .clone()
                .unwrap_or_else(|| "tcp".to_owned()),
            midstream: self.midstream,
        })
    }
}

/// Runs the command; fails where nothing balances the packet.
pub fn run(instance: &str, args: &TraceArgs) -> anyhow::Result<Exit> {
    let trace = client::trace(instance, args.query()?)?;
    let text = if args.json {
        serde_json::to_string_pretty(&trace)? + "\n"
    } else {
        screen(&trace)?
    };
    output::data(&text)?;
    Ok(if trace.balanced {
        Exit::Success
    } else {
        Exit::Failure
    })
}

fn screen(trace: &Trace) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let Query {
        client,
        client_port,
        vip,
        port,
        protocol,
        ..
    } = &trace.query;
    match client_port {
        Some(port) => write!(out, "{}", SocketAddr::new(*client, *port))?,
        None => write!(out, "{client}")?,
    }
    write!(out, " to {}/{protocol}", SocketAddr::new(*vip, *port))?;
    match &trace.real_server {
        Some(server) => {
            write!(out, " via {}", SocketAddr::new(server.address, server.port))?;
            if let Some(interface) = &server.interface {
                write!(out, " dev {interface}")?;
            }
            if let Some(mac) = &server.mac {
                write!(out, " lladdr {mac}")?;
            }
            write!(out, " {}", server.forward)?;
            writeln!(out, " rule {}", trace.rule.as_deref().unwrap_or("none"))?;
            writeln!(out, "    {}", trace.explanation)?;
        }
        None => writeln!(
            out,
            " not balanced: {}: {}",
            trace.reason, trace.explanation
        )?,
    }
    place(&mut out, trace)?;
    entry(&mut out, "connection", trace.connection.as_ref())?;
    entry(&mut out, "template", trace.template.as_ref())?;
    for candidate in &trace.candidates {
        let address = SocketAddr::new(candidate.address, candidate.port);
        writeln!(
            out,
            "    candidate {address} {} weight {} active {} inactive {}",
            state(candidate.state),
            candidate.weight,
            candidate.active_conns,
            candidate.inactive_conns
        )?;
    }
    if let Some(remark) = &trace.remark {
        writeln!(out, "    {remark}")?;
    }
    Ok(out)
}

/// Service and owner.
fn place(out: &mut String, trace: &Trace) -> fmt::Result {
    let Some(service) = &trace.service else {
        return Ok(());
    };
    let address = SocketAddr::new(service.vip, service.port);
    write!(
        out,
        "    service {address}/{} {}",
        service.protocol, service.scheduler
    )?;
    for flag in &service.scheduler_flags {
        write!(out, " {flag}")?;
    }
    if let Some(timeout) = service.persistence_s {
        write!(out, " persistent {timeout} s")?;
        if let Some(length) = service.granularity {
            write!(out, " per /{length}")?;
        }
    }
    let gate = if service.active { "open" } else { "closed" };
    write!(out, " gate {gate}")?;
    if let Some(owner) = &trace.vrrp {
        write!(out, " vrrp {} {}", owner.name, owner.state.name())?;
    }
    writeln!(out)
}

fn entry(out: &mut String, what: &str, entry: Option<&TraceEntry>) -> fmt::Result {
    let Some(entry) = entry else { return Ok(()) };
    write!(out, "    {what} {}", entry.state)?;
    match entry.real_server {
        Some(server) => write!(out, " via {server}")?,
        None => write!(out, " of a real server that is gone")?,
    }
    let span = |seconds: u32| age(Duration::from_secs(seconds.into()));
    write!(
        out,
        " age {} expires in {} of {}",
        span(entry.age_s),
        span(entry.expires_s),
        span(entry.timeout_s)
    )?;
    writeln!(out, "{}", if entry.void { " void" } else { "" })
}

const fn state(state: ServerState) -> &'static str {
    match state {
        ServerState::Up => "up",
        ServerState::Down => "down",
        ServerState::Draining => "draining",
        ServerState::Sorry => "sorry",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Args, Command};
    use crate::control::snapshot::VrrpState;
    use crate::control::trace::{Candidate, Owner, Place, Target};

    fn query(line: &str) -> Option<Query> {
        match Args::try_parse_from(line.split(' ')).ok()?.command {
            Command::Trace(args) => args.query().ok(),
            _ => None,
        }
    }

    #[test]
    fn a_packet_is_named_by_its_ends() {
        let asked = query("xdp-lb trace 10.0.0.5 192.168.1.200:80").unwrap();
        assert_eq!((asked.client_port, &*asked.protocol), (None, "tcp"));
        assert_eq!((asked.port, asked.midstream), (80, false));
        let asked = query("xdp-lb trace 10.0.0.5:40000 192.168.1.200:53/udp").unwrap();
        assert_eq!((asked.client_port, &*asked.protocol), (Some(40_000), "udp"));
        let asked = query("xdp-lb trace [2001:db8::5]:9 [2001:db8::1]:80 --midstream").unwrap();
        assert_eq!(asked.client.to_string(), "2001:db8::5");
        assert!(asked.midstream);
        for wrong in ["10.0.0.5 192.168.1.200", "a 192.168.1.200:80", "10.0.0.5"] {
            assert_eq!(query(&format!("xdp-lb trace {wrong}")), None, "{wrong}");
        }
    }

    fn trace() -> Trace {
        Trace {
            balanced: true,
            query: query("xdp-lb trace 10.0.0.5:40000 192.168.1.200:80").unwrap(),
            interface: "eth0".to_owned(),
            reason: "tx_scheduled".to_owned(),
            verdict: "tx".to_owned(),
            rule: Some("scheduler".to_owned()),
            explanation: "wlc chooses it".to_owned(),
            real_server: Some(Target {
                address: "192.168.1.101".parse().unwrap(),
                port: 80,
                forward: "dr".to_owned(),
                interface: Some("eth0".to_owned()),
                mac: Some("02:00:00:00:01:01".to_owned()),
            }),
            service: Some(Place {
                vip: "192.168.1.200".parse().unwrap(),
                port: 80,
                protocol: "tcp".to_owned(),
                scheduler: "wlc".to_owned(),
                scheduler_flags: Vec::new(),
                active: true,
                persistence_s: Some(50),
                granularity: Some(24),
            }),
            vrrp: Some(Owner {
                name: "VI_1".to_owned(),
                state: VrrpState::Master,
                master: None,
            }),
            connection: Some(TraceEntry {
                state: "FIN_WAIT".to_owned(),
                real_server: Some("192.168.1.102:80".parse().unwrap()),
                age_s: 70,
                expires_s: 100,
                timeout_s: 120,
                void: true,
            }),
            template: None,
            candidates: vec![Candidate {
                address: "192.168.1.101".parse().unwrap(),
                port: 80,
                state: ServerState::Up,
                weight: 3,
                active_conns: 2,
                inactive_conns: 1,
            }],
            remark: None,
        }
    }

    #[test]
    fn the_way_of_a_packet_is_one_line_and_the_facts_stand_below() {
        let shown = screen(&trace()).unwrap();
        assert_eq!(
            shown,
            "10.0.0.5:40000 to 192.168.1.200:80/tcp via 192.168.1.101:80 dev eth0 lladdr \
             02:00:00:00:01:01 dr rule scheduler\n    \
             wlc chooses it\n    \
             service 192.168.1.200:80/tcp wlc persistent 50 s per /24 gate open vrrp VI_1 MASTER\n    \
             connection FIN_WAIT via 192.168.1.102:80 age 1 min 10 s expires in 1 min 40 s of 2 min 0 \
             s void\n    \
             candidate 192.168.1.101:80 up weight 3 active 2 inactive 1\n"
        );
    }

    #[test]
    fn what_is_not_balanced_says_why() {
        let refused = Trace {
            balanced: false,
            reason: "no_service".to_owned(),
            explanation: "no virtual service there".to_owned(),
            rule: None,
            real_server: None,
            service: None,
            vrrp: None,
            connection: None,
            candidates: Vec::new(),
            remark: Some("eth0 is a bridge".to_owned()),
            ..trace()
        };
        assert_eq!(
            screen(&refused).unwrap(),
            "10.0.0.5:40000 to 192.168.1.200:80/tcp not balanced: no_service: no virtual service \
             there\n    eth0 is a bridge\n"
        );
        let json = serde_json::to_value(&refused).unwrap();
        assert_eq!(json["client"], "10.0.0.5");
        assert_eq!(json["balanced"], false);
        assert!(json["rule"].is_null());
    }
}
