//! Seed 003: two hosts with nginx and a director each. nginx that is gone, and a file that the operator
//! puts there, move the VIP; their undoing brings it back. A real client asks all the while.

mod findings;
mod judge;
mod report;

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use xdp_lb_tests::peer::Program;

use super::clients::{Ask, HttpClients};
use super::needs;
use super::pair::{NAMES, Pair, Plan};
use super::steps::Steps;
use super::{LabArgs, Outcome};
use findings::{Findings, Holder, Move};

/// The folder of the scenario and the files in it.
const SCENARIO: &str = "nginx-ha";
const FILES: [&str; 2] = ["003-master.conf", "003-backup.conf"];

const VIP: Ipv4Addr = Ipv4Addr::new(172, 16, 12, 254);
const DIRECTORS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 16, 12, 1), Ipv4Addr::new(172, 16, 12, 2)];

/// Where the seed's files look for theirs.
const ETC: &str = "/etc/keepalived";

/// Waits are longer than any bound that is judged.
const PATIENCE: Duration = Duration::from_secs(20);

/// Down timers of the file: three adverts of 1 s and a skew of 156/256 s or 155/256 s.
const DOWN_TIMER: f64 = 3.61;
/// `interval` of both scripts, `fall` of the one and of the other, s.
const INTERVAL: f64 = 2.0;
const FALL: [f64; 2] = [2.0, 1.0];
/// An advert's way to the other, and a busy machine.
const SLACK: f64 = 2.0;

/// What moves the VIP.
#[derive(Clone, Copy)]
struct Cause {
    name: &'static str,
    to: usize,
    bound: f64,
    act: fn(&mut Pair) -> Result<()>,
}

const CAUSES: [Cause; 4] = [
    Cause {
        name: "nginx stopped on director1",
        to: 1,
        bound: INTERVAL * FALL[0] + DOWN_TIMER + SLACK,
        act: |pair| pair.stop_nginx(0),
    },
    Cause {
        name: "nginx started again",
        to: 0,
        bound: INTERVAL + DOWN_TIMER + SLACK,
        act: |pair| pair.start_nginx(0),
    },
    Cause {
        name: "file 'down' on director1",
        to: 1,
        bound: INTERVAL * FALL[1] + DOWN_TIMER + SLACK,
        act: |pair| Ok(fs::write(pair.path(0, ETC).join("down"), "")?),
    },
    Cause {
        name: "file 'down' removed",
        to: 0,
        bound: INTERVAL + DOWN_TIMER + SLACK,
        act: |pair| Ok(fs::remove_file(pair.path(0, ETC).join("down"))?),
    },
];

/// Runs it.
pub(crate) fn run(args: &LabArgs) -> Result<Outcome> {
    let mut steps = Steps::default();
    steps.run_loud("packages", needs::install)?;
    let built = steps.run_loud("build", || needs::build(SCENARIO))?;
    let program = args.director.program(&built);
    let text = |file: &str| fs::read_to_string(built.scenario.join(file));
    let plan = Plan {
        interface: "eth0",
        prefix: 16,
        directors: DIRECTORS,
        clients: (10..30).collect(),
        vip: VIP,
        texts: [text(FILES[0])?, text(FILES[1])?],
        folders: &[(ETC, &["notify.sh"])],
    };
    let pair = steps.run("machines, nginx", || Pair::create(&built, plan, &program))?;
    let mut run = Run {
        pair,
        scenarios: built.scenarios.clone(),
        next_port: 10_000,
        findings: Findings {
            program: program.name().to_owned(),
            ..Findings::default()
        },
    };
    let driven = run.drive(&mut steps, &program);
    let Run {
        mut pair,
        mut findings,
        ..
    } = run;
    findings.log = pair.logs();
    super::or_tell(driven, &findings.log)?;
    if !args.keep {
        findings.left = steps.run("SIGTERM to both", || pair.stop_directors())?;
    }
    let doors = steps.put_away((pair, args.keep), Pair::keep)?;
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
    pair: Pair,
    scenarios: PathBuf,
    next_port: u16,
    findings: Findings,
}

impl Run {
    fn drive(&mut self, steps: &mut Steps, program: &Program) -> Result<()> {
        steps.run("directors up, first election", || {
            self.pair.start_director(0)?;
            self.pair.start_director(1)?;
            self.pair.wait_calm(0, PATIENCE)
        })?;
        self.findings.holders = self.holders()?;
        for cause in CAUSES {
            // keepalived runs no shell for it, disables the script and says so.
            if *program == Program::Keepalived && cause.name.contains("down") {
                continue;
            }
            let seen = steps.run(cause.name, || self.cause(cause))?;
            self.findings.moves.push(seen);
        }
        self.findings.reigns = self.pair.reigns();
        Ok(())
    }

    fn cause(&mut self, cause: Cause) -> Result<Move> {
        let notes = self.notes();
        let port = self.next_port;
        self.next_port += 1000;
        let sources = self.pair.sources(10..15);
        let target = (&*self.scenarios, VIP);
        let asks = Ask::UntilOther;
        let mut clients = HttpClients::start(
            &mut self.pair,
            target,
            (&format!("http-{port}"), port),
            &sources,
            asks,
        )?;
        clients.wait_answered()?;
        let start = Instant::now();
        (cause.act)(&mut self.pair)?;
        // What does not happen in time is a finding, and no reason to stop looking.
        let moved = self.pair.wait_master(cause.to, start, PATIENCE).ok();
        self.pair.wait_calm(cause.to, PATIENCE).ok();
        let dark = self.pair.stream.longest_gap(start).as_secs_f64();
        let http = clients.finish()?;
        let after = self.notes();
        let new = |number: usize| {
            after[number]
                .get(notes[number].len()..)
                .unwrap_or_default()
                .to_vec()
        };
        Ok(Move {
            cause: cause.name.to_owned(),
            to: NAMES[cause.to].to_owned(),
            from: NAMES[1 - cause.to].to_owned(),
            bound: cause.bound,
            moved,
            dark,
            outage: http.longest_outage(),
            failed: http.failed(),
            notified: [new(0), new(1)],
            holders: self.holders()?,
        })
    }

    /// What notify.sh wrote on each machine.
    fn notes(&self) -> [Vec<String>; 2] {
        [0, 1].map(|number| {
            let text = fs::read_to_string(self.pair.path(number, ETC).join("notify.log"));
            text.unwrap_or_default()
                .lines()
                .map(str::to_owned)
                .collect()
        })
    }

    fn holders(&self) -> Result<Vec<Holder>> {
        let mut holders = Vec::new();
        for (number, name) in NAMES.iter().enumerate() {
            holders.extend(self.pair.vip_on(number)?.map(|address| Holder {
                host: (*name).to_owned(),
                prefix: address.prefixlen.unwrap_or_default(),
                label: address.label.unwrap_or_default(),
            }));
        }
        Ok(holders)
    }
}
