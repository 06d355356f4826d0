//! A hundred clients with long WebSockets and a hundred with short requests, for a minute in which real
//! servers fail, drain, change weight, leave the file and come back in random order.

mod cluster;
mod findings;
mod judge;
mod report;
mod servers;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::clients::{Ask, Broken, HttpClients, WebSocketClients};
use super::needs;
use super::needs::Built;
use super::steps::Steps;
use super::{LabArgs, Outcome};
use cluster::{Cluster, VIP, sources};
use findings::{Event, Findings};
use servers::{Blow, Standing, draw};

/// The folder of the scenario.
const SCENARIO: &str = "churn";

/// How long clients are at it.
const TIME: Duration = Duration::from_mins(1);
/// From one event to the next: longer than a check takes to notice.
const PACE: Duration = Duration::from_secs(2);

/// The checks: `delay_loop` 1, twice `connect_timeout` 1, `delay_before_retry` 1; a client tries again
/// within a second; a busy machine.
const BOUND: f64 = 1.0 + 2.0 + 1.0 + 1.0 + 1.0;

/// What repeats a run.
const SEED: &str = "XDP_LB_CHURN_SEED";

/// Runs it.
pub(crate) fn run(args: &LabArgs) -> Result<Outcome> {
    let mut steps = Steps::default();
    steps.run_loud("packages", needs::install)?;
    let built = steps.run_loud("build", || needs::build(SCENARIO))?;
    let mut cluster = Cluster::start(&built, &mut steps)?;
    let mut findings = Findings {
        seed: seed(),
        bound: BOUND,
        ..Findings::default()
    };
    let driven = steps.run("a minute of events", || {
        drive(&mut cluster, &built, &mut findings)
    });
    findings.log = cluster.agent.log_tail();
    super::or_tell(driven, &findings.log)?;
    if !args.keep {
        findings.stop = Some(steps.run("SIGTERM", || cluster.agent.stop(VIP))?);
    }
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

fn seed() -> u64 {
    let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
    let clock = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(0, |now| now.as_secs())
    };
    given.unwrap_or_else(clock)
}

fn drive(cluster: &mut Cluster, built: &Built, findings: &mut Findings) -> Result<()> {
    let [long, short] = sources();
    let scenario = built.scenarios.join("websocket");
    let mut websockets = WebSocketClients::start(cluster, (&scenario, VIP), 10_000, &long)?;
    let mut http = HttpClients::start(
        cluster,
        (&built.scenarios, VIP),
        ("http", 20_000),
        &short,
        Ask::AtEaseFor(TIME),
    )?;
    http.wait_answered()?;
    let mut random = fastrand::Rng::with_seed(findings.seed);
    let mut standings = [Standing::Serves(1); 4];
    let (start, mut hits) = (Instant::now(), 0);
    // Whoever failed at the event before may still break something now.
    let mut suspects = [false; 4];
    while start.elapsed() < TIME.saturating_sub(2 * PACE) {
        let (number, blow) = draw(&mut random, hits, &standings);
        hits += usize::from(matches!(standings[number], Standing::Serves(_)));
        standings[number] = blow.standing();
        let at = start.elapsed().as_secs_f64();
        cluster.strike(number, blow, &standings)?;
        std::thread::sleep(PACE);
        for (suspect, standing) in suspects.iter_mut().zip(&standings) {
            *suspect |= *standing == Standing::Failed;
        }
        let broken = websockets.newly_broken()?;
        let innocent = broken.iter().filter(|broken| !is_suspect(broken, suspects));
        findings.innocent.extend(innocent.map(|broken| {
            let Broken {
                source,
                server,
                reason,
            } = broken;
            format!("{at:.1} s: {source} of {server}: {reason}")
        }));
        suspects = standings.map(|standing| standing == Standing::Failed);
        findings.events.push(Event {
            at,
            what: format!("{} {blow}", Cluster::name(number)),
            broken: broken.len(),
        });
    }
    findings.http = http.finish()?;
    for (number, standing) in standings.into_iter().enumerate() {
        if standing == Standing::Failed {
            cluster.strike(number, Blow::Recover, &standings)?;
        }
    }
    websockets.wait_connected(Duration::from_secs(15))?;
    findings.websockets = websockets.finish()?;
    Ok(())
}

fn is_suspect(broken: &Broken, suspects: [bool; 4]) -> bool {
    (0..suspects.len()).any(|number| suspects[number] && Cluster::name(number) == broken.server)
}
