//! VLANs: which interfaces are networks behind another one, and which of those the program sees itself.
//!
//! On an interface that carries VLANs the program sees their frames with their tags. It balances them if
//! it knows the network's own interface, so those are its ports as well. Whether it goes on the carrying
//! interface is for the operator to say, by its name: by itself it goes on the VLAN's own one, where only
//! generic XDP works, and which takes nothing from other networks. Pure.

use std::collections::BTreeSet;

use xdp_lb_common::vlan::Tags;

use super::desired::{Port, Vlan};
use super::table::Network;

/// What an interface is made of, as far as that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// A card, or what looks like one.
    #[default]
    Plain,
    /// Several cards that are one interface.
    Bond,
    /// A VLAN behind another interface.
    Vlan(Below),
}

/// Where the frames of a VLAN come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Below {
    /// Index of the interface right below.
    pub parent: u32,
    /// Type of its tag: 802.1Q or 802.1ad.
    pub ethertype: u16,
    /// Its number.
    pub number: u16,
}

/// The interfaces whose frames come in, tagged, by one that the program is on.
pub fn networks(network: &Network, attached: &BTreeSet<String>) -> Vec<(u32, Port)> {
    let links = network.links.iter();
    let ports = links.filter_map(|(name, link)| {
        let vlan = Some(network_of(network, attached, name)?);
        Some((
            link.ifindex,
            Port {
                mac: link.mac,
                vlan,
            },
        ))
    });
    ports.collect()
}

/// The VLAN that an interface is, if the program is on the one that carries it and not on itself.
pub fn network_of(network: &Network, attached: &BTreeSet<String>, name: &str) -> Option<Vlan> {
    if attached.contains(name) {
        return None;
    }
    let Sort::Vlan(inner) = network.links.get(name)?.sort else {
        return None;
    };
    let (below, link) = network.link(inner.parent)?;
    if attached.contains(below) {
        let tags = Tags::NONE.then(inner.ethertype, inner.number)?;
        return Some(Vlan {
            parent: inner.parent,
            tags,
        });
    }
    let Sort::Vlan(outer) = link.sort else {
        return None;
    };
    let (below, _) = network.link(outer.parent)?;
    let tags = Tags::NONE.then(outer.ethertype, outer.number)?;
    attached.contains(below).then_some(Vlan {
        parent: outer.parent,
        tags: tags.then(inner.ethertype, inner.number)?,
    })
}

#[cfg(test)]
mod tests {
    use xdp_lb_common::addr::Mac;
    use xdp_lb_common::vlan::{CUSTOMER, SERVICE};

    use super::super::table::Link;
    use super::*;

    fn link(ifindex: u32, sort: Sort) -> Link {
        Link {
            ifindex,
            mac: Mac(ifindex.into()),
            up: true,
            sort,
        }
    }

    fn vlan(parent: u32, ethertype: u16, number: u16) -> Sort {
        Sort::Vlan(Below {
            parent,
            ethertype,
            number,
        })
    }

    fn host() -> Network {
        let links = [
            ("eth0", link(2, Sort::Plain)),
            ("eth0.10", link(3, vlan(2, CUSTOMER, 10))),
            ("eth0.20", link(4, vlan(2, SERVICE, 20))),
            ("eth0.20.30", link(5, vlan(4, CUSTOMER, 30))),
            ("eth0.20.30.40", link(6, vlan(5, CUSTOMER, 40))),
            ("elsewhere", link(7, vlan(99, CUSTOMER, 10))),
        ];
        Network {
            links: links.map(|(name, link)| (name.to_owned(), link)).into(),
            ..Network::default()
        }
    }

    fn on(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn tags(all: &[(u16, u16)]) -> Tags {
        all.iter().fold(Tags::NONE, |tags, (ethertype, number)| {
            tags.then(*ethertype, *number).unwrap()
        })
    }

    #[test]
    fn networks_are_seen_where_the_program_is_on_what_carries_them() {
        let network = host();
        let attached = on(&["eth0"]);
        let of = |name| network_of(&network, &attached, name);
        let ten = tags(&[(CUSTOMER, 10)]);
        assert_eq!(
            of("eth0.10"),
            Some(Vlan {
                parent: 2,
                tags: ten
            })
        );
        let two = tags(&[(SERVICE, 20), (CUSTOMER, 30)]);
        assert_eq!(
            of("eth0.20.30"),
            Some(Vlan {
                parent: 2,
                tags: two
            })
        );
        assert_eq!(of("eth0"), None);
        assert_eq!(of("eth0.20.30.40"), None, "three tags are too many");
        assert_eq!(of("elsewhere"), None, "in another namespace");
        assert_eq!(of("eth9"), None);
        let ports = networks(&network, &attached);
        let indexes: Vec<_> = ports.iter().map(|(ifindex, _)| *ifindex).collect();
        assert_eq!(indexes, [3, 4, 5]);
        assert_eq!(ports[0].1.mac, Mac(3));
    }

    #[test]
    fn an_interface_that_the_program_is_on_is_no_network_to_it() {
        let network = host();
        assert_eq!(networks(&network, &on(&["eth0.10"])), []);
        let attached = on(&["eth0", "eth0.10"]);
        assert_eq!(network_of(&network, &attached, "eth0.10"), None);
        let attached = on(&["eth0.20"]);
        let inner = network_of(&network, &attached, "eth0.20.30");
        let thirty = tags(&[(CUSTOMER, 30)]);
        assert_eq!(
            inner,
            Some(Vlan {
                parent: 4,
                tags: thirty
            })
        );
    }
}
