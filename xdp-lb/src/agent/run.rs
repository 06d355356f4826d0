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

use super::health::Checks;
use super::outside::Outside;
use super::placement::{NoInterface, Placement, absent_devices, check_interfaces};
use super::pulse::Pulse;
use super::reconciler::{Inspection, Reconciler, Sources, changed};
use super::reload::{differences, needs_restart};
use super::seams::{Links, PacketPath};
use super::signals::Signal;
use super::vrrp::Elections;
use crate::config::model::{Config, XdpLb};
use crate::dataplane;
use crate::plan::carriers::Peers;
use crate::plan::desired::OwnedAddress;
use crate::plan::installed::Installed;
use crate::plan::table::{
    Network, Ownership, owned_addresses, real_server_addresses, resolved_addresses,
};

/// How long a start waits for the real servers' MACs. Those that live have answered by then, and
/// tables that were taken over are not emptied for want of an answer.
const RESOLUTION: Duration = Duration::from_secs(1);

/// What an agent is made of, open and ready.
pub struct Parts<P, L> {
    /// The configuration, with what the command line overrides.
    pub config: Arc<Config>,
    /// The packet path, in the state its predecessor left it.
    pub packet_path: P,
    /// The links.
    pub links: L,
    /// VIPs that predecessors added and did not remove.
    pub leftovers: BTreeSet<OwnedAddress>,
    /// The network, as it changes.
    pub network: watch::Receiver<Network>,
    /// The running health checks.
    pub checks: Checks,
    /// The elections, without a configuration yet.
    pub elections: Elections,
    /// What stands beside them.
    pub outside: Outside,
    /// Questions about the agent's state.
    pub inspections: mpsc::Receiver<Inspection>,
}

impl<P, L> fmt::Debug for Parts<P, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
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

    /// Reads the configuration again; `None`, having said why, if it is not valid as a whole.
    fn reload(&mut self) -> Option<Config>;

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
    checks: Checks,
    elections: Elections,
    outside: Outside,
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
        inspections,
    } = parts;
    let took_over = packet_path.took_over();
    let placement = Placement::of(&config);
    warn_about(absent_devices(&config, &network.borrow()));
    let goes_on = go_on(&mut elections, &outside, &config).await;
    resolved(&config, &mut network, &mut packet_path).await;
    let owned = elections.claims().borrow().ownership.clone();
    let installed = found(
        &packet_path,
        &config,
        leftovers,
        (&owned, &network.borrow()),
    );
    let (config, config_seen) = watch::channel(config);
    let sources = Sources {
        config: config_seen,
        health: checks.verdicts(),
        network: network.clone(),
        claims: elections.claims(),
        peers: elections.peers(),
        inspections,
    };
    let mut reconciler = Reconciler::new(packet_path, links, installed, placement, sources);
    reconciler.beat_only_while(elections.is_alive());
    let mut reconciler = attached(reconciler, took_over)?;
    reconciler.reconcile().await;
    info!("{}", reconciler.summary());
    if !goes_on {
        outside.settled().await;
        let config = outside.usable(config.borrow().clone());
        elect(&mut reconciler, &mut elections, config).await;
    }
    let stop = CancellationToken::new();
    let reconciler = tokio::spawn(reconcile(reconciler, stop.clone()));
    Ok(Agent {
        reconciler,
        stop,
        config,
        network,
        peers: elections.peers(),
        checks,
        elections,
        outside,
    })
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

/// On its interfaces, or as if there had been no start.
fn attached<P: PacketPath, L: Links>(
    mut reconciler: Reconciler<P, L>,
    took_over: bool,
) -> Result<Reconciler<P, L>, Error> {
    if let Err(reason) = reconciler.attach() {
        let (packet_path, _) = reconciler.into_parts();
        if !took_over && let Err(left) = packet_path.remove() {
            error!("something is left behind: {left}");
        }
        return Err(reason.into());
    }
    reconciler.detach_others();
    Ok(reconciler)
}

/// Begins the elections, now that the packet path is ready.
async fn elect<P: PacketPath, L: Links>(
    reconciler: &mut Reconciler<P, L>,
    elections: &mut Elections,
    config: Arc<Config>,
) {
    elections.configure(config);
    // An owner is ready when its VIPs stand.
    if elections.judged().await {
        reconciler.reconcile().await;
    }
}

/// What stands before the first step. VIPs that are wanted are added all the same: somebody may have
/// removed them meanwhile, and the segment is to be told.
fn found<P: PacketPath>(
    packet_path: &P,
    config: &Config,
    mut leftovers: BTreeSet<OwnedAddress>,
    (ownership, network): (&Ownership, &Network),
) -> Installed {
    let inherited = packet_path.inherited();
    let mut installed =
        Installed::inherited(&inherited.services, inherited.servers.keys().copied());
    let wanted = owned_addresses(config, ownership, network);
    let is_wanted = |old: &OwnedAddress| {
        let mut wanted = wanted.iter();
        wanted.any(|new| new.ifindex == old.ifindex && new.address == old.address)
    };
    leftovers.retain(|address| !is_wanted(address));
    installed.addresses = leftovers;
    installed
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
            let signal = loop {
                tokio::select! {
                    // It ends only by a defect: nobody has stopped it.
                    ended = &mut agent.reconciler => {
                        ended?;
                        return Ok(Ending::Left);
                    }
                    _ = agent.elections.ended() => return Err(Error::Elections),
                    signal = signals.recv() => break signal,
                    () = changed(&mut agent.peers) => agent.resolve(surroundings),
                }
            };
            let phase = match signal {
                Some(Signal::Reload) => Phase::Reloading,
                Some(Signal::Leave | Signal::Stop) | None => Phase::Ending,
            };
            surroundings.enter(phase);
            match signal {
                Some(Signal::Reload) => agent.reload(surroundings).await,
                Some(Signal::Leave) => return agent.leave().await,
                Some(Signal::Stop) | None => return agent.stop(signals).await,
            }
        }
    }

    async fn reload(&mut self, surroundings: &mut impl Surroundings) {
        info!("reading the configuration again");
        let Some(mut new) = surroundings.reload() else {
            error!("the configuration is not valid; the agent goes on with the one it has");
            return;
        };
        let old = self.config.borrow().clone();
        for setting in needs_restart(&old.xdp_lb, &new.xdp_lb) {
            warn!("`{setting}` of the xdp_lb block is in force after a restart");
        }
        new.xdp_lb = XdpLb {
            fail_static: new.xdp_lb.fail_static,
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
        self.elections.configure(self.outside.usable(new));
        self.resolve(surroundings);
    }

    /// Has the MACs of all that stand in the tables resolved.
    fn resolve(&self, surroundings: &mut impl Surroundings) {
        let addresses = resolved_addresses(&self.config.borrow(), &self.peers.borrow());
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
mod tests {
    use super::*;
    use crate::agent::testing::{FakeDataplane, FakeLinks, Kernel};
    use crate::dataplane::Inherited;
    use crate::health::Outcome;
    use crate::plan::table::Network;
    use crate::plan::testing::{network, service_key, websocket};

    /// What an agent is tested with.
    struct Bench {
        kernel: Kernel,
        network: watch::Sender<Network>,
        peers: watch::Sender<Peers>,
        _inspections: mpsc::Sender<Inspection>,
    }

    async fn bench(inherited: Inherited) -> (Bench, Parts<FakeDataplane, FakeLinks>) {
        let kernel = Kernel::default();
        let (publish, network) = watch::channel(network());
        let (sender, inspections) = mpsc::channel(1);
        let (elections, heard) = Elections::fake(&["VI_1"]);
        let probe = |_| std::future::ready(Outcome::Passed);
        let config = Arc::new(websocket());
        let observer = Arc::new(|_: &Outcome, _| {});
        let checks = Checks::start_with(&config, &inherited.servers, 1, observer, probe);
        // Nobody tells anything.
        let (_, notifications) = mpsc::unbounded_channel();
        let outside = Outside::start(
            config.clone(),
            Arc::new(|_| {}),
            notifications,
            "lb1".to_owned(),
        );
        let outside = outside.await;
        let parts = Parts {
            config,
            packet_path: FakeDataplane {
                kernel: kernel.clone(),
                inherited,
            },
            links: FakeLinks(kernel.clone()),
            leftovers: BTreeSet::new(),
            network,
            checks,
            elections,
            outside,
            inspections,
        };
        let bench = Bench {
            kernel,
            network: publish,
            peers: heard,
            _inspections: sender,
        };
        (bench, parts)
    }

    struct File {
        next: Option<Config>,
        resolving: BTreeSet<IpAddr>,
        phases: Vec<Phase>,
    }

    impl Surroundings for File {
        fn enter(&mut self, phase: Phase) {
            self.phases.push(phase);
        }

        fn reload(&mut self) -> Option<Config> {
            self.next.take()
        }

        fn resolve(&mut self, addresses: BTreeSet<IpAddr>) {
            self.resolving = addresses;
        }
    }

    async fn run(
        agent: Agent<FakeDataplane, FakeLinks>,
        signals: &[Signal],
        next: Option<Config>,
    ) -> (Ending, File) {
        let (sender, receiver) = mpsc::channel(signals.len());
        for signal in signals {
            sender.send(*signal).await.unwrap();
        }
        let mut file = File {
            next,
            resolving: BTreeSet::new(),
            phases: Vec::new(),
        };
        let ending = agent.run(receiver, &mut file).await.unwrap();
        (ending, file)
    }

    fn leftover() -> OwnedAddress {
        OwnedAddress {
            ifindex: 2,
            address: "192.168.1.250/24".parse().unwrap(),
            label: None,
            broadcast: None,
            scope: 0,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_stop_leaves_nothing() {
        let (bench, parts) = bench(Inherited::default()).await;
        let agent = start(parts).await.unwrap();
        assert_eq!(bench.kernel.vips().len(), 1);
        let (ending, _) = run(agent, &[Signal::Stop], None).await;
        assert_eq!(ending, Ending::Stopped);
        assert_eq!(bench.kernel.vips().len(), 0);
        let state = bench.kernel.state();
        assert!(state.removed && state.attached.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn leaving_touches_nothing() {
        let (bench, parts) = bench(Inherited::default()).await;
        let agent = start(parts).await.unwrap();
        bench.kernel.changes();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let (ending, _) = run(agent, &[Signal::Leave], None).await;
        assert_eq!(ending, Ending::Left);
        let last = bench.kernel.state().heartbeats.last().copied();
        let now = tokio::time::Instant::now();
        assert_eq!(last, Some(now), "the successor has the whole lease");
        assert_eq!(bench.kernel.changes(), []);
        assert_eq!(bench.kernel.vips().len(), 1);
        assert!(!bench.kernel.state().removed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_that_fails_removes_what_it_made_but_not_what_it_found() {
        let found = Inherited {
            services: [(service_key(0), true)].into(),
            ..Inherited::default()
        };
        for (inherited, removed) in [(Inherited::default(), true), (found, false)] {
            let (bench, parts) = bench(inherited).await;
            bench.kernel.state().without_xdp.insert("eth1".to_owned());
            let error = start(parts).await.unwrap_err();
            assert_eq!(error.to_string(), "eth1 has no XDP");
            let state = bench.kernel.state();
            assert_eq!(state.removed, removed);
            assert!(state.addresses.is_empty() && state.changes.is_empty());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_program_leaves_interfaces_that_only_a_predecessor_wanted() {
        let (bench, parts) = bench(Inherited::default()).await;
        bench.kernel.state().attached.push(("eth7".to_owned(), 7));
        let _agent = start(parts).await.unwrap();
        let state = bench.kernel.state();
        let attached: Vec<_> = state
            .attached
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(attached, ["eth0", "eth1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn vips_of_a_predecessor_go_unless_they_are_wanted() {
        let (bench, mut parts) = bench(Inherited::default()).await;
        let wanted = owned_addresses(
            &parts.config,
            &[("VI_1".to_owned(), true)].into(),
            &network(),
        );
        parts.leftovers = wanted.clone();
        parts.leftovers.insert(leftover());
        bench.kernel.state().addresses = parts.leftovers.clone();
        let _agent = start(parts).await.unwrap();
        assert_eq!(bench.kernel.state().addresses, wanted);
        assert_eq!(bench.kernel.state().announced.len(), 5, "it is here, again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_start_waits_for_macs_but_not_for_ever() {
        let (bench, parts) = bench(Inherited::default()).await;
        bench.network.send_modify(|network| network.reach.clear());
        let began = tokio::time::Instant::now();
        let _agent = start(parts).await.unwrap();
        assert!(began.elapsed() >= RESOLUTION);
        let beats = bench.kernel.state().heartbeats.len();
        assert!(beats >= 4, "the predecessor's gates stay open: {beats}");
        assert!(bench.kernel.state().tables.services[&service_key(0)].active);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_takes_in_a_valid_file() {
        let (bench, parts) = bench(Inherited::default()).await;
        let agent = start(parts).await.unwrap();
        let mut next = websocket();
        next.virtual_servers[0].real_servers.pop();
        next.xdp_lb.connections = 7;
        next.xdp_lb.fail_static = true;
        let config = agent.config.subscribe();
        let (_, file) = run(agent, &[Signal::Reload, Signal::Leave], Some(next)).await;
        assert_eq!(file.resolving.len(), 1);
        let (running, reloading, ending) = (Phase::Running, Phase::Reloading, Phase::Ending);
        assert_eq!(file.phases, [running, reloading, running, ending]);
        let config = config.borrow();
        assert_eq!(config.virtual_servers[0].real_servers.len(), 1);
        assert_ne!(config.xdp_lb.connections, 7, "only a restart changes that");
        assert!(config.xdp_lb.fail_static, "in force at once");
        drop(bench);
    }

    #[tokio::test(start_paused = true)]
    async fn the_program_hears_of_the_agent_as_long_as_its_elections_live() {
        let (bench, parts) = bench(Inherited::default()).await;
        let agent = start(parts).await.unwrap();
        let heartbeats = || bench.kernel.state().heartbeats.len();
        let before = heartbeats();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(heartbeats() >= before + 10);
        // From here on it is as if the thread hung.
        agent.elections.stop();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let before = heartbeats();
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(heartbeats(), before);
        drop(agent);
    }

    #[tokio::test(start_paused = true)]
    async fn directors_that_are_heard_are_resolved() {
        let (bench, parts) = bench(Inherited::default()).await;
        let agent = start(parts).await.unwrap();
        let (signals, receiver) = mpsc::channel(1);
        let mut file = File {
            next: None,
            resolving: BTreeSet::new(),
            phases: Vec::new(),
        };
        let peer: IpAddr = "192.168.1.12".parse().unwrap();
        bench
            .peers
            .send_replace([("VI_1".to_owned(), [peer].into())].into());
        let leave = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            signals.send(Signal::Leave).await.unwrap();
        };
        let (ending, ()) = tokio::join!(agent.run(receiver, &mut file), leave);
        assert_eq!(ending.unwrap(), Ending::Left);
        assert!(file.resolving.contains(&peer));
        assert_eq!(file.resolving.len(), 3, "and the real servers");
    }

    #[tokio::test(start_paused = true)]
    async fn a_reload_of_an_invalid_file_changes_nothing() {
        let (_bench, parts) = bench(Inherited::default()).await;
        let agent = start(parts).await.unwrap();
        let config = agent.config.subscribe();
        let (ending, file) = run(agent, &[Signal::Reload, Signal::Leave], None).await;
        assert_eq!(ending, Ending::Left);
        assert_eq!(file.resolving.len(), 0);
        assert_eq!(**config.borrow(), websocket());
    }
}
