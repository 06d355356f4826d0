//! The hosts of the scenario on one switch, with what runs on them.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;
use xdp_lb_tests::adverts::Adverts;
use xdp_lb_tests::director::{Director, RealServer as RealServerListed, traces};
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::wait;
use xdp_lb_tests::xdp::Pass;

use super::files::{DIRECTORS, FEW, Files, HOSTS, MANY, VIP, host_address, shares};
use crate::lab::clients::ClientHost;
use crate::lab::ledger::Ledger;
use crate::lab::needs::Built;
use crate::lab::server::RealServer;
use crate::lab::steps::Steps;

/// The router that all clients are behind. Neighbours of every host, they would be more than the
/// kernel has room for in its neighbour table (1,024 entries, for all namespaces), and then it sends no
/// adverts either.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 70, 10, 1);
/// Where they are.
const CLIENTS_NET: &str = "10.71.0.0/16";

/// Addresses of the clients, each with a WebSocket and its share of the other connections.
const CLIENTS: u8 = 200;

/// What a program may take to listen.
const START: Duration = Duration::from_secs(10);
/// What anything may take on a machine that has other things to do.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

const BPFFS: &str = "/sys/fs/bpf";

/// Everything. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub(super) struct Cluster {
    /// Who says to be master.
    pub(super) adverts: Adverts,
    /// The agents, the better one first.
    pub(super) directors: [Director; 2],
    /// What answers heartbeats on each host.
    answerers: Vec<Process>,
    servers: Vec<RealServer>,
    passes: [Pass; 2],
    /// The host with all the clients.
    pub(super) client: Host,
    hosts: [Host; 2],
    lan: Lan,
    scratch: TempDir,
    /// What the files say now.
    pub(super) files: Files,
    key: PathBuf,
    xdp_lb: PathBuf,
    ledger: Ledger,
}

/// Both directors, not started yet.
fn directors(
    built: &Built,
    hosts: &[Host; 2],
    scratch: &Path,
    ledger: &mut Ledger,
) -> Result<[Director; 2]> {
    let directors = [0, 1].map(|number: usize| {
        let instance = format!("lab-{}-{}", std::process::id(), number + 1);
        Director::of(&built.xdp_lb, &hosts[number].netns, &instance, scratch)
    });
    for trace in directors.iter().flat_map(|of| traces(&of.instance)) {
        ledger.path(&trace)?;
    }
    Ok(directors)
}

impl Cluster {
    /// Puts everything up and waits until it serves.
    #[expect(
        clippy::too_many_lines,
        reason = "one thing after the other, each with its name"
    )]
    pub(super) fn start(built: &Built, files: Files, steps: &mut Steps) -> Result<Self> {
        let prefix = unique_prefix("xl");
        let mut ledger = Ledger::open(prefix.trim_end_matches('-'))?;
        let scratch = tempfile::Builder::new()
            .prefix(&format!("xdp-lb-lab-{prefix}"))
            .tempdir()?;
        ledger.path(scratch.path())?;
        let key = scratch.path().join("sync.key");
        fs::write(&key, format!("{:032x}\n", fastrand::u128(..)))?;
        fs::set_permissions(&key, Permissions::from_mode(0o600))?;
        ledger.namespace(format!("{prefix}switch"))?;
        let lan = Lan::create(&prefix)?;
        let host = |name: &str, addresses: &[Ipv4Addr], ledger: &mut Ledger| -> Result<Host> {
            ledger.namespace(format!("{prefix}{name}"))?;
            let within: Vec<_> = addresses.iter().map(|ip| format!("{ip}/16")).collect();
            let added = lan
                .add_host(name, within.iter().map(String::as_str))
                .with_context(|| format!("host {name}"))?;
            if addresses != [CLIENT] {
                added
                    .netns
                    .ip(&format!("route add {CLIENTS_NET} via {CLIENT}"))?;
            }
            Ok(added)
        };
        let client = host("client", &[CLIENT], &mut ledger)?;
        for address in clients() {
            client
                .netns
                .ip(&format!("address add {address}/32 dev lo"))?;
        }
        let hosts = [
            host("director1", &[DIRECTORS[0]], &mut ledger)?,
            host("director2", &[DIRECTORS[1]], &mut ledger)?,
        ];
        let pass = |of: &Host| Pass::attach(&built.rig, lan.switch(), &of.name);
        let passes = [pass(&hosts[0])?, pass(&hosts[1])?];
        let (mut servers, mut answerers) = (Vec::new(), Vec::new());
        steps.run("real servers", || {
            for number in 1..=HOSTS + 1 {
                let address = host_address(number);
                let mut addresses = vec![address];
                addresses.extend(shares(number));
                let host = host(&server_name(number), &addresses, &mut ledger)?;
                answerers.push(answerer(&host, scratch.path(), &mut ledger)?);
                let (place, path) = ((built, VIP), scratch.path());
                servers.push(RealServer::start(
                    (host, address),
                    place,
                    path,
                    &mut ledger,
                )?);
            }
            Ok(())
        })?;
        let directors = directors(built, &hosts, scratch.path(), &mut ledger)?;
        let mut cluster = Self {
            adverts: Adverts::start(&client.netns, CLIENT)?,
            directors,
            answerers,
            servers,
            passes,
            client,
            hosts,
            lan,
            scratch,
            files,
            key,
            xdp_lb: built.xdp_lb.clone(),
            ledger,
        };
        steps.run("xdp-lb up on both, until the better one is master", || {
            cluster.configure()?;
            cluster.start_director(1)?;
            cluster.start_director(0)?;
            cluster.wait_master(0)
        })?;
        Ok(cluster)
    }

    /// Writes both files.
    pub(super) fn configure(&self) -> Result<()> {
        for (number, director) in self.directors.iter().enumerate() {
            director.configure(&self.files.text(number, &self.key))?;
        }
        Ok(())
    }

    /// Changes both files, and has both read them.
    pub(super) fn reload(&mut self, change: impl FnOnce(&mut Files)) -> Result<()> {
        change(&mut self.files);
        self.configure()?;
        for director in &self.directors {
            director.ask(&["reload"])?;
        }
        Ok(())
    }

    /// Starts an agent and waits until its servers are up.
    pub(super) fn start_director(&mut self, number: usize) -> Result<()> {
        let director = &mut self.directors[number];
        director.start_whole()?;
        if let Some(process) = director.process() {
            self.ledger.process(process)?;
        }
        Ok(())
    }

    /// Waits until this one, alone, balances everything.
    pub(super) fn wait_master(&self, number: usize) -> Result<()> {
        let is = |of: usize| -> Result<bool> {
            let list = self.directors[of].list()?;
            Ok(list.services.iter().all(|service| service.active))
        };
        wait::until_every(
            Duration::from_millis(100),
            "the director is master",
            PATIENCE,
            || Ok(is(number)?.then_some(())),
        )
        .with_context(|| self.logs())?;
        Ok(())
    }

    /// Cuts a director off: neither end sees it.
    pub(super) fn cut_off(&self, number: usize) -> Result<()> {
        self.lan.set_forwarding(&self.hosts[number].name, false)
    }

    /// Makes of a director that was killed one whose host was rebooted: without tables and VIP.
    pub(super) fn reboot(&self, number: usize) -> Result<()> {
        for trace in traces(&self.directors[number].instance) {
            // Nothing there is well, too.
            fs::remove_dir_all(trace).ok();
        }
        let host = &self.hosts[number];
        host.netns
            .ip(&format!("address flush dev {INTERFACE} to {VIP}/32"))?;
        self.lan.set_forwarding(&host.name, true)
    }

    /// Makes of the tables that an agent left some that its successor cannot read: those of a version with
    /// another layout.
    pub(super) fn other_layout(&self, number: usize) -> Result<()> {
        let [pins, _folder] = traces(&self.directors[number].instance);
        for layout in fs::read_dir(&pins)? {
            fs::rename(layout?.path(), pins.join("layout-0"))?;
        }
        Ok(())
    }

    /// Another file with the same program, as a package's upgrade leaves it.
    pub(super) fn other_build(&self, round: u32) -> Result<PathBuf> {
        let other = self.scratch.path().join(format!("xdp-lb-{round}"));
        fs::copy(&self.xdp_lb, &other).context("cannot copy the program")?;
        Ok(other)
    }

    /// Kills what serves on a host.
    pub(super) fn kill_server(&mut self, number: u8) -> Result<()> {
        let index = usize::from(number) - 1;
        self.answerers[index].kill()?;
        self.servers[index].kill_nginx()
    }

    /// Starts it again.
    pub(super) fn start_server(&mut self, number: u8) -> Result<()> {
        let index = usize::from(number) - 1;
        let host = &self.servers[index].host;
        self.answerers[index] = answerer(host, self.scratch.path(), &mut self.ledger)?;
        self.servers[index].restart_nginx(&mut self.ledger)
    }

    /// Waits until both directors have every real server of their file up.
    pub(super) fn wait_whole(&self) -> Result<()> {
        for director in &self.directors {
            director.wait_list("every real server is up, or leaves", |list| {
                list.real_servers().all(RealServerListed::serves)
            })?;
        }
        Ok(())
    }

    /// The ends of both logs.
    pub(super) fn logs(&self) -> String {
        let logs = self.directors.iter().map(|director| {
            let log = director.log();
            let lines: Vec<_> = log.lines().collect();
            let end = lines.get(lines.len().saturating_sub(40)..);
            format!(
                "{}:\n{}\n",
                director.instance,
                end.unwrap_or_default().join("\n")
            )
        });
        logs.collect()
    }

    /// Leaves all of it running and returns how to enter it.
    pub(super) fn keep(mut self) -> Result<String> {
        let servers = self.servers.iter().map(|server| &server.host);
        let hosts = [&self.client].into_iter().chain(&self.hosts).chain(servers);
        let doors: Vec<_> = hosts
            .map(|host| {
                let path = host.netns.path();
                format!("  {:<10} nsenter --net={}\n", host.name, path.display())
            })
            .collect();
        let doors = format!(
            "\nThe cluster is left up. To enter it\n{}To look at it\n  {} sync --instance {}\n\
             To remove it\n  cargo xtask lab down\n",
            doors.concat(),
            self.xdp_lb.display(),
            self.directors[0].instance,
        );
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
        self.directors.iter_mut().for_each(Director::keep);
        self.answerers.iter_mut().for_each(Process::keep);
        self.servers.iter_mut().for_each(RealServer::keep);
        self.client.netns.keep();
        for host in &mut self.hosts {
            host.netns.keep();
        }
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

/// The name of a host with servers, which is what its servers say.
pub(super) fn server_name(number: u8) -> String {
    format!("rs{number}")
}

/// The addresses of the clients.
pub(super) fn clients() -> Vec<Ipv4Addr> {
    (1..=CLIENTS)
        .map(|last| Ipv4Addr::new(10, 71, 10, last))
        .collect()
}

/// Starts what answers heartbeats on a host: this program.
fn answerer(host: &Host, scratch: &Path, ledger: &mut Ledger) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["conncheck", "--serve", &host.name, "--listen"]);
    command.args([FEW, MANY].map(|port| format!("0.0.0.0:{port}")));
    let name = format!("answers-{}", host.name);
    let mut process = Process::start(&name, &host.netns, &mut command, scratch)?;
    ledger.process(&process)?;
    wait::until("the server listens", START, || {
        process.expect_running()?;
        Ok(process.stdout()?.contains("listening").then_some(()))
    })?;
    Ok(process)
}
