//! Puts back what somebody removed, and announces VIPs.

use tracing::warn;

use super::{BURST, Reconciler};
use crate::agent::announce::Pace;
use crate::agent::seams::{Links, PacketPath};
use crate::agent::vrrp::Claims;
use crate::config::model::Config;
use crate::machine::Now;
use crate::plan::belongings::Belonging;
use crate::plan::desired::OwnedAddress;
use crate::plan::table::{Network, addresses_of};

impl<D: PacketPath, L: Links> Reconciler<D, L> {
    /// Begins the announcements that the elections want, and those of VIPs that came for another
    /// reason.
    pub(super) fn begin_bursts(
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

    /// Puts back VIPs that the network shows to be missing. It may only not show them yet: whether
    /// they are is for the kernel to say.
    pub(super) async fn restore_missing(&mut self) {
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
            Belonging::Route(_) | Belonging::Rule(_) | Belonging::Group(_) => strayed,
        })
        .await;
        self.announce();
    }

    pub(super) async fn put_back(&mut self, is_missing: impl Fn(&Belonging) -> bool) {
        for belonging in self.writer.put_back(is_missing).await {
            warn!(
                "somebody removed {belonging}, which comes with VIPs of this director; it is back"
            );
        }
    }

    /// Whether there were any.
    pub(super) async fn restore(&mut self, is_missing: impl Fn(&OwnedAddress) -> bool) -> bool {
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
    pub(super) fn announce(&mut self) {
        let network = self.sources.network.borrow();
        let has_carrier = |ifindex| network.link(ifindex).is_some_and(|(_, link)| link.up);
        self.announcements.keep(&self.writer.installed().addresses);
        for (address, frames) in self.announcements.take(self.clock.now(), has_carrier) {
            self.writer.announce(&address, frames, &network);
        }
    }
}
