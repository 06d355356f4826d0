//! Keeps tables and links as configuration, ownership, health and network want them.
//!
//! Whatever changed, the answer is the same: work out what should be, and take the steps there. So
//! nothing is lost when events are coalesced, and what failed is simply tried again.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::announce::{Announcements, Pace};
use super::drive::Clock;
use super::placement::Placement;
use super::seams::{Links, PacketPath};
use super::vrrp::Claims;
use super::writer::Writer;
use crate::config::model::{Config, XdpMode};
use crate::dataplane::{AttachedMode, Counters, Error};
use crate::machine::Now;
use crate::plan::carriers::Peers;
use crate::plan::desired::{Desired, OwnedAddress};
use crate::plan::installed::Installed;
use crate::plan::table::{Health, Inputs, Network, Ownership, addresses_of, desired};

/// Until something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often tables and VIPs are looked after: somebody else (a network manager) may have removed the
/// latter.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// The announcement of a VIP that came back, or late: keepalived's `vrrp_garp_master_repeat`.
const BURST: Pace = Pace {
    repeat: 5,
    gap: Duration::ZERO,
};

/// Inspections answered from one reading of the counters.
const INSPECTIONS: usize = 16;

/// A question about the agent's state; it is asked on the reconciler's task and must be quick. It is
/// dropped unasked if there is nothing to show.
pub type Inspection = Box<dyn FnOnce(&View<'_>) + Send>;

/// The agent's state at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the file says.
    pub config: &'a Config,
    /// What the tables should hold.
    pub desired: &'a Desired,
    /// Verdicts on the real servers.
    pub health: &'a Health,
    /// VRRP instances this director is MASTER for.
    pub ownership: &'a Ownership,
    /// The network.
    pub network: &'a Network,
    /// The data plane's counters.
    pub counters: &'a Counters,
    /// Interfaces that the program is on.
    pub attached: &'a BTreeMap<String, AttachedMode>,
}

/// What the reconciler listens to.
pub struct Sources {
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Verdicts on the real servers.
    pub health: watch::Receiver<Health>,
    /// Links and the way to each real server.
    pub network: watch::Receiver<Network>,
    /// Who owns which VIPs, and announces them.
    pub claims: watch::Receiver<Claims>,
    /// Other directors that were heard.
    pub peers: watch::Receiver<Peers>,
    /// Questions.
    pub inspections: mpsc::Receiver<Inspection>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// The reconciler.
#[derive(Debug)]
pub struct Reconciler<D, L> {
    writer: Writer<D, L>,
    sources: Sources,
    placement: Placement,
    attached: BTreeMap<String, AttachedMode>,
    /// Interface indexes that stand behind the names in `attached`.
    indexes: BTreeMap<String, u32>,
    /// Interfaces that the program could not be put on, and why.
    refused: BTreeMap<String, String>,
    desired: Desired,
    announcements: Announcements,
    /// The last burst of each instance that was begun.
    announced: BTreeMap<String, u64>,
    clock: Clock,
    retry: Option<Now>,
    look_after: Now,
}

impl<D: PacketPath, L: Links> Reconciler<D, L> {
    /// A reconciler that finds `installed` in place.
    pub fn new(
        dataplane: D,
        links: L,
        installed: Installed,
        placement: Placement,
        sources: Sources,
    ) -> Self {
        Self {
            writer: Writer::new(dataplane, links, installed),
            sources,
            placement,
            attached: BTreeMap::new(),
            indexes: BTreeMap::new(),
            refused: BTreeMap::new(),
            desired: Desired::default(),
            announcements: Announcements::default(),
            announced: BTreeMap::new(),
            clock: Clock::start(),
            retry: None,
            look_after: Now::ZERO.after(LOOK_AFTER),
        }
    }

    /// Tells the program that the agent lives only while this says yes. The gates of services whose VIP
    /// a VRRP instance carries close when it has said no for their lease.
    pub fn beat_only_while(&mut self, is_alive: impl Fn() -> bool + Send + 'static) {
        self.writer.pulse().only_while(is_alive);
    }

    /// Tells the program once more that the agent lives, before it leaves.
    pub fn beat_now(&mut self) {
        self.writer.beat_now();
    }

    /// Puts the program on every interface it belongs on and that exists by now. Stops at the first
    /// that refuses it.
    pub fn attach(&mut self) -> Result<(), Error> {
        for (name, ifindex) in self.unattached() {
            self.attach_to(&name, ifindex)?;
        }
        Ok(())
    }

    /// Takes the program off interfaces that a predecessor has put it on and that nobody wants.
    pub fn detach_others(&mut self) {
        let wanted = self.indexes.values().copied().collect();
        if let Err(reason) = self.writer.dataplane().detach_others(&wanted) {
            error!("the program stays on interfaces that nobody asks for: {reason}");
        }
    }

    /// Interfaces that the program is on.
    pub fn attached(&self) -> &BTreeMap<String, AttachedMode> {
        &self.attached
    }

    /// What the tables should hold, as of the last [`Reconciler::reconcile`].
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// What stands by now.
    pub fn installed(&self) -> &Installed {
        self.writer.installed()
    }

    /// One line on what is balanced where.
    pub fn summary(&self) -> String {
        let servers: Vec<_> = self
            .desired
            .services
            .values()
            .flat_map(|s| &s.servers)
            .collect();
        let eligible = servers.iter().filter(|server| server.is_eligible()).count();
        let on = self
            .attached
            .iter()
            .map(|(name, mode)| format!("{name} ({})", mode.name()));
        let vips = self.writer.installed().addresses.iter();
        let vips = vips.map(|address| address.address.addr().to_string());
        format!(
            "virtual services: {}, real servers: {eligible} of {} ready, program on: {}, VIPs here: {}",
            self.desired.services.len(),
            servers.len(),
            list(on),
            list(vips),
        )
    }

    /// Works out what should be and takes the steps there.
    pub async fn reconcile(&mut self) {
        self.attach_what_came();
        let config = self.sources.config.borrow_and_update().clone();
        let health = self.sources.health.borrow_and_update().clone();
        let network = self.sources.network.borrow_and_update().clone();
        let claims = self.sources.claims.borrow_and_update().clone();
        self.desired = desired(&Inputs {
            config: &config,
            ownership: &claims.ownership,
            health: &health,
            network: &network,
            attached: &self.attached.keys().cloned().collect(),
            peers: &self.sources.peers.borrow_and_update(),
        });
        let written = self.writer.write(&self.desired, &network).await;
        let now = self.clock.now();
        let unfinished = written.incomplete || !self.refused.is_empty();
        self.retry = unfinished.then(|| now.after(RETRY));
        self.begin_bursts(now, &config, &network, &claims, written.added);
        self.announce();
    }

    /// Begins the announcements that the elections want, and those of VIPs that came for another
    /// reason.
    fn begin_bursts(
        &mut self,
        now: Now,
        config: &Config,
        network: &Network,
        claims: &Claims,
        added: Vec<OwnedAddress>,
    ) {
        let standing = &self.writer.installed().addresses;
        let mut told: Vec<OwnedAddress> = Vec::new();
        for instance in &config.vrrp_instances {
            let Some(burst) = claims.bursts.get(&instance.name) else {
                continue;
            };
            let mut addresses = addresses_of(instance, network);
            addresses.retain(|address| standing.contains(address));
            let last = self.announced.insert(instance.name.clone(), burst.number);
            if last == Some(burst.number) {
                addresses.retain(|address| added.contains(address));
            }
            told.extend(addresses.iter().cloned());
            let (repeat, gap) = (burst.repeat, burst.gap);
            self.announcements
                .start(now, addresses, Pace { repeat, gap });
        }
        let others = added.into_iter().filter(|address| !told.contains(address));
        self.announcements.start(now, others.collect(), BURST);
    }

    /// Reconciles whenever anything changes, until `stop`.
    pub async fn run(&mut self, stop: CancellationToken) {
        let mut inspections = Vec::new();
        loop {
            let alarm = self.deadline();
            let beat = self.writer.pulse().due();
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed(&mut self.sources.config) => self.reconcile().await,
                () = changed(&mut self.sources.health) => self.reconcile().await,
                () = changed(&mut self.sources.claims) => self.reconcile().await,
                () = changed(&mut self.sources.peers) => self.reconcile().await,
                () = changed(&mut self.sources.network) => {
                    self.reconcile().await;
                    self.restore_missing().await;
                }
                () = self.clock.reach(Some(alarm)) => self.ring().await,
                () = sleep_until(beat) => self.writer.beat(),
                asked = self.sources.inspections.recv_many(&mut inspections, INSPECTIONS),
                    if !self.sources.inspections.is_closed() || !self.sources.inspections.is_empty() =>
                {
                    if asked > 0 {
                        self.answer(&mut inspections);
                    }
                }
            }
        }
    }

    /// Gives up what this director owns: VIPs first, then the gates. The tables stay.
    pub async fn release(&mut self) {
        let mut released = self.desired.clone();
        released.addresses.clear();
        for service in released.services.values_mut() {
            service.active = false;
        }
        let network = self.sources.network.borrow().clone();
        self.writer.write(&released, &network).await;
        self.announcements.keep(&self.writer.installed().addresses);
    }

    /// Ends the reconciling; everything stays as it is.
    pub fn into_parts(self) -> (D, L) {
        self.writer.into_parts()
    }

    /// The next moment at which something is due.
    fn deadline(&self) -> Now {
        let due = [self.retry, self.announcements.deadline()];
        due.into_iter().flatten().fold(self.look_after, Now::min)
    }

    async fn ring(&mut self) {
        let now = self.clock.now();
        if self.retry.is_some_and(|retry| retry <= now) {
            self.reconcile().await;
        }
        if self.look_after <= now {
            self.look_after = now.after(LOOK_AFTER);
            if let Err(reason) = self.writer.dataplane().tend() {
                warn!("the tables cannot be looked after: {reason}");
            }
            self.restore(|_| true).await;
        }
        self.announce();
    }

    /// Puts back VIPs that the network shows to be missing. It may only not show them yet: whether
    /// they are is for the kernel to say.
    async fn restore_missing(&mut self) {
        let network = self.sources.network.borrow().clone();
        self.restore(|vip| network.link(vip.ifindex).is_some() && !network.has(vip))
            .await;
        self.announce();
    }

    async fn restore(&mut self, is_missing: impl Fn(&OwnedAddress) -> bool) {
        let restored = self.writer.restore(is_missing).await;
        for address in &restored {
            let vip = address.address.addr();
            warn!("somebody removed {vip}, which this director owns; it is back");
        }
        let now = self.clock.now();
        self.announcements.start(now, restored, BURST);
    }

    /// Sends the gratuitous ARP that is due.
    fn announce(&mut self) {
        let network = self.sources.network.borrow();
        let has_carrier = |ifindex| network.link(ifindex).is_some_and(|(_, link)| link.up);
        self.announcements.keep(&self.writer.installed().addresses);
        for (address, frames) in self.announcements.take(self.clock.now(), has_carrier) {
            self.writer.announce(&address, frames, &network);
        }
    }

    /// As [`Reconciler::attach`], but one that refuses keeps nobody from anything.
    fn attach_what_came(&mut self) {
        let mut refused = BTreeMap::new();
        for (name, ifindex) in self.unattached() {
            if let Err(reason) = self.attach_to(&name, ifindex) {
                let reason = reason.to_string();
                if self.refused.get(&name) != Some(&reason) {
                    error!(
                        "packets that come in by {name} are not balanced: {reason}; trying again"
                    );
                }
                refused.insert(name, reason);
            }
        }
        self.refused = refused;
    }

    /// Interfaces that the program belongs on and is not on.
    fn unattached(&mut self) -> Vec<(String, u32)> {
        let network = self.sources.network.borrow();
        let gone = |name: &str, ifindex: u32| {
            network
                .links
                .get(name)
                .is_none_or(|link| link.ifindex != ifindex)
        };
        for (name, _) in self
            .indexes
            .extract_if(.., |name, ifindex| gone(name, *ifindex))
        {
            self.attached.remove(&name);
            warn!("interface {name}, which the program was on, is gone");
        }
        let config = self.sources.config.borrow();
        let names = self.placement.interfaces(&config, &network);
        let waiting = names
            .into_iter()
            .filter(|name| !self.attached.contains_key(name));
        waiting
            .filter_map(|name| Some((name.clone(), network.links.get(&name)?.ifindex)))
            .collect()
    }

    fn attach_to(&mut self, name: &str, ifindex: u32) -> Result<(), Error> {
        let wish = self.placement.mode;
        let mode = self.writer.dataplane().attach(name, ifindex, wish)?;
        self.writer.beat();
        if let (XdpMode::Auto, AttachedMode::Generic) = (wish, mode) {
            warn!(
                "{name}: its driver has no XDP; the program runs in the stack, which is slower \
                 (say `--xdp-mode generic` if that is meant)"
            );
        } else {
            info!("{name}: attached in {} mode", mode.name());
        }
        self.attached.insert(name.to_owned(), mode);
        self.indexes.insert(name.to_owned(), ifindex);
        Ok(())
    }

    fn answer(&mut self, inspections: &mut Vec<Inspection>) {
        let counters = match self.writer.dataplane().counters() {
            Ok(counters) => counters,
            Err(reason) => {
                // Zeroes would look like a restart: whoever asked is told that there is no answer.
                error!("the counters cannot be read: {reason}");
                inspections.clear();
                return;
            }
        };
        let config = self.sources.config.borrow();
        let view = View {
            config: &config,
            desired: &self.desired,
            health: &self.sources.health.borrow(),
            ownership: &self.sources.claims.borrow().ownership,
            network: &self.sources.network.borrow(),
            counters: &counters,
            attached: &self.attached,
        };
        for inspection in inspections.drain(..) {
            inspection(&view);
        }
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// Waits for a new value; forever if whoever sends them is gone.
pub(super) async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;
    use crate::agent::testing::{FakeDataplane, FakeLinks, Kernel};
    use crate::agent::vrrp::Burst;
    use crate::dataplane::Inherited;
    use crate::plan::diff::Change;
    use crate::plan::table::ServerHealth;
    use crate::plan::testing::{VIP, network, service_key, websocket};

    /// A reconciler over a fake kernel, and the strings to pull.
    struct Bench {
        kernel: Kernel,
        config: watch::Sender<Arc<Config>>,
        health: watch::Sender<Health>,
        network: watch::Sender<Network>,
        claims: watch::Sender<Claims>,
        peers: watch::Sender<Peers>,
        inspections: mpsc::Sender<Inspection>,
    }

    type Under = Reconciler<FakeDataplane, FakeLinks>;

    fn bench() -> (Bench, Under) {
        let kernel = Kernel::default();
        let (config, config_seen) = watch::channel(Arc::new(websocket()));
        let (health, health_seen) = watch::channel(judged(true, true));
        let (network, network_seen) = watch::channel(network());
        let (claims, claims_seen) = watch::channel(claims(true, 1));
        let (inspections, asked) = mpsc::channel(4);
        let (peers, peers_seen) = watch::channel(Peers::new());
        let sources = Sources {
            config: config_seen,
            health: health_seen,
            network: network_seen,
            claims: claims_seen,
            peers: peers_seen,
            inspections: asked,
        };
        let placement = Placement {
            named: std::collections::BTreeSet::new(),
            mode: XdpMode::Auto,
        };
        let dataplane = FakeDataplane {
            kernel: kernel.clone(),
            inherited: Inherited::default(),
        };
        let links = FakeLinks(kernel.clone());
        let under = Reconciler::new(dataplane, links, Installed::default(), placement, sources);
        let bench = Bench {
            kernel,
            config,
            health,
            network,
            claims,
            peers,
            inspections,
        };
        (bench, under)
    }

    /// `VI_1` owns its VIP or does not, and wants its announcement of that number, three frames.
    fn claims(owned: bool, number: u64) -> Claims {
        let burst = Burst {
            number,
            repeat: 3,
            gap: Duration::ZERO,
        };
        Claims {
            ownership: [("VI_1".to_owned(), owned)].into(),
            bursts: owned
                .then(|| ("VI_1".to_owned(), burst))
                .into_iter()
                .collect(),
        }
    }

    fn judged(first: bool, second: bool) -> Health {
        let servers = ["192.168.1.102:80", "192.168.1.103:80"];
        let verdict = |(address, up): (&str, bool)| {
            let server = (service_key(0), address.parse().unwrap());
            (server, ServerHealth { up, joined: 0 })
        };
        servers
            .into_iter()
            .zip([first, second])
            .map(verdict)
            .collect()
    }

    /// Runs the reconciler until everything that waits has been taken in, and for `seconds` more.
    async fn run_for(under: &mut Under, seconds: u64) {
        let stop = CancellationToken::new();
        let enough = tokio::time::sleep(Duration::from_millis(seconds * 1000 + 1));
        tokio::select! {
            () = under.run(stop) => {}
            () = enough => {}
        }
    }

    fn scheduled(kernel: &Kernel) -> Vec<String> {
        let state = kernel.state();
        let service = &state.tables.services[&service_key(0)];
        let servers = service.contents.iter().flat_map(|s| &s.servers);
        let eligible = servers.filter(|server| server.is_eligible());
        eligible.map(|server| server.address.to_string()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_run_fills_the_tables_and_brings_the_vip() {
        let (bench, mut under) = bench();
        under.attach().unwrap();
        under.reconcile().await;
        let state = bench.kernel.state();
        assert_eq!(state.tables, Installed::from(under.desired()));
        let attached = [("eth0".to_owned(), 2), ("eth1".to_owned(), 3)];
        assert_eq!(state.attached, attached);
        assert!(state.tables.services[&service_key(0)].active);
        let last = state.changes.last();
        assert!(matches!(last, Some(Change::AddAddress(_))), "{last:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_vip_is_announced_when_the_elections_say_so_and_not_otherwise() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        let told = (xdp_lb_common::addr::Mac(2), VIP.parse().unwrap());
        assert_eq!(bench.kernel.state().announced, [told; 3]);
        run_for(&mut under, 60).await;
        assert_eq!(bench.kernel.state().announced, [told; 3]);
        bench.claims.send_replace(claims(true, 2));
        run_for(&mut under, 1).await;
        assert_eq!(bench.kernel.state().announced, [told; 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn vips_and_gates_follow_the_elections_in_order() {
        let (bench, mut under) = bench();
        bench.claims.send_replace(Claims::default());
        under.reconcile().await;
        assert_eq!(bench.kernel.vips().len(), 0);
        bench.kernel.changes();
        bench.claims.send_replace(claims(true, 1));
        run_for(&mut under, 0).await;
        let took = bench.kernel.changes();
        assert_eq!(took[0], Change::SetActive(service_key(0), true));
        assert!(matches!(took[1..], [Change::AddAddress(_)]), "{took:#?}");
        bench.claims.send_replace(claims(false, 1));
        run_for(&mut under, 0).await;
        let gave = bench.kernel.changes();
        assert!(matches!(gave[0], Change::RemoveAddress(_)), "{gave:#?}");
        assert_eq!(gave[1..], [Change::SetActive(service_key(0), false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_server_leaves_the_schedule_before_it_is_purged() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        bench.kernel.changes();
        bench.health.send_replace(judged(true, false));
        run_for(&mut under, 0).await;
        let changes = bench.kernel.changes();
        let kinds: Vec<_> = changes.iter().map(std::mem::discriminant).collect();
        assert_eq!(kinds.len(), 3, "{changes:#?}");
        assert!(matches!(changes[0], Change::SetService(..)));
        assert!(
            matches!(changes[2], Change::PurgeServer(_, a) if a.to_string() == "192.168.1.103:80")
        );
        assert_eq!(scheduled(&bench.kernel), ["192.168.1.102:80"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_after_a_second() {
        let (bench, mut under) = bench();
        bench.kernel.state().refuses = Some(|change| matches!(change, Change::AddAddress(_)));
        under.reconcile().await;
        assert!(bench.kernel.state().tables.services[&service_key(0)].active);
        assert_eq!(bench.kernel.vips().len(), 0);
        bench.kernel.state().refuses = None;
        run_for(&mut under, 1).await;
        assert_eq!(
            bench.kernel.vips(),
            [VIP.parse::<std::net::IpAddr>().unwrap()]
        );
        assert_eq!(bench.kernel.state().announced.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_the_tables_refuse_keeps_no_other_one_from_leaving() {
        let (bench, mut under) = bench();
        bench.kernel.state().refuses = Some(
            |change| matches!(change, Change::SetServer(_, s) if s.address.to_string() == "192.168.1.103:80"),
        );
        under.reconcile().await;
        assert_eq!(scheduled(&bench.kernel), ["192.168.1.102:80"]);
        bench.health.send_replace(judged(false, true));
        run_for(&mut under, 0).await;
        assert_eq!(scheduled(&bench.kernel), [""; 0]);
        bench.kernel.state().refuses = None;
        run_for(&mut under, 1).await;
        assert_eq!(scheduled(&bench.kernel), ["192.168.1.103:80"]);
    }

    #[tokio::test(start_paused = true)]
    async fn servers_behind_a_port_the_tables_refuse_are_left_out() {
        let (bench, mut under) = bench();
        bench.kernel.state().refuses = Some(|change| matches!(change, Change::SetPort(3, _)));
        under.reconcile().await;
        assert_eq!(scheduled(&bench.kernel), ["192.168.1.102:80"]);
        assert_eq!(bench.kernel.vips().len(), 1, "the rest goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn a_vip_that_somebody_removes_comes_back_and_is_announced() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        run_for(&mut under, 6).await;
        for seconds in [6, 0] {
            bench.kernel.state().addresses.clear();
            bench.kernel.state().announced.clear();
            if seconds == 0 {
                // The kernel says so: nobody waits for the next look.
                bench
                    .network
                    .send_modify(|network| network.addresses.clear());
            }
            run_for(&mut under, seconds).await;
            assert_eq!(bench.kernel.vips().len(), 1);
            assert_eq!(bench.kernel.state().announced.len(), 5);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_interface_that_comes_back_under_another_index_is_attached_again() {
        let (bench, mut under) = bench();
        under.attach().unwrap();
        under.reconcile().await;
        bench.network.send_modify(|network| {
            network.links.remove("eth0");
            network.reach.clear();
        });
        run_for(&mut under, 0).await;
        assert_eq!(under.attached().keys().collect::<Vec<_>>(), ["eth1"]);
        assert!(
            bench.kernel.state().tables.addresses.len() == 1,
            "the kernel was not asked"
        );
        bench.network.send_modify(|network| {
            let link = crate::plan::testing::link(7);
            network.links.insert("eth0".to_owned(), link);
        });
        run_for(&mut under, 0).await;
        let state = bench.kernel.state();
        assert_eq!(state.attached.last(), Some(&("eth0".to_owned(), 7)));
        assert!(state.addresses.iter().any(|address| address.ifindex == 7));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interface_without_xdp_stops_the_start_but_not_the_running_agent() {
        let (bench, mut under) = bench();
        bench.kernel.state().without_xdp.insert("eth1".to_owned());
        assert!(under.attach().is_err());
        under.reconcile().await;
        assert_eq!(under.attached().len(), 1);
        assert_eq!(bench.kernel.vips().len(), 1);
        bench.kernel.state().without_xdp.clear();
        run_for(&mut under, 1).await;
        assert_eq!(under.attached().len(), 2, "it was tried again");
    }

    #[tokio::test(start_paused = true)]
    async fn releasing_drops_the_vip_and_then_closes_the_gate() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        bench.kernel.changes();
        under.release().await;
        let changes = bench.kernel.changes();
        assert!(matches!(changes[0], Change::RemoveAddress(_)));
        assert_eq!(changes[1..], [Change::SetActive(service_key(0), false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_configuration_is_taken_in() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        bench.config.send_replace(Arc::new(Config::default()));
        run_for(&mut under, 0).await;
        let state = bench.kernel.state();
        assert_eq!(state.tables.services.len(), 0);
        assert_eq!(state.addresses.len(), 0);
        // The program stays where it is: nothing says that it should go.
        assert_eq!(state.tables, Installed::from(under.desired()));
    }

    /// How long it was from each heartbeat to the next, and to now, at most.
    fn longest_silence(kernel: &Kernel) -> Duration {
        let mut beats = kernel.state().heartbeats.clone();
        beats.push(tokio::time::Instant::now());
        let gaps = beats.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_program_hears_of_the_agent_before_a_gate_opens_and_four_times_a_lease() {
        let (bench, mut under) = bench();
        bench.kernel.state().refuses = Some(|change| matches!(change, Change::SetActive(_, true)));
        under.reconcile().await;
        assert_eq!(bench.kernel.state().heartbeats.len(), 1);
        bench.kernel.state().refuses = None;
        run_for(&mut under, 10).await;
        let service = under.desired().services[&service_key(0)].clone();
        let quarter = service.lease.unwrap() / 4;
        let silence = longest_silence(&bench.kernel);
        let slack = Duration::from_millis(2);
        assert!(silence <= quarter + slack, "{silence:?} of {quarter:?}");
        assert!(silence > quarter / 2, "{silence:?}: not more than needed");
    }

    #[tokio::test(start_paused = true)]
    async fn quick_instances_are_renewed_more_often_and_none_once_a_second() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        let mut quick = websocket();
        quick.vrrp_instances[0].down_timer_adverts = 1;
        let mut without = websocket();
        without.xdp_lb.fail_static = true;
        for (config, millis) in [(quick, 403), (without, 1001)] {
            bench.config.send_replace(Arc::new(config));
            run_for(&mut under, 2).await;
            bench.kernel.state().heartbeats.clear();
            run_for(&mut under, 10).await;
            let silence = longest_silence(&bench.kernel);
            let range = Duration::from_millis(millis - 3)..=Duration::from_millis(millis + 3);
            assert!(range.contains(&silence), "{silence:?} of {millis} ms");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_vrrp_the_program_hears_nothing_until_it_lives_again() {
        let (bench, mut under) = bench();
        let lives = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = lives.clone();
        under.beat_only_while(move || seen.load(std::sync::atomic::Ordering::Relaxed));
        under.reconcile().await;
        run_for(&mut under, 10).await;
        assert_eq!(bench.kernel.state().heartbeats.len(), 0);
        lives.store(true, std::sync::atomic::Ordering::Relaxed);
        run_for(&mut under, 2).await;
        assert!(bench.kernel.state().heartbeats.len() >= 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_is_heard_and_found_stands_in_the_tables() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        let peer = "192.168.1.12".parse().unwrap();
        let known = || {
            let state = bench.kernel.state();
            let contents = state.tables.services[&service_key(0)].contents.clone();
            contents.unwrap().peers
        };
        let heard = Peers::from([("VI_1".to_owned(), [peer].into())]);
        bench.peers.send_replace(heard);
        run_for(&mut under, 0).await;
        assert!(known().is_empty(), "nobody knows its MAC");
        bench.network.send_modify(|network| {
            network.reach.insert(peer, crate::plan::testing::direct(2));
        });
        run_for(&mut under, 0).await;
        assert_eq!(known(), [(peer, xdp_lb_common::addr::Mac(0x66))].into());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_sees_the_state_and_nothing_if_the_counters_fail() {
        let (bench, mut under) = bench();
        under.reconcile().await;
        let ask = || {
            let (reply, answer) = oneshot::channel();
            let inspection: Inspection = Box::new(move |view| {
                reply.send(view.desired.clone()).unwrap();
            });
            assert!(bench.inspections.try_send(inspection).is_ok());
            answer
        };
        let answer = ask();
        run_for(&mut under, 0).await;
        assert_eq!(&answer.await.unwrap(), under.desired());
        bench.kernel.state().counters_fail = true;
        let answer = ask();
        run_for(&mut under, 0).await;
        assert!(answer.await.is_err());
    }
}
