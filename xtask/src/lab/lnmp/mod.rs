//! Seed 000: a web service of a college. nginx with php-fpm on two servers of weights 2 and 1, a hot
//! backup that serves while both are dead, MariaDB on two servers as a second virtual service. Parts of
//! it are killed and come back; curl and mariadb ask all the while.

mod cluster;
mod findings;
mod judge;
mod report;
mod server;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use xdp_lb_tests::wait;

use super::needs;
use super::steps::Steps;
use super::{LabArgs, Outcome};
use cluster::Cluster;
use findings::{Findings, Phase};
use judge::{ALL_WELL, DB1_BACK, NO_DB1, NO_PHP, NO_WEB, WEB1_BACK, WEB2_BACK};

/// The folder of the scenario.
const SCENARIO: &str = "lnmp";

const PACKAGES: [&str; 4] = [
    "curl",
    "mariadb-client-core",
    "mariadb-server-core",
    "php-fpm",
];

/// Waits are longer than any bound that is judged.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs it.
pub(crate) fn run(args: &LabArgs) -> Result<Outcome> {
    let mut steps = Steps::default();
    steps.run_loud("packages", || {
        needs::install()?;
        crate::packages::ensure(&PACKAGES)
    })?;
    let built = steps.run_loud("build", || needs::build(SCENARIO))?;
    let cluster = Cluster::start(&built, &mut steps)?;
    let mut run = Run {
        cluster,
        findings: Findings::default(),
    };
    let driven = run.drive(&mut steps);
    let Run {
        mut cluster,
        mut findings,
    } = run;
    findings.log = cluster.agent.log_tail();
    super::or_tell(driven, &findings.log)?;
    if !args.keep {
        findings.stop = Some(steps.run("SIGTERM", || cluster.agent.stop(cluster::VIP))?);
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

/// A run in progress.
struct Run {
    cluster: Cluster,
    findings: Findings,
}

/// What happens in a phase, before clients ask.
struct Event {
    name: &'static str,
    /// Does it, and says which server will be in which state.
    act: fn(&mut Cluster) -> Result<(std::net::Ipv4Addr, &'static str)>,
    /// Whoever makes the next page.
    next: Option<&'static str>,
    pages: u32,
    rows: u32,
}

const EVENTS: [Event; 6] = [
    Event {
        name: NO_PHP,
        act: |cluster| {
            cluster.webs[0].kill_php()?;
            Ok((cluster.webs[0].address, "down"))
        },
        next: Some("web2"),
        pages: 20,
        rows: 0,
    },
    Event {
        name: NO_WEB,
        act: |cluster| {
            cluster.webs[1].kill_nginx()?;
            Ok((cluster.webs[1].address, "down"))
        },
        next: Some("backup"),
        pages: 20,
        rows: 0,
    },
    Event {
        name: WEB2_BACK,
        act: |cluster| {
            cluster.webs[1].restart_nginx(&mut cluster.ledger)?;
            Ok((cluster.webs[1].address, "up"))
        },
        next: Some("web2"),
        pages: 20,
        rows: 0,
    },
    Event {
        name: WEB1_BACK,
        act: |cluster| {
            cluster.webs[0].restart_php(&mut cluster.ledger)?;
            Ok((cluster.webs[0].address, "up"))
        },
        next: Some("web1"),
        pages: 30,
        rows: 0,
    },
    Event {
        name: NO_DB1,
        act: |cluster| {
            cluster.databases[0].kill()?;
            Ok((cluster.databases[0].address, "down"))
        },
        next: None,
        pages: 0,
        rows: 20,
    },
    Event {
        name: DB1_BACK,
        act: |cluster| {
            cluster.databases[0].restart(&mut cluster.ledger)?;
            Ok((cluster.databases[0].address, "up"))
        },
        next: None,
        pages: 0,
        rows: 20,
    },
];

impl Run {
    fn drive(&mut self, steps: &mut Steps) -> Result<()> {
        let first = steps.run(ALL_WELL, || {
            for database in &self.cluster.databases {
                let limit = PATIENCE;
                self.cluster
                    .agent
                    .wait_state(database.address, "up", limit)?;
            }
            Ok(Phase {
                name: ALL_WELL.to_owned(),
                pages: self.pages(60),
                rows: self.rows(20),
                ..Phase::default()
            })
        })?;
        self.findings.phases.push(first);
        for event in &EVENTS {
            let seen = steps.run(event.name, || self.event(event))?;
            self.findings.phases.push(seen);
        }
        Ok(())
    }

    fn event(&mut self, event: &Event) -> Result<Phase> {
        let start = Instant::now();
        let (address, state) = (event.act)(&mut self.cluster)?;
        // What does not happen in time is a finding, and no reason to stop looking.
        let noticed = self.cluster.agent.wait_state(address, state, PATIENCE).ok();
        let served = event.next.and_then(|next| {
            let ours = || Ok((self.cluster.page() == next).then_some(()));
            wait::until("the page comes from the right server", PATIENCE, ours).ok()?;
            Some(start.elapsed().as_secs_f64())
        });
        Ok(Phase {
            name: event.name.to_owned(),
            noticed: noticed.map(|took| took.as_secs_f64()),
            served,
            pages: self.pages(event.pages),
            rows: self.rows(event.rows),
        })
    }

    /// So many pages, each over a connection of its own.
    fn pages(&self, times: u32) -> BTreeMap<String, u32> {
        tally(times, || self.cluster.page())
    }

    /// So many queries, likewise.
    fn rows(&self, times: u32) -> BTreeMap<String, u32> {
        tally(times, || self.cluster.row())
    }
}

fn tally(times: u32, ask: impl Fn() -> String) -> BTreeMap<String, u32> {
    let mut tally = BTreeMap::new();
    for _ in 0..times {
        *tally.entry(ask()).or_default() += 1;
    }
    tally
}
