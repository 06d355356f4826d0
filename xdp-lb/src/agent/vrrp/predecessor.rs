//! Which instances an agent before this one was master for, and left as they were. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::alive::LastSeen;
use crate::config::model::{Config, ServiceKey, VrrpInstance};
use crate::plan::desired::OwnedAddress;
use crate::plan::table::{Network, addresses_of};
use crate::vrrp::router::Predecessor;

/// What a start finds.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Gates of services, as the tables have them.
    pub gates: &'a BTreeMap<ServiceKey, bool>,
    /// VIPs that agents before added.
    pub leftovers: &'a BTreeSet<OwnedAddress>,
    /// Addresses that are here.
    pub network: &'a Network,
    /// When the agent before was last alive.
    pub last_seen: Option<LastSeen>,
}

/// By the names of instances.
pub fn predecessors(config: &Config, found: &Found<'_>) -> BTreeMap<String, Predecessor> {
    let Some(last_seen) = found.last_seen else {
        return BTreeMap::new();
    };
    let instances = config.vrrp_instances.iter();
    let held = instances.filter(|instance| held(config, instance, found));
    let entry = |instance: &VrrpInstance| {
        let predecessor = Predecessor {
            silent_for: last_seen.ago + unheard(instance, last_seen),
        };
        (instance.name.clone(), predecessor)
    };
    held.map(entry).collect()
}

/// The last advert of one that was killed was sent up to an interval before its last sign of life.
fn unheard(instance: &VrrpInstance, last_seen: LastSeen) -> Duration {
    if last_seen.left {
        Duration::ZERO
    } else {
        instance.version.advert_interval()
    }
}

/// Its addresses are here, put here by an agent, and none of its gates is closed.
fn held(config: &Config, instance: &VrrpInstance, found: &Found<'_>) -> bool {
    let addresses = addresses_of(instance, found.network);
    let is_ours = |vip: &OwnedAddress| {
        let mut leftovers = found.leftovers.iter();
        leftovers.any(|old| (old.ifindex, old.address) == (vip.ifindex, vip.address))
    };
    let is_carried = |key: &ServiceKey| {
        let vips = config.vips(key);
        let mut addresses = addresses.iter();
        addresses.any(|carried| vips.contains(&carried.address.addr()))
    };
    let mut gates = config
        .members()
        .filter(|member| is_carried(&member.key))
        .map(|member| found.gates.get(&member.key))
        .peekable();
    let is_open = gates.peek().is_none() || {
        let known: Vec<bool> = gates.flatten().copied().collect();
        !known.is_empty() && known.into_iter().all(|open| open)
    };
    is_open && addresses.iter().any(is_ours) && addresses.iter().all(|vip| found.network.has(vip))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{network, service_key, websocket};

    fn vip() -> OwnedAddress {
        addresses_of(&websocket().vrrp_instances[0], &network())[0].clone()
    }

    fn found(gate: Option<bool>, ours: bool, here: bool, left: bool) -> Option<Duration> {
        let mut network = network();
        if here {
            network.addresses.entry(2).or_default().push(vip().address);
        }
        let gates = gate.map(|open| (service_key(0), open));
        let found = Found {
            gates: &gates.into_iter().collect(),
            leftovers: &ours.then(vip).into_iter().collect(),
            network: &network,
            last_seen: Some(LastSeen {
                ago: Duration::from_millis(400),
                left,
            }),
        };
        let predecessors = predecessors(&websocket(), &found);
        predecessors.get("VI_1").map(|before| before.silent_for)
    }

    #[test]
    fn a_master_that_left_or_was_killed_is_gone_on_with() {
        let left = found(Some(true), true, true, true);
        assert_eq!(left, Some(Duration::from_millis(400)));
        let killed = found(Some(true), true, true, false);
        assert_eq!(
            killed,
            Some(Duration::from_millis(1400)),
            "an interval more"
        );
    }

    #[test]
    fn one_that_held_only_half_is_not() {
        for (gate, ours, here) in [
            (Some(false), true, true),
            (None, true, true),
            (Some(true), false, true),
            (Some(true), true, false),
        ] {
            let case = format!("gate {gate:?}, ours {ours}, here {here}");
            assert_eq!(found(gate, ours, here, true), None, "{case}");
        }
    }

    #[test]
    fn without_a_sign_of_life_there_was_nobody() {
        let network = network();
        let found = Found {
            gates: &BTreeMap::new(),
            leftovers: &[vip()].into(),
            network: &network,
            last_seen: None,
        };
        assert!(predecessors(&websocket(), &found).is_empty());
    }
}
