//! The scenario `websocket`: what the users of seed 004 do, and what they fear.
//!
//! WebSockets are opened first and stay open, with traffic, through everything else: a burst of HTTP
//! requests, the death of nginx on one server, its return. All the while the switch counts frames.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::metrics::Scrape;
use xdp_lb_tests::{interrupt, link, wait};

use super::build;
use super::clients::{Ask, HttpClients, HttpRun, WebSocketClients};
use super::cluster::{CLIENTS, Cluster};
use super::findings::{Comeback, Counted, Findings, HostRow, Kill};
use super::frames::Captures;
use super::packages;
use super::seed::Seed;
use super::steps::{Steps, tell};

/// The folder of the scenario, and the configuration in it.
const SCENARIO: &str = "websocket";
const CONFIGURATION: &str = "004-master.conf";

/// Last octets of clients: HTTP, WebSockets, and those that come after the failure.
const HTTP: std::ops::Range<u8> = 10..60;
const WEBSOCKETS: std::ops::Range<u8> = 60..80;
const NEWCOMERS: std::ops::RangeInclusive<u8> = 80..=*CLIENTS.end();

/// Requests of each HTTP client: 50 × 20 = 1,000.
const REQUESTS: u32 = 20;

/// Requests of each client of the other server during the failure, ten a second: as long as the
/// check takes, and some more.
const BYSTANDER_REQUESTS: u32 = 75;

/// Waits are longer than the bound that is judged, so that a late event is measured and not missed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Puts the cluster up, drives it and takes it down, or leaves it with `keep`.
pub(crate) fn run(keep: bool) -> Result<Findings> {
    let mut steps = Steps::default();
    tell("xdp-lb lab, scenario websocket\n");
    steps.run("packages", packages::ensure)?;
    let built = steps.run("build", || build::build(SCENARIO))?;
    let seed = Seed::read(&built.scenario.join(CONFIGURATION))?;
    ensure!(
        seed.servers.len() == 2,
        "the scenario is made for two real servers"
    );

    let mut cluster = Cluster::start(&built, &seed, &mut steps)?;
    let mut run = Run {
        cluster: &mut cluster,
        seed: &seed,
        scenario: built.scenario,
        next_port: 10_000,
        findings: Findings::default(),
    };
    if let Err(error) = run.drive(&mut steps) {
        // An interrupted run has no fault that the log could explain.
        if interrupt::check().is_ok() {
            tell(&format!(
                "The agent's log ends\n{}\n",
                cluster.agent.log_tail()
            ));
        }
        return Err(error);
    }
    let mut findings = run.findings;
    if keep {
        findings.doors = Some(cluster.keep()?);
    } else {
        let agent = &mut cluster.agent;
        findings.stop = Some(steps.run("SIGTERM to xdp-lb", || agent.stop(seed.vip))?);
        findings.log = cluster.agent.log_tail();
        steps.run("clean up", || {
            drop(cluster);
            Ok(())
        })?;
    }
    findings.steps = steps.into_done();
    Ok(findings)
}

/// A run in progress.
struct Run<'a> {
    cluster: &'a mut Cluster,
    seed: &'a Seed,
    scenario: PathBuf,
    /// Where the next group of clients starts to count its local ports.
    next_port: u16,
    findings: Findings,
}

impl Run<'_> {
    fn drive(&mut self, steps: &mut Steps) -> Result<()> {
        self.look()?;
        let captures = steps.run("captures on the switch", || {
            Captures::start(self.cluster, self.seed)
        })?;
        let mut websockets = steps.run("20 WebSockets", || self.open_websockets())?;
        steps.run("1,000 HTTP requests", || {
            self.findings.http =
                self.http("http", &addresses(self.seed, HTTP), Ask::Times(REQUESTS))?;
            self.see_who_answers_arp()
        })?;
        let bystanders = steps.run("nginx killed on one server, clients move", || {
            self.kill(&mut websockets)
        })?;
        steps.run("nginx back, newcomers arrive", || self.bring_back())?;
        steps.run("last clients leave", || {
            self.findings.kill.bystanders = bystanders.finish()?;
            self.findings.websockets = websockets.finish()?;
            self.wait_quiet()
        })?;
        self.findings.frames = captures.finish()?;
        self.count()?;
        let agent = &self.cluster.agent;
        self.findings.list = agent.ask(&["list"])?;
        self.findings.log = agent.log_tail();
        Ok(())
    }

    /// What stands before any client comes.
    fn look(&mut self) -> Result<()> {
        let Cluster {
            director, servers, ..
        } = &*self.cluster;
        let found = &mut self.findings;
        found.configuration = format!("tests/scenarios/{SCENARIO}/{CONFIGURATION}");
        found.service = format!("{}:{}", self.seed.vip, self.seed.port);
        let director_link = link::show(&director.netns, INTERFACE)?;
        found.xdp_mode = director_link.xdp.map(|xdp| xdp.name().to_owned());
        found.director_mac = director.mac.clone();
        for server in servers {
            if let Err(error) = server.status() {
                let name = server.host.name.clone();
                found.setup_errors.insert(name, format!("{error:#}"));
            }
        }
        self.findings.hosts = self.hosts()?;
        Ok(())
    }

    fn hosts(&self) -> Result<Vec<HostRow>> {
        let row = |name: &str, address: String, role: &str| HostRow {
            name: name.to_owned(),
            address,
            role: role.to_owned(),
        };
        let own = link::addresses(&self.cluster.director.netns, INTERFACE)?.addr_info;
        let own: Vec<_> = own
            .into_iter()
            .filter_map(|address| address.local)
            .filter(|address| address.parse::<Ipv4Addr>().is_ok())
            .collect();
        let (first, last) = (*CLIENTS.start(), *CLIENTS.end());
        let first = Cluster::client_address(self.seed, first);
        let mut rows = vec![
            row(
                "client",
                format!("{first} to .{last}"),
                "80 clients, each with an address of its own",
            ),
            row("director1", own.join(", "), "xdp-lb"),
        ];
        rows.extend(self.cluster.servers.iter().map(|server| {
            row(
                &server.host.name,
                server.address.to_string(),
                "nginx, WebSocket echo server",
            )
        }));
        Ok(rows)
    }

    fn open_websockets(&mut self) -> Result<WebSocketClients> {
        let sources = addresses(self.seed, WEBSOCKETS);
        let port = self.take_ports();
        WebSocketClients::start(
            self.cluster,
            (&self.scenario, self.seed.vip),
            port,
            &sources,
        )
    }

    fn start_http(&mut self, name: &str, sources: &[String], ask: Ask) -> Result<HttpClients> {
        let port = self.take_ports();
        let target: (&Path, Ipv4Addr) = (&self.scenario, self.seed.vip);
        HttpClients::start(self.cluster, target, (name, port), sources, ask)
    }

    fn http(&mut self, name: &str, sources: &[String], ask: Ask) -> Result<HttpRun> {
        self.start_http(name, sources, ask)?.finish()
    }

    /// The first of 1,000 local ports that no group before used.
    const fn take_ports(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port += 1000;
        port
    }

    fn see_who_answers_arp(&mut self) -> Result<()> {
        let vip = self.seed.vip.to_string();
        let known = link::neighbours(&self.cluster.client.netns, INTERFACE)?;
        let entry = known.into_iter().find(|neighbour| neighbour.dst == vip);
        self.findings.vip_mac = entry.and_then(|entry| entry.lladdr);
        Ok(())
    }

    /// Kills nginx on the first server while clients of both servers keep asking; returns the
    /// clients of the other, who still do.
    fn kill(&mut self, websockets: &mut WebSocketClients) -> Result<HttpClients> {
        let bound = self.seed.time_to_fail();
        let [killed, survivor] = [0, 1].map(|at| self.cluster.servers.get(at));
        let name = |server: Option<&super::server::RealServer>| {
            server
                .map(|server| server.host.name.clone())
                .unwrap_or_default()
        };
        let (killed, survivor) = (name(killed), name(survivor));
        let (its, others) = {
            let http = &self.findings.http;
            (http.sources_of(&killed), http.sources_of(&survivor))
        };
        ensure!(
            !its.is_empty(),
            "no client of {killed} is left to see its death"
        );
        let mut moving = self.start_http("moving", &its, Ask::UntilOther)?;
        let mut bystanders =
            self.start_http("bystanders", &others, Ask::Slowly(BYSTANDER_REQUESTS))?;
        moving.wait_answered()?;
        bystanders.wait_answered()?;

        let address = *self.seed.servers.first().context("no real server")?;
        self.cluster
            .servers
            .first_mut()
            .context("no real server")?
            .kill_nginx()?;
        let agent = &self.cluster.agent;
        let listed_down = agent.wait_state(address, "down", bound + PATIENCE).ok();
        let moved = moving.finish()?;
        websockets.wait_connected(PATIENCE)?;
        self.findings.kill = Kill {
            killed,
            survivor,
            bound: bound.as_secs_f64(),
            bound_explained: self.seed.time_to_fail_explained(),
            listed_down: listed_down.map(|took| took.as_secs_f64()),
            moved,
            bystanders: HttpRun::default(),
        };
        Ok(bystanders)
    }

    fn bring_back(&mut self) -> Result<()> {
        let bound = self.seed.time_to_return();
        let address = *self.seed.servers.first().context("no real server")?;
        let Cluster {
            servers,
            ledger,
            agent,
            ..
        } = &mut *self.cluster;
        servers
            .first_mut()
            .context("no real server")?
            .restart_nginx(ledger)?;
        let listed_up = agent.wait_state(address, "up", bound + PATIENCE).ok();
        let moved = &self.findings.kill.moved;
        let moved: Vec<_> = moved
            .sources
            .iter()
            .map(|source| source.source.clone())
            .collect();
        let moved_again = self.http("moved-again", &moved, Ask::Times(1))?;
        let newcomers = self.http("newcomers", &addresses(self.seed, NEWCOMERS), Ask::Times(2))?;
        self.findings.comeback = Comeback {
            bound: bound.as_secs_f64(),
            listed_up: listed_up.map(|took| took.as_secs_f64()),
            moved_again,
            newcomers,
        };
        Ok(())
    }

    /// Waits until no packet of a client is on its way: two scrapes in a row say the same.
    fn wait_quiet(&self) -> Result<()> {
        let agent = &self.cluster.agent;
        let mut before = None;
        // Longer than any delayed ACK.
        let every = Duration::from_millis(250);
        wait::until_every(every, "the service is quiet", PATIENCE, || {
            let now = self.packets(&agent.scrape()?);
            let quiet = before == Some(now);
            before = Some(now);
            Ok(quiet.then_some(()))
        })
        .map(drop)
    }

    fn packets(&self, scrape: &Scrape) -> Option<f64> {
        scrape.one(
            "xdp_lb_service_packets_total",
            &[("service", &self.service_label())],
        )
    }

    fn service_label(&self) -> String {
        format!("tcp/{}", self.findings.service)
    }

    /// What the agent counted in all.
    fn count(&mut self) -> Result<()> {
        let Cluster { agent, servers, .. } = &*self.cluster;
        let scrape = agent.scrape()?;
        let service = self.service_label();
        let service = [("service", &*service)];
        let of_server = |address: Ipv4Addr| {
            let label = format!("{address}:{}", self.seed.port);
            let [service] = service;
            let labels = [service, ("real_server", &label)];
            scrape.one("xdp_lb_real_server_connections_total", &labels)
        };
        let server_connections = servers
            .iter()
            .filter_map(|server| Some((server.host.name.clone(), of_server(server.address)?)));
        let reasons = scrape
            .all("xdp_lb_packets_total")
            .filter(|sample| sample.value > 0.0);
        let reasons =
            reasons.filter_map(|sample| Some((sample.labels.get("reason")?.clone(), sample.value)));
        let mut by_reason: BTreeMap<String, f64> = BTreeMap::new();
        for (reason, packets) in reasons {
            *by_reason.entry(reason).or_default() += packets;
        }
        self.findings.scrape = Counted {
            connections: scrape.one("xdp_lb_service_connections_total", &service),
            packets: self.packets(&scrape),
            server_connections: server_connections.collect(),
            reasons: by_reason,
        };
        Ok(())
    }
}

fn addresses(seed: &Seed, octets: impl IntoIterator<Item = u8>) -> Vec<String> {
    let address = |octet| Cluster::client_address(seed, octet).to_string();
    octets.into_iter().map(address).collect()
}
