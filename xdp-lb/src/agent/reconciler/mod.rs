//! Keeps tables and links as configuration, ownership, health and network want them.
//!
//! Whatever changed, the answer is the same: work out what should be, and take the steps there. So
//! nothing is lost when events are coalesced, and what failed is simply tried again.

mod attach;
mod sources;
mod upkeep;
mod verdicts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::agent::announce::{Announcements, Pace};
use crate::agent::drive::Clock;
use crate::agent::memory::MemoryFile;
use crate::agent::overrides::Store;
use crate::agent::placement::Placement;
use crate::agent::pools;
use crate::agent::seams::{Links, PacketPath};
use crate::agent::writer::Writer;
use crate::config::model::{Config, VrrpInstance};
use crate::control::orders::OrderRequest;
use crate::dataplane::AttachedMode;
use crate::machine::Now;
use crate::plan::belongings::Belonging;
use crate::plan::desired::Desired;
use crate::plan::installed::Installed;
use crate::plan::pool::{PoolEvent, Pools};
use crate::plan::table::{Health, Inputs, Names, Ownership, desired};

pub use sources::{Inspection, Listeners, Sources, View};

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

/// Orders carried out at a time.
const ORDERS: usize = 4;

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
    /// What is said of interfaces that the program is on, where that is not as it was asked for.
    remarks: BTreeMap<String, String>,
    /// Indexes of interfaces that carry VLANs and were told to leave the tags on frames.
    tagged: BTreeSet<u32>,
    desired: Desired,
    /// The verdicts that `desired` is planned by.
    planned: Health,
    pools: Pools,
    overrides: Store,
    memory: MemoryFile,
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
    in_force: watch::Sender<Arc<Config>>,
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
            remarks: BTreeMap::new(),
            tagged: BTreeSet::new(),
            desired: Desired::default(),
            planned: Health::new(),
            pools: Pools::default(),
            overrides: Store::default(),
            memory: MemoryFile::default(),
            announcements: Announcements::default(),
            announced: BTreeMap::new(),
            ownership: Ownership::new(),
            clock: Clock::start(),
            retry: None,
            look_after: Now::ZERO.after(LOOK_AFTER),
            strayed: 0,
            instances: Vec::new(),
            in_force: watch::Sender::default(),
        }
    }

    /// The configuration that tables and addresses were written after.
    pub fn in_force(&self) -> watch::Receiver<Arc<Config>> {
        self.in_force.subscribe()
    }

    /// Begins with what operators said before, and with servers and pools of a predecessor.
    #[must_use]
    pub fn after(self, pools: Pools, overrides: Store, memory: MemoryFile) -> Self {
        Self {
            pools: pools.recalling(self.clock.now(), &memory.read()),
            overrides,
            memory,
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
        self.attach_what_came().await;
        self.keep_tags();
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
        self.remember();
        self.in_force.send_if_modified(|told| {
            let differs = !Arc::ptr_eq(told, &config);
            *told = config;
            differs
        });
    }

    /// Writes down what a successor has to know of the pools, if that changed.
    fn remember(&mut self) {
        if self.pools.has_news() {
            let config = self.sources.config.borrow().clone();
            let memory = self.pools.memory(self.clock.now(), &config);
            self.memory.write(&memory);
        }
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
                let overrides = &self.overrides;
                (self.sources.listeners.overridden)(overrides.changed(), overrides.known());
            }
            told.push((reply, done.map_err(|unknown| unknown.to_string())));
        }
        self.reconcile().await;
        for (reply, done) in told {
            // Whoever asked may have gone.
            drop(reply.send(done));
        }
    }

    /// Takes over what another director was told.
    async fn adopt(&mut self) {
        let adopted = self.sources.adopted.borrow_and_update().clone();
        self.overrides.adopt(adopted);
        self.reconcile().await;
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
        let names = Names::of(&self.sources.config.borrow());
        let connected = counters.servers.iter();
        let connected = connected.filter(|(_, counters)| counters.active + counters.inactive > 0);
        let connected: BTreeSet<_> = connected.map(|(server, _)| names.in_pool(server)).collect();
        let now = self.clock.now();
        for server in leaving.iter().filter(|server| !connected.contains(server)) {
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
                () = changed(&mut self.sources.adopted) => self.adopt().await,
                () = changed(&mut self.sources.network) => {
                    self.reconcile().await;
                    self.look_at_ways_out().await;
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
            // The kernel tells when an entry of a group goes, and nobody waits for one.
            self.put_back(|belonging| !matches!(belonging, Belonging::Group(_)))
                .await;
            self.let_go().await;
            self.look_at_ways_out().await;
        }
        self.announce();
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
            remarks: &self.remarks,
            refused: &self.refused,
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
