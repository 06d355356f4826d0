//! The hosts of the scenario on one switch, with what runs on them.

use std::fs;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::xdp::Pass;

use super::servers::{Blow, Standing};
use crate::lab::agent::Agent;
use crate::lab::clients::ClientHost;
use crate::lab::ledger::Ledger;
use crate::lab::needs::Built;
use crate::lab::seed::Seed;
use crate::lab::server::RealServer;
use crate::lab::steps::Steps;

pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 200);
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 2);
const SERVERS: [(&str, Ipv4Addr); 4] = [
    ("rs1", Ipv4Addr::new(192, 168, 1, 3)),
    ("rs2", Ipv4Addr::new(192, 168, 1, 4)),
    ("rs3", Ipv4Addr::new(192, 168, 1, 5)),
    ("rs4", Ipv4Addr::new(192, 168, 1, 6)),
];
const PORT: u16 = 80;

/// Last octets: a hundred clients with long connections, and a hundred with short ones but for the VIP
/// among them.
pub(super) const LONG: RangeInclusive<u8> = 10..=109;
pub(super) const SHORT: RangeInclusive<u8> = 110..=199;
const MORE: RangeInclusive<u8> = 201..=210;

const BPFFS: &str = "/sys/fs/bpf";

/// Everything. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The director's agent.
    pub(super) agent: Agent,
    servers: [RealServer; 4],
    pass: Pass,
    client: Host,
    director: Host,
    lan: Lan,
    scratch: TempDir,
    file: PathBuf,
    template: String,
    ledger: Ledger,
}

impl Cluster {
    /// Puts everything up and waits until it serves.
    pub(super) fn start(built: &Built, steps: &mut Steps) -> Result<Self> {
        let template = fs::read_to_string(built.scenario.join("churn.conf.in"))?;
        // nginx and the echo server are those of the scenario with WebSockets.
        let built = Built {
            scenario: built.scenarios.join("websocket"),
            ..built.clone()
        };
        let prefix = unique_prefix("xl");
        let mut ledger = Ledger::open(prefix.trim_end_matches('-'))?;
        let scratch = tempfile::Builder::new()
            .prefix(&format!("xdp-lb-lab-{prefix}"))
            .tempdir()?;
        ledger.path(scratch.path())?;
        ledger.namespace(format!("{prefix}switch"))?;
        let lan = Lan::create(&prefix)?;
        let host = |name: &str, addresses: &[Ipv4Addr], ledger: &mut Ledger| {
            ledger.namespace(format!("{prefix}{name}"))?;
            let within: Vec<_> = addresses.iter().map(|ip| format!("{ip}/24")).collect();
            lan.add_host(name, within.iter().map(String::as_str))
                .with_context(|| format!("host {name}"))
        };
        let clients: Vec<_> = LONG.chain(SHORT).chain(MORE).map(client_address).collect();
        let client = host("client", &clients, &mut ledger)?;
        let director = host("director", &[DIRECTOR], &mut ledger)?;
        let pass = Pass::attach(&built.rig, lan.switch(), &director.name)?;
        let mut server = |(name, address): (&str, Ipv4Addr)| {
            let host = host(name, &[address], &mut ledger)?;
            RealServer::start((host, address), (&built, VIP), scratch.path(), &mut ledger)
        };
        let servers = steps.run("four real servers", || {
            let [a, b, c, d] = SERVERS;
            Ok([server(a)?, server(b)?, server(c)?, server(d)?])
        })?;
        let file = scratch.path().join("churn.conf");
        write(&file, &template, &[Standing::Serves(1); 4])?;
        let agent = steps.run("xdp-lb up, until it is master and balances", || {
            let seed = seed(&file);
            let mut agent = Agent::start(&director, (&built, &seed), scratch.path(), &mut ledger)?;
            agent.wait_active()?;
            Ok(agent)
        })?;
        Ok(Self {
            agent,
            servers,
            pass,
            client,
            director,
            lan,
            scratch,
            file,
            template,
            ledger,
        })
    }

    /// Does it to a server; `standings` is how they stand afterwards.
    pub(super) fn strike(
        &mut self,
        number: usize,
        blow: Blow,
        standings: &[Standing; 4],
    ) -> Result<()> {
        let (service, server) = (
            format!("{VIP}:{PORT}"),
            format!("{}:{PORT}", SERVERS[number].1),
        );
        let agent = &self.agent;
        match blow {
            Blow::Fail => self.servers[number].kill_nginx(),
            Blow::Recover => self.servers[number].restart_nginx(&mut self.ledger),
            Blow::Drain => agent.ask(&["drain", &service, &server]).map(drop),
            Blow::Undrain => agent.ask(&["undrain", &service, &server]).map(drop),
            Blow::Weigh(weight) => {
                let weight = weight.to_string();
                agent.ask(&["weight", &service, &server, &weight]).map(drop)
            }
            Blow::Remove | Blow::Add => {
                write(&self.file, &self.template, standings)?;
                self.agent.ask(&["reload"]).map(drop)
            }
        }
    }

    /// The name of a server.
    pub(super) const fn name(number: usize) -> &'static str {
        SERVERS[number].0
    }

    /// Leaves all of it running and returns how to enter it.
    pub(super) fn keep(mut self) -> Result<String> {
        let servers = self.servers.iter().map(|server| &server.host);
        let hosts = [&self.client, &self.director].into_iter().chain(servers);
        let doors: Vec<_> = hosts
            .map(|host| {
                let path = host.netns.path();
                format!("  {:<10} nsenter --net={}\n", host.name, path.display())
            })
            .collect();
        let doors = format!(
            "\nThe cluster is left up. To enter it\n{}To look at it\n  {} list --instance {}\n\
             To remove it\n  cargo xtask lab down\n",
            doors.concat(),
            self.agent.program().display(),
            self.agent.instance,
        );
        let pin = Path::new(BPFFS).join(format!("xdp-lb-lab-{}-0", std::process::id()));
        self.ledger.path(&pin)?;
        self.ledger.keep()?;
        self.pass.keep(&pin)?;
        self.agent.keep();
        self.servers.iter_mut().for_each(RealServer::keep);
        self.client.netns.keep();
        self.director.netns.keep();
        self.lan.keep();
        self.scratch.disable_cleanup(true);
        Ok(doors)
    }
}

impl ClientHost for Cluster {
    fn start_client(&mut self, name: &str, command: &mut Command) -> Result<Process> {
        let process = Process::start(name, &self.client.netns, command, self.scratch.path())?;
        self.ledger.process(&process)?;
        Ok(process)
    }
}

/// The addresses of the clients with long connections, and of those with short ones.
pub(super) fn sources() -> [Vec<String>; 2] {
    let text = |octet| client_address(octet).to_string();
    [
        LONG.map(text).collect(),
        SHORT.chain(MORE).map(text).collect(),
    ]
}

const fn client_address(last_octet: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 1, last_octet)
}

/// Writes the file with the servers that stand in it.
fn write(file: &Path, template: &str, standings: &[Standing; 4]) -> Result<()> {
    let standing = SERVERS.iter().zip(standings);
    let there = standing.filter(|(_, standing)| **standing != Standing::Removed);
    let blocks = there.map(|((_, address), _)| {
        format!(
            "    real_server {address} {PORT} {{\n        TCP_CHECK {{\n            \
             connect_timeout 1\n            retry 1\n            delay_before_retry 1\n        \
             }}\n    }}\n"
        )
    });
    let blocks: String = blocks.collect();
    Ok(fs::write(
        file,
        template.replace("@REAL_SERVERS@", &blocks),
    )?)
}

/// What the agent needs to know of the file.
fn seed(file: &Path) -> Seed {
    Seed {
        path: file.to_owned(),
        vip: VIP,
        port: PORT,
        servers: [SERVERS[0].1, SERVERS[1].1],
        interface: INTERFACE.to_owned(),
        delay_loop: 1,
        retry: 1,
        delay_before_retry: 1,
    }
}
