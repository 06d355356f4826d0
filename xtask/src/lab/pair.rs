//! Two directors that are web servers as well, each a machine of its own, on one switch with a client.
//!
//! What a scenario's files name by absolute paths lies there on its machines, and nowhere else.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use xdp_lb_tests::adverts::Adverts;
use xdp_lb_tests::lan::{Host, INTERFACE, Lan};
use xdp_lb_tests::link::{self, Address};
use xdp_lb_tests::netns::unique_prefix;
use xdp_lb_tests::peer::Program;
use xdp_lb_tests::process::Process;
use xdp_lb_tests::stream::{Echo, Stream};
use xdp_lb_tests::xdp::Pass;

use super::clients::ClientHost;
use super::ledger::Ledger;
use super::masters::{Reign, reigns};
use super::needs::Built;
use super::node::Node;
use super::server::{Setup, start_nginx};

/// Names of the directors.
pub(crate) const NAMES: [&str; 2] = ["director1", "director2"];

/// Where the stream asks: no service of any scenario.
const ECHO_PORT: u16 = 7;

/// An advert a second; a down timer and more without one is the end of a reign.
const SILENCE: f64 = 5.0;

const BPFFS: &str = "/sys/fs/bpf";

/// What a scenario's network and files look like.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The directors' interface, as their files name it.
    pub(crate) interface: &'static str,
    /// Length of the network's prefix.
    pub(crate) prefix: u8,
    /// The directors.
    pub(crate) directors: [Ipv4Addr; 2],
    /// Last octets of the clients, in the network of the VIP.
    pub(crate) clients: Vec<u8>,
    /// The VIP.
    pub(crate) vip: Ipv4Addr,
    /// The directors' files.
    pub(crate) texts: [String; 2],
    /// Folders of each machine: where its programs look for it, and files of the scenario in it.
    pub(crate) folders: &'static [(&'static str, &'static [&'static str])],
}

/// Everything. Its parts go in the order in which they stand here.
#[derive(Debug)]
pub(crate) struct Pair {
    /// What a client of the VIP itself gets, once a millisecond.
    pub(crate) stream: Stream,
    /// Who says to be master.
    pub(crate) adverts: Adverts,
    /// What directors are set up as that are real servers as well.
    setups: Vec<Setup>,
    /// The directors.
    pub(crate) nodes: [Node; 2],
    _echoes: [Echo; 2],
    passes: [Pass; 2],
    /// The host with all the clients.
    pub(crate) client: Host,
    /// The switch.
    pub(crate) lan: Lan,
    scratch: TempDir,
    ledger: Ledger,
    plan: Plan,
    /// When it was put up.
    pub(crate) origin: Instant,
}

impl Plan {
    /// An address of a client.
    pub(crate) const fn client(&self, last_octet: u8) -> Ipv4Addr {
        let [a, b, c, _] = self.vip.octets();
        Ipv4Addr::new(a, b, c, last_octet)
    }
}

impl Pair {
    /// Puts up network and machines, with nginx on both; no director runs yet.
    pub(crate) fn create(built: &Built, plan: Plan, program: &Program) -> Result<Self> {
        let prefix = unique_prefix("xl");
        let mut ledger = Ledger::open(prefix.trim_end_matches('-'))?;
        let scratch = tempfile::Builder::new()
            .prefix(&format!("xdp-lb-lab-{prefix}"))
            .tempdir()?;
        ledger.path(scratch.path())?;
        for name in ["switch", "client"].iter().chain(&NAMES) {
            ledger.namespace(format!("{prefix}{name}"))?;
        }
        let lan = Lan::create(&prefix)?;
        let within = |address: Ipv4Addr| format!("{address}/{}", plan.prefix);
        let clients = plan.clients.iter().map(|octet| within(plan.client(*octet)));
        let clients: Vec<_> = clients.collect();
        let client = lan.add_host("client", clients.iter().map(String::as_str))?;
        let host = |number: usize| {
            let address = within(plan.directors[number]);
            lan.add_host_by(NAMES[number], plan.interface, [address.as_str()])
        };
        let hosts = [host(0)?, host(1)?];
        let vip = SocketAddrV4::new(plan.vip, ECHO_PORT);
        let first = plan.clients.first().context("a plan without clients")?;
        let first = plan.client(*first);
        let [one, two] = &hosts;
        let echoes = [
            Echo::start(&one.netns, vip, 1)?,
            Echo::start(&two.netns, vip, 2)?,
        ];
        let pass = |number: usize| Pass::attach(&built.rig, lan.switch(), NAMES[number]);
        let passes = [pass(0)?, pass(1)?];
        let mut node = |host, number| {
            Node::create(
                built,
                (&plan, number),
                host,
                program,
                scratch.path(),
                &mut ledger,
            )
        };
        let [one, two] = hosts;
        let nodes = [node(one, 0)?, node(two, 1)?];
        Ok(Self {
            stream: Stream::start(&client.netns, first, vip)?,
            adverts: Adverts::start(&client.netns, first)?,
            setups: Vec::new(),
            nodes,
            _echoes: echoes,
            passes,
            client,
            lan,
            scratch,
            ledger,
            plan,
            origin: Instant::now(),
        })
    }

    /// Makes a director's host a real server of the VIP as well, by this program.
    pub(crate) fn set_up(&mut self, number: usize, xdp_lb: &Path) -> Result<()> {
        let host = &self.nodes[number].host;
        let setup = Setup::up(host, xdp_lb, self.plan.vip, &mut self.ledger)?;
        self.setups.push(setup);
        Ok(())
    }

    /// Starts a director.
    pub(crate) fn start_director(&mut self, number: usize) -> Result<()> {
        let node = &mut self.nodes[number];
        let process = node.peer.start(&node.machine.inside()?)?;
        self.ledger.process(process)
    }

    /// Starts nginx on a director's machine.
    pub(crate) fn start_nginx(&mut self, number: usize) -> Result<()> {
        let node = &mut self.nodes[number];
        let nginx = start_nginx(&node.machine.inside()?, &node.folder)?;
        self.ledger.process(&nginx)?;
        node.nginx = Some(nginx);
        Ok(())
    }

    /// Ends nginx there, as its user would.
    pub(crate) fn stop_nginx(&mut self, number: usize) -> Result<()> {
        let node = &mut self.nodes[number];
        node.machine.killall(Signal::SIGTERM, "nginx")?;
        if let Some(mut nginx) = node.nginx.take() {
            nginx.wait(Duration::from_secs(5))?;
        }
        Ok(())
    }

    /// Pulls the plug of a machine, with its cable.
    pub(crate) fn power_off(&mut self, number: usize) -> Result<()> {
        self.lan.set_cable(NAMES[number], false)?;
        let node = &mut self.nodes[number];
        node.machine.power_off()?;
        node.peer.forget()?;
        if let Some(mut nginx) = node.nginx.take() {
            nginx.kill()?;
        }
        // What the kernel held is gone with the machine.
        let (netns, interface) = (&node.host.netns, self.plan.interface);
        netns.ip(&format!(
            "address flush dev {interface} to {}/32",
            self.plan.vip
        ))
    }

    /// Starts a machine again, its nginx and its director with it.
    pub(crate) fn power_on(&mut self, number: usize) -> Result<()> {
        self.ledger
            .process(self.nodes[number].machine.power_on()?)?;
        self.lan.set_cable(NAMES[number], true)?;
        self.start_nginx(number)?;
        self.start_director(number)
    }

    /// Ends both directors and returns what is left of them.
    pub(crate) fn stop_directors(&mut self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for (number, name) in NAMES.iter().enumerate() {
            let peer = &mut self.nodes[number].peer;
            peer.terminate()?;
            let status = peer.wait()?;
            if !status.success() {
                left.push(format!("{name}: {status}"));
            }
            if self.vip_on(number)?.is_some() {
                left.push(format!("the VIP on {name}"));
            }
        }
        Ok(left)
    }

    /// The configuration of a machine's nginx.
    pub(crate) fn nginx_conf(&self, number: usize) -> PathBuf {
        self.nodes[number].folder.join("nginx.conf")
    }

    /// Where a file of a machine really lies.
    pub(crate) fn path(&self, number: usize, place: &str) -> PathBuf {
        self.nodes[number]
            .folder
            .join(place.trim_start_matches('/').replace('/', "_"))
    }

    /// The VIP as a director's interface has it.
    pub(crate) fn vip_on(&self, number: usize) -> Result<Option<Address>> {
        let netns = &self.nodes[number].host.netns;
        let vip = self.plan.vip.to_string();
        let found = link::addresses(netns, self.plan.interface)?.addr_info;
        Ok(found
            .into_iter()
            .find(|address| address.local.as_deref() == Some(&*vip)))
    }

    /// Has the clients take a director for the one with the VIP, in a state of the neighbour entry.
    pub(crate) fn believe(&self, number: usize, state: &str) -> Result<()> {
        let (vip, mac) = (self.plan.vip, &self.nodes[number].host.mac);
        let entry = format!("neighbour replace {vip} lladdr {mac} dev {INTERFACE} nud {state}");
        self.client.netns.ip(&entry)
    }

    /// Waits until a director says to be master after an instant, and returns how long that took.
    pub(crate) fn wait_master(
        &self,
        number: usize,
        since: Instant,
        limit: Duration,
    ) -> Result<f64> {
        let address = self.nodes[number].address;
        let at = self.adverts.wait_master(address, since, limit)?;
        Ok((at - since).as_secs_f64())
    }

    /// Waits until a director alone has said to be master for a while, and the stream is answered.
    pub(crate) fn wait_calm(&self, number: usize, limit: Duration) -> Result<()> {
        let during = Duration::from_millis(2200);
        self.adverts
            .wait_only(self.nodes[number].address, during, limit)?;
        self.stream.wait_steady(Duration::from_millis(300), limit)
    }

    /// Who was master when, until now.
    pub(crate) fn reigns(&self) -> Vec<Reign> {
        let hosts = self
            .nodes
            .each_ref()
            .map(|node| (node.address, node.host.name.clone()));
        reigns(
            &self.adverts.since(self.origin),
            self.origin,
            &hosts,
            SILENCE,
        )
    }

    /// Addresses of clients.
    pub(crate) fn sources(&self, octets: impl IntoIterator<Item = u8>) -> Vec<String> {
        octets
            .into_iter()
            .map(|octet| self.plan.client(octet).to_string())
            .collect()
    }

    /// Where programs of the run may write.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// The ends of both directors' logs.
    pub(crate) fn logs(&self) -> String {
        let logs = self.nodes.iter().map(|node| {
            let (name, program) = (&node.host.name, node.peer.program.name());
            format!("{name} ({program}):\n{}\n", node.peer.log_tail(40))
        });
        logs.collect()
    }

    /// Leaves all of it running and returns how to enter it.
    pub(crate) fn keep(mut self) -> Result<String> {
        let mut doors = vec![format!(
            "  {:<10} nsenter --net={}",
            self.client.name,
            self.client.netns.path().display()
        )];
        for node in &self.nodes {
            doors.push(format!("  {:<10} {}", node.host.name, node.machine.door()?));
        }
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
        for setup in &mut self.setups {
            setup.keep();
        }
        for node in &mut self.nodes {
            node.keep();
        }
        self.client.netns.keep();
        self.lan.keep();
        self.scratch.disable_cleanup(true);
        Ok(format!(
            "\nThe machines are left up. To enter them\n{}\nTo remove them\n  cargo xtask lab down\n",
            doors.join("\n")
        ))
    }
}

impl ClientHost for Pair {
    fn start_client(&mut self, name: &str, command: &mut Command) -> Result<Process> {
        let process = Process::start(name, &self.client.netns, command, self.scratch.path())?;
        self.ledger.process(&process)?;
        Ok(process)
    }
}
