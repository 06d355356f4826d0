//! The hosts of the scenario on one switch, with what runs on them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;
use xdp_lb_tests::lan::{Host, Lan};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::xdp::Pass;

use super::server::{Database, Web, query};
use crate::lab::agent::Agent;
use crate::lab::ledger::Ledger;
use crate::lab::needs::Built;
use crate::lab::seed::Seed;
use crate::lab::steps::Steps;

/// What the file says.
pub(super) const VIP: Ipv4Addr = Ipv4Addr::new(172, 20, 29, 200);
const INTERFACE: &str = "ens34";
const DIRECTOR: Ipv4Addr = Ipv4Addr::new(172, 20, 1, 5);
const WEBS: [(&str, Ipv4Addr); 3] = [
    ("web1", Ipv4Addr::new(172, 20, 1, 11)),
    ("web2", Ipv4Addr::new(172, 20, 1, 12)),
    ("backup", Ipv4Addr::new(172, 20, 1, 13)),
];
const DATABASES: [(&str, Ipv4Addr, u32); 2] = [
    ("db1", Ipv4Addr::new(172, 20, 1, 21), 1),
    ("db2", Ipv4Addr::new(172, 20, 1, 22), 2),
];
const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 20, 29, 10);

const BPFFS: &str = "/sys/fs/bpf";

/// Everything. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The director's agent.
    pub(super) agent: Agent,
    /// nginx with php-fpm; the last is the hot backup.
    pub(super) webs: [Web; 3],
    /// MariaDB.
    pub(super) databases: [Database; 2],
    pass: Pass,
    client: Host,
    director: Host,
    lan: Lan,
    scratch: TempDir,
    /// What is on the machine because of this cluster.
    pub(super) ledger: Ledger,
}

impl Cluster {
    /// Puts everything up and waits until it serves.
    pub(super) fn start(built: &Built, steps: &mut Steps) -> Result<Self> {
        let prefix = unique_prefix("xl");
        let mut ledger = Ledger::open(prefix.trim_end_matches('-'))?;
        let scratch = tempfile::Builder::new()
            .prefix(&format!("xdp-lb-lab-{prefix}"))
            .tempdir()?;
        ledger.path(scratch.path())?;
        let folder = scratch.path();
        let lan = {
            ledger.namespace(format!("{prefix}switch"))?;
            Lan::create(&prefix)?
        };
        let host = |name: &str, interface: &str, address: Ipv4Addr, ledger: &mut Ledger| {
            ledger.namespace(format!("{prefix}{name}"))?;
            let within = format!("{address}/16");
            lan.add_host_by(name, interface, [within.as_str()])
                .with_context(|| format!("host {name}"))
        };
        let client = host("client", "eth0", CLIENT, &mut ledger)?;
        let director = host("director", INTERFACE, DIRECTOR, &mut ledger)?;
        let pass = Pass::attach(&built.rig, lan.switch(), &director.name)?;
        let mut web = |(name, address): (&str, Ipv4Addr)| {
            let host = host(name, "eth0", address, &mut ledger)?;
            Web::start((host, address), (built, VIP), folder, &mut ledger)
        };
        let webs = steps.run("nginx and php-fpm, three times", || {
            Ok([web(WEBS[0])?, web(WEBS[1])?, web(WEBS[2])?])
        })?;
        let mut database = |(name, address, id): (&str, Ipv4Addr, u32)| {
            let host = host(name, "eth0", address, &mut ledger)?;
            Database::start((host, address, id), (built, VIP), folder, &mut ledger)
        };
        let databases = steps.run("MariaDB, twice", || {
            Ok([database(DATABASES[0])?, database(DATABASES[1])?])
        })?;
        let agent = steps.run("xdp-lb up, until it is master and balances", || {
            let mut agent = Agent::start(&director, (built, &seed(built)), folder, &mut ledger)?;
            agent.wait_active()?;
            Ok(agent)
        })?;
        Ok(Self {
            agent,
            webs,
            databases,
            pass,
            client,
            director,
            lan,
            scratch,
            ledger,
        })
    }

    /// Who makes a page for a client of the VIP, or the error.
    pub(super) fn page(&self) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--max-time", "3"])
            .arg(format!("http://{VIP}/"));
        let answer = self.client.netns.output(&mut curl);
        let server = answer.map(|text| {
            let made = text.split_once(" by PHP ");
            made.map_or_else(
                || format!("not by PHP: {text}"),
                |(name, _)| name.to_owned(),
            )
        });
        server.unwrap_or_else(|error| last_line(&error))
    }

    /// Which MariaDB answers a client of the VIP, or the error.
    pub(super) fn row(&self) -> String {
        match self.client.netns.output(&mut query(VIP)) {
            Ok(id) => format!("db{}", id.trim()),
            Err(error) => last_line(&error),
        }
    }

    /// Leaves all of it running and returns how to enter it.
    pub(super) fn keep(mut self) -> Result<String> {
        let doors = self.doors();
        let pin = Path::new(BPFFS).join(format!("xdp-lb-lab-{}-0", std::process::id()));
        self.ledger.path(&pin)?;
        self.ledger.keep()?;
        self.pass.keep(&pin)?;
        self.agent.keep();
        self.webs.iter_mut().for_each(Web::keep);
        self.databases.iter_mut().for_each(Database::keep);
        self.client.netns.keep();
        self.director.netns.keep();
        self.lan.keep();
        self.scratch.disable_cleanup(true);
        Ok(doors)
    }

    fn doors(&self) -> String {
        let webs = self.webs.iter().map(|web| &web.host);
        let databases = self.databases.iter().map(|database| &database.host);
        let hosts = [&self.client, &self.director].into_iter();
        let door = |host: &Host| {
            let path = host.netns.path();
            format!("  {:<10} nsenter --net={}", host.name, path.display())
        };
        let doors: Vec<_> = hosts.chain(webs).chain(databases).map(door).collect();
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

/// What the agent needs to know of the file: the web servers are those to wait for.
fn seed(built: &Built) -> Seed {
    Seed {
        path: built.scenario.join("lnmp.conf"),
        vip: VIP,
        port: 80,
        servers: [WEBS[0].1, WEBS[1].1],
        interface: INTERFACE.to_owned(),
        delay_loop: 1,
        retry: 1,
        delay_before_retry: 1,
    }
}

fn last_line(error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    text.lines().last().unwrap_or_default().trim().to_owned()
}
