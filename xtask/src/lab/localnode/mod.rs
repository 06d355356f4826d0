//! Seed 001: two hosts that are both director and real server, each of the other. Clients are balanced
//! over both nginx, wrr 1:5, whichever is master, and whichever they ask while both are; the master loses
//! its power and gets it back; its script looks after nginx. All the while the switch counts frames, so
//! that one that goes from director to director and back is seen.

mod findings;
mod judge;
mod report;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use xdp_lb_tests::capture::{Capture, Way};
use xdp_lb_tests::peer::Program;
use xdp_lb_tests::{http, wait};

use super::agent::real_server;
use super::clients::{Ask, HttpClients, HttpRun};
use super::needs;
use super::pair::{NAMES, Pair, Plan};
use super::steps::Steps;
use super::{LabArgs, Outcome};
use findings::{Findings, Monitor, Phase, Power};

/// The folder of the scenario and the file in it.
const SCENARIO: &str = "localnode";
const FILE: &str = "001.conf";

const INTERFACE: &str = "eno16777736";
const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 120);
/// The file's real servers.
const DIRECTORS: [Ipv4Addr; 2] = [
    Ipv4Addr::new(192, 168, 1, 103),
    Ipv4Addr::new(192, 168, 1, 104),
];
const PORT: u16 = 80;

/// Where the file looks for its script.
const ETC: &str = "/usr/local/etc";

/// Last octets of clients, in the order of the phases; no host of the scenario has one of them.
const FIRST: std::ops::Range<u8> = 10..70;
/// While both are master, of each.
const AMID: [std::ops::Range<u8>; 2] = [140..155, 155..170];
const ALONE: std::ops::Range<u8> = 170..190;
const AGAIN: std::ops::Range<u8> = 190..220;

/// Waits are longer than any bound that is judged.
const PATIENCE: Duration = Duration::from_secs(20);
/// The file's checks take 55 s: `delay_loop` 6 and `connect_timeout` 10, and three times more 3 and 10.
const CHECKS: Duration = Duration::from_secs(70);

/// Runs it.
pub(crate) fn run(args: &LabArgs) -> Result<Outcome> {
    let mut steps = Steps::default();
    steps.run_loud("packages", needs::install)?;
    let built = steps.run_loud("build", || needs::build(SCENARIO))?;
    let program = args.director.program(&built);
    let backup = fs::read_to_string(built.scenario.join(FILE))?;
    // The source document shows one of the two files; the other differs in these words.
    let master = backup
        .replace("state BACKUP", "state MASTER")
        .replace("priority 80", "priority 100");
    let plan = Plan {
        interface: INTERFACE,
        prefix: 24,
        directors: DIRECTORS,
        clients: [FIRST, ALONE, AGAIN]
            .into_iter()
            .chain(AMID)
            .flatten()
            .collect(),
        vip: VIP,
        texts: [master, backup],
        folders: &[(ETC, &["keepalived/script/monitor_nginx.sh"])],
    };
    let pair = steps.run("machines, nginx", || Pair::create(&built, plan, &program))?;
    let mut run = Run {
        pair,
        xdp_lb: built.xdp_lb.clone(),
        scenarios: built.scenarios.clone(),
        balances: program != Program::Keepalived,
        next_port: 10_000,
        findings: Findings {
            program: program.name().to_owned(),
            ..Findings::default()
        },
    };
    let driven = run.drive(&mut steps);
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
    xdp_lb: PathBuf,
    scenarios: PathBuf,
    /// keepalived needs the kernel's `ip_vs` for that, and runs without.
    balances: bool,
    next_port: u16,
    findings: Findings,
}

impl Run {
    fn drive(&mut self, steps: &mut Steps) -> Result<()> {
        steps.run("directors up, first election", || self.start())?;
        let sources = self.pair.sources(FIRST);
        self.findings.one = steps.run("60 clients", || self.ask("one", &sources, Ask::Times(2)))?;
        self.findings.both = steps.run("both are master, 30 clients more", || self.partition())?;
        self.findings.monitor = steps.run("nginx gone, and gone for good", || self.monitor())?;
        self.findings.power = steps.run("director1 off and on", || self.power())?;
        self.findings.reigns = self.pair.reigns();
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        for number in [0, 1] {
            let folder = self.pair.path(number, ETC);
            fs::copy(self.pair.nginx_conf(number), folder.join("nginx.conf"))?;
            // A director is a real server as well, and stays one while it is not the master.
            self.pair.set_up(number, &self.xdp_lb)?;
            self.pair.start_director(number)?;
        }
        self.pair.wait_calm(0, PATIENCE)?;
        self.wait_server(0, 0, "up")?;
        self.wait_server(0, 1, "up")?;
        Ok(())
    }

    /// Waits until a director's list shows a server in a state, and returns how long that took.
    fn wait_server(&self, director: usize, server: usize, state: &str) -> Result<Option<f64>> {
        if !self.balances {
            return Ok(None);
        }
        let node = &self.pair.nodes[director];
        let what = format!("{} shows {} {state}", NAMES[director], NAMES[server]);
        let ((), took) = wait::until_every(Duration::from_millis(200), &what, CHECKS, || {
            let mut command = Command::new(&self.xdp_lb);
            command.args(["list", "--json", "--instance", &node.peer.instance]);
            let list = serde_json::from_str(&node.host.netns.output(&mut command)?)?;
            let found = real_server(&list, DIRECTORS[server]);
            Ok(found
                .is_some_and(|found| found["state"] == state)
                .then_some(()))
        })?;
        Ok(Some(took.as_secs_f64()))
    }

    /// Clients ask while the switch counts.
    fn ask(&mut self, name: &str, sources: &[String], ask: Ask) -> Result<Phase> {
        let filter = format!("dst host {VIP} and tcp dst port {PORT}");
        let scratch = self.pair.scratch().to_owned();
        let count = |pair: &Pair, at: &str| {
            let capture = format!("{name}-{at}");
            Capture::start(
                (&capture, &scratch),
                (pair.lan.switch(), at),
                Way::FromHost,
                &filter,
            )
        };
        let counts = ["client", NAMES[0], NAMES[1]].map(|at| count(&self.pair, at));
        let port = self.next_port;
        self.next_port += 1000;
        let target: (&Path, Ipv4Addr) = (&self.scenarios, VIP);
        let http =
            HttpClients::start(&mut self.pair, target, (name, port), sources, ask)?.finish()?;
        // Delayed ACKs are on their way.
        std::thread::sleep(Duration::from_millis(300));
        let [client, first, second] = counts.map(|count| count.and_then(Capture::finish));
        Ok(Phase {
            http,
            from_client: client?,
            from_directors: [first?, second?],
        })
    }

    /// Adverts do not reach the other; everything else does. Both answer for the VIP then, and announce
    /// it with each of their adverts, so clients would go from one to the other and back in the middle of
    /// what they ask: which one they ask is settled here.
    fn partition(&mut self) -> Result<[Phase; 2]> {
        let set = |pair: &Pair, passes| {
            NAMES
                .into_iter()
                .try_for_each(|name| pair.lan.set_multicast(name, passes))
        };
        let start = Instant::now();
        set(&self.pair, false)?;
        self.pair.wait_master(1, start, PATIENCE)?;
        wait::until("director2 has the VIP", PATIENCE, || {
            Ok(self.pair.vip_on(1)?.map(drop))
        })?;
        let mut seen = <[Phase; 2]>::default();
        for (number, octets) in AMID.into_iter().enumerate() {
            // No announcement changes what is permanent.
            self.pair.believe(number, "permanent")?;
            let sources = self.pair.sources(octets);
            let name = format!("both-{}", number + 1);
            seen[number] = self.ask(&name, &sources, Ask::Times(2))?;
        }
        // Clients are beside the worse one when both hear each other again.
        self.pair.believe(1, "reachable")?;
        let start = Instant::now();
        set(&self.pair, true)?;
        self.findings.healed_calm = self.pair.wait_calm(0, PATIENCE).is_ok();
        self.findings.healed_dark = self.pair.stream.longest_gap(start).as_secs_f64();
        Ok(seen)
    }

    /// The script starts nginx again; when it cannot, it ends the director.
    fn monitor(&mut self) -> Result<Monitor> {
        let own = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let netns = self.pair.nodes[0].host.netns.handle();
        let wait_nginx = || {
            let answers = || {
                http::get(&netns, own, "/")
                    .ok()
                    .filter(|answer| answer.status == 200)
            };
            wait::until("nginx is back", PATIENCE, || Ok(answers().map(drop)))
        };
        self.pair.stop_nginx(0)?;
        let restarted = wait_nginx().ok().map(|((), took)| took.as_secs_f64());

        let conf = self.pair.path(0, ETC).join("nginx.conf");
        let away = conf.with_extension("away");
        fs::rename(&conf, &away)?;
        let start = Instant::now();
        self.pair.nodes[0]
            .machine
            .killall(Signal::SIGKILL, "nginx")?;
        let gave_up = self.pair.wait_master(1, start, PATIENCE).ok();
        let ended = wait::until("the director ends", PATIENCE, || {
            Ok((!self.pair.nodes[0].peer.is_running()).then_some(()))
        });
        fs::rename(&away, &conf)?;
        if ended.is_ok() {
            self.pair.nodes[0].peer.wait()?;
            self.pair.start_nginx(0)?;
            self.pair.start_director(0)?;
        } else {
            self.pair.start_nginx(0)?;
        }
        self.pair.wait_calm(0, PATIENCE).ok();
        Ok(Monitor { restarted, gave_up })
    }

    fn power(&mut self) -> Result<Power> {
        let start = Instant::now();
        self.pair.power_off(0)?;
        let taken_over = self.pair.wait_master(1, start, PATIENCE).ok();
        self.pair
            .stream
            .wait_steady(Duration::from_millis(300), PATIENCE)
            .ok();
        let dark = self.pair.stream.longest_gap(start).as_secs_f64();
        self.wait_server(1, 0, "down").ok();
        let removed = self.balances.then(|| start.elapsed().as_secs_f64());
        let alone = self.ask_only("alone", ALONE)?;

        let start = Instant::now();
        self.pair.power_on(0)?;
        let returned = self.pair.wait_master(0, start, PATIENCE).ok();
        self.pair.wait_calm(0, PATIENCE).ok();
        self.wait_server(0, 1, "up")?;
        self.wait_server(0, 0, "up")?;
        let sources = self.pair.sources(AGAIN);
        let again = self.ask("again", &sources, Ask::Times(1))?;
        Ok(Power {
            taken_over,
            dark,
            removed,
            alone,
            returned,
            again,
        })
    }

    /// As [`Self::ask`] where a port of the switch is down.
    fn ask_only(&mut self, name: &str, octets: std::ops::Range<u8>) -> Result<HttpRun> {
        let sources = self.pair.sources(octets);
        let port = self.next_port;
        self.next_port += 1000;
        let target: (&Path, Ipv4Addr) = (&self.scenarios, VIP);
        HttpClients::start(
            &mut self.pair,
            target,
            (name, port),
            &sources,
            Ask::Times(2),
        )?
        .finish()
    }
}
