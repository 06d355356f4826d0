//! The short way from a verdict to the tables.
//!
//! Where nothing but verdicts has changed only the services of those servers are planned and written:
//! with thousands of services, a server that failed must not wait for all of them. Whatever else is
//! new, or was left undone, goes the long way.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::{RETRY, Reconciler};
use crate::agent::seams::{Links, PacketPath};
use crate::config::model::ServiceKey;
use crate::machine::Now;
use crate::plan::installed::ServerKey;
use crate::plan::table::{Health, Inputs, ServerHealth, desired_services, differing};

impl<D: PacketPath, L: Links> Reconciler<D, L> {
    /// Does as [`Reconciler::reconcile`], where only verdicts have changed: with thousands of services
    /// a server that failed must not wait for all of them to be planned.
    pub(super) async fn follow_verdicts(&mut self) {
        let Some((pools, services)) = self.plan_verdicts() else {
            return self.reconcile().await;
        };
        let written = self.writer.write_services(&self.desired, &services).await;
        self.remember();
        if written.incomplete {
            self.retry = Some(self.clock.now().after(RETRY));
            return;
        }
        let judged = std::mem::take(&mut self.planned);
        for key in &pools {
            self.note_delays(of_service(&judged, *key).map(|(_, health)| health));
        }
        self.obeyed = latest(judged.values(), self.obeyed);
        self.planned = judged;
    }

    /// Plans the virtual servers whose real servers' verdicts changed, and says which, and which services
    /// of the tables they are; `None` if more than that is to be done.
    fn plan_verdicts(&mut self) -> Option<(BTreeSet<ServiceKey>, BTreeSet<ServiceKey>)> {
        let sources = &mut self.sources;
        let changed = [
            sources.config.has_changed(),
            sources.network.has_changed(),
            sources.peers.has_changed(),
        ];
        // Whoever has gone changes nothing any more.
        if self.retry.is_some() || changed.into_iter().any(|changed| changed.unwrap_or(false)) {
            return None;
        }
        let claims = sources.claims.borrow().clone();
        if claims.is_stopping || claims.ownership != self.ownership {
            return None;
        }
        let config = sources.config.borrow().clone();
        let health = sources.health.borrow_and_update();
        let keys = differing(&self.planned, &health)?;
        let now = self.clock.now();
        let said = self.overrides.known();
        let events = self
            .pools
            .update_services(now, &config, &health, said, &keys);
        for key in &keys {
            let verdicts = of_service(&health, *key);
            let verdicts = verdicts.map(|(server, health)| (*server, health.clone()));
            self.planned.extend(verdicts);
        }
        drop(health);
        self.tell_of_pools(&events);
        let services = desired_services(
            &keys,
            &Inputs {
                config: &config,
                ownership: &claims.ownership,
                pools: self.pools.memberships(),
                network: &self.sources.network.borrow(),
                attached: &self.attached.keys().cloned().collect(),
                peers: &self.sources.peers.borrow(),
            },
        );
        let ports = &self.desired.ports;
        let mut servers = services.values().flat_map(|service| &service.servers);
        // A sorry server may be behind an interface of its own.
        if !servers.all(|server| server.port().is_none_or(|port| ports.contains_key(&port))) {
            return None;
        }
        let members = services.keys().copied().collect();
        self.desired.services.extend(services);
        Some((keys, members))
    }

    /// Tells how long the tables took to obey each verdict that is new.
    pub(super) fn note_delays<'a>(&self, verdicts: impl Iterator<Item = &'a ServerHealth>) {
        let now = self.sources.listeners.health_clock.now();
        for verdict in verdicts.filter(|verdict| verdict.since > self.obeyed) {
            (self.sources.listeners.obeyed)(verdict.since.until(now));
        }
    }
}

/// The verdicts on the servers of a service.
fn of_service(
    health: &Health,
    key: ServiceKey,
) -> impl Iterator<Item = (&ServerKey, &ServerHealth)> {
    let first = (key, SocketAddr::from(([0, 0, 0, 0], 0)));
    let behind = health.range(first..);
    behind.take_while(move |((of, _), _)| *of == key)
}

/// The latest of some verdicts, or `known` if that is later.
pub(super) fn latest<'a>(verdicts: impl Iterator<Item = &'a ServerHealth>, known: Now) -> Now {
    verdicts.map(|verdict| verdict.since).fold(known, Now::max)
}
