//! The director's agent, `xdp-lb up`, and what it says about itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use xdp_lb_tests::lan::Host;
use xdp_lb_tests::metrics::Scrape;
use xdp_lb_tests::netns::Netns;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::{http, link, wait};

use super::down::remove;
use super::findings::Stop;
use super::ledger::Ledger;
use super::needs::Built;
use super::seed::Seed;

/// What the agent may take until it balances.
const START: Duration = Duration::from_secs(20);

/// What it may take to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Where it serves metrics by default.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9165);

/// A running agent. Dropping it stops it and removes what it should have removed itself.
#[derive(Debug)]
pub(crate) struct Agent {
    process: Process,
    netns: Netns,
    xdp_lb: PathBuf,
    /// Its `--instance`.
    pub(crate) instance: String,
    seed: Seed,
    scratch: PathBuf,
    kept: bool,
}

impl Agent {
    /// Starts it on a director, with the seed's file as it stands, and waits until it is ready to
    /// balance, master or not.
    pub(crate) fn start(
        host: &Host,
        (built, seed): (&Built, &Seed),
        scratch: &Path,
        ledger: &mut Ledger,
    ) -> Result<Self> {
        let instance = format!("lab-{}-{}", std::process::id(), host.name);
        for path in traces(&instance) {
            ledger.path(&path)?;
        }
        let netns = host.netns.handle();
        let process = launch(
            (&built.xdp_lb, &seed.path),
            &instance,
            &netns,
            scratch,
            ledger,
        )?;
        let mut agent = Self {
            process,
            netns,
            xdp_lb: built.xdp_lb.clone(),
            instance,
            seed: seed.clone(),
            scratch: scratch.to_owned(),
            kept: false,
        };
        agent.wait_ready_or_tell()?;
        Ok(agent)
    }

    /// Starts it again after its end, and waits as before.
    pub(crate) fn start_again(&mut self, ledger: &mut Ledger) -> Result<()> {
        let program = (&*self.xdp_lb, &*self.seed.path);
        self.process = launch(program, &self.instance, &self.netns, &self.scratch, ledger)?;
        self.wait_ready_or_tell()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill().map(drop)
    }

    fn wait_ready_or_tell(&mut self) -> Result<()> {
        let seed = self.seed.clone();
        if let Err(error) = self.wait_ready(&seed) {
            // The error of an agent that ended holds its log already.
            self.process.expect_running()?;
            let log = self.log_tail();
            return Err(error.context(format!("the agent does not get ready:\n{log}\n")));
        }
        Ok(())
    }

    fn wait_ready(&mut self, seed: &Seed) -> Result<()> {
        wait::until("/readyz says yes", START, || {
            self.process.expect_running()?;
            // Refused until it listens.
            let answer = http::get(&self.netns, METRICS, "/readyz").ok();
            Ok(answer.filter(|answer| answer.status == 200).map(drop))
        })?;
        wait::until("every real server is up and has a MAC", START, || {
            self.process.expect_running()?;
            let list = self.list()?;
            let ready = |address: &Ipv4Addr| {
                real_server(&list, *address).is_some_and(|server| {
                    server["state"] == "up" && server["mac"].as_str().is_some()
                })
            };
            Ok(seed.servers.iter().all(ready).then_some(()))
        })?;
        Ok(())
    }

    /// Waits until it is master and balances.
    pub(crate) fn wait_active(&mut self) -> Result<()> {
        wait::until("the director is master and balances", START, || {
            self.process.expect_running()?;
            let list = self.list()?;
            let services = list["services"].as_array();
            let all_active = |all: &Vec<Value>| all.iter().all(|service| service["active"] == true);
            Ok(services.is_some_and(all_active).then_some(()))
        })
        .map(drop)
    }

    /// Waits until the list shows a server in `state` and returns how long that took.
    pub(crate) fn wait_state(
        &self,
        server: Ipv4Addr,
        state: &str,
        limit: Duration,
    ) -> Result<Duration> {
        let what = format!("`xdp-lb list` shows {server} {state}");
        // Each look is a process, and this machine has other things to do.
        let ((), took) = wait::until_every(Duration::from_millis(100), &what, limit, || {
            let list = self.list()?;
            let found = real_server(&list, server).is_some_and(|found| found["state"] == state);
            Ok(found.then_some(()))
        })?;
        Ok(took)
    }

    /// `xdp-lb list --json`.
    fn list(&self) -> Result<Value> {
        let text = self.ask(&["list", "--json"])?;
        serde_json::from_str(&text).with_context(|| format!("`list --json` said: {text}"))
    }

    /// Runs a command against this agent and returns what it printed.
    pub(crate) fn ask(&self, words: &[&str]) -> Result<String> {
        self.netns.output(
            Command::new(&self.xdp_lb)
                .args(words)
                .args(["--instance", &self.instance]),
        )
    }

    /// A scrape of `/metrics`.
    pub(crate) fn scrape(&self) -> Result<Scrape> {
        let answer = http::get(&self.netns, METRICS, "/metrics")?;
        Ok(Scrape::parse(&answer.body))
    }

    /// An error with the log's end if it has ended.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        self.process.expect_running()
    }

    /// The binary it runs.
    pub(crate) fn program(&self) -> &Path {
        &self.xdp_lb
    }

    /// The file that its log goes to.
    pub(crate) fn log(&self) -> &Path {
        self.process.log()
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail(60)
    }

    /// SIGTERM, and what is left after it.
    pub(crate) fn stop(&mut self, vip: Ipv4Addr) -> Result<Stop> {
        let status = self.process.stop(GRACE)?;
        let addresses = link::addresses(&self.netns, &self.seed.interface)?.addr_info;
        let vip = vip.to_string();
        let mut left = Vec::new();
        if addresses
            .iter()
            .any(|have| have.local.as_deref() == Some(&*vip))
        {
            left.push(format!("{vip} on {}", self.seed.interface));
        }
        if link::show(&self.netns, &self.seed.interface)?.xdp.is_some() {
            left.push(format!("an XDP program on {}", self.seed.interface));
        }
        let paths = traces(&self.instance)
            .into_iter()
            .filter(|path| path.exists());
        left.extend(paths.map(|path| path.display().to_string()));
        Ok(Stop {
            status: status.to_string(),
            success: status.success(),
            left,
        })
    }

    /// Makes it so that the agent outlives this value.
    pub(crate) fn keep(&mut self) {
        self.kept = true;
        self.process.keep();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if !self.kept {
            drop(self.process.stop(GRACE));
            for path in traces(&self.instance) {
                drop(remove(&path));
            }
        }
    }
}

/// Starts a process of it; its log begins anew.
fn launch(
    (xdp_lb, file): (&Path, &Path),
    instance: &str,
    netns: &Netns,
    scratch: &Path,
    ledger: &mut Ledger,
) -> Result<Process> {
    let mut command = Command::new(xdp_lb);
    command
        .arg("up")
        .arg("-f")
        .arg(file)
        .args(["--instance", instance]);
    let process = Process::start(instance, netns, &mut command, scratch)?;
    ledger.process(&process)?;
    Ok(process)
}

/// Where an instance keeps pins and socket.
fn traces(instance: &str) -> [PathBuf; 2] {
    ["/sys/fs/bpf/xdp-lb", "/run/xdp-lb"].map(|folder| Path::new(folder).join(instance))
}

/// A real server in the output of `list --json`.
pub(crate) fn real_server(list: &Value, address: Ipv4Addr) -> Option<&Value> {
    let address = address.to_string();
    let services = list["services"].as_array()?;
    services
        .iter()
        .filter_map(|service| service["real_servers"].as_array())
        .flatten()
        .find(|server| server["address"] == *address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_real_server_is_found_in_the_list() {
        let list = serde_json::json!({"services": [{"vip": "10.0.0.1", "real_servers": [
            {"address": "10.0.0.2", "state": "up"}, {"address": "10.0.0.3", "state": "down"},
        ]}]});
        let state = |address: [u8; 4]| {
            real_server(&list, Ipv4Addr::from(address)).map(|found| found["state"].clone())
        };
        assert_eq!(state([10, 0, 0, 3]), Some("down".into()));
        assert_eq!(state([10, 0, 0, 4]), None);
    }
}
