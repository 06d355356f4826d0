//! A director on this host: opens what an agent is made of, runs it, and clears up.
//!
//! Whatever can refuse is asked before anything is touched that packets depend on: the name, the
//! interfaces, the sockets; then the packet path. All but the packet path goes by itself when it is
//! dropped.

mod answers;
mod error;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{info, warn};

use crate::agent::health::{Beginning, Checks, Observers, Probed};
use crate::agent::journal::Journal;
use crate::agent::links::KernelLinks;
use crate::agent::memory::MemoryFile;
use crate::agent::notify::{Notification, Teller};
use crate::agent::outside::{self, Outside};
use crate::agent::overrides::Store;
use crate::agent::placement::{check_interfaces, check_kinds};
use crate::agent::run::{self, Ending, Leftovers, Parts, Phase, Surroundings};
use crate::agent::seams::{Links, PacketPath};
use crate::agent::signals::{self, Signal};
use crate::agent::sync::{self, Listeners, Synced, Syncing};
use crate::agent::vrrp::alive::{Alive, last_seen};
use crate::agent::vrrp::predecessor::{Found, predecessors};
use crate::agent::vrrp::{Elections, Inputs};
use crate::config::model::Config;
use crate::control::orders::Orders;
use crate::control::{self, Snapshots};
use crate::dataplane::{self, pins::Pins};
use crate::health::{Failure, Outcome};
use crate::net::{names, watch::Watcher};
use crate::plan::carriers::Peers;
use crate::plan::pool::Overrides;
use crate::plan::routing;
use crate::plan::table::{Network, resolved_addresses};
use crate::sys::instance::{Instance, Name};
use crate::sys::{bpffs, clock, systemd};
use crate::telemetry::http;
use crate::telemetry::metrics::{CheckResult, HealthMetrics};
use crate::vrrp::group::Input;

pub use error::Error;

use answers::{Servers, report};

/// Questions that wait for the agent.
const INSPECTIONS: usize = 16;

/// Runs a director until a signal ends it. `read` reads the configuration again, `open` makes the
/// packet path or takes a predecessor's over.
pub async fn direct<P: PacketPath>(
    name: &Name,
    config: Config,
    read: impl FnMut() -> Result<Config, Vec<String>>,
    open: impl FnOnce(&Name, &Config, xdp_lb_common::tick::Clock) -> Result<P, dataplane::Error>,
) -> Result<Ending, Error> {
    let signals = signals::listen().map_err(Error::Signals)?;
    let instance = Instance::acquire(name)?;
    let ending = direct_as(&instance, config, signals, read, open).await;
    // A successor needs what the folder remembers as long as tables are pinned or VIPs stand: those of
    // a predecessor that was killed, if this start failed, and those that could not be removed.
    let stands = name.pins().exists() || vips(&instance).exists();
    let is_left = matches!(ending, Ok(Ending::Left)) || stands;
    if !is_left && let Err(error) = instance.remove() {
        warn!("something is left behind: {error}");
    }
    ending
}

async fn direct_as<P: PacketPath>(
    instance: &Instance,
    config: Config,
    signals: mpsc::Receiver<Signal>,
    read: impl FnMut() -> Result<Config, Vec<String>>,
    open: impl FnOnce(&Name, &Config, xdp_lb_common::tick::Clock) -> Result<P, dataplane::Error>,
) -> Result<Ending, Error> {
    let name = instance.name();
    ensure_bpffs()?;
    let config = of_this_host(config);
    outside::begin(&config).await;
    let (watcher, network) = Watcher::start(resolved_addresses(&config, &Peers::new())).await?;
    check_network(&config, &network.borrow())?;
    let control = control::server::bind(name.control_socket())?;
    let metrics = http::bind(config.xdp_lb.metrics)?;
    let journal = Journal::open(vips(instance));
    let leftovers = Leftovers::of(&journal);
    let mut links = KernelLinks::open(journal, name.as_str())?;
    if Pins::new(name.as_str()).have_another_layout()? {
        step_aside(&mut links, &leftovers).await;
    }
    let config = Arc::new(config);
    let mut packet_path = open(name, &config, clock::kernel()?)?;
    if packet_path.took_over() {
        info!("took over the program, tables and connections of a predecessor");
    }
    let lens = packet_path.lens();
    let (elections, notifications, alive) =
        elect(instance, &config, &packet_path, &leftovers, &network)?;
    let routers = elections.inputs();
    let synced = synchronise(&config, &mut packet_path, &routers)?;
    let outside = surround(config.clone(), routers.clone(), notifications).await;
    let health = HealthMetrics::new();
    let seen_by = observers(&health, outside.teller());
    let checks = check(&config, &packet_path, &network, seen_by);
    let (snapshots, asked) = Snapshots::channel();
    let (inspect, inspections) = mpsc::channel(INSPECTIONS);
    let (orders, inbox) = Orders::channel();
    let parts = Parts {
        config,
        packet_path,
        links,
        leftovers,
        network,
        checks,
        elections,
        outside,
        synced: synced.clone(),
        inspections,
        orders: inbox.orders,
        reloads: inbox.reloads,
        overrides: Store::open(instance.folder().join("overrides")),
        memory: MemoryFile::new(instance.folder().join("pools")),
    };
    let agent = run::start(parts).await?;
    let servers = Servers::start((control, orders, lens), (metrics, health), snapshots);
    let threads = (routers, synced.thread);
    let _reporter = Abort(tokio::spawn(report(name.clone(), asked, inspect, threads)));
    let mut host = Host { watcher, read };
    let ending = agent.run(signals, &mut host).await;
    if matches!(ending, Ok(Ending::Left)) {
        alive.leave();
    }
    servers.stop().await;
    Ok(ending?)
}

/// That the interfaces are there, and of use.
fn check_network(config: &Config, network: &Network) -> Result<(), Error> {
    check_interfaces(config, network)?;
    Ok(check_kinds(config, network)?)
}

/// The tables of a predecessor cannot be read, and its program goes with them. While VIPs stand without it
/// the host's own stack would answer their clients by resets, so they go first; a peer that has the
/// connections takes over, and serves them.
async fn step_aside(links: &mut impl Links, leftovers: &Leftovers) {
    for address in &leftovers.addresses {
        if let Err(error) = links.remove(address).await {
            warn!("a VIP of the previous run stands while its program is replaced: {error}");
        }
    }
}

fn ensure_bpffs() -> Result<(), Error> {
    if let Some(warning) = bpffs::ensure()?.warning() {
        warn!("{warning}");
    }
    Ok(())
}

/// With what this host calls its routing tables; says which routes and rules cannot be.
fn of_this_host(mut config: Config) -> Config {
    names::resolve(&mut config);
    for line in routing::refused(&config) {
        warn!("{line}");
    }
    config
}

/// Starts state sync, if it is configured. No instance takes over from a worse master before that is up
/// to date.
fn synchronise(
    config: &Config,
    packet_path: &mut impl PacketPath,
    routers: &Inputs,
) -> Result<Synced, Error> {
    let keys = sync::key::keys(config)?;
    let (Some(sync), Some(keys)) = (&config.xdp_lb.sync, keys) else {
        return Ok(Synced::none());
    };
    let Some(shared) = packet_path.share()? else {
        return Ok(Synced::none());
    };
    routers.tell(Input::Patience(Some(sync.wait)));
    let (adopt, adopted) = watch::channel(Overrides::new());
    let listeners = Listeners {
        routers: routers.clone(),
        adopt,
    };
    let started = Syncing::start(config, sync, keys, shared, listeners);
    let thread = Some(started.map_err(Error::Sync)?);
    Ok(Synced { thread, adopted })
}

type Notifications = mpsc::UnboundedReceiver<Notification>;

/// Starts the elections, with what a predecessor was master of.
fn elect(
    instance: &Instance,
    config: &Config,
    packet_path: &impl PacketPath,
    leftovers: &Leftovers,
    network: &watch::Receiver<Network>,
) -> Result<(Elections, Notifications, Alive), Error> {
    let path = instance.folder().join("alive");
    let predecessors = predecessors(
        config,
        &Found {
            gates: &packet_path.inherited().services,
            leftovers: &leftovers.addresses,
            network: &network.borrow(),
            last_seen: last_seen(&path),
        },
    );
    let started = Elections::start(network.clone(), predecessors);
    let (elections, notifications) = started.map_err(Error::Thread)?;
    let alive = Alive::start(&path).map_err(Error::Alive)?;
    Ok((elections, notifications, alive))
}

/// Starts the health checks, with the verdicts of a predecessor.
fn check(
    config: &Config,
    packet_path: &impl PacketPath,
    network: &watch::Receiver<Network>,
    observers: Observers,
) -> Checks {
    let beginning = Beginning {
        inherited: &packet_path.inherited().servers,
        seed: seed(),
        network: network.clone(),
        observers,
    };
    Checks::start(config, beginning)
}

/// Starts what the elections hear of and whom they tell.
async fn surround(config: Arc<Config>, routers: Inputs, notifications: Notifications) -> Outside {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy().into_owned();
    let report = Arc::new(move |input| routers.tell(input));
    Outside::start(config, report, notifications, host).await
}

/// The file of the journal; there is none when no VIP of ours stands.
fn vips(instance: &Instance) -> PathBuf {
    instance.folder().join("vips")
}

/// Different at each start, so that directors that start together do not check in step.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn observers(metrics: &HealthMetrics, teller: Teller) -> Observers {
    let (metrics, delays) = (metrics.clone(), metrics.clone());
    let probed = move |probed: &Probed<'_>| {
        let result = match probed.outcome {
            Outcome::Passed | Outcome::Weighed(_) => CheckResult::Success,
            Outcome::Failed(Failure::TimedOut(_)) => CheckResult::Timeout,
            Outcome::Failed(_) => CheckResult::Failure,
            // Nothing was checked.
            Outcome::Inconclusive(_) => return,
        };
        metrics.began(probed.late);
        metrics.observe(result, probed.took);
    };
    Observers {
        probed: Arc::new(probed),
        reported: Arc::new(move |report| teller.report(report)),
        obeyed: Arc::new(move |delay| delays.obeyed(delay)),
    }
}

/// A task that ends with its owner.
struct Abort(JoinHandle<()>);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the agent asks of its host.
struct Host<R> {
    watcher: Watcher,
    read: R,
}

impl<R: FnMut() -> Result<Config, Vec<String>>> Surroundings for Host<R> {
    fn enter(&mut self, phase: Phase) {
        match phase {
            Phase::Running => systemd::ready(),
            Phase::Reloading => systemd::reloading(),
            Phase::Ending => systemd::stopping(),
        }
    }

    fn reload(&mut self) -> Result<Config, Vec<String>> {
        (self.read)().map(of_this_host)
    }

    fn resolve(&mut self, addresses: BTreeSet<IpAddr>) {
        self.watcher.set_targets(addresses);
    }
}
