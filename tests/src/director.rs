//! A director: the built `xdp-lb up` in a namespace, started and restarted as a service manager would,
//! and asked as an operator would.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::metrics::Scrape;
use crate::netns::Netns;
use crate::process::Process;
use crate::{http, wait};

/// What the agent may take for any step: until it serves, does what it was told, has ended. Attaching,
/// detaching and closing a packet socket wait for an RCU grace period of the kernel; those last for
/// milliseconds, but on a virtual machine whose CPUs are all taken more than ten seconds were seen.
const LIMIT: Duration = Duration::from_mins(1);

/// The priority of an owner of addresses, who waits for nobody (RFC 5798, 5.2.4).
const OWNER: u8 = 255;

/// From one question to the next: each is a process.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Where the agent serves metrics if nothing else is said.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9165);

/// The program under test: the one of the build that the calling suite is of.
///
/// # Errors
/// When it is not built, or older than its sources. Cargo builds it for a suite of its own package
/// only, and a suite that passes on yesterday's program says nothing.
pub fn program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    // target/PROFILE/deps/SUITE
    let profile = this.parent().and_then(Path::parent);
    let path = profile.context("in no target directory")?.join("xdp-lb");
    let advice = "run `cargo xtask test`, or `cargo build -p xdp-lb` first";
    ensure!(path.is_file(), "no {}: {advice}", path.display());
    Ok(path)
}

/// What an instance keeps on the machine: its pins and its folder.
pub fn traces(instance: &str) -> [PathBuf; 2] {
    ["/sys/fs/bpf/xdp-lb", "/run/xdp-lb"].map(|folder| Path::new(folder).join(instance))
}

/// A director's configuration and place. Dropping it ends the agent and removes what that left.
#[derive(Debug)]
pub struct Director {
    /// Its `--instance`.
    pub instance: String,
    program: PathBuf,
    netns: Netns,
    folder: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    starts: u32,
    agent: Option<Process>,
    kept: bool,
}

impl Director {
    /// A director that does not run yet. Configuration and logs are kept in `folder`, `arguments` are
    /// added to each `xdp-lb up`.
    pub fn new(netns: &Netns, instance: &str, folder: &Path, arguments: &[&str]) -> Result<Self> {
        let mut director = Self::of(&program()?, netns, instance, folder);
        director.arguments = arguments.iter().map(ToString::to_string).collect();
        Ok(director)
    }

    /// The same of a program that the caller has built.
    pub fn of(program: &Path, netns: &Netns, instance: &str, folder: &Path) -> Self {
        Self {
            instance: instance.to_owned(),
            program: program.to_owned(),
            netns: netns.handle(),
            folder: folder.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            starts: 0,
            agent: None,
            kept: false,
        }
    }

    /// Starts this program from now on, as after an upgrade.
    pub fn upgrade(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// The running agent, for those who write down what runs.
    pub const fn process(&self) -> Option<&Process> {
        self.agent.as_ref()
    }

    /// Makes it so that the agent outlives this value.
    pub fn keep(&mut self) {
        self.kept = true;
        if let Some(agent) = &mut self.agent {
            agent.keep();
        }
    }

    /// Starts the agent with this in its environment.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Gives the agent the environment that its unit does.
    pub fn set_as_unit(&mut self) {
        let unit = include_str!("../../etc/xdp-lb.service");
        let lines = unit.lines();
        let settings = lines.filter_map(|line| line.strip_prefix("Environment="));
        for (name, value) in settings.filter_map(|setting| setting.split_once('=')) {
            self.set(name, value);
        }
    }

    /// The file it reads.
    pub fn file(&self) -> PathBuf {
        self.folder.join(format!("{}.conf", self.instance))
    }

    /// Writes that file.
    pub fn configure(&self, text: &str) -> Result<()> {
        fs::write(self.file(), text).context("cannot write the configuration")
    }

    /// Starts the agent and waits until it serves.
    pub fn start(&mut self) -> Result<()> {
        self.starts += 1;
        let name = format!("{}-{}", self.instance, self.starts);
        let mut command = Command::new(&self.program);
        command.arg("up").arg("-f").arg(self.file());
        command.args(["--instance", &self.instance]);
        command.args(&self.arguments);
        let environment = self.environment.iter();
        command.envs(environment.map(|(name, value)| (name, value)));
        let agent = Process::start(&name, &self.netns, &mut command, &self.folder)?;
        let agent = self.agent.insert(agent);
        wait::until("/readyz says yes", LIMIT, || {
            agent.expect_running()?;
            // Refused until it listens.
            let answer = http::get(&self.netns, METRICS, "/readyz").ok();
            Ok(answer.filter(|answer| answer.status == 200))
        })
        .with_context(|| agent.log_tail(40))?;
        Ok(())
    }

    /// Starts the agent and waits until every real server takes connections, or only keeps those it has,
    /// and until it balances what nobody else can be master of (priority 255). What waits for an election
    /// may have none yet.
    pub fn start_whole(&mut self) -> Result<()> {
        self.start()?;
        self.wait_owned()?;
        let all_up = |list: &List| list.real_servers().all(RealServer::serves);
        self.wait_list("every real server is up", all_up)?;
        Ok(())
    }

    /// The verdict of the election comes after the agent serves, and the gates follow it.
    fn wait_owned(&self) -> Result<()> {
        let mut last = None;
        let waited = wait::until_every(ASK_EVERY, "the owner balances", LIMIT, || {
            let instances = &last.insert(self.status()?).vrrp_instances;
            let owners = instances.iter().filter(|of| of.base_priority == OWNER);
            let count = owners.clone().count();
            if owners.filter(|of| of.state == "MASTER").count() < count {
                return Ok(None);
            }
            let services = self.list()?.services;
            let active = services.iter().filter(|service| service.active).count();
            // Which of several instances a service is of is not listed.
            let wanted = if count == instances.len() {
                services.len()
            } else {
                count.min(1).min(services.len())
            };
            Ok((active >= wanted).then_some(()))
        });
        waited.with_context(|| format!("{last:#?}\n{}", self.log()))?;
        Ok(())
    }

    /// The process id of the running agent.
    pub fn pid(&mut self) -> Result<u32> {
        let agent = self.agent()?;
        agent.expect_running()?;
        Ok(agent.pid())
    }

    /// Sends the agent a signal.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        self.agent()?.signal(signal)
    }

    /// Sends the agent a signal and waits for its end.
    pub fn end_by(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        let mut agent = self.agent.take().context("the agent does not run")?;
        let log = agent.log_tail(40);
        agent.wait(LIMIT).context(log)
    }

    /// What the agent has logged since its last start.
    pub fn log(&self) -> String {
        let name = format!("{}-{}.err", self.instance, self.starts);
        let bytes = fs::read(self.folder.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log since the last start holds `text`.
    pub fn wait_log(&mut self, text: &str) -> Result<()> {
        let what = format!("the log holds '{text}'");
        wait::until(&what, LIMIT, || Ok(self.log().contains(text).then_some(())))
            .with_context(|| self.log())?;
        Ok(())
    }

    /// Runs a command about this instance and returns what it printed.
    pub fn ask(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(words).args(["--instance", &self.instance]);
        self.netns.output(&mut command)
    }

    /// `xdp-lb list --json`.
    pub fn list(&self) -> Result<List> {
        self.ask_json(&["list", "--json"])
    }

    /// `xdp-lb status --json`.
    pub fn status(&self) -> Result<Status> {
        self.ask_json(&["status", "--json"])
    }

    fn ask_json<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let (text, _) = wait::until("the agent has time to answer", LIMIT, || {
            match self.ask(words) {
                // It waits for the kernel, which makes other links meanwhile.
                Err(error) if format!("{error:#}").contains("the agent is busy") => Ok(None),
                answer => answer.map(Some),
            }
        })?;
        serde_json::from_str(&text).with_context(|| format!("`{}` said: {text}", words.join(" ")))
    }

    /// Waits until the list is as it should be, and returns it.
    pub fn wait_list(&self, what: &str, mut is: impl FnMut(&List) -> bool) -> Result<List> {
        let mut last = None;
        let waited = wait::until_every(ASK_EVERY, what, LIMIT, || {
            let list = last.insert(self.list()?);
            Ok(is(list).then_some(()))
        });
        waited.with_context(|| format!("{last:#?}\n{}", self.log()))?;
        last.context("nothing was listed")
    }

    /// Packets that left the program for a reason, since its tables were made.
    pub fn packets(&self, reason: &str) -> Result<u64> {
        let status = self.status()?;
        let exit = status.packets.iter().find(|exit| exit.reason == reason);
        let exit = exit.with_context(|| format!("no reason '{reason}' in {:?}", status.packets))?;
        Ok(exit.packets)
    }

    /// A scrape of `/metrics`.
    pub fn scrape(&self) -> Result<Scrape> {
        let answer = http::get(&self.netns, METRICS, "/metrics")?;
        Ok(Scrape::parse(&answer.body))
    }

    fn agent(&mut self) -> Result<&mut Process> {
        self.agent.as_mut().context("the agent does not run")
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        // Nobody is left to tell, and the next step of cleaning up must run all the same.
        drop(self.agent.take().map(|mut agent| agent.stop(LIMIT)));
        for trace in traces(&self.instance) {
            fs::remove_dir_all(trace).ok();
        }
    }
}

/// What `list --json` says, as far as the suites look at it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct List {
    /// The virtual services.
    pub services: Vec<Service>,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Its VIP.
    pub vip: IpAddr,
    /// Its port.
    pub port: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Scheduler.
    pub scheduler: String,
    /// Whether it is balanced here.
    pub active: bool,
    /// Its real servers.
    pub real_servers: Vec<RealServer>,
}

/// A real server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RealServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `dr` or `local`.
    pub forward: String,
    /// Weight in force.
    pub weight: u32,
    /// `up`, `down`, …
    pub state: String,
    /// Why it is in its state.
    pub reason: Option<String>,
    /// Since when, in seconds.
    pub since_s: Option<u64>,
    /// Connections established or opening.
    pub active_conns: u64,
    /// Connections since the tables were made.
    pub conns: u64,
    /// Packets from clients since then.
    pub in_packets: u64,
    /// MAC in use.
    pub mac: Option<String>,
}

impl RealServer {
    /// Whether it is up, or was told to take no new connections and serves those that it has.
    pub fn serves(&self) -> bool {
        matches!(self.state.as_str(), "up" | "draining")
    }
}

impl List {
    /// The real servers of all services.
    pub fn real_servers(&self) -> impl Iterator<Item = &RealServer> {
        self.services
            .iter()
            .flat_map(|service| &service.real_servers)
    }

    /// The first real server of an address.
    ///
    /// # Errors
    /// When there is none.
    pub fn real_server(&self, address: Ipv4Addr) -> Result<&RealServer> {
        let mut servers = self.real_servers();
        let server = servers.find(|server| server.address == address);
        server.with_context(|| format!("{address} is not in {self:#?}"))
    }

    /// New connections by the address of their real server.
    pub fn conns(&self) -> BTreeMap<IpAddr, u64> {
        self.real_servers()
            .map(|server| (server.address, server.conns))
            .collect()
    }
}

/// What `status --json` says, as far as the suites look at it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Status {
    /// The instance that answers.
    pub instance: String,
    /// Interfaces that carry the program.
    pub interfaces: Vec<Interface>,
    /// VRRP instances.
    pub vrrp_instances: Vec<VrrpInstance>,
    /// Packets by reason.
    pub packets: Vec<Exit>,
}

/// An interface that carries the program.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    /// What is not as it was asked for.
    pub remark: Option<String>,
}

/// A VRRP instance.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct VrrpInstance {
    /// Its name.
    pub name: String,
    /// `MASTER`, `BACKUP`, …
    pub state: String,
    /// `priority` of the file.
    pub base_priority: u8,
}

/// Packets that left the program for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Exit {
    /// The reason.
    pub reason: String,
    /// How many.
    pub packets: u64,
}
