//! A real server: the VIP on `lo`, nginx in front, a WebSocket echo server behind it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use xdp_lb_tests::lan::Host;
use xdp_lb_tests::netns::Netns;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{http, wait};

use super::ledger::{Ledger, Undo};
use super::needs::{Built, PYTHON};

/// What a server may take to serve.
const START: Duration = Duration::from_secs(10);

const ECHO_PORT: u16 = 9000;

/// A real server. Dropping it undoes `xdp-lb realserver up`, too; its parts go in the order in which
/// they stand here.
#[derive(Debug)]
pub(crate) struct RealServer {
    setup: Setup,
    nginx: Process,
    echo: Process,
    /// Its namespace and link.
    pub(crate) host: Host,
    /// The address that the director knows it by.
    pub(crate) address: Ipv4Addr,
    folder: PathBuf,
}

impl RealServer {
    /// Prepares the host and starts its servers in a folder of its own below `scratch`.
    pub(crate) fn start(
        (host, address): (Host, Ipv4Addr),
        (built, vip): (&Built, Ipv4Addr),
        scratch: &Path,
        ledger: &mut Ledger,
    ) -> Result<Self> {
        let folder = scratch.join(&host.name);
        fs::create_dir(&folder)?;
        let setup = Setup::up(&host, &built.xdp_lb, vip, ledger)?;
        let echo = start_echo(&host, built, &folder)?;
        ledger.process(&echo)?;
        configure_nginx(&built.scenario.join("nginx.conf"), &host.name, &folder)?;
        let nginx = start_nginx(&host.netns, &folder)?;
        ledger.process(&nginx)?;
        Ok(Self {
            setup,
            nginx,
            echo,
            host,
            address,
            folder,
        })
    }

    /// Kills nginx, its workers with it, as a crash would.
    pub(crate) fn kill_nginx(&mut self) -> Result<()> {
        self.nginx.kill().map(drop)
    }

    /// Starts nginx again.
    pub(crate) fn restart_nginx(&mut self, ledger: &mut Ledger) -> Result<()> {
        self.nginx = start_nginx(&self.host.netns, &self.folder)?;
        ledger.process(&self.nginx)
    }

    /// What `xdp-lb realserver status` says; an error if it finds something wrong.
    pub(crate) fn status(&self) -> Result<String> {
        self.setup.run("status")
    }

    /// Makes it so that everything outlives this value.
    pub(crate) fn keep(&mut self) {
        self.nginx.keep();
        self.echo.keep();
        self.setup.keep();
        self.host.netns.keep();
    }
}

fn start_echo(host: &Host, built: &Built, folder: &Path) -> Result<Process> {
    let mut command = Command::new(PYTHON);
    command
        .arg(built.scenario.join("echo_server.py"))
        .args([&host.name, &ECHO_PORT.to_string()]);
    let mut echo = Process::start("echo_server", &host.netns, &mut command, folder)?;
    wait::until("the echo server listens", START, || {
        echo.expect_running()?;
        Ok(echo.stdout()?.contains("listening").then_some(()))
    })?;
    Ok(echo)
}

/// Fills in a configuration for a server's folder.
pub(crate) fn configure_nginx(template: &Path, server: &str, folder: &Path) -> Result<()> {
    let template = fs::read_to_string(template)?;
    let configuration = template
        .replace("@SERVER@", server)
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@ECHO_PORT@", &ECHO_PORT.to_string());
    Ok(fs::write(folder.join("nginx.conf"), configuration)?)
}

/// Starts nginx with the configuration in a folder, and waits until it answers.
pub(crate) fn start_nginx(netns: &Netns, folder: &Path) -> Result<Process> {
    let mut command = Command::new("nginx");
    // Without -e it opens the machine's own log before it reads its configuration.
    command
        .args(["-e", "stderr", "-p"])
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        // In the foreground, whatever the file says.
        .args(["-g", "daemon off;"]);
    let mut nginx = Process::start("nginx", netns, &mut command, folder)?;
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    wait::until("nginx answers", START, || {
        nginx.expect_running()?;
        // Refused until it listens.
        let answer = http::get(netns, own, "/").ok();
        Ok(answer.filter(|answer| answer.status == 200).map(drop))
    })?;
    Ok(nginx)
}

/// What `xdp-lb realserver up` did, undone on drop.
#[derive(Debug)]
pub(crate) struct Setup {
    xdp_lb: PathBuf,
    vip: Ipv4Addr,
    netns: Netns,
    undo: bool,
}

impl Setup {
    /// Makes the host a real server of `vip`.
    pub(crate) fn up(
        host: &Host,
        xdp_lb: &Path,
        vip: Ipv4Addr,
        ledger: &mut Ledger,
    ) -> Result<Self> {
        let setup = Self {
            xdp_lb: xdp_lb.to_owned(),
            vip,
            netns: host.netns.handle(),
            undo: true,
        };
        let [verb, down, flag, vip] = setup.words("down");
        ledger.undo(Undo {
            namespace: host.netns.name().to_owned(),
            words: vec![xdp_lb.display().to_string(), verb, down, flag, vip],
        })?;
        setup.run("up")?;
        Ok(setup)
    }

    /// Makes it so that it outlives this value.
    pub(crate) const fn keep(&mut self) {
        self.undo = false;
    }

    fn words(&self, verb: &str) -> [String; 4] {
        ["realserver", verb, "--vip", &self.vip.to_string()].map(str::to_owned)
    }

    fn run(&self, verb: &str) -> Result<String> {
        self.netns
            .output(Command::new(&self.xdp_lb).args(self.words(verb)))
            .with_context(|| format!("realserver {verb}"))
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if self.undo {
            // The namespace is about to go, which undoes the rest.
            drop(self.run("down"));
        }
    }
}
