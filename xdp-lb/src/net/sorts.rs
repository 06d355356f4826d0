//! What an interface is made of, from what the kernel says of it.

use netlink_packet_route::link::{
    InfoData, InfoIpVlan, InfoKind, InfoVlan, IpVlanMode, LinkAttribute, LinkInfo, LinkLayerType,
    LinkMessage, VlanProtocol,
};
use xdp_lb_common::vlan;

use crate::plan::interfaces::Sort;
use crate::plan::vlans::Below;

/// What an interface is made of. The interface below a VLAN may be in another namespace: then its index
/// means nothing here, and it has none.
pub(super) fn sort(message: &LinkMessage) -> Sort {
    match message.header.link_layer_type {
        LinkLayerType::Ether => {}
        LinkLayerType::Loopback => return Sort::Loopback,
        _ => return Sort::Bare,
    }
    let (mut parent, mut is_elsewhere, mut sort) = (0, false, Sort::Plain);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Link(index) => parent = *index,
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::LinkInfo(infos) => sort = sort_of(infos),
            _ => {}
        }
    }
    match sort {
        Sort::Vlan(below) if !is_elsewhere => Sort::Vlan(Below { parent, ..below }),
        other => other,
    }
}

/// The same without the interface below.
fn sort_of(infos: &[LinkInfo]) -> Sort {
    let mut sort = Sort::Plain;
    for info in infos {
        match info {
            LinkInfo::Kind(kind) => sort = of_kind(kind),
            LinkInfo::Data(InfoData::Vlan(settings)) => sort = Sort::Vlan(tag(settings)),
            LinkInfo::Data(InfoData::IpVlan(settings)) => {
                let is_bridging = settings.contains(&InfoIpVlan::Mode(IpVlanMode::L2));
                sort = if is_bridging {
                    Sort::Ipvlan
                } else {
                    Sort::RoutedIpvlan
                };
            }
            _ => {}
        }
    }
    sort
}

/// What the kernel calls an interface, as far as that is enough.
fn of_kind(kind: &InfoKind) -> Sort {
    match kind {
        InfoKind::Bond => Sort::Bond,
        InfoKind::Veth => Sort::Veth,
        InfoKind::Tun => Sort::Tap,
        InfoKind::Bridge => Sort::Bridge,
        InfoKind::Team => Sort::Team,
        InfoKind::MacVlan | InfoKind::MacVtap => Sort::Macvlan,
        InfoKind::IpVlan | InfoKind::IpVtap => Sort::Ipvlan,
        InfoKind::Vxlan
        | InfoKind::Geneve
        | InfoKind::GreTap
        | InfoKind::GreTap6
        | InfoKind::ErSpan
        | InfoKind::Ip6ErSpan => Sort::Overlay,
        InfoKind::Dummy | InfoKind::Ifb => Sort::Empty,
        InfoKind::Vrf => Sort::Vrf,
        _ => Sort::Plain,
    }
}

fn tag(settings: &[InfoVlan]) -> Below {
    let mut below = Below {
        parent: 0,
        ethertype: vlan::CUSTOMER,
        number: 0,
    };
    for setting in settings {
        match setting {
            InfoVlan::Id(number) => below.number = *number,
            InfoVlan::Protocol(VlanProtocol::Ieee8021Ad) => below.ethertype = vlan::SERVICE,
            _ => {}
        }
    }
    below
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkDeserializable, NetlinkHeader};
    use netlink_packet_route::RouteNetlinkMessage;

    use super::*;

    const ETHERNET: u16 = 1;

    /// An attribute: length, type, value, up to four octets.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut octets = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    /// What the kernel says of an interface with these attributes (`linux/if_link.h`), of a type of
    /// `linux/if_arp.h`.
    fn told(layer: u16, attributes: &[Vec<u8>]) -> Sort {
        // ifinfomsg: family, padding, type, index, flags, change.
        let mut message = vec![0, 0];
        message.extend(layer.to_ne_bytes());
        message.extend(7_u32.to_ne_bytes());
        message.extend([0; 8]);
        message.extend(attributes.concat());
        let mut header = NetlinkHeader::default();
        // RTM_NEWLINK.
        header.message_type = 16;
        match RouteNetlinkMessage::deserialize(&header, &message).unwrap() {
            RouteNetlinkMessage::NewLink(link) => sort(&link),
            other => panic!("{other:?}"),
        }
    }

    /// `IFLA_LINKINFO` with a kind and its data.
    fn info(kind: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let mut nested = attribute(1, format!("{kind}\0").as_bytes());
        if !data.is_empty() {
            nested.extend(attribute(2, &data.concat()));
        }
        attribute(18, &nested)
    }

    fn vlan(number: u16, protocol: [u8; 2]) -> Vec<u8> {
        let data = [attribute(1, &number.to_ne_bytes()), attribute(5, &protocol)];
        info("vlan", &data)
    }

    #[test]
    fn a_vlan_is_known_by_its_number_its_protocol_and_what_is_below() {
        let below = attribute(5, &3_u32.to_ne_bytes());
        let tag = |parent, ethertype| Below {
            parent,
            ethertype,
            number: 10,
        };
        for (protocol, ethertype) in [([0x81, 0], 0x8100), ([0x88, 0xa8], 0x88a8)] {
            let told = told(ETHERNET, &[below.clone(), vlan(10, protocol)]);
            assert_eq!(told, Sort::Vlan(tag(3, ethertype)));
        }
        // IFLA_LINK_NETNSID.
        let elsewhere = attribute(37, &1_u32.to_ne_bytes());
        let told = told(ETHERNET, &[below, elsewhere, vlan(10, [0x81, 0])]);
        assert_eq!(told, Sort::Vlan(tag(0, 0x8100)));
    }

    #[test]
    fn an_ipvlan_is_known_by_its_mode() {
        // IFLA_IPVLAN_MODE: l2, l3, l3s.
        for (mode, wanted) in [
            (0_u16, Sort::Ipvlan),
            (1, Sort::RoutedIpvlan),
            (2, Sort::RoutedIpvlan),
        ] {
            let mode = attribute(1, &mode.to_ne_bytes());
            assert_eq!(told(ETHERNET, &[info("ipvlan", &[mode])]), wanted);
        }
    }

    #[test]
    fn other_interfaces_are_what_they_are() {
        let of = |kind| told(ETHERNET, &[info(kind, &[])]);
        for (kind, wanted) in [
            ("bond", Sort::Bond),
            ("veth", Sort::Veth),
            ("tun", Sort::Tap),
            ("bridge", Sort::Bridge),
            ("team", Sort::Team),
            ("macvlan", Sort::Macvlan),
            ("macvtap", Sort::Macvlan),
            ("vxlan", Sort::Overlay),
            ("geneve", Sort::Overlay),
            ("gretap", Sort::Overlay),
            ("dummy", Sort::Empty),
            ("ifb", Sort::Empty),
            ("vrf", Sort::Vrf),
            ("netdevsim", Sort::Plain),
            ("of a later kernel", Sort::Plain),
        ] {
            assert_eq!(of(kind), wanted, "{kind}");
        }
        assert_eq!(told(ETHERNET, &[]), Sort::Plain);
    }

    #[test]
    fn without_ethernet_headers_the_kind_does_not_matter() {
        // ARPHRD_LOOPBACK, _NONE, _TUNNEL, _PPP.
        assert_eq!(told(772, &[]), Sort::Loopback);
        for (layer, kind) in [
            (0xfffe, "tun"),
            (0xfffe, "wireguard"),
            (768, "ipip"),
            (512, "ppp"),
        ] {
            assert_eq!(told(layer, &[info(kind, &[])]), Sort::Bare, "{kind}");
        }
    }
}
