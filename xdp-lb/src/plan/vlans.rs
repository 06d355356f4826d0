//! VLANs: which interfaces are networks behind another one, and which of those the program sees itself.
//!
//! On an interface that carries VLANs the program sees their frames with their tags. It balances them if
//! it knows the network's own interface, so those are its ports as well. Whether it goes on the carrying
//! interface is for the operator to say, by its name: by itself it goes on the VLAN's own one, where only
//! generic XDP works, and which takes nothing from other networks. Pure.

use std::collections::BTreeSet;

use xdp_lb_common::vlan::Tags;

use super::desired::{Port, Vlan};
use super::interfaces::Sort;
use super::table::Network;

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

/// Whether an interface carries VLANs that this host has interfaces in.
pub fn carries(network: &Network, ifindex: u32) -> bool {
    let is_above = |sort| matches!(sort, Sort::Vlan(below) if below.parent == ifindex);
    network.links.values().any(|link| is_above(link.sort))
}

/// What an interface does with the tags of frames before the program sees these: `rx-vlan-offload`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// It takes them off.
    pub active: bool,
    /// It cannot be told not to.
    pub fixed: bool,
}

/// What becomes of the tags of an interface's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    /// They are kept, and were before.
    Kept,
    /// They are kept from now on.
    SwitchedOff,
    /// They are taken off, whatever we say.
    Fixed,
}

/// What to do about an interface that should keep them, or that it is of no use.
pub const fn tagging(offload: Offload) -> Tagging {
    match (offload.active, offload.fixed) {
        (false, _) => Tagging::Kept,
        (true, false) => Tagging::SwitchedOff,
        (true, true) => Tagging::Fixed,
    }
}

/// What is said of it, and whether that is a warning.
pub fn told(name: &str, tagging: Tagging) -> Option<(bool, String)> {
    match tagging {
        Tagging::Kept => None,
        Tagging::SwitchedOff => Some((
            false,
            format!(
                "{name}: rx-vlan-offload is off from now on, so that the program sees which VLAN a \
                 frame is of"
            ),
        )),
        Tagging::Fixed => Some((
            true,
            format!(
                "{name}: its driver takes the tags of VLANs off before the program sees a frame, and \
                 cannot be told not to, so their packets are not balanced; name the interfaces of the \
                 VLANs themselves instead (`interface` in the xdp_lb block)"
            ),
        )),
    }
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
                mtu: link.mtu,
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
            mtu: 1500,
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
    fn an_interface_is_told_to_keep_tags_if_it_can_be() {
        let of = |active, fixed| tagging(Offload { active, fixed });
        assert_eq!(of(false, false), Tagging::Kept);
        assert_eq!(of(false, true), Tagging::Kept);
        assert_eq!(of(true, false), Tagging::SwitchedOff);
        assert_eq!(of(true, true), Tagging::Fixed);
        assert_eq!(told("eth0", Tagging::Kept), None);
        let (warns, text) = told("eth0", Tagging::SwitchedOff).unwrap();
        assert!(
            !warns && text.starts_with("eth0: rx-vlan-offload is off"),
            "{text}"
        );
        let (warns, text) = told("eth0", Tagging::Fixed).unwrap();
        assert!(warns && text.contains("cannot be told not to"), "{text}");
        let network = host();
        let carrying = |ifindex| carries(&network, ifindex);
        assert_eq!([2, 3, 4, 6].map(carrying), [true, false, true, false]);
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
