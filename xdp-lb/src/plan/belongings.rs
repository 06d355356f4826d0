//! What comes and goes with VIPs beside the addresses: interfaces with a virtual MAC, filters, routes,
//! rules, neighbour entries of groups.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use xdp_lb_common::addr::Mac;

use super::groups::GroupNeighbour;
use super::table::Network;
use crate::config::model::{Config, Family, VirtualInterface, VrrpInstance};

/// The protocol number of keepalived's routes and rules (`/etc/iproute2/rt_protos`).
pub const KEEPALIVED: u8 = 18;
/// The main table.
pub const MAIN: u32 = 254;

/// One of them. Two that are equal are the same to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Belonging {
    /// An interface; stands as long as its instance is configured.
    Link(VirtualLink),
    /// VIPs that take no packets; stands while their instance owns them.
    Silence(Silence),
    /// A route; likewise.
    Route(Route),
    /// A rule; likewise.
    Rule(Rule),
    /// A permanent neighbour entry; stands as long as something is sent to its group.
    Group(GroupNeighbour),
}

/// An interface with a virtual MAC: a macvlan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VirtualLink {
    /// Its name.
    pub name: String,
    /// The interface below, by index.
    pub parent: u32,
    /// Its MAC, in the order of the wire.
    pub mac: [u8; 6],
    /// Its router is an IPv6 one.
    pub is_v6: bool,
    /// It is to carry IPv6 addresses.
    pub carries_v6: bool,
}

/// VIPs that take no packets but those that are balanced (`no_accept`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Silence {
    /// Each with the index of its interface.
    pub addresses: BTreeSet<(IpAddr, u32)>,
}

impl fmt::Display for Belonging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(link) => write!(f, "interface {} with MAC {}", link.name, link.mac()),
            Self::Silence(silence) => {
                let addresses = silence.addresses.iter();
                let addresses: Vec<_> = addresses.map(|(ip, _)| ip.to_string()).collect();
                write!(f, "the filter of packets to {}", addresses.join(", "))
            }
            Self::Route(route) => {
                write!(f, "the route to {}", route.destination)?;
                let gateway = route.gateway.map(|gateway| format!(" via {gateway}"));
                let table = (route.table != MAIN).then(|| format!(" in table {}", route.table));
                let metric = route.metric.map(|metric| format!(" of metric {metric}"));
                let which = [gateway, table, metric].into_iter().flatten();
                f.write_str(&which.collect::<String>())
            }
            Self::Rule(rule) => {
                let family = if rule.v6 { "IPv6" } else { "IPv4" };
                write!(f, "the {family} rule")?;
                let from = rule.from.map(|from| format!(" from {from}"));
                let to = rule.to.map(|to| format!(" to {to}"));
                let priority = rule.priority.map(|n| format!(" of preference {n}"));
                let which = [from, to, priority].into_iter().flatten();
                f.write_str(&which.collect::<String>())
            }
            Self::Group(GroupNeighbour { group, ifindex }) => {
                write!(f, "the neighbour entry of {group} on interface {ifindex}")
            }
        }
    }
}

impl VirtualLink {
    /// Its MAC.
    pub const fn mac(&self) -> Mac {
        Mac::from_octets(self.mac)
    }
}

/// What becomes of packets that a route or a rule catches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// They go on: by the route's gateway and interface, or by the rule's table.
    #[default]
    Forward,
    /// Dropped.
    Blackhole,
    /// Refused: host unreachable.
    Unreachable,
    /// Refused: administratively prohibited.
    Prohibit,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads; /0 for the default route.
    pub destination: IpNet,
    /// What becomes of the packets.
    pub fate: Fate,
    /// `via`.
    pub gateway: Option<IpAddr>,
    /// `dev`, as an index; found by the gateway if there is none.
    pub ifindex: Option<u32>,
    /// `src`: source of connections that this host makes by it.
    pub source: Option<IpAddr>,
    /// `metric`: of routes to one destination the lowest is taken.
    pub metric: Option<u32>,
    /// `table`.
    pub table: u32,
    /// `scope`, as rtnetlink numbers it; 0 is global.
    pub scope: u8,
    /// `proto`, as rtnetlink numbers it.
    pub protocol: u8,
    /// `tos`.
    pub tos: u8,
    /// `mtu`.
    pub mtu: Option<u32>,
    /// `advmss`: the segment size that TCP announces.
    pub advmss: Option<u32>,
    /// `initcwnd`: the congestion window that TCP begins with, segments.
    pub initcwnd: Option<u32>,
    /// `initrwnd`: the receive window that TCP begins with, segments.
    pub initrwnd: Option<u32>,
    /// `onlink`: the gateway is on the link although no address there says so.
    pub on_link: bool,
}

impl Route {
    /// The plain route to a destination in the main table, by nothing yet.
    pub const fn to(destination: IpNet) -> Self {
        Self {
            destination,
            fate: Fate::Forward,
            gateway: None,
            ifindex: None,
            source: None,
            metric: None,
            table: MAIN,
            scope: 0,
            protocol: KEEPALIVED,
            tos: 0,
            mtu: None,
            advmss: None,
            initcwnd: None,
            initrwnd: None,
            on_link: false,
        }
    }
}

/// A routing rule: packets for which all holds go by its table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Whether it is for IPv6, which `from` and `to` must agree with.
    pub v6: bool,
    /// `from`.
    pub from: Option<IpNet>,
    /// `to`.
    pub to: Option<IpNet>,
    /// `iif`: the interface they arrived by.
    pub in_interface: Option<String>,
    /// `oif`: the interface their socket is bound to.
    pub out_interface: Option<String>,
    /// `fwmark`: the mark, and the bits of it that count.
    pub mark: Option<(u32, u32)>,
    /// `tos`.
    pub tos: u8,
    /// `not`: packets for which not all holds.
    pub not: bool,
    /// `priority`: rules are asked from the lowest to the highest.
    pub priority: Option<u32>,
    /// What becomes of the packets.
    pub fate: Fate,
    /// `table`.
    pub table: u32,
    /// As rtnetlink numbers it.
    pub protocol: u8,
}

impl Rule {
    /// The rule that sends all packets of a family to a table.
    pub const fn all(v6: bool, table: u32) -> Self {
        Self {
            v6,
            from: None,
            to: None,
            in_interface: None,
            out_interface: None,
            mark: None,
            tos: 0,
            not: false,
            priority: None,
            fate: Fate::Forward,
            table,
            protocol: KEEPALIVED,
        }
    }
}

/// The interfaces with a virtual MAC, as far as those below exist. They stand whoever is master:
/// adverts of a master with a virtual MAC arrive on them.
pub fn virtual_links(config: &Config, network: &Network) -> Vec<VirtualLink> {
    let instances = config.vrrp_instances.iter();
    let mut links: Vec<VirtualLink> = Vec::new();
    for link in instances.filter_map(|instance| virtual_link(instance, network)) {
        if links.iter().all(|other| other.name != link.name) {
            links.push(link);
        }
    }
    links
}

fn virtual_link(instance: &VrrpInstance, network: &Network) -> Option<VirtualLink> {
    let mut addresses = instance
        .virtual_addresses
        .iter()
        .chain(&instance.excluded_addresses);
    let is_v6 = instance.family == Family::V6;
    Some(VirtualLink {
        name: virtual_name(instance)?.to_owned(),
        parent: network.links.get(&instance.interface)?.ifindex,
        mac: virtual_mac(instance)?.octets(),
        is_v6,
        carries_v6: is_v6 || addresses.any(|vip| vip.address.addr().is_ipv6()),
    })
}

/// The name of an instance's interface with a virtual MAC.
pub fn virtual_name(instance: &VrrpInstance) -> Option<&str> {
    match instance.virtual_interface.as_ref()? {
        VirtualInterface::Vmac { name, .. } => Some(name),
        VirtualInterface::Ipvlan { .. } => None,
    }
}

/// The virtual MAC of an instance that has one: by default that of the virtual router (RFC 5798
/// section 7.3).
pub fn virtual_mac(instance: &VrrpInstance) -> Option<Mac> {
    match instance.virtual_interface.as_ref()? {
        VirtualInterface::Vmac { mac: Some(mac), .. } => Some(Mac::from_octets(*mac)),
        VirtualInterface::Vmac { mac: None, .. } => {
            let is_v6 = instance.family == Family::V6;
            Some(router_mac(instance.virtual_router_id, is_v6))
        }
        VirtualInterface::Ipvlan { .. } => None,
    }
}

/// The MAC of a virtual router (RFC 5798 section 7.3).
pub const fn router_mac(vrid: u8, is_v6: bool) -> Mac {
    Mac::from_octets([0, 0, 0x5e, 0, if is_v6 { 2 } else { 1 }, vrid])
}

/// Whether all interfaces with a virtual MAC stand and carry frames that can.
pub fn links_stand(config: &Config, network: &Network) -> bool {
    virtual_links(config, network).iter().all(|link| {
        let stands = network.links.get(&link.name);
        let parent = network.link(link.parent);
        stands.is_some_and(|stands| stands.up || parent.is_none_or(|(_, parent)| !parent.up))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{link, network, websocket};

    fn with_vmac(mac: Option<[u8; 6]>) -> Config {
        let mut config = websocket();
        config.vrrp_instances[0].virtual_interface = Some(VirtualInterface::Vmac {
            name: "vrrp.51".to_owned(),
            mac,
            adverts_below: false,
        });
        config
    }

    #[test]
    fn a_virtual_link_stands_on_the_interface_of_its_instance_whoever_is_master() {
        let links = virtual_links(&with_vmac(None), &network());
        let expected = VirtualLink {
            name: "vrrp.51".to_owned(),
            parent: 2,
            mac: [0, 0, 0x5e, 0, 1, 51],
            is_v6: false,
            carries_v6: false,
        };
        assert_eq!(links, [expected]);
        let own = [2, 0, 0, 0, 0, 9];
        assert_eq!(virtual_links(&with_vmac(Some(own)), &network())[0].mac, own);
        assert_eq!(virtual_links(&websocket(), &network()), []);
        assert_eq!(virtual_links(&with_vmac(None), &Network::default()), []);
    }

    #[test]
    fn an_ipv6_router_has_a_mac_of_its_own() {
        let mut config = with_vmac(None);
        config.vrrp_instances[0].family = Family::V6;
        let links = virtual_links(&config, &network());
        assert_eq!(links[0].mac().to_string(), "00:00:5e:00:02:33");
        assert!(links[0].carries_v6);
    }

    #[test]
    fn an_ipv4_router_carries_ipv6_only_if_an_address_is() {
        let mut config = with_vmac(None);
        let v6 = crate::config::model::VirtualAddress::new("fd00::1/64".parse().unwrap());
        config.vrrp_instances[0].excluded_addresses.push(v6);
        assert!(virtual_links(&config, &network())[0].carries_v6);
    }

    #[test]
    fn links_stand_when_they_are_up_or_cannot_be() {
        let config = with_vmac(None);
        let mut network = network();
        assert!(!links_stand(&config, &network));
        let down = crate::plan::table::Link {
            up: false,
            ..link(9)
        };
        network.links.insert("vrrp.51".to_owned(), down);
        assert!(!links_stand(&config, &network));
        network.links.get_mut("eth0").unwrap().up = false;
        assert!(links_stand(&config, &network), "there is no carrier below");
        network.links.insert("vrrp.51".to_owned(), link(9));
        assert!(links_stand(&config, &network));
    }
}
