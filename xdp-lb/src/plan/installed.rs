//! What stands in the tables and on the links, kept step by step.
//!
//! Between two steps, or after one that failed, the tables hold something that no [`Desired`] can
//! say: a server that was set and is in no schedule yet. And after a take-over they hold records of
//! a predecessor whose contents nobody remembers. [`Installed`] can say both.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use super::belongings::Belonging;
use super::desired::{Desired, OwnedAddress, Port, Server, Service};
use super::diff::Change;
use crate::config::model::ServiceKey;

/// What names a real server of a service.
pub type ServerKey = (ServiceKey, SocketAddr);

/// What stands by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// Interfaces by index.
    pub ports: BTreeMap<u32, Port>,
    /// Records of real servers; `None`: a predecessor's, contents unknown.
    pub servers: BTreeMap<ServerKey, Option<Server>>,
    /// Services.
    pub services: BTreeMap<ServiceKey, Published>,
    /// VIPs.
    pub addresses: BTreeSet<OwnedAddress>,
    /// What came with VIPs.
    pub belongings: Vec<Belonging>,
}

/// A service as it was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its gate.
    pub active: bool,
    /// Settings and schedule, the gate aside; `None`: a predecessor's, contents unknown.
    pub contents: Option<Service>,
}

impl Published {
    /// Whether new connections may be placed on a server by the schedule that stands.
    pub fn may_schedule(&self, address: SocketAddr) -> bool {
        self.contents.as_ref().is_none_or(|service| {
            let mut servers = service.servers.iter();
            servers.any(|server| server.address == address && server.is_eligible())
        })
    }
}

impl Installed {
    /// What a predecessor left: services with their gates, and real servers.
    pub fn inherited(
        services: &BTreeMap<ServiceKey, bool>,
        servers: impl IntoIterator<Item = ServerKey>,
    ) -> Self {
        let published = |(&key, &active): (&ServiceKey, &bool)| {
            let contents = None;
            (key, Published { active, contents })
        };
        Self {
            services: services.iter().map(published).collect(),
            servers: servers.into_iter().map(|key| (key, None)).collect(),
            ..Self::default()
        }
    }

    /// Takes note of a step that was carried out.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::SetPort(ifindex, port) => {
                self.ports.insert(*ifindex, *port);
            }
            Change::SetServer(key, server) => {
                let record = Some(server.clone());
                self.servers.insert((*key, server.address), record);
            }
            Change::SetService(key, service) => self.publish(*key, service),
            Change::SetActive(key, active) => {
                if let Some(published) = self.services.get_mut(key) {
                    published.active = *active;
                }
            }
            Change::AddAddress(address) => {
                self.addresses.insert(address.clone());
            }
            Change::RemoveAddress(address) => {
                self.addresses.remove(address);
            }
            Change::Put(belonging) => {
                if !self.belongings.contains(belonging) {
                    self.belongings.push(belonging.clone());
                }
            }
            Change::Take(belonging) => self.belongings.retain(|other| other != belonging),
            Change::PurgeServer(key, address) => {
                if let Some(Some(server)) = self.servers.get_mut(&(*key, *address)) {
                    server.serving = false;
                }
            }
            Change::RemoveServer(key, address) => {
                self.servers.remove(&(*key, *address));
            }
            Change::RemoveService(key) => {
                self.services.remove(key);
            }
            Change::RemovePort(ifindex) => {
                self.ports.remove(ifindex);
            }
        }
    }

    /// A service that is new starts closed; one that stands keeps its gate.
    fn publish(&mut self, key: ServiceKey, service: &Service) {
        let active = self.services.get(&key).is_some_and(|s| s.active);
        let contents = Some(Service {
            active: false,
            ..service.clone()
        });
        self.services.insert(key, Published { active, contents });
    }
}

impl From<&Desired> for Installed {
    fn from(desired: &Desired) -> Self {
        let mut installed = Self {
            ports: desired.ports.clone(),
            addresses: desired.addresses.clone(),
            belongings: desired.belongings.clone(),
            ..Self::default()
        };
        for (key, service) in &desired.services {
            for server in &service.servers {
                installed.apply(&Change::SetServer(*key, server.clone()));
            }
            installed.apply(&Change::SetService(*key, service.clone()));
            installed.apply(&Change::SetActive(*key, service.active));
        }
        installed
    }
}
