//! The cluster of seed 004 on one machine: client, director and real servers on one switch.
//!
//! Interface name and addresses are the seed's own, so its file is used as it stands.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use xdp_lb_tests::adverts::Adverts;
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::stream::{Echo, Stream};
use xdp_lb_tests::xdp::Pass;

use super::agent::Agent;
use super::clients::ClientHost;
use super::ledger::Ledger;
use super::needs::Built;
use super::seed::Seed;
use super::server::RealServer;
use super::steps::Steps;

/// Last octets of the clients, in the network of the VIP; no host of the seed has one of them.
pub(crate) const CLIENTS: RangeInclusive<u8> = 10..=89;

/// Last octets of the directors' own addresses.
const DIRECTORS: [u8; 2] = [100, 101];

/// Where the stream asks at the VIP: no service of the seed.
const ECHO_PORT: u16 = 7;

/// What the first election may take: a down timer of 3.6 s, and a busy machine.
const ELECTION: Duration = Duration::from_secs(20);

const BPFFS: &str = "/sys/fs/bpf";

/// A running cluster. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// What a client of the VIP itself gets, once a millisecond.
    pub(crate) stream: Stream,
    /// Who says to be master.
    pub(crate) adverts: Adverts,
    _echoes: [Echo; 2],
    /// The agent on [`Self::director`].
    pub(crate) agent: Agent,
    /// The agent on [`Self::standby`].
    pub(crate) backup: Agent,
    /// The real servers, in the order of the file.
    pub(crate) servers: [RealServer; 2],
    passes: [Pass; 2],
    /// The host with all the clients.
    pub(crate) client: Host,
    /// The director that is master while all is well.
    pub(crate) director: Host,
    /// The other.
    pub(crate) standby: Host,
    /// The switch.
    pub(crate) lan: Lan,
    scratch: TempDir,
    /// What is on the machine because of this cluster.
    pub(crate) ledger: Ledger,
}

impl Cluster {
    /// Puts everything up and waits until it serves. The seeds are the two directors' files.
    pub(crate) fn start(built: &Built, seeds: &[Seed; 2], steps: &mut Steps) -> Result<Self> {
        let [seed, _] = seeds;
        check_interface(seed)?;
        let prefix = unique_prefix("xl");
        let mut ledger = Ledger::open(prefix.trim_end_matches('-'))?;
        let scratch = tempfile::Builder::new()
            .prefix(&format!("xdp-lb-lab-{prefix}"))
            .tempdir()?;
        ledger.path(scratch.path())?;

        let network = steps.run("namespaces and switch", || {
            Network::create(&prefix, seed, &mut ledger)
        })?;
        let Network {
            lan,
            client,
            directors: [director, standby],
            servers,
        } = network;
        let pass = |host: &Host| Pass::attach(&built.rig, lan.switch(), &host.name);
        let passes = [pass(&director)?, pass(&standby)?];
        let servers = steps.run("nginx and WebSocket servers", || {
            let mut start =
                |server| RealServer::start(server, (built, seed.vip), scratch.path(), &mut ledger);
            let [first, second] = servers;
            Ok([start(first)?, start(second)?])
        })?;
        let vip = SocketAddrV4::new(seed.vip, ECHO_PORT);
        let first = seed.address(*CLIENTS.start());
        let adverts = Adverts::start(&client.netns, first)?;
        let begin = Instant::now();
        let [mut agent, backup] = steps.run("xdp-lb up on both, until they are ready", || {
            let mut start =
                |host: &Host, seed| Agent::start(host, (built, seed), scratch.path(), &mut ledger);
            Ok([start(&director, seed)?, start(&standby, &seeds[1])?])
        })?;
        let master = seed.address(DIRECTORS[0]);
        steps.run("first election", || {
            adverts.wait_master(master, begin, ELECTION)?;
            agent.wait_active()
        })?;
        Ok(Self {
            stream: Stream::start(&client.netns, first, vip)?,
            adverts,
            _echoes: [
                Echo::start(&director.netns, vip, 1)?,
                Echo::start(&standby.netns, vip, 2)?,
            ],
            agent,
            backup,
            servers,
            passes,
            client,
            director,
            standby,
            lan,
            scratch,
            ledger,
        })
    }

    /// The addresses of the directors.
    pub(crate) fn directors(seed: &Seed) -> [Ipv4Addr; 2] {
        DIRECTORS.map(|octet| seed.address(octet))
    }

    /// Where programs of the run may write.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Leaves all of it running and returns how to enter it.
    pub(crate) fn keep(mut self) -> Result<String> {
        let doors = self.doors();
        let pins = [0, 1].map(|number| {
            Path::new(BPFFS).join(format!("xdp-lb-lab-{}-{number}", std::process::id()))
        });
        for pin in &pins {
            self.ledger.path(pin)?;
        }
        self.ledger.keep()?;
        for (pass, pin) in self.passes.into_iter().zip(&pins) {
            pass.keep(pin)?;
        }
        self.agent.keep();
        self.backup.keep();
        for server in &mut self.servers {
            server.keep();
        }
        self.client.netns.keep();
        self.director.netns.keep();
        self.standby.netns.keep();
        self.lan.keep();
        self.scratch.disable_cleanup(true);
        Ok(doors)
    }

    /// How to enter the hosts and where to look.
    fn doors(&self) -> String {
        let servers = self.servers.iter().map(|server| &server.host);
        let hosts = [&self.client, &self.director, &self.standby]
            .into_iter()
            .chain(servers);
        let doors: Vec<_> = hosts
            .map(|host| {
                format!(
                    "  {:<10} nsenter --net={}",
                    host.name,
                    host.netns.path().display()
                )
            })
            .collect();
        format!(
            "\nThe cluster is left up. To enter it\n{}\n\
             To look at it\n  {} list --instance {}\n  less {}\n\
             To remove it\n  cargo xtask lab down\n",
            doors.join("\n"),
            self.agent.program().display(),
            self.agent.instance,
            self.agent.log().display(),
        )
    }
}

/// The files are used as they stand, so the hosts must suit them.
fn check_interface(seed: &Seed) -> Result<()> {
    ensure!(
        seed.interface == INTERFACE,
        "the configuration names {}, hosts of the lab have {INTERFACE}",
        seed.interface
    );
    Ok(())
}

impl ClientHost for Cluster {
    fn start_client(&mut self, name: &str, command: &mut Command) -> Result<Process> {
        let process = Process::start(name, &self.client.netns, command, self.scratch.path())?;
        self.ledger.process(&process)?;
        Ok(process)
    }
}

/// Hosts that do not serve yet.
struct Network {
    lan: Lan,
    client: Host,
    directors: [Host; 2],
    servers: [(Host, Ipv4Addr); 2],
}

impl Network {
    fn create(prefix: &str, seed: &Seed, ledger: &mut Ledger) -> Result<Self> {
        for name in ["switch", "client", "director1", "director2", "rs1", "rs2"] {
            ledger.namespace(format!("{prefix}{name}"))?;
        }
        let lan = Lan::create(prefix)?;
        let host = |name: &str, addresses: &[Ipv4Addr]| {
            let addresses: Vec<_> = addresses
                .iter()
                .map(|address| format!("{address}/24"))
                .collect();
            lan.add_host(name, addresses.iter().map(String::as_str))
                .with_context(|| format!("host {name}"))
        };
        let clients: Vec<_> = CLIENTS.map(|octet| seed.address(octet)).collect();
        let client = host("client", &clients)?;
        let [master, backup] = DIRECTORS.map(|octet| seed.address(octet));
        let directors = [host("director1", &[master])?, host("director2", &[backup])?];
        let [first, second] = seed.servers;
        let servers = [
            (host("rs1", &[first])?, first),
            (host("rs2", &[second])?, second),
        ];
        Ok(Self {
            lan,
            client,
            directors,
            servers,
        })
    }
}
