//! What is to be checked, and when it rests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::model::{self, Config, ServiceKey};
use crate::plan::installed::ServerKey;
use crate::plan::table::Network;

/// A real server and its checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which.
    pub server: ServerKey,
    /// The weight it is configured with.
    pub weight: u32,
    /// All must pass. None: always up.
    pub checks: Vec<model::Check>,
}

/// The real servers of a configuration, in the order of the file.
pub fn targets(config: &Config) -> Vec<Target> {
    let of_service = |(key, service): (_, &model::VirtualServer)| {
        let target = move |server: &model::RealServer| Target {
            server: (key, server.address),
            weight: server.weight,
            checks: server.checks.clone(),
        };
        service.real_servers.iter().map(target).collect::<Vec<_>>()
    };
    config.services().flat_map(of_service).collect()
}

/// The virtual servers whose real servers are checked only where one of their VIPs is (`ha_suspend`),
/// and these VIPs.
pub type Suspendable = BTreeMap<ServiceKey, BTreeSet<IpAddr>>;

/// Those of a configuration.
pub fn suspendable(config: &Config) -> Suspendable {
    let mut suspendable = Suspendable::new();
    let members = config.members();
    for member in members.filter(|member| member.service.ha_suspend) {
        let vips = suspendable.entry(member.service.key()).or_default();
        vips.extend(config.vips(&member.key));
    }
    suspendable
}

/// Those of them with no VIP on an interface here: their checks rest.
pub fn resting(suspendable: &Suspendable, network: &Network) -> BTreeSet<ServiceKey> {
    if suspendable.is_empty() {
        return BTreeSet::new();
    }
    let addresses = network.addresses.values().flatten();
    let here: BTreeSet<_> = addresses.map(ipnet::IpNet::addr).collect();
    let absent = suspendable
        .iter()
        .filter(|(_, vips)| vips.is_disjoint(&here));
    absent.map(|(key, _)| *key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{VIP, network, service_key, websocket};

    #[test]
    fn servers_rest_where_their_vip_is_not_if_the_file_says_so() {
        let mut config = websocket();
        let mut network = network();
        assert!(resting(&suspendable(&config), &network).is_empty());
        config.virtual_servers[0].ha_suspend = true;
        let suspendable = suspendable(&config);
        assert_eq!(resting(&suspendable, &network), [service_key(0)].into());
        let vip = format!("{VIP}/32").parse().unwrap();
        network.addresses.entry(7).or_default().push(vip);
        assert!(resting(&suspendable, &network).is_empty());
    }

    #[test]
    fn every_server_is_a_target_with_its_weight() {
        let targets = targets(&websocket());
        let servers: Vec<_> = targets.iter().map(|target| target.server.1).collect();
        let config = websocket();
        let configured = &config.virtual_servers[0].real_servers;
        let addresses: Vec<_> = configured.iter().map(|server| server.address).collect();
        assert_eq!(servers, addresses);
        assert_eq!(targets[0].weight, configured[0].weight);
    }
}
