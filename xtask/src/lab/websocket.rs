//! The scenario `websocket`: what the users of seed 004 do, and what they fear.
//!
//! WebSockets are opened first and stay open, with traffic, through everything else: a burst of HTTP
//! requests, the death of nginx on one server, its return. All the while the switch counts frames.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};
use xdp_lb_tests::lan::INTERFACE;
use xdp_lb_tests::{link, wait};

use super::clients::{Ask, HttpClients, HttpRun, WebSocketClients};
use super::cluster::{CLIENTS, Cluster};
use super::findings::{Comeback, Counted, Findings, HostRow, Kill};
use super::frames::Captures;
use super::needs;
use super::seed::Seed;
use super::steps::Steps;
use super::{LabArgs, Outcome, handover, judge, report};

/// The folder of the scenario, and the configuration in it.
const SCENARIO: &str = "websocket";
const CONFIGURATIONS: [&str; 2] = ["004-master.conf", "004-backup.conf"];

/// Last octets of clients: HTTP, WebSockets, and those that come after the failure.
const HTTP: std::ops::Range<u8> = 10..60;
const WEBSOCKETS: std::ops::Range<u8> = 60..80;
const NEWCOMERS: std::ops::RangeInclusive<u8> = 80..=*CLIENTS.end();

/// Requests of each HTTP client: 50 × 20 = 1,000.
const REQUESTS: u32 = 20;

/// Waits are longer than the bound that is judged, so that a late event is measured and not missed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Puts the cluster up, drives it, takes it down, or leaves it with `--keep`, and judges.
pub(crate) fn run(args: &LabArgs) -> Result<Outcome> {
    let findings = find(args.keep)?;
    let checks = judge::judge(&findings);
    Ok(Outcome {
        text: report::text(&findings, &checks),
        json: report::json(&findings, &checks),
        checks,
        doors: findings.doors,
    })
}

fn find(keep: bool) -> Result<Findings> {
    let mut steps = Steps::default();
    steps.run_loud("packages", needs::install)?;
    let built = steps.run_loud("build", || needs::build(SCENARIO))?;
    let read = |file: &str| Seed::read(&built.scenario.join(file));
    let seeds = [read(CONFIGURATIONS[0])?, read(CONFIGURATIONS[1])?];
    let seed = &seeds[0];

    let mut cluster = Cluster::start(&built, &seeds, &mut steps)?;
    let mut run = Run {
        cluster: &mut cluster,
        seed,
        scenarios: built.scenarios,
        scenario: built.scenario,
        next_port: 10_000,
        findings: Findings::default(),
    };
    if let Err(error) = run.drive(&mut steps) {
        // Of an agent that ended this is the reason, and holds its log.
        cluster.agent.expect_running()?;
        return super::or_tell(Err(error), &cluster.agent.log_tail());
    }
    let mut findings = run.findings;
    if keep {
        findings.doors = Some(cluster.keep()?);
    } else {
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
    scenarios: PathBuf,
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
            self.wait_quiet();
            Ok(())
        })?;
        self.findings.frames = captures.finish()?;
        self.findings.scrape = self.count()?;
        let agent = &self.cluster.agent;
        self.findings.list = agent.ask(&["list"])?;
        let found = handover::run(self.cluster, self.seed, steps)?;
        self.findings.moves = found.moves;
        self.findings.reigns = found.reigns;
        self.findings.stop = found.stop;
        self.findings.log = self.cluster.agent.log_tail();
        Ok(())
    }

    /// What stands before any client comes.
    fn look(&mut self) -> Result<()> {
        let Cluster {
            director, servers, ..
        } = &*self.cluster;
        let found = &mut self.findings;
        found.configuration = CONFIGURATIONS
            .map(|file| format!("tests/scenarios/{SCENARIO}/{file}"))
            .join(" and ");
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
        let first = self.seed.address(first);
        let [_, standby] = Cluster::directors(self.seed);
        let mut rows = vec![
            row(
                "client",
                format!("{first} to .{last}"),
                "80 clients, each with an address of its own",
            ),
            row("director1", own.join(", "), "xdp-lb"),
            row("director2", standby.to_string(), "xdp-lb, in reserve"),
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
        let target: (&Path, Ipv4Addr) = (&self.scenarios, self.seed.vip);
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
        let [killed, survivor] = self
            .cluster
            .servers
            .each_ref()
            .map(|server| server.host.name.clone());
        let http = &self.findings.http;
        let (its, others) = (http.sources_of(&killed), http.sources_of(&survivor));
        ensure!(
            !its.is_empty() && !others.is_empty(),
            "this does not balance: of {} requests {} were answered by {killed}, {} by {survivor}; {}",
            http.connections(),
            http.answered_by(&killed),
            http.answered_by(&survivor),
            http.errors()
        );
        let mut moving = self.start_http("moving", &its, Ask::UntilOther)?;
        let mut bystanders = self.start_http("bystanders", &others, Ask::For(bound))?;
        moving.wait_answered()?;
        bystanders.wait_answered()?;

        let Cluster {
            agent,
            servers: [server, _],
            ..
        } = &mut *self.cluster;
        server.kill_nginx()?;
        // What does not happen in time is a finding, and no reason to stop looking.
        let listed_down = agent
            .wait_state(server.address, "down", bound + PATIENCE)
            .ok();
        let moved = moving.finish()?;
        websockets.wait_connected(PATIENCE).ok();
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
        let Cluster {
            agent,
            servers: [server, _],
            ledger,
            ..
        } = &mut *self.cluster;
        server.restart_nginx(ledger)?;
        let listed_up = agent
            .wait_state(server.address, "up", bound + PATIENCE)
            .ok();
        let moved = self.findings.kill.moved.sources.iter();
        let moved: Vec<_> = moved.map(|source| source.source.clone()).collect();
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

    /// Waits until no packet of a client is on its way: two scrapes in a row say the same. If they
    /// never do, the counts will not agree.
    fn wait_quiet(&self) {
        let mut before = None;
        // Longer than any delayed ACK.
        let every = Duration::from_millis(250);
        wait::until_every(every, "the service is quiet", PATIENCE, || {
            let now = self.count()?.packets;
            let quiet = before == Some(now);
            before = Some(now);
            Ok(quiet.then_some(()))
        })
        .ok();
    }

    fn service_label(&self) -> String {
        format!("tcp/{}", self.findings.service)
    }

    /// What the agent counted in all.
    fn count(&self) -> Result<Counted> {
        let Cluster { agent, servers, .. } = &*self.cluster;
        let servers = servers.each_ref().map(|server| {
            let label = format!("{}:{}", server.address, self.seed.port);
            (server.host.name.clone(), label)
        });
        Ok(Counted::read(
            &agent.scrape()?,
            &self.service_label(),
            servers,
        ))
    }
}

fn addresses(seed: &Seed, octets: impl IntoIterator<Item = u8>) -> Vec<String> {
    let address = |octet| seed.address(octet).to_string();
    octets.into_iter().map(address).collect()
}
