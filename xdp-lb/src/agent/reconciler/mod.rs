//! Keeps tables and links as configuration, ownership, health and network want them.
//!
//! Whatever changed, the answer is the same: work out what should be, and take the steps there. So
//! nothing is lost when events are coalesced, and what failed is simply tried again.

mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::agent::announce::{Announcements, Pace};
use crate::agent::drive::Clock;
use crate::agent::overrides::Store;
use crate::agent::placement::Placement;
use crate::agent::pools;
use crate::agent::seams::{Links, PacketPath};
use crate::agent::vrrp::Claims;
use crate::agent::writer::Writer;
use crate::config::model::{Config, VrrpInstance, XdpMode};
use crate::control::orders::OrderRequest;
use crate::dataplane::{AttachedMode, Counters, Error};
use crate::machine::Now;
use crate::plan::belongings::Belonging;
use crate::plan::carriers::Peers;
use crate::plan::desired::{Desired, OwnedAddress};
use crate::plan::installed::Installed;
use crate::plan::pool::{Memberships, Overrides, PoolEvent, Pools};
use crate::plan::table::{Health, Inputs, Network, Ownership, addresses_of, desired};

/// Until something that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often tables and VIPs are looked after: somebody else (a network manager) may have removed the
/// latter.
const LOOK_AFTER: Duration = Duration::from_secs(5);

/// How long gates stay open after the VIPs went, at a stop: a successor advertises first, then takes the
/// VIPs and announces them, and until then clients send here.
const LINGER: Duration = Duration::from_millis(100);

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

/// Orders carried out at a time.
const ORDERS: usize = 4;

/// The agent's state at one moment.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// What the file says.
    pub config: &'a Config,
    /// What the tables should hold.
    pub desired: &'a Desired,
    /// Verdicts on the real servers.
    pub health: &'a Health,
    /// Who is in the pool of each service.
    pub pools: &'a Memberships,
    /// What operators said at runtime.
    pub overrides: &'a Overrides,
    /// What the clock of `pools` reads.
    pub now: Now,
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
    /// Who is told what becomes of them.
    pub listeners: Listeners,
    /// Links and the way to each real server.
    pub network: watch::Receiver<Network>,
    /// Who owns which VIPs, and announces them.
    pub claims: watch::Receiver<Claims>,
    /// Other directors that were heard.
    pub peers: watch::Receiver<Peers>,
    /// Questions.
    pub inspections: mpsc::Receiver<Inspection>,
    /// Orders.
    pub orders: mpsc::Receiver<OrderRequest>,
    /// Servers in the tables that the configuration does not name are told here: their MACs must go on
    /// being known.
    pub leaving: watch::Sender<BTreeSet<IpAddr>>,
}

/// Who is told what the reconciler makes of verdicts. None of them may wait.
pub struct Listeners {
    /// The clock of the moments in the verdicts.
    pub health_clock: Clock,
    /// Is told how long after a verdict the tables obeyed it.
    pub obeyed: Arc<dyn Fn(Duration) + Send + Sync>,
    /// Is told of services that gained or lost their quorum.
    pub quorum: Arc<pools::Quorum>,
}

impl fmt::Debug for Listeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listeners").finish_non_exhaustive()
    }
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
    /// The verdicts that `desired` is planned by.
    planned: Health,
    pools: Pools,
    overrides: Store,
    announcements: Announcements,
    /// The last burst of each instance that was begun.
    announced: BTreeMap<String, u64>,
    /// What the elections said, as of the last [`Reconciler::reconcile`].
    ownership: Ownership,
    clock: Clock,
    /// The latest verdict that the tables obey, by the clock of the verdicts.
    obeyed: Now,
    retry: Option<Now>,
    look_after: Now,
    /// [`Network::strayed`] as of the last look.
    strayed: u64,
    /// Instances as of the last configuration, and those before that still own their VIPs.
    instances: Vec<VrrpInstance>,
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
            obeyed: sources.listeners.health_clock.now(),
            sources,
            placement,
            attached: BTreeMap::new(),
            indexes: BTreeMap::new(),
            refused: BTreeMap::new(),
            desired: Desired::default(),
            planned: Health::new(),
            pools: Pools::default(),
            overrides: Store::default(),
            announcements: Announcements::default(),
            announced: BTreeMap::new(),
            ownership: Ownership::new(),
            clock: Clock::start(),
            retry: None,
            look_after: Now::ZERO.after(LOOK_AFTER),
            strayed: 0,
            instances: Vec::new(),
        }
    }

    /// Begins with what operators said before, and with servers of a predecessor.
    #[must_use]
    pub fn after(self, pools: Pools, overrides: Store) -> Self {
        Self {
            pools,
            overrides,
            ..self
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
        for (service, server) in self.overrides.retain(&config) {
            info!("{service}: {server} left the file, and with it what was said of its weight");
        }
        let (now, said) = (self.clock.now(), self.overrides.known());
        let events = self.pools.update(now, &config, &health, said);
        self.tell_of_pools(&events);
        let planned = self.with_those_that_leave(&config, &claims.ownership);
        let mut desired = desired(&Inputs {
            config: &planned,
            ownership: &claims.ownership,
            pools: self.pools.memberships(),
            network: &network,
            attached: &self.attached.keys().cloned().collect(),
            peers: &self.sources.peers.borrow_and_update(),
        });
        if claims.is_stopping {
            keep_open(&mut desired, &self.desired);
        }
        self.desired = desired;
        let written = self.writer.write(&self.desired, &network).await;
        if !written.incomplete {
            self.note_delays(health.values());
            self.obeyed = verdicts::latest(health.values(), self.obeyed);
        }
        self.planned = health;
        let now = self.clock.now();
        let unfinished = written.incomplete || !self.refused.is_empty();
        self.retry = unfinished.then(|| now.after(RETRY));
        self.begin_bursts(now, &config, &network, &claims, written.added);
        self.ownership = claims.ownership;
        self.announce();
    }

    /// Tells of what changed in the pools.
    fn tell_of_pools(&self, events: &[PoolEvent]) {
        pools::tell(events, &*self.sources.listeners.quorum);
        let leaving: BTreeSet<_> = self.pools.leaving().map(|(_, a)| a.ip()).collect();
        self.sources.leaving.send_if_modified(|told| {
            let differs = *told != leaving;
            *told = leaving;
            differs
        });
    }

    /// Does what operators want.
    async fn obey(&mut self, requests: &mut Vec<OrderRequest>) {
        let config = self.sources.config.borrow().clone();
        let mut told = Vec::new();
        for OrderRequest { order, reply } in requests.drain(..) {
            let done = self.overrides.carry_out(&config, &order);
            if let Ok(done) = &done {
                info!("an operator says: {done}");
            }
            told.push((reply, done.map_err(|unknown| unknown.to_string())));
        }
        self.reconcile().await;
        for (reply, done) in told {
            // Whoever asked may have gone.
            drop(reply.send(done));
        }
    }

    /// Lets those go who were leaving and have no connections any more.
    async fn let_go(&mut self) {
        let leaving: Vec<_> = self.pools.leaving().collect();
        if leaving.is_empty() {
            return;
        }
        // What is wrong with the counters is said when somebody asks for them.
        let Ok(counters) = self.writer.dataplane().counters() else {
            return;
        };
        let has_connections = |server| {
            let counters = counters.servers.get(server);
            counters.is_some_and(|counters| counters.active + counters.inactive > 0)
        };
        let now = self.clock.now();
        for server in leaving.iter().filter(|server| !has_connections(server)) {
            self.pools.let_go(now, *server);
        }
        self.reconcile().await;
    }

    /// Does what the elections want. Mostly that is to announce once more what this director owns, with
    /// each advert, and the tables need not be worked out for it.
    async fn follow_claims(&mut self) {
        let claims = self.sources.claims.borrow_and_update().clone();
        if claims.ownership != self.ownership {
            return self.reconcile().await;
        }
        let config = self.sources.config.borrow().clone();
        let network = self.sources.network.borrow().clone();
        self.begin_bursts(self.clock.now(), &config, &network, &claims, Vec::new());
        self.announce();
    }

    /// The configuration, with instances that it has no more and that own their VIPs until somebody took
    /// over, or nobody did.
    fn with_those_that_leave(
        &mut self,
        config: &Arc<Config>,
        ownership: &Ownership,
    ) -> Arc<Config> {
        let is_named = |name: &str| config.vrrp_instances.iter().any(|i| i.name == name);
        let mut leaving = std::mem::take(&mut self.instances);
        leaving.retain(|instance| {
            let is_owned = ownership.get(&instance.name).copied().unwrap_or(false);
            is_owned && !is_named(&instance.name)
        });
        self.instances.clone_from(&config.vrrp_instances);
        self.instances.extend(leaving.iter().cloned());
        if leaving.is_empty() {
            return config.clone();
        }
        let mut planned = Config::clone(config);
        planned.vrrp_instances.extend(leaving);
        Arc::new(planned)
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
        let (mut inspections, mut orders) = (Vec::new(), Vec::new());
        loop {
            let alarm = self.deadline();
            let beat = self.writer.pulse().due();
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed(&mut self.sources.config) => self.reconcile().await,
                () = changed(&mut self.sources.health) => self.follow_verdicts().await,
                () = changed(&mut self.sources.claims) => self.follow_claims().await,
                () = changed(&mut self.sources.peers) => self.reconcile().await,
                () = changed(&mut self.sources.network) => {
                    self.reconcile().await;
                    self.restore_missing().await;
                }
                () = self.clock.reach(Some(alarm)) => self.ring().await,
                () = sleep_until(beat) => self.writer.beat(),
                count = self.sources.orders.recv_many(&mut orders, ORDERS),
                    if !self.sources.orders.is_closed() || !self.sources.orders.is_empty() =>
                {
                    if count > 0 {
                        self.obey(&mut orders).await;
                    }
                }
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

    /// Gives up what this director owns: VIPs first and, when clients have had the time to learn who
    /// follows, the gates. The tables stay.
    pub async fn release(&mut self) {
        let mut released = self.desired.clone();
        released.addresses.clear();
        released.belongings.clear();
        let network = self.sources.network.borrow().clone();
        if released.services.values().any(|service| service.active) {
            self.writer.write(&released, &network).await;
            self.writer.beat();
            tokio::time::sleep(LINGER).await;
        }
        for service in released.services.values_mut() {
            service.active = false;
        }
        self.writer.write(&released, &network).await;
        self.announcements.keep(&self.writer.installed().addresses);
    }

    /// Ends the reconciling; everything stays as it is.
    pub fn into_parts(self) -> (D, L) {
        self.writer.into_parts()
    }

    /// The next moment at which something is due.
    fn deadline(&self) -> Now {
        let due = [
            self.retry,
            self.announcements.deadline(),
            self.pools.deadline(),
        ];
        due.into_iter().flatten().fold(self.look_after, Now::min)
    }

    async fn ring(&mut self) {
        let now = self.clock.now();
        let due = [self.retry, self.pools.deadline()];
        if due.into_iter().flatten().any(|moment| moment <= now) {
            self.reconcile().await;
        }
        if self.look_after <= now {
            self.look_after = now.after(LOOK_AFTER);
            if let Err(reason) = self.writer.dataplane().tend() {
                warn!("the tables cannot be looked after: {reason}");
            }
            self.restore(|_| true).await;
            self.put_back(|_| true).await;
            self.let_go().await;
        }
        self.announce();
    }

    /// Puts back VIPs that the network shows to be missing. It may only not show them yet: whether
    /// they are is for the kernel to say.
    async fn restore_missing(&mut self) {
        let network = self.sources.network.borrow().clone();
        let is_missing =
            |vip: &OwnedAddress| network.link(vip.ifindex).is_some() && !network.has(vip);
        // The kernel takes routes along with the address that they name as their source, and says nothing.
        let strayed = self.restore(is_missing).await || network.strayed != self.strayed;
        self.strayed = network.strayed;
        self.put_back(|belonging| match belonging {
            Belonging::Link(link) => !network.links.contains_key(&link.name),
            // Nobody tells: these are looked after now and then.
            Belonging::Silence(_) => false,
            Belonging::Route(_) | Belonging::Rule(_) => strayed,
        })
        .await;
        self.announce();
    }

    async fn put_back(&mut self, is_missing: impl Fn(&Belonging) -> bool) {
        for belonging in self.writer.put_back(is_missing).await {
            warn!(
                "somebody removed {belonging}, which comes with VIPs of this director; it is back"
            );
        }
    }

    /// Whether there were any.
    async fn restore(&mut self, is_missing: impl Fn(&OwnedAddress) -> bool) -> bool {
        let restored = self.writer.restore(is_missing).await;
        for address in &restored {
            let vip = address.address.addr();
            warn!("somebody removed {vip}, which this director owns; it is back");
        }
        let now = self.clock.now();
        let any = !restored.is_empty();
        self.announcements.start(now, restored, BURST);
        any
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
            pools: self.pools.memberships(),
            overrides: self.overrides.known(),
            now: self.clock.now(),
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

/// The gates that were open stay open.
fn keep_open(desired: &mut Desired, before: &Desired) {
    for (key, service) in &mut desired.services {
        let old = before.services.get(key);
        service.active |= old.is_some_and(|old| old.active);
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
pub(in crate::agent) async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
