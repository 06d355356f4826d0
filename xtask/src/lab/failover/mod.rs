//! Thousands of long connections and two hundred WebSockets through two directors that tell each other
//! of connections: servers come and go, the file changes, agents restart and are upgraded, the VIP moves,
//! the master is killed and returns. What breaks is counted by event, cause and server.

mod cluster;
mod events;
mod files;
mod findings;
mod judge;
mod report;

use std::fs;
use std::net::SocketAddrV4;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use xdp_lb_tests::director::Director;
use xdp_lb_tests::wait;

use super::clients::WebSocketClients;
use super::needs;
use super::steps::Steps;
use super::{LabArgs, Outcome};
use crate::conncheck::{Checker, Plan, Rules};
use cluster::{Cluster, PATIENCE, clients};
use files::{FEW, Files, MANY, VIP};
use findings::{Allowed, Event, Findings};

/// The folder with nginx and the WebSockets.
const SCENARIO: &str = "websocket";

/// Heartbeats per second, at most: what two busy CPUs get through with time to spare.
const HEARTBEATS: u64 = 10_000;

/// What follows an event until its window ends: longer than the silence that counts as broken.
const DWELL: Duration = Duration::from_secs(4);

/// Connections opened per second.
const OPENS: u32 = 500;

/// A run in progress.
struct Run<'a> {
    cluster: &'a mut Cluster,
    checker: Checker,
    websockets: WebSocketClients,
    round: u32,
    findings: &'a mut Findings,
}

/// Runs it.
pub(crate) fn run(args: &LabArgs) -> Result<Outcome> {
    let mut steps = Steps::default();
    steps.run_loud("packages", needs::install)?;
    let built = steps.run_loud("build", || needs::build(SCENARIO))?;
    let mut cluster = Cluster::start(&built, Files::new(!args.without_sync), &mut steps)?;
    let connections = args.connections.max(1);
    let least = u64::try_from(connections)?.saturating_mul(1000) / HEARTBEATS;
    let mut findings = Findings {
        connections,
        every_ms: args.every.unwrap_or_else(|| least.max(100)).max(1),
        websockets: clients().len(),
        sync: !args.without_sync,
        ..Findings::default()
    };
    let driven = drive(args, &built, &mut cluster, &mut findings, &mut steps);
    findings.log = cluster.logs();
    super::or_tell(driven, &findings.log)?;
    let doors = steps.put_away((cluster, args.keep), Cluster::keep)?;
    findings.steps = steps.into_done();
    let checks = judge::judge(&findings);
    Ok(Outcome {
        text: report::text(&findings, &checks),
        json: report::json(&findings, &checks),
        checks,
        doors,
    })
}

fn drive(
    args: &LabArgs,
    built: &needs::Built,
    cluster: &mut Cluster,
    findings: &mut Findings,
    steps: &mut Steps,
) -> Result<()> {
    let sources: Vec<_> = clients().iter().map(ToString::to_string).collect();
    let websockets = steps.run("WebSockets", || {
        WebSocketClients::start(cluster, (&built.scenario, VIP), 10_000, &sources)
    })?;
    let every = Duration::from_millis(findings.every_ms);
    let plan = Plan {
        to: [FEW, MANY]
            .map(|port| SocketAddrV4::new(VIP, port))
            .to_vec(),
        from: clients(),
        count: findings.connections,
        rules: Rules {
            every,
            opens: OPENS,
            ..Rules::default()
        },
    };
    let checker = steps.run("connections", || {
        let mut checker = cluster.client.netns.run(|| Checker::start(plan))??;
        let pace = Duration::from_secs(1) / OPENS;
        let count = u32::try_from(findings.connections)?;
        checker.wait_open(PATIENCE + pace * count)?;
        Ok(checker)
    })?;
    let mut run = Run {
        cluster,
        checker,
        websockets,
        round: 0,
        findings,
    };
    for round in 1..=args.repeats.max(1) {
        run.round = round;
        steps.run(&format!("round {round}: servers"), || {
            events::servers(&mut run)
        })?;
        steps.run(&format!("round {round}: restarts"), || {
            events::restarts(&mut run)
        })?;
        steps.run(&format!("round {round}: the VIP moves"), || {
            events::moves(&mut run)
        })?;
    }
    Ok(())
}

impl Run<'_> {
    /// Does something to the cluster while everything stands, and counts what that breaks.
    fn event(
        &mut self,
        what: &str,
        allowed: Allowed,
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.checker.wait_open(PATIENCE)?;
        self.websockets.wait_connected(PATIENCE)?;
        self.wait_told()?;
        self.websockets.newly_broken()?;
        let dropped = backlog()?;
        self.checker.mark()?;
        let done = act(self).with_context(|| what.to_owned());
        sleep(DWELL);
        let window = self.checker.mark()?;
        let sockets = self.websockets.newly_broken()?;
        self.findings.events.push(Event {
            round: self.round,
            what: what.to_owned(),
            allowed,
            window,
            sockets: sockets.into_iter().map(|broken| broken.server).collect(),
            dropped: backlog()? - dropped,
            back: None,
        });
        done
    }

    /// Waits until directors that both run have told each other everything, so that all connections are
    /// old.
    fn wait_told(&self) -> Result<()> {
        let run = |director: &Director| director.process().is_some();
        if self.cluster.directors.iter().all(run) {
            self.wait_synced(0)?;
            self.wait_synced(1)?;
        }
        Ok(())
    }

    /// Waits until a director has all that its peer has.
    fn wait_synced(&self, number: usize) -> Result<()> {
        if !self.findings.sync {
            return Ok(());
        }
        let what = "the director is up to date";
        wait::until_every(Duration::from_millis(200), what, PATIENCE, || {
            let text = self.cluster.directors[number].ask(&["sync", "--json"])?;
            let shown: serde_json::Value = serde_json::from_str(&text)?;
            Ok((shown["sync"]["up_to_date"] == true).then_some(()))
        })?;
        // What is new is told within 100 ms.
        sleep(Duration::from_millis(300));
        Ok(())
    }
}

/// Packets that this machine has dropped because a CPU had too many in its backlog.
fn backlog() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/softnet_stat")?;
    let dropped = |line: &str| {
        let field = line.split_whitespace().nth(1)?;
        u64::from_str_radix(field, 16).ok()
    };
    Ok(text.lines().filter_map(dropped).sum())
}
