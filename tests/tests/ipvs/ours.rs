//! Our director: a file becomes tables by the code of the agent, and frames go to the program by the
//! kernel's test run.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use xdp_lb::config::{self, model::Config};
use xdp_lb::dataplane::Dataplane as _;
use xdp_lb::dataplane::ebpf::{Ebpf, Options};
use xdp_lb::dataplane::pins::Pins;
use xdp_lb::machine::Now;
use xdp_lb::plan::carriers::Peers;
use xdp_lb::plan::desired::Reach;
use xdp_lb::plan::diff::steps;
use xdp_lb::plan::installed::Installed;
use xdp_lb::plan::interfaces::Sort;
use xdp_lb::plan::pool::{Overrides, Pools};
use xdp_lb::plan::table::{Health, Inputs, Link, Network, Ownership, ServerHealth, desired};
use xdp_lb::sys::{bpffs, clock};
use xdp_lb_common::addr::Mac;
use xdp_lb_tests::ipvs::case::{Case, Edit};
use xdp_lb_tests::ipvs::frame::{DIRECTOR, PORT, server_mac, server_of};
use xdp_lb_tests::ipvs::play::{Director, Servers};
use xdp_lb_tests::netns::{Netns, unique_prefix};
use xdp_lb_tests::program::{Action, Program};

/// Name and index of the interface that frames come in by.
const INTERFACE: (&str, u32) = ("in", 11);

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Runs a test in a network namespace that has the interface.
pub(crate) fn in_a_network(test: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this suite needs root");
        eprintln!("SKIPPED: this suite needs root");
        return;
    }
    bpffs::ensure().unwrap();
    let netns = Netns::create(&unique_prefix("iv")).unwrap();
    let (name, index) = INTERFACE;
    let link = format!("link add {name} index {index} type veth peer {name}-far");
    netns.ip(&link).unwrap();
    netns.run(test).unwrap();
}

/// The director. One is enough for all cases: loading the programs takes longer than most of them. Between
/// two cases all services leave its tables, and with the servers whatever is known of their connections.
pub(crate) struct Ours {
    /// `None` only while it is being dropped.
    ebpf: Option<Ebpf>,
    program: Program,
    config: Config,
    pools: Pools,
    health: Health,
    installed: Installed,
    /// How often a server came back.
    joined: u64,
}

impl Ours {
    pub(crate) fn new() -> Result<Self> {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let instance = format!("iv-{}-{number}", std::process::id());
        let mut options = Options::new(&instance, clock::kernel()?);
        (options.connections, options.templates) = (1 << 16, 1024);
        let mut ebpf = Ebpf::open(&options)?;
        let program = handle(&mut ebpf, &Pins::new(&instance).map("program"))?;
        Ok(Self {
            ebpf: Some(ebpf),
            program,
            config: Config::default(),
            pools: Pools::default(),
            health: Health::new(),
            installed: Installed::default(),
            joined: 0,
        })
    }
}

impl Director for Ours {
    fn begin(&mut self, case: &Case) -> Result<()> {
        self.pools = Pools::default();
        self.health = Health::new();
        self.config = Config::default();
        self.update(case)?;
        self.config = read(case, &case.servers)?;
        self.update(case)
    }

    fn edit(&mut self, case: &Case, edit: Edit, now: &Servers) -> Result<()> {
        self.config = read(case, &now.listed)?;
        if let Edit::Down(number) | Edit::Up(number) = edit {
            self.judge(case, number, matches!(edit, Edit::Up(_)));
        }
        self.update(case)
    }

    fn send(&mut self, frame: &[u8]) -> Result<Option<u8>> {
        let outcome = self.program.run(frame, INTERFACE.1)?;
        Ok(match outcome.action {
            Action::Tx => server_of(&outcome.frame),
            Action::Pass | Action::Drop => None,
            Action::Aborted | Action::Redirect => {
                bail!("the program returned {:?}", outcome.action)
            }
        })
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let removed = self.ebpf.take().map(Ebpf::remove);
        if !std::thread::panicking() {
            removed.unwrap().unwrap();
        }
    }
}

impl Ours {
    fn judge(&mut self, case: &Case, number: u8, up: bool) {
        self.joined += u64::from(up);
        let address = SocketAddr::new(case.server(number), PORT);
        for (key, _) in self.config.services() {
            let verdict = ServerHealth {
                up,
                joined: self.joined,
                ..ServerHealth::default()
            };
            self.health.insert((key, address), verdict);
        }
    }

    /// Changes the tables as the agent does.
    fn update(&mut self, case: &Case) -> Result<()> {
        let (config, health) = (&self.config, &self.health);
        self.pools
            .update(Now::ZERO, config, health, &Overrides::new());
        let wanted = desired(&Inputs {
            config,
            ownership: &Ownership::new(),
            pools: self.pools.memberships(),
            network: &network(case),
            attached: &BTreeSet::from([INTERFACE.0.to_owned()]),
            peers: &Peers::new(),
        });
        for change in steps(&self.installed, &wanted) {
            let ebpf = self.ebpf.as_mut().context("it is being dropped")?;
            ebpf.apply(&change)?;
            self.installed.apply(&change);
        }
        Ok(())
    }
}

/// The program once more: runs need only this, while changes take the data plane for themselves.
fn handle(ebpf: &mut Ebpf, pin: &Path) -> Result<Program> {
    let program = ebpf.object().program_mut("xdp_lb").context("the entry")?;
    program.pin(pin)?;
    let handle = Program::open(pin);
    std::fs::remove_file(pin)?;
    handle
}

fn read(case: &Case, servers: &[(u8, u32)]) -> Result<Config> {
    let text = case.config(servers);
    let loaded = config::parse("keepalived.conf", text.as_bytes());
    loaded.map(|loaded| loaded.config).map_err(|diagnostics| {
        let all = diagnostics.iter().map(|one| format!("{one:?}"));
        anyhow::anyhow!("{}\n{text}", all.collect::<Vec<_>>().join("\n"))
    })
}

/// One network, with all real servers on it.
fn network(case: &Case) -> Network {
    let (name, ifindex) = INTERFACE;
    let mac = Mac::from_octets(DIRECTOR);
    let link = Link {
        ifindex,
        mac,
        up: true,
        mtu: 1500,
        sort: Sort::Plain,
    };
    let reach = |number: u8| -> (IpAddr, Reach) {
        let reach = Reach::Direct {
            ifindex,
            source_mac: mac,
            mac: Mac::from_octets(server_mac(number)),
            on_link: true,
        };
        (case.server(number), reach)
    };
    Network {
        links: [(name.to_owned(), link)].into(),
        reach: (1..10).map(reach).collect(),
        ..Network::default()
    }
}
