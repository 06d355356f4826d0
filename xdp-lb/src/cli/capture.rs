//! `xdp-lb capture`: what becomes of packets, while it happens.

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use anyhow::{Context, bail};
use ipnet::IpNet;
use serde::Serialize;

use super::time::Micros;
use crate::control::capture::{Line, Told, Want};
use crate::control::client;

/// The form of `--json`. It is stable: fields may be added, none changes or goes away.
const JSON_HELP: &str = r#"Print JSON, one object a line

{"time": RFC 3339, "client", "vip": "ADDRESS:PORT"|null, "protocol", "service", "real_server":
 "ADDRESS:PORT"|null, "verdict": "pass|tx|redirect|drop", "reason",
 "rule": "connection|persistence|scheduler|hash"|null, "interface"}
or {"not_shown": number}"#;

/// Arguments of `capture`.
#[derive(Clone, Debug, clap::Args)]
pub struct CaptureArgs {
    /// What to show: pairs of words that must all be true
    ///
    /// client ADDRESS[/PREFIX][:PORT], vip ADDRESS[/PREFIX][:PORT][/tcp|udp], server ADDRESS[/PREFIX],
    /// reason WORD[,WORD]…
    ///
    /// A reason is one of those of docs/dataplane.md, or `new` for connections that are placed, or what
    /// becomes of the packet: `pass`, `tx`, `redirect`, `drop`; `all` shows also what is for no virtual
    /// service.
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// End after so many decisions
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Show one of so many decisions, by chance
    #[arg(long, value_name = "1/N", default_value = "1/1")]
    sample: Sample,
    /// Print JSON, one object a line
    #[arg(long, long_help = JSON_HELP)]
    json: bool,
}

/// One of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sample(u32);

impl FromStr for Sample {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text
            .strip_prefix("1/")
            .and_then(|number| number.parse().ok());
        let number = number.filter(|number| *number > 0);
        number
            .map(Self)
            .ok_or_else(|| "expected 1/N, as in 1/1000".to_owned())
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "1/{}", self.0)
    }
}

/// Runs the command until it has shown enough, or is ended.
pub fn run(instance: &str, args: &CaptureArgs) -> anyhow::Result<()> {
    let want = Want {
        sample: args.sample.0,
        ..want(&args.filter)?
    };
    let mut capture = client::capture(instance, want)?;
    let mut left = args.count;
    let mut out = std::io::stdout().lock();
    while left != Some(0) {
        let Some(line) = capture.next().transpose()? else {
            bail!("the agent has ended, and the capture with it");
        };
        if let Line::Decision(_) = line {
            left = left.map(|left| left - 1);
        }
        let text = if args.json {
            json(&line)?
        } else {
            human(&line)
        };
        // It is looked at while it happens; and a reader that went away has seen enough.
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.context("cannot write to standard output")?,
        }
    }
    Ok(())
}

/// What the words of a filter mean.
fn want(words: &[String]) -> anyhow::Result<Want> {
    let mut want = Want::default();
    for pair in words.chunks(2) {
        let [key, value] = pair else {
            bail!(
                "the filter ends with '{}': what should it be?",
                pair.concat()
            );
        };
        match key.as_str() {
            "client" => (want.client, want.client_port) = address(value)?,
            "vip" => {
                let (rest, protocol) = match value.rsplit_once('/') {
                    Some((rest, protocol @ ("tcp" | "udp"))) => (rest, Some(protocol)),
                    _ => (value.as_str(), None),
                };
                want.protocol = protocol.map(str::to_owned);
                (want.vip, want.port) = address(rest)?;
            }
            "server" => match address(value)? {
                (server, None) => want.server = server,
                (_, Some(_)) => {
                    bail!("a server is named by its address, without a port: '{value}'")
                }
            },
            "reason" => want.reasons.extend(value.split(',').map(str::to_owned)),
            other => {
                bail!("'{other}' is no part of a filter; there are client, vip, server and reason")
            }
        }
    }
    Ok(want)
}

/// An address or a prefix, and a port.
fn address(text: &str) -> anyhow::Result<(Option<IpNet>, Option<u16>)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok((Some(ip.into()), None));
    }
    if let Ok(net) = text.parse() {
        return Ok((Some(net), None));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok((Some(address.ip().into()), Some(address.port())));
    }
    let with_port = text.rsplit_once(':').and_then(|(net, port)| {
        let net = net.trim_start_matches('[').trim_end_matches(']');
        Some((net.parse().ok()?, port.parse().ok()?))
    });
    let (net, port) = with_port
        .with_context(|| format!("'{text}' is no address, prefix, or either with a port"))?;
    Ok((Some(net), Some(port)))
}

fn human(line: &Line) -> String {
    let told = match line {
        Line::NotShown(1) => return "1 decision not shown".to_owned(),
        Line::NotShown(count) => return format!("{count} decisions not shown"),
        Line::Decision(told) => told,
    };
    let time = Micros(told.time_us).time_of_day();
    let flow = match (told.client, told.vip) {
        (Some(client), Some(vip)) => format!("{client} to {vip}/{}", told.protocol),
        _ => "a packet without ports".to_owned(),
    };
    let server = told
        .real_server
        .map_or_else(String::new, |server| format!(" via {server}"));
    format!(
        "{time} {flow}{server} dev {} {}",
        told.interface, told.reason
    )
}

/// A line of `--json`.
fn json(line: &Line) -> serde_json::Result<String> {
    match line {
        Line::Decision(told) => serde_json::to_string(&Json::of(told)),
        Line::NotShown(count) => serde_json::to_string(&serde_json::json!({ "not_shown": count })),
    }
}

#[derive(Serialize)]
struct Json<'a> {
    time: String,
    client: Option<SocketAddr>,
    vip: Option<SocketAddr>,
    protocol: &'a str,
    service: Option<&'a str>,
    real_server: Option<SocketAddr>,
    verdict: &'a str,
    reason: &'a str,
    rule: Option<&'a str>,
    interface: &'a str,
}

impl<'a> Json<'a> {
    fn of(told: &'a Told) -> Self {
        Self {
            time: Micros(told.time_us).stamp(),
            client: told.client,
            vip: told.vip,
            protocol: &told.protocol,
            service: told.service.as_deref(),
            real_server: told.real_server,
            verdict: &told.verdict,
            reason: &told.reason,
            rule: told.rule.as_deref(),
            interface: &told.interface,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(text: &str) -> anyhow::Result<Want> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        want(&words)
    }

    #[test]
    fn a_filter_is_pairs_of_words() {
        assert_eq!(wanted("").unwrap(), Want::default());
        let all = wanted(
            "client 10.0.0.0/8 vip 192.168.1.200:80/tcp server 192.168.1.102 reason new,drop",
        );
        let all = all.unwrap();
        assert_eq!(all.client, Some("10.0.0.0/8".parse().unwrap()));
        assert_eq!(all.vip, Some("192.168.1.200/32".parse().unwrap()));
        assert_eq!((all.port, all.protocol.as_deref()), (Some(80), Some("tcp")));
        assert_eq!(all.server, Some("192.168.1.102/32".parse().unwrap()));
        assert_eq!(all.reasons, ["new", "drop"]);
        let one = wanted("client 10.0.0.5:40000 vip [2001:db8::/64]:53/udp").unwrap();
        assert_eq!(one.client_port, Some(40_000));
        assert_eq!(one.vip, Some("2001:db8::/64".parse().unwrap()));
        assert_eq!((one.port, one.protocol.as_deref()), (Some(53), Some("udp")));
        let any = wanted("vip 192.168.1.0/24/udp").unwrap();
        assert_eq!(any.vip, Some("192.168.1.0/24".parse().unwrap()));
    }

    #[test]
    fn what_is_no_filter_is_told() {
        for (text, part) in [
            ("client", "ends with 'client'"),
            ("port 80", "'port' is no part of a filter"),
            ("client ten", "'ten' is no address"),
            ("server 10.0.0.1:80", "without a port"),
        ] {
            let wrong = wanted(text).unwrap_err().to_string();
            assert!(wrong.contains(part), "{text}: {wrong}");
        }
        assert_eq!("1/50".parse(), Ok(Sample(50)));
        for wrong in ["50", "1/0", "2/3", "1/"] {
            assert!(wrong.parse::<Sample>().is_err(), "{wrong}");
        }
    }

    fn told() -> Told {
        Told {
            time_us: 1_795_593_894_000_123,
            client: Some("10.0.0.5:40000".parse().unwrap()),
            vip: Some("192.168.1.200:80".parse().unwrap()),
            protocol: "tcp".to_owned(),
            service: Some("tcp/192.168.1.200:80".to_owned()),
            real_server: Some("192.168.1.102:80".parse().unwrap()),
            verdict: "tx".to_owned(),
            reason: "tx_scheduled".to_owned(),
            rule: Some("scheduler".to_owned()),
            interface: "eth0".to_owned(),
        }
    }

    #[test]
    fn a_decision_is_one_line() {
        assert_eq!(
            human(&Line::Decision(Box::new(told()))),
            "08:04:54.000123 10.0.0.5:40000 to 192.168.1.200:80/tcp via 192.168.1.102:80 dev eth0 \
             tx_scheduled"
        );
        let fragment = Told {
            client: None,
            vip: None,
            real_server: None,
            reason: "fragment".to_owned(),
            ..told()
        };
        assert_eq!(
            human(&Line::Decision(Box::new(fragment))),
            "08:04:54.000123 a packet without ports dev eth0 fragment"
        );
        assert_eq!(human(&Line::NotShown(42)), "42 decisions not shown");
        assert_eq!(json(&Line::NotShown(42)).unwrap(), r#"{"not_shown":42}"#);
        let json = serde_json::to_value(Json::of(&told())).unwrap();
        assert_eq!(json["time"], "2026-11-25T08:04:54.000123Z");
        assert_eq!(json["real_server"], "192.168.1.102:80");
    }
}
