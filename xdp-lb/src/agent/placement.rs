//! Which interfaces the program goes on.

use std::collections::BTreeSet;

use crate::config::model::{Config, XdpMode};
use crate::plan::interfaces::refusal;
use crate::plan::table::{Network, default_interfaces};
use crate::plan::vlans::network_of;

/// Where the program goes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Interfaces that somebody named; none: [`default_interfaces`].
    pub named: BTreeSet<String>,
    /// How.
    pub mode: XdpMode,
}

/// An interface that the configuration needs does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no interface '{name}', which {whose} asks for; this host has {}", list(.known))]
pub struct NoInterface {
    /// The interface.
    pub name: String,
    /// Who asks for it.
    pub whose: String,
    /// The interfaces that exist.
    pub known: Vec<String>,
}

/// An interface that packets are to come in by is of a kind that none can be balanced on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{whose}: {why}")]
pub struct Useless {
    /// Who asks for it.
    pub whose: String,
    /// Why, and what to do.
    pub why: String,
}

impl Placement {
    /// What the configuration says.
    pub fn of(config: &Config) -> Self {
        Self {
            named: config.xdp_lb.interfaces.iter().cloned().collect(),
            mode: config.xdp_lb.xdp_mode,
        }
    }

    /// The interfaces that the program belongs on, as far as they are known.
    pub fn interfaces(&self, config: &Config, network: &Network) -> BTreeSet<String> {
        if self.named.is_empty() {
            return default_interfaces(config, network);
        }
        // Where the program sees a VLAN's frames on what carries it, it would see them twice.
        let mut named = self.named.clone();
        named.retain(|name| {
            let mut others = self.named.clone();
            others.remove(name);
            network_of(network, &others, name).is_none()
        });
        named
    }
}

/// Checks that every interface the configuration names exists, but with `dynamic_interfaces` those of
/// instances: they are in FAULT until theirs comes.
pub fn check_interfaces(config: &Config, network: &Network) -> Result<(), NoInterface> {
    let named = config.xdp_lb.interfaces.iter();
    let named = named.map(|name| (name, "`--interface` or the xdp_lb block".to_owned()));
    let carrying = config.vrrp_instances.iter();
    let carrying = carrying.filter(|_| !config.global.dynamic_interfaces);
    let carrying = carrying.map(|i| (&i.interface, format!("vrrp_instance {}", i.name)));
    let missing = named
        .chain(carrying)
        .find(|(name, _)| !network.links.contains_key(*name));
    missing.map_or(Ok(()), |(name, whose)| {
        Err(NoInterface::new(name, whose, network))
    })
}

/// Checks that packets can be balanced on every interface that the program is to go on, as far as the
/// kind of interface tells.
pub fn check_kinds(config: &Config, network: &Network) -> Result<(), Useless> {
    let placement = Placement::of(config);
    let on = placement.interfaces(config, network).into_iter();
    let mut useless = on.filter_map(|name| {
        let why = refusal(&name, network.links.get(&name)?.sort)?;
        let mut instances = config.vrrp_instances.iter();
        let instance = instances.find(|i| i.interface == name && placement.named.is_empty());
        let whose = instance.map_or_else(
            || "`--interface` or the xdp_lb block".to_owned(),
            |instance| format!("vrrp_instance {}", instance.name),
        );
        Some(Useless { whose, why })
    });
    useless.next().map_or(Ok(()), Err)
}

/// Interfaces that some VIP is to stand on (`dev`) and that do not exist, now. As with keepalived the
/// other VIPs are served meanwhile.
pub fn absent_devices(config: &Config, network: &Network) -> Vec<NoInterface> {
    let instances = config.vrrp_instances.iter();
    let devices = instances.flat_map(|instance| {
        let vips = instance.virtual_addresses.iter();
        vips.filter_map(|vip| Some((vip.device.as_ref()?, vip.address.addr())))
    });
    devices
        .filter(|(name, _)| !network.links.contains_key(*name))
        .map(|(name, vip)| NoInterface::new(name, format!("virtual_ipaddress {vip}"), network))
        .collect()
}

impl NoInterface {
    fn new(name: &str, whose: String, network: &Network) -> Self {
        Self {
            name: name.to_owned(),
            whose,
            known: network.links.keys().cloned().collect(),
        }
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::interfaces::Sort;
    use crate::plan::testing::{network, websocket};

    #[test]
    fn a_missing_interface_is_named_with_those_that_exist() {
        let mut config = websocket();
        assert_eq!(check_interfaces(&config, &network()), Ok(()));
        config.vrrp_instances[0].interface = "eth9".to_owned();
        let error = check_interfaces(&config, &network()).unwrap_err();
        let line = "there is no interface 'eth9', which vrrp_instance VI_1 asks for; \
                    this host has eth0, eth1";
        assert_eq!(error.to_string(), line);
        config.xdp_lb.interfaces = vec!["eth8".to_owned()];
        let error = check_interfaces(&config, &network()).unwrap_err();
        assert_eq!(error.name, "eth8");
    }

    #[test]
    fn a_missing_interface_of_an_instance_may_come_later_if_the_file_says_so() {
        let mut config = websocket();
        config.vrrp_instances[0].interface = "eth9".to_owned();
        config.global.dynamic_interfaces = true;
        assert_eq!(check_interfaces(&config, &network()), Ok(()));
        config.xdp_lb.interfaces = vec!["eth8".to_owned()];
        assert!(check_interfaces(&config, &network()).is_err());
    }

    #[test]
    fn a_missing_device_of_a_vip_is_no_reason_to_give_up() {
        let mut config = websocket();
        assert_eq!(absent_devices(&config, &network()), []);
        config.vrrp_instances[0].virtual_addresses[0].device = Some("eth9".to_owned());
        assert_eq!(check_interfaces(&config, &network()), Ok(()));
        let absent = absent_devices(&config, &network());
        let line = "there is no interface 'eth9', which virtual_ipaddress 192.168.1.200 asks for; \
                    this host has eth0, eth1";
        assert_eq!(absent[0].to_string(), line);
    }

    #[test]
    fn an_interface_that_no_packet_comes_in_by_is_an_error_unless_nothing_is_balanced() {
        let mut config = websocket();
        let mut network = network();
        assert_eq!(check_kinds(&config, &network), Ok(()));
        network.links.get_mut("eth0").unwrap().sort = Sort::Bare;
        let error = check_kinds(&config, &network).unwrap_err().to_string();
        let start =
            "vrrp_instance VI_1: no packet can be balanced on eth0: its packets have no Ethernet";
        assert!(error.starts_with(start), "{error}");
        config.xdp_lb.interfaces = vec!["eth1".to_owned()];
        assert_eq!(
            check_kinds(&config, &network),
            Ok(()),
            "another one is named"
        );
        config.xdp_lb.interfaces.push("eth0".to_owned());
        let error = check_kinds(&config, &network).unwrap_err().to_string();
        assert!(
            error.starts_with("`--interface` or the xdp_lb block: no"),
            "{error}"
        );
        config.xdp_lb.interfaces.clear();
        config.virtual_servers.clear();
        assert_eq!(check_kinds(&config, &network), Ok(()));
        let on = Placement::of(&config).interfaces(&config, &network);
        assert!(on.is_empty(), "{on:?}");
    }

    #[test]
    fn interfaces_that_somebody_named_are_the_only_ones() {
        let mut config = websocket();
        let on = |config: &Config| Placement::of(config).interfaces(config, &network());
        assert_eq!(Vec::from_iter(on(&config)), ["eth0", "eth1"]);
        config.xdp_lb.interfaces = vec!["eth1".to_owned()];
        assert_eq!(Vec::from_iter(on(&config)), ["eth1"]);
    }
}
