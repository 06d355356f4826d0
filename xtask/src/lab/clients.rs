//! The clients: real programs in the client's namespace that count for themselves what they get.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use xdp_lb_tests::process::Process;
use xdp_lb_tests::wait;

use super::needs::PYTHON;

/// What one run of `http_clients.py` saw.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct HttpRun {
    /// Time from the first request to the last.
    pub(crate) seconds: f64,
    /// One entry per source address.
    pub(crate) sources: Vec<HttpSource>,
}

/// What one source address saw.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct HttpSource {
    /// The address.
    pub(crate) source: String,
    /// Connections it attempted.
    pub(crate) connections: u64,
    /// Requests answered, by server.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Requests that failed, by error.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Seconds from the last answer of its server to the first of another.
    pub(crate) outage: Option<f64>,
    /// The longest time, s, from one answer to the next.
    #[serde(default)]
    pub(crate) gap: f64,
}

/// What one WebSocket client saw.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct WebSocket {
    /// The address.
    pub(crate) source: String,
    /// Connections it attempted.
    pub(crate) connections: u64,
    /// The servers of its successive connections.
    pub(crate) servers: Vec<String>,
    /// How often a connection broke.
    pub(crate) broken: u64,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Messages that came back as they should.
    pub(crate) echoed: u64,
    /// Messages that came back otherwise.
    pub(crate) wrong: u64,
    /// Seconds from a message to its echo, at worst.
    pub(crate) slowest: f64,
    /// Seconds without a connection, per break.
    #[serde(default)]
    pub(crate) outages: Vec<f64>,
    /// Why connections broke.
    #[serde(default)]
    pub(crate) reasons: Vec<String>,
}

/// A line that `websocket_clients.py` prints.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Open { source: String, outage: Option<f64> },
    Broken(Broken),
    Refused {},
    End { sources: Vec<WebSocket> },
}

/// A connection that broke.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Broken {
    /// The address.
    pub(crate) source: String,
    /// Whom it was with; empty if it never said.
    #[serde(default, deserialize_with = "or_empty")]
    pub(crate) server: String,
    /// Why.
    pub(crate) reason: String,
}

fn or_empty<'de, D: serde::Deserializer<'de>>(text: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(text)?.unwrap_or_default())
}

/// How a group of HTTP clients asks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    /// So many requests each, one right after the other.
    Times(u32),
    /// For so long, ten times a second.
    For(Duration),
    /// For so long, twice a second.
    AtEaseFor(Duration),
    /// Ten a second, until a server answers that is not the first that did.
    UntilOther,
}

/// The pace of clients that do not ask as fast as they can.
const PER_SECOND: u64 = 10;
const EVERY: &str = "0.1";

/// HTTP clients that are at it.
#[derive(Debug)]
pub(crate) struct HttpClients {
    process: Process,
}

/// What a group may take in all.
const LIMIT: Duration = Duration::from_secs(80);

/// What can start a client's programs.
pub(crate) trait ClientHost {
    /// Starts a program on the client's host.
    fn start_client(&mut self, name: &str, command: &mut Command) -> Result<Process>;
}

impl HttpClients {
    /// Starts one client per source; the program lies in `scenarios`. No two groups may overlap in
    /// local ports; `first_port` sees to that.
    pub(crate) fn start(
        host: &mut impl ClientHost,
        (scenarios, vip): (&Path, Ipv4Addr),
        (name, first_port): (&str, u16),
        sources: &[String],
        ask: Ask,
    ) -> Result<Self> {
        let mut command = Command::new(PYTHON);
        command
            .arg(scenarios.join("http_clients.py"))
            .args(["--vip", &vip.to_string(), "--sources", &sources.join(",")])
            .args(["--port", &first_port.to_string()]);
        match ask {
            Ask::Times(times) => command.args(["--requests", &times.to_string()]),
            Ask::For(time) => {
                let times = time.as_secs() * PER_SECOND;
                command.args(["--requests", &times.to_string(), "--every", EVERY])
            }
            Ask::AtEaseFor(time) => {
                let times = time.as_secs() * 2;
                let limit = time.as_secs();
                command
                    .args(["--requests", &times.to_string(), "--every", "0.5"])
                    .args(["--limit", &limit.to_string()])
            }
            Ask::UntilOther => command.args(["--until-other", "--every", EVERY]),
        };
        let process = host.start_client(name, &mut command)?;
        Ok(Self { process })
    }

    /// Waits until each source has had an answer.
    pub(crate) fn wait_answered(&mut self) -> Result<()> {
        let Self { process } = self;
        wait::until("every client had an answer", LIMIT, || {
            process.expect_running()?;
            Ok(process.stdout()?.contains("ready").then_some(()))
        })
        .map(drop)
    }

    /// Waits until they are done and returns what they saw.
    pub(crate) fn finish(self) -> Result<HttpRun> {
        let text = self.process.finish(LIMIT)?;
        let json = text.lines().last().context("the clients printed nothing")?;
        serde_json::from_str(json).with_context(|| format!("the clients printed: {json}"))
    }
}

/// WebSocket clients that are at it.
#[derive(Debug)]
pub(crate) struct WebSocketClients {
    process: Process,
    count: usize,
    /// Breaks that were told already.
    told: usize,
}

impl WebSocketClients {
    /// Starts one client per source and waits until each has had an echo.
    pub(crate) fn start(
        host: &mut impl ClientHost,
        (scenario, vip): (&Path, Ipv4Addr),
        first_port: u16,
        sources: &[String],
    ) -> Result<Self> {
        let mut command = Command::new(PYTHON);
        command
            .arg(scenario.join("websocket_clients.py"))
            .args(["--vip", &vip.to_string(), "--sources", &sources.join(",")])
            .args(["--port", &first_port.to_string()]);
        let mut clients = Self {
            process: host.start_client("websockets", &mut command)?,
            count: sources.len(),
            told: 0,
        };
        clients.wait_connected(Duration::from_secs(10))?;
        Ok(clients)
    }

    /// Waits until each source has a connection.
    pub(crate) fn wait_connected(&mut self, limit: Duration) -> Result<()> {
        let Self { process, count, .. } = self;
        let what = format!("all {count} WebSockets are open");
        wait::until(&what, limit, || {
            process.expect_running()?;
            let balance = events(&process.stdout()?)?
                .iter()
                .map(|event| match event {
                    Event::Open { .. } => 1,
                    Event::Broken(_) => -1,
                    Event::Refused {} | Event::End { .. } => 0,
                })
                .sum::<i64>();
            Ok((usize::try_from(balance) == Ok(*count)).then_some(()))
        })
        .map(drop)
        .with_context(|| {
            let said = process.stdout().unwrap_or_default();
            let last = said.lines().last().unwrap_or("nothing");
            format!("the WebSocket clients said last: {last}")
        })
    }

    /// The connections that broke since it was asked last.
    pub(crate) fn newly_broken(&mut self) -> Result<Vec<Broken>> {
        let events = events(&self.process.stdout()?)?;
        let broken = events.into_iter().filter_map(|event| match event {
            Event::Broken(broken) => Some(broken),
            Event::Open { .. } | Event::Refused {} | Event::End { .. } => None,
        });
        let new: Vec<_> = broken.skip(self.told).collect();
        self.told += new.len();
        Ok(new)
    }

    /// Closes them all in order and returns what they saw.
    pub(crate) fn finish(self) -> Result<Vec<WebSocket>> {
        let Self { process, .. } = self;
        process.signal(nix::sys::signal::Signal::SIGTERM)?;
        summary(&process.finish(LIMIT)?)
    }
}

/// Whole lines only: the last may still be on its way.
fn events(text: &str) -> Result<Vec<Event>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("not an event: {line}")))
        .collect()
}

fn summary(text: &str) -> Result<Vec<WebSocket>> {
    let mut outages: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut sockets = None;
    for event in events(text)? {
        match event {
            Event::Open { source, outage } => {
                outages.entry(source).or_default().extend(outage);
            }
            Event::Broken(Broken { source, reason, .. }) => {
                reasons.entry(source).or_default().push(reason);
            }
            Event::Refused {} => {}
            Event::End { sources } => sockets = Some(sources),
        }
    }
    let mut sockets = sockets.context("the WebSocket clients ended without a summary")?;
    for socket in &mut sockets {
        socket.outages = outages.remove(&socket.source).unwrap_or_default();
        socket.reasons = reasons.remove(&socket.source).unwrap_or_default();
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_of_a_socket_come_from_its_events() {
        let text = r#"{"event": "open", "source": "a", "server": "rs1", "outage": null}
{"event": "broken", "source": "a", "server": "rs1", "reason": "x"}
{"event": "open", "source": "a", "server": "rs2", "outage": 1.5}
{"event": "end", "sources": [{"source": "a", "connections": 3, "servers": ["rs1", "rs2"], "broken": 1, "sent": 9, "echoed": 8, "wrong": 0, "slowest": 0.01}]}
"#;
        let sockets = summary(text).unwrap();
        assert_eq!(sockets.len(), 1);
        assert_eq!(sockets[0].outages, [1.5]);
        assert_eq!(sockets[0].reasons, ["x"]);
        assert_eq!(sockets[0].servers, ["rs1", "rs2"]);
    }

    #[test]
    fn half_a_line_is_not_read() {
        assert_eq!(events("{\"event\": \"refused\"}\n{\"eve").unwrap().len(), 1);
        assert!(events("{\"eve").unwrap().is_empty());
        assert!(events("nonsense\n").is_err());
    }
}
