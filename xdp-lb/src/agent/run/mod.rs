//! The life of an agent, from parts that are open to the last signal.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::agent::health::Checks;
use crate::agent::journal::Journal;
use crate::agent::memory::MemoryFile;
use crate::agent::outside::Outside;
use crate::agent::overrides::Store;
use crate::agent::placement::{NoInterface, Placement, absent_devices, check_interfaces};
use crate::agent::pulse::Pulse;
use crate::agent::reconciler::{Inspection, Listeners, Reconciler, Sources, changed};
use crate::agent::reload::{differences, needs_restart};
use crate::agent::seams::{Links, PacketPath};
use crate::agent::signals::Signal;
use crate::agent::sync::{Synced, Syncing};
use crate::agent::vrrp::Elections;
use crate::config::model::{Config, XdpLb};
use crate::control::orders::{OrderRequest, ReloadReply};
use crate::dataplane;
use crate::plan;
use crate::plan::belongings::{Belonging, links_stand};
use crate::plan::carriers::Peers;
use crate::plan::desired::OwnedAddress;
use crate::plan::installed::Installed;
use crate::plan::pool::Pools;
use crate::plan::table::{
    Network, by_pool, owned_addresses, real_server_addresses, resolved_addresses,
};

/// How long a start waits for the real servers' MACs. Those that live have answered by then, and
/// tables that were taken over are not emptied for want of an answer.
const RESOLUTION: Duration = Duration::from_secs(1);

/// How long instances wait for their interfaces with a virtual MAC. They take milliseconds.
const STANDING: Duration = Duration::from_secs(1);
/// How long a reload waits for tables and addresses to follow.
const FOLLOWING: Duration = Duration::from_secs(10);

/// What an agent is made of, open and ready.
pub struct Parts<P, L> {
    /// The configuration, with what the command line overrides.
    pub config: Arc<Config>,
    /// The packet path, in the state its predecessor left it.
    pub packet_path: P,
    /// The links.
    pub links: L,
    /// What predecessors left behind.
    pub leftovers: Leftovers,
    /// The network, as it changes.
    pub network: watch::Receiver<Network>,
    /// The running health checks.
    pub checks: Checks,
    /// The elections, without a configuration yet.
    pub elections: Elections,
    /// What stands beside them.
    pub outside: Outside,
    /// State sync.
    pub synced: Synced,
    /// Questions about the agent's state.
    pub inspections: mpsc::Receiver<Inspection>,
    /// Orders of operators.
    pub orders: mpsc::Receiver<OrderRequest>,
    /// Who wants the configuration to be read again, and hear of what that changes.
    pub reloads: mpsc::Receiver<ReloadReply>,
    /// What operators ordered before.
    pub overrides: Store,
    /// What a predecessor knew of pools.
    pub memory: MemoryFile,
}

impl<P, L> fmt::Debug for Parts<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// What predecessors put in place and did not take out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// VIPs.
    pub addresses: BTreeSet<OwnedAddress>,
    /// What came with them, in the order it was put in place.
    pub belongings: Vec<Belonging>,
}

impl Leftovers {
    /// What stands in a journal.
    pub fn of(journal: &Journal) -> Self {
        Self {
            addresses: journal.addresses(),
            belongings: journal.belongings().to_vec(),
        }
    }
}

/// Where in its life an agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It does its work.
    Running,
    /// It is reading its configuration again; [`Phase::Running`] follows.
    Reloading,
    /// It is about to end.
    Ending,
}

/// What an agent asks of those who started it.
pub trait Surroundings {
    /// Takes note of a new phase.
    fn enter(&mut self, phase: Phase);

    /// Reads the configuration again; what is wrong, line by line, if it is not valid as a whole.
    fn reload(&mut self) -> Result<Config, Vec<String>>;

    /// Resolves the MACs of these addresses from now on.
    fn resolve(&mut self, addresses: BTreeSet<IpAddr>);
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing is left behind.
    Stopped,
    /// Program, tables and VIPs stand, for a successor.
    Left,
}

/// Why an agent could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The packet path refused.
    #[error(transparent)]
    PacketPath(#[from] dataplane::Error),
    /// A defect of this program.
    #[error("the agent failed, and left program, tables and VIPs as they are: {0}")]
    Defect(#[from] JoinError),
    /// A defect of this program.
    #[error("the VRRP thread failed; program, tables and VIPs are left as they are")]
    Elections,
}

/// A running agent.
#[derive(Debug)]
pub struct Agent<P, L> {
    reconciler: JoinHandle<Reconciler<P, L>>,
    stop: CancellationToken,
    config: watch::Sender<Arc<Config>>,
    network: watch::Receiver<Network>,
    peers: watch::Receiver<Peers>,
    leaving: watch::Receiver<BTreeSet<IpAddr>>,
    in_force: watch::Receiver<Arc<Config>>,
    reloads: mpsc::Receiver<ReloadReply>,
    checks: Checks,
    elections: Elections,
    outside: Outside,
    syncing: Option<Syncing>,
}

/// Puts the program on its interfaces and fills the tables, and goes on from there. If that fails,
/// what it created is gone again, and what a predecessor left stands as before.
pub async fn start<P: PacketPath, L: Links>(parts: Parts<P, L>) -> Result<Agent<P, L>, Error> {
    let Parts {
        config,
        mut packet_path,
        links,
        leftovers,
        mut network,
        checks,
        mut elections,
        outside,
        synced,
        inspections,
        orders,
        reloads,
        overrides,
        memory,
    } = parts;
    let (took_over, placement) = (packet_path.took_over(), Placement::of(&config));
    warn_about(absent_devices(&config, &network.borrow()));
    let goes_on = go_on(&mut elections, &outside, &config).await;
    resolved(&config, &mut network, &mut packet_path).await;
    let (installed, pools) = found(&packet_path, &config, leftovers, (&elections, &network));
    let (leaving, leaving_seen) = watch::channel(BTreeSet::new());
    let (config, config_seen) = watch::channel(config);
    let sources = Sources {
        config: config_seen,
        health: checks.verdicts(),
        listeners: listeners(&checks, &outside, synced.thread.clone()),
        adopted: synced.adopted,
        network: network.clone(),
        claims: elections.claims(),
        peers: elections.peers(),
        inspections,
        orders,
        leaving,
    };
    (sources.listeners.overridden)(overrides.changed(), overrides.known());
    let reconciler = Reconciler::new(packet_path, links, installed, placement, sources);
    let reconciler = reconciler.after(pools, overrides, memory);
    let mut reconciler = filled(attached(reconciler, elections.is_alive(), took_over).await?).await;
    if !goes_on {
        let heard = (&mut elections, &mut network, &outside);
        elect(&mut reconciler, heard, &config).await;
    }
    let stop = CancellationToken::new();
    Ok(Agent {
        in_force: reconciler.in_force(),
        reconciler: tokio::spawn(reconcile(reconciler, stop.clone())),
        stop,
        config,
        network,
        peers: elections.peers(),
        leaving: leaving_seen,
        reloads,
        checks,
        elections,
        outside,
        syncing: synced.thread,
    })
}

/// Who is told of verdicts that are obeyed, and of services that gain or lose their quorum.
fn listeners(checks: &Checks, outside: &Outside, syncing: Option<Syncing>) -> Listeners {
    let teller = outside.teller();
    Listeners {
        health_clock: checks.clock(),
        obeyed: checks.observers().obeyed,
        overridden: Arc::new(move |changed, overrides| {
            if let Some(syncing) = &syncing {
                syncing.overridden(changed, overrides);
            }
        }),
        quorum: Arc::new(move |service, gained| teller.quorum_changed(service, gained)),
    }
}

/// Begins the elections at once if a predecessor was master: what it owned is forwarded already, and
/// only its adverts are missing.
async fn go_on(elections: &mut Elections, outside: &Outside, config: &Arc<Config>) -> bool {
    let is_urgent = elections.is_urgent();
    if is_urgent {
        elections.configure(outside.usable(config.clone()));
        // What was master too long ago must not be announced once more.
        elections.judged().await;
    }
    is_urgent
}

/// Goes on until `stop`.
async fn reconcile<P: PacketPath, L: Links>(
    mut reconciler: Reconciler<P, L>,
    stop: CancellationToken,
) -> Reconciler<P, L> {
    reconciler.run(stop).await;
    reconciler
}

/// On its interfaces, giving signs of life while the elections do; or as if there had been no start.
async fn attached<P: PacketPath, L: Links>(
    mut reconciler: Reconciler<P, L>,
    is_alive: impl Fn() -> bool + Send + 'static,
    took_over: bool,
) -> Result<Reconciler<P, L>, Error> {
    reconciler.beat_only_while(is_alive);
    if let Err(reason) = reconciler.attach().await {
        let (packet_path, _) = reconciler.into_parts();
        if !took_over && let Err(left) = packet_path.remove() {
            error!("something is left behind: {left}");
        }
        return Err(reason.into());
    }
    reconciler.detach_others();
    Ok(reconciler)
}

/// With its tables as they should be.
async fn filled<P: PacketPath, L: Links>(mut reconciler: Reconciler<P, L>) -> Reconciler<P, L> {
    reconciler.reconcile().await;
    info!("{}", reconciler.summary());
    reconciler
}

/// Begins the elections, now that the packet path is ready.
async fn elect<P: PacketPath, L: Links>(
    reconciler: &mut Reconciler<P, L>,
    (elections, network, outside): (&mut Elections, &mut watch::Receiver<Network>, &Outside),
    config: &watch::Sender<Arc<Config>>,
) {
    let config = config.borrow().clone();
    standing(network, &config).await;
    outside.settled().await;
    elections.configure(outside.usable(config));
    // An owner is ready when its VIPs stand.
    if elections.judged().await {
        reconciler.reconcile().await;
    }
}

/// What stands before the first step, and pools with those who serve by it. VIPs that are wanted are
/// added all the same: somebody may have removed them meanwhile, and the segment is to be told.
fn found<P: PacketPath>(
    packet_path: &P,
    config: &Config,
    leftovers: Leftovers,
    (elections, network): (&Elections, &watch::Receiver<Network>),
) -> (Installed, Pools) {
    let ownership = &elections.claims().borrow().ownership.clone();
    let network = &network.borrow().clone();
    let inherited = packet_path.inherited();
    let pools = Pools::inheriting(&by_pool(config, &inherited.servers));
    let mut installed =
        Installed::inherited(&inherited.services, inherited.servers.keys().copied());
    let wanted = owned_addresses(config, ownership, network);
    let is_wanted = |old: &OwnedAddress| {
        let mut wanted = wanted.iter();
        wanted
            .any(|new| (new.ifindex, new.address, new.peer) == (old.ifindex, old.address, old.peer))
    };
    let Leftovers {
        mut addresses,
        mut belongings,
    } = leftovers;
    addresses.retain(|address| !is_wanted(address));
    let wanted = plan::table::belongings(config, ownership, network);
    belongings.retain(|belonging| !wanted.contains(belonging));
    installed.addresses = addresses;
    installed.belongings = belongings;
    (installed, pools)
}

/// Waits until what instances stand on is seen, lest they begin with a fault.
async fn standing(network: &mut watch::Receiver<Network>, config: &Config) {
    let stand = |network: &Network| links_stand(config, network);
    if timeout(STANDING, network.wait_for(stand)).await.is_err() {
        warn!(
            "an interface with a virtual MAC does not come up; its instance has a fault until then"
        );
    }
}

/// Says what of a valid configuration has no effect now.
fn warn_about(absent: impl IntoIterator<Item = NoInterface>) {
    for absent in absent {
        warn!("{absent}; it is used as soon as it exists");
    }
}

/// Waits for the MACs. A predecessor's gates stay open meanwhile.
async fn resolved<P: PacketPath>(
    config: &Config,
    network: &mut watch::Receiver<Network>,
    packet_path: &mut P,
) {
    let servers = real_server_addresses(config);
    let all = |network: &Network| servers.iter().all(|ip| network.reach.contains_key(ip));
    let mut pulse = Pulse::new();
    let mut answered = pin!(timeout(RESOLUTION, network.wait_for(all)));
    let answered = loop {
        tokio::select! {
            answered = &mut answered => break answered,
            () = sleep_until(pulse.due()) => pulse.beat(packet_path),
        }
    };
    if answered.is_err() {
        info!("not every real server has answered for its MAC yet; starting with those that have");
    }
}

impl<P: PacketPath, L: Links> Agent<P, L> {
    /// Acts on signals until one ends the agent.
    pub async fn run(
        self,
        mut signals: mpsc::Receiver<Signal>,
        surroundings: &mut impl Surroundings,
    ) -> Result<Ending, Error> {
        let mut agent = self;
        loop {
            surroundings.enter(Phase::Running);
            let (signal, reply) = loop {
                tokio::select! {
                    // It ends only by a defect: nobody has stopped it.
                    ended = &mut agent.reconciler => {
                        ended?;
                        return Ok(Ending::Left);
                    }
                    _ = agent.elections.ended() => return Err(Error::Elections),
                    signal = signals.recv() => break (signal, None),
                    Some(reply) = agent.reloads.recv() => {
                        break (Some(Signal::Reload), Some(reply));
                    }
                    () = changed(&mut agent.leaving) => agent.resolve(surroundings),
                    () = changed(&mut agent.peers) => agent.resolve(surroundings),
                }
            };
            let phase = match signal {
                Some(Signal::Reload) => Phase::Reloading,
                Some(Signal::Leave | Signal::Stop) | None => Phase::Ending,
            };
            surroundings.enter(phase);
            match signal {
                Some(Signal::Reload) => {
                    let changes = agent.reload(surroundings).await;
                    if let Some(reply) = reply {
                        // Whoever asked may have gone.
                        drop(reply.send(changes));
                    }
                }
                Some(Signal::Leave) => return agent.leave().await,
                Some(Signal::Stop) | None => return agent.stop(signals).await,
            }
        }
    }

    /// Takes in the file as it is now; what that changes, or what is wrong with it, line by line.
    async fn reload(
        &mut self,
        surroundings: &mut impl Surroundings,
    ) -> Result<Vec<String>, Vec<String>> {
        info!("reading the configuration again");
        let mut new = surroundings.reload().inspect_err(|_| {
            error!("the configuration is not valid; the agent goes on with the one it has");
        })?;
        let old = self.config.borrow().clone();
        let later = needs_restart(&old, &new).into_iter();
        let later = later.map(|setting| {
            let line = format!("`{setting}` is in force after a restart");
            warn!("{line}");
            line
        });
        let later: Vec<_> = later.collect();
        new.global.timeouts = old.global.timeouts;
        new.xdp_lb = XdpLb {
            fail_static: new.xdp_lb.fail_static,
            drain_timeout: new.xdp_lb.drain_timeout,
            marks: std::mem::take(&mut new.xdp_lb.marks),
            ..old.xdp_lb.clone()
        };
        let differences = differences(&old, &new);
        for line in &differences {
            info!("{line}");
        }
        if differences.is_empty() {
            info!("nothing changes");
        }
        let network = self.network.borrow().clone();
        let missing = check_interfaces(&new, &network).err();
        let absent = absent_devices(&new, &network);
        warn_about(missing.into_iter().chain(absent));
        self.checks.reload(&new).await;
        let new = Arc::new(new);
        self.config.send_replace(new.clone());
        self.outside.reload(&new).await;
        if let Some(syncing) = &self.syncing {
            syncing.configure(&new);
        }
        standing(&mut self.network, &new).await;
        self.elections.configure(self.outside.usable(new.clone()));
        self.resolve(surroundings);
        // Whoever asked may look at once.
        let is_new = |config: &Arc<Config>| Arc::ptr_eq(config, &new);
        if timeout(FOLLOWING, self.in_force.wait_for(is_new))
            .await
            .is_err()
        {
            warn!("the tables do not follow the new configuration yet");
        }
        Ok(differences.into_iter().chain(later).collect())
    }

    /// Has the MACs of all that stand in the tables resolved.
    fn resolve(&self, surroundings: &mut impl Surroundings) {
        let mut addresses = resolved_addresses(&self.config.borrow(), &self.peers.borrow());
        addresses.extend(self.leaving.borrow().iter());
        surroundings.resolve(addresses);
    }

    /// Goes on forwarding while successors are waited for; a second signal ends that wait.
    async fn stop(mut self, mut signals: mpsc::Receiver<Signal>) -> Result<Ending, Error> {
        info!("stopping");
        self.elections.stop();
        loop {
            tokio::select! {
                // However it ended: everything is given up now.
                _ = self.elections.ended() => break,
                Some(_) = signals.recv() => self.elections.stop(),
            }
        }
        self.stop.cancel();
        let mut reconciler = self.reconciler.await?;
        reconciler.release().await;
        let (packet_path, _) = reconciler.into_parts();
        let removed = packet_path.remove();
        let config = self.config.borrow().clone();
        self.outside.stopping(&self.checks.verdicts().borrow());
        self.outside.finish(&config).await;
        removed?;
        info!("stopped; nothing is left behind");
        Ok(Ending::Stopped)
    }

    async fn leave(mut self) -> Result<Ending, Error> {
        self.elections.leave();
        self.elections.ended().await;
        self.stop.cancel();
        // Between two steps, not in the middle of one.
        let mut reconciler = self.reconciler.await?;
        reconciler.beat_now();
        drop(reconciler);
        info!("left; program, tables and VIPs stand for a successor");
        Ok(Ending::Left)
    }
}

#[cfg(test)]
mod tests;
